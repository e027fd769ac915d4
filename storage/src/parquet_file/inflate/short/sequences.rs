//! The sequences of a block: each is some literals, and then a match, which are bytes that came
//! before. Those of at most eight bytes, as values of 64 bits give them, are made in one piece.

#![allow(
    unsafe_code,
    reason = "instructions that not every processor has, and loads whose bounds are checked together"
)]

use std::arch::is_x86_feature_detected;
use std::arch::x86_64::{
    __m128i, _bzhi_u64, _mm_cvtsi128_si32, _mm_insert_epi32, _mm_shuffle_epi8,
};

use super::bits::{Backward, WORD_BITS};
use super::entropy::{Distribution, SYMBOLS, States, Symbols, next_state};
use super::literals::SLACK;

/// Proof that the processor has what is needed.
#[derive(Clone, Copy)]
pub(super) struct Instructions(());

impl Instructions {
    pub fn detected() -> Option<Self> {
        let all = is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("sse4.1");
        all.then_some(Self(()))
    }
}

/// What a sequence is told by.
#[derive(Clone, Copy)]
pub(super) enum Field {
    Literals,
    Offset,
    Match,
}

const FIELDS: usize = 3;

/// The codes of a field.
struct Codes {
    /// How many bits each has more, and in the upper 32 bits of its states: of an offset 63 less
    /// these bits, else the number from which it goes on, and [`LONG`] where it has more bits.
    symbols: Symbols,
    count: usize,
    log_max: u32,
    /// A distribution that every frame knows.
    known_log: u32,
    known: &'static [i16],
}

/// Bytes of a sequence that is put together in a register, and how many are literals at most: a
/// match has three or more.
const SHORT_BYTES: usize = 8;
const SHORT_LITERALS: usize = SHORT_BYTES - 3;

/// Sequences may be short where of so many states no more than one is another's, of literals and of
/// matches.
const SHORT_STATES: usize = 8;

/// Where they are, one of so many has to be written by itself at most, and [`ALONE_FREE`] more. That
/// takes longer than the library does: also of short ones, where a match begins within itself.
const ALONE: usize = 16;
const ALONE_FREE: usize = 128;

/// Of the sum of two states this bit is set, or the one above.
const LONG: u64 = 1 << 62;

static LITERALS: Codes = Codes {
    symbols: codes(0, 16, &[1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]),
    count: 36,
    log_max: 9,
    known_log: 6,
    known: &[
        4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1,
        1, 1, -1, -1, -1, -1,
    ],
};

static MATCHES: Codes = Codes {
    symbols: codes(3, 32, &[1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]),
    count: 53,
    log_max: 9,
    known_log: 6,
    known: &[
        1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
    ],
};

static OFFSETS: Codes = Codes {
    symbols: {
        let mut symbols = [0; SYMBOLS];
        let mut bits = 0;
        while bits <= OFFSET_BITS_MAX {
            symbols[bits as usize] = (63 - bits as u64) << 32 | (bits as u64) << 8;
            bits += 1;
        }
        symbols
    },
    count: OFFSET_BITS_MAX as usize + 1,
    log_max: 8,
    known_log: 5,
    known: &[
        1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1,
    ],
};

/// More than nearly any offset within a page needs; with the bits of three states they fit a word.
const OFFSET_BITS_MAX: u32 = WORD_BITS - 9 - 9 - 8;

/// Codes of one number each, and behind them those that take these bits.
const fn codes(first: u64, single: usize, bits: &[u8]) -> Symbols {
    let mut symbols = [0; SYMBOLS];
    let mut from = first;
    let mut code = 0;
    while code < single + bits.len() {
        let more = if code < single { 0 } else { bits[code - single] as u64 };
        let long = if more > 0 { LONG } else { 0 };
        symbols[code] = long | from << 32 | more << 8;
        from += 1 << more;
        code += 1;
    }
    symbols
}

impl Field {
    fn codes(self) -> &'static Codes {
        match self {
            Self::Literals => &LITERALS,
            Self::Offset => &OFFSETS,
            Self::Match => &MATCHES,
        }
    }
}

/// States of all fields, and how many bits tell the first one.
pub(super) struct FieldStates {
    states: [States; FIELDS],
    logs: [u32; FIELDS],
    /// Whether a block of the frame has set them.
    set: [bool; FIELDS],
}

