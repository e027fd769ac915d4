// What rows of a pair of columns (a, b) come to. Include only.
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
struct ProductState {
    count: u32,
    products: ProductSum,
    a: Sum,
    b: Sum,
}

// The state with one more valid row.
fn product_state_add(state: ProductState, a: Number, b: Number) -> ProductState {
    return ProductState(
        state.count + 1u,
        product_add(state.products, a, b),
        sum_add(state.a, a),
        sum_add(state.b, b),
    );
}

// The state of both sets of rows.
fn product_state_join(a: ProductState, b: ProductState) -> ProductState {
    return ProductState(
        a.count + b.count,
        product_join(a.products, b.products),
        sum_join(a.a, b.a),
        sum_join(a.b, b.b),
    );
}

fn product_partial(state: ProductState) -> ProductPartial {
    return ProductPartial(
        state.count,
        product_limbs(state.products),
        sum_limbs(state.a),
        sum_limbs(state.b),
    );
}

#if SUBGROUP
#import exchange

fn product_state_exchange(state: ProductState, mask: u32) -> ProductState {
    return ProductState(
        subgroupShuffleXor(state.count, mask),
        exchange_product(state.products, mask),
        exchange_sum(state.a, mask),
        exchange_sum(state.b, mask),
    );
}
#endif
