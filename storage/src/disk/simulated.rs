//! A disk in memory that fails as disks do, driven by a seed.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::{Completion, Direct, Disk, DiskFile};
use crate::fixtures::Random;

/// What disks write whole.
const SECTOR: usize = 512;
/// What writes past the page cache go in.
const BLOCK: usize = 4096;
/// What a folder's name stands for.
const FOLDER: usize = usize::MAX;

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crash {
    /// Killed: the operating system keeps what it was given.
    Process,
    /// The machine stops: what was not synced reaches the disk in part, in any order.
    Power,
}

/// A change of a file that the disk has not confirmed.
#[derive(Clone, Debug)]
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

#[derive(Debug, Default)]
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

#[derive(Clone, Debug)]
enum Naming {
    Put(PathBuf, usize),
    Folder(PathBuf),
    Remove(PathBuf),
}

impl Naming {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Put(path, file) => {
                names.retain(|_, of| of != file);
                names.insert(path.clone(), *file);
            }
            Self::Folder(path) => {
                names.insert(path.clone(), FOLDER);
            }
            Self::Remove(path) => {
                names.remove(path);
            }
        }
    }

    /// The folder that it changes.
    fn folder(&self) -> &Path {
        let (Self::Put(path, _) | Self::Folder(path) | Self::Remove(path)) = self;
        path.parent().expect("it lies in a folder")
    }
}

#[derive(Debug)]
struct State {
    random: Random,
    files: Vec<Content>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// By folder, changes of names that are not durable; they become so in order.
    namings: BTreeMap<PathBuf, VecDeque<Naming>>,
    /// Syncs that do nothing.
    skipped: Option<Skipped>,
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

/// A bug: what is not synced although it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Skipped {
    /// The content of files whose names end so.
    Files(&'static str),
    /// The names in a folder.
    Folder(&'static str),
    /// The names in folders that lie in others, as deep as this.
    Depth(usize),
}

#[derive(Debug)]
struct UnderWay {
    tag: u64,
    file: usize,
    change: Change,
}

#[derive(Debug)]
pub(crate) struct SimDisk {
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

#[derive(Debug)]
struct SimFile {
    state: Arc<Mutex<State>>,
    file: usize,
    /// Whether it says that it is durable and is not.
    pretends: bool,
    boot: u64,
}

fn gone() -> io::Error {
    io::Error::other("the disk is gone")
}

fn is_there(names: &BTreeMap<PathBuf, usize>, folder: &Path) -> bool {
    folder == Path::new("/") || names.get(folder) == Some(&FOLDER)
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
        self.namings.entry(naming.folder().to_path_buf()).or_default().push_back(naming);
        Ok(())
    }

    fn sync_names(&mut self, folder: &Path) -> io::Result<()> {
        self.operate()?;
        if self.one_in(self.sync_fails) {
            return Err(gone());
        }
        let is_skipped = match self.skipped {
            Some(Skipped::Folder(skipped)) => folder == Path::new(skipped),
            Some(Skipped::Depth(depth)) => folder.components().count() == depth,
            Some(Skipped::Files(_)) | None => false,
        };
        if is_skipped {
            return Ok(());
        }
        for naming in self.namings.get_mut(folder).into_iter().flat_map(|n| n.drain(..)) {
            naming.apply(&mut self.durable_names);
        }
        Ok(())
    }

    fn power_fails(&mut self) {
        for namings in self.namings.values_mut() {
            let kept = self.random.below(namings.len() as u64 + 1) as usize;
            for naming in namings.drain(..).take(kept) {
                naming.apply(&mut self.durable_names);
            }
        }
        // What is in a folder goes with it.
        self.names.clear();
        for (path, file) in &self.durable_names {
            if path.parent().is_some_and(|folder| is_there(&self.names, folder)) {
                self.names.insert(path.clone(), *file);
            }
        }
        self.durable_names = self.names.clone();
        for content in &mut self.files {
            for change in content.changes.drain(..) {
                change.apply_in_part(&mut content.durable, &mut self.random);
            }
            content.seen = content.durable.clone();
        }
    }
}

impl SimDisk {
    /// A disk with one folder and nothing in it.
    pub(crate) fn new(seed: u64, folder: &Path, is_direct: bool) -> Self {
        let names = BTreeMap::from([(folder.to_path_buf(), FOLDER)]);
        let state = State {
            random: Random(seed),
            files: Vec::new(),
            names: names.clone(),
            durable_names: names,
            namings: BTreeMap::new(),
            skipped: None,
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
    pub(crate) fn heal(&self) {
        let mut state = self.state();
        (state.write_fails, state.sync_fails, state.dies_after) = (0, 0, None);
        state.room = usize::MAX;
    }

    /// Never does these syncs.
    pub(crate) fn skip(&self, skipped: Skipped) {
        self.state().skipped = Some(skipped);
    }

    /// Nothing works any more.
    pub(crate) fn die(&self) {
        self.state().dies_after = Some(0);
    }

    /// Something may fail from now on, so many times as late and as rarely.
    pub(crate) fn fall_ill(&self, scale: u64) {
        let mut state = self.state();
        let random = &mut state.random;
        let write_fails = [0, 0, 4, 20][random.below(4) as usize] * scale;
        let sync_fails = [0, 0, 3, 10][random.below(4) as usize] * scale;
        let dies_after = (random.below(3) == 0).then(|| random.below(60 * scale));
        let is_full = random.below(6) == 0;
        let room = if is_full { random.below(9_000 * scale) as usize } else { usize::MAX };
        (state.write_fails, state.sync_fails) = (write_fails, sync_fails);
        (state.dies_after, state.room) = (dies_after, room);
    }

    /// Whether nothing works any more.
    pub(crate) fn is_dead(&self) -> bool {
        self.state().dies_after == Some(0)
    }

    pub(crate) fn crash(&self, crash: Crash) {
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
        let folder = path.parent().expect("a file lies in a folder");
        let file = match state.names.get(path).copied() {
            Some(FOLDER) => return Err(ErrorKind::IsADirectory.into()),
            // Reading works on a disk that takes nothing more.
            Some(file) => file,
            None if create && is_there(&state.names, folder) => {
                let file = state.files.len();
                state.name(Naming::Put(path.to_path_buf(), file))?;
                state.files.push(Content::default());
                file
            }
            None => return Err(ErrorKind::NotFound.into()),
        };
        let pretends = match state.skipped {
            Some(Skipped::Files(suffix)) => path.to_string_lossy().ends_with(suffix),
            _ => false,
        };
        let boot = state.boots;
        Ok(Arc::new(SimFile { state: self.state.clone(), file, pretends, boot }))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.open(path, false)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        assert_eq!(from.parent(), to.parent(), "names change within a folder");
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

    fn is_folder(&self, path: &Path) -> bool {
        is_there(&self.state().names, path)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let mut missing: Vec<_> =
            path.ancestors().take_while(|folder| !is_there(&state.names, folder)).collect();
        missing.reverse();
        let mut missing = missing.into_iter();
        missing.try_for_each(|folder| state.name(Naming::Folder(folder.to_path_buf())))
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.state().sync_names(folder)
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
        match self.pretends {
            true => Ok(()),
            false => self.state()?.sync(self.file),
        }
    }
}
