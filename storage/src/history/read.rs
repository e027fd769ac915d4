//! Reading history: pruned by file and row group, in parts that threads take one by one.

use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::sync::Arc;

use arrow_buffer::{NullBuffer, ScalarBuffer};
use isotick_model::ticks::ON_TIME;
use isotick_model::view::Tumbling;
use isotick_model::{Key, KeySelection, PublisherId, StreamSchema, Ticks, ValueColumn};
use parquet::errors::ParquetError;
use parquet::file::statistics::Statistics;

use super::keys::{Chosen, Runs, key_runs, key_span, may_meet, one_text, text_span};
use super::times::rows_in;
use super::{Columns, scale_entry};
use crate::error::{Error, Result};
use crate::folder::DataFolder;
use crate::manifest::HistoryFile;
use crate::parquet_file::{Integers, RowGroupPages, Stored, TextRuns};
use crate::zeros::zeros;

/// Rows of a batch, at most.
pub const BATCH_ROWS: usize = 1 << 15;
/// So many files are kept open between planning and reading, at most: the process has to keep
/// handles for sockets and logs.
const OPEN_FILES_MAX: usize = 256;
/// So many are opened together: in a store, each takes a request.
const OPENED_AT_ONCE: usize = 32;
/// A row group of a history file. Parts are independent: read them in any order, on any thread.
#[derive(Clone, Debug)]
pub struct Part {
    file: Arc<Open>,
    row_group: usize,
    rows: usize,
    /// Set when some of the rows may lie outside.
    range: Option<RangeInclusive<i64>>,
    /// Set when one time may stand for all.
    one_time: Option<i64>,
    /// Whether `seen` is wanted and not null throughout.
    seen: bool,
    /// Whether publisher and sequence are read, and the publisher where all rows have one.
    identity: bool,
    one_publisher: Option<PublisherId>,
    /// Whether the rows' order stands for both.
    by_order: bool,
    /// Rows of other keys may be left out.
    keys: Arc<KeySelection>,
    times: RangeInclusive<i64>,
    key_span: Option<RangeInclusive<Key>>,
}

/// Names the rows of a row group. The file's content is in it, by its checksums, so that the rows of
/// another file of the same path have another name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RowsName {
    path: PathBuf,
    row_group: usize,
    rows: usize,
    crc32s: Vec<u32>,
}

/// Names what reading a row group gives: its rows, and what is read of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartName {
    rows: RowsName,
    values: Vec<Source>,
    one_time: Option<i64>,
    seen: bool,
    identity: bool,
}

impl PartName {
    /// The name of the rows.
    pub fn rows(&self) -> &RowsName {
        &self.rows
    }

    /// Whether reading this gives all that reading the other one does.
    pub fn covers(&self, other: &Self) -> bool {
        let columns = self.values.iter().zip(&other.values);
        self.rows == other.rows
            && self.values.len() == other.values.len()
            && columns.into_iter().all(|(a, b)| *b == Source::Unwanted || a == b)
            && (self.one_time.is_none() || self.one_time == other.one_time)
            && (self.seen || !other.seen)
            && (self.identity || !other.identity)
    }
}

