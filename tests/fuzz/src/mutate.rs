//! Changes to inputs where formats keep what matters: bits, bytes, small numbers, lengths, ends.

use crate::Numbers;

/// Longer inputs are cut.
pub const INPUT_BYTES_MAX: usize = 64 << 10;

/// Numbers at the edges of what formats count with.
const EDGES: [u64; 16] = [
    0,
    1,
    2,
    255,
    256,
    257,
    4_096,
    4_097,
    65_535,
    65_536,
    65_537,
    1 << 20,
    1 << 24,
    u32::MAX as u64,
    i64::MAX as u64,
    u64::MAX,
];

/// Makes an input of one or two from the corpus, which is not empty.
pub fn mutate(corpus: &[Vec<u8>], numbers: &mut Numbers) -> Vec<u8> {
    // Short inputs more often: they run in less time, and changes hit what matters.
    let mut any = || &corpus[numbers.below(corpus.len())];
    let picked = [any(), any(), any()];
    let shortest = picked.into_iter().min_by_key(|input| input.len());
    let mut input = shortest.expect("three were picked").clone();
    // Mostly one change: what is checked last is reached only while all before it is right.
    let changes = 1 + numbers.below(4).saturating_sub(1);
    for _ in 0..changes {
        change(&mut input, corpus, numbers);
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

fn change(input: &mut Vec<u8>, corpus: &[Vec<u8>], numbers: &mut Numbers) {
    // Half of all changes hit the first bytes, where counts and lengths stand.
    let reach = if numbers.below(2) == 0 { input.len().min(48) } else { input.len() };
    let at = numbers.below(reach + 1);
    let end = (at + 1 + numbers.below(16)).min(input.len());
    match numbers.below(9) {
        0 if at < input.len() => input[at] ^= 1 << numbers.below(8),
        1 if at < input.len() => input[at] = numbers.any() as u8,
        2 => {
            let edge = EDGES[numbers.below(EDGES.len())];
            let edge = edge.wrapping_add(numbers.below(3) as u64).wrapping_sub(1).to_le_bytes();
            let width = [1, 2, 4, 8][numbers.below(4)].min(input.len() - at);
            input[at..at + width].copy_from_slice(&edge[..width]);
        }
        3 => input.insert(at, numbers.any() as u8),
        4 if at < end => drop(input.drain(at..end)),
        5 if at < end => {
            let again = input[at..end].to_vec();
            input.splice(at..at, again);
        }
        6 => input.truncate(at),
        7 => {
            let other = &corpus[numbers.below(corpus.len())];
            let from = numbers.below(other.len() + 1);
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        _ => {
            let (byte, count) = ([0, 0x7F, 0x80, 0xFF][numbers.below(4)], numbers.below(24));
            input.splice(at..at, std::iter::repeat_n(byte, count));
        }
    }
}
