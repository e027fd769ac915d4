// Numbers and sums of another invocation of the subgroup: the one whose index differs in the bits
// of `mask`. In 32-bit pieces, which every subgroup can exchange. Include only.

#if INT64
fn exchange_word(word: u64, mask: u32) -> u64 {
    let limbs = subgroupShuffleXor(vec2<u32>(low_limb(word), high_limb(word)), mask);
    return word_of(limbs.x, limbs.y);
}
#endif

#if NARROW
fn exchange_number(number: Number, mask: u32) -> Number {
    return subgroupShuffleXor(number, mask);
}
#if INT64
fn exchange_sum(sum: Sum, mask: u32) -> Sum {
    return exchange_word(sum, mask);
}

fn exchange_product(sum: ProductSum, mask: u32) -> ProductSum {
    return ProductSum(exchange_word(sum.low, mask), exchange_word(sum.high, mask));
}
#else
fn exchange_sum(sum: Sum, mask: u32) -> Sum {
    return subgroupShuffleXor(sum, mask);
}

fn exchange_product(sum: ProductSum, mask: u32) -> ProductSum {
    return subgroupShuffleXor(sum, mask);
}
#endif
#else
#if INT64
fn exchange_number(number: Number, mask: u32) -> Number {
    return bitcast<i64>(exchange_word(bitcast<u64>(number), mask));
}

fn exchange_sum(sum: Sum, mask: u32) -> Sum {
    return Wide(exchange_word(sum.low, mask), exchange_word(sum.middle, mask), 0lu);
}

fn exchange_product(sum: ProductSum, mask: u32) -> ProductSum {
    return Wide(
        exchange_word(sum.low, mask),
        exchange_word(sum.middle, mask),
        exchange_word(sum.high, mask),
    );
}
#else
fn exchange_number(number: Number, mask: u32) -> Number {
    return subgroupShuffleXor(number, mask);
}

fn exchange_sum(sum: Sum, mask: u32) -> Sum {
    return subgroupShuffleXor(sum, mask);
}

fn exchange_product(sum: ProductSum, mask: u32) -> ProductSum {
    return Int160(subgroupShuffleXor(sum.low, mask), subgroupShuffleXor(sum.high, mask));
}
#endif
#endif
