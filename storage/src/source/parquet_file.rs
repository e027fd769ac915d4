//! Parquet files: row group by row group, a column at a time.

use std::fs::File;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, new_null_array};
use arrow_buffer::{ArrowNativeType, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, TimeUnit};
use arrow_select::filter::filter_record_batch;
use isotick_model::{Key, Scale, ValueColumn};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReader};
use parquet::file::statistics::Statistics;

use super::array::{self, KeyDictionary, Site, TextCodes};
use super::batch::{Columns, Refusals, finish, keys_of, refuse_unknown_keys};
use super::parquet_columns::{Places, RowGroupColumns, Rows};
use super::parquet_reader::{group_reader, group_rows, guard, load, next_of, rows_of, scale_of};
use super::parquet_types::{check_types, int96_seconds, with_cheap_types};
use super::pieces::Pieces;
use super::proven::{leaf_of, rejects_nothing, times_are_good};
use super::selected::{self, WantedTexts};
use super::{Needed, Plan, Progress, ProgressUnit, SourceBatch, SourceError};

/// Parts that each thread has at least, where row groups can be cut into so many.
const PARTS_PER_THREAD: usize = 2;
/// Rows of a piece of a row group, at least.
const PIECE_ROWS_MIN: u64 = 1 << 19;

/// A Parquet file being read.
pub(super) struct ParquetFile {
    file: File,
    metadata: ArrowReaderMetadata,
    /// Per value column: the scale that the file states for its integers.
    stated: Vec<Option<Scale>>,
    /// The fields that are read, in file order.
    read: Vec<usize>,
    /// Those that the reader of the row group under way gives: their places in a batch.
    fields: Vec<usize>,
    /// The reader of the row group under way.
    reader: Option<Reader>,
    /// Whether row groups are decoded straight from their pages where that is possible. Not after
    /// one that was not what it seemed: the general reader says what is wrong, if anything is.
    straight: bool,
    /// Where the time is an INT96: the same field in seconds. The nanoseconds wrap around outside
    /// 64 bits; that they disagree with the seconds shows it.
    seconds: Option<ArrowReaderMetadata>,
    seconds_reader: Option<ParquetRecordBatchReader>,
    /// Whether statistics prove that every row is a tick, so that unwanted ones may stay unread.
    all_ticks: bool,
    /// Whether statistics prove that every time is good.
    good_times: bool,
    /// The time that stands for all in that row group, which then goes unread.
    one_time: Option<i64>,
    /// The same as the times of many rows.
    one_times: ScalarBuffer<i64>,
    /// What stands for rows' places in the file where nobody needs them.
    no_ordinals: ScalarBuffer<u64>,
    /// The dictionary of the key column in the batches of that row group.
    keys: Option<KeyDictionary>,
    /// What of the key columns' dictionaries is wanted.
    wanted: WantedTexts,
    /// The row group under way, or the next one when there is no reader.
    group: usize,
    /// The file's row at which that group starts.
    group_start: u64,
    next_row: u64,
    end_row: u64,
}

/// Decodes a row group.
enum Reader {
    Straight(RowGroupColumns),
    General(ParquetRecordBatchReader),
}

/// Rows of a batch.
struct Picked {
    /// The file's row from which their places count.
    from: u64,
    places: Places,
    /// Their key columns, where the batch does not have them.
    keys: Option<Vec<TextCodes>>,
}

impl Picked {
    fn first_row(&self) -> u64 {
        let first = match &self.places {
            Places::All(rows) => rows.start,
            Places::Some(rows) => rows.first().copied().unwrap_or(0),
        };
        self.from + first as u64
    }

    /// Their places in the file.
    fn ordinals(&self) -> ScalarBuffer<u64> {
        let ordinal = |row: usize| self.from + row as u64;
        match &self.places {
            Places::All(rows) => rows.clone().map(ordinal).collect(),
            Places::Some(rows) => rows.iter().map(|row| ordinal(*row)).collect(),
        }
    }
}

