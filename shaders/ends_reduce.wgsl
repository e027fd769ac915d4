// Finds the first and the last row of each segment of a permutation, in an order that keys give.
//
// Reads:    header; segments; rows, the row of each place; keys, two words by row, low word first,
//           where ORDERED; validity, bit r%32 of word r/32 set where row r is not null.
// Writes:   partials, one per segment; status, by one atomic per segment.
// Dispatch: ceil(segment_count / WORKGROUP_SIZE) workgroups in x; one invocation per segment.
// Requires: core WGSL. Segments are of places; rows holds row_count entries, and so does keys where
//           ORDERED; validity holds ceil(row_count / 32) words where NULLABLE; status is zero.
// Ensures:  partials[s] counts the valid rows of segment s and names those that come first and last
//           by (key, row); with no valid row every member is 0. segments_done +
//           segments_malformed equals segment_count.
// Order:    the least and the greatest of distinct (key, row).
// Source:   none needed.

#import ends_state
#import by_invocation

@group(0) @binding(0) var<uniform> header: ReduceHeader;
@group(0) @binding(1) var<storage, read> segments: array<Segment>;
@group(0) @binding(2) var<storage, read> rows: array<u32>;
@group(0) @binding(3) var<storage, read> keys: array<vec2<u32>>;
@group(0) @binding(4) var<storage, read> validity: array<u32>;
@group(0) @binding(5) var<storage, read_write> partials: array<EndsPartial>;
@group(0) @binding(6) var<storage, read_write> status: ReduceStatus;

@compute @workgroup_size(WORKGROUP_SIZE)
fn ends_reduce(@builtin(global_invocation_id) invocation: vec3<u32>) {
    reduce_segment(invocation.x);
}
