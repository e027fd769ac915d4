//! Whether this processor has the instructions that the program was built with.

/// What to tell a user whose processor cannot run this build; `None` where it can.
///
/// The build asks for what x86-64 processors have had since Haswell (2013) and Zen (2017); see
/// `.cargo/config.toml`. On one without them the first such instruction would end the program with
/// an illegal instruction, so this is asked before anything else.
#[cfg(all(target_arch = "x86_64", target_feature = "avx2"))]
pub fn missing() -> Option<&'static str> {
    use std::arch::x86_64::__cpuid_count;
    /// FMA, MOVBE, POPCNT, OSXSAVE, AVX, F16C.
    const LEAF_1_ECX: u32 = 1 << 12 | 1 << 22 | 1 << 23 | 1 << 27 | 1 << 28 | 1 << 29;
    /// BMI1, AVX2, BMI2.
    const LEAF_7_EBX: u32 = 1 << 3 | 1 << 5 | 1 << 8;
    let has = |bits: u32, wanted: u32| bits & wanted == wanted;
    let first = __cpuid_count(1, 0).ecx;
    let leaves = __cpuid_count(0, 0).eax;
    let enough = leaves >= 7 && has(first, LEAF_1_ECX) && has(__cpuid_count(7, 0).ebx, LEAF_7_EBX);
    (!enough).then_some(
        "isotick: this build is for x86-64 processors with AVX2 (Haswell of 2013, Zen of 2017 and \
         later), which this one is not; build it with RUSTFLAGS=-Ctarget-cpu=native",
    )
}

/// The build asks for nothing that every processor of its kind does not have.
#[cfg(not(all(target_arch = "x86_64", target_feature = "avx2")))]
pub fn missing() -> Option<&'static str> {
    None
}
