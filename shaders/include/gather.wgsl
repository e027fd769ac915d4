// What gathers share. Include only.

// Invocations of a workgroup.
const WORKGROUP_SIZE: u32 = 256u;

struct GatherHeader {
    row_count: u32,
}
