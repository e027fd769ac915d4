//! Deltas unpacked or summed up eight at a time and small values sixteen at a time, where the
//! processor has AVX-512 with byte permutations. Equal to what the module above does in every bit.

#![allow(unsafe_code, reason = "instructions are asked for that not every processor has")]

use std::arch::is_x86_feature_detected;
use std::arch::x86_64::{
    __m512i, _mm_cvtsi128_si64, _mm512_add_epi64, _mm512_alignr_epi64, _mm512_and_si512,
    _mm512_castsi512_si128, _mm512_permutexvar_epi8, _mm512_permutexvar_epi64,
    _mm512_reduce_add_epi64, _mm512_set1_epi32, _mm512_set1_epi64, _mm512_setzero_si512,
    _mm512_srlv_epi32, _mm512_srlv_epi64,
};

use super::{NARROW, SLACK, SMALL, SMALL_LANES};

/// Proof that the processor has what is needed.
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

/// Values of a vector.
const VALUES: usize = 8;

/// For each width: from which byte each byte of eight values comes, and how far each value is to be
/// shifted then.
struct Width {
    bytes: [u8; 64],
    shifts: [i64; VALUES],
}

static WIDTHS: [Width; NARROW + 1] = widths();

const fn widths() -> [Width; NARROW + 1] {
    let mut widths = [const { Width { bytes: [0; 64], shifts: [0; VALUES] } }; NARROW + 1];
    let mut width = 0;
    while width <= NARROW {
        let mut byte = 0;
        while byte < 64 {
            // The last value ends within 7 × 57 / 8 + 8 bytes, which are fewer than 64.
            widths[width].bytes[byte] = (byte / 8 * width / 8 + byte % 8) as u8;
            widths[width].shifts[byte / 8] = (byte / 8 * width % 8) as i64;
            byte += 1;
        }
        width += 1;
    }
    widths
}

/// Small values of a vector.
const SMALL_VALUES: usize = 16;

/// The same for sixteen values.
struct SmallWidth {
    bytes: [u8; 64],
    shifts: [i32; SMALL_VALUES],
}

static SMALL_WIDTHS: [SmallWidth; SMALL + 1] = small_widths();

const fn small_widths() -> [SmallWidth; SMALL + 1] {
    let mut widths =
        [const { SmallWidth { bytes: [0; 64], shifts: [0; SMALL_VALUES] } }; SMALL + 1];
    let mut width = 0;
    while width <= SMALL {
        let mut byte = 0;
        while byte < 64 {
            // The last value ends within 15 × 25 / 8 + 4 bytes, which are fewer than 64.
            widths[width].bytes[byte] = (byte / 4 * width / 8 + byte % 4) as u8;
            widths[width].shifts[byte / 4] = (byte / 4 * width % 8) as i32;
            byte += 1;
        }
        width += 1;
    }
    widths
}

impl Avx512 {
    pub fn detected() -> Option<Self> {
        let all = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vbmi");
        all.then_some(Self(()))
    }

    /// The same, for deltas of this width.
    pub fn of_deltas(width: usize) -> Option<Self> {
        Self::detected().filter(|_| width <= NARROW)
    }

    /// Makes values, a multiple of [`VALUES`], of their packed deltas over `least`, behind the value
    /// `last`. Gives the last of them. `packed` has [`SLACK`] bytes more.
    pub fn unpack(
        self,
        packed: &[u8],
        width: usize,
        least: i64,
        last: i64,
        values: &mut [i64],
    ) -> i64 {
        // SAFETY: a value of this type comes from `detected`, which asks for both features.
        unsafe { unpack(packed, &WIDTHS[width], width, least, last, values) }
    }

    /// The sum of packed values, a multiple of [`VALUES`]. `packed` has [`SLACK`] bytes more.
    pub fn sum(self, packed: &[u8], width: usize, count: usize) -> i64 {
        // SAFETY: as above.
        unsafe { sum(packed, &WIDTHS[width], width, count) }
    }

