//! Windows that no more ticks can reach, as their values: less than half of what their states take.

use std::ops::Range;

use isotick_model::results::Value;

use crate::hash::Fields;

/// Finished windows of some keys, ascending by start per key.
#[derive(Debug)]
pub(crate) struct Finished {
    columns: usize,
    keys: Vec<(u32, Range<usize>)>,
    starts: Vec<i64>,
    /// A word per value.
    words: Vec<u64>,
    /// What the word of each value is.
    kinds: Vec<Kind>,
    /// The integers that a word cannot hold.
    wide: Vec<i128>,
}

/// What the word of a value is.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
enum Kind {
    Null,
    /// Of 64 bits, with a sign.
    Integer,
    /// Its place among the wide ones.
    Wide,
    Float,
}

impl Finished {
    /// None yet; room for so many windows of so many values each.
    pub(crate) fn with_capacity(columns: usize, windows: usize) -> Self {
        Self {
            columns,
            keys: Vec::new(),
            starts: Vec::with_capacity(windows),
            words: Vec::with_capacity(columns * windows),
            kinds: Vec::with_capacity(columns * windows),
            wide: Vec::new(),
        }
    }

    /// Adds a window, whose values are to follow. Those of one key come one after another.
    pub(crate) fn add(&mut self, key: u32, start: i64) {
        let row = self.starts.len();
        debug_assert_eq!(self.words.len(), row * self.columns);
        match self.keys.last_mut() {
            Some((last, rows)) if *last == key => {
                debug_assert!(self.starts[row - 1] < start);
                rows.end = row + 1;
            }
            _ => self.keys.push((key, row..row + 1)),
        }
        self.starts.push(start);
    }

    /// Adds the next value of the window added last.
    #[inline]
    pub(crate) fn add_value(&mut self, value: Value) {
        let (kind, word) = match value {
            Value::Null => (Kind::Null, 0),
            Value::Float(float) => (Kind::Float, float.to_bits()),
            Value::Integer(integer) => match i64::try_from(integer) {
                Ok(integer) => (Kind::Integer, integer.cast_unsigned()),
                Err(_) => {
                    self.wide.push(integer);
                    (Kind::Wide, self.wide.len() as u64 - 1)
                }
            },
        };
        self.kinds.push(kind);
        self.words.push(word);
    }

    /// Gives back the room for windows that did not come, where those are most.
    pub(crate) fn give_back(&mut self) {
        if 2 * self.starts.len() < self.starts.capacity() {
            self.starts.shrink_to_fit();
            self.words.shrink_to_fit();
            self.kinds.shrink_to_fit();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Each key with its rows.
    pub(crate) fn keys(&self) -> &[(u32, Range<usize>)] {
        &self.keys
    }

    pub(crate) fn start(&self, row: usize) -> i64 {
        self.starts[row]
    }

    /// The starts of some windows.
    pub(crate) fn starts(&self, windows: Range<usize>) -> &[i64] {
        &self.starts[windows]
    }

    /// Values of a window.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// Writes a window's values.
    #[inline]
    pub(crate) fn put(&self, window: usize, fields: &mut Fields<'_>) {
        let values = window * self.columns..(window + 1) * self.columns;
        for (kind, &word) in self.kinds[values.clone()].iter().zip(&self.words[values]) {
            match kind {
                Kind::Null => fields.null(),
                Kind::Integer => fields.integer(word.cast_signed().into()),
                Kind::Wide => fields.integer(self.wide[word as usize]),
                Kind::Float => fields.float(f64::from_bits(word)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use isotick_model::Key;
    use isotick_model::results::WindowRow;

    use super::*;
    use crate::hash::EncodedRows;

    #[test]
    fn values_come_back_as_they_were() {
        let edges = [i128::MIN, i64::MIN.into(), -1, 0, i64::MAX.into(), i128::MAX];
        let rows: Vec<Vec<Value>> = edges
            .into_iter()
            .map(|edge| vec![Value::Integer(edge), Value::Null, Value::Float(edge as f64)])
            .collect();
        let mut finished = Finished::with_capacity(3, 0);
        for (at, values) in rows.iter().enumerate() {
            finished.add(at as u32 / 4, at as i64);
            values.iter().for_each(|value| finished.add_value(*value));
        }
        assert_eq!(finished.keys(), [(0, 0..4), (1, 4..6)]);
        finished.starts.reserve(100);
        finished.give_back();
        assert!(finished.starts.capacity() < 50, "there is room for 6 and a few more");
        let key = |code| Key::from_components([["a", "b"][code]]);
        let mut encoded = EncodedRows::new(3);
        for (code, windows) in finished.keys().to_vec() {
            encoded.push_finished(&key(code as usize), &finished, windows, |start| start + 1);
        }
        let found = encoded.rows();
        assert_eq!(found.len(), rows.len());
        for (at, (found, values)) in found.into_iter().zip(rows).enumerate() {
            let start = at as i64;
            let version = 0;
            let (key, window_start, window_end) = (key(at / 4), start, start + 1);
            let expected = WindowRow { key, window_start, window_end, version, values };
            assert_eq!(found, expected);
        }
    }
}
