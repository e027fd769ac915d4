//! What appender and syncers share: the segment that grows, what is not durable yet, and what
//! happens when the disk refuses.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use isotick_model::LogPosition;

use super::commits::{Commits, Tails};
use super::disk::{Disk, DiskFile};
use super::segment::{self, BLOCK};
use crate::error::{Error, Result};

/// Segments that may fail one after another, without a sync between that works, before the log
/// takes no more.
const STRIKES_MAX: u32 = 3;
/// Files that are kept for later segments.
const SPARES_MAX: usize = 2;
/// Buffers of durable frames that are kept for new ones, and how long one may be.
const FREE_MAX: usize = 8;
const FREE_LEN_MAX: usize = 4 << 20;

/// What the disk refused so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFaults {
    /// Segments given up because a write or sync failed. What was not durable in them was written
    /// again to others, and only then acknowledged.
    pub retired_segments: u64,
    /// The last failure, `None` when there was none.
    pub last: Option<Arc<str>>,
}

pub(super) struct Shared {
    pub disk: Arc<dyn Disk>,
    pub folder: PathBuf,
    /// One sync at a time: of two, only one may be told of a failure. Holds what is under way
    /// past the page cache, where that is the way.
    sync_turn: Mutex<Option<Commits>>,
    state: Mutex<State>,
    /// Acknowledges what was not synced: the bug that the simulation must find.
    #[cfg(test)]
    pub acknowledges_early: std::sync::atomic::AtomicBool,
}

pub(super) struct State {
    pub current: Current,
    /// What is written and not durable, in order: kept because a failed sync may lose it.
    pub pending: VecDeque<Pending>,
    pub pending_bytes: usize,
    /// The position of the next record.
    pub next: u64,
    /// Everything before this position is durable.
    pub durable: u64,
    /// The first positions of the segments that are kept, ascending; the last one grows.
    pub firsts: VecDeque<u64>,
    /// Those among them that failed: their files are not used again.
    faulty: BTreeSet<u64>,
    /// Files written beforehand or used before, ready for the next segments.
    pub spares: Vec<PathBuf>,
    /// Buffers to use again.
    free: Vec<Vec<u8>>,
    /// Where frames are written that go to the segment past the page cache; `None` where they go
    /// through it.
    pub tails: Option<Tails>,
    faults: LogFaults,
    pub strikes: u32,
    poison: Option<Arc<str>>,
    /// For the next name of a spare.
    spares_named: u64,
}

/// The segment that grows.
pub(super) struct Current {
    pub file: Arc<dyn DiskFile>,
    pub path: PathBuf,
    pub first: u64,
    /// Where the next frame goes.
    pub len: u64,
    /// Whether its name is durable.
    pub is_named: bool,
}

/// Frames that are written and not durable.
pub(super) struct Pending {
    /// As they were written.
    pub frames: Vec<u8>,
    pub first: u64,
    /// The position after the last of them.
    pub end: u64,
}

