// Reduces a segment by one invocation, place by place. Include only, after the State that a segment
// comes to: `state_with`, `state_partial`.

#import segment

fn reduce_segment(index: u32) {
    if index >= header.segment_count {
        return;
    }
    let segment = segments[index];
    if !segment_is_sound(segment, header.row_count) {
        count_malformed(index);
        return;
    }

    var state = State();
    let end = segment.start_row + segment.len_rows;
    for (var place = segment.start_row; place < end; place++) {
        state = state_with(state, place);
    }

    partials[index] = state_partial(state);
    atomicAdd(&status.segments_done, 1u);
}
