//! Files as users have them: opened as a stream's ticks.

use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, bail};
use isotick_model::definitions::Definitions;
use isotick_model::{PublisherId, RejectReason, Rejected, StreamSchema, time};
use isotick_scheduler::{Extent, Part, ScanError, TickSink};
use isotick_storage::source::{
    Needed, RejectedRow, Source, SourceBatch, SourceError, SourceOptions,
};

use crate::cli::FieldArgs;

/// Opens a file as ticks of a stream. Ticks whose window no view of the stream can represent are
/// rejected.
pub fn open(
    path: &Path,
    fields: &FieldArgs,
    definitions: &Definitions,
    schema: &StreamSchema,
    publisher: Option<&PublisherId>,
    needed: Option<Needed>,
) -> Result<Source> {
    open_by(
        path,
        fields,
        definitions,
        schema,
        SourceOptions { publisher: publisher.cloned(), needed, ..SourceOptions::default() },
    )
}

/// The same with options of the caller's own; how fields become columns is added to them.
pub fn open_by(
    path: &Path,
    fields: &FieldArgs,
    definitions: &Definitions,
    schema: &StreamSchema,
    options: SourceOptions,
) -> Result<Source> {
    let options = SourceOptions {
        map: fields.pairs()?,
        time_unit: fields.time_unit,
        windows: definitions.views_of(&schema.name).map(|view| view.window).collect(),
        ..options
    };
    let source = Source::open(path, &options, schema)?;
    for column in source.missing() {
        eprintln!(
            "note: {} has no field for the optional column {column}: it is null in every row \
             (name a field with --map {column}=FIELD)",
            path.display()
        );
    }
    Ok(source)
}

/// A publisher's name as given on the command line.
pub fn publisher(name: &str) -> Result<PublisherId> {
    match PublisherId::new(name) {
        Some(publisher) => Ok(publisher),
        None => bail!("a publisher's name has 1 to {} bytes", PublisherId::LEN_MAX),
    }
}

impl FieldArgs {
    /// The `--map` arguments as pairs.
    fn pairs(&self) -> Result<Vec<(String, String)>> {
        let pair = |text: &String| match text.split_once('=') {
            Some((column, field)) if !column.is_empty() && !field.is_empty() => {
                Ok((column.to_owned(), field.to_owned()))
            }
            _ => bail!("--map {text}: write COLUMN=FIELD, the declared column first"),
        };
        self.map.iter().map(pair).collect()
    }
}

