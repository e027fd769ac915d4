//! The few ways in which files are written: atomic replacement and folder syncs.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The suffix of files that are not finished. Readers ignore them, the next writer removes them.
const UNFINISHED: &str = "tmp";

/// Whether a name is that of a file that is not finished.
pub(crate) fn is_unfinished(name: &str) -> bool {
    name.strip_suffix(UNFINISHED).is_some_and(|name| name.ends_with('.'))
}

/// A file that is written and synced under a temporary name, not yet in place. Dropping it
/// removes it.
#[must_use = "the file counts only once it is in place"]
pub(crate) struct Staged {
    unfinished: PathBuf,
    path: PathBuf,
    in_place: bool,
}

impl Staged {
    /// Writes a file beside `path` and syncs its content. `path` itself is untouched.
    pub(crate) fn write<T>(
        path: &Path,
        write: impl FnOnce(&mut File) -> Result<T>,
    ) -> Result<(Self, T)> {
        // Made before the file: what a failed write leaves goes with it.
        let staged = Self::new(path);
        let mut file = staged.create()?;
        let result = write(&mut file)?;
        file.sync_all().map_err(Error::io("sync", &staged.unfinished))?;
        Ok((staged, result))
    }

    /// Writes a file that goes elsewhere: it need not survive a crash.
    pub(crate) fn spool<T>(
        path: &Path,
        write: impl FnOnce(&mut File) -> Result<T>,
    ) -> Result<(Self, T)> {
        let staged = Self::new(path);
        let result = write(&mut staged.create()?)?;
        Ok((staged, result))
    }

    fn new(path: &Path) -> Self {
        let mut name = OsString::from(path);
        name.push(".");
        name.push(UNFINISHED);
        Self { unfinished: name.into(), path: path.to_path_buf(), in_place: false }
    }

    fn create(&self) -> Result<File> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(true);
        options.open(&self.unfinished).map_err(Error::io("create", &self.unfinished))
    }

    /// Where its content is.
    pub(crate) fn unfinished(&self) -> &Path {
        &self.unfinished
    }

    /// Puts the file in place of whatever was there. Durable once the folder is synced.
    pub(crate) fn put_in_place(mut self) -> Result<()> {
        fs::rename(&self.unfinished, &self.path).map_err(Error::io("replace", &self.path))?;
        self.in_place = true;
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.in_place {
            // What stays is ignored by readers and removed by the next writer.
            let _ = fs::remove_file(&self.unfinished);
        }
    }
}

/// Replaces a file's content atomically and durably: after a crash the old or the new one is
/// there, whole.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let (staged, ()) = Staged::write(path, |file| {
        std::io::Write::write_all(file, content).map_err(Error::io("write", path))
    })?;
    staged.put_in_place()?;
    sync_folder(path.parent().expect("a file in a data folder has a parent"))
}

/// Makes names in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> Result<()> {
    // Elsewhere folders cannot be opened as files, and renames are journalled.
    if cfg!(unix) {
        let folder = File::open(path).map_err(Error::io("open", path))?;
        folder.sync_all().map_err(Error::io("sync", path))?;
    }
    Ok(())
}

/// Makes a folder and its parents where they are missing.
pub(crate) fn create_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::io("create", path))
}

/// The names in a folder, sorted; none when the folder is missing. Names that are not UTF-8 are
/// not ours and left out.
pub(crate) fn names_in(path: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Error::io("read", path))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::io("read", path))?;
        names.extend(entry.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
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
