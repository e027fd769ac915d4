//! What recent rows held, as hashes: to tell a duplicate from a conflict.

use isotick_model::Ticks;

/// Rows whose content is remembered per publisher. A power of two.
pub(super) const REMEMBERED_ROWS: usize = 1 << 16;

/// Content hashes by sequence modulo [`REMEMBERED_ROWS`]; a later row takes the place of an
/// earlier one. At most 1 MiB.
#[derive(Debug, Default)]
pub(super) struct RecentContent {
    /// Sequence + 1 (0 for none) and hash.
    rows: Vec<(u64, u64)>,
}

impl RecentContent {
    pub(super) fn remember(&mut self, sequence: u64, hash: u64) {
        let place = place_of(sequence);
        if place >= self.rows.len() {
            self.rows.resize((place + 1).next_power_of_two(), (0, 0));
        }
        self.rows[place] = (sequence.wrapping_add(1), hash);
    }

    pub(super) fn remember_all(&mut self, sequences: &[u64], hashes: &[u64]) {
        for (&sequence, &hash) in sequences.iter().zip(hashes) {
            self.remember(sequence, hash);
        }
    }

    pub(super) fn recall(&self, sequence: u64) -> Option<u64> {
        let &(known, hash) = self.rows.get(place_of(sequence))?;
        (known == sequence.wrapping_add(1)).then_some(hash)
    }
}

fn place_of(sequence: u64) -> usize {
    (sequence % REMEMBERED_ROWS as u64) as usize
}

/// One hash per row over time, key and values. Never stored: it may change between versions.
pub fn hashes(ticks: &Ticks) -> Vec<u64> {
    let mut hashes = Vec::new();
    hashes_into(ticks, &mut hashes);
    hashes
}

/// The same in place of what `hashes` holds.
pub(super) fn hashes_into(ticks: &Ticks, hashes: &mut Vec<u64>) {
    let keys: Vec<u64> = ticks.keys.iter().map(|key| bytes(key.as_bytes())).collect();
    hashes.clear();
    let rows = ticks.ts_event.iter().zip(&ticks.key);
    hashes.extend(rows.map(|(&ts, &key)| mix(keys[key as usize], ts as u64)));
    for column in &ticks.values {
        match &column.nulls {
            None => {
                for (hash, &value) in hashes.iter_mut().zip(&column.values) {
                    *hash = mix(*hash, value as u64);
                }
            }
            Some(nulls) => {
                for (row, (hash, &value)) in hashes.iter_mut().zip(&column.values).enumerate() {
                    let null = u64::from(nulls.is_null(row));
                    *hash = mix(hash.wrapping_add(null), value as u64);
                }
            }
        }
    }
}

fn bytes(bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(bytes.len() as u64, |hash, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mix(hash, u64::from_le_bytes(word))
    })
}

/// Multiplies to 128 bits and folds: every input bit reaches every output bit. The product of two
/// 64-bit values fits 128 bits.
fn mix(hash: u64, word: u64) -> u64 {
    let product =
        u128::from(hash ^ 0x9E37_79B9_7F4A_7C15) * u128::from(word ^ 0xE703_7ED1_A0B4_28DB);
    (product as u64 ^ (product >> 64) as u64).wrapping_add(hash.rotate_left(23))
}
