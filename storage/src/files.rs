//! The few ways in which files are written: atomic replacement and folder syncs.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{self, Disk, DiskFile};
use crate::error::{Error, Result};

/// The suffix of files that are not finished. Readers ignore them, the next writer removes them.
const UNFINISHED: &str = "tmp";

/// Whether a name is that of a file that is not finished.
pub(crate) fn is_unfinished(name: &str) -> bool {
    name.strip_suffix(UNFINISHED).is_some_and(|name| name.ends_with('.'))
}

/// A file that is being written, from its start on.
pub(crate) struct NewFile {
    file: Arc<dyn DiskFile>,
    len: u64,
}

impl NewFile {
    /// A handle to read what was written with.
    pub(crate) fn again(&self) -> Arc<dyn DiskFile> {
        self.file.clone()
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_at(self.len, bytes)?;
        self.len += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file that is written and synced under a temporary name, not yet in place. Dropping it
/// removes it.
#[must_use = "the file counts only once it is in place"]
pub(crate) struct Staged {
    disk: Arc<dyn Disk>,
    unfinished: PathBuf,
    path: PathBuf,
    in_place: bool,
}

impl Staged {
    /// Writes a file beside `path` and syncs its content. `path` itself is untouched.
    pub(crate) fn write<T>(
        disk: &Arc<dyn Disk>,
        path: &Path,
        write: impl FnOnce(&mut NewFile) -> Result<T>,
    ) -> Result<(Self, T)> {
        // Made before the file: what a failed write leaves goes with it.
        let staged = Self::new(disk, path);
        let mut file = staged.create()?;
        let result = write(&mut file)?;
        file.file.sync().map_err(Error::io("sync", &staged.unfinished))?;
        Ok((staged, result))
    }

    /// Writes a file that goes elsewhere: it need not survive a crash.
    pub(crate) fn spool<T>(
        disk: &Arc<dyn Disk>,
        path: &Path,
        write: impl FnOnce(&mut NewFile) -> Result<T>,
    ) -> Result<(Self, T)> {
        let staged = Self::new(disk, path);
        let result = write(&mut staged.create()?)?;
        Ok((staged, result))
    }

    fn new(disk: &Arc<dyn Disk>, path: &Path) -> Self {
        let mut name = OsString::from(path);
        name.push(".");
        name.push(UNFINISHED);
        let (disk, path) = (disk.clone(), path.to_path_buf());
        Self { disk, unfinished: name.into(), path, in_place: false }
    }

    fn create(&self) -> Result<NewFile> {
        let empty = || {
            let file = self.disk.open(&self.unfinished, true)?;
            // Something may be left of an earlier try.
            if file.len()? > 0 {
                file.set_len(0)?;
            }
            Ok(NewFile { file, len: 0 })
        };
        empty().map_err(Error::io("create", &self.unfinished))
    }

    /// Where its content is.
    pub(crate) fn unfinished(&self) -> &Path {
        &self.unfinished
    }

    /// Puts the file in place of whatever was there. Durable once the folder is synced.
    pub(crate) fn put_in_place(mut self) -> Result<()> {
        let renamed = self.disk.rename(&self.unfinished, &self.path);
        renamed.map_err(Error::io("replace", &self.path))?;
        self.in_place = true;
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.in_place {
            // What stays is ignored by readers and removed by the next writer.
            let _ = self.disk.remove(&self.unfinished);
        }
    }
}

/// Replaces a file's content atomically and durably: after a crash the old or the new one is
/// there, whole.
pub(crate) fn replace(disk: &Arc<dyn Disk>, path: &Path, content: &[u8]) -> Result<()> {
    let write = |file: &mut NewFile| file.write_all(content).map_err(Error::io("write", path));
    let (staged, ()) = Staged::write(disk, path, write)?;
    staged.put_in_place()?;
    sync_folder(&**disk, path.parent().expect("a file in a data folder has a parent"))
}

/// Makes names in a folder durable.
pub(crate) fn sync_folder(disk: &dyn Disk, path: &Path) -> Result<()> {
    disk.sync_folder(path).map_err(Error::io("sync", path))
}

/// Makes a folder and its parents where they are missing.
pub(crate) fn create_folder(disk: &dyn Disk, path: &Path) -> Result<()> {
    disk.create_folder(path).map_err(Error::io("create", path))
}

/// The names in a folder, sorted; none when the folder is missing. Names that are not UTF-8 are
/// not ours and left out.
pub(crate) fn names_in(disk: &dyn Disk, path: &Path) -> Result<Vec<String>> {
    disk.list(path).map_err(Error::io("read", path))
}

/// A file's content.
pub(crate) fn read(disk: &dyn Disk, path: &Path) -> Result<Vec<u8>> {
    let read = disk.open_to_read(path).and_then(|file| disk::read_from(&*file, 0));
    read.map_err(Error::io("read", path))
}

/// A text, `None` where there is no such file.
pub(crate) fn read_text(disk: &dyn Disk, path: &Path) -> Result<Option<String>> {
    match read(disk, path) {
        Err(Error::Io { source, .. })
            if matches!(source.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
        {
            Ok(None)
        }
        read => {
            let text = String::from_utf8(read?).map_err(io::Error::other);
            text.map(Some).map_err(Error::io("read", path))
        }
    }
}

/// A name as one component of a path: every byte but letters, digits, `_`, `-` and inner dots
/// is written as `%` and two hex digits, so that different names never meet.
pub(crate) fn path_component(name: &str) -> String {
    let mut component = String::new();
    for (index, byte) in name.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => component.push(byte.into()),
            b'.' if index > 0 => component.push('.'),
            _ => component.push_str(&format!("%{byte:02X}")),
        }
    }
    component
}