impl Default for FieldStates {
    fn default() -> Self {
        Self { states: [[0; _]; _], logs: [0; _], set: [false; _] }
    }
}

impl FieldStates {
    pub fn forget(&mut self) {
        self.set = [false; FIELDS];
    }

    /// As a block's mode says, which stands in two bits, and what follows: gives how many bytes.
    pub fn set(&mut self, field: Field, mode: u8, bytes: &[u8]) -> Option<usize> {
        let codes = field.codes();
        let states = &mut self.states[field as usize];
        let set = &mut self.set[field as usize];
        let (distribution, read) = match mode {
            0 => (Distribution::known(codes.known_log, codes.known), 0),
            1 => {
                let symbol = usize::from(*bytes.first()?);
                states[0] = *codes.symbols[..codes.count].get(symbol)?;
                self.logs[field as usize] = 0;
                *set = true;
                return Some(1);
            }
            2 => Distribution::read(bytes, codes.log_max, codes.count)?,
            _ => return set.then_some(0),
        };
        distribution.spread(&codes.symbols, states);
        self.logs[field as usize] = distribution.log;
        *set = true;
        Some(read)
    }

    /// Whether most sequences can be short, as the states tell that are set.
    pub fn are_short(&self) -> bool {
        [(Field::Literals, SHORT_LITERALS), (Field::Match, SHORT_BYTES)].iter().all(
            |&(field, most)| {
                let states = &self.states[field as usize][..1 << self.logs[field as usize]];
                let others = states.iter().filter(|state| **state >> 32 > most as u64).count();
                others * SHORT_STATES <= states.len()
            },
        )
    }

    fn at(&self, field: Field, state: u64) -> Option<u64> {
        self.states[field as usize].get(state as usize).copied()
    }

    /// # Safety
    ///
    /// The number of the state is the field's first one, or comes from another of its states.
    #[inline(always)]
    unsafe fn at_known(&self, field: Field, state: u64) -> u64 {
        // SAFETY: a state's next one and all of the bits that tell it are less than two to the power
        // of the distribution's.
        unsafe { *self.states[field as usize].get_unchecked(state as usize) }
    }
}

/// Which bytes of the last three offsets and one more are the last three then, by twice the number
/// of the one, at most four, and one more where there are no literals: 1 to 3 mean one of the last,
/// without literals one later. One less than the last is left to the other way: as none.
static MOVES: [[u8; 16]; 16] = {
    const NONE: u8 = 0x20;
    // No number gives one of those at the end; with them none has to be compared with the length.
    let lanes = [
        [NONE; 3],
        [NONE; 3],
        [0, 1, 2],
        [1, 0, 2],
        [1, 0, 2],
        [2, 0, 1],
        [2, 0, 1],
        [NONE; 3],
        [3, 0, 1],
        [3, 0, 1],
        [NONE; 3],
        [NONE; 3],
        [NONE; 3],
        [NONE; 3],
        [NONE; 3],
        [NONE; 3],
    ];
    let mut moves = [[0x80; 16]; 16];
    let mut byte = 0;
    while byte < 16 * 12 {
        let (number, byte_of) = (byte / 12, byte % 12);
        moves[number][byte_of] = lanes[number][byte_of / 4] * 4 + (byte_of % 4) as u8;
        byte += 1;
    }
    moves
};

/// The last three offsets, the latest first.
#[derive(Clone, Copy)]
pub(super) struct Offsets([u32; 4]);

impl Offsets {
    /// The offset that a number means, which is the first of the last then.
    fn change(&mut self, number: u64, no_literals: bool) -> u32 {
        let [first, second, third, _] = self.0;
        let number = number as u32;
        self.0 = match number + u32::from(no_literals && number <= 3) {
            1 => [first, second, third, 0],
            2 => [second, first, third, 0],
            3 => [third, first, second, 0],
            4 if number == 3 => [first.wrapping_sub(1), first, second, 0],
            _ => [number - 3, first, second, 0],
        };
        self.0[0]
    }
}

impl Default for Offsets {
    fn default() -> Self {
        Self([1, 4, 8, 0])
    }
}

/// The sequences of a block, from the next one on.
pub(super) struct Sequences<'a, 'out> {
    states: &'a FieldStates,
    /// The numbers of the next one's states.
    next: [u64; FIELDS],
    bits: Backward<'a>,
    left: usize,
    /// Those that are still to come, and [`SLACK`] bytes.
    literals: &'a [u8],
    out: &'out mut [u8],
    /// Bytes of `out` that are made.
    at: usize,
}

