//! A disk in memory that fails as disks do, driven by a seed.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::super::disk::{Completion, Direct, Disk, DiskFile};
use super::super::segment::BLOCK;
use crate::fixtures::Random;

/// What disks write whole.
const SECTOR: usize = 512;

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crash {
    /// Killed: the operating system keeps what it was given.
    Process,
    /// The machine stops: what was not synced reaches the disk in part, in any order.
    Power,
}

/// A change of a file that the disk has not confirmed.
#[derive(Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                let end = offset + bytes.len();
                content.resize(content.len().max(end), 0);
                content[*offset..end].copy_from_slice(bytes);
            }
            Self::SetLen(len) => content.resize(*len, 0),
        }
    }

    /// What of it reaches the disk when the power fails: sectors, any of them.
    fn apply_in_part(&self, content: &mut Vec<u8>, random: &mut Random) {
        match (self, random.below(4)) {
            (_, 0) => {}
            (Self::Write { offset, bytes }, 1 | 2) => {
                let mut at = 0;
                while at < bytes.len() {
                    let end = ((offset + at) / SECTOR + 1) * SECTOR - offset;
                    let end = end.min(bytes.len());
                    if random.below(2) == 0 {
                        let bytes = bytes[at..end].to_vec();
                        Self::Write { offset: offset + at, bytes }.apply(content);
                    }
                    at = end;
                }
            }
            _ => self.apply(content),
        }
    }
}

#[derive(Default)]
struct Content {
    /// What processes see.
    seen: Vec<u8>,
    /// What is on the disk for sure.
    durable: Vec<u8>,
    /// What may be.
    changes: Vec<Change>,
}

impl Content {
    /// Brings the range of a change, as it stands in `durable` after it, to readers as well.
    fn put_directly(&mut self, change: &Change, durable: &[u8]) {
        let Change::Write { offset, bytes } = change else { return };
        self.durable = durable.to_vec();
        let end = (offset + bytes.len()).min(durable.len());
        let from = (*offset).min(end);
        let bytes = durable[from..end].to_vec();
        Change::Write { offset: from, bytes }.apply(&mut self.seen);
    }
}

#[derive(Clone)]
enum Naming {
    Put(PathBuf, usize),
    Remove(PathBuf),
}

impl Naming {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Put(path, file) => {
                names.retain(|_, of| of != file);
                names.insert(path.clone(), *file);
            }
            Self::Remove(path) => {
                names.remove(path);
            }
        }
    }
}

struct State {
    random: Random,
    files: Vec<Content>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// Changes of names that are not durable; they become so in order.
    namings: Vec<Naming>,
    /// One in so many writes and syncs fails; 0 for none.
    write_fails: u64,
    sync_fails: u64,
    /// Bytes that files may still grow.
    room: usize,
    /// Operations until nothing works any more.
    dies_after: Option<u64>,
    /// Grows with each crash: files opened before it are gone.
    boots: u64,
    /// Writes past the page cache that are not over.
    under_way: Vec<UnderWay>,
    /// Those that were not over when their process died: the disk may still do them.
    orphaned: Vec<UnderWay>,
}

struct UnderWay {
    tag: u64,
    file: usize,
    change: Change,
}

pub(super) struct SimDisk {
    state: Arc<Mutex<State>>,
    /// Whether there is a way past the page cache.
    is_direct: bool,
}

/// Writes under way at most, and bytes of one.
const SLOTS: usize = 3;
const SLOT_BYTES: usize = BLOCK;

struct SimDirect {
    state: Arc<Mutex<State>>,
    file: Option<usize>,
}

struct SimFile {
    state: Arc<Mutex<State>>,
    file: usize,
    boot: u64,
}

fn gone() -> io::Error {
    io::Error::other("the disk is gone")
}

