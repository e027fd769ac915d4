//! Reading states, row group by row group, and checking them.

use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampNanosecondType};
use arrow_array::{Array, ArrayRef, DictionaryArray, RecordBatch};
use arrow_buffer::ScalarBuffer;
use arrow_schema::{DataType, Field, Schema};
use isotick_model::view::Tumbling;
use isotick_model::{Key, KeySelection, PublisherId, StreamSchema};
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
use parquet::file::statistics::Statistics;

use super::write::arrow_schema;
use super::{RollupBase, StatesFile, StoredStates};
use crate::error::{Error, Result};
use crate::folder::DataFolder;
use crate::history::keys::{
    Chosen, KeyRuns, Table, codes, key_span, may_meet, tuples, window, zeros_u32,
};
use crate::manifest::HistoryFile;
use crate::parquet_file::{self, Stored};

/// States of a batch, at most: their words stay in the cache.
const BATCH_STATES: usize = 1 << 12;
/// So many files are kept open between planning and reading, at most.
const OPEN_FILES_MAX: usize = 256;
/// So many are opened together: in a store, each takes a request.
const OPENED_AT_ONCE: usize = 32;

/// A file of states to be read.
pub(crate) struct Wanted<'a> {
    /// The file of ticks that they stand for.
    pub of: &'a HistoryFile,
    /// The file.
    pub states: &'a StatesFile,
    /// The name of its base.
    pub id: &'a str,
    /// What is in it.
    pub base: &'a RollupBase,
    /// Which words of a state, in the order wanted, each once.
    pub words: &'a [usize],
}

/// A row group of a file of states. Parts are independent: read them in any order, on any thread.
#[derive(Clone, Debug)]
pub struct StatesPart {
    file: Arc<Open>,
    row_group: usize,
    rows: usize,
    /// States of other keys may be left out.
    keys: Arc<KeySelection>,
    times: RangeInclusive<i64>,
    key_span: Option<RangeInclusive<Key>>,
}

#[derive(Debug)]
struct Open {
    stored: Stored,
    keys: usize,
    id: String,
    words: Vec<usize>,
    of: String,
}

