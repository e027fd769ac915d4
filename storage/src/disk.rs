//! The seam to the file system: what recovery and durability depend on, and no more.
//!
//! Assumed of every disk: a synced file keeps its content; changes of names in a folder become
//! durable in the order in which they were made, at the latest with the sync of that folder. Not
//! assumed: that unsynced writes survive a power failure, whole, in part or in order; that a file
//! still holds what was written to it after a failed sync; any order between folders.

#[cfg(test)]
pub(crate) mod simulated;

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Where files are.
pub(crate) trait Disk: fmt::Debug + Send + Sync {
    /// Opens a file for reading and writing; `create` makes it where it is missing.
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens a file for reading only, where writing may not be allowed.
    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Gives a file another name, in place of whatever had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Takes a file's name away.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// The names in a folder, sorted; none when the folder is missing.
    fn list(&self, folder: &Path) -> io::Result<Vec<String>>;
    /// Whether there is a folder.
    fn is_folder(&self, path: &Path) -> bool;
    /// Makes a folder and those above it where they are missing.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
    /// A way past the page cache, `None` where files are written and synced through it.
    fn direct(&self) -> io::Result<Option<Box<dyn Direct>>> {
        Ok(None)
    }
}

/// Writes past the page cache: several under way, each durable when it completes, in any order.
pub(crate) trait Direct: Send {
    /// Writes go to this file from now on; none may be under way.
    fn attach(&mut self, path: &Path) -> io::Result<()>;
    /// Bytes of one write at most, a multiple of the block.
    fn write_bytes_max(&self) -> usize;
    /// How many more writes may be begun.
    fn room(&self) -> usize;
    /// Begins a write at a multiple of the block. The bytes are copied and filled up with zeros
    /// to whole blocks.
    fn submit(&mut self, tag: u64, offset: u64, parts: &[&[u8]]) -> io::Result<()>;
    /// Takes what is complete; waits so long for the first, if any is under way.
    fn complete(&mut self, wait: Duration, done: &mut Vec<Completion>) -> io::Result<()>;
}

/// A write that is over.
pub(crate) struct Completion {
    /// What it was begun with.
    pub tag: u64,
    /// Whether it is durable.
    pub result: io::Result<()>,
}

/// An open file. It stays the same file when its name changes.
pub(crate) trait DiskFile: fmt::Debug + Send + Sync {
    /// Its length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Reads from `offset` on until `bytes` are full or the file ends; how many were read.
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `bytes`, or fails with any part of them written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts or extends the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes content and length durable. After a failure the content is unknown.
    fn sync(&self) -> io::Result<()>;
}

/// The file system of this machine, through its page cache.
#[derive(Debug)]
pub(crate) struct Files;

impl Disk for Files {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(File::options().read(true).write(true).create(create).open(path)?))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(File::open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            // Names that are not UTF-8 are not ours.
            names.extend(entry?.file_name().into_string());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn is_folder(&self, path: &Path) -> bool {
        path.is_dir()
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        // Elsewhere folders cannot be opened as files, and renames are journalled.
        match cfg!(unix) {
            true => File::open(folder)?.sync_all(),
            false => Ok(()),
        }
    }
}

impl DiskFile for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let mut read = 0;
        while read < bytes.len() {
            match read_some(self, offset + read as u64, &mut bytes[read..]) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut written = 0;
        while written < bytes.len() {
            match write_some(self, offset + written as u64, &bytes[written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

#[cfg(unix)]
fn read_some(file: &File, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, bytes, offset)
}

#[cfg(unix)]
fn write_some(file: &File, offset: u64, bytes: &[u8]) -> io::Result<usize> {
    std::os::unix::fs::FileExt::write_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_some(file: &File, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
    match std::os::windows::fs::FileExt::seek_read(file, bytes, offset) {
        // The end of the file (ERROR_HANDLE_EOF).
        Err(error) if error.raw_os_error() == Some(38) => Ok(0),
        read => read,
    }
}

#[cfg(windows)]
fn write_some(file: &File, offset: u64, bytes: &[u8]) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_write(file, bytes, offset)
}

/// Everything from `offset` on.
pub(crate) fn read_from(file: &dyn DiskFile, offset: u64) -> io::Result<Vec<u8>> {
    let len = file.len()?.saturating_sub(offset);
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    let read = file.read_at(offset, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}
