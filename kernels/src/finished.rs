//! Windows that no more ticks can reach, as their values: less than half of what their states take.

use std::ops::Range;

use isotick_model::results::Value;

use crate::hash::{Fields, NULL_FIELD, float_field, integer_field};
use crate::lower::Lower;

/// Finished windows of some keys, ascending by start per key.
#[derive(Debug)]
pub(crate) struct Finished {
    keys: Vec<(u32, Range<usize>)>,
    starts: Vec<i64>,
    /// A word per value, window by window.
    words: Vec<u64>,
    /// Windows whose values are there.
    valued: usize,
    /// For each column.
    kinds: Vec<Kinds>,
    /// The integers that a word cannot hold.
    wide: Vec<i128>,
}

/// What the words of a column are.
#[derive(Clone, Debug)]
enum Kinds {
    /// All are the same, as nearly always.
    One(Kind),
    Each(Vec<Kind>),
}

/// What the word of a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
            keys: Vec::new(),
            starts: Vec::with_capacity(windows),
            words: Vec::with_capacity(columns * windows),
            valued: 0,
            kinds: vec![Kinds::One(Kind::Null); columns],
            wide: Vec::new(),
        }
    }

    /// Adds a window, whose values are to follow; its row. Those of one key come one after another.
    #[inline]
    pub(crate) fn add(&mut self, key: u32, start: i64) -> usize {
        let row = self.starts.len();
        match self.keys.last_mut() {
            Some((last, rows)) if *last == key => {
                debug_assert!(self.starts[row - 1] < start);
                rows.end = row + 1;
            }
            _ => self.keys.push((key, row..row + 1)),
        }
        self.starts.push(start);
        row
    }

    /// Puts the values of a window into its row.
    pub(crate) fn put_values(&mut self, row: usize, values: impl IntoIterator<Item = Value>) {
        self.make_room();
        let columns = self.columns();
        let words = &mut self.words[row * columns..][..columns];
        for ((kinds, word), value) in self.kinds.iter_mut().zip(words).zip(values) {
            let (kind, value) = in_word(value, &mut self.wide);
            *word = value;
            kinds.put(row, kind, self.valued, self.starts.len());
        }
        self.valued += 1;
    }

    /// The same for several rows, from their states: column by column. Quantiles are not in states.
    pub(crate) fn put_lowered<'a>(
        &mut self,
        lower: &Lower,
        rows: impl ExactSizeIterator<Item = usize> + Clone,
        states: impl ExactSizeIterator<Item = &'a [u64]> + Clone,
    ) {
        self.make_room();
        let (columns, all) = (self.columns(), self.starts.len());
        let mut put = Vec::with_capacity(rows.len());
        for (column, kinds) in self.kinds.iter_mut().enumerate() {
            let Self { words, wide, .. } = self;
            let mut put_word = |row: usize, (kind, word)| {
                words[row * columns + column] = word;
                kind
            };
            put.clear();
            let each = states.clone().zip(rows.clone());
            match lower.as_it_is(column) {
                Some((flag, value)) => put.extend(each.map(|(state, row)| {
                    let integer = (Kind::Integer, state[value]);
                    put_word(row, if state[flag] == 0 { (Kind::Null, 0) } else { integer })
                })),
                None => {
                    let finish = lower.finish(column);
                    put.extend(
                        each.map(|(state, row)| put_word(row, in_word(finish.value(state), wide))),
                    );
                }
            }
            if !kinds.are_all(put.iter().copied()) {
                for ((&kind, row), valued) in put.iter().zip(rows.clone()).zip(self.valued..) {
                    kinds.put(row, kind, valued, all);
                }
            }
        }
        self.valued += rows.len();
    }

    /// Room for the values of all windows that were added.
    fn make_room(&mut self) {
        self.words.resize(self.starts.len() * self.columns(), 0);
    }

    /// Gives back the room for windows that did not come, where those are most.
    pub(crate) fn give_back(&mut self) {
        if 2 * self.starts.len() < self.starts.capacity() {
            self.starts.shrink_to_fit();
            self.words.shrink_to_fit();
        }
    }

    /// Windows that were added.
    pub(crate) fn len(&self) -> usize {
        self.starts.len()
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
        self.kinds.len()
    }

    /// The bytes that [`Self::put`] writes, where they are as many for every window.
    pub(crate) fn values_bytes(&self) -> Option<usize> {
        let bytes = self.kinds.iter().map(|kinds| match kinds {
            Kinds::One(Kind::Null) => Some(NULL_FIELD.len()),
            Kinds::One(Kind::Integer) => Some(integer_field(0).len()),
            Kinds::One(Kind::Float) => Some(float_field(0.0).len()),
            Kinds::One(Kind::Wide) | Kinds::Each(_) => None,
        });
        bytes.sum()
    }

    /// Writes the values of some windows, where all have [as many bytes](Self::values_bytes): each
    /// window's from the same place on in its row.
    pub(crate) fn put_columns(
        &self,
        windows: Range<usize>,
        rows: &mut [u8],
        row_bytes: usize,
        mut place: usize,
    ) {
        let columns = self.columns();
        let words = &self.words[windows.start * columns..windows.end * columns];
        for (column, kinds) in self.kinds.iter().enumerate() {
            let words = words.iter().skip(column).step_by(columns);
            let rows = rows.chunks_exact_mut(row_bytes).map(|row| &mut row[place..]).zip(words);
            place += match kinds {
                Kinds::One(Kind::Integer) => {
                    put_all(rows, |word| integer_field(word.cast_signed().into()))
                }
                Kinds::One(Kind::Float) => put_all(rows, |word| float_field(f64::from_bits(word))),
                _ => put_all(rows, |_| NULL_FIELD),
            };
        }
    }

    /// Writes a window's values.
    #[inline]
    pub(crate) fn put(&self, window: usize, fields: &mut Fields<'_>) {
        let columns = self.columns();
        let words = &self.words[window * columns..(window + 1) * columns];
        for (kinds, &word) in self.kinds.iter().zip(words) {
            match kinds.of(window) {
                Kind::Null => fields.null(),
                Kind::Integer => fields.integer(word.cast_signed().into()),
                Kind::Wide => fields.integer(self.wide[word as usize]),
                Kind::Float => fields.float(f64::from_bits(word)),
            }
        }
    }
}

