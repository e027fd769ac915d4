//! Reading states, row group by row group, and checking them.

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use arrow_schema::Field;
use isotick_model::view::Tumbling;
use isotick_model::{Key, KeySelection, PublisherId, StreamSchema};
use parquet::errors::ParquetError;
use parquet::file::statistics::Statistics;

use super::write::arrow_schema;
use super::{RollupBase, StatesFile, StoredStates};
use crate::error::{Error, Result};
use crate::folder::DataFolder;
use crate::history::keys::{Chosen, Runs, key_runs, key_span, may_meet};
use crate::manifest::HistoryFile;
use crate::parquet_file::{self, Integers, RowGroupPages, Stored, TextRuns};
use crate::zeros::zeros;

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
        let stored = Stored::open(opened?, &wanted.states.file, keep_open)?;
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
        let Open { stored, keys: key_columns, words, .. } = &*self.file;
        let chosen = Chosen::of(stored, self.row_group, self.rows, *key_columns, &self.keys)?;
        let rows = chosen.as_ref().map_or(self.rows, |chosen| chosen.rows);
        let (ranges, known) = match chosen {
            Some(chosen) => (Some(chosen.ranges), chosen.keys),
            None => (None, None),
        };
        let mut columns = self.columns();
        if known.is_some() {
            columns.retain(|column| !(1..=*key_columns).contains(column));
        }
        let pages = stored.read(self.row_group, &columns, ranges.as_deref())?;
        let mut publishers = Vec::new();
        let decoding = || {
            let keys = match known {
                Some(known) => known,
                None => key_runs(&pages, *key_columns)?,
            };
            let words = words.iter().map(|word| {
                let column = 1 + key_columns + word;
                match stored.has_integers(column) {
                    true => Ok(Words::Numbers(pages.integers(column)?.into())),
                    false => Words::publishers(&pages, column, &mut publishers),
                }
            });
            Ok((pages.integers(0)?, Runs::new(keys), words.collect::<Result<_, _>>()?))
        };
        let (start, keys, words) =
            decoding().map_err(|error: ParquetError| stored.damaged(&error.to_string()))?;
        Ok(StatesReader { file: self.file.clone(), left: rows, start, keys, words, publishers })
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
    /// States to come.
    left: usize,
    start: Integers,
    keys: Runs<Key>,
    words: Vec<Words>,
    publishers: Vec<PublisherId>,
}

/// A word of each state.
enum Words {
    Numbers(Box<Integers>),
    /// Codes of publishers; 0 for none.
    Publishers(Runs<u64>),
}

impl Words {
    /// Adds a column's publishers to those that are known.
    fn publishers(
        pages: &RowGroupPages,
        column: usize,
        known: &mut Vec<PublisherId>,
    ) -> Result<Self, ParquetError> {
        let TextRuns { texts, runs } = pages.texts(column)?;
        let codes: Option<Vec<u64>> = texts.iter().map(|text| interned(text, known)).collect();
        let codes = codes.ok_or_else(texts_broken)?;
        let runs = runs.into_iter().map(|(text, rows)| (codes[text as usize], rows));
        Ok(Self::Publishers(Runs::new(runs.collect())))
    }
}

/// The code of a publisher; 0 for no text.
fn interned(text: &str, publishers: &mut Vec<PublisherId>) -> Option<u64> {
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
}

fn texts_broken() -> ParquetError {
    ParquetError::General("a text column holds what it cannot".to_owned())
}

impl Iterator for StatesReader {
    type Item = Result<StoredStates>;

    fn next(&mut self) -> Option<Self::Item> {
        let rows = self.left.min(BATCH_STATES);
        if rows == 0 {
            return None;
        }
        let states = self.states(rows);
        // Nothing is to be had behind an error.
        self.left = if states.is_ok() { self.left - rows } else { 0 };
        Some(states.map_err(|error| of_states(self.file.stored.damaged(&error.to_string()))))
    }
}

impl StatesReader {
    fn states(&mut self, rows: usize) -> Result<StoredStates, ParquetError> {
        let (keys, key) = match self.file.keys {
            0 => (vec![Key::empty()], zeros(rows)),
            _ => self.keys.keys(rows).ok_or_else(texts_broken)?,
        };
        let stride = self.words.len();
        let mut words = vec![0; rows * stride];
        for (to, word) in self.words.iter_mut().enumerate() {
            let mut to = words[to..].iter_mut().step_by(stride);
            match word {
                Words::Numbers(column) => {
                    let (values, _) = column.next(rows)?;
                    to.zip(&values).for_each(|(to, &value)| *to = value.cast_unsigned());
                }
                Words::Publishers(runs) => {
                    let mut left = rows;
                    while left > 0 {
                        let (code, same) = runs.take(left).ok_or_else(texts_broken)?;
                        to.by_ref().take(same).for_each(|to| *to = code);
                        left -= same;
                    }
                }
            }
        }
        Ok(StoredStates {
            keys,
            publishers: self.publishers.clone(),
            key: key.to_vec(),
            start: self.start.next(rows)?.0.to_vec(),
            words,
        })
    }
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
