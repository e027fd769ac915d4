//! The manifest: the only truth about which files count and which log position they cover.

mod invariants;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};

use isotick_model::view::DefinitionHash;
use isotick_model::{LogPosition, RejectReason};
use serde::{Deserialize, Serialize};

use crate::checkpoint::{self, CheckpointFile};
use crate::error::{Error, Result};
use crate::files;
use crate::folder::{DataFolder, FORMAT_VERSION};
use crate::objects::{StagedManifest, Tag};
use crate::rollup::{RollupBase, StatesFile};

/// One version of a data folder's content: a consistent cut at one log position.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Counts the commits; 0 before the first.
    pub version: u64,
    /// The first log position whose effects are *not* in the files: everything before is.
    pub covered: u64,
    /// By stream name.
    pub streams: BTreeMap<String, StreamFiles>,
    /// Recorded live windows, by the hash of the view's definition.
    pub records: BTreeMap<String, RecordFiles>,
    /// Streams that were dropped; one of the same name may have come again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dropped: BTreeMap<String, DroppedStream>,
    /// What the live path held, the newest last, at most two.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checkpoints: Vec<CheckpointFile>,
    /// Who writes, where several could.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer: Option<Writer>,
    /// Files that no longer count and are still there, for readers that hold an earlier manifest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retired: Vec<Retired>,
}

/// The writer of a store: a data folder, and which opening of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writer {
    /// The id of the data folder whose log the positions are of.
    pub folder: String,
    /// Counts its openings for writing: what an earlier one has sent and not heard of comes to
    /// nothing.
    pub opened: u64,
}

/// A file that was replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retired {
    /// The file.
    pub path: String,
    /// When, nanoseconds UTC by the writer's clock.
    pub at_ns: i64,
}

/// When a stream was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedStream {
    /// The manifest version that did it.
    pub version: u64,
    /// What the log holds of it before this position no longer counts.
    pub position: u64,
}

/// What is stored of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamFiles {
    /// The stream's watermark when `covered` was reached, nanoseconds UTC; `None` before every
    /// active publisher had sent.
    pub watermark: Option<i64>,
    /// History, in the order in which it was committed.
    pub files: Vec<HistoryFile>,
    /// Days that end by this time may be gone, nanoseconds UTC; `None` while all is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped_before: Option<i64>,
    /// What states are kept of history files, by name: also of those that come later.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bases: BTreeMap<String, RollupBase>,
    /// Imported publishers (one per imported file), by name.
    pub imported: BTreeMap<String, Imported>,
}

/// How much an import brought.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// Rows of the source: its sequence is `0..rows`, rejected ones included.
    pub rows: u64,
    /// Rejected rows by the reason's name.
    pub rejected: BTreeMap<String, u64>,
    /// What these rows came from, where the folder holds every row of it up to some row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<ImportedSource>,
}

/// How far one content, read in one way, is in a folder: rows before `rows` were imported, were
/// held with the same content before, or were rejected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedSource {
    /// A hash of the content and of what it was read by.
    pub hash: String,
    /// Rows from the start.
    pub rows: u64,
    /// Whether those are all.
    pub complete: bool,
}

impl Imported {
    /// From rows and a count per reason.
    pub fn new(rows: u64, rejected: impl IntoIterator<Item = (RejectReason, u64)>) -> Self {
        let mut counts = BTreeMap::new();
        for (reason, count) in rejected {
            if count > 0 {
                *counts.entry(reason.name().to_owned()).or_default() += count;
            }
        }
        Self { rows, rejected: counts, source: None }
    }
}

/// A stored file and what protects it: its footer's checksum, which in turn holds those of its
/// column chunks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredFile {
    /// Relative to the data folder, with `/`.
    pub path: String,
    /// Rows, at least 1.
    pub rows: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// CRC-32 of the Parquet footer.
    pub footer_crc32: u32,
}

/// One file of ticks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryFile {
    /// The file.
    #[serde(flatten)]
    pub file: StoredFile,
    /// The least `ts_event`, nanoseconds UTC.
    pub ts_min: i64,
    /// The greatest `ts_event`, nanoseconds UTC.
    pub ts_max: i64,
    /// Where its ticks come from.
    pub origin: Origin,
    /// The states of its ticks, by the name of their base among those of the stream; `None` where
    /// they are not worth a file.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rollups: BTreeMap<String, Option<StatesFile>>,
}