/// Writes a field at the beginning of each row; its bytes.
#[inline]
fn put_all<'a, const N: usize>(
    rows: impl Iterator<Item = (&'a mut [u8], &'a u64)>,
    field: impl Fn(u64) -> [u8; N],
) -> usize {
    rows.for_each(|(row, &word)| row[..N].copy_from_slice(&field(word)));
    N
}

/// A value's word and what that is.
#[inline]
fn in_word(value: Value, wide: &mut Vec<i128>) -> (Kind, u64) {
    match value {
        Value::Null => (Kind::Null, 0),
        Value::Float(float) => (Kind::Float, float.to_bits()),
        Value::Integer(integer) => match i64::try_from(integer) {
            Ok(integer) => (Kind::Integer, integer.cast_unsigned()),
            Err(_) => {
                wide.push(integer);
                (Kind::Wide, wide.len() as u64 - 1)
            }
        },
    }
}

impl Kinds {
    /// Whether these are what all are already.
    fn are_all(&self, mut kinds: impl Iterator<Item = Kind>) -> bool {
        matches!(self, Self::One(one) if kinds.all(|kind| kind == *one))
    }

    /// Puts that of a row; so many others have theirs, of so many in all.
    #[inline]
    fn put(&mut self, row: usize, kind: Kind, others: usize, rows: usize) {
        match self {
            Self::One(one) if *one == kind => {}
            Self::One(one) if others == 0 => *one = kind,
            Self::One(one) => {
                let mut each = vec![*one; rows];
                each[row] = kind;
                *self = Self::Each(each);
            }
            Self::Each(each) => {
                if each.len() < rows {
                    each.resize(rows, Kind::Null);
                }
                each[row] = kind;
            }
        }
    }

    #[inline]
    fn of(&self, window: usize) -> Kind {
        match self {
            Self::One(one) => *one,
            Self::Each(each) => each[window],
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
            let row = finished.add(at as u32 / 4, at as i64);
            finished.put_values(row, values.iter().copied());
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
    #[test]
    fn rows_of_one_length_are_encoded_as_any_others() {
        let row =
            |at: i64| [Value::Integer((at - 50).into()), Value::Null, Value::Float(at as f64)];
        let key = |at: i64| Key::from_components([["a", "bcd"][usize::from(at > 150)]]);
        let mut finished = Finished::with_capacity(3, 200);
        let mut expected = EncodedRows::new(3);
        for at in 0..200 {
            let place = finished.add(u32::from(at > 150), at);
            finished.put_values(place, row(at));
            expected.push(&key(at), at..at + 7, row(at).into_iter());
        }
        assert_eq!(finished.values_bytes(), Some(17 + 1 + 9));
        let mut encoded = EncodedRows::new(3);
        for (code, windows) in finished.keys().to_vec() {
            let key = key(if code == 0 { 0 } else { 199 });
            encoded.push_finished(&key, &finished, windows, |start| start + 7);
        }
        assert_eq!(encoded.bytes(), expected.bytes());
    }
}
