// Wide integers in 32-bit limbs, low limb first, two's complement. Include only.

// The carry out of an addition, given its wrapped sum and one addend.
fn carry_of(sum: u32, addend: u32) -> u32 {
    return select(0u, 1u, sum < addend);
}

// All ones where the number with this highest limb is negative, else 0.
fn sign_limb(high: u32) -> u32 {
    return bitcast<u32>(bitcast<i32>(high) >> 31u);
}

// Signed a < b.
fn less_64(a: vec2<u32>, b: vec2<u32>) -> bool {
    let a_high = bitcast<i32>(a.y);
    let b_high = bitcast<i32>(b.y);
    return a_high < b_high || (a_high == b_high && a.x < b.x);
}

// a - b modulo 2^64.
fn sub_64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return vec2<u32>(a.x - b.x, a.y - b.y - select(0u, 1u, a.x < b.x));
}

// a + b modulo 2^64.
fn add_64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let x = a.x + b.x;
    return vec2<u32>(x, a.y + b.y + carry_of(x, b.x));
}

// a + b modulo 2^96.
fn add_96(a: vec3<u32>, b: vec3<u32>) -> vec3<u32> {
    let x = a.x + b.x;
    let x_carry = carry_of(x, b.x);
    let y_part = a.y + b.y;
    let y = y_part + x_carry;
    // Both carries are never 1: a wrapped y_part is at most 2^32 - 2.
    let y_carry = carry_of(y_part, b.y) + carry_of(y, x_carry);
    return vec3<u32>(x, y, a.z + b.z + y_carry);
}

struct Int160 {
    low: vec4<u32>,
    high: u32,
}

// a + b modulo 2^160.
fn add_160(a: Int160, b: Int160) -> Int160 {
    let x = a.low.x + b.low.x;
    let x_carry = carry_of(x, b.low.x);
    let y_part = a.low.y + b.low.y;
    let y = y_part + x_carry;
    let y_carry = carry_of(y_part, b.low.y) + carry_of(y, x_carry);
    let z_part = a.low.z + b.low.z;
    let z = z_part + y_carry;
    let z_carry = carry_of(z_part, b.low.z) + carry_of(z, y_carry);
    let w_part = a.low.w + b.low.w;
    let w = w_part + z_carry;
    let w_carry = carry_of(w_part, b.low.w) + carry_of(w, z_carry);
    return Int160(vec4<u32>(x, y, z, w), a.high + b.high + w_carry);
}

// The whole product of two unsigned numbers, from 16-bit halves: core WGSL has no high product.
fn mul_32(a: u32, b: u32) -> vec2<u32> {
    let a_low = a & 0xffffu;
    let a_high = a >> 16u;
    let b_low = b & 0xffffu;
    let b_high = b >> 16u;
    let low = a_low * b_low;
    let cross_a = a_high * b_low;
    let cross_b = a_low * b_high;
    // At most 3 * (2^16 - 1): no wrap.
    let middle = (low >> 16u) + (cross_a & 0xffffu) + (cross_b & 0xffffu);
    return vec2<u32>(
        (low & 0xffffu) | (middle << 16u),
        a_high * b_high + (cross_a >> 16u) + (cross_b >> 16u) + (middle >> 16u),
    );
}

// The whole product of two signed numbers.
fn mul_64(a: vec2<u32>, b: vec2<u32>) -> vec4<u32> {
    let ll = mul_32(a.x, b.x);
    let lh = mul_32(a.x, b.y);
    let hl = mul_32(a.y, b.x);
    let hh = mul_32(a.y, b.y);

    let y_part = ll.y + lh.x;
    let y = y_part + hl.x;
    let y_carry = carry_of(y_part, lh.x) + carry_of(y, hl.x);

    let z_part = lh.y + hl.y;
    let z_sum = z_part + hh.x;
    let z = z_sum + y_carry;
    let z_carry = carry_of(z_part, hl.y) + carry_of(z_sum, hh.x) + carry_of(z, y_carry);

    // Read as unsigned, a negative factor is 2^64 too great: take the other one off the upper half.
    var upper = vec2<u32>(z, hh.y + z_carry);
    upper = sub_64(upper, b & vec2<u32>(sign_limb(a.y)));
    upper = sub_64(upper, a & vec2<u32>(sign_limb(b.y)));
    return vec4<u32>(ll.x, y, upper);
}
