//! What of history goes, and what is known of it afterwards.

use std::collections::BTreeMap;

use isotick_model::Retention;

use crate::error::Result;
use crate::manifest::{DroppedStream, HistoryFile, StreamFiles};
use crate::store::Store;

const DAY_NS: i64 = 86_400_000_000_000;

/// What was taken out of a stream's history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Files.
    pub files: u64,
    /// Ticks.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Dropped {
    /// What dropping files comes to.
    pub fn of<'a>(files: impl IntoIterator<Item = &'a HistoryFile>) -> Self {
        files.into_iter().fold(Self::default(), |sum, file| Self {
            files: sum.files + 1,
            rows: sum.rows + file.file.rows,
            bytes: sum.bytes + bytes_of(file),
        })
    }
}

/// Bytes of a file and of the states of its ticks.
fn bytes_of(file: &HistoryFile) -> u64 {
    file.all_files().map(|file| file.bytes).sum()
}

/// The start of the day that holds a time.
fn day_of(ts: i64) -> i64 {
    ts.saturating_sub(ts.rem_euclid(DAY_NS))
}

/// The time before which a stream's ticks are to go: the start of a day. `None` when all may
/// stay. The day of the watermark always stays.
pub(crate) fn due(stream: &StreamFiles, retention: Retention) -> Option<i64> {
    let w = stream.watermark.or_else(|| stream.files.iter().map(|file| file.ts_max).max())?;
    let by_age = retention.age_ns.map(|age_ns| day_of(w.saturating_sub(age_ns)));
    let by_size = retention.bytes.and_then(|limit| {
        // Files go when the last of their days does.
        let mut by_day = BTreeMap::<i64, u64>::new();
        for file in &stream.files {
            *by_day.entry(day_of(file.ts_max)).or_default() += bytes_of(file);
        }
        let mut bytes = by_day.values().sum::<u64>();
        let mut before = None;
        for (day, of_day) in by_day {
            if bytes <= limit {
                break;
            }
            bytes -= of_day;
            before = Some(day.saturating_add(DAY_NS));
        }
        before
    });
    let before = by_age.max(by_size)?.min(day_of(w));
    let goes = |file: &HistoryFile| file.ts_max < before;
    stream.files.iter().any(goes).then_some(before)
}

impl Store {
    /// Takes those days of a stream's history out of use that its retention gives up: one commit,
    /// none where there is nothing to give up.
    ///
    /// # Errors
    ///
    /// As [`Commit::finish`](crate::Commit::finish).
    pub fn retain(&mut self, stream: &str, retention: Retention) -> Result<Dropped> {
        let files = self.manifest().streams.get(stream);
        match files.and_then(|files| due(files, retention)) {
            Some(before) => self.drop_ticks(stream, before),
            None => Ok(Dropped::default()),
        }
    }

    /// Takes the files of a stream out of use whose ticks all have times before `before`,
    /// nanoseconds UTC: one commit, none where there are no such files. What was there is no longer
    /// known to scans; the manifest keeps up to where it is gone.
    ///
    /// # Errors
    ///
    /// As [`Commit::finish`](crate::Commit::finish).
    pub fn drop_ticks(&mut self, stream: &str, before: i64) -> Result<Dropped> {
        let mut commit = self.begin();
        let Some(files) = commit.next.streams.get_mut(stream) else {
            return Ok(Dropped::default());
        };
        let gone: Vec<_> = files.files.extract_if(.., |file| file.ts_max < before).collect();
        if gone.is_empty() {
            return Ok(Dropped::default());
        }
        files.dropped_before = files.dropped_before.max(Some(before));
        commit.retire(gone.iter().flat_map(HistoryFile::paths));
        commit.finish()?;
        Ok(Dropped::of(&gone))
    }

    /// Takes everything of a stream out of use: its history, and the records of the views over it,
    /// whose definitions' hashes are given. One commit. What the log before holds of it no longer
    /// counts.
    ///
    /// # Errors
    ///
    /// As [`Commit::finish`](crate::Commit::finish).
    pub fn drop_stream(&mut self, stream: &str, definitions: &[&str]) -> Result<Dropped> {
        let mut commit = self.begin();
        let Some(files) = commit.next.streams.remove(stream) else {
            return Ok(Dropped::default());
        };
        let mut paths: Vec<_> = files.files.iter().flat_map(HistoryFile::paths).collect();
        for definition in definitions {
            let record = commit.next.records.remove(*definition).into_iter();
            paths.extend(record.flat_map(|record| record.files).map(|file| file.path));
        }
        let (version, position) = (commit.next.version, commit.next.covered);
        commit.next.dropped.insert(stream.to_owned(), DroppedStream { version, position });
        commit.retire(paths.into_iter());
        commit.finish()?;
        Ok(Dropped::of(&files.files))
    }
}

#[cfg(test)]
mod tests;