impl std::fmt::Debug for ParquetFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ParquetFile")
            .field("group", &self.group)
            .field("next_row", &self.next_row)
            .finish_non_exhaustive()
    }
}

impl ParquetFile {
    pub(super) fn open(plan: &Plan) -> Result<Self, SourceError> {
        let path = &plan.path;
        let (file, metadata) = load(path)?;
        check_types(plan, metadata.schema())?;
        let seconds = int96_seconds(path, plan, &metadata)?;
        let metadata = with_cheap_types(path, plan, metadata)?;
        let scale = |field: &Option<usize>| match field {
            Some(field) => scale_of(path, &metadata, *field),
            None => Ok(None),
        };
        let stated = plan.bindings.values.iter().map(scale).collect::<Result<Vec<_>, _>>()?;
        let values = plan.bindings.values.iter().enumerate().filter_map(|(index, field)| {
            let (field, column) = ((*field)?, &plan.schema.columns[index]);
            let needed =
                plan.wanted[index] || !rejects_nothing(&metadata, field, column, stated[index]);
            needed.then_some(field)
        });
        let mut read: Vec<usize> = [plan.bindings.time]
            .into_iter()
            .chain(plan.bindings.keys.clone())
            .chain(values)
            .collect();
        read.sort_unstable();
        read.dedup();
        let rows = rows_of(&metadata);
        let good_times = plan
            .needed
            .as_ref()
            .is_some_and(|needed| times_are_good(plan, &metadata, needed.latest_ns));
        // Of keys the statistics prove too little.
        let all_ticks = good_times && plan.schema.keys_allowed.is_none() && {
            let mut values = plan.bindings.values.iter().zip(&plan.schema.columns).zip(&stated);
            values.all(|((field, column), stated)| match field {
                Some(field) => rejects_nothing(&metadata, *field, column, *stated),
                None => true,
            })
        };
        Ok(Self {
            all_ticks,
            good_times,
            one_time: None,
            one_times: Vec::new().into(),
            no_ordinals: Vec::new().into(),
            file,
            metadata,
            stated,
            read,
            fields: Vec::new(),
            reader: None,
            straight: true,
            seconds,
            seconds_reader: None,
            keys: None,
            wanted: WantedTexts::default(),
            group: 0,
            group_start: 0,
            next_row: 0,
            end_row: rows,
        })
    }

    #[cfg(test)]
    pub(super) fn read_generally(&mut self) {
        self.straight = false;
    }

    #[cfg(test)]
    pub(super) fn is_read_straight(&self) -> bool {
        matches!(self.reader, Some(Reader::Straight(_)))
    }

    pub(super) fn rows_total(&self) -> u64 {
        rows_of(&self.metadata)
    }

    /// Stored bytes of the columns that are read, before rows of unwanted keys are left out.
    pub(super) fn bytes_read(&self, plan: &Plan) -> u64 {
        let groups = 0..self.metadata.metadata().num_row_groups();
        let of_group = |group: usize| {
            let unread = self.time_of_group(group, plan).map(|_| plan.bindings.time);
            let columns = self.metadata.metadata().row_group(group).columns().iter().enumerate();
            let read = columns.filter(|(leaf, _)| {
                let field = self.metadata.parquet_schema().get_column_root_idx(*leaf);
                self.read.contains(&field) && Some(field) != unread
            });
            read.map(|(_, column)| column.compressed_size().max(0).cast_unsigned()).sum::<u64>()
        };
        groups.map(of_group).sum()
    }

    pub(super) fn progress(&self) -> Progress {
        Progress { done: self.next_row, total: self.end_row, unit: ProgressUnit::Rows }
    }