impl<'a, 'out> Sequences<'a, 'out> {
    /// So many, which are written behind the first `at` bytes of `out`. Behind the literals stand
    /// [`SLACK`] bytes.
    pub fn new(
        count: usize,
        mut bits: Backward<'a>,
        states: &'a FieldStates,
        literals: &'a [u8],
        out: &'out mut [u8],
        at: usize,
    ) -> Option<Self> {
        let mut next = [0; FIELDS];
        for field in [Field::Literals, Field::Offset, Field::Match] {
            next[field as usize] = bits.take(states.logs[field as usize])?;
        }
        Some(Self { states, next, bits, left: count, literals, out, at })
    }

    /// Writes them, unless they must be short and are not. Gives how many bytes are made then, and the
    /// literals that are left.
    pub fn write(
        mut self,
        _: Instructions,
        offsets: &mut Offsets,
        must_be_short: bool,
    ) -> Option<(usize, &'a [u8])> {
        let (count, mut alone) = (self.left, 0);
        while self.left > 0 {
            if must_be_short && alone > ALONE_FREE + (count - self.left) / ALONE {
                return None;
            }
            alone += 1;
            // SAFETY: `Instructions` come from `detected`, which asks for these features.
            unsafe { self.write_short(offsets) };
            self.write_one(offsets)?;
        }
        (self.bits.left() == 0).then_some((self.at, self.literals))
    }

    /// Writes short sequences, until one is not or has to be looked at.
    #[inline(never)]
    #[target_feature(enable = "bmi1,bmi2,sse4.1")]
    fn write_short(&mut self, offsets: &mut Offsets) {
        // The last sequence has no states behind it.
        let count = (self.left - 1).min((self.out.len() - self.at) / SHORT_BYTES);
        if self.at < 8 {
            return;
        }
        let frame = self.bits.frame.as_ptr();
        let start = self.bits.start;
        let first = self.out.as_mut_ptr();
        let eighth = first.addr() + 8;
        let own_end = self.literals.as_ptr().addr() + self.literals.len() - SLACK;
        let mut to = first.wrapping_add(self.at);
        let mut own = self.literals.as_ptr();
        let mut end = self.bits.end;
        let mut last: __m128i = bytemuck::cast(offsets.0);
        let [mut literal_state, mut offset_state, mut match_state] = self.next;
        let mut left = count;
        while left > 0 {
            // SAFETY: what is not a field's first state was told by the one before.
            let literal = unsafe { self.states.at_known(Field::Literals, literal_state) };
            // SAFETY: as above.
            let matched = unsafe { self.states.at_known(Field::Match, match_state) };
            let both = literal.wrapping_add(matched);
            let bytes = (both >> 32) as usize;
            if bytes > SHORT_BYTES {
                break;
            }
            // SAFETY: as above.
            let offset = unsafe { self.states.at_known(Field::Offset, offset_state) };
            // SAFETY: `end` is between the stream's start, before which the frame has eight bytes,
            // and its end.
            let word = unsafe { load(frame.wrapping_add((end >> 3).wrapping_sub(7))) };
            let word = word << (!end & 7);
            let number = (word | 1 << 63).wrapping_shr((offset >> 32) as u32);
            let own_bytes = (literal >> 32) as usize;
            let now = moved(last, number, own_bytes == 0);
            let back = _mm_cvtsi128_si32(now) as u32 as usize;
            // From the match's end to this sequence; far more than there is where it ends behind.
            let gap = back.wrapping_sub(bytes);
            let read = (both.wrapping_add(offset) >> 8 & 255) as usize;
            if gap > to.addr().wrapping_sub(eighth)
                || read > end.wrapping_sub(start)
                || own_bytes > own_end.wrapping_sub(own.addr())
            {
                break;
            }
            // SAFETY: the eight bytes up to the match's end are made.
            let matching = unsafe { load(to.wrapping_sub(gap).wrapping_sub(8)) };
            let matching = matching.wrapping_shr(bits_of(8_usize.wrapping_sub(bytes)));
            // SAFETY: behind the last literal there are as many bytes.
            let owned = unsafe { load(own) };
            let value = matching ^ _bzhi_u64(owned ^ matching, bits_of(own_bytes));
            // SAFETY: `count` such sequences make no more than fits.
            unsafe { store(to, value) };
            last = now;
            end = end.wrapping_sub(read);
            to = to.wrapping_add(bytes);
            own = own.wrapping_add(own_bytes);
            let word = (word << 1).wrapping_shr(0_u32.wrapping_sub(read as u32));
            offset_state = after(offset, word);
            let word = word.wrapping_shr(offset as u32);
            match_state = after(matched, word);
            let word = word.wrapping_shr(matched as u32);
            literal_state = after(literal, word);
            left = left.wrapping_sub(1);
        }
        self.left -= count - left;
        self.literals = &self.literals[own.addr() - self.literals.as_ptr().addr()..];
        self.at = to.addr() - first.addr();
        self.bits.end = end;
        self.next = [literal_state, offset_state, match_state];
        offsets.0 = bytemuck::cast(last);
    }

