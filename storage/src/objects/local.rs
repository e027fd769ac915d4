//! Files in a local folder.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::{MANIFEST, buffers};
use crate::checkpoint;
use crate::error::{Error, Result};
use crate::files::{self, Staged};
use crate::manifest::StoredFile;

/// A folder.
#[derive(Clone, Debug)]
pub(crate) struct Local {
    root: Arc<Path>,
}

impl Local {
    pub fn new(root: &Path) -> Self {
        Self { root: root.into() }
    }

    pub fn stage<T>(
        &self,
        relative: &str,
        write: impl FnOnce(&mut File, &Path) -> Result<T>,
    ) -> Result<(Staged, T)> {
        let path = self.root.join(relative);
        files::create_folder(path.parent().expect("it lies in folders"))?;
        Staged::write(&path, |file| write(file, &path))
    }

    /// Syncs the folders of files: each file's and those above it may all be new.
    pub fn settle<'a>(&self, put: impl IntoIterator<Item = &'a str>) -> Result<()> {
        let paths = put.into_iter().map(|relative| self.root.join(relative));
        let folders: BTreeSet<PathBuf> = paths
            .flat_map(|path| {
                let above = path.ancestors().skip(1).map(Path::to_owned);
                above.take_while(|folder| folder.starts_with(&self.root)).collect::<Vec<_>>()
            })
            .collect();
        folders.iter().try_for_each(|folder| files::sync_folder(folder))
    }

    pub fn open(&self, file: &StoredFile) -> Result<LocalFile> {
        let path = self.root.join(&file.path);
        let handle = File::open(&path).map_err(Error::io("open", &path))?;
        let length = handle.metadata().map_err(Error::io("read", &path))?.len();
        if length != file.bytes {
            let what = format!("it has {length} bytes instead of {}", file.bytes);
            return Err(Error::Damaged { path, what });
        }
        Ok(LocalFile { path, file: Some(handle.into()) })
    }

    pub fn remove(&self, relative: &str) -> Result<()> {
        let path = self.root.join(relative);
        fs::remove_file(&path).map_err(Error::io("remove", &path))
    }

    pub fn names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for name in files::names_in(&self.root)? {
            if files::is_unfinished(&name) && self.root.join(&name).is_file() {
                names.push(name);
            } else if name == checkpoint::FOLDER {
                let found = files::names_in(&self.root.join(&name))?;
                names.extend(found.into_iter().map(|file| format!("{name}/{file}")));
            } else if name.starts_with("stream=") || name.starts_with("view=") {
                for part in files::names_in(&self.root.join(&name))? {
                    let inner = format!("{name}/{part}");
                    if !self.root.join(&inner).is_dir() {
                        continue;
                    }
                    let found = files::names_in(&self.root.join(&inner))?;
                    names.extend(found.into_iter().map(|file| format!("{inner}/{file}")));
                }
            }
        }
        Ok(names)
    }

    pub fn path_of(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    pub fn read_whole(&self, relative: &str) -> Result<Vec<u8>> {
        let path = self.path_of(relative);
        fs::read(&path).map_err(Error::io("read", &path))
    }

    pub fn read_manifest(&self) -> Result<Option<Vec<u8>>> {
        match self.read_whole(MANIFEST) {
            Err(error) if error.is_missing() => Ok(None),
            text => text.map(Some),
        }
    }

    pub fn stage_manifest(&self, text: &[u8]) -> Result<Staged> {
        let path = self.path_of(MANIFEST);
        let write = |file: &mut File| file.write_all(text).map_err(Error::io("write", &path));
        Ok(Staged::write(&path, write)?.0)
    }

    pub fn settle_manifest(&self) -> Result<()> {
        files::sync_folder(&self.root)
    }
}

/// A file of a folder.
#[derive(Clone, Debug)]
pub(crate) struct LocalFile {
    path: PathBuf,
    /// While it is open, what is read is read even if the file is removed meanwhile.
    file: Option<Arc<File>>,
}

impl LocalFile {
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn after_footer(&mut self, keep_open: bool) {
        self.file.take_if(|_| !keep_open);
    }

    pub fn read(&self, start: u64, len: u64) -> Result<Bytes> {
        read_range(&*self.file()?, &self.path, start, len)
    }

    /// Each range is handed over before the next is read: it is still near the processor then.
    pub fn read_each(
        &self,
        ranges: &[Range<u64>],
        each: &mut dyn FnMut(usize, Bytes) -> Result<()>,
    ) -> Result<()> {
        let file = self.file()?;
        for (number, range) in ranges.iter().enumerate() {
            each(number, read_range(&file, &self.path, range.start, range.end - range.start)?)?;
        }
        Ok(())
    }

    /// The file, opened where it is not.
    fn file(&self) -> Result<Arc<File>> {
        match &self.file {
            Some(file) => Ok(file.clone()),
            None => Ok(File::open(&self.path).map_err(Error::io("open", &self.path))?.into()),
        }
    }
}

/// Reads so many bytes of a file at a position.
pub(crate) fn read_range(file: &File, path: &Path, start: u64, len: u64) -> Result<Bytes> {
    let read = |bytes: &mut [u8]| read_at(file, bytes, start);
    buffers::filled(len as usize, read).map_err(Error::io("read", path))
}

/// Reads at a position, which threads that share the file do not share.
#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], start: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, start)
}

#[cfg(windows)]
fn read_at(file: &File, mut bytes: &mut [u8], mut start: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, start)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                bytes = &mut bytes[read..];
                start += read as u64;
            }
        }
    }
    Ok(())
}
