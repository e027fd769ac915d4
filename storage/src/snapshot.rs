//! The reader's side: one manifest version, and the log behind it.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use isotick_model::results::{ResultSchema, WindowRow};
use isotick_model::view::DefinitionHash;
use isotick_model::{KeySelection, LogPosition, StreamSchema, Ticks};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::folder::DataFolder;
use crate::history::{self, Columns, Part};
use crate::log::{LogReader, LogRecord};
use crate::manifest::{DroppedStream, HistoryFile, Manifest, StreamFiles};
use crate::record;
use crate::rollup::{self, StatesPart, Wanted};

fn files_of<'a>(manifest: &'a Manifest, stream: &str) -> &'a [HistoryFile] {
    manifest.streams.get(stream).map_or(&[], |stream| &stream.files)
}

/// A consistent view of a data folder: the files of one manifest version hold exactly the effects
/// of the log before [`covered`](Self::covered), and what was imported. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Snapshot {
    folder: DataFolder,
    manifest: Arc<Manifest>,
    /// Whether other files may stand for those of the manifest, when they were merged meanwhile.
    may_move: bool,
}

/// What a scan of one stream reads, as plain data that outlives the process: the stream's files
/// that hold a range of times, and the stretch of the log behind them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    /// The stream.
    pub stream: String,
    /// The manifest's version.
    pub version: u64,
    /// The first log position that the files do not cover.
    pub covered: u64,
    /// The first log position behind what is read.
    pub end: u64,
    /// The files.
    pub files: StreamFiles,
    /// When a stream of this name was dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<DroppedStream>,
}

/// What is read of a stream's history.
#[derive(Debug, Default)]
pub struct Parts {
    /// Ticks.
    pub ticks: Vec<Part>,
    /// States that stand for the ticks of other files.
    pub states: Vec<StatesPart>,
}

/// The states of a history file that are read in place of its ticks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The name of their base, one of those that the file has states of.
    pub base: String,
    /// The words of a state that are read, each once, in the order wanted.
    pub words: Vec<usize>,
}

/// Chooses states for a file, or its ticks.
pub type Choose<'a> = dyn Fn(&HistoryFile, &StreamFiles) -> Option<Chosen> + 'a;

impl Frozen {
    /// The paths of the files, relative to the data folder.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.files.iter().flat_map(HistoryFile::all_files).map(|file| file.path.as_str())
    }
}

impl Snapshot {
    /// Opens a data folder for reading, also while a writer has it, at the last committed
    /// version.
    ///
    /// # Errors
    ///
    /// As [`DataFolder::open_reader`] and [`Manifest::read`].
    pub fn open(path: &Path) -> Result<Self> {
        let folder = DataFolder::open_reader(path)?;
        let manifest = Manifest::read(&folder)?;
        Ok(Self::new(folder, Arc::new(manifest)))
    }

    pub(crate) fn new(folder: DataFolder, manifest: Arc<Manifest>) -> Self {
        Self { folder, manifest, may_move: true }
    }

    /// A folder at a version of its manifest.
    pub fn at(folder: DataFolder, manifest: Arc<Manifest>) -> Self {
        Self::new(folder, manifest)
    }

    /// Notes what a scan reads of a stream, in a range of times and up to a log position.
    pub fn freeze(&self, stream: &str, times: &RangeInclusive<i64>, end: LogPosition) -> Frozen {
        let files = files_of(&self.manifest, stream).iter();
        let meets =
            |file: &&HistoryFile| file.ts_min <= *times.end() && *times.start() <= file.ts_max;
        let known = self.manifest.streams.get(stream);
        Frozen {
            stream: stream.to_owned(),
            version: self.manifest.version,
            covered: self.manifest.covered,
            end: end.0.max(self.manifest.covered),
            files: StreamFiles {
                files: files.filter(meets).cloned().collect(),
                watermark: known.and_then(|known| known.watermark),
                dropped_before: known.and_then(|known| known.dropped_before),
                bases: known.map(|known| known.bases.clone()).unwrap_or_default(),
                ..StreamFiles::default()
            },
            dropped: self.manifest.dropped.get(stream).copied(),
        }
    }

