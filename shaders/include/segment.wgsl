// Segments of rows, and the header and status block of a reduction. Include only; it reads and
// writes the reduction's bindings by their names.

// The most rows of a segment.
override SEGMENT_ROWS_MAX: u32 = 512u;
// Invocations of a workgroup, a power of two.
override WORKGROUP_SIZE: u32 = 64u;
// False where every row is valid: validity words are not read then.
override NULLABLE: bool = true;

struct ReduceHeader {
    segment_count: u32,
    row_count: u32,
}

struct Segment {
    start_row: u32,
    len_rows: u32,
}

// Zero before the dispatch.
struct ReduceStatus {
    // Segments whose partial was written.
    segments_done: atomic<u32>,
    // Segments that were empty, too long or not within the rows; their partial is not written.
    segments_malformed: atomic<u32>,
    // The greatest malformed segment's index plus 1; 0 when there is none.
    malformed_end: atomic<u32>,
}

fn segment_is_sound(segment: Segment, row_count: u32) -> bool {
    return segment.len_rows >= 1u
        && segment.len_rows <= SEGMENT_ROWS_MAX
        && segment.start_row <= row_count
        && segment.len_rows <= row_count - segment.start_row;
}

// False for a null.
fn is_valid(row: u32) -> bool {
    if NULLABLE {
        return (validity[row / 32u] >> (row % 32u) & 1u) == 1u;
    }
    return true;
}

fn count_malformed(index: u32) {
    atomicAdd(&status.segments_malformed, 1u);
    atomicMax(&status.malformed_end, index + 1u);
}
