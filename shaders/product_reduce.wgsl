// Reduces a pair of value columns (a, b) to count, sum of a*b and sum of b per segment of rows.
//
// Reads:    header; segments; a_values and b_values, 64-bit signed, low word first; validity, bit
//           r%32 of word r/32 set where neither a nor b is null in row r.
// Writes:   partials, one per segment; status, by one atomic per segment.
// Dispatch: ceil(segment_count / WORKGROUP_SIZE) workgroups in x; one invocation per segment.
// Requires: core WGSL. a_values and b_values hold row_count entries (one buffer may be both);
//           validity holds ceil(row_count / 32) words where NULLABLE; status is zero.
// Ensures:  partials[s] is exact over the valid rows of segment s: |product_sum| <= 2^126 * 2^32
//           fits 160 bits, |b_sum| < 2^63 * 2^32 fits 96. With no valid row every member is 0.
//           segments_done + segments_malformed equals segment_count.
// Order:    the sums are commutative monoids over integers.
// Source:   schoolbook multi-word arithmetic (Knuth, TAOCP 2, 4.3.1).

#import segment
#import wide

struct ProductPartial {
    // Valid rows.
    count: u32,
    product_sum: array<u32, 5>,
    b_sum: array<u32, 3>,
}

@group(0) @binding(0) var<uniform> header: ReduceHeader;
@group(0) @binding(1) var<storage, read> segments: array<Segment>;
@group(0) @binding(2) var<storage, read> a_values: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read> b_values: array<vec2<u32>>;
@group(0) @binding(4) var<storage, read> validity: array<u32>;
@group(0) @binding(5) var<storage, read_write> partials: array<ProductPartial>;
@group(0) @binding(6) var<storage, read_write> status: ReduceStatus;

@compute @workgroup_size(WORKGROUP_SIZE)
fn product_reduce(@builtin(global_invocation_id) invocation: vec3<u32>) {
    let index = invocation.x;
    if index >= header.segment_count {
        return;
    }
    let segment = segments[index];
    if !segment_is_sound(segment, header.row_count) {
        atomicAdd(&status.segments_malformed, 1u);
        atomicMax(&status.malformed_end, index + 1u);
        return;
    }

    var count = 0u;
    var product_sum = Int160(vec4<u32>(), 0u);
    var b_sum = vec3<u32>();
    let end_row = segment.start_row + segment.len_rows;
    for (var row = segment.start_row; row < end_row; row++) {
        if NULLABLE {
            if (validity[row / 32u] >> (row % 32u) & 1u) == 0u {
                continue;
            }
        }
        let b = b_values[row];
        product_sum = add_160_128(product_sum, mul_64(a_values[row], b));
        b_sum = add_96_64(b_sum, b);
        count++;
    }

    let low = product_sum.low;
    partials[index] = ProductPartial(
        count,
        array<u32, 5>(low.x, low.y, low.z, low.w, product_sum.high),
        array<u32, 3>(b_sum.x, b_sum.y, b_sum.z),
    );
    atomicAdd(&status.segments_done, 1u);
}
