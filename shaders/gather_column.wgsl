// Copies a column's values into the order of a permutation.
//
// Reads:    header; rows, the row of each place; values, of 64 bits, low word first, or under FRAME
//           u32 deltas.
// Writes:   gathered, as values.
// Dispatch: ceil(row_count / 256) workgroups in x; one invocation per place.
// Requires: core WGSL; workgroups of 256. rows, values and gathered hold row_count entries.
// Ensures:  gathered[p] is values[rows[p]].
// Order:    places are apart.
// Source:   none needed.

#permute FRAME
#import gather

#if FRAME
alias Number = u32;
#else
alias Number = vec2<u32>;
#endif

@group(0) @binding(0) var<uniform> header: GatherHeader;
@group(0) @binding(1) var<storage, read> rows: array<u32>;
@group(0) @binding(2) var<storage, read> values: array<Number>;
@group(0) @binding(3) var<storage, read_write> gathered: array<Number>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn gather_column(@builtin(global_invocation_id) invocation: vec3<u32>) {
    let place = invocation.x;
    if place < header.row_count {
        gathered[place] = values[rows[place]];
    }
}