impl State {
    pub(super) fn new(current: Current, next: u64, firsts: VecDeque<u64>) -> Self {
        Self {
            current,
            pending: VecDeque::new(),
            pending_bytes: 0,
            next,
            durable: next,
            firsts,
            faulty: BTreeSet::new(),
            spares: Vec::new(),
            free: Vec::new(),
            tails: None,
            faults: LogFaults::default(),
            strikes: 0,
            poison: None,
            spares_named: 0,
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        match &self.poison {
            Some(reason) => Err(Error::LogPoisoned { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// The first failure is the one that later calls report.
    fn poison(&mut self, error: Error) -> Error {
        self.poison.get_or_insert_with(|| error.to_string().into());
        error
    }

    /// Where the segment will end with what is written and not yet in it.
    pub(super) fn len_with_pending(&self) -> u64 {
        let beside = if self.tails.is_some() { self.pending_bytes as u64 } else { 0 };
        self.current.len + beside
    }

    /// A buffer for new frames.
    pub(super) fn buffer(&mut self) -> Vec<u8> {
        self.free.pop().unwrap_or_default()
    }

    fn push_pending(&mut self, frames: Vec<u8>, end: u64) {
        self.pending_bytes += frames.len();
        self.pending.push_back(Pending { frames, first: self.next, end });
        self.next = end;
    }

    /// Everything before a position is durable.
    pub(super) fn set_durable(&mut self, before: u64) {
        self.durable = self.durable.max(before);
        while self.pending.front().is_some_and(|pending| pending.end <= before) {
            let Some(Pending { mut frames, .. }) = self.pending.pop_front() else { break };
            self.pending_bytes -= frames.len();
            if self.free.len() < FREE_MAX && frames.capacity() <= FREE_LEN_MAX {
                frames.clear();
                self.free.push(frames);
            }
        }
    }

    /// An unused name for a spare.
    pub(super) fn name_spare(&mut self, folder: &Path) -> PathBuf {
        loop {
            let path = folder.join(format!("{SPARE}{}", self.spares_named));
            self.spares_named += 1;
            if !self.spares.contains(&path) {
                return path;
            }
        }
    }
}

/// Names of spare files start with it.
pub(super) const SPARE: &str = "spare.";
/// The suffix of files that are being made into segments or spares.
pub(super) const UNFINISHED: &str = ".tmp";

impl Shared {
    /// `commits` where the segments are written past the page cache; the state has tails then.
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        folder: PathBuf,
        state: State,
        commits: Option<Commits>,
    ) -> Self {
        Self {
            disk,
            folder,
            sync_turn: Mutex::new(commits),
            state: Mutex::new(state),
            #[cfg(test)]
            acknowledges_early: false.into(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    pub(super) fn faults(&self) -> LogFaults {
        self.state().faults.clone()
    }

    /// Writes sealed frames of the records up to `end` behind the others. When the segment
    /// refuses, they go to a new one with everything else that is not durable, and are then
    /// durable; when that fails too, they do not count.
    pub(super) fn append(&self, state: &mut State, frames: Vec<u8>, end: u64) -> Result<()> {
        let written = match &mut state.tails {
            Some(tails) => tails.append(&frames, end, state.durable),
            None => state.current.file.write_at(state.current.len, &frames),
        };
        let (len, before) = (frames.len() as u64, state.next);
        state.push_pending(frames, end);
        match written {
            Ok(()) => {
                if state.tails.is_none() {
                    state.current.len += len;
                }
                Ok(())
            }
            Err(source) => {
                let error = Error::io("write", &state.current.path)(source);
                let retired = self.retire(state, error);
                if retired.is_err() {
                    state.next = before;
                }
                retired
            }
        }
    }

    /// Makes everything that is written durable. Returns the position after it.
    pub(super) fn sync(&self) -> Result<LogPosition> {
        let mut turn = self.sync_turn.lock().expect("no holder of this lock panics");
        if let Some(commits) = &mut *turn {
            return self.sync_direct(commits);
        }
        let (file, path, next, is_named) = {
            let state = self.state();
            state.check()?;
            if state.pending.is_empty() {
                return Ok(LogPosition(state.durable));
            }
            let Current { file, path, is_named, .. } = &state.current;
            (file.clone(), path.clone(), state.next, *is_named)
        };
        let synced = self.sync_segment(&*file, &path, is_named);
        let mut state = self.state();
        state.check()?;
        // Where another segment took its place meanwhile, what this sync was for is durable.
        if same(&file, &state.current.file) {
            match synced {
                Ok(()) => {
                    state.set_durable(next);
                    state.current.is_named = true;
                    state.strikes = 0;
                }
                Err(error) => self.retire(&mut state, error)?,
            }
        }
        Ok(LogPosition(state.durable))
    }

    /// Begins to make durable what is written, and waits so long for any of it. Returns the
    /// position before which everything is durable, and whether more is under way.
    pub(super) fn advance(&self, wait: Duration) -> Result<(LogPosition, bool)> {
        {
            let mut turn = self.sync_turn.lock().expect("no holder of this lock panics");
            if let Some(commits) = &mut *turn {
                let durable = self.step(commits, wait)?;
                return Ok((durable, commits.are_under_way() || !commits.is_at(&self.state())));
            }
        }
        Ok((self.sync()?, false))
    }

    fn sync_segment(&self, file: &dyn DiskFile, path: &Path, is_named: bool) -> Result<()> {
        #[cfg(test)]
        if self.acknowledges_early.load(std::sync::atomic::Ordering::SeqCst) {
            return Ok(());
        }
        file.sync().map_err(Error::io("sync", path))?;
        if !is_named {
            self.disk.sync_folder(&self.folder).map_err(Error::io("sync", &self.folder))?;
        }
        Ok(())
    }

    /// Begins the next segment; everything written is durable. Its name and header become so with
    /// the first sync.
    pub(super) fn rotate(&self, state: &mut State) -> Result<()> {
        assert!(state.pending.is_empty(), "a segment is closed when all of it is durable");
        let first = state.next;
        let mut begun = self.begin(state, first, false);
        if begun.is_err() && !state.spares.is_empty() {
            begun = self.begin(state, first, false);
        }
        match begun {
            Ok(current) => {
                self.put(state, current);
                Ok(())
            }
            Err(error) => Err(state.poison(error)),
        }
    }

    /// Gives the current segment up: a write or sync failed, and what of it that was not durable
    /// reaches the disk is unknown. All that is written to a new segment, from what is kept in
    /// memory, and synced. When no segment takes it, the log takes no more.
    pub(super) fn retire(&self, state: &mut State, error: Error) -> Result<()> {
        state.faults.retired_segments += 1;
        state.faults.last = Some(error.to_string().into());
        state.strikes += 1;
        state.faulty.insert(state.current.first);
        while state.strikes <= STRIKES_MAX {
            let first = state.durable;
            match self.begin(state, first, true) {
                Ok(current) => {
                    self.put(state, current);
                    state.set_durable(state.next);
                    return Ok(());
                }
                Err(again) => {
                    state.strikes += 1;
                    state.faults.last = Some(again.to_string().into());
                }
            }
        }
        Err(state.poison(error))
    }

    fn put(&self, state: &mut State, current: Current) {
        if state.firsts.back() != Some(&current.first) {
            state.firsts.push_back(current.first);
        } else {
            state.faulty.remove(&current.first);
        }
        state.current = current;
        if let Some(tails) = &mut state.tails {
            // Everything in them is durable, and what follows is of another segment.
            tails.clear();
        }
    }

    /// As [`begin`], of a spare where there is one.
    fn begin(&self, state: &mut State, first: u64, all: bool) -> Result<Current> {
        let spare = state.spares.pop();
        let pending = all.then_some(&mut state.pending);
        begin(&*self.disk, &self.folder, spare.as_deref(), first, pending)
    }

    /// Gives up segments whose records all lie before a position. Files of `reused_len` bytes or
    /// more are kept for later segments, up to a number.
    pub(super) fn release(&self, before: u64, reused_len: u64) -> Result<usize> {
        let mut state = self.state();
        let mut released = 0;
        while state.firsts.get(1).is_some_and(|next| *next <= before) {
            let first = state.firsts[0];
            let path = segment::path_of(&self.folder, first);
            let is_whole = |path: &Path| -> io::Result<bool> {
                let len = self.disk.open(path, false)?.len()?;
                Ok((reused_len..=reused_len.saturating_mul(2)).contains(&len))
            };
            let keep = state.spares.len() < SPARES_MAX
                && !state.faulty.contains(&first)
                && is_whole(&path).map_err(Error::io("open", &path))?;
            let spare = keep.then(|| state.name_spare(&self.folder));
            match &spare {
                Some(spare) => {
                    self.disk.rename(&path, spare).map_err(Error::io("rename", &path))?;
                }
                None => self.disk.remove(&path).map_err(Error::io("remove", &path))?,
            }
            state.faulty.remove(&first);
            state.firsts.pop_front();
            released += 1;
            if let Some(spare) = spare {
                // Under its old name nobody may find what it is used for next.
                self.disk.sync_folder(&self.folder).map_err(Error::io("sync", &self.folder))?;
                state.spares.push(spare);
            }
        }
        if released > 0 {
            self.disk.sync_folder(&self.folder).map_err(Error::io("sync", &self.folder))?;
        }
        Ok(released)
    }
}

/// Makes a segment that starts at `first` and gives it its name. With `pending` it holds these
/// frames and is itself durable.
pub(super) fn begin(
    disk: &dyn Disk,
    folder: &Path,
    spare: Option<&Path>,
    first: u64,
    pending: Option<&mut VecDeque<Pending>>,
) -> Result<Current> {
    let path = segment::path_of(folder, first);
    let unfinished = unfinished(&path);
    if let Some(spare) = spare {
        disk.rename(spare, &unfinished).map_err(Error::io("rename", spare))?;
    }
    let is_named = pending.is_some();
    let begun = fill(disk, &unfinished, first, pending).and_then(|(file, len)| {
        disk.rename(&unfinished, &path).map_err(Error::io("create", &path))?;
        if is_named {
            disk.sync_folder(folder).map_err(Error::io("sync", folder))?;
        }
        Ok(Current { file, path, first, len, is_named })
    });
    if begun.is_err() {
        // What stays goes when the log is next opened.
        let _ = disk.remove(&unfinished);
    }
    begun
}

fn fill(
    disk: &dyn Disk,
    path: &Path,
    first: u64,
    pending: Option<&mut VecDeque<Pending>>,
) -> Result<(Arc<dyn DiskFile>, u64)> {
    let file = disk.open(path, true).map_err(Error::io("create", path))?;
    let write = || -> io::Result<u64> {
        let prewritten = file.len()?;
        file.write_at(0, &segment::header(first, prewritten))?;
        let mut len = BLOCK as u64;
        if let Some(pending) = pending {
            for pending in pending {
                segment::seal(&mut pending.frames, first, pending.first, None);
                file.write_at(len, &pending.frames)?;
                len += pending.frames.len() as u64;
            }
            file.sync()?;
        }
        Ok(len)
    };
    let len = write().map_err(Error::io("write", path))?;
    Ok((file, len))
}

/// Whether both are one open file.
pub(super) fn same(one: &Arc<dyn DiskFile>, other: &Arc<dyn DiskFile>) -> bool {
    Arc::ptr_eq(one, other)
}

/// The name under which a file is made.
pub(super) fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(UNFINISHED);
    name.into()
}
