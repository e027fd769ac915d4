// Copies validity bits into the order of a permutation.
//
// Reads:    header; rows, the row of each place; validity, bit r%32 of word r/32 set where row r is
//           not null.
// Writes:   gathered, as validity; bits past the rows are 0.
// Dispatch: ceil(row_count / 32 / 256) workgroups in x; one invocation per word.
// Requires: core WGSL; workgroups of 256. rows holds row_count entries, validity and gathered
//           ceil(row_count / 32).
// Ensures:  bit p%32 of gathered[p/32] is that of row rows[p].
// Order:    words are apart.
// Source:   none needed.

#import gather

@group(0) @binding(0) var<uniform> header: GatherHeader;
@group(0) @binding(1) var<storage, read> rows: array<u32>;
@group(0) @binding(2) var<storage, read> validity: array<u32>;
@group(0) @binding(3) var<storage, read_write> gathered: array<u32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn gather_validity(@builtin(global_invocation_id) invocation: vec3<u32>) {
    let first_place = invocation.x * 32u;
    if first_place >= header.row_count {
        return;
    }
    let bits = min(32u, header.row_count - first_place);
    var word = 0u;
    for (var bit = 0u; bit < bits; bit++) {
        let row = rows[first_place + bit];
        word |= (validity[row / 32u] >> (row % 32u) & 1u) << bit;
    }
    gathered[invocation.x] = word;
}