/// An opened file and where it holds what.
#[derive(Debug)]
struct Open {
    stored: Stored,
    keys: usize,
    /// Per column of the stream's schema: its index in the file, where it is wanted and there.
    values: Vec<Source>,
    /// The index of `publisher`; `sequence` and `seen` follow.
    publisher: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Source {
    Unwanted,
    /// Declared after the file was written.
    Missing,
    At(usize),
}

/// Plans the reading of a stream's files. Parts hold exactly the rows whose `ts_event` lies in
/// the range, but for some whose keys are not selected, in files' order; rows of a part are sorted
/// by (key, `ts_event`, publisher, sequence).
pub(crate) fn plan<'a>(
    folder: &DataFolder,
    schema: &StreamSchema,
    files: impl IntoIterator<Item = &'a HistoryFile>,
    columns: &Columns,
    range: &RangeInclusive<i64>,
    keys: &KeySelection,
) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    let keys = Arc::new(keys.clone());
    let meet =
        |entry: &&HistoryFile| entry.ts_max >= *range.start() && entry.ts_min <= *range.end();
    let files: Vec<&HistoryFile> = files.into_iter().filter(meet).collect();
    let keep_open = files.len() <= OPEN_FILES_MAX;
    let opened = files.chunks(OPENED_AT_ONCE).flat_map(|files| {
        let wanted: Vec<_> = files.iter().map(|entry| &entry.file).collect();
        files.iter().copied().zip(folder.objects().open_all(&wanted))
    });
    for (entry, opened) in opened {
        let stored = Stored::open(opened?, &entry.file, keep_open)?;
        let file = Arc::new(Open::new(stored, schema, columns)?);
        let metadata = file.stored.metadata();
        for (row_group, group) in metadata.row_groups().iter().enumerate() {
            let times = match group.column(0).statistics() {
                Some(Statistics::Int64(times)) => times.min_opt().zip(times.max_opt()),
                _ => None,
            };
            let (&least, &greatest) = times.unwrap_or((&entry.ts_min, &entry.ts_max));
            if greatest < *range.start() || least > *range.end() {
                continue;
            }
            let key_columns = (0..schema.keys.len()).zip(&group.columns()[1..]);
            if key_columns.into_iter().any(|(key, column)| !may_meet(&keys, key, column)) {
                continue;
            }
            let whole = range.contains(&least) && range.contains(&greatest);
            let rows = group.num_rows() as usize;
            let same = |window: &Tumbling| {
                let start = window.start_of(least);
                start.is_some() && start == window.start_of(greatest)
            };
            let one_window = columns.one_window.as_ref().is_some_and(same);
            let on_time = group.column(file.publisher + 2).statistics();
            let on_time = on_time.and_then(|seen| seen.null_count_opt()) == Some(rows as u64);
            parts.push(Part {
                file: file.clone(),
                row_group,
                rows,
                range: (!whole).then(|| range.clone()),
                one_time: (whole && one_window).then_some(least),
                seen: columns.seen && !on_time,
                identity: columns.identity,
                by_order: false,
                one_publisher: one_text(group.column(file.publisher)).and_then(PublisherId::new),
                keys: keys.clone(),
                times: least.max(*range.start())..=greatest.min(*range.end()),
                key_span: match (group.columns(), schema.keys.len()) {
                    ([_, key, ..], 1) => key_span(key),
                    _ => None,
                },
            });
        }
    }
    Ok(parts)
}

impl Open {
    fn new(stored: Stored, schema: &StreamSchema, columns: &Columns) -> Result<Self> {
        let fields = stored.schema().fields().clone();
        let keys = schema.keys.len();
        let wrong = |column: &str, what: String| Error::Column {
            path: stored.path().to_path_buf(),
            column: column.to_owned(),
            what,
        };
        if fields.len() < keys + 4 {
            return Err(stored.damaged("it lacks columns of a history file"));
        }
        let publisher = fields.len() - 3;
        let declared = std::iter::once(&schema.time).chain(&schema.keys);
        for (field, declared) in fields.iter().zip(declared) {
            if field.name() != declared {
                let what = format!("the stream declares {declared} in its place");
                return Err(wrong(field.name(), what));
            }
        }
        let mut values = Vec::new();
        for (index, column) in schema.columns.iter().enumerate() {
            let name = &column.name;
            let found =
                fields[..publisher].iter().skip(keys + 1).position(|field| field.name() == name);
            let Some(at) = found.map(|position| position + keys + 1) else {
                if !column.optional {
                    return Err(wrong(name, "the file lacks it, and it is not optional".into()));
                }
                values.push(match columns.values.contains(&index) {
                    true => Source::Missing,
                    false => Source::Unwanted,
                });
                continue;
            };
            let scale = stored.entry(&scale_entry(name)).and_then(|scale| scale.parse().ok());
            if scale != Some(column.scale.digits()) {
                let declared = column.scale.digits();
                let what = match scale {
                    Some(scale) => format!("the file has scale {scale}, the stream {declared}"),
                    None => "the file names no scale".to_owned(),
                };
                return Err(wrong(name, what));
            }
            if !stored.has_integers(at) {
                return Err(wrong(name, format!("it is stored as {}", fields[at].data_type())));
            }
            if fields[at].is_nullable() && !column.optional {
                return Err(wrong(name, "the file has it as optional, the stream not".into()));
            }
            values.push(match columns.values.contains(&index) {
                true => Source::At(at),
                false => Source::Unwanted,
            });
        }
        Ok(Self { stored, keys, values, publisher })
    }
}

impl Part {
    /// The same rows without publishers and sequences. What those say of ticks of one time is said by
    /// the rows' order, which is the canonical one, and by the name of each batch's publisher, which
    /// comes after those of the file's batches before: enough where ticks of this file meet no
    /// others. Within a batch all sequences are 0, so it has to stay in its order: kernels take sorted
    /// rows as runs, in which the place decides.
    #[must_use]
    pub fn by_order(self) -> Self {
        Self { identity: false, by_order: true, ..self }
    }

