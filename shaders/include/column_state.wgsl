// What rows of one column come to. Include only; it reads `values`.

#import segment
#if FRAME
#define NARROW
#import frames
#else
#import numbers
#endif

struct ColumnPartial {
    // Valid rows.
    count: u32,
    // The first and last valid row, counted as `Segment.start_row` is.
    first_row: u32,
    last_row: u32,
    sum: array<u32, 3>,
    least: array<u32, 2>,
    greatest: array<u32, 2>,
}

// All 0 where no row is valid.
struct State {
    count: u32,
    first_row: u32,
    last_row: u32,
    sum: Sum,
    least: Number,
    greatest: Number,
}

// The state with one more valid row, greater than any before.
fn state_add(state: State, row: u32, number: Number) -> State {
    let is_first = state.count == 0u;
    return State(
        state.count + 1u,
        select(state.first_row, row, is_first),
        row,
        sum_add(state.sum, number),
        select(state.least, number, is_first || number_less(number, state.least)),
        select(state.greatest, number, is_first || number_less(state.greatest, number)),
    );
}

fn state_with(state: State, row: u32) -> State {
    if !is_valid(row) {
        return state;
    }
    return state_add(state, row, values[row]);
}

// The state of both sets of rows; rows are told apart by number, so that either may come first.
fn state_join(a: State, b: State) -> State {
    let only_a = b.count == 0u;
    let only_b = a.count == 0u;
    return State(
        a.count + b.count,
        select(b.first_row, a.first_row, only_a || (!only_b && a.first_row < b.first_row)),
        max(a.last_row, b.last_row),
        sum_join(a.sum, b.sum),
        select(b.least, a.least, only_a || (!only_b && number_less(a.least, b.least))),
        select(b.greatest, a.greatest, only_a || (!only_b && number_less(b.greatest, a.greatest))),
    );
}

fn state_partial(state: State) -> ColumnPartial {
    return ColumnPartial(
        state.count,
        state.first_row,
        state.last_row,
        sum_limbs(state.sum),
        number_limbs(state.least),
        number_limbs(state.greatest),
    );
}

#if SUBGROUP
#import exchange

fn state_exchange(state: State, mask: u32) -> State {
    let rows = vec3<u32>(state.count, state.first_row, state.last_row);
    let other = subgroupShuffleXor(rows, mask);
    return State(
        other.x,
        other.y,
        other.z,
        exchange_sum(state.sum, mask),
        exchange_number(state.least, mask),
        exchange_number(state.greatest, mask),
    );
}
#endif
