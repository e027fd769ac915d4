// Reduces a segment by a workgroup, whose neighbouring invocations read neighbouring places. Include
// only, after the State that a segment comes to: `state_with`, `state_join`, `state_partial`, and
// under SUBGROUP `state_exchange`.

#import segment

// An invocation.
struct Lane {
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
#if SUBGROUP
    @builtin(subgroup_size) subgroup_size: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) subgroup_lane: u32,
#endif
}

var<workgroup> states: array<State, WORKGROUP_SIZE>;

fn reduce_segment(at: Lane) {
    let index = at.workgroup.x;
    let lane = at.lane;
    if index >= header.segment_count {
        return;
    }
    let segment = segments[index];
    if !segment_is_sound(segment, header.row_count) {
        if lane == 0u {
            count_malformed(index);
        }
        return;
    }

    var state = State();
    let end = segment.start_row + segment.len_rows;
    for (var place = segment.start_row + lane; place < end; place += WORKGROUP_SIZE) {
        state = state_with(state, place);
    }

#if SUBGROUP
    for (var mask = 1u; mask < at.subgroup_size; mask *= 2u) {
        state = state_join(state, state_exchange(state, mask));
    }
    if at.subgroup_lane == 0u {
        states[at.subgroup] = state;
    }
    var half = WORKGROUP_SIZE / at.subgroup_size / 2u;
#else
    states[lane] = state;
    var half = WORKGROUP_SIZE / 2u;
#endif
    workgroupBarrier();
    for (; half > 0u; half /= 2u) {
        if lane < half {
            states[lane] = state_join(states[lane], states[lane + half]);
        }
        workgroupBarrier();
    }

    if lane == 0u {
        partials[index] = state_partial(states[0]);
        atomicAdd(&status.segments_done, 1u);
    }
}
