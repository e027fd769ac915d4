//! Published windows in the order of the record, and as the columns of its row groups.

use std::collections::HashMap;

use arrow_buffer::{BooleanBuffer, NullBuffer};
use isotick_model::Key;
use isotick_model::results::{ResultSchema, Value};
use isotick_model::view::OutputType;

use super::{RecordedWindow, WIDE_DIGITS, value_type};
use crate::parquet_file::{Column, RowGroup, Run};

/// Windows by (key, window start, version). Keys are few: they are ranked first, so that windows
/// are placed without comparing any.
pub(super) fn sorted(windows: &[RecordedWindow]) -> Vec<&RecordedWindow> {
    // Windows of one view share their keys' bytes, so most are told apart by where those stand.
    let mut codes: HashMap<(*const u8, usize), usize> = HashMap::new();
    let mut keys: Vec<&Key> = Vec::new();
    let mut of_window = Vec::with_capacity(windows.len());
    for window in windows {
        let key = &window.row.key;
        let place = (key.as_bytes().as_ptr(), key.as_bytes().len());
        of_window.push(*codes.entry(place).or_insert_with(|| {
            keys.push(key);
            keys.len() - 1
        }));
    }
    let mut by_key: Vec<usize> = (0..keys.len()).collect();
    by_key.sort_unstable_by_key(|&code| keys[code]);
    let mut ranks = vec![0; keys.len()];
    let mut distinct = 0;
    for equal in by_key.chunk_by(|&a, &b| keys[a] == keys[b]) {
        equal.iter().for_each(|&code| ranks[code] = distinct);
        distinct += 1;
    }
    let mut starts = vec![0; distinct + 1];
    of_window.iter().for_each(|&code| starts[ranks[code] + 1] += 1);
    for rank in 0..distinct {
        starts[rank + 1] += starts[rank];
    }
    let mut sorted: Vec<&RecordedWindow> = windows.iter().collect();
    let mut next = starts.clone();
    for (window, &code) in windows.iter().zip(&of_window) {
        let next = &mut next[ranks[code]];
        sorted[*next] = window;
        *next += 1;
    }
    for range in starts.windows(2) {
        // Windows mostly come in this order: then sorting is a look at each.
        sorted[range[0]..range[1]]
            .sort_by_key(|window| (window.row.window_start, window.row.version));
    }
    sorted
}

/// Windows of the record, column by column.
pub(super) struct Columns<'a> {
    rows: usize,
    /// Per key column, texts and how many windows in a row have each.
    keys: Vec<Vec<(String, usize)>>,
    window_start: Vec<i64>,
    window_end: Vec<i64>,
    version: Vec<u32>,
    reason: Vec<(&'a str, usize)>,
    values: Vec<(Values, NullBuffer)>,
}

/// Values of one aggregate; those of null windows are 0.
enum Values {
    Integers(Vec<i64>),
    Decimals { values: Vec<i128>, width: usize },
    Floats(Vec<f64>),
}

impl Values {
    fn of(output: OutputType, rows: usize) -> Self {
        use arrow_schema::DataType;
        /// What holds a decimal of 19 digits, and what one of 38.
        const WIDTHS: [usize; 2] = [9, 16];
        match value_type(output) {
            DataType::Int64 => Self::Integers(Vec::with_capacity(rows)),
            DataType::Float64 => Self::Floats(Vec::with_capacity(rows)),
            DataType::Decimal128(digits, _) => Self::Decimals {
                values: Vec::with_capacity(rows),
                width: WIDTHS[usize::from(digits == WIDE_DIGITS)],
            },
            other => unreachable!("no aggregate is stored as {other}"),
        }
    }

    /// # Panics
    ///
    /// If the value is not of the column's type: it comes from the function that also gave the
    /// type.
    fn push(&mut self, value: Value) {
        match (self, value) {
            (Self::Integers(values), Value::Null) => values.push(0),
            (Self::Integers(values), Value::Integer(value)) => {
                values.push(i64::try_from(value).expect("the output type holds every value"));
            }
            (Self::Decimals { values, .. }, Value::Null) => values.push(0),
            (Self::Decimals { values, .. }, Value::Integer(value)) => values.push(value),
            (Self::Floats(values), Value::Null) => values.push(0.0),
            (Self::Floats(values), Value::Float(value)) => values.push(value),
            (Self::Floats(_), Value::Integer(_)) => panic!("an aggregate is a quotient"),
            (_, Value::Float(_)) => panic!("an aggregate is an integer, not a quotient"),
        }
    }
}

impl<'a> Columns<'a> {
    /// Windows that are sorted.
    pub(super) fn of(schema: &ResultSchema, windows: &[&'a RecordedWindow]) -> Self {
        let rows = windows.len();
        let mut keys = vec![Vec::new(); schema.keys.len()];
        for of_key in windows.chunk_by(|a, b| a.row.key == b.row.key) {
            for (runs, text) in keys.iter_mut().zip(of_key[0].row.key.components()) {
                runs.push((text, of_key.len()));
            }
        }
        let reason = windows.chunk_by(|a, b| a.reason == b.reason);
        let mut values: Vec<_> = schema
            .columns
            .iter()
            .map(|&(_, output)| (Values::of(output, rows), vec![true; rows]))
            .collect();
        // Window by window: each has its values in a place of their own.
        for (row, window) in windows.iter().enumerate() {
            for ((values, valid), &value) in values.iter_mut().zip(&window.row.values) {
                valid[row] = value != Value::Null;
                values.push(value);
            }
        }
        let nulls = |valid: Vec<bool>| NullBuffer::new(BooleanBuffer::from(valid));
        Self {
            rows,
            keys,
            window_start: windows.iter().map(|window| window.row.window_start).collect(),
            window_end: windows.iter().map(|window| window.row.window_end).collect(),
            version: windows.iter().map(|window| window.row.version).collect(),
            reason: reason.map(|run| (&*run[0].reason, run.len())).collect(),
            values: values.into_iter().map(|(values, valid)| (values, nulls(valid))).collect(),
        }
    }

    /// As the record's file has them.
    pub(super) fn row_group(&self) -> RowGroup<'_> {
        let times =
            |values| Column::Integers { values, nulls: None, optional: false, unsigned: false };
        let mut columns = Vec::new();
        for runs in &self.keys {
            let runs = runs.iter().map(|(text, rows)| Run { text, rows: *rows });
            columns.push(Column::Texts(runs.collect()));
        }
        columns.push(times(&self.window_start));
        columns.push(times(&self.window_end));
        columns.push(Column::Small(&self.version));
        columns.push(Column::Texts(
            self.reason.iter().map(|&(text, rows)| Run { text, rows }).collect(),
        ));
        for (values, nulls) in &self.values {
            columns.push(match values {
                Values::Integers(values) => {
                    Column::Integers { values, nulls: Some(nulls), optional: true, unsigned: false }
                }
                Values::Decimals { values, width } => {
                    Column::Decimals { values, nulls, width: *width }
                }
                Values::Floats(values) => Column::Floats { values, nulls },
            });
        }
        RowGroup { rows: self.rows, columns }
    }
}
