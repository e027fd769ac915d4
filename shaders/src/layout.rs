//! The structs that cross between host and shaders. Their size, and each member's offset and size,
//! are checked against naga's reflection of the shaders when this crate compiles.

use bytemuck::{Pod, Zeroable};

/// What a reduction is told: the uniform at binding 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct ReduceHeader {
    /// Segments to reduce.
    pub segment_count: u32,
    /// Rows in the bound columns.
    pub row_count: u32,
}

/// Consecutive rows of one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Segment {
    /// The first row in the bound columns.
    pub start_row: u32,
    /// Rows, 1 to `SEGMENT_ROWS_MAX`.
    pub len_rows: u32,
}

/// How a reduction went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct ReduceStatus {
    /// Segments whose partial was written.
    pub segments_done: u32,
    /// Segments that were empty, too long or not within the rows; their partial is not written.
    pub segments_malformed: u32,
    /// The greatest malformed segment's index plus 1; 0 when there is none.
    pub malformed_end: u32,
}

/// What `column_reduce` and `column_reduce_group` write per segment: all 0 when no row is valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct ColumnPartial {
    /// Valid rows.
    pub count: u32,
    /// The first valid row in the bound columns.
    pub first_row: u32,
    /// The last valid row in the bound columns.
    pub last_row: u32,
    /// Σp, two's complement, low word first.
    pub sum: [u32; 3],
    /// The least value, low word first.
    pub least: [u32; 2],
    /// The greatest value, low word first.
    pub greatest: [u32; 2],
}

/// What `product_reduce` and `product_reduce_group` write per segment: all 0 when no row is valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct ProductPartial {
    /// Rows where neither value is null.
    pub count: u32,
    /// Σab, two's complement, low word first.
    pub product_sum: [u32; 5],
    /// Σa, two's complement, low word first.
    pub a_sum: [u32; 3],
    /// Σb, two's complement, low word first.
    pub b_sum: [u32; 3],
}

/// What `ends_reduce` and `ends_reduce_group` write per segment: all 0 when no row is valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct EndsPartial {
    /// Valid rows.
    pub count: u32,
    /// The valid row that comes first.
    pub first_row: u32,
    /// The valid row that comes last.
    pub last_row: u32,
}

/// What a pass of a partition is told: the uniform at binding 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct PartitionHeader {
    /// Rows.
    pub row_count: u32,
    /// What slots are below.
    pub slot_count: u32,
    /// Tiles: a workgroup each.
    pub tile_count: u32,
    /// The digit's lowest bit in a slot.
    pub digit_shift: u32,
}

/// How a partition went, over all its passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct PartitionStatus {
    /// Rows that got a place, summed over the passes.
    pub rows_placed: u32,
    /// Rows whose slot is not below the slots' count.
    pub rows_malformed: u32,
}

/// What a gather is told: the uniform at binding 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct GatherHeader {
    /// Rows.
    pub row_count: u32,
}

/// The size of what `member` reads: how the generated checks name a member's type.
const fn size_of_member<S, M: Copy>(_member: fn(&S) -> M) -> u32 {
    size_of::<M>() as u32
}

include!(concat!(env!("OUT_DIR"), "/layout_checks.rs"));