    /// What was noted, for reading: exactly those files, or an error where one is gone.
    pub fn thaw(folder: DataFolder, frozen: &Frozen) -> Self {
        let streams = [(frozen.stream.clone(), frozen.files.clone())];
        let dropped = frozen.dropped.map(|dropped| (frozen.stream.clone(), dropped));
        let manifest = Manifest {
            version: frozen.version,
            covered: frozen.covered,
            streams: streams.into_iter().collect(),
            dropped: dropped.into_iter().collect(),
            ..Manifest::default()
        };
        Self { folder, manifest: Arc::new(manifest), may_move: false }
    }

    /// The same without some files of a stream, by their paths relative to the data folder.
    pub(crate) fn without(&self, stream: &str, files: &HashSet<String>) -> Self {
        let mut manifest = Manifest::clone(&self.manifest);
        if let Some(stream) = manifest.streams.get_mut(stream) {
            stream.files.retain(|file| !files.contains(&file.file.path));
        }
        Self { folder: self.folder.clone(), manifest: Arc::new(manifest), may_move: self.may_move }
    }

    /// The data folder.
    pub fn folder(&self) -> &DataFolder {
        &self.folder
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The first log position that the files do not cover.
    pub fn covered(&self) -> LogPosition {
        self.manifest.covered()
    }

    /// The stream's watermark at [`covered`](Self::covered), nanoseconds UTC; `None` before every
    /// active publisher had sent.
    pub fn watermark(&self, stream: &str) -> Option<i64> {
        self.manifest.streams.get(stream)?.watermark
    }

    /// History: the parts that hold the rows with `ts_event` in the range. Each stored tick is in
    /// exactly one part; each part is sorted by (key, `ts_event`, publisher, sequence). Opens the
    /// footers of the files that pruning leaves.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`](crate::Error::Damaged), [`Error::Column`](crate::Error::Column) when a
    /// file does not fit the schema, [`Error::Io`](crate::Error::Io), each naming the file.
    pub fn ticks(
        &self,
        schema: &StreamSchema,
        columns: &Columns,
        range: RangeInclusive<i64>,
    ) -> Result<Vec<Part>> {
        self.ticks_of(schema, columns, range, &KeySelection::default())
    }

    /// The same, where rows of keys that are not selected may be left out.
    ///
    /// # Errors
    ///
    /// As [`ticks`](Self::ticks).
    pub fn ticks_of(
        &self,
        schema: &StreamSchema,
        columns: &Columns,
        range: RangeInclusive<i64>,
        keys: &KeySelection,
    ) -> Result<Vec<Part>> {
        Ok(self.parts_of(schema, columns, range, keys, &|_, _| None)?.ticks)
    }

    /// The same, where stored states may stand for the ticks of some files: those for which
    /// `choose` names a base that the file has states of. `choose` is given a file, and all that
    /// is known of the stream. Each stored tick is in one of the parts, or in one of the states.
    ///
    /// # Errors
    ///
    /// As [`ticks`](Self::ticks).
    pub fn parts_of(
        &self,
        schema: &StreamSchema,
        columns: &Columns,
        range: RangeInclusive<i64>,
        keys: &KeySelection,
        choose: &Choose<'_>,
    ) -> Result<Parts> {
        let mut manifest = self.manifest.clone();
        loop {
            let known = manifest.streams.get(&schema.name);
            let plan = || {
                let Some(known) = known else { return Ok(Parts::default()) };
                plan(&self.folder, schema, known, columns, &range, keys, choose)
            };
            match plan() {
                Err(ref error) if error.is_missing() && self.may_move => {
                    // A compaction has replaced files since the manifest was read.
                    let newer = Arc::new(Manifest::read(&self.folder)?);
                    if newer.version == manifest.version || !self.has_ticks_of(&newer, schema) {
                        return plan();
                    }
                    manifest = newer;
                }
                planned => return planned,
            }
        }
    }

    /// Whether a later manifest's files hold the same ticks of a stream: it covers no more of the
    /// log, and nothing was imported. Only rows that come are added, and none ever goes.
    fn has_ticks_of(&self, newer: &Manifest, schema: &StreamSchema) -> bool {
        let rows = |manifest| files_of(manifest, &schema.name).iter().map(|file| file.file.rows);
        newer.covered == self.manifest.covered
            && rows(newer).sum::<u64>() == rows(&self.manifest).sum::<u64>()
    }

    /// The log from [`covered`](Self::covered) on. Ends where the log ends when it is read.
    ///
    /// # Errors
    ///
    /// As [`LogReader::from`].
    pub fn log(&self) -> Result<LogReader> {
        LogReader::from(&self.folder, self.covered())
    }

    /// How many records only the log holds.
    ///
    /// # Errors
    ///
    /// As [`log`](Self::log), and those of its records.
    pub fn uncovered_records(&self) -> Result<u64> {
        self.log()?.try_fold(0, |records, record| record.map(|_| records + 1))
    }

    /// The ticks of a stream that only the log holds, in log order, all columns; none empty.
    ///
    /// # Errors
    ///
    /// As [`log`](Self::log), and those of its records.
    pub fn tail(&self, stream: &str) -> Result<Vec<Ticks>> {
        self.tail_before(stream, LogPosition(u64::MAX))
    }

    /// The same, as far as it comes before a position.
    ///
    /// # Errors
    ///
    /// As [`log`](Self::log), and those of its records.
    pub fn tail_before(&self, stream: &str, end: LogPosition) -> Result<Vec<Ticks>> {
        let mut tail = Vec::new();
        if end <= self.covered() {
            return Ok(tail);
        }
        for record in self.log()? {
            match record? {
                (position, _) if position >= end => break,
                (_, LogRecord::Ticks { stream: of, ticks, .. })
                    if of == stream && !ticks.is_empty() =>
                {
                    tail.push(ticks);
                }
                _ => {}
            }
        }
        Ok(tail)
    }

    /// The recorded live windows of a view definition: the final version of each, sorted by (key,
    /// window start), values exactly as published. Empty when nothing was recorded.
    ///
    /// # Errors
    ///
    /// [`Error::RecordConflict`](crate::Error::RecordConflict), and those of
    /// [`ticks`](Self::ticks).
    pub fn record(
        &self,
        definition: &DefinitionHash,
        schema: &ResultSchema,
    ) -> Result<Vec<WindowRow>> {
        match self.manifest.record(definition) {
            Some(files) => record::read(&self.folder, files, schema),
            None => Ok(Vec::new()),
        }
    }
}

/// Plans the reading of a stream's files.
fn plan(
    folder: &DataFolder,
    schema: &StreamSchema,
    known: &StreamFiles,
    columns: &Columns,
    range: &RangeInclusive<i64>,
    keys: &KeySelection,
    choose: &Choose<'_>,
) -> Result<Parts> {
    let meets = |file: &&HistoryFile| file.ts_max >= *range.start() && file.ts_min <= *range.end();
    let (mut by_ticks, mut by_states) = (Vec::new(), Vec::new());
    for file in known.files.iter().filter(meets) {
        match choose(file, known) {
            Some(chosen) => by_states.push((file, chosen)),
            None => by_ticks.push(file),
        }
    }
    let wanted = by_states.iter().map(|(of, chosen)| {
        let states = of.rollups.get(&chosen.base).and_then(Option::as_ref);
        Wanted {
            of,
            states: states.expect("states are chosen of a base that the file has them of"),
            id: &chosen.base,
            base: &known.bases[&chosen.base],
            words: &chosen.words,
        }
    });
    let wanted: Vec<_> = wanted.collect();
    Ok(Parts {
        states: rollup::plan(folder, schema, &wanted, range, keys)?,
        ticks: history::plan(folder, schema, by_ticks, columns, range, keys)?,
    })
}