    /// Rows, before those outside the time range are left out.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Stored bytes of the columns that are read.
    pub fn bytes(&self) -> u64 {
        let group = self.file.stored.metadata().row_group(self.row_group);
        let chunks = self.columns().into_iter().map(|column| group.column(column).byte_range().1);
        chunks.sum()
    }

    /// Between which times its rows lie, nanoseconds UTC.
    pub fn times(&self) -> RangeInclusive<i64> {
        self.times.clone()
    }

    /// Between which keys its rows lie, where that is known.
    pub fn keys(&self) -> Option<RangeInclusive<Key>> {
        self.key_span.clone()
    }

    /// The file.
    pub fn path(&self) -> &std::path::Path {
        self.file.stored.path()
    }

    /// The row group in the file, from 0.
    pub fn row_group(&self) -> usize {
        self.row_group
    }

    /// The name of what is read; `None` where rows of the row group are left out.
    pub fn name(&self) -> Option<PartName> {
        if self.range.is_some() || !self.keys.is_all() || self.by_order {
            return None;
        }
        Some(PartName {
            rows: RowsName {
                path: self.path().to_path_buf(),
                row_group: self.row_group,
                rows: self.rows,
                crc32s: self.file.stored.crc32s(self.row_group).to_vec(),
            },
            values: self.file.values.clone(),
            one_time: self.one_time,
            seen: self.seen,
            identity: self.identity,
        })
    }

    /// One reading that also gives what is named.
    ///
    /// # Panics
    ///
    /// When other rows are named.
    #[must_use]
    pub fn widened(&self, name: &PartName) -> Self {
        assert!(self.name().is_some_and(|own| own.rows == name.rows), "other rows are read apart");
        let of = &self.file;
        let values = of.values.iter().zip(&name.values).map(|(a, b)| *a.max(b)).collect();
        let file =
            Open { stored: of.stored.clone(), keys: of.keys, values, publisher: of.publisher };
        Self {
            file: Arc::new(file),
            one_time: self.one_time.and(name.one_time),
            seen: self.seen || name.seen,
            identity: self.identity || name.identity,
            ..self.clone()
        }
    }

    /// Whether both read the same rows of the same file, or some of them.
    pub fn is_of_same_rows(&self, other: &Self) -> bool {
        self.row_group == other.row_group && self.path() == other.path()
    }

    /// One reading for both: all columns and rows that either wants.
    ///
    /// # Panics
    ///
    /// When they are not of the same rows.
    #[must_use]
    pub fn joined(&self, other: &Self) -> Self {
        assert!(self.is_of_same_rows(other), "parts of other rows are read apart");
        let (a, b) = (&self.file, &other.file);
        let file = match a.values == b.values {
            true => a.clone(),
            // A column that only one wants is either there or missing for both.
            false => Arc::new(Open {
                stored: a.stored.clone(),
                keys: a.keys,
                values: a.values.iter().zip(&b.values).map(|(a, b)| *a.max(b)).collect(),
                publisher: a.publisher,
            }),
        };
        let hull = |(a, b): (RangeInclusive<i64>, RangeInclusive<i64>)| {
            *a.start().min(b.start())..=*a.end().max(b.end())
        };
        Self {
            file,
            row_group: self.row_group,
            rows: self.rows,
            range: self.range.clone().zip(other.range.clone()).map(hull),
            one_time: self.one_time.and(other.one_time),
            seen: self.seen || other.seen,
            identity: self.identity || other.identity,
            one_publisher: self.one_publisher.clone(),
            by_order: self.by_order && other.by_order,
            keys: Arc::new(KeySelection::clone(&self.keys).or(KeySelection::clone(&other.keys))),
            times: hull((self.times.clone(), other.times.clone())),
            key_span: self.key_span.clone(),
        }
    }