    /// Row groups. Of few of them all are cut, of many those that are left over when each thread has had
    /// as many as the others: so that all end at about the same time.
    pub(super) fn parts(&self, threads: usize) -> Vec<Range<u64>> {
        let groups: Vec<_> = self.groups().map(|(_, rows)| rows).collect();
        let rows_of = |rows: &Range<u64>| rows.end - rows.start;
        let most = groups.iter().map(rows_of).max().unwrap_or(0);
        let is_large = |rows: &Range<u64>| 2 * rows_of(rows) > most;
        let large = groups.iter().filter(|rows| is_large(rows)).count();
        let few = threads > 1 && groups.len() < PARTS_PER_THREAD * threads;
        let (uncut, pieces_max) = match few {
            true => (0, (PARTS_PER_THREAD * threads).div_ceil(groups.len().max(1))),
            false => (large - large % threads, threads),
        };
        let mut before = 0;
        let cut = |rows: Range<u64>| {
            let is_cut = few || is_large(&rows) && before >= uncut;
            before += usize::from(is_large(&rows));
            let all = rows_of(&rows);
            let pieces_max = if is_cut { pieces_max as u64 } else { 1 };
            let pieces = (all / PIECE_ROWS_MIN).clamp(1, pieces_max);
            let start = move |piece| rows.start + all / pieces * piece;
            let end = move |piece| if piece == pieces { rows.end } else { start(piece) };
            (0..pieces).map(move |piece| start(piece)..end(piece + 1))
        };
        groups.into_iter().flat_map(cut).collect()
    }

    /// The row groups that hold rows: their numbers, and their rows in the file.
    fn groups(&self) -> impl Iterator<Item = (usize, Range<u64>)> {
        let groups = 0..self.metadata.metadata().num_row_groups();
        let of = groups.scan(0, |start, group| {
            let rows = *start..*start + self.group_rows(group);
            *start = rows.end;
            Some((group, rows))
        });
        of.filter(|(_, rows)| !rows.is_empty())
    }

    /// The times of the ticks in the row group of a part that starts at this row, by its
    /// statistics.
    pub(super) fn times_of(&self, plan: &Plan, start: u64) -> Option<RangeInclusive<i64>> {
        let (group, _) = self.groups().find(|(_, rows)| rows.contains(&start))?;
        let field = plan.bindings.time;
        let unit_ns = match self.metadata.schema().field(field).data_type() {
            DataType::Timestamp(unit, _) => match unit {
                TimeUnit::Second => 1_000_000_000,
                TimeUnit::Millisecond => 1_000_000,
                TimeUnit::Microsecond => 1000,
                TimeUnit::Nanosecond => 1,
            },
            DataType::Int64 => plan.time_unit.ns(),
            _ => return None,
        };
        let group = self.metadata.metadata().row_group(group);
        match group.column(leaf_of(&self.metadata, field)?).statistics() {
            Some(Statistics::Int64(span)) => {
                let least = span.min_opt()?.checked_mul(unit_ns)?;
                Some(least..=span.max_opt()?.checked_mul(unit_ns)?)
            }
            _ => None,
        }
    }

    pub(super) fn end_at(&mut self, row: u64) {
        self.end_row = self.end_row.min(row);
    }

    fn group_rows(&self, group: usize) -> u64 {
        group_rows(&self.metadata, group)
    }

    pub(super) fn skip_to(&mut self, row: u64) -> Result<(), SourceError> {
        if row <= self.next_row {
            return Ok(());
        }
        self.reader = None;
        self.next_row = row.min(self.end_row);
        while self.group < self.metadata.metadata().num_row_groups()
            && self.group_start + self.group_rows(self.group) <= self.next_row
        {
            self.pass_group();
        }
        Ok(())
    }

    fn pass_group(&mut self) {
        self.group_start += self.group_rows(self.group);
        self.group += 1;
        self.reader = None;
    }

