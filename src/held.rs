//! Which rows of a publisher a data folder holds, and with what content.
//!
//! Rows come in the order of their sequence, so what the folder holds is compared a stretch of
//! sequences at a time: memory is bounded whatever the folder holds. Row groups are left out by
//! their statistics, and by the publishers that they name: for a publisher that the folder does
//! not know, and behind the rows that it holds of one, next to nothing is read.

use std::ops::Range;

use anyhow::Result;
use isotick_ingest::sequencer::content_hashes;
use isotick_model::{PublisherId, StreamSchema, Ticks};
use isotick_storage::{ALL_TIME, Columns, LogRecord, Part, Snapshot};

/// Sequences that are looked at together: 16 bytes each where they are held.
const STRETCH_ROWS: u64 = 1 << 23;

/// The ticks of one publisher of one stream.
pub struct Held {
    publisher: PublisherId,
    /// Row groups that have rows of it.
    parts: Vec<Part>,
    /// The same of what only the log holds, by sequence, each with a hash of its content.
    tail: Vec<(u64, u64)>,
    stretch_rows: u64,
    /// The sequences whose rows are in memory.
    stretch: Range<u64>,
    rows: Vec<(u64, u64)>,
}

impl Held {
    /// Looks for a publisher's rows from a sequence on. Without a folder there are none.
    pub fn of(
        snapshot: Option<&Snapshot>,
        schema: &StreamSchema,
        publisher: &PublisherId,
        from: u64,
    ) -> Result<Self> {
        let mut held = Self {
            publisher: publisher.clone(),
            parts: Vec::new(),
            tail: Vec::new(),
            stretch_rows: STRETCH_ROWS,
            stretch: 0..0,
            rows: Vec::new(),
        };
        let Some(snapshot) = snapshot else { return Ok(held) };
        for part in snapshot.ticks(schema, &Columns::all(schema), ALL_TIME)? {
            if part.holds(publisher, &(from..u64::MAX))? {
                held.parts.push(part);
            }
        }
        for record in snapshot.log()? {
            if let (_, LogRecord::Ticks { stream, ticks, .. }) = record?
                && stream == schema.name
            {
                add(&mut held.tail, &ticks, publisher, &(from..u64::MAX));
            }
        }
        held.tail.sort_unstable();
        Ok(held)
    }

    /// The content hash of a row that is held. Sequences are asked for in ascending order.
    pub fn content(&mut self, sequence: u64) -> Result<Option<u64>> {
        let find = |rows: &[(u64, u64)]| {
            let at = rows.binary_search_by_key(&sequence, |(held, _)| *held).ok()?;
            Some(rows[at].1)
        };
        if let Some(content) = find(&self.tail) {
            return Ok(Some(content));
        }
        if self.parts.is_empty() {
            return Ok(None);
        }
        if !self.stretch.contains(&sequence) {
            self.load(sequence)?;
        }
        Ok(find(&self.rows))
    }

    /// Brings the rows from a sequence on into memory.
    fn load(&mut self, from: u64) -> Result<()> {
        // Where all there is fits, nothing is read twice.
        let most = self.parts.iter().map(|part| part.rows() as u64).sum::<u64>();
        let to = match most <= self.stretch_rows {
            true => u64::MAX,
            false => from.saturating_add(self.stretch_rows),
        };
        self.stretch = from..to;
        self.rows.clear();
        for part in &self.parts {
            if !part.holds(&self.publisher, &self.stretch)? {
                continue;
            }
            for ticks in part.read()? {
                add(&mut self.rows, &ticks?, &self.publisher, &self.stretch);
            }
        }
        self.rows.sort_unstable();
        Ok(())
    }
}

/// Adds the rows of a publisher with these sequences.
fn add(rows: &mut Vec<(u64, u64)>, ticks: &Ticks, publisher: &PublisherId, sequences: &Range<u64>) {
    if !ticks.publishers.contains(publisher) {
        return;
    }
    let hashes = content_hashes(ticks);
    let of = (0..ticks.len()).filter(|&row| {
        sequences.contains(&ticks.sequence[row]) && ticks.publisher_of(row) == publisher
    });
    rows.extend(of.map(|row| (ticks.sequence[row], hashes[row])));
}

#[cfg(test)]
mod tests {
    use isotick_model::{Column, Inexact, Key, LogPosition, Scale, ValueColumn};
    use isotick_storage::Store;

    use super::*;

    fn ticks(name: &str, sequences: Range<u64>, price: i64) -> Ticks {
        let rows = (sequences.end - sequences.start) as usize;
        Ticks {
            ts_event: sequences.clone().map(|sequence| sequence as i64 % 97).collect(),
            publishers: vec![PublisherId::new(name).unwrap()],
            publisher: Vec::new().into(),
            keys: vec![Key::from_components(["A"]), Key::from_components(["B"])].into(),
            key: sequences.clone().map(|sequence| sequence as u32 % 2).collect(),
            values: vec![ValueColumn { values: vec![price; rows].into(), nulls: None }],
            sequence: sequences.collect(),
            seen: None,
        }
    }

    #[test]
    fn what_is_held_is_found_in_stretches_of_any_length() {
        let schema = StreamSchema {
            name: "trades".into(),
            time: "ts".into(),
            keys: vec!["symbol".into()],
            columns: vec![Column {
                name: "price".into(),
                scale: Scale::new(2).unwrap(),
                min: i64::MIN,
                max: i64::MAX,
                optional: false,
            }],
            inexact: Inexact::Reject,
            keys_allowed: None,
            horizon_ns: None,
            retention: Default::default(),
            codec: Default::default(),
        };
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), "test").unwrap();
        let pieces = [
            vec![ticks("a", 0..3_000, 1), ticks("b", 0..5_000, 2)],
            vec![ticks("b", 5_000..6_000, 2), ticks("c", 0..10, 3)],
            vec![ticks("a", 7_000..7_500, 4)],
        ];
        for (at, batches) in (0..).zip(&pieces) {
            let mut commit = store.begin();
            commit.add_ticks(&schema, batches, LogPosition(at)..LogPosition(at + 1)).unwrap();
            commit.cover(LogPosition(at + 1), []);
            commit.finish().unwrap();
        }
        let snapshot = store.snapshot();
        let one = |name: &str, sequence: u64, price: i64| {
            content_hashes(&ticks(name, sequence..sequence + 1, price))[0]
        };
        for stretch_rows in [1, 100, 4_096, u64::MAX] {
            for from in [0, 2_990] {
                let publisher = PublisherId::new("a").unwrap();
                let mut held = Held::of(Some(&snapshot), &schema, &publisher, from).unwrap();
                held.stretch_rows = stretch_rows;
                for sequence in (from.max(2_990)..3_010).chain(6_998..7_010) {
                    let expected = match sequence {
                        0..3_000 => Some(one("a", sequence, 1)),
                        7_000..7_500 => Some(one("a", sequence, 4)),
                        _ => None,
                    };
                    let found = held.content(sequence).unwrap();
                    assert_eq!(found, expected, "{sequence} in stretches of {stretch_rows}");
                }
            }
        }
        let stranger = PublisherId::new("ab").unwrap();
        let held = Held::of(Some(&snapshot), &schema, &stranger, 0).unwrap();
        assert!(held.parts.is_empty(), "between two that are known, and not there");
        let known = PublisherId::new("b").unwrap();
        let held = Held::of(Some(&snapshot), &schema, &known, 6_000).unwrap();
        assert!(held.parts.is_empty(), "behind the last row");
    }
}