    /// As [`unpack_small`](super::unpack_small) does, for widths up to [`SMALL`].
    pub fn unpack_small(self, packed: &[u8], width: usize, lanes: &mut [u32; SMALL_LANES]) {
        // SAFETY: as above.
        unsafe { unpack_small(packed, &SMALL_WIDTHS[width], width, lanes) }
    }
}

#[target_feature(enable = "avx512f,avx512vbmi")]
fn unpack_small(packed: &[u8], of: &SmallWidth, width: usize, lanes: &mut [u32; SMALL_LANES]) {
    let bytes: __m512i = bytemuck::cast(of.bytes);
    let shifts: __m512i = bytemuck::cast(of.shifts);
    let mask = _mm512_set1_epi32((1 << width) - 1);
    for (number, lanes) in lanes.as_chunks_mut::<SMALL_VALUES>().0.iter_mut().enumerate() {
        let start = number * SMALL_VALUES * width / 8;
        let from: [u8; SLACK] = packed[start..start + SLACK].try_into().expect("64 bytes");
        let each = _mm512_permutexvar_epi8(bytes, bytemuck::cast(from));
        *lanes = bytemuck::cast(_mm512_and_si512(_mm512_srlv_epi32(each, shifts), mask));
    }
}

#[target_feature(enable = "avx512f,avx512vbmi")]
fn unpack(
    packed: &[u8],
    of: &Width,
    width: usize,
    least: i64,
    last: i64,
    values: &mut [i64],
) -> i64 {
    let bytes: __m512i = bytemuck::cast(of.bytes);
    let shifts: __m512i = bytemuck::cast(of.shifts);
    let mask = _mm512_set1_epi64((1 << width) - 1);
    let least = _mm512_set1_epi64(least);
    let zeros = _mm512_setzero_si512();
    let eighth = _mm512_set1_epi64(7);
    let mut before = _mm512_set1_epi64(last);
    for (number, lanes) in values.as_chunks_mut::<VALUES>().0.iter_mut().enumerate() {
        // Eight values are as many bytes as they have bits.
        let start = number * width;
        let from: [u8; SLACK] = packed[start..start + SLACK].try_into().expect("64 bytes");
        let each = _mm512_permutexvar_epi8(bytes, bytemuck::cast(from));
        let offsets = _mm512_srlv_epi64(each, shifts);
        let deltas = _mm512_add_epi64(_mm512_and_si512(offsets, mask), least);
        // Sums of the deltas up to each, by doubling distances.
        let sums = _mm512_add_epi64(deltas, _mm512_alignr_epi64::<7>(deltas, zeros));
        let sums = _mm512_add_epi64(sums, _mm512_alignr_epi64::<6>(sums, zeros));
        let sums = _mm512_add_epi64(sums, _mm512_alignr_epi64::<4>(sums, zeros));
        *lanes = bytemuck::cast(_mm512_add_epi64(sums, before));
        before = _mm512_add_epi64(before, _mm512_permutexvar_epi64(eighth, sums));
    }
    _mm_cvtsi128_si64(_mm512_castsi512_si128(before))
}

#[target_feature(enable = "avx512f,avx512vbmi")]
fn sum(packed: &[u8], of: &Width, width: usize, count: usize) -> i64 {
    let bytes: __m512i = bytemuck::cast(of.bytes);
    let shifts: __m512i = bytemuck::cast(of.shifts);
    let mask = _mm512_set1_epi64((1 << width) - 1);
    let mut sum = _mm512_setzero_si512();
    for number in 0..count / VALUES {
        let start = number * width;
        let from: [u8; SLACK] = packed[start..start + SLACK].try_into().expect("64 bytes");
        let each = _mm512_permutexvar_epi8(bytes, bytemuck::cast(from));
        sum = _mm512_add_epi64(sum, _mm512_and_si512(_mm512_srlv_epi64(each, shifts), mask));
    }
    _mm512_reduce_add_epi64(sum)
}
