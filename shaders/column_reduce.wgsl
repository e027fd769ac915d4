// Reduces one value column to count, sum, least, greatest, first and last per segment of rows.
//
// Reads:    header; segments; values, 64-bit signed, low word first, or under FRAME u32 deltas from
//           a base; validity, bit r%32 of word r/32 set where row r is not null.
// Writes:   partials, one per segment, under FRAME of the deltas; status, by one atomic per segment.
// Dispatch: ceil(segment_count / WORKGROUP_SIZE) workgroups in x; one invocation per segment.
// Requires: core WGSL; under INT64 64-bit integers. values holds row_count entries; validity holds
//           ceil(row_count / 32) words where NULLABLE; status is zero.
// Ensures:  partials[s] is exact over the valid rows of segment s: |sum| < 2^63 * 2^32 fits 96
//           bits. With no valid row every member is 0. segments_done + segments_malformed equals
//           segment_count.
// Order:    sums, least and greatest are commutative monoids over integers; first and last are
//           row numbers, and one invocation walks its segment in row order.
// Source:   schoolbook multi-word addition (Knuth, TAOCP 2, 4.3.1).

#permute FRAME INT64
#import column_state
#import by_invocation

@group(0) @binding(0) var<uniform> header: ReduceHeader;
@group(0) @binding(1) var<storage, read> segments: array<Segment>;
@group(0) @binding(2) var<storage, read> values: array<Number>;
@group(0) @binding(3) var<storage, read> validity: array<u32>;
@group(0) @binding(4) var<storage, read_write> partials: array<ColumnPartial>;
@group(0) @binding(5) var<storage, read_write> status: ReduceStatus;

@compute @workgroup_size(WORKGROUP_SIZE)
fn column_reduce(@builtin(global_invocation_id) invocation: vec3<u32>) {
    reduce_segment(invocation.x);
}
