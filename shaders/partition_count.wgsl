// Counts the rows of each tile by one digit of their slots.
//
// Reads:    header; slots, one per row.
// Writes:   counts, of digit d and tile t at d * tile_count + t; of status the malformed rows, in
//           the pass of the lowest digit.
// Dispatch: tile_count workgroups in x.
// Requires: core WGSL; workgroups of 256. slots holds row_count entries.
// Ensures:  the counts of a tile sum to its rows.
// Order:    counts are sums over integers.
// Source:   least significant digit radix sort (Knuth, TAOCP 3, 5.2.5), with a histogram per tile
//           (Satish, Harris, Garland 2009).

#import partition

@group(0) @binding(0) var<uniform> header: PartitionHeader;
@group(0) @binding(1) var<storage, read> slots: array<u32>;
@group(0) @binding(2) var<storage, read_write> counts: array<u32>;
@group(0) @binding(3) var<storage, read_write> status: PartitionStatus;

var<workgroup> histogram: array<atomic<u32>, WORKGROUP_SIZE>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn partition_count(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tile = workgroup.x;
    atomicStore(&histogram[lane], 0u);
    workgroupBarrier();

    let first_row = tile * TILE_ROUNDS * WORKGROUP_SIZE;
    for (var round = 0u; round < TILE_ROUNDS; round++) {
        let row = first_row + round * WORKGROUP_SIZE + lane;
        if row < header.row_count {
            let slot = slots[row];
            atomicAdd(&histogram[digit_of(slot, header.digit_shift)], 1u);
            if header.digit_shift == 0u && slot >= header.slot_count {
                atomicAdd(&status.rows_malformed, 1u);
            }
        }
    }
    workgroupBarrier();
    counts[lane * header.tile_count + tile] = atomicLoad(&histogram[lane]);
}
