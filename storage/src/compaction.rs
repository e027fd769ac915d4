//! Compaction: sorted runs of a folder of history merged into one. A merge is planned from one
//! manifest, done beside everything else, and committed against whatever manifest there is then.

use std::collections::BTreeSet;
use std::sync::Arc;

use isotick_model::StreamSchema;

use crate::error::Result;
use crate::folder::DataFolder;
use crate::history;
use crate::manifest::{HistoryFile, Manifest, Origin, Retired};
use crate::store::Store;

/// Runs that are merged at once, at most: each takes memory for a row group.
const MERGED_RUNS_MAX: usize = 64;
/// Runs of about one size from which on merging them pays while more come.
const FAN_IN: u64 = 8;

/// Which runs are worth merging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eagerness {
    /// Any two: each folder becomes one run.
    Full,
    /// So many small ones that each row is written a few times in all, however many flushes bring
    /// rows: eight or more runs of about one size; and in a folder whose times all lie before
    /// `settled_before` (nanoseconds UTC) as few as two, where that does not rewrite much for
    /// little.
    Tiered {
        /// Where little more is expected.
        settled_before: Option<i64>,
    },
}

/// Runs of one folder of a stream that are to become one.
pub struct Merge {
    folder: DataFolder,
    schema: StreamSchema,
    manifest: Arc<Manifest>,
    runs: Vec<Vec<HistoryFile>>,
    id: String,
}

/// A merge that is done: its files are in place, and no manifest names them yet. Dropping it
/// removes them.
#[must_use = "nothing counts before it is committed"]
pub struct Merged {
    folder: DataFolder,
    stream: String,
    replaced: BTreeSet<String>,
    files: Vec<HistoryFile>,
    /// Files in place that are to go if it is dropped.
    written: Vec<String>,
}

fn rows_of(run: &[HistoryFile]) -> u64 {
    run.iter().map(|file| file.file.rows).sum()
}

impl Eagerness {
    /// Chooses among the runs of a folder; `None` where nothing is worth it. The smallest go first.
    fn choose(self, mut runs: Vec<Vec<HistoryFile>>) -> Option<Vec<Vec<HistoryFile>>> {
        runs.sort_by_key(|run| rows_of(run));
        let count = match self {
            Self::Full => runs.len(),
            Self::Tiered { settled_before } => {
                let last = runs.iter().flatten().map(|file| file.ts_max).max();
                let is_settled = last < settled_before;
                let (mut worth, mut before) = (0, 0);
                for (run, number) in runs.iter().zip(0_u64..) {
                    let rows = rows_of(run);
                    // Rewriting a large run for the sake of small ones costs more than it brings.
                    let pays = match is_settled {
                        true => number >= 1 && rows <= before * 8,
                        false => number + 1 >= FAN_IN && rows * number <= before * 4,
                    };
                    if pays {
                        worth = number as usize + 1;
                    }
                    before += rows;
                }
                worth
            }
        };
        runs.truncate(count.min(MERGED_RUNS_MAX));
        (runs.len() > 1).then_some(runs)
    }
}

impl Merge {
    /// The stream.
    pub fn stream(&self) -> &str {
        &self.schema.name
    }

    /// The folder, relative to the data folder.
    pub fn folder(&self) -> &str {
        self.runs[0][0].file.path.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    /// Rows to be merged.
    pub fn rows(&self) -> u64 {
        self.runs.iter().map(|run| rows_of(run)).sum()
    }

    /// Merges. `progress` is told of rows as they are; an error of it ends the merge.
    ///
    /// Memory: a row group for each file that is read at the time, one per run.
    ///
    /// # Errors
    ///
    /// Those of `progress`; [`Error::Damaged`](crate::Error::Damaged),
    /// [`Error::Column`](crate::Error::Column), [`Error::Io`](crate::Error::Io),
    /// [`Error::Parquet`](crate::Error::Parquet). Nothing is left then.
    pub fn run(self, progress: &mut dyn FnMut(u64) -> Result<()>) -> Result<Merged> {
        let mut pieces = 0;
        let mut id = || {
            pieces += 1;
            format!("{}-{pieces:04}", self.id)
        };
        let runs: Vec<Vec<&HistoryFile>> =
            self.runs.iter().map(|run| run.iter().collect()).collect();
        // Its version is the committing manifest's.
        let origin = Origin::Compacted { version: self.manifest.version };
        let staged =
            history::stage_merged(&self.folder, &self.schema, &runs, origin, &mut id, progress)?;
        let mut merged = Merged {
            replaced: runs.iter().flatten().map(|file| file.file.path.clone()).collect(),
            folder: self.folder,
            stream: self.schema.name,
            files: Vec::with_capacity(staged.len()),
            written: Vec::with_capacity(staged.len()),
        };
        for (file, entry) in staged {
            merged.written.push(entry.file.path.clone());
            file.put_in_place()?;
            merged.files.push(entry);
        }
        merged.folder.objects().settle(merged.written.iter().map(String::as_str))?;
        Ok(merged)
    }
}

impl Merged {
    /// Ends as a process does that is killed.
    #[cfg(test)]
    pub(crate) fn abandon(mut self) {
        self.written.clear();
    }

