// Reduces a pair of value columns (a, b) to count and the sums of a*b, a and b per segment of rows.
//
// Reads:    header; segments; a_values and b_values, 64-bit signed, low word first, or under A_FRAME
//           and B_FRAME u32 deltas from a base; validity, bit r%32 of word r/32 set where neither a
//           nor b is null in row r.
// Writes:   partials, one per segment, of the deltas where there are some; status, by one atomic per
//           segment.
// Dispatch: ceil(segment_count / WORKGROUP_SIZE) workgroups in x; one invocation per segment.
// Requires: core WGSL; under INT64 64-bit integers. a_values and b_values hold row_count entries
//           (one buffer may be both); validity holds ceil(row_count / 32) words where NULLABLE;
//           status is zero.
// Ensures:  partials[s] is exact over the valid rows of segment s: |product_sum| <= 2^126 * 2^32
//           fits 160 bits, |a_sum| and |b_sum| < 2^63 * 2^32 fit 96. With no valid row every member
//           is 0. segments_done + segments_malformed equals segment_count.
// Order:    the sums are commutative monoids over integers.
// Source:   schoolbook multi-word arithmetic (Knuth, TAOCP 2, 4.3.1).

#permute A_FRAME B_FRAME INT64
#import product_state
#import by_invocation

@group(0) @binding(0) var<uniform> header: ReduceHeader;
@group(0) @binding(1) var<storage, read> segments: array<Segment>;
#if A_FRAME
@group(0) @binding(2) var<storage, read> a_values: array<u32>;
#else
@group(0) @binding(2) var<storage, read> a_values: array<Number>;
#endif
#if B_FRAME
@group(0) @binding(3) var<storage, read> b_values: array<u32>;
#else
@group(0) @binding(3) var<storage, read> b_values: array<Number>;
#endif
@group(0) @binding(4) var<storage, read> validity: array<u32>;
@group(0) @binding(5) var<storage, read_write> partials: array<ProductPartial>;
@group(0) @binding(6) var<storage, read_write> status: ReduceStatus;

@compute @workgroup_size(WORKGROUP_SIZE)
fn product_reduce(@builtin(global_invocation_id) invocation: vec3<u32>) {
    reduce_segment(invocation.x);
}
