//! Commits past the page cache: several under way, and only what is whole from the front on is
//! acknowledged.
//!
//! Records are *written* by an append to a small file beside, the tail, which is never synced: it
//! survives the process. They become durable by direct writes to the segment, which begin at whole
//! blocks. Recovery takes from the tail what the segment does not have.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use isotick_model::LogPosition;

use super::disk::{Completion, Direct, Disk, DiskFile};
use super::segment::BLOCK;
use super::state::{Shared, State, same};
use crate::error::{Error, Result};

/// Bytes of one commit, if more than one batch makes it up.
const COMMIT_BYTES_MAX: usize = 1 << 20;
/// How long to wait for a completion before looking again.
const WAIT: Duration = Duration::from_secs(1);

/// Names of tail files start with it.
pub(super) const TAIL: &str = "tail.";

/// The two files that hold what is written and not durable.
pub(super) struct Tails {
    files: [Tail; 2],
    now: usize,
    /// One is left for the other when it is longer.
    len: u64,
}

struct Tail {
    file: Arc<dyn DiskFile>,
    len: u64,
    /// The position after the last frame in it.
    end: u64,
}

impl Tails {
    pub(super) fn create(disk: &dyn Disk, folder: &Path, len: u64) -> Result<Self> {
        let create = |number: u32| {
            let path = folder.join(format!("{TAIL}{number}"));
            let file = disk.open(&path, true).map_err(Error::io("create", &path))?;
            Ok(Tail { file, len: 0, end: 0 })
        };
        Ok(Self { files: [create(0)?, create(1)?], now: 0, len })
    }

    /// Writes frames of the records up to `end`, where everything before `durable` is durable.
    pub(super) fn append(&mut self, frames: &[u8], end: u64, durable: u64) -> io::Result<()> {
        let other = 1 - self.now;
        if self.files[self.now].len > self.len && self.files[other].end <= durable {
            self.now = other;
            self.files[other].len = 0;
        }
        let tail = &mut self.files[self.now];
        tail.file.write_at(tail.len, frames)?;
        tail.len += frames.len() as u64;
        tail.end = end;
        Ok(())
    }

    /// Everything is durable: begins anew.
    pub(super) fn clear(&mut self) {
        for tail in &mut self.files {
            (tail.len, tail.end) = (0, 0);
        }
    }
}

/// What is under way past the page cache.
pub(super) struct Commits {
    direct: Box<dyn Direct>,
    /// The segment that is written; `None` before the first, and after a failure.
    file: Option<Arc<dyn DiskFile>>,
    /// Where the next commit goes: a multiple of the block.
    offset: u64,
    /// Everything before this position was begun.
    begun: u64,
    under_way: VecDeque<Commit>,
    tags: u64,
    /// How many writes there is room for when none is under way.
    slots: usize,
}

struct Commit {
    tag: u64,
    /// The position after its last record.
    end: u64,
    /// Writes that are not over.
    writes: u32,
}

/// What a round of commits found to be next.
enum Begun {
    /// As much as there was, or as there was room for.
    All,
    /// A batch that is longer than all writes together may be.
    TooLong,
}

impl Commits {
    pub(super) fn new(direct: Box<dyn Direct>) -> Self {
        let slots = direct.room();
        Self { direct, file: None, offset: 0, begun: 0, under_way: VecDeque::new(), tags: 0, slots }
    }

    pub(super) fn are_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Whether all that is written to the segment was begun.
    pub(super) fn is_at(&self, state: &State) -> bool {
        state.pending.back().is_none_or(|last| last.end <= self.begun)
    }

    /// Begins commits of what is written and was not begun, as far as there is room.
    fn begin(&mut self, state: &mut State) -> io::Result<Begun> {
        let bytes_max = self.direct.write_bytes_max();
        loop {
            let from = state.pending.partition_point(|pending| pending.first < self.begun);
            let room = self.direct.room() * bytes_max;
            let (mut count, mut bytes) = (0, 0);
            for pending in state.pending.iter().skip(from) {
                let with = bytes + pending.frames.len();
                if with > room || (count > 0 && with > COMMIT_BYTES_MAX) {
                    break;
                }
                (count, bytes) = (count + 1, with);
            }
            if count == 0 {
                let waits = from < state.pending.len() && self.under_way.is_empty();
                return Ok(if waits { Begun::TooLong } else { Begun::All });
            }
            let batches = state.pending.range(from..from + count);
            let mut rest: VecDeque<&[u8]> = batches.map(|pending| &pending.frames[..]).collect();
            let end = state.pending[from + count - 1].end;
            self.tags += 1;
            self.under_way.push_back(Commit { tag: self.tags, end, writes: 0 });
            while !rest.is_empty() {
                let (mut parts, mut len) = (Vec::new(), 0);
                while len < bytes_max
                    && let Some(part) = rest.pop_front()
                {
                    let (now, later) = part.split_at(part.len().min(bytes_max - len));
                    parts.push(now);
                    len += now.len();
                    if !later.is_empty() {
                        rest.push_front(later);
                    }
                }
                self.direct.submit(self.tags, self.offset, &parts)?;
                self.under_way.back_mut().expect("it was pushed").writes += 1;
                self.offset += len.next_multiple_of(BLOCK) as u64;
            }
            self.begun = end;
            state.current.len = self.offset;
        }
    }