    /// Writes any sequence.
    fn write_one(&mut self, offsets: &mut Offsets) -> Option<()> {
        let at = |field: Field| self.states.at(field, self.next[field as usize]);
        let literal = at(Field::Literals)?;
        let offset = at(Field::Offset)?;
        let matched = at(Field::Match)?;
        let bits = &mut self.bits;
        let more = 63 - (offset >> 32) as u32;
        let number = 1 << more | bits.take(more)?;
        let match_bytes = (number_of(matched) + bits.take(more_of(matched))?) as usize;
        let literal_bytes = (number_of(literal) + bits.take(more_of(literal))?) as usize;
        self.left -= 1;
        if self.left > 0 {
            self.next[Field::Literals as usize] = next_state(literal, bits)?;
            self.next[Field::Match as usize] = next_state(matched, bits)?;
            self.next[Field::Offset as usize] = next_state(offset, bits)?;
        }
        let back = offsets.change(number, literal_bytes == 0);
        let (own, literals) = self.literals.split_at_checked(literal_bytes)?;
        self.literals = literals;
        (literals.len() >= SLACK).then_some(())?;
        self.out.get_mut(self.at..self.at + literal_bytes)?.copy_from_slice(own);
        self.at += literal_bytes;
        repeat(self.out, self.at, back as usize, match_bytes)?;
        self.at += match_bytes;
        Some(())
    }
}

/// # Safety
///
/// Eight bytes can be read from here on.
#[inline(always)]
unsafe fn load(from: *const u8) -> u64 {
    // SAFETY: as it says.
    u64::from_le_bytes(unsafe { from.cast::<[u8; 8]>().read() })
}

/// # Safety
///
/// Eight bytes can be written from here on.
#[inline(always)]
unsafe fn store(to: *mut u8, bytes: u64) {
    // SAFETY: as it says.
    unsafe { to.cast::<[u8; 8]>().write(bytes.to_le_bytes()) };
}

fn bits_of(bytes: usize) -> u32 {
    (bytes as u32).wrapping_mul(8)
}

/// The state after this one, by the lowest bits.
#[inline]
#[target_feature(enable = "bmi2")]
fn after(state: u64, bits: u64) -> u64 {
    u64::from(state as u32 >> 16).wrapping_add(_bzhi_u64(bits, state as u32))
}

/// The number from which a code goes on, and how many bits more it has.
fn number_of(state: u64) -> u64 {
    (state & !LONG) >> 32
}

fn more_of(state: u64) -> u32 {
    ((state >> 8 & 255) - (state & 255)) as u32
}

/// The last offsets after one of this number.
#[inline]
#[target_feature(enable = "sse4.1")]
fn moved(last: __m128i, number: u64, no_literals: bool) -> __m128i {
    let by = &MOVES[(number.min(4) * 2 + u64::from(no_literals)) as usize % MOVES.len()];
    let with = _mm_insert_epi32::<3>(last, (number as i32).wrapping_sub(3));
    _mm_shuffle_epi8(with, bytemuck::cast(*by))
}

/// Writes bytes behind the first `at` as those that stand `back` before them, also such that are
/// written just now.
fn repeat(out: &mut [u8], at: usize, back: usize, bytes: usize) -> Option<()> {
    let from = at.checked_sub(back)?;
    let end = at + bytes;
    if back == 0 || end > out.len() {
        return None;
    }
    // Each round doubles what may be copied.
    let mut to = at;
    while to < end {
        let some = (end - to).min(to - from);
        out.copy_within(from..from + some, to);
        to += some;
    }
    Some(())
}