    /// Rows that were merged.
    pub fn rows(&self) -> u64 {
        rows_of(&self.files)
    }
}

impl Drop for Merged {
    fn drop(&mut self) {
        self.folder.objects().try_to_remove(&self.written);
    }
}

impl Store {
    /// How many rows [`compact`](Self::compact) has to write for a stream, with those that it
    /// writes again; 0 when there is nothing to do.
    pub fn uncompacted_rows(&self, stream: &str) -> u64 {
        let mut rows = 0;
        for runs in self.manifest().runs(stream).into_values() {
            let of_run = |run: &Vec<&HistoryFile>| run.iter().map(|file| file.file.rows).sum();
            let mut runs: Vec<u64> = runs.iter().map(of_run).collect();
            while runs.len() > 1 {
                runs.sort_unstable();
                let merged = runs.drain(..runs.len().min(MERGED_RUNS_MAX)).sum();
                rows += merged;
                runs.push(merged);
            }
        }
        rows
    }

    /// Merges a stream's files until each folder (a date) holds one sorted run of them, commit by
    /// commit. `progress` is told of rows as they are merged.
    ///
    /// # Errors
    ///
    /// As [`Merge::run`] and [`commit_merged`](Self::commit_merged); what was committed before
    /// stays.
    pub fn compact(&mut self, schema: &StreamSchema, progress: &mut dyn FnMut(u64)) -> Result<()> {
        while let Some(merge) = self.plan_merge(schema, Eagerness::Full, |_| true) {
            let merged = merge.run(&mut |rows| {
                progress(rows);
                Ok(())
            })?;
            self.commit_merged(merged)?;
        }
        Ok(())
    }

    /// A merge of a stream's files that is worth it, in one of those of its folders (relative to
    /// the data folder) that are wanted; `None` when none is. Until it is committed or dropped, no
    /// other of the same folder may be.
    pub fn plan_merge(
        &mut self,
        schema: &StreamSchema,
        eagerness: Eagerness,
        wanted: impl Fn(&str) -> bool,
    ) -> Option<Merge> {
        let manifest = self.manifest().clone();
        let folders = manifest.runs(&schema.name).into_iter();
        let runs = folders.filter(|(folder, _)| wanted(folder)).find_map(|(_, runs)| {
            let owned = |run: Vec<&HistoryFile>| run.into_iter().cloned().collect();
            eagerness.choose(runs.into_iter().map(owned).collect())
        })?;
        let (folder, schema) = (self.folder().clone(), schema.clone());
        let id = self.merge_id();
        Some(Merge { folder, schema, manifest: manifest.clone(), runs, id })
    }

    /// Puts merged files in the place of those that they were merged from: one swap of the
    /// manifest. Those are removed once nobody can be reading them. False, and nothing is done,
    /// when some of them were dropped meanwhile.
    ///
    /// # Errors
    ///
    /// As [`Commit::finish`](crate::Commit::finish).
    pub fn commit_merged(&mut self, mut merged: Merged) -> Result<bool> {
        let files = self.manifest().streams.get(&merged.stream).map_or(&[][..], |s| &s.files);
        let there = files.iter().filter(|file| merged.replaced.contains(&file.file.path));
        if there.count() < merged.replaced.len() {
            return Ok(false);
        }
        let mut commit = self.begin();
        commit.take_merged(&merged);
        // From here on they are the commit's.
        merged.written.clear();
        commit.finish()?;
        Ok(true)
    }
}

impl crate::store::Commit<'_> {
    pub(crate) fn take_merged(&mut self, merged: &Merged) {
        let origin = Origin::Compacted { version: self.next.version };
        let stream = self.next.streams.get_mut(&merged.stream);
        let stream = stream.expect("it has the files that were merged");
        let replaced = |file: &mut HistoryFile| merged.replaced.contains(&file.file.path);
        let gone: Vec<_> = stream.files.extract_if(.., replaced).collect();
        let files = merged.files.iter().map(|file| HistoryFile { origin, ..file.clone() });
        stream.files.extend(files);
        self.written.extend(merged.written.iter().cloned());
        self.retire(gone.iter().flat_map(HistoryFile::paths));
    }

    /// Takes files out of use: they are removed once nobody can be reading them.
    pub(crate) fn retire(&mut self, paths: impl Iterator<Item = String>) {
        match self.store.grace() {
            Some(_) => {
                let at_ns = self.store.now_ns;
                self.next.retired.extend(paths.map(|path| Retired { path, at_ns }));
            }
            None => self.replaced.extend(paths),
        }
    }
}

#[cfg(test)]
mod tests;