    pub(super) fn next_batch(&mut self, plan: &Plan) -> Result<Option<SourceBatch>, SourceError> {
        loop {
            if self.next_row >= self.end_row {
                return Ok(None);
            }
            let group_end = self.group_start + self.group_rows(self.group);
            let may_leave_out = self.may_leave_out(plan);
            if self.next_row >= group_end {
                self.pass_group();
                continue;
            }
            if self.reader.is_none() {
                self.open_group(plan)?;
            }
            let read = match &mut self.reader {
                Some(Reader::Straight(columns)) => {
                    let wanted = may_leave_out.map(|needed| &needed.keys);
                    let next = guard(&plan.path, || columns.next(&mut self.wanted, wanted));
                    // The general reader goes on from here, or says what is wrong.
                    let Ok(next) = next else {
                        self.straight = false;
                        self.reader = None;
                        continue;
                    };
                    let Some(Rows { batch, places, keys }) = next else {
                        self.next_row = group_end.min(self.end_row);
                        continue;
                    };
                    self.next_row = self.group_start + columns.row() as u64;
                    Some((batch, Picked { from: self.group_start, places, keys }))
                }
                Some(Reader::General(reader)) => match next_of(&plan.path, reader)? {
                    Some(batch) => Some(self.general(plan, &batch, group_end)?),
                    None => None,
                },
                None => None,
            };
            let Some((batch, rows)) = read else {
                return Err(self.row_count(plan, group_end));
            };
            let seconds = match &mut self.seconds_reader {
                Some(reader) => next_of(&plan.path, reader)?,
                None => None,
            };
            if batch.num_rows() == 0 {
                continue;
            }
            return self.convert(plan, &batch, seconds.as_ref(), rows).map(Some).map_err(
                |source| SourceError::Parquet { path: plan.path.clone(), source: source.into() },
            );
        }
    }

    /// What counts of a batch of the general reader.
    fn general(
        &mut self,
        plan: &Plan,
        batch: &RecordBatch,
        group_end: u64,
    ) -> Result<(RecordBatch, Picked), SourceError> {
        let rows = (batch.num_rows() as u64).min(self.end_row - self.next_row);
        if self.next_row + rows > group_end {
            return Err(self.row_count(plan, group_end));
        }
        let first_row = self.next_row;
        self.next_row += rows;
        let batch = batch.slice(0, rows as usize);
        if let Some(picked) = self.pick(plan, &batch, first_row)? {
            return Ok(picked);
        }
        let places = Places::All(0..rows as usize);
        Ok((batch, Picked { from: first_row, places, keys: None }))
    }

    /// Opens the reader of the row group's rows that are to come.
    fn open_group(&mut self, plan: &Plan) -> Result<(), SourceError> {
        let end = self.end_row.min(self.group_start + self.group_rows(self.group));
        let [first, end] = [self.next_row, end].map(|row| (row - self.group_start) as usize);
        self.one_time = self.time_of_group(self.group, plan);
        self.fields.clone_from(&self.read);
        self.fields.retain(|field| self.one_time.is_none() || *field != plan.bindings.time);
        if self.straight {
            match self.open_straight(plan, first..end) {
                Ok(Some((columns, fields))) => {
                    self.fields = fields;
                    self.reader = Some(Reader::Straight(columns));
                    return Ok(());
                }
                Ok(None) => {}
                Err(_) => self.straight = false,
            }
        }
        let open = |metadata, fields: &[usize]| {
            let (group, rows) = (self.group, plan.batch_rows);
            group_reader(&plan.path, &self.file, metadata, group, fields, rows, first..end)
        };
        let seconds = self.seconds.as_ref();
        let seconds = seconds.map(|metadata| open(metadata, &[plan.bindings.time]));
        self.seconds_reader = seconds.transpose()?;
        self.reader = Some(Reader::General(open(&self.metadata, &self.fields)?));
        Ok(())
    }

