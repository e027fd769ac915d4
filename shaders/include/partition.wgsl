// Header, status and the digits of a partition by radix: rows are brought into the order of their
// slots by stable counting sorts, one for every 8 bits of a slot. Include only.

// Rows of a tile in rounds of WORKGROUP_SIZE: a workgroup takes one tile.
override TILE_ROUNDS: u32 = 8u;

// Invocations of a workgroup, and values of a digit.
const WORKGROUP_SIZE: u32 = 256u;
const DIGIT_BITS: u32 = 8u;

struct PartitionHeader {
    row_count: u32,
    // Slots are below this.
    slot_count: u32,
    // ceil(row_count / (TILE_ROUNDS * WORKGROUP_SIZE)).
    tile_count: u32,
    // The digit's lowest bit in a slot.
    digit_shift: u32,
}

// Zero before the first pass.
struct PartitionStatus {
    // Rows that got a place, summed over the passes.
    rows_placed: atomic<u32>,
    // Rows whose slot is not below slot_count.
    rows_malformed: atomic<u32>,
}

fn digit_of(slot: u32, shift: u32) -> u32 {
    return (slot >> shift) & ((1u << DIGIT_BITS) - 1u);
}