impl State {
    /// Every operation counts.
    fn operate(&mut self) -> io::Result<()> {
        if !self.orphaned.is_empty() && self.random.below(4) == 0 {
            let which = self.random.below(self.orphaned.len() as u64) as usize;
            let orphan = self.orphaned.swap_remove(which);
            self.finish(&orphan, true);
        }
        match &mut self.dies_after {
            Some(0) => return Err(gone()),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(())
    }

    /// Ends a write past the page cache, in part if it does not work.
    fn finish(&mut self, UnderWay { file, change, .. }: &UnderWay, works: bool) {
        let mut content = self.files[*file].durable.clone();
        match works {
            true => change.apply(&mut content),
            false => change.apply_in_part(&mut content, &mut self.random),
        }
        self.files[*file].put_directly(change, &content);
    }

    fn one_in(&mut self, rate: u64) -> bool {
        rate > 0 && self.random.below(rate) == 0
    }

    /// A sync that fails: of what it was for, some may be on the disk and some never will be,
    /// whether or not it can still be read.
    fn lose(&mut self, file: usize) {
        let changes = std::mem::take(&mut self.files[file].changes);
        let forgets = self.random.below(2) == 0;
        for change in changes {
            change.apply_in_part(&mut self.files[file].durable, &mut self.random);
        }
        if forgets {
            self.files[file].seen = self.files[file].durable.clone();
        }
    }

    fn write(&mut self, file: usize, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.operate()?;
        let fails = self.one_in(self.write_fails);
        let offset = offset as usize;
        let content = &self.files[file];
        let grows = (offset + bytes.len()).saturating_sub(content.seen.len());
        let (bytes, error) = if grows > self.room {
            let taken = bytes.len().saturating_sub(grows - self.room);
            (&bytes[..taken], Some(ErrorKind::StorageFull.into()))
        } else if fails {
            let taken = self.random.below(bytes.len() as u64 + 1) as usize;
            (&bytes[..taken], Some(gone()))
        } else {
            (bytes, None)
        };
        let grown = (offset + bytes.len()).saturating_sub(self.files[file].seen.len());
        if bytes.is_empty() {
            return error.map_or(Ok(()), Err);
        }
        self.room = self.room.saturating_sub(grown);
        let change = Change::Write { offset, bytes: bytes.to_vec() };
        change.apply(&mut self.files[file].seen);
        self.files[file].changes.push(change);
        error.map_or(Ok(()), Err)
    }

    fn sync(&mut self, file: usize) -> io::Result<()> {
        self.operate()?;
        if self.one_in(self.sync_fails) {
            self.lose(file);
            return Err(gone());
        }
        let content = &mut self.files[file];
        for change in content.changes.drain(..) {
            change.apply(&mut content.durable);
        }
        Ok(())
    }

    fn name(&mut self, naming: Naming) -> io::Result<()> {
        self.operate()?;
        if self.one_in(self.write_fails) {
            return Err(gone());
        }
        naming.apply(&mut self.names);
        self.namings.push(naming);
        Ok(())
    }

    fn sync_names(&mut self) -> io::Result<()> {
        self.operate()?;
        if self.one_in(self.sync_fails) {
            return Err(gone());
        }
        for naming in self.namings.drain(..) {
            naming.apply(&mut self.durable_names);
        }
        Ok(())
    }

    fn power_fails(&mut self) {
        let kept = self.random.below(self.namings.len() as u64 + 1) as usize;
        for naming in self.namings.drain(..).take(kept) {
            naming.apply(&mut self.durable_names);
        }
        self.names = self.durable_names.clone();
        for content in &mut self.files {
            for change in content.changes.drain(..) {
                change.apply_in_part(&mut content.durable, &mut self.random);
            }
            content.seen = content.durable.clone();
        }
    }
}

impl SimDisk {
    pub(super) fn new(seed: u64, is_direct: bool) -> Self {
        let state = State {
            random: Random(seed),
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            namings: Vec::new(),
            write_fails: 0,
            sync_fails: 0,
            room: usize::MAX,
            dies_after: None,
            boots: 0,
            under_way: Vec::new(),
            orphaned: Vec::new(),
        };
        Self { state: Arc::new(Mutex::new(state)), is_direct }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Nothing fails.
    pub(super) fn heal(&self) {
        let mut state = self.state();
        (state.write_fails, state.sync_fails, state.dies_after) = (0, 0, None);
        state.room = usize::MAX;
    }

    /// Something may fail from now on.
    pub(super) fn fall_ill(&self) {
        let mut state = self.state();
        let random = &mut state.random;
        let write_fails = [0, 0, 4, 20][random.below(4) as usize];
        let sync_fails = [0, 0, 3, 10][random.below(4) as usize];
        let dies_after = (random.below(3) == 0).then(|| random.below(60));
        let room = if random.below(6) == 0 { random.below(9_000) as usize } else { usize::MAX };
        (state.write_fails, state.sync_fails) = (write_fails, sync_fails);
        (state.dies_after, state.room) = (dies_after, room);
    }

    /// Whether nothing works any more.
    pub(super) fn is_dead(&self) -> bool {
        self.state().dies_after == Some(0)
    }

    pub(super) fn crash(&self, crash: Crash) {
        let mut state = self.state();
        state.boots += 1;
        // What the kernel was asked for may still happen.
        let under_way = std::mem::take(&mut state.under_way);
        state.orphaned.extend(under_way);
        if crash == Crash::Power {
            for orphan in std::mem::take(&mut state.orphaned) {
                state.finish(&orphan, false);
            }
        }
        if crash == Crash::Power {
            state.power_fails();
        }
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        let file = match state.names.get(path).copied() {
            // Reading works on a disk that takes nothing more.
            Some(file) => file,
            None if create => {
                let file = state.files.len();
                state.name(Naming::Put(path.to_path_buf(), file))?;
                state.files.push(Content::default());
                file
            }
            None => return Err(ErrorKind::NotFound.into()),
        };
        Ok(Arc::new(SimFile { state: self.state.clone(), file, boot: state.boots }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let file = *state.names.get(from).ok_or(ErrorKind::NotFound)?;
        state.name(Naming::Put(to.to_path_buf(), file))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !state.names.contains_key(path) {
            return Err(ErrorKind::NotFound.into());
        }
        state.name(Naming::Remove(path.to_path_buf()))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        let inside = state.names.keys().filter(|path| path.parent() == Some(folder));
        Ok(inside.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect())
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        self.state().sync_names()
    }

    fn direct(&self) -> io::Result<Option<Box<dyn Direct>>> {
        let direct =
            || -> Box<dyn Direct> { Box::new(SimDirect { state: self.state.clone(), file: None }) };
        Ok(self.is_direct.then(direct))
    }
}

impl Direct for SimDirect {
    fn attach(&mut self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        state.operate()?;
        assert!(state.under_way.is_empty(), "writes to another file are under way");
        self.file = Some(*state.names.get(path).ok_or(ErrorKind::NotFound)?);
        Ok(())
    }

    fn write_bytes_max(&self) -> usize {
        SLOT_BYTES
    }

    fn room(&self) -> usize {
        SLOTS - self.state.lock().unwrap().under_way.len()
    }

    fn submit(&mut self, tag: u64, offset: u64, parts: &[&[u8]]) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        let mut bytes = parts.concat();
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        assert!(bytes.len() <= SLOT_BYTES && offset.is_multiple_of(BLOCK as u64));
        assert!(state.under_way.len() < SLOTS);
        let change = Change::Write { offset: offset as usize, bytes };
        let file = self.file.expect("a file is attached");
        state.under_way.push(UnderWay { tag, file, change });
        Ok(())
    }

    fn complete(&mut self, wait: Duration, done: &mut Vec<Completion>) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        let all = state.under_way.len() as u64;
        let least = u64::from(!wait.is_zero()).min(all);
        let count = least + state.random.below(all - least + 1);
        for _ in 0..count {
            let count = state.under_way.len() as u64;
            let which = state.random.below(count) as usize;
            let write = state.under_way.swap_remove(which);
            let fails = state.operate().is_err() || {
                let rate = state.sync_fails;
                state.one_in(rate)
            };
            state.finish(&write, !fails);
            let tag = write.tag;
            done.push(Completion { tag, result: if fails { Err(gone()) } else { Ok(()) } });
        }
        Ok(())
    }
}

impl SimFile {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state.lock().unwrap();
        assert_eq!(state.boots, self.boot, "a file of a process that is gone");
        Ok(state)
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.files[self.file].seen.len() as u64)
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let state = self.state()?;
        let seen = &state.files[self.file].seen;
        let from = seen.get(offset as usize..).unwrap_or_default();
        let read = from.len().min(bytes.len());
        bytes[..read].copy_from_slice(&from[..read]);
        Ok(read)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.state()?.write(self.file, offset, bytes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state()?;
        state.operate()?;
        let change = Change::SetLen(len as usize);
        change.apply(&mut state.files[self.file].seen);
        state.files[self.file].changes.push(change);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.state()?.sync(self.file)
    }
}
