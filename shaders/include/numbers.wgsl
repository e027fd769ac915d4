// 64-bit signed numbers, their sums and sums of their products, each exact over at most 2^32 of
// them. Include only; frames.wgsl offers the same names for deltas.

#if INT64
#import words

alias Number = i64;
// Sums use 96 bits, sums of products 160.
alias Sum = Wide;
alias ProductSum = Wide;

fn number_of_delta(delta: u32) -> Number {
    return bitcast<i64>(u64(delta));
}

fn number_less(a: Number, b: Number) -> bool {
    return a < b;
}

fn number_limbs(number: Number) -> array<u32, 2> {
    let bits = bitcast<u64>(number);
    return array<u32, 2>(low_limb(bits), high_limb(bits));
}

fn sum_add(sum: Sum, number: Number) -> Sum {
    let addend = bitcast<u64>(number);
    let low = sum.low + addend;
    return Wide(low, sum.middle + sign_word(number) + carry_of(low, addend), 0lu);
}

fn sum_join(a: Sum, b: Sum) -> Sum {
    return add_wide(a, b);
}

fn sum_limbs(sum: Sum) -> array<u32, 3> {
    return array<u32, 3>(low_limb(sum.low), high_limb(sum.low), low_limb(sum.middle));
}

fn product_add(sum: ProductSum, a: Number, b: Number) -> ProductSum {
    return add_wide(sum, mul_words(a, b));
}

fn product_join(a: ProductSum, b: ProductSum) -> ProductSum {
    return add_wide(a, b);
}

fn product_limbs(sum: ProductSum) -> array<u32, 5> {
    return array<u32, 5>(
        low_limb(sum.low),
        high_limb(sum.low),
        low_limb(sum.middle),
        high_limb(sum.middle),
        low_limb(sum.high),
    );
}
#else
#import wide

alias Number = vec2<u32>;
alias Sum = vec3<u32>;
alias ProductSum = Int160;

fn number_of_delta(delta: u32) -> Number {
    return vec2<u32>(delta, 0u);
}

fn number_less(a: Number, b: Number) -> bool {
    return less_64(a, b);
}

fn number_limbs(number: Number) -> array<u32, 2> {
    return array<u32, 2>(number.x, number.y);
}

fn sum_add(sum: Sum, number: Number) -> Sum {
    return add_96(sum, vec3<u32>(number, sign_limb(number.y)));
}

fn sum_join(a: Sum, b: Sum) -> Sum {
    return add_96(a, b);
}

fn sum_limbs(sum: Sum) -> array<u32, 3> {
    return array<u32, 3>(sum.x, sum.y, sum.z);
}

fn product_add(sum: ProductSum, a: Number, b: Number) -> ProductSum {
    let product = mul_64(a, b);
    return add_160(sum, Int160(product, sign_limb(product.w)));
}

fn product_join(a: ProductSum, b: ProductSum) -> ProductSum {
    return add_160(a, b);
}

fn product_limbs(sum: ProductSum) -> array<u32, 5> {
    return array<u32, 5>(sum.low.x, sum.low.y, sum.low.z, sum.low.w, sum.high);
}
#endif
