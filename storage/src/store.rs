//! The writer's side: one store per data folder, commits that swap the manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use isotick_model::results::ResultSchema;
use isotick_model::ticks::NEVER_SEEN;
use isotick_model::view::DefinitionHash;
use isotick_model::{LogPosition, PublisherId, StreamSchema, Ticks};

use crate::checkpoint::{self, Checkpoint};
use crate::error::{Error, Result};
use crate::folder::DataFolder;
use crate::log::{LogIo, LogWriter, Recovery};
use crate::manifest::{self, Imported, Manifest, Origin, Retired, Unrecorded, Writer};
use crate::objects::{StagedManifest, StagedObject, StoreUrl, SwapError, Tag};
use crate::record::RecordedWindow;
use crate::snapshot::Snapshot;
use crate::{history, record};

/// A data folder open for writing: its lock, its manifest, its log.
pub struct Store {
    folder: DataFolder,
    manifest: Arc<Manifest>,
    /// Which manifest the next one replaces.
    tag: Tag,
    /// Counts the commits that were begun: files of each have names of their own.
    begun: u64,
    pub(crate) now_ns: i64,
    /// How long replaced files stay in a local folder, if not at once.
    grace: Option<Duration>,
    pins: Pins,
    leftovers: u64,
}

/// Files that are read for longer than replaced ones are kept otherwise. Shared by all clones.
#[derive(Clone, Debug, Default)]
pub struct Pins(Arc<Mutex<BTreeMap<String, u32>>>);

impl Pins {
    /// Keeps files, by their paths relative to the data folder, until what is returned is dropped.
    #[must_use = "the files are kept as long as this lives"]
    pub fn pin(&self, paths: impl IntoIterator<Item = String>) -> Pinned {
        let paths: Vec<String> = paths.into_iter().collect();
        let mut pinned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        paths.iter().for_each(|path| *pinned.entry(path.clone()).or_default() += 1);
        drop(pinned);
        Pinned { pins: self.clone(), paths }
    }

    fn has(&self, path: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(path)
    }
}

/// Keeps files that [`Pins::pin`] was told of.
#[derive(Debug)]
pub struct Pinned {
    pins: Pins,
    paths: Vec<String>,
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let mut pinned = self.pins.0.lock().unwrap_or_else(PoisonError::into_inner);
        for path in &self.paths {
            if let Some(count) = pinned.get_mut(path) {
                *count -= 1;
                if *count == 0 {
                    pinned.remove(path);
                }
            }
        }
    }
}

/// How a data folder is opened for writing.
#[derive(Clone, Copy, Debug)]
pub struct Opening<'a> {
    /// Tells the next one who tries what holds the folder, e.g. `isotick serve`.
    pub command: &'a str,
    /// Where history, record, checkpoints and manifest go if not into the folder: said when the
    /// folder is made, remembered from then on.
    pub store: Option<&'a StoreUrl>,
    /// The time, nanoseconds UTC: see [`Store::handle_time`].
    pub now_ns: i64,
}

impl Store {
    /// Opens a data folder as its only writer (see [`DataFolder::open_writer`]) and removes what
    /// earlier commits left unfinished.
    pub fn open(path: &Path, command: &str) -> Result<Self> {
        Self::open_with(path, Opening { command, store: None, now_ns: 0 })
    }

    /// The same, with a store elsewhere. In a store, opening is a commit: what an earlier writer has
    /// sent and not heard of can no longer come to anything after it.
    ///
    /// # Errors
    ///
    /// As [`DataFolder::open_writer`] and [`Manifest::read`]; [`Error::OtherStore`],
    /// [`Error::StoreOwned`], [`Error::ManifestReplaced`], [`Error::Object`].
    pub fn open_with(path: &Path, opening: Opening<'_>) -> Result<Self> {
        Self::take(DataFolder::lock_writer(path, opening.command, opening.store)?, opening.now_ns)
    }

    /// Opens a folder whose lock is held.
    pub(crate) fn take(folder: DataFolder, now_ns: i64) -> Result<Self> {
        let (manifest, tag) = Manifest::read_tagged(&folder)?;
        let mut store = Self {
            folder,
            manifest: Arc::new(manifest),
            tag,
            begun: 0,
            now_ns,
            grace: None,
            pins: Pins::default(),
            leftovers: 0,
        };
        store.take_over()?;
        store.folder.mark()?;
        store.leftovers = manifest::remove_orphans(&store.folder, &store.manifest)?;
        Ok(store)
    }