impl HistoryFile {
    /// A file of which no states are known. `times` are the least and the greatest.
    pub(crate) fn new(file: StoredFile, times: (i64, i64), origin: Origin) -> Self {
        Self { file, ts_min: times.0, ts_max: times.1, origin, rollups: BTreeMap::new() }
    }

    /// The file and those of the states of its ticks: what goes when it goes.
    pub fn all_files(&self) -> impl Iterator<Item = &StoredFile> {
        let states = self.rollups.values().flatten().map(|states| &states.file);
        std::iter::once(&self.file).chain(states)
    }

    /// Their paths, relative to the data folder.
    pub(crate) fn paths(&self) -> impl Iterator<Item = String> {
        self.all_files().map(|file| file.path.clone())
    }
}

/// Where the ticks of a file come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Log records at positions `[from, to)`.
    Log {
        /// The first position.
        from: u64,
        /// The position after the last.
        to: u64,
    },
    /// An import.
    Imported,
    /// Other files that it replaced.
    Compacted {
        /// The manifest version that brought it. Files of one version and folder follow each other
        /// in the order of history.
        version: u64,
    },
}

/// The recorded windows of one view definition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordFiles {
    /// The view's name.
    pub view: String,
    /// The first log position whose published windows are *not* in the files. It stays behind the
    /// manifest's while the definition is not in use.
    #[serde(default)]
    pub covered: u64,
    /// The stream's watermark at `covered`, nanoseconds UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<i64>,
    /// Windows that the record does not have, because the view was not in use when they were live.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unrecorded: Vec<Unrecorded>,
    /// The files, in the order in which they were committed.
    pub files: Vec<StoredFile>,
}

/// Windows by their start, nanoseconds UTC: `[from, to)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unrecorded {
    /// The first start; `None`: from the beginning.
    pub from: Option<i64>,
    /// The start after the last.
    pub to: i64,
}

impl Unrecorded {
    /// Whether a window that starts there is one of these.
    pub fn contains(&self, window_start: i64) -> bool {
        self.from.is_none_or(|from| from <= window_start) && window_start < self.to
    }
}

/// The file's form: the manifest and a checksum over its canonical text.
#[derive(Serialize, Deserialize)]
struct Enclosed<M> {
    format: u32,
    crc32: u32,
    manifest: M,
}

impl Manifest {
    /// The first log position that the files do not cover.
    pub fn covered(&self) -> LogPosition {
        LogPosition(self.covered)
    }

    /// What an import of this publisher brought into a stream, `None` when there was none.
    pub fn imported(&self, stream: &str, publisher: &str) -> Option<&Imported> {
        self.streams.get(stream)?.imported.get(publisher)
    }

    /// Whether what the log holds of a stream at a position was dropped.
    pub fn is_dropped(&self, stream: &str, position: LogPosition) -> bool {
        self.dropped.get(stream).is_some_and(|dropped| position.0 < dropped.position)
    }

    /// The recorded windows' files of a view definition.
    pub fn record(&self, definition: &DefinitionHash) -> Option<&RecordFiles> {
        self.records.get(&definition.0)
    }

    /// A stream's history files by their folders, each in sorted runs: several files that follow
    /// each other, or one.
    pub(crate) fn runs(&self, stream: &str) -> BTreeMap<&str, Vec<Vec<&HistoryFile>>> {
        let mut folders = BTreeMap::<&str, Vec<Vec<&HistoryFile>>>::new();
        for file in self.streams.get(stream).into_iter().flat_map(|stream| &stream.files) {
            let folder = file.file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let runs = folders.entry(folder).or_default();
            let same = |run: &&mut Vec<&HistoryFile>| {
                matches!(file.origin, Origin::Compacted { .. }) && run[0].origin == file.origin
            };
            match runs.iter_mut().find(same) {
                Some(run) => run.push(file),
                None => runs.push(vec![file]),
            }
        }
        folders
    }

    /// Every file that counts.
    pub fn files(&self) -> impl Iterator<Item = &StoredFile> {
        let history = self.streams.values().flat_map(|stream| &stream.files);
        history
            .flat_map(HistoryFile::all_files)
            .chain(self.records.values().flat_map(|record| &record.files))
    }

