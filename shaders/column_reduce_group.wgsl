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
#import column_state
#import by_workgroup

@group(0) @binding(0) var<uniform> header: ReduceHeader;
@group(0) @binding(1) var<storage, read> segments: array<Segment>;
@group(0) @binding(2) var<storage, read> values: array<Number>;
@group(0) @binding(3) var<storage, read> validity: array<u32>;
@group(0) @binding(4) var<storage, read_write> partials: array<ColumnPartial>;
@group(0) @binding(5) var<storage, read_write> status: ReduceStatus;

@compute @workgroup_size(WORKGROUP_SIZE)
fn column_reduce_group(at: Lane) {
    reduce_segment(at);
}