    /// The same without the general reader, and the fields in its batches; `None` where a column is
    /// not of a usual kind.
    fn open_straight(
        &self,
        plan: &Plan,
        rows: Range<usize>,
    ) -> Result<Option<(RowGroupColumns, Vec<usize>)>, SourceError> {
        let metadata = &self.metadata;
        let open = |fields: &[usize]| {
            let mask = ProjectionMask::roots(metadata.parquet_schema(), fields.iter().copied());
            guard(&plan.path, || {
                let pieces = Pieces::new(&self.file, metadata.metadata(), self.group, &mask)?;
                let (batch_rows, rows) = (plan.batch_rows, rows.clone());
                RowGroupColumns::open(pieces, metadata, self.group, fields, batch_rows, rows)
            })
        };
        let keys = &plan.bindings.keys;
        if keys.iter().all(|key| self.only_key(*key, plan)) {
            let mut others = self.fields.clone();
            others.retain(|field| !keys.contains(field));
            if let (Some(keys), Some(columns)) = (open(keys)?, open(&others)?)
                && let Some(columns) = columns.with_keys(keys)
            {
                return Ok(Some((columns, others)));
            }
        }
        Ok(open(&self.fields)?.map(|columns| (columns, self.fields.clone())))
    }

    /// What is needed, where other rows may be left out: all are ticks.
    fn may_leave_out<'a>(&self, plan: &'a Plan) -> Option<&'a Needed> {
        let needed = plan.needed.as_ref()?;
        let may = !needed.keys.is_all() && self.all_ticks && self.seconds.is_none();
        may.then_some(needed)
    }

    /// The wanted rows of a batch that starts at a row of the file; `None` where they are most.
    fn pick(
        &mut self,
        plan: &Plan,
        batch: &RecordBatch,
        first_row: u64,
    ) -> Result<Option<(RecordBatch, Picked)>, SourceError> {
        let Some(needed) = self.may_leave_out(plan) else { return Ok(None) };
        let place = |field| self.fields.binary_search(field).expect("keys are read");
        let keys: Vec<&ArrayRef> =
            plan.bindings.keys.iter().map(|field| batch.column(place(field))).collect();
        let Some((mask, keys)) = selected::pick(&mut self.wanted, &keys, &needed.keys) else {
            return Ok(None);
        };
        let batch = guard(&plan.path, || Ok(filter_record_batch(batch, &mask)?))?;
        let places = Places::Some(mask.values().set_indices().collect());
        Ok(Some((batch, Picked { from: first_row, places, keys: Some(keys) })))
    }

    /// Whether nothing but a key is made of a field.
    fn only_key(&self, field: usize, plan: &Plan) -> bool {
        let bindings = &plan.bindings;
        bindings.keys.contains(&field)
            && bindings.time != field
            && !bindings.values.contains(&Some(field))
    }

    /// The time that may stand for all of a row group.
    fn time_of_group(&self, group: usize, plan: &Plan) -> Option<i64> {
        let window = plan.needed.as_ref()?.one_window?;
        let time = plan.bindings.time;
        if !self.good_times
            || plan.bindings.keys.contains(&time)
            || plan.bindings.values.contains(&Some(time))
        {
            return None;
        }
        let leaf = leaf_of(&self.metadata, time)?;
        match self.metadata.metadata().row_group(group).column(leaf).statistics() {
            Some(Statistics::Int64(span)) => {
                let (least, greatest) = (*span.min_opt()?, *span.max_opt()?);
                (window.start_of(least)? == window.start_of(greatest)?).then_some(least)
            }
            _ => None,
        }
    }

    fn row_count(&self, plan: &Plan, group_end: u64) -> SourceError {
        let stated = group_end - self.group_start;
        let message = format!("row group {} does not hold the {stated} rows it states", self.group);
        SourceError::Damaged { path: plan.path.clone(), message }
    }

    fn convert(
        &mut self,
        plan: &Plan,
        batch: &RecordBatch,
        seconds: Option<&RecordBatch>,
        picked: Picked,
    ) -> Result<SourceBatch, ArrowError> {
        let rows = batch.num_rows();
        let array = |field: usize| -> Option<&ArrayRef> {
            Some(batch.column(self.fields.binary_search(&field).ok()?))
        };
        let read = |field: usize| array(field).expect("time and keys are read unless known");
        let key = |column: usize| match &picked.keys {
            Some(keys) => keys[column].array(),
            None => Ok(Arc::clone(read(plan.bindings.keys[column]))),
        };
        let mut refusals = Refusals::default();
        let schema = &plan.schema;
        if let Some(seconds) = seconds {
            let site = Site { refusals: &mut refusals, column: &schema.time };
            array::refuse_wrapped(read(plan.bindings.time), seconds.column(0), site);
        }
        let time = match self.one_time {
            Some(time) => constant(&mut self.one_times, time, rows),
            None => array::times(
                read(plan.bindings.time),
                plan.time_unit,
                plan.range,
                Site { refusals: &mut refusals, column: &schema.time },
            )?,
        };
        let may_stay = plan.needed.is_some();
        let known = match (plan.bindings.keys.as_slice(), &picked.keys) {
            ([_], Some(keys)) => known_keys(&mut self.keys, &keys[0], may_stay),
            ([field], None) => TextCodes::of(read(*field))
                .and_then(|column| known_keys(&mut self.keys, &column, may_stay)),
            _ => None,
        };
        let (codes, keys) = match known {
            Some(known) => known,
            None => {
                let texts = schema.keys.iter().enumerate();
                let texts = texts
                    .map(|(index, column)| {
                        array::key_texts(&key(index)?, Site { refusals: &mut refusals, column })
                    })
                    .collect::<Result<Vec<_>, _>>()?;
                let (codes, keys) = keys_of(rows, &schema.keys, &texts, &mut refusals);
                (codes.into(), keys.into())
            }
        };
        refuse_unknown_keys(schema, &codes, &keys, &mut refusals);
        let nothing = new_null_array(&DataType::Null, rows);
        let values = (0..schema.columns.len())
            .map(|index| {
                let array = match plan.bindings.values[index] {
                    None => &nothing,
                    Some(field) => match array(field) {
                        Some(array) => array,
                        None => return Ok(ValueColumn::absent()),
                    },
                };
                let column = &schema.columns[index];
                let stated = self.stated[index];
                let values = array::values(array, column, stated, schema.inexact, &mut refusals)?;
                Ok(if plan.wanted[index] { values } else { ValueColumn::absent() })
            })
            .collect::<Result<Vec<_>, ArrowError>>()?;
        let columns = Columns { time, codes, keys, values };
        // Rows that are refused are named, here or for their times by the caller.
        let named = !self.good_times || !refusals.is_empty();
        let ordinals = match &plan.needed {
            Some(needed) if !needed.identity && !named => constant(&mut self.no_ordinals, 0, rows),
            _ => picked.ordinals(),
        };
        let first_row = picked.first_row();
        let batch = finish(&plan.publisher, ordinals, columns, refusals, &[]);
        Ok(SourceBatch { one_time: self.one_time.is_some(), first_row, ..batch })
    }
}

/// So many times the same value; what was made before serves again.
fn constant<T: ArrowNativeType>(
    made: &mut ScalarBuffer<T>,
    value: T,
    rows: usize,
) -> ScalarBuffer<T> {
    if made.first() != Some(&value) || made.len() < rows {
        *made = vec![value; rows].into();
    }
    made.slice(0, rows)
}

/// Codes and keys straight from a key column's dictionary, which batches of a row group share.
fn known_keys(
    known: &mut Option<KeyDictionary>,
    column: &TextCodes,
    may_stay: bool,
) -> Option<(ScalarBuffer<u32>, Arc<[Key]>)> {
    if let Some(keys) = known.as_ref().and_then(|known| known.apply(column, may_stay)) {
        return Some(keys);
    }
    *known = KeyDictionary::of(column);
    known.as_ref()?.apply(column, may_stay)
}
