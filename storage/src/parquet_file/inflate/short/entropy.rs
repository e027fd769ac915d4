//! How often symbols come, and the states that finite state entropy codes them with.

use super::bits::{Backward, Forward};

/// Of a distribution: two to the power of it are its states.
pub(super) const LOG_MAX: u32 = 9;

/// More than any alphabet has here.
pub(super) const SYMBOLS: usize = 64;

/// States by their number, each in a word, from the lowest bit on:
/// 8 bits: how many bits tell the next state;
/// 8 bits: the same, and bits that the symbol asks for;
/// 16 bits: the next state where the bits that tell it are zero;
/// 32 bits: the symbol's own.
pub(super) type States = [u64; 1 << LOG_MAX];

/// What stands in the words of a symbol's states beside what tells the next one.
pub(super) type Symbols = [u64; SYMBOLS];

/// Symbols by how many of the states are theirs. Seldom ones, `-1`, have one and begin anew at it.
pub(super) struct Distribution {
    pub log: u32,
    shares: [i16; SYMBOLS],
    symbols: usize,
}

impl Distribution {
    /// One that every frame knows.
    pub fn known(log: u32, of: &[i16]) -> Self {
        let mut shares = [0; SYMBOLS];
        shares[..of.len()].copy_from_slice(of);
        Self { log, shares, symbols: of.len() }
    }

    /// Reads one of at most `symbols`, and tells how many bytes it took.
    pub fn read(bytes: &[u8], log_max: u32, symbols: usize) -> Option<(Self, usize)> {
        let mut bits = Forward::new(bytes);
        let log = bits.take(4) as u32 + 5;
        if log > log_max {
            return None;
        }
        let mut distribution = Self { log, shares: [0; _], symbols: 0 };
        let mut left = 1_usize << log;
        while left > 0 {
            // Of 0 to left + 1, the first ones take a bit less.
            let long = (left + 1).ilog2() as usize + 1;
            let short = (1 << long) - left - 2;
            let low = bits.peek(long - 1);
            let value = if low < short {
                bits.skip(long - 1);
                low
            } else {
                let value = bits.take(long);
                value - if value >> (long - 1) == 1 { short } else { 0 }
            };
            let share = value as i16 - 1;
            *distribution.shares[..symbols].get_mut(distribution.symbols)? = share;
            distribution.symbols += 1;
            left = left.checked_sub(share.unsigned_abs().into())?;
            if share == 0 {
                loop {
                    let zeros = bits.take(2);
                    distribution.symbols += zeros;
                    if zeros < 3 {
                        break;
                    }
                }
            }
        }
        (distribution.symbols <= symbols).then_some(())?;
        Some((distribution, bits.bytes_read()?))
    }

    /// Sets the first states to those of this one. Each symbol's lie apart.
    pub fn spread(&self, of: &Symbols, states: &mut States) {
        let size = 1_usize << self.log;
        let shares = &self.shares[..self.symbols];
        let mut symbols = [0_u8; 1 << LOG_MAX];
        let mut next = [0_u32; SYMBOLS];
        let mut seldom = size;
        for (symbol, &share) in shares.iter().enumerate() {
            next[symbol] = share.unsigned_abs().into();
            if share < 0 {
                seldom -= 1;
                symbols[seldom] = symbol as u8;
            }
        }
        let step = (size >> 1) + (size >> 3) + 3;
        let mut at = 0;
        for (symbol, &share) in shares.iter().enumerate() {
            for _ in 0..share {
                symbols[at] = symbol as u8;
                loop {
                    at = (at + step) & (size - 1);
                    if at < seldom {
                        break;
                    }
                }
            }
        }
        for (state, symbol) in states.iter_mut().zip(&symbols[..size]) {
            let symbol = usize::from(*symbol) % SYMBOLS;
            let number = next[symbol];
            next[symbol] = number.wrapping_add(1);
            let bits = self.log.wrapping_sub(31 ^ number.leading_zeros());
            let next = (number << bits).wrapping_sub(size as u32);
            *state = of[symbol] | u64::from(next) << 16;
            *state = state.wrapping_add(u64::from(bits.wrapping_mul(0x101)));
        }
    }
}

/// The state after this one.
pub(super) fn next_state(state: u64, bits: &mut Backward) -> Option<u64> {
    Some((state >> 16 & 0xFFFF) + bits.take((state & 255) as u32)?)
}
