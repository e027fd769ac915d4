// The first and the last of some rows, by a key of two words and then by number. Include only; it
// reads `rows` and `keys`.

#import segment

// False where rows stand in the order of their numbers: keys are not read then.
override ORDERED: bool = true;

struct EndsPartial {
    // Valid rows.
    count: u32,
    first_row: u32,
    last_row: u32,
}

// All 0 where no row is valid.
struct State {
    count: u32,
    first_row: u32,
    last_row: u32,
    // Low word first.
    first_key: vec2<u32>,
    last_key: vec2<u32>,
}

fn comes_before(a_key: vec2<u32>, a_row: u32, b_key: vec2<u32>, b_row: u32) -> bool {
    if a_key.y != b_key.y {
        return a_key.y < b_key.y;
    }
    if a_key.x != b_key.x {
        return a_key.x < b_key.x;
    }
    return a_row < b_row;
}

// The state of both sets of rows; either may come first.
fn state_join(a: State, b: State) -> State {
    if b.count == 0u {
        return a;
    }
    if a.count == 0u {
        return b;
    }
    let first_is_a = comes_before(a.first_key, a.first_row, b.first_key, b.first_row);
    let last_is_b = comes_before(a.last_key, a.last_row, b.last_key, b.last_row);
    return State(
        a.count + b.count,
        select(b.first_row, a.first_row, first_is_a),
        select(a.last_row, b.last_row, last_is_b),
        select(b.first_key, a.first_key, first_is_a),
        select(a.last_key, b.last_key, last_is_b),
    );
}

fn state_with(state: State, place: u32) -> State {
    let row = rows[place];
    if !is_valid(row) {
        return state;
    }
    var key = vec2<u32>();
    if ORDERED {
        key = keys[row];
    }
    return state_join(state, State(1u, row, row, key, key));
}

fn state_partial(state: State) -> EndsPartial {
    return EndsPartial(state.count, state.first_row, state.last_row);
}
