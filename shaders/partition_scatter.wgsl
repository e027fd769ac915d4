// Moves rows to their places in the order of one digit of their slots, equal ones in the order in
// which they came.
//
// Reads:    header; slots and rows as the pass before left them (the first pass takes each row's
//           own number and reads no rows); counts and totals as partition_scan leaves them.
// Writes:   placed_slots and placed_rows; of status the rows that got a place.
// Dispatch: tile_count workgroups in x.
// Requires: core WGSL; workgroups of 256 and 10 KiB of workgroup memory. slots, rows, placed_slots
//           and placed_rows hold row_count entries.
// Ensures:  placed_rows is a permutation of the rows, ascending by digit, and stable: of two rows
//           of one digit the one that came first stands first.
// Order:    a row's place is a sum of counts: rows of lower digits, rows of its digit in tiles
//           before, in rounds before and in lower lanes. The masks that count lanes are set bit by
//           bit, in any order.
// Source:   least significant digit radix sort (Knuth, TAOCP 3, 5.2.5); ranks by ballots (Ashkiani,
//           Davidson, Meyer, Owens 2016), the ballots by atomics in workgroup memory.

#import partition

// Whether this is the pass of the lowest digit.
override FIRST_PASS: bool = true;

@group(0) @binding(0) var<uniform> header: PartitionHeader;
@group(0) @binding(1) var<storage, read> slots: array<u32>;
@group(0) @binding(2) var<storage, read> rows: array<u32>;
@group(0) @binding(3) var<storage, read> counts: array<u32>;
@group(0) @binding(4) var<storage, read> totals: array<u32>;
@group(0) @binding(5) var<storage, read_write> placed_slots: array<u32>;
@group(0) @binding(6) var<storage, read_write> placed_rows: array<u32>;
@group(0) @binding(7) var<storage, read_write> status: PartitionStatus;

#import prefix

// Words of a mask of lanes.
const MASK_WORDS: u32 = WORKGROUP_SIZE / 32u;

// The place of the next row of each digit.
var<workgroup> places: array<u32, WORKGROUP_SIZE>;
// Of each digit, the lanes that have a row of it in this round.
var<workgroup> masks: array<atomic<u32>, WORKGROUP_SIZE * MASK_WORDS>;
var<workgroup> placed_count: atomic<u32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn partition_scatter(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tile = workgroup.x;
    for (var word = 0u; word < MASK_WORDS; word++) {
        atomicStore(&masks[word * WORKGROUP_SIZE + lane], 0u);
    }
    if lane == 0u {
        atomicStore(&placed_count, 0u);
    }
    let total = totals[lane];
    let lower_digits = prefix_sum(total, lane) - total;
    places[lane] = lower_digits + counts[lane * header.tile_count + tile];
    workgroupBarrier();

    let first_row = tile * TILE_ROUNDS * WORKGROUP_SIZE;
    for (var round = 0u; round < TILE_ROUNDS; round++) {
        let index = first_row + round * WORKGROUP_SIZE + lane;
        let is_row = index < header.row_count;
        var slot = 0u;
        var digit = 0u;
        if is_row {
            slot = slots[index];
            digit = digit_of(slot, header.digit_shift);
            atomicOr(&masks[digit * MASK_WORDS + lane / 32u], 1u << (lane % 32u));
        }
        workgroupBarrier();

        var lower_lanes = 0u;
        var lanes = 0u;
        if is_row {
            for (var word = 0u; word < MASK_WORDS; word++) {
                let mask = atomicLoad(&masks[digit * MASK_WORDS + word]);
                lanes += countOneBits(mask);
                if word < lane / 32u {
                    lower_lanes += countOneBits(mask);
                } else if word == lane / 32u {
                    lower_lanes += countOneBits(mask & ((1u << (lane % 32u)) - 1u));
                }
            }
            let place = places[digit] + lower_lanes;
            if place < header.row_count {
                var row = index;
                if !FIRST_PASS {
                    row = rows[index];
                }
                placed_slots[place] = slot;
                placed_rows[place] = row;
                atomicAdd(&placed_count, 1u);
            }
        }
        workgroupBarrier();

        if is_row {
            if lower_lanes + 1u == lanes {
                places[digit] += lanes;
            }
            atomicStore(&masks[digit * MASK_WORDS + lane / 32u], 0u);
        }
        workgroupBarrier();
    }
    if lane == 0u {
        atomicAdd(&status.rows_placed, atomicLoad(&placed_count));
    }
}