    /// Reads the folder's manifest; the empty one when nothing was committed yet.
    ///
    /// # Errors
    ///
    /// [`Error::Newer`], [`Error::Manifest`] when it is damaged, [`Error::Io`].
    pub fn read(folder: &DataFolder) -> Result<Self> {
        Ok(Self::read_tagged(folder)?.0)
    }

    /// The same with what the next one has to replace.
    pub(crate) fn read_tagged(folder: &DataFolder) -> Result<(Self, Tag)> {
        let path = folder.objects().manifest_path();
        let Some((text, tag)) = folder.objects().read_manifest()? else {
            return Ok(Default::default());
        };
        let damaged = |what: String| Error::Manifest { path: path.clone(), what };
        // The format first: a newer manifest may have any content.
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let Format { format } =
            serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        if format > FORMAT_VERSION {
            return Err(Error::Newer { path, found: format, supported: FORMAT_VERSION });
        }
        let enclosed: Enclosed<Self> =
            serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        if enclosed.crc32 != enclosed.manifest.crc32() {
            return Err(damaged("its checksum does not match its content".to_owned()));
        }
        invariants::holds(&enclosed.manifest).map_err(damaged)?;
        Ok((enclosed.manifest, tag))
    }

    /// Makes a manifest ready to replace the current one. The commit happens when it is swapped.
    ///
    /// # Panics
    ///
    /// If it is no valid successor of `current`.
    pub(crate) fn stage(&self, folder: &DataFolder, current: &Self) -> Result<StagedManifest> {
        if let Err(what) =
            invariants::holds(self).and_then(|()| invariants::succeeds(self, current))
        {
            panic!("a commit breaks a manifest invariant: {what}");
        }
        let enclosed = Enclosed { format: FORMAT_VERSION, crc32: self.crc32(), manifest: self };
        let text = serde_json::to_vec_pretty(&enclosed).expect("a manifest is plain data");
        folder.objects().stage_manifest(&text)
    }

    /// That another manifest is in the place of the one that `next` was to replace.
    pub(crate) fn replaced(folder: &DataFolder, next: &Self, there: &[u8]) -> Error {
        let path = folder.objects().manifest_path();
        let found = match serde_json::from_slice::<Enclosed<Self>>(there) {
            Ok(Enclosed { manifest: Self { version, writer, .. }, .. }) => match writer {
                Some(Writer { folder, opened }) => {
                    format!("version {version} of data folder {folder}, opened {opened} times")
                }
                None => format!("version {version}"),
            },
            Err(_) if there.is_empty() => "nothing".to_owned(),
            Err(_) => "something else".to_owned(),
        };
        Error::ManifestReplaced { path, version: next.version, found }
    }

    fn crc32(&self) -> u32 {
        crc32fast::hash(&serde_json::to_vec(self).expect("a manifest is plain data"))
    }
}

/// Removes what no commit refers to: unfinished files and files of commits that did not happen.
/// Only names in our own layout are touched. Returns how many were removed.
pub(crate) fn remove_orphans(folder: &DataFolder, manifest: &Manifest) -> Result<u64> {
    folder.assert_writer();
    let orphans = orphans(folder, manifest)?;
    orphans.iter().try_for_each(|name| folder.objects().remove(name))?;
    Ok(orphans.len() as u64)
}

/// Files in our own layout that no commit refers to.
pub(crate) fn orphans(folder: &DataFolder, manifest: &Manifest) -> Result<Vec<String>> {
    let checkpoints = manifest.checkpoints.iter().map(|file| file.path.as_str());
    let retired = manifest.retired.iter().map(|retired| retired.path.as_str());
    let files = manifest.files().map(|file| file.path.as_str());
    let kept: HashSet<&str> = files.chain(checkpoints).chain(retired).collect();
    let ours = |name: &String| {
        name.ends_with(".parquet")
            || name.ends_with(checkpoint::SUFFIX)
            || files::is_unfinished(name)
    };
    let mut names = folder.objects().names()?;
    names.retain(|name| ours(name) && !kept.contains(name.as_str()));
    Ok(names)
}