    /// Takes completions. Returns the position before which everything is durable, if commits are
    /// over.
    fn take(&mut self, wait: Duration) -> io::Result<Option<u64>> {
        let mut done = Vec::new();
        self.direct.complete(wait, &mut done)?;
        let mut failure = None;
        for Completion { tag, result } in done {
            let commit = self.under_way.iter_mut().find(|commit| commit.tag == tag);
            let commit = commit.expect("a completion of a commit under way");
            match result {
                Ok(()) => commit.writes -= 1,
                // What is behind it waits for ever: it is not acknowledged.
                Err(error) => failure = Some(error),
            }
        }
        let mut durable = None;
        while let Some(commit) = self.under_way.front()
            && commit.writes == 0
        {
            durable = Some(commit.end);
            self.under_way.pop_front();
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(durable),
        }
    }

    /// Waits until nothing is under way, whatever comes of it.
    fn drain(&mut self) {
        let mut done = Vec::new();
        while self.direct.room() < self.slots {
            if self.direct.complete(WAIT, &mut done).is_err() {
                // It goes to a segment that is given up, and no other takes writes before it is
                // over: `attach` refuses.
                break;
            }
        }
        self.under_way.clear();
        self.file = None;
    }
}

impl Shared {
    /// Makes everything that is written durable.
    pub(super) fn sync_direct(&self, commits: &mut Commits) -> Result<LogPosition> {
        let target = {
            let state = self.state();
            state.check()?;
            state.next
        };
        loop {
            let durable = self.step(commits, WAIT)?;
            if durable.0 >= target {
                return Ok(durable);
            }
        }
    }

    /// Begins what can be begun, and waits so long for something that is over. Returns the
    /// position before which everything is durable.
    pub(super) fn step(&self, commits: &mut Commits, wait: Duration) -> Result<LogPosition> {
        let (file, is_idle) = {
            let state = self.state();
            state.check()?;
            (state.current.file.clone(), state.pending.is_empty())
        };
        if is_idle && !commits.are_under_way() {
            return Ok(LogPosition(self.state().durable));
        }
        let attached = commits.file.as_ref().is_some_and(|attached| same(attached, &file));
        let stepped = match attached {
            true => self.step_in(commits, &file, wait),
            false => self.attach(commits, &file),
        };
        if let Err(error) = stepped {
            self.fail(commits, &file, error)?;
        }
        let state = self.state();
        state.check()?;
        Ok(LogPosition(state.durable))
    }

    fn step_in(
        &self,
        commits: &mut Commits,
        file: &Arc<dyn DiskFile>,
        wait: Duration,
    ) -> Result<()> {
        let path = {
            let mut state = self.state();
            if !same(file, &state.current.file) {
                return Ok(());
            }
            let path = state.current.path.clone();
            match commits.begin(&mut state).map_err(Error::io("write", &path))? {
                Begun::All => {}
                Begun::TooLong => {
                    drop(state);
                    return self.write_long(commits, file);
                }
            }
            path
        };
        if let Some(durable) = commits.take(wait).map_err(Error::io("write", &path))? {
            self.set_durable(file, durable);
        }
        Ok(())
    }

    fn set_durable(&self, file: &Arc<dyn DiskFile>, durable: u64) {
        let mut state = self.state();
        if same(file, &state.current.file) {
            state.set_durable(durable);
            state.strikes = 0;
        }
    }

    /// Goes over to a segment: its header and name become durable, and commits begin at the next
    /// block.
    fn attach(&self, commits: &mut Commits, file: &Arc<dyn DiskFile>) -> Result<()> {
        // What is under way is for a segment that another has taken the place of.
        commits.drain();
        let (path, len) = {
            let state = self.state();
            (state.current.path.clone(), state.current.len)
        };
        let block = len.next_multiple_of(BLOCK as u64);
        let mut begin = || {
            file.write_at(len, &vec![0; (block - len) as usize])?;
            file.sync()?;
            self.disk.sync_folder(&self.folder)?;
            commits.direct.attach(&path)
        };
        begin().map_err(Error::io("sync", &path))?;
        let mut state = self.state();
        if same(file, &state.current.file) {
            state.current.len = block;
            state.current.is_named = true;
            commits.offset = block;
            commits.begun = state.durable;
            commits.file = Some(file.clone());
        }
        Ok(())
    }

    /// Writes a batch through the page cache that is too long for the ring. Nothing is under way.
    fn write_long(&self, commits: &mut Commits, file: &Arc<dyn DiskFile>) -> Result<()> {
        let (mut bytes, end, path) = {
            let state = self.state();
            let from = state.pending.partition_point(|pending| pending.first < commits.begun);
            let Some(pending) = state.pending.get(from) else { return Ok(()) };
            (pending.frames.clone(), pending.end, state.current.path.clone())
        };
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        let written = file.write_at(commits.offset, &bytes).and_then(|()| file.sync());
        written.map_err(Error::io("write", &path))?;
        commits.offset += bytes.len() as u64;
        commits.begun = end;
        let mut state = self.state();
        if same(file, &state.current.file) {
            state.current.len = commits.offset;
        }
        drop(state);
        self.set_durable(file, end);
        Ok(())
    }

    /// A write failed: when all others are over, the segment is given up.
    fn fail(&self, commits: &mut Commits, file: &Arc<dyn DiskFile>, error: Error) -> Result<()> {
        commits.drain();
        let mut state = self.state();
        state.check()?;
        match same(file, &state.current.file) {
            true => self.retire(&mut state, error),
            false => Ok(()),
        }
    }
}
