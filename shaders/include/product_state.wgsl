// What rows of a pair of columns (a, b) come to. Include only; it reads `a_values` and `b_values`.

#import segment
#if A_FRAME && B_FRAME
#define NARROW
#import frames
#else
#import numbers
#endif

struct ProductPartial {
    // Valid rows.
    count: u32,
    product_sum: array<u32, 5>,
    a_sum: array<u32, 3>,
    b_sum: array<u32, 3>,
}

// All 0 where no row is valid.
struct State {
    count: u32,
    products: ProductSum,
    a: Sum,
    b: Sum,
}

// The state with one more valid row.
fn state_add(state: State, a: Number, b: Number) -> State {
    return State(
        state.count + 1u,
        product_add(state.products, a, b),
        sum_add(state.a, a),
        sum_add(state.b, b),
    );
}

fn a_number(row: u32) -> Number {
#if A_FRAME && !B_FRAME
    return number_of_delta(a_values[row]);
#else
    return a_values[row];
#endif
}

fn b_number(row: u32) -> Number {
#if B_FRAME && !A_FRAME
    return number_of_delta(b_values[row]);
#else
    return b_values[row];
#endif
}

fn state_with(state: State, row: u32) -> State {
    if !is_valid(row) {
        return state;
    }
    return state_add(state, a_number(row), b_number(row));
}

// The state of both sets of rows.
fn state_join(a: State, b: State) -> State {
    return State(
        a.count + b.count,
        product_join(a.products, b.products),
        sum_join(a.a, b.a),
        sum_join(a.b, b.b),
    );
}

fn state_partial(state: State) -> ProductPartial {
    return ProductPartial(
        state.count,
        product_limbs(state.products),
        sum_limbs(state.a),
        sum_limbs(state.b),
    );
}

#if SUBGROUP
#import exchange

fn state_exchange(state: State, mask: u32) -> State {
    return State(
        subgroupShuffleXor(state.count, mask),
        exchange_product(state.products, mask),
        exchange_sum(state.a, mask),
        exchange_sum(state.b, mask),
    );
}
#endif
