//! Files in a local folder.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::{MANIFEST, buffers};
use crate::checkpoint;
use crate::disk::{Disk, DiskFile};
use crate::error::{Error, Result};
use crate::files::{self, NewFile, Staged};
use crate::manifest::StoredFile;

/// A folder.
#[derive(Clone, Debug)]
pub(crate) struct Local {
    disk: Arc<dyn Disk>,
    root: Arc<Path>,
}

impl Local {
    pub fn new(disk: Arc<dyn Disk>, root: &Path) -> Self {
        Self { disk, root: root.into() }
    }

    pub fn stage<T>(
        &self,
        relative: &str,
        write: impl FnOnce(&mut NewFile, &Path) -> Result<T>,
    ) -> Result<(Staged, T)> {
        let path = self.root.join(relative);
        files::create_folder(&*self.disk, path.parent().expect("it lies in folders"))?;
        Staged::write(&self.disk, &path, |file| write(file, &path))
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
        folders.iter().try_for_each(|folder| files::sync_folder(&*self.disk, folder))
    }

    pub fn open(&self, file: &StoredFile) -> Result<LocalFile> {
        let path = self.root.join(&file.path);
        let handle = self.disk.open_to_read(&path).map_err(Error::io("open", &path))?;
        let length = handle.len().map_err(Error::io("read", &path))?;
        if length != file.bytes {
            let what = format!("it has {length} bytes instead of {}", file.bytes);
            return Err(Error::Damaged { path, what });
        }
        Ok(LocalFile { disk: self.disk.clone(), path, file: Some(handle) })
    }

    pub fn remove(&self, relative: &str) -> Result<()> {
        let path = self.root.join(relative);
        self.disk.remove(&path).map_err(Error::io("remove", &path))
    }

    pub fn names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for name in self.names_in("")? {
            if files::is_unfinished(&name) && !self.disk.is_folder(&self.root.join(&name)) {
                names.push(name);
            } else if name == checkpoint::FOLDER {
                let found = self.names_in(&name)?;
                names.extend(found.into_iter().map(|file| format!("{name}/{file}")));
            } else if ["stream=", "view=", "rollup="].iter().any(|of| name.starts_with(of)) {
                for part in self.names_in(&name)? {
                    let inner = format!("{name}/{part}");
                    if !self.disk.is_folder(&self.root.join(&inner)) {
                        continue;
                    }
                    let found = self.names_in(&inner)?;
                    names.extend(found.into_iter().map(|file| format!("{inner}/{file}")));
                }
            }
        }
        Ok(names)
    }

    fn names_in(&self, relative: &str) -> Result<Vec<String>> {
        files::names_in(&*self.disk, &self.root.join(relative))
    }

    pub fn path_of(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    pub fn read_whole(&self, relative: &str) -> Result<Vec<u8>> {
        files::read(&*self.disk, &self.path_of(relative))
    }

    pub fn read_manifest(&self) -> Result<Option<Vec<u8>>> {
        match self.read_whole(MANIFEST) {
            Err(error) if error.is_missing() => Ok(None),
            text => text.map(Some),
        }
    }

    pub fn stage_manifest(&self, text: &[u8]) -> Result<Staged> {
        let path = self.path_of(MANIFEST);
        let write = |file: &mut NewFile| file.write_all(text).map_err(Error::io("write", &path));
        Ok(Staged::write(&self.disk, &path, write)?.0)
    }

    pub fn settle_manifest(&self) -> Result<()> {
        files::sync_folder(&*self.disk, &self.root)
    }
}

/// A file of a folder.
#[derive(Clone, Debug)]
pub(crate) struct LocalFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// While it is open, what is read is read even if the file is removed meanwhile.
    file: Option<Arc<dyn DiskFile>>,
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
            each(number, read_range(&*file, &self.path, range.start, range.end - range.start)?)?;
        }
        Ok(())
    }

    /// The file, opened where it is not.
    fn file(&self) -> Result<Arc<dyn DiskFile>> {
        match &self.file {
            Some(file) => Ok(file.clone()),
            None => self.disk.open_to_read(&self.path).map_err(Error::io("open", &self.path)),
        }
    }
}

/// Reads so many bytes of a file at a position.
pub(crate) fn read_range(file: &dyn DiskFile, path: &Path, start: u64, len: u64) -> Result<Bytes> {
    let read = |bytes: &mut [u8]| match file.read_at(start, bytes)? == bytes.len() {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    };
    buffers::filled(len as usize, read).map_err(Error::io("read", path))
}