    /// Makes this the writer of a store.
    fn take_over(&mut self) -> Result<()> {
        let Some(place) = self.folder.place() else { return Ok(()) };
        let folder = place.folder.clone();
        let opened = match &self.manifest.writer {
            Some(writer) if writer.folder != folder => {
                let (path, owner) = (self.folder.objects().manifest_path(), writer.folder.clone());
                return Err(Error::StoreOwned { path, owner, folder });
            }
            Some(writer) => writer.opened,
            None => 0,
        };
        let mut commit = self.begin();
        commit.next.writer = Some(Writer { folder, opened: opened + 1 });
        commit.finish()?;
        Ok(())
    }

    /// Tells the store the time, nanoseconds UTC, before a commit: files that were replaced are
    /// kept for a while in a store, where readers cannot hold them open.
    pub fn handle_time(&mut self, now_ns: i64) {
        self.now_ns = now_ns;
    }

    /// How many files of unfinished commits and of compactions were removed when the folder was
    /// opened.
    pub fn leftovers(&self) -> u64 {
        self.leftovers
    }

    /// The same for people; `None` when there were none.
    pub fn leftovers_notice(&self) -> Option<String> {
        (self.leftovers > 0).then(|| {
            format!("removed {} files that an interrupted command had left", self.leftovers)
        })
    }

    /// The data folder.
    pub fn folder(&self) -> &DataFolder {
        &self.folder
    }

    /// The last committed manifest.
    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// Opens the log for appending.
    ///
    /// # Errors
    ///
    /// As [`LogWriter::open`]; [`Error::LogGap`] when the log ends before the position that the
    /// manifest covers.
    pub fn open_log(&self) -> Result<(LogWriter, Recovery)> {
        self.open_log_with(LogIo::default())
    }

    /// The same, with the way in which the log is written.
    pub fn open_log_with(&self, io: LogIo) -> Result<(LogWriter, Recovery)> {
        let (writer, recovery) =
            LogWriter::open_with_io(&self.folder, io, self.manifest.covered())?;
        if recovery.next < self.manifest.covered() {
            let position = self.manifest.covered;
            return Err(Error::LogGap { path: self.folder.log(), position });
        }
        Ok((writer, recovery))
    }

    /// The newest checkpoint that can be read; `None` where none was made. `told` hears of a
    /// damaged one that is passed over.
    ///
    /// # Errors
    ///
    /// Why the newest cannot be read, when none can.
    pub fn checkpoint(&self, mut told: impl FnMut(&Error)) -> Result<Option<Checkpoint>> {
        let mut first_error = None;
        for file in self.manifest.checkpoints.iter().rev() {
            match checkpoint::read(&self.folder, file) {
                Ok(checkpoint) => return Ok(Some(checkpoint)),
                Err(error) => {
                    told(&error);
                    first_error.get_or_insert(error);
                }
            }
        }
        first_error.map_or(Ok(None), Err)
    }

    /// What is committed now, for reading.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.folder.clone(), self.manifest.clone())
    }

    /// From now on, files that are replaced stay for a while for those that are reading, also in a
    /// local folder.
    pub fn keep_replaced(&mut self, grace: Duration) {
        self.grace = Some(grace);
    }

    /// Keeps files that are replaced also for longer than that.
    pub fn pins(&self) -> Pins {
        self.pins.clone()
    }

    /// How long files that are replaced stay; `None` where they go at once.
    pub(crate) fn grace(&self) -> Option<Duration> {
        self.folder.place().map(|place| place.grace).or(self.grace)
    }

    /// A name for a merge, which no other has.
    pub(crate) fn merge_id(&mut self) -> String {
        self.begun += 1;
        let opened = self.manifest.writer.as_ref().map(|writer| format!("-{}", writer.opened));
        let (version, begun) = (self.manifest.version, self.begun);
        format!("{version:010}{}-m{begun:04}", opened.unwrap_or_default())
    }

    /// A name for a file of states, which no other has.
    pub(crate) fn rollup_id(&mut self) -> String {
        self.merge_id().replace("-m", "-s")
    }

    /// Begins a commit. Nothing counts before [`Commit::finish`]; dropping it undoes it.
    pub fn begin(&mut self) -> Commit<'_> {
        let mut next = Manifest::clone(&self.manifest);
        next.version += 1;
        self.begun += 1;
        let mut replaced = Vec::new();
        let grace_ns =
            self.grace().map_or(0, |grace| i64::try_from(grace.as_nanos()).unwrap_or(i64::MAX));
        let is_gone = |retired: &mut Retired| {
            let is_over = grace_ns == 0 || retired.at_ns.saturating_add(grace_ns) <= self.now_ns;
            is_over && !self.pins.has(&retired.path)
        };
        replaced.extend(next.retired.extract_if(.., is_gone).map(|retired| retired.path));
        Commit {
            store: self,
            next,
            written: Vec::new(),
            replaced,
            recorded: BTreeSet::new(),
            pieces: 0,
        }
    }
}

