// 32-bit deltas from a base that the host knows, their sums and sums of their products, each exact
// over at most 2^32 of them. Include only; the same names as in numbers.wgsl.

alias Number = u32;

fn number_less(a: Number, b: Number) -> bool {
    return a < b;
}

fn number_limbs(number: Number) -> array<u32, 2> {
    return array<u32, 2>(number, 0u);
}

#if INT64
#import words

alias Sum = u64;

struct ProductSum {
    low: u64,
    high: u64,
}

fn sum_add(sum: Sum, number: Number) -> Sum {
    return sum + u64(number);
}

fn sum_join(a: Sum, b: Sum) -> Sum {
    return a + b;
}

fn sum_limbs(sum: Sum) -> array<u32, 3> {
    return array<u32, 3>(low_limb(sum), high_limb(sum), 0u);
}

fn product_add(sum: ProductSum, a: Number, b: Number) -> ProductSum {
    return product_join(sum, ProductSum(u64(a) * u64(b), 0lu));
}

fn product_join(a: ProductSum, b: ProductSum) -> ProductSum {
    let low = a.low + b.low;
    return ProductSum(low, a.high + b.high + carry_of(low, b.low));
}

fn product_limbs(sum: ProductSum) -> array<u32, 5> {
    return array<u32, 5>(low_limb(sum.low), high_limb(sum.low), low_limb(sum.high), 0u, 0u);
}
#else
#import wide

alias Sum = vec2<u32>;
alias ProductSum = vec3<u32>;

fn sum_add(sum: Sum, number: Number) -> Sum {
    return add_64(sum, vec2<u32>(number, 0u));
}

fn sum_join(a: Sum, b: Sum) -> Sum {
    return add_64(a, b);
}

fn sum_limbs(sum: Sum) -> array<u32, 3> {
    return array<u32, 3>(sum.x, sum.y, 0u);
}

fn product_add(sum: ProductSum, a: Number, b: Number) -> ProductSum {
    return add_96(sum, vec3<u32>(mul_32(a, b), 0u));
}

fn product_join(a: ProductSum, b: ProductSum) -> ProductSum {
    return add_96(a, b);
}

fn product_limbs(sum: ProductSum) -> array<u32, 5> {
    return array<u32, 5>(sum.x, sum.y, sum.z, 0u, 0u);
}
#endif