    /// Whether it has rows of a publisher, one of which may have one of these sequences. Reads at
    /// most the column of publishers, which holds each once.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn holds(&self, publisher: &PublisherId, sequences: &Range<u64>) -> Result<bool> {
        let stored = &self.file.stored;
        let group = stored.metadata().row_group(self.row_group);
        let column = group.column(self.file.publisher);
        let outside = |(least, greatest): (&str, &str)| {
            publisher.as_str() < least || publisher.as_str() > greatest
        };
        if text_span(column).is_some_and(outside) {
            return Ok(false);
        }
        if let Some(Statistics::Int64(span)) = group.column(self.file.publisher + 1).statistics()
            && let (Some(least), Some(greatest)) = (span.min_opt(), span.max_opt())
            && (least.cast_unsigned() >= sequences.end
                || greatest.cast_unsigned() < sequences.start)
        {
            return Ok(false);
        }
        if let Some(one) = &self.one_publisher {
            return Ok(one == publisher);
        }
        let runs = stored.texts(self.row_group, self.file.publisher)?;
        Ok(runs.texts.iter().any(|text| text == publisher.as_str()))
    }

    /// Reads the part in batches of at most [`BATCH_ROWS`]. Its column chunks are read and their
    /// checksums checked here; decoding happens batch by batch.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`], [`Error::Io`], [`Error::Parquet`], each naming the file.
    pub fn read(&self) -> Result<PartReader> {
        self.read_in(BATCH_ROWS)
    }

    /// The same, in batches of at most so many rows.
    pub(crate) fn read_in(&self, batch_rows: usize) -> Result<PartReader> {
        let file = &self.file;
        let (stored, selection) = (&file.stored, &self.keys);
        let chosen = Chosen::of(stored, self.row_group, self.rows, file.keys, selection)?;
        let mut rows = chosen.as_ref().map_or(self.rows, |chosen| chosen.rows);
        let (mut ranges, mut keys) = match chosen {
            Some(chosen) => (Some(chosen.ranges), chosen.keys),
            None => (None, None),
        };
        if let Some(range) = &self.range
            && rows > 0
            && let Some(found) =
                rows_in(stored, self.row_group, range, file.keys, ranges.as_deref())?
        {
            rows = found.iter().map(Range::len).sum();
            // The runs of keys are of all their rows.
            (ranges, keys) = (Some(found), None);
        }
        let batch_rows = batch_rows.min(rows);
        Ok(PartReader {
            decoding: match rows {
                0 => None,
                _ => Some(self.decoding(ranges.as_deref(), keys)?),
            },
            part: self.clone(),
            left: rows,
            batches: 0,
            batch_rows,
            times: self.one_time.map(|time| vec![time; batch_rows].into()),
        })
    }

    /// Reads and checks the columns of some rows, whose keys may be known.
    fn decoding(
        &self,
        ranges: Option<&[Range<usize>]>,
        keys: Option<Vec<(Key, usize)>>,
    ) -> Result<Decoding> {
        let file = &self.file;
        let mut columns = self.columns();
        if keys.is_some() {
            columns.retain(|column| !(1..=file.keys).contains(column));
        }
        let pages = file.stored.read(self.row_group, &columns, ranges)?;
        let decoding = || {
            let has_publishers = self.identity && self.one_publisher.is_none();
            Ok(Decoding {
                time: self.one_time.is_none().then(|| pages.integers(0)).transpose()?,
                keys: Runs::new(match keys {
                    Some(keys) => keys,
                    None => key_runs(&pages, file.keys)?,
                }),
                values: file
                    .values
                    .iter()
                    .map(|source| match source {
                        Source::At(column) => pages.integers(*column).map(Some),
                        _ => Ok(None),
                    })
                    .collect::<Result<_, _>>()?,
                publishers: has_publishers
                    .then(|| Publishers::of(&pages, file.publisher))
                    .transpose()?,
                sequence: self.identity.then(|| pages.integers(file.publisher + 1)).transpose()?,
                seen: self.seen.then(|| pages.integers(file.publisher + 2)).transpose()?,
            })
        };
        decoding().map_err(|error: ParquetError| file.stored.damaged(&error.to_string()))
    }

    /// The indices of the columns that are read, ascending.
    fn columns(&self) -> Vec<usize> {
        let file = &self.file;
        let mut columns: Vec<usize> = (usize::from(self.one_time.is_some())..=file.keys).collect();
        columns.extend(file.values.iter().filter_map(|source| match source {
            Source::At(index) => Some(*index),
            _ => None,
        }));
        if self.identity {
            columns.extend(self.one_publisher.is_none().then_some(file.publisher));
            columns.push(file.publisher + 1);
        }
        if self.seen {
            columns.push(file.publisher + 2);
        }
        columns.sort_unstable();
        columns
    }
}

/// A part's ticks, batch by batch, none empty. Buffers are those the decoder made.
pub struct PartReader {
    part: Part,
    /// `None` where no row is wanted, and behind an error.
    decoding: Option<Decoding>,
    /// Rows to come, before those outside the time range are left out.
    left: usize,
    /// Those before the next one.
    batches: usize,
    batch_rows: usize,
    /// Where one time stands for all.
    times: Option<ScalarBuffer<i64>>,
}

