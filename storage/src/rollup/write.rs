//! States as the columns of a file.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, TimeUnit};
use isotick_model::{Key, StreamSchema};

use super::{RollupBase, StatesFile, StoredStates};
use crate::error::{Error, Result};
use crate::folder::DataFolder;
use crate::objects::StagedObject;
use crate::parquet_file::{self, Column, RowGroup, Run, entry, sorted};

/// States of a row group, about: a few megabytes of words.
const ROW_GROUP_STATES: usize = 1 << 15;
/// States of a page.
const PAGE_STATES: usize = 1 << 12;

/// Writes states under a temporary name. They come in any number of batches, ascending by key and
/// start over all of them.
///
/// # Errors
///
/// Those of the batches; [`Error::Damaged`] for `of`, the file that they were made from, when they
/// do not ascend.
pub(super) fn stage(
    folder: &DataFolder,
    schema: &StreamSchema,
    base: &RollupBase,
    relative: String,
    of: &str,
    states: impl Iterator<Item = Result<StoredStates>>,
) -> Result<(StagedObject, StatesFile)> {
    folder.assert_writer();
    let unordered = || {
        let what = "its rows are not in the order of history".to_owned();
        Error::Damaged { path: folder.objects().path_of(of), what }
    };
    let (mut states, mut last, mut ticks, mut ended) = (states, None, 0, false);
    let groups = std::iter::from_fn(|| {
        let mut group = Group::new(schema, base);
        while !ended && group.start.len() < ROW_GROUP_STATES {
            let failed = match states.next() {
                Some(Ok(batch)) if follows(&mut last, &batch) => {
                    ticks += group.push(&batch, base);
                    continue;
                }
                Some(Ok(_)) => Some(unordered()),
                Some(Err(error)) => Some(error),
                None => None,
            };
            ended = true;
            if let Some(error) = failed {
                return Some(Err(error));
            }
        }
        (!group.start.is_empty()).then_some(Ok(group))
    });
    let (staged, file) = parquet_file::stage_columns(
        folder.objects(),
        relative,
        Arc::new(arrow_schema(schema, base)),
        sorted(schema, PAGE_STATES),
        vec![
            entry("isotick.stream", &schema.name),
            entry("isotick.rollup", serde_json::to_string(base).expect("a base is plain data")),
        ],
        groups,
        Group::columns,
    )?;
    Ok((staged, StatesFile { file, ticks }))
}

/// Whether states ascend, also over the batches before.
fn follows(last: &mut Option<(Key, i64)>, states: &StoredStates) -> bool {
    for (&code, &start) in states.key.iter().zip(&states.start) {
        let key = &states.keys[code as usize];
        match last {
            Some((known, before)) if known == key => {
                if *before >= start {
                    return false;
                }
                *before = start;
            }
            Some((known, _)) if *known > *key => return false,
            _ => *last = Some((key.clone(), start)),
        }
    }
    true
}

/// `window_start`, the key columns, then the words.
pub(super) fn arrow_schema(schema: &StreamSchema, base: &RollupBase) -> Schema {
    let time = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
    let words = base.word_kinds().into_iter().zip(base.word_names());
    let taken = |name: &str| schema.keys.iter().any(|key| key == name);
    let free = |mut name: String| {
        while taken(&name) {
            name.insert_str(0, "isotick_");
        }
        name
    };
    let mut fields = vec![Field::new(free("window_start".to_owned()), time, false)];
    fields.extend(schema.keys.iter().map(|key| Field::new(key, DataType::Utf8, false)));
    fields.extend(words.map(|((is_publisher, _), name)| {
        Field::new(free(name), if is_publisher { DataType::Utf8 } else { DataType::Int64 }, false)
    }));
    Schema::new(fields)
}

/// States of a row group.
struct Group {
    /// Per key column, texts and for how many rows.
    keys: Vec<Vec<(String, usize)>>,
    start: Vec<i64>,
    words: Vec<Words>,
}

/// A word of each state.
enum Words {
    Numbers(Vec<i64>),
    /// Publishers' names, and for how many rows; no text where there is none.
    Publishers(Vec<(String, usize)>),
}

impl Group {
    fn new(schema: &StreamSchema, base: &RollupBase) -> Self {
        let words = base.word_kinds().into_iter().map(|(is_publisher, _)| match is_publisher {
            true => Words::Publishers(Vec::new()),
            false => Words::Numbers(Vec::new()),
        });
        let keys = vec![Vec::new(); schema.keys.len()];
        Self { keys, start: Vec::new(), words: words.collect() }
    }

    /// Adds states; how many ticks are in them.
    fn push(&mut self, states: &StoredStates, base: &RollupBase) -> u64 {
        for of_key in states.key.chunk_by(|a, b| a == b) {
            let texts = states.keys[of_key[0] as usize].components();
            for (runs, text) in self.keys.iter_mut().zip(texts) {
                add(runs, &text, of_key.len());
            }
        }
        self.start.extend_from_slice(&states.start);
        let stride = base.words();
        let states_words = || states.words.chunks_exact(stride);
        let kinds = base.word_kinds();
        for (word, (to, (_, first))) in self.words.iter_mut().zip(kinds).enumerate() {
            match to {
                Words::Numbers(to) => {
                    to.extend(states_words().map(|state| state[word].cast_signed()));
                }
                Words::Publishers(to) => {
                    for state in states_words() {
                        let name = match state[first] {
                            0 => "",
                            _ => states.publishers[state[word] as usize].as_str(),
                        };
                        add(to, name, 1);
                    }
                }
            }
        }
        states_words().map(|state| state[0]).sum()
    }

    fn columns(&self) -> RowGroup<'_> {
        let integers =
            |values| Column::Integers { values, nulls: None, optional: false, unsigned: false };
        let mut columns = vec![integers(&self.start)];
        columns.extend(self.keys.iter().map(|runs| texts(runs)));
        columns.extend(self.words.iter().map(|words| match words {
            Words::Numbers(values) => integers(values),
            Words::Publishers(runs) => texts(runs),
        }));
        RowGroup { rows: self.start.len(), columns }
    }
}

fn texts(runs: &[(String, usize)]) -> Column<'_> {
    Column::Texts(runs.iter().map(|(text, rows)| Run { text, rows: *rows }).collect())
}

/// Adds rows of a text behind runs.
fn add(runs: &mut Vec<(String, usize)>, text: &str, rows: usize) {
    match runs.last_mut() {
        Some((last, count)) if last == text => *count += rows,
        _ => runs.push((text.to_owned(), rows)),
    }
}
