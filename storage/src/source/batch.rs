//! A batch on its way: rows that were refused, keys that were met, and what is left as ticks.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_buffer::ScalarBuffer;
use isotick_model::view::Tumbling;
use isotick_model::{Key, PublisherId, RejectReason, Rejected, StreamSchema, Ticks, ValueColumn};

use super::{RejectedRow, SourceBatch};

/// The longest piece of a bad field that a message shows, in characters.
const SHOWN_CHARS: usize = 80;

/// Why a row is refused: the reason and a readable text.
pub(super) type Refusal = (RejectReason, String);

/// The refused rows of a batch. The first refusal of a row counts; columns are looked at in one
/// order everywhere (the row's shape, time, keys, values as declared), so every path gives a row
/// the same reason.
#[derive(Default)]
pub(super) struct Refusals {
    marked: Vec<bool>,
    rows: Vec<(u32, RejectReason, String, String)>,
}

impl Refusals {
    /// Whether no row is refused.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Refuses a row of a batch of `len` rows.
    pub(super) fn refuse(&mut self, row: usize, len: usize, column: &str, refusal: Refusal) {
        if self.marked.is_empty() {
            self.marked = vec![false; len];
        }
        if !std::mem::replace(&mut self.marked[row], true) {
            self.rows.push((row as u32, refusal.0, column.to_string(), refusal.1));
        }
    }

    /// Adds a refusal to rows that are pushed one after another, each refused at most once.
    pub(super) fn push(&mut self, row: usize, column: &str, refusal: Refusal) {
        self.rows.push((row as u32, refusal.0, column.to_string(), refusal.1));
    }
}

/// A field's text as a message shows it: quoted, and cut when long.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// The times for which every one of the windows is representable, as an inclusive range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimeRange {
    pub(super) min: i64,
    pub(super) max: i64,
}

impl TimeRange {
    pub(super) fn of(windows: &[Tumbling]) -> Self {
        let (mut min, mut max) = (i128::from(i64::MIN), i128::from(i64::MAX));
        for window in windows {
            let (width, origin) = (i128::from(window.width_ns), i128::from(window.origin_ns));
            let floor = |ts: i128| origin + (ts - origin).div_euclid(width) * width;
            // The first start at or after the least time, and the end of the last whole window.
            min = min.max(floor(i128::from(i64::MIN) + width - 1));
            max = max.min(floor(i128::from(i64::MAX)) - 1);
        }
        // An empty range stays empty when clamped: no time lies above i64::MAX.
        if min > max {
            return Self { min: i64::MAX, max: i64::MIN };
        }
        Self { min: min as i64, max: max as i64 }
    }

    pub(super) fn holds(self, ts: i64) -> bool {
        (self.min..=self.max).contains(&ts)
    }

    pub(super) fn refusal(ts: i64) -> Refusal {
        (RejectReason::TimeOutOfRange, format!("{ts} ns lies in no representable window"))
    }
}

/// The texts of one key column: a code per row and the text behind each code.
pub(super) struct KeyTexts {
    /// Codes; rows without a text have been refused and hold any code.
    pub(super) codes: Vec<u32>,
    pub(super) texts: Vec<String>,
}

/// Brings the key columns' texts together: a code per row and the key behind each code. Rows
/// whose key is too long are refused.
pub(super) fn keys_of(
    rows: usize,
    names: &[String],
    columns: &[KeyTexts],
    refusals: &mut Refusals,
) -> (Vec<u32>, Vec<Key>) {
    let Some(first) = columns.first() else {
        return (vec![0; rows], vec![Key::empty()]);
    };
    let mut codes = first.codes.clone();
    let mut tuples: Vec<Vec<u32>> = (0..first.texts.len() as u32).map(|code| vec![code]).collect();
    for column in &columns[1..] {
        let mut joined: HashMap<(u32, u32), u32> = HashMap::new();
        let mut longer: Vec<Vec<u32>> = Vec::new();
        let mut previous = None;
        for (code, &part) in codes.iter_mut().zip(&column.codes) {
            let pair = (*code, part);
            *code = match previous {
                Some((same, code)) if same == pair => code,
                _ => *joined.entry(pair).or_insert_with(|| {
                    // A refused row's code may name no text.
                    let mut tuple = tuples.get(pair.0 as usize).cloned().unwrap_or_default();
                    tuple.push(pair.1);
                    longer.push(tuple);
                    longer.len() as u32 - 1
                }),
            };
            previous = Some((pair, *code));
        }
        tuples = longer;
    }
    let mut too_long = Vec::new();
    let keys: Vec<Key> = tuples
        .iter()
        .enumerate()
        .map(|(code, tuple)| {
            let texts = tuple
                .iter()
                .zip(columns)
                .filter_map(|(&part, column)| column.texts.get(part as usize));
            let key = Key::from_components(texts);
            if key.as_bytes().len() > Key::LEN_MAX {
                too_long.push(code as u32);
            }
            key
        })
        .collect();
    if !too_long.is_empty() {
        for row in 0..rows {
            if too_long.contains(&codes[row]) {
                let len = keys[codes[row] as usize].as_bytes().len();
                let column = names.first().map_or("", String::as_str);
                refusals.refuse(row, rows, column, key_too_long(len));
            }
        }
    }
    (codes, keys)
}