/// Rejected rows of files by reason, with the first one of each reason in words.
#[derive(Default)]
pub struct Rejections(Mutex<Vec<(&'static str, u64, String)>>);

impl Rejections {
    /// Counts a batch's rejected rows.
    pub fn count(&self, path: &Path, batch: &SourceBatch) {
        self.count_rows(path, batch, 0..u64::MAX);
    }

    /// Counts those of a batch's rejected rows that lie in a range.
    pub fn count_rows(&self, path: &Path, batch: &SourceBatch, rows: Range<u64>) {
        if batch.details.is_empty() {
            return;
        }
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for row in batch.details.iter().filter(|row| rows.contains(&row.row)) {
            let name = row.reason.name();
            match counts.iter_mut().find(|(other, ..)| *other == name) {
                Some((_, count, _)) => *count += 1,
                None => counts.push((name, 1, format!("{}: {row}", path.display()))),
            }
        }
    }

    /// Reason, rows, and the first such row in words.
    pub fn by_reason(&self) -> Vec<(&'static str, u64, String)> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        counts.sort_unstable();
        counts
    }

    /// Tells the user, on standard error, what was rejected.
    pub fn report(&self) {
        for (reason, count, first) in self.by_reason() {
            eprintln!("rejected as {reason}: {count}; the first: {first}");
        }
    }

    /// Counts by reason, for JSON.
    pub fn to_json(&self) -> serde_json::Value {
        self.by_reason()
            .into_iter()
            .map(|(reason, count, _)| (reason.to_owned(), count.into()))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
}

/// The latest time that the stream's horizon lets in at `now_ns`.
pub fn latest(schema: &StreamSchema, now_ns: i64) -> i64 {
    schema.horizon_ns.map_or(i64::MAX, |horizon| now_ns.saturating_add(horizon))
}

/// Rejects ticks further ahead of `now_ns` than the stream's horizon: the rule that the edge holds
/// publishers to, for files that do not pass it, so that every way in gives the same ticks.
pub fn reject_beyond_horizon(schema: &StreamSchema, batch: &mut SourceBatch, now_ns: i64) {
    let latest = latest(schema, now_ns);
    if batch.ticks.times().is_none_or(|times| *times.end() <= latest) {
        return;
    }
    let ts_event = &batch.ticks.ts_event;
    let rows = 0..ts_event.len() as u32;
    let (beyond, kept): (Vec<u32>, Vec<u32>) =
        rows.partition(|&row| ts_event[row as usize] > latest);
    for row in beyond {
        let (sequence, reason) = (batch.ticks.sequence[row as usize], RejectReason::BeyondHorizon);
        batch.rejected.push(Rejected { sequence, reason });
        batch.details.push(RejectedRow {
            row: sequence,
            line: None,
            reason,
            column: schema.time.clone(),
            text: format!(
                "{} lies beyond the stream's horizon of {}",
                time::format_rfc3339(batch.ticks.ts_event[row as usize]),
                time::format_duration(schema.horizon_ns.unwrap_or(i64::MAX))
            ),
        });
    }
    batch.rejected.sort_unstable_by_key(|row| row.sequence);
    batch.details.sort_by_key(|row| row.row);
    batch.ticks = batch.ticks.take(&kept);
}

/// The file's independently readable parts, as parts of a scan by so many threads.
pub fn scan_parts(
    path: &Path,
    source: Source,
    threads: usize,
    schema: &Arc<StreamSchema>,
    rejections: &Arc<Rejections>,
    now_ns: i64,
) -> Vec<Part> {
    let ranges = source.parts(threads).into_iter().map(|rows| (source.times_of(&rows), rows));
    let ranges: Vec<_> = ranges.collect();
    let source = Arc::new(Mutex::new(source));
    let part = |(times, rows): (Option<RangeInclusive<i64>>, Range<u64>)| {
        let (source, rejections, path) = (source.clone(), rejections.clone(), path.to_owned());
        let schema = schema.clone();
        let extent = times.clone().map(|times| Extent { times, keys: None });
        let (stated, latest) = (times, latest(&schema, now_ns));
        let read = move |sink: &mut TickSink<'_>| {
            let failed = |error| ScanError::Read(Box::new(error));
            let mut part = {
                let source = source.lock().unwrap_or_else(PoisonError::into_inner);
                source.part(rows).map_err(failed)?
            };
            while let Some(mut batch) = part.next_batch().map_err(failed)? {
                // One time that stands for all is good and within what is stated.
                if !batch.one_time {
                    // First: where statistics vouch for times, rows may have come unnumbered, and
                    // one that is rejected is named by its number.
                    if let Some(stated) = &stated {
                        check_times(&path, &batch, stated).map_err(failed)?;
                    }
                    if stated.as_ref().is_none_or(|stated| *stated.end() > latest) {
                        reject_beyond_horizon(&schema, &mut batch, now_ns);
                    }
                }
                rejections.count(&path, &batch);
                sink(batch.ticks)?;
            }
            Ok(())
        };
        Part::ticks(extent, read)
    };
    ranges.into_iter().map(part).collect()
}

/// Holds a file to what its statistics state of a part: windows are finished on their word.
fn check_times(
    path: &Path,
    batch: &SourceBatch,
    stated: &RangeInclusive<i64>,
) -> Result<(), SourceError> {
    let Some(times) = batch.ticks.times() else { return Ok(()) };
    let Some(outside) = [*times.start(), *times.end()].into_iter().find(|ts| !stated.contains(ts))
    else {
        return Ok(());
    };
    let [outside, least, greatest] =
        [outside, *stated.start(), *stated.end()].map(time::format_rfc3339);
    let message = format!(
        "its statistics say that a row group's times lie between {least} and {greatest}, but it \
         holds {outside}; write the file anew with a writer whose statistics are right, or without"
    );
    Err(SourceError::Damaged { path: path.into(), message })
}
