// Sums over the lanes of a workgroup of WORKGROUP_SIZE. Include only.

var<workgroup> prefixes: array<u32, WORKGROUP_SIZE>;

// The sum of the values of this lane and of those before. Every lane must call it.
fn prefix_sum(value: u32, lane: u32) -> u32 {
    var sum = value;
    workgroupBarrier();
    prefixes[lane] = sum;
    workgroupBarrier();
    for (var step = 1u; step < WORKGROUP_SIZE; step *= 2u) {
        var other = 0u;
        if lane >= step {
            other = prefixes[lane - step];
        }
        workgroupBarrier();
        sum += other;
        prefixes[lane] = sum;
        workgroupBarrier();
    }
    return sum;
}

// The sum over all lanes, after prefix_sum.
fn prefix_total() -> u32 {
    return prefixes[WORKGROUP_SIZE - 1u];
}