/// Refuses rows whose key is not in the stream's closed set. To be called after whatever else is
/// wrong with keys, before values are looked at.
pub(super) fn refuse_unknown_keys(
    schema: &StreamSchema,
    codes: &[u32],
    keys: &[Key],
    refusals: &mut Refusals,
) {
    let Some(allowed) = &schema.keys_allowed else { return };
    let unknown: Vec<bool> = keys.iter().map(|key| !allowed.contains(key)).collect();
    if !unknown.contains(&true) {
        return;
    }
    let column = schema.keys.first().map_or("", String::as_str);
    for (row, &code) in codes.iter().enumerate() {
        // A refused row's code may name no key; it stays refused for its first reason.
        if unknown.get(code as usize) == Some(&true) {
            refusals.refuse(row, codes.len(), column, unknown_key(&keys[code as usize]));
        }
    }
}

pub(super) fn unknown_key(key: &Key) -> Refusal {
    let text = format!("the key {} is not among the stream's", shown(&key.to_string()));
    (RejectReason::UnknownKey, text)
}

pub(super) fn key_too_long(len: usize) -> Refusal {
    let text = format!("the key takes {len} bytes, at most {} are allowed", Key::LEN_MAX);
    (RejectReason::KeyTooLong, text)
}

/// The columns of all rows of a batch, refused ones included.
pub(super) struct Columns {
    pub(super) time: ScalarBuffer<i64>,
    pub(super) codes: ScalarBuffer<u32>,
    pub(super) keys: Arc<[Key]>,
    pub(super) values: Vec<ValueColumn>,
}

/// Parts a batch into ticks and refused rows. `ordinals` are the rows' places in the file; `lines`
/// is the text line of each row, or empty.
pub(super) fn finish(
    publisher: &PublisherId,
    ordinals: ScalarBuffer<u64>,
    columns: Columns,
    mut refusals: Refusals,
    lines: &[u64],
) -> SourceBatch {
    let rows = columns.time.len();
    let mut ticks = Ticks {
        ts_event: columns.time,
        sequence: ordinals.clone(),
        publishers: vec![publisher.clone()],
        publisher: Vec::new().into(),
        keys: columns.keys,
        key: columns.codes,
        values: columns.values,
        seen: None,
    };
    refusals.rows.sort_unstable_by_key(|refused| refused.0);
    if !refusals.rows.is_empty() {
        let mut refused = refusals.rows.iter().map(|refused| refused.0).peekable();
        let kept: Vec<u32> =
            (0..rows as u32).filter(|row| refused.next_if_eq(row).is_none()).collect();
        ticks = ticks.take(&kept);
        drop_unused_keys(&mut ticks);
    }
    for column in &mut ticks.values {
        column.nulls.take_if(|nulls| nulls.null_count() == 0);
    }
    let sequence = |row: u32| ordinals[row as usize];
    SourceBatch {
        ticks,
        rejected: refusals
            .rows
            .iter()
            .map(|&(row, reason, ..)| Rejected { sequence: sequence(row), reason })
            .collect(),
        details: refusals
            .rows
            .into_iter()
            .map(|(row, reason, column, text)| RejectedRow {
                row: sequence(row),
                line: lines.get(row as usize).copied(),
                reason,
                column,
                text,
            })
            .collect(),
        first_row: ordinals.first().copied().unwrap_or(0),
        rows,
        one_time: false,
    }
}

fn drop_unused_keys(ticks: &mut Ticks) {
    let mut used = vec![false; ticks.keys.len()];
    for &code in ticks.key.iter() {
        used[code as usize] = true;
    }
    let mut next = 0;
    let places: Vec<u32> = used
        .iter()
        .map(|&used| {
            next += u32::from(used);
            next.wrapping_sub(1)
        })
        .collect();
    ticks.key = ticks.key.iter().map(|&code| places[code as usize]).collect();
    let kept = used.iter().zip(ticks.keys.iter()).filter(|(used, _)| **used);
    ticks.keys = kept.map(|(_, key)| key.clone()).collect();
}
