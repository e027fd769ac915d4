// 64-bit words of wider integers, for adapters that have them. Include only.

// The carry out of an addition, given its wrapped sum and one addend.
fn carry_of(sum: u64, addend: u64) -> u64 {
    return select(0lu, 1lu, sum < addend);
}

fn low_limb(word: u64) -> u32 {
    return u32(word & 0xfffffffflu);
}

fn high_limb(word: u64) -> u32 {
    return u32(word >> 32u);
}

fn word_of(low: u32, high: u32) -> u64 {
    return u64(low) | (u64(high) << 32u);
}

// An integer of up to 192 bits, two's complement.
struct Wide {
    low: u64,
    middle: u64,
    high: u64,
}

// a + b modulo 2^192.
fn add_wide(a: Wide, b: Wide) -> Wide {
    let low = a.low + b.low;
    let low_carry = carry_of(low, b.low);
    let middle_part = a.middle + b.middle;
    let middle = middle_part + low_carry;
    // Both carries are never 1: a wrapped middle_part is at most 2^64 - 2.
    let middle_carry = carry_of(middle_part, b.middle) + carry_of(middle, low_carry);
    return Wide(low, middle, a.high + b.high + middle_carry);
}

// All ones where the number is negative, else 0.
fn sign_word(number: i64) -> u64 {
    return select(0lu, 0xfffffffffffffffflu, number < 0li);
}

// The whole product of two signed numbers.
fn mul_words(a: i64, b: i64) -> Wide {
    let a_bits = bitcast<u64>(a);
    let b_bits = bitcast<u64>(b);
    let a_low = a_bits & 0xfffffffflu;
    let a_high = a_bits >> 32u;
    let b_low = b_bits & 0xfffffffflu;
    let b_high = b_bits >> 32u;
    let ll = a_low * b_low;
    let lh = a_low * b_high;
    let hl = a_high * b_low;
    let hh = a_high * b_high;
    // At most 3 * (2^32 - 1): no wrap.
    let cross = (ll >> 32u) + (lh & 0xfffffffflu) + (hl & 0xfffffffflu);
    let low = (ll & 0xfffffffflu) | (cross << 32u);
    let unsigned_high = hh + (lh >> 32u) + (hl >> 32u) + (cross >> 32u);
    // Read as unsigned, a negative factor is 2^64 too great: take the other one off the upper half.
    let high = unsigned_high - (b_bits & sign_word(a)) - (a_bits & sign_word(b));
    return Wide(low, high, sign_word(bitcast<i64>(high)));
}