/// The columns of a part while they are decoded.
struct Decoding {
    time: Option<Integers>,
    keys: Runs<Key>,
    /// Per column of the stream's schema, where it is wanted and there.
    values: Vec<Option<Integers>>,
    publishers: Option<Publishers>,
    sequence: Option<Integers>,
    seen: Option<Integers>,
}

/// The column of publishers.
struct Publishers {
    all: Vec<PublisherId>,
    runs: Runs<u32>,
}

impl Publishers {
    fn of(pages: &RowGroupPages, column: usize) -> Result<Self, ParquetError> {
        let TextRuns { texts, runs } = pages.texts(column)?;
        let all = texts.iter().map(|text| PublisherId::new(text)).collect::<Option<_>>();
        Ok(Self { all: all.ok_or_else(texts_broken)?, runs: Runs::new(runs) })
    }
}

fn texts_broken() -> ParquetError {
    ParquetError::General("a text column holds what it cannot".to_owned())
}

impl PartReader {
    fn ticks(&mut self, rows: usize) -> Result<Ticks, ParquetError> {
        let Some(decoding) = &mut self.decoding else { return Err(texts_broken()) };
        let part = &self.part;
        let ts_event = match (&mut decoding.time, &self.times) {
            (Some(time), _) => time.next(rows)?.0,
            (None, times) => times.as_ref().map_or_else(Default::default, |of| of.slice(0, rows)),
        };
        let (keys, key) = match part.file.keys {
            0 => (vec![Key::empty()], zeros(rows)),
            _ => decoding.keys.keys(rows).ok_or_else(texts_broken)?,
        };
        let (publishers, publisher) = match (&mut decoding.publishers, &part.one_publisher) {
            (Some(Publishers { all, runs }), _) => {
                let (table, codes) = runs.entries(rows, all).ok_or_else(texts_broken)?;
                let codes = if table.len() == 1 { Vec::new().into() } else { codes };
                (table, codes)
            }
            (None, Some(publisher)) if part.identity => {
                (vec![publisher.clone()], Vec::new().into())
            }
            _ => {
                let name = match part.by_order {
                    true => format!("{:010}.{:010}", part.row_group, self.batches),
                    false => "-".to_owned(),
                };
                let publisher = PublisherId::new(&name).expect("the name is short");
                (vec![publisher], Vec::new().into())
            }
        };
        let sequence = match &mut decoding.sequence {
            Some(sequence) => {
                let (sequence, _) = sequence.next(rows)?;
                ScalarBuffer::new(sequence.into_inner(), 0, rows)
            }
            None => zeros(rows),
        };
        let columns = part.file.values.iter().zip(&mut decoding.values);
        let values = columns.map(|(source, column)| {
            Ok(match (source, column) {
                (Source::At(_), Some(column)) => {
                    let (values, nulls) = column.next(rows)?;
                    ValueColumn { values, nulls }
                }
                (Source::Missing, _) => {
                    ValueColumn { values: zeros(rows), nulls: Some(NullBuffer::new_null(rows)) }
                }
                _ => ValueColumn::absent(),
            })
        });
        let values = values.collect::<Result<_, ParquetError>>()?;
        let seen = match &mut decoding.seen {
            Some(seen) => Some(seen.next(rows)?),
            None => None,
        };
        let seen = seen.map(|(seen, nulls)| match nulls {
            Some(nulls) => {
                let either = |(&seen, is_late)| if is_late { seen } else { ON_TIME };
                seen.iter().zip(&nulls).map(either).collect()
            }
            None => seen,
        });
        let ticks = Ticks {
            ts_event,
            sequence,
            publishers,
            publisher,
            keys: keys.into(),
            key,
            values,
            seen,
        };
        Ok(match &part.range {
            Some(range) if !ticks.ts_event.iter().all(|ts| range.contains(ts)) => {
                let inside = |row: &u32| range.contains(&ticks.ts_event[*row as usize]);
                ticks.take(&(0..rows as u32).filter(inside).collect::<Vec<_>>())
            }
            _ => ticks,
        })
    }
}

impl Iterator for PartReader {
    type Item = Result<Ticks>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let rows = self.left.min(self.batch_rows);
            if rows == 0 || self.decoding.is_none() {
                return None;
            }
            self.left -= rows;
            let ticks = self.ticks(rows);
            self.batches += 1;
            match ticks {
                Ok(ticks) if ticks.is_empty() => {}
                Ok(ticks) => return Some(Ok(ticks)),
                Err(error) => {
                    self.decoding = None;
                    return Some(Err(self.part.file.stored.damaged(&error.to_string())));
                }
            }
        }
    }
}
