//! The data folder: its layout, its lock, its definitions.

#[cfg(test)]
mod tests;

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::files;
use crate::objects::Objects;

/// The newest layout this release reads and the one it writes.
pub const FORMAT_VERSION: u32 = 1;

const FORMAT: &str = "format";
const LOCK: &str = "isotick.lock";
const DEFINITIONS: &str = "definitions.toml";
const LOG: &str = "log";
const MANIFEST: &str = "manifest.json";
const DEAD_LETTERS: &str = "deadletters";

/// A data folder, open for reading or, with its lock held, for writing. Cloning is cheap; the
/// lock is held until the last clone of the writer's is dropped, or the process ends.
#[derive(Clone, Debug)]
pub struct DataFolder {
    root: PathBuf,
    lock: Option<Arc<File>>,
    objects: Objects,
}

impl DataFolder {
    /// Opens a data folder as its only writer, and makes it where there is none. `command` tells
    /// the next one who tries what holds the folder, e.g. `isotick serve`.
    ///
    /// # Errors
    ///
    /// [`Error::InUse`] while another process (or handle) holds it, [`Error::ForeignFolder`] when
    /// a folder that is not ours holds names that ours would take, [`Error::Newer`],
    /// [`Error::Io`].
    pub fn open_writer(path: &Path, command: &str) -> Result<Self> {
        files::create_folder(path)?;
        let root = path.to_path_buf();
        if !is_data_folder(&root)? {
            let ours = |name: &&String| {
                name.starts_with("stream=")
                    || name.starts_with("view=")
                    || [LOG, MANIFEST, DEFINITIONS, DEAD_LETTERS].contains(&name.as_str())
            };
            if let Some(entry) = files::names_in(&root)?.iter().find(ours) {
                return Err(Error::ForeignFolder { path: root, entry: entry.clone() });
            }
        }
        let lock = lock(&root, command)?;
        if !is_data_folder(&root)? {
            let content = format!("format = {FORMAT_VERSION}\n");
            files::replace(&root.join(FORMAT), content.as_bytes())?;
        }
        let objects = Objects::local(&root);
        let folder = Self { root, lock: Some(Arc::new(lock)), objects };
        files::create_folder(&folder.log())?;
        files::sync_folder(&folder.root)?;
        Ok(folder)
    }

    /// Opens a data folder for reading, whether or not a writer holds it.
    ///
    /// # Errors
    ///
    /// [`Error::NotADataFolder`], [`Error::Newer`], [`Error::Io`].
    pub fn open_reader(path: &Path) -> Result<Self> {
        if !is_data_folder(path)? {
            return Err(Error::NotADataFolder { path: path.to_path_buf() });
        }
        Ok(Self { root: path.to_path_buf(), lock: None, objects: Objects::local(path) })
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The definitions it remembers, TOML text; `None` when none were put.
    pub fn definitions(&self) -> Result<Option<String>> {
        let path = self.root.join(DEFINITIONS);
        match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            text => text.map(Some).map_err(Error::io("read", &path)),
        }
    }

    /// Remembers definitions in place of the earlier ones, atomically and durably.
    ///
    /// # Panics
    ///
    /// If the folder was opened for reading.
    pub fn put_definitions(&self, text: &str) -> Result<()> {
        self.assert_writer();
        files::replace(&self.root.join(DEFINITIONS), text.as_bytes())
    }

    /// Where the log's segments are.
    pub fn log(&self) -> PathBuf {
        self.root.join(LOG)
    }

    pub(crate) fn dead_letters(&self) -> PathBuf {
        self.root.join(DEAD_LETTERS)
    }

    /// Where history, record and manifest live.
    pub(crate) fn objects(&self) -> &Objects {
        &self.objects
    }

    pub(crate) fn assert_writer(&self) {
        assert!(self.lock.is_some(), "only the holder of a data folder's lock writes to it");
    }
}

/// Takes the lock, or says who has it.
fn lock(root: &Path, command: &str) -> Result<File> {
    let path = root.join(LOCK);
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(Error::io("create", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let holder = match text.split_once('\n') {
                Some((pid, command)) => format!("process {pid} ({})", command.trim_end()),
                None => "another process".to_owned(),
            };
            return Err(Error::InUse { path: root.to_path_buf(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(Error::io("lock", &path)(source)),
    }
    let holder = format!("{}\n{command}\n", std::process::id());
    file.set_len(0)
        .and_then(|()| file.write_all(holder.as_bytes()))
        .map_err(Error::io("write", &path))?;
    Ok(file)
}

/// Whether the folder bears our mark, of a version that this release reads.
fn is_data_folder(root: &Path) -> Result<bool> {
    let path = root.join(FORMAT);
    let text = match fs::read_to_string(&path) {
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(false);
        }
        text => text.map_err(Error::io("read", &path))?,
    };
    let version = text.trim().strip_prefix("format = ").and_then(|version| version.parse().ok());
    match version {
        Some(found) if found > FORMAT_VERSION => {
            Err(Error::Newer { path, found, supported: FORMAT_VERSION })
        }
        Some(_) => Ok(true),
        None => Err(Error::Damaged { path, what: "it names no format version".to_owned() }),
    }
}