/// Plans the reading of files: parts hold the states whose windows have times in the range, and
/// perhaps some others, but for some whose keys are not selected.
///
/// # Errors
///
/// [`Error::StatesDamaged`], [`Error::Io`], [`Error::Parquet`], each naming the file.
pub(crate) fn plan(
    folder: &DataFolder,
    schema: &StreamSchema,
    wanted: &[Wanted<'_>],
    range: &RangeInclusive<i64>,
    keys: &KeySelection,
) -> Result<Vec<StatesPart>> {
    planned(folder, schema, wanted, range, keys).map_err(of_states)
}

fn planned(
    folder: &DataFolder,
    schema: &StreamSchema,
    wanted: &[Wanted<'_>],
    range: &RangeInclusive<i64>,
    keys: &KeySelection,
) -> Result<Vec<StatesPart>> {
    let keys = Arc::new(keys.clone());
    let keep_open = wanted.len() <= OPEN_FILES_MAX;
    let opened = wanted.chunks(OPENED_AT_ONCE).flat_map(|some| {
        let files: Vec<_> = some.iter().map(|wanted| &wanted.states.file).collect();
        some.iter().zip(folder.objects().open_all(&files))
    });
    let mut parts = Vec::new();
    for (wanted, opened) in opened {
        let stored = Stored::open(opened?, &wanted.states.file, keep_open, types)?;
        fits(&stored, schema, wanted.base)?;
        let file = Arc::new(Open {
            stored,
            keys: schema.keys.len(),
            id: wanted.id.to_owned(),
            words: wanted.words.to_vec(),
            of: wanted.of.file.path.clone(),
        });
        for (row_group, group) in file.stored.metadata().row_groups().iter().enumerate() {
            let starts = match group.column(0).statistics() {
                Some(Statistics::Int64(starts)) => starts.min_opt().zip(starts.max_opt()),
                _ => None,
            };
            let Some((&first, &last)) = starts else {
                return Err(file.stored.damaged("it does not say where its windows start"));
            };
            // The ticks in them are those of the file.
            let end = last.saturating_add(wanted.base.width_ns - 1);
            let times = first.max(wanted.of.ts_min)..=end.min(wanted.of.ts_max);
            let key_columns = (0..schema.keys.len()).zip(&group.columns()[1..]);
            let has_keys = key_columns.into_iter().all(|(key, of)| may_meet(&keys, key, of));
            if times.start() > range.end() || times.end() < range.start() || !has_keys {
                continue;
            }
            parts.push(StatesPart {
                file: file.clone(),
                row_group,
                rows: group.num_rows() as usize,
                keys: keys.clone(),
                times,
                key_span: match (group.columns(), schema.keys.len()) {
                    ([_, key, ..], 1) => key_span(key),
                    _ => None,
                },
            });
        }
    }
    Ok(parts)
}

/// What is wrong with a file of states, whose ticks are elsewhere.
fn of_states(error: Error) -> Error {
    match error {
        Error::Damaged { path, what } => Error::StatesDamaged { path, what },
        other => other,
    }
}

/// Texts by dictionary.
fn types(plain: &Schema) -> Schema {
    let fields = plain.fields().iter().map(|field| {
        let data_type = match field.data_type() {
            DataType::Utf8 => DataType::Dictionary(DataType::Int32.into(), DataType::Utf8.into()),
            other => other.clone(),
        };
        Field::new(field.name(), data_type, field.is_nullable())
    });
    Schema::new(fields.collect::<Vec<_>>())
}

/// Whether a file has the columns that its base says.
fn fits(stored: &Stored, schema: &StreamSchema, base: &RollupBase) -> Result<()> {
    let (found, expected) = (stored.schema().fields(), arrow_schema(schema, base));
    let alike = |(a, b): (&Arc<Field>, &Arc<Field>)| {
        a.name() == b.name() && a.data_type() == b.data_type() && !a.is_nullable()
    };
    let fits =
        found.len() == expected.fields().len() && found.iter().zip(expected.fields()).all(alike);
    match fits {
        true => Ok(()),
        false => Err(stored.damaged("it has other columns than the states that it is to hold")),
    }
}

impl StatesPart {
    /// How many states there are, before those of keys that are not selected are left out.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Stored bytes of the columns that are read.
    pub fn bytes(&self) -> u64 {
        let group = self.file.stored.metadata().row_group(self.row_group);
        self.columns().into_iter().map(|column| group.column(column).byte_range().1).sum()
    }

    /// Between which times the ticks lie, nanoseconds UTC.
    pub fn times(&self) -> RangeInclusive<i64> {
        self.times.clone()
    }

    /// Between which keys they lie, where that is known.
    pub fn keys(&self) -> Option<RangeInclusive<Key>> {
        self.key_span.clone()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.file.stored.path()
    }

    /// The row group in the file, from 0.
    pub fn row_group(&self) -> usize {
        self.row_group
    }

    /// The path of the file of ticks that it stands for, relative to the data folder.
    pub fn stands_for(&self) -> &str {
        &self.file.of
    }

    /// The name of its base among those of the stream.
    pub fn base(&self) -> &str {
        &self.file.id
    }

    /// Reads the states, batch by batch, ascending by key and start, with the words that were asked
    /// for.
    ///
    /// # Errors
    ///
    /// [`Error::StatesDamaged`], [`Error::Io`], [`Error::Parquet`], each naming the file.
    pub fn read(&self) -> Result<StatesReader> {
        self.reader().map_err(of_states)
    }

    fn reader(&self) -> Result<StatesReader> {
        let Open { stored, keys, .. } = &*self.file;
        let chosen = Chosen::of(stored, self.row_group, self.rows, *keys, &self.keys)?;
        let rows = chosen.as_ref().map_or(self.rows, |chosen| chosen.rows);
        let (ranges, key_runs) = match chosen {
            Some(chosen) => (Some(chosen.ranges), chosen.keys.map(KeyRuns::new)),
            None => (None, None),
        };
        let mut columns = self.columns();
        if key_runs.is_some() {
            columns.retain(|&column| column != 1);
        }
        let batch_rows = rows.min(BATCH_STATES);
        let ranges: Option<&[Range<usize>]> = ranges.as_deref();
        let batches = match rows {
            0 => None,
            _ => Some(stored.read(self.row_group, &columns, ranges, batch_rows)?),
        };
        Ok(StatesReader {
            file: self.file.clone(),
            batches,
            columns,
            key_runs,
            keys: Table::default(),
            publishers: Vec::new(),
            zeros: vec![0; batch_rows].into(),
        })
    }

    /// The indices of the columns that are read, ascending.
    fn columns(&self) -> Vec<usize> {
        let keys = self.file.keys;
        let mut columns: Vec<usize> = (0..=keys).collect();
        columns.extend(self.file.words.iter().map(|word| 1 + keys + word));
        columns.sort_unstable();
        columns
    }
}

/// A part's states, batch by batch, none empty.
pub struct StatesReader {
    file: Arc<Open>,
    batches: Option<ParquetRecordBatchReader>,
    columns: Vec<usize>,
    /// Where the keys are known without the column.
    key_runs: Option<KeyRuns>,
    keys: Table<Key>,
    publishers: Vec<PublisherId>,
    zeros: ScalarBuffer<u64>,
}

impl Iterator for StatesReader {
    type Item = Result<StoredStates>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(match self.batches.as_mut()?.next()? {
            Ok(batch) => self.states(&batch).map_err(of_states),
            Err(error) => Err(of_states(self.file.stored.damaged(&error.to_string()))),
        })
    }
}

impl StatesReader {
    fn states(&mut self, batch: &RecordBatch) -> Result<StoredStates> {
        let file = self.file.clone();
        let rows = batch.num_rows();
        let at = |column: usize| {
            let position = self.columns.binary_search(&column);
            batch.column(position.expect("the column was asked for"))
        };
        let broken = || file.stored.damaged("a text column holds what it cannot");
        let (keys, key) = match file.keys {
            0 => (vec![Key::empty()], zeros_u32(&self.zeros, rows)),
            1 if self.key_runs.is_some() => {
                let runs = self.key_runs.as_mut().and_then(|runs| runs.next(rows, &self.zeros));
                runs.ok_or_else(broken)?
            }
            1 => {
                let array: &DictionaryArray<Int32Type> = at(1).as_dictionary();
                let table = self.keys.of(array.values(), |text| Some(Key::from_components([text])));
                window(table.ok_or_else(broken)?, codes(array))
            }
            columns => {
                let arrays: Vec<_> = (1..=columns).map(at).collect();
                tuples(&arrays).ok_or_else(broken)?
            }
        };
        let stride = file.words.len();
        let mut words = vec![0; rows * stride];
        for (to, word) in file.words.iter().enumerate() {
            let column = at(1 + file.keys + word);
            let to = words[to..].iter_mut().step_by(stride);
            match column.data_type() {
                DataType::Int64 => {
                    let values = column.as_primitive::<Int64Type>().values();
                    to.zip(values).for_each(|(to, &value)| *to = value.cast_unsigned());
                }
                _ => {
                    let array: &DictionaryArray<Int32Type> = column.as_dictionary();
                    let table = interned(array.values(), &mut self.publishers);
                    let table = table.ok_or_else(broken)?;
                    let codes = codes(array);
                    to.zip(codes.iter()).for_each(|(to, &code)| *to = table[code as usize]);
                }
            }
        }
        Ok(StoredStates {
            keys,
            publishers: self.publishers.clone(),
            key: key.to_vec(),
            start: at(0).as_primitive::<TimestampNanosecondType>().values().to_vec(),
            words,
        })
    }
}

/// The codes of a dictionary's publishers; 0 for no text.
fn interned(dictionary: &ArrayRef, publishers: &mut Vec<PublisherId>) -> Option<Vec<u64>> {
    let mut code = |text: &str| {
        if text.is_empty() {
            return Some(0);
        }
        let known = publishers.iter().position(|known| known.as_str() == text);
        let code = match known {
            Some(code) => code,
            None => {
                publishers.push(PublisherId::new(text)?);
                publishers.len() - 1
            }
        };
        Some(code as u64)
    };
    dictionary.as_string::<i32>().iter().map(|text| code(text?)).collect()
}

/// Reads a file of states whole: checksums, columns, order, counts, and that its windows may have
/// ticks of the file that it stands for.
///
/// # Errors
///
/// As [`StatesPart::read`]; [`Error::StatesDamaged`] for whatever else is wrong.
pub(crate) fn check(
    folder: &DataFolder,
    schema: &StreamSchema,
    of: &HistoryFile,
    states: &StatesFile,
    base: &RollupBase,
) -> Result<()> {
    parquet_file::check(folder.objects(), &states.file).map_err(of_states)?;
    let words: Vec<usize> = (0..base.words()).collect();
    let wanted = Wanted { of, states, id: "", base, words: &words };
    let all = KeySelection::default();
    let parts = plan(folder, schema, &[wanted], &(i64::MIN..=i64::MAX), &all)?;
    let window = Tumbling { width_ns: base.width_ns, origin_ns: base.origin_ns };
    let path = folder.objects().path_of(&states.file.path);
    let wrong = |what: &str| Error::StatesDamaged { path: path.clone(), what: what.to_owned() };
    let (mut rows, mut ticks, mut last) = (0, 0_u64, None);
    for part in parts {
        for batch in part.read()? {
            let batch = batch?;
            for (row, state) in batch.words.chunks_exact(words.len()).enumerate() {
                let start = batch.start[row];
                let place = (batch.keys[batch.key[row] as usize].clone(), start);
                if last.as_ref().is_some_and(|last| *last >= place) {
                    return Err(wrong("its states do not ascend by key and window"));
                }
                last = Some(place);
                let starts = window.start_of(start) == Some(start);
                let end = start.saturating_add(base.width_ns);
                if !starts || start > of.ts_max || end <= of.ts_min || state[0] == 0 {
                    return Err(wrong("it has a window that no tick of its file is in"));
                }
                rows += 1;
                ticks = ticks.saturating_add(state[0]);
            }
        }
    }
    let of_all = base.filter.is_none() && ticks != of.file.rows;
    if rows != states.file.rows || ticks != states.ticks || ticks > of.file.rows || of_all {
        return Err(wrong("it has another number of states or ticks than the manifest says"));
    }
    Ok(())
}
