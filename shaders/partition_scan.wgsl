// Turns the counts of each digit into how many of its rows lie in tiles before.
//
// Reads:    header; counts, of digit d and tile t at d * tile_count + t.
// Writes:   counts, in place; totals, the rows of each digit.
// Dispatch: 256 workgroups in x, one per value of the digit.
// Requires: core WGSL; workgroups of 256. counts holds 256 * tile_count entries, totals 256.
// Ensures:  counts[d * tile_count + t] is the sum of what counts[d * tile_count ..] held before t.
// Order:    one workgroup walks the tiles of its digit in order.
// Source:   prefix sum (Hillis, Steele 1986) with a running total.

#import partition

@group(0) @binding(0) var<uniform> header: PartitionHeader;
@group(0) @binding(1) var<storage, read_write> counts: array<u32>;
@group(0) @binding(2) var<storage, read_write> totals: array<u32>;

#import prefix

@compute @workgroup_size(WORKGROUP_SIZE)
fn partition_scan(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = workgroup.x * header.tile_count;
    var before = 0u;
    for (var start = 0u; start < header.tile_count; start += WORKGROUP_SIZE) {
        let tile = start + lane;
        let is_tile = tile < header.tile_count;
        var count = 0u;
        if is_tile {
            count = counts[first + tile];
        }
        let up_to = prefix_sum(count, lane);
        if is_tile {
            counts[first + tile] = before + up_to - count;
        }
        before += prefix_total();
    }
    if lane == 0u {
        totals[workgroup.x] = before;
    }
}
