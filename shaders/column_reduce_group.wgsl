// Reduces one value column as column_reduce does, a workgroup per segment: neighbouring invocations
// read neighbouring rows.
//
// Reads:    header; segments; values, 64-bit signed, low word first, or under FRAME u32 deltas from
//           a base; validity, bit r%32 of word r/32 set where row r is not null.
// Writes:   partials, one per segment, under FRAME of the deltas; status, by one atomic per segment.
// Dispatch: segment_count workgroups in x.
// Requires: core WGSL; under INT64 64-bit integers; under SUBGROUP shuffles in full subgroups whose
//           size divides WORKGROUP_SIZE, a power of two. values holds row_count entries, row_count
//           at most 2^32 - WORKGROUP_SIZE; validity holds ceil(row_count / 32) words where
//           NULLABLE; status is zero.
// Ensures:  partials[s] is exact over the valid rows of segment s: |sum| < 2^63 * 2^32 fits 96
//           bits. With no valid row every member is 0. segments_done + segments_malformed equals
//           segment_count.
// Order:    states are joined commutatively: sums, least and greatest over integers, first and last
//           as the least and greatest row number.
// Source:   schoolbook multi-word addition (Knuth, TAOCP 2, 4.3.1); tree reduction (Blelloch 1990).

#permute FRAME INT64 SUBGROUP
#import segment
#import column_state

@group(0) @binding(0) var<uniform> header: ReduceHeader;
@group(0) @binding(1) var<storage, read> segments: array<Segment>;
@group(0) @binding(2) var<storage, read> values: array<Number>;
@group(0) @binding(3) var<storage, read> validity: array<u32>;
@group(0) @binding(4) var<storage, read_write> partials: array<ColumnPartial>;
@group(0) @binding(5) var<storage, read_write> status: ReduceStatus;

var<workgroup> states: array<ColumnState, WORKGROUP_SIZE>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn column_reduce_group(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
#if SUBGROUP
    @builtin(subgroup_size) subgroup_size: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) subgroup_lane: u32,
#endif
) {
    let index = workgroup.x;
    if index >= header.segment_count {
        return;
    }
    let segment = segments[index];
    if !segment_is_sound(segment, header.row_count) {
        if lane == 0u {
            atomicAdd(&status.segments_malformed, 1u);
            atomicMax(&status.malformed_end, index + 1u);
        }
        return;
    }

    var state = ColumnState();
    let end_row = segment.start_row + segment.len_rows;
    for (var row = segment.start_row + lane; row < end_row; row += WORKGROUP_SIZE) {
        if NULLABLE {
            if (validity[row / 32u] >> (row % 32u) & 1u) == 0u {
                continue;
            }
        }
        state = column_add(state, row, values[row]);
    }

#if SUBGROUP
    for (var mask = 1u; mask < subgroup_size; mask *= 2u) {
        state = column_join(state, column_exchange(state, mask));
    }
    if subgroup_lane == 0u {
        states[subgroup] = state;
    }
    var half = WORKGROUP_SIZE / subgroup_size / 2u;
#else
    states[lane] = state;
    var half = WORKGROUP_SIZE / 2u;
#endif
    workgroupBarrier();
    for (; half > 0u; half /= 2u) {
        if lane < half {
            states[lane] = column_join(states[lane], states[lane + half]);
        }
        workgroupBarrier();
    }

    if lane == 0u {
        partials[index] = column_partial(states[0]);
        atomicAdd(&status.segments_done, 1u);
    }
}
