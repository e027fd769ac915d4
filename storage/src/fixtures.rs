//! Ticks for tests, and rows as plain values to compare.

use arrow_buffer::NullBuffer;
use isotick_model::ticks::ON_TIME;
use isotick_model::{Column, Inexact, Key, PublisherId, Scale, StreamSchema, Ticks, ValueColumn};

/// `(key, ts_event, publisher, sequence, values, seen)`: sorts in the order of history.
pub type Row = (Key, i64, PublisherId, u64, Vec<Option<i64>>, i64);

/// Two value columns: `price` within decimal bounds, `size` unbounded and optional.
pub fn schema(keys: &[&str]) -> StreamSchema {
    let column = |name: &str, scale, bound: i64, optional| Column {
        name: name.to_owned(),
        scale: Scale::new(scale).unwrap(),
        min: -bound,
        max: bound,
        optional,
    };
    StreamSchema {
        name: "trades".to_owned(),
        time: "ts".to_owned(),
        keys: keys.iter().map(|&key| key.to_owned()).collect(),
        columns: vec![
            column("price", 4, 999_999_999_999_999_999, false),
            column("size", 0, i64::MAX, true),
        ],
        inexact: Inexact::Reject,
        keys_allowed: None,
        horizon_ns: None,
        retention: Default::default(),
        codec: Default::default(),
    }
}

pub fn publisher(name: &str) -> PublisherId {
    PublisherId::new(name).unwrap()
}

/// A small generator with a fixed stream per seed (SplitMix64).
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// Ticks of one publisher over a day around the epoch: negative times, nulls, extremes, late and
/// on-time rows, a key table with unused entries.
pub fn ticks(schema: &StreamSchema, name: &str, first: u64, rows: u64, seed: u64) -> Ticks {
    let mut random = Random(seed);
    let key = |code: usize| {
        Key::from_components(schema.keys.iter().map(|name| format!("{name}\0{}", code % 7)))
    };
    let keys: Vec<Key> = match schema.keys.len() {
        0 => vec![Key::empty()],
        _ => (0..7).map(key).collect(),
    };
    let extremes = [i64::MIN + 1, -1, 0, 1, i64::MAX];
    let ts =
        |random: &mut Random| random.below(86_400_000_000_000).cast_signed() - 43_200_000_000_000;
    let valid: Vec<bool> = (0..rows).map(|_| random.below(4) > 0).collect();
    let size = |&valid: &bool| match valid {
        true => extremes[random.below(5) as usize],
        false => 0,
    };
    let sizes: Vec<i64> = valid.iter().map(size).collect();
    let mut random = Random(seed + 1);
    Ticks {
        ts_event: (0..rows).map(|_| ts(&mut random)).collect(),
        sequence: (first..first + rows).collect(),
        publishers: vec![publisher(name)],
        publisher: Vec::new().into(),
        key: (0..rows).map(|_| random.below(keys.len().min(5) as u64) as u32).collect(),
        keys: keys.into(),
        values: vec![
            ValueColumn {
                values: (0..rows)
                    .map(|_| {
                        random.below(1_999_999_999_999_999_999).cast_signed()
                            - 999_999_999_999_999_999
                    })
                    .collect(),
                nulls: None,
            },
            ValueColumn { values: sizes.into(), nulls: Some(NullBuffer::from(valid)) },
        ],
        seen: (seed % 2 == 1).then(|| {
            (0..rows)
                .map(|row| if row % 3 == 0 { random.next().cast_signed() } else { ON_TIME })
                .collect()
        }),
    }
}

pub fn rows(ticks: &Ticks) -> Vec<Row> {
    let row = |row| {
        (
            ticks.key_of(row).clone(),
            ticks.ts_event[row],
            ticks.publisher_of(row).clone(),
            ticks.sequence[row],
            ticks.values.iter().map(|column| column.get(row)).collect(),
            ticks.seen_of(row),
        )
    };
    for column in ticks.values.iter().filter(|column| !column.values.is_empty()) {
        let null_values = (0..ticks.len()).filter(|&row| column.get(row).is_none());
        assert!(null_values.map(|row| column.values[row]).all(|value| value == 0));
    }
    (0..ticks.len()).map(row).collect()
}