/// Files being written for one new manifest. Add ticks, windows and imports in any number of
/// bounded pieces, then [`finish`](Self::finish).
///
/// Determinism: the files depend on what is added and in which pieces; what a reader gets from
/// them does not depend on the pieces.
#[must_use = "nothing counts before it is finished"]
pub struct Commit<'a> {
    pub(crate) store: &'a mut Store,
    pub(crate) next: Manifest,
    /// Files that are in place.
    pub(crate) written: Vec<String>,
    /// Files that are removed once it has happened.
    pub(crate) replaced: Vec<String>,
    /// Definitions whose windows this commit brings up to what it covers.
    recorded: BTreeSet<String>,
    pieces: u32,
}

impl Commit<'_> {
    /// Adds ticks of the live path. `positions` is the range of log records they come from: the
    /// same for all pieces of one commit, and nothing of a stream before the range of its last
    /// commit's end. Batches may hold any publishers and come in any order. Memory: about twice
    /// the batches.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Parquet`]; the commit can only be dropped then.
    ///
    /// # Panics
    ///
    /// If a column that is not optional is null or absent.
    pub fn add_ticks(
        &mut self,
        schema: &StreamSchema,
        batches: &[Ticks],
        positions: Range<LogPosition>,
    ) -> Result<()> {
        let origin = Origin::Log { from: positions.start.0, to: positions.end.0 };
        self.add_history(schema, batches, origin)
    }

    /// Adds imported ticks, marked as never seen live. Call
    /// [`mark_imported`](Self::mark_imported) once per publisher as well.
    ///
    /// # Errors and panics
    ///
    /// As for [`add_ticks`](Self::add_ticks).
    pub fn add_imported(&mut self, schema: &StreamSchema, batches: &[Ticks]) -> Result<()> {
        let never_seen = |batch: &Ticks| Ticks {
            seen: Some(vec![NEVER_SEEN; batch.len()].into()),
            ..batch.clone()
        };
        let batches: Vec<_> = batches.iter().map(never_seen).collect();
        self.add_history(schema, &batches, Origin::Imported)
    }

    /// Notes how far a publisher was imported: rows `0..imported.rows` of its source, rejected ones
    /// included. A later import of the same publisher replaces the note; it never shrinks.
    pub fn mark_imported(&mut self, stream: &str, publisher: &PublisherId, imported: Imported) {
        let marks = &mut self.next.streams.entry(stream.to_owned()).or_default().imported;
        let earlier = marks.get(publisher.as_str()).map_or(0, |earlier| earlier.rows);
        let rows = imported.rows.max(earlier);
        marks.insert(publisher.as_str().to_owned(), Imported { rows, ..imported });
    }

    /// Adds windows that a view published: all since the position up to which its record was
    /// complete, so that it is complete up to what this commit covers. None is fine too.
    /// `watermark` is that of the view's stream there.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Parquet`]; the commit can only be dropped then.
    ///
    /// # Panics
    ///
    /// If a value is not of its column's output type.
    pub fn add_windows(
        &mut self,
        view: &str,
        definition: &DefinitionHash,
        schema: &ResultSchema,
        windows: &[RecordedWindow],
        watermark: Option<i64>,
    ) -> Result<()> {
        let record = self.next.records.entry(definition.0.clone()).or_default();
        record.view = view.to_owned();
        record.watermark = watermark.max(record.watermark);
        self.recorded.insert(definition.0.clone());
        if windows.is_empty() {
            return Ok(());
        }
        let id = self.next_id();
        let staged = record::stage(&self.store.folder, view, definition, schema, windows, &id)?;
        let (file, entry) = staged;
        self.put(file, &entry.path)?;
        let record = self.next.records.get_mut(&definition.0).expect("it was made above");
        record.files.push(entry);
        Ok(())
    }

    /// Notes that a view comes late: windows that the record does not have and will not get.
    pub fn note_unrecorded(
        &mut self,
        view: &str,
        definition: &DefinitionHash,
        windows: Unrecorded,
    ) {
        let record = self.next.records.entry(definition.0.clone()).or_default();
        record.view = view.to_owned();
        record.unrecorded.push(windows);
    }

    /// Adds what the live path held at a log position that this commit covers. The newest two
    /// checkpoints are kept.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; the commit can only be dropped then.
    pub fn add_checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let id = self.next_id();
        let (file, entry) = checkpoint::stage(&self.store.folder, checkpoint, &id)?;
        self.put(file, &entry.path)?;
        let checkpoints = &mut self.next.checkpoints;
        checkpoints.push(entry);
        let old = checkpoints.len().saturating_sub(checkpoint::KEPT);
        for old in checkpoints.drain(..old) {
            self.replaced.push(old.path);
        }
        Ok(())
    }

    /// Says which log position this commit covers up to (exclusive), and the watermark of each
    /// stream there.
    pub fn cover(
        &mut self,
        covered: LogPosition,
        watermarks: impl IntoIterator<Item = (String, Option<i64>)>,
    ) {
        self.next.covered = covered.0;
        for (stream, watermark) in watermarks {
            self.next.streams.entry(stream).or_default().watermark = watermark;
        }
    }

    /// Makes the files durable and swaps the manifest: everything added counts at once. Returns
    /// the new manifest.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; the old manifest still holds then, unless only its folder's sync failed.
    /// [`Error::ManifestReplaced`] when another writer came first; [`Error::Object`] when the store
    /// did not answer: whether the commit happened shows when the folder is next opened.
    ///
    /// # Panics
    ///
    /// If what was added breaks an invariant of the manifest: positions that are not covered or
    /// repeat, a watermark that moves back.
    pub fn finish(mut self) -> Result<Arc<Manifest>> {
        for definition in std::mem::take(&mut self.recorded) {
            let record = self.next.records.get_mut(&definition).expect("it was added");
            record.covered = self.next.covered;
        }
        let staged = self.stage_manifest()?;
        self.store.tag = match staged.swap(&self.store.tag) {
            Ok(tag) => tag,
            Err(SwapError::Failed(error)) => return Err(error),
            Err(SwapError::Unknown(error)) => {
                // It may have happened: the next opening finds out, and removes them if not.
                self.written.clear();
                return Err(error);
            }
            Err(SwapError::Replaced(there)) => {
                // What is there may build on a try of ours, and the files with it.
                self.written.clear();
                return Err(Manifest::replaced(&self.store.folder, &self.next, &there));
            }
        };
        // From here on the files are referred to.
        self.written.clear();
        self.store.manifest = Arc::new(std::mem::take(&mut self.next));
        self.store.folder.objects().settle_manifest()?;
        self.store.folder.objects().try_to_remove(&self.replaced);
        Ok(self.store.manifest.clone())
    }

    /// Everything before the swap.
    pub(crate) fn stage_manifest(&self) -> Result<StagedManifest> {
        self.store.folder.objects().settle(self.written.iter().map(String::as_str))?;
        self.next.stage(&self.store.folder, &self.store.manifest)
    }

    fn add_history(
        &mut self,
        schema: &StreamSchema,
        batches: &[Ticks],
        origin: Origin,
    ) -> Result<()> {
        if batches.iter().all(Ticks::is_empty) {
            return Ok(());
        }
        let id = self.next_id();
        for (file, entry) in history::stage(&self.store.folder, schema, batches, origin, &id)? {
            self.put(file, &entry.file.path)?;
            let stream = self.next.streams.entry(schema.name.clone()).or_default();
            stream.files.push(entry);
        }
        Ok(())
    }

    /// A name for this commit's next file: commits of one version do not both happen, and what a
    /// failed one left is not referred to.
    fn next_id(&mut self) -> String {
        let mut id = format!("{:010}-{:04}", self.next.version, self.pieces);
        if let Some(writer) = &self.next.writer {
            // Requests of earlier writers and commits may still be on their way to a store.
            id += &format!("-{}.{}", writer.opened, self.store.begun);
        }
        self.pieces += 1;
        id
    }

    fn put(&mut self, file: StagedObject, relative: &str) -> Result<()> {
        self.written.push(relative.to_owned());
        file.put_in_place()
    }
}

impl Drop for Commit<'_> {
    fn drop(&mut self) {
        self.store.folder.objects().try_to_remove(&self.written);
    }
}
