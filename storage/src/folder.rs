//! The data folder: its layout, its lock, its definitions.

#[cfg(test)]
mod tests;

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, Files};
use crate::error::{Error, Result};
use crate::files;
use crate::objects::{Objects, Place, StoreUrl};

/// The newest layout this release reads and the one it writes.
pub const FORMAT_VERSION: u32 = 1;
/// The layout with a store elsewhere. Releases that know no stores would take such a folder for
/// one without history.
const FORMAT_WITH_STORE: u32 = 2;

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
    /// Where its log and definitions are, and its history if that is in itself.
    disk: Arc<dyn Disk>,
    objects: Objects,
    /// Where its history is if not in itself.
    place: Option<Arc<Place>>,
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
        let folder = Self::lock_writer(path, command, None)?;
        folder.mark()?;
        Ok(folder)
    }

    /// The same with history in a store: given when the folder is made, remembered from then on.
    /// [`mark`](Self::mark) makes it a data folder.
    ///
    /// # Errors
    ///
    /// [`Error::OtherStore`] when it was made with another one, or with none.
    pub(crate) fn lock_writer(
        path: &Path,
        command: &str,
        store: Option<&StoreUrl>,
    ) -> Result<Self> {
        let disk: Arc<dyn Disk> = Arc::new(Files);
        files::create_folder(&*disk, path)?;
        let root = path.to_path_buf();
        let format = format_of(&*disk, &root)?;
        if format.is_none() {
            let ours = |name: &&String| {
                name.starts_with("stream=")
                    || name.starts_with("view=")
                    || name.starts_with("rollup=")
                    || [LOG, MANIFEST, DEFINITIONS, DEAD_LETTERS].contains(&name.as_str())
            };
            if let Some(entry) = files::names_in(&*disk, &root)?.iter().find(ours) {
                return Err(Error::ForeignFolder { path: root, entry: entry.clone() });
            }
        }
        if format.is_none() {
            // The folder's own name lasts too; who may not open the folder above has done his part.
            let above = path.parent().filter(|above| !above.as_os_str().is_empty());
            let _ = files::sync_folder(&*disk, above.unwrap_or(Path::new(".")));
        }
        let lock = lock(&root, command)?;
        // Asked again: another writer may have made it before the lock was ours.
        let known = format_of(&*disk, &root)?.is_some();
        let place = match (place_of(&*disk, &root)?, store) {
            (remembered, Some(asked))
                if known && remembered.as_ref().map(|place| &place.url) != Some(asked) =>
            {
                let remembered = remembered.map(|place| place.url.to_string());
                return Err(Error::OtherStore {
                    path: root,
                    remembered: remembered.unwrap_or_else(|| "itself".to_owned()),
                    asked: asked.to_string(),
                });
            }
            (Some(place), Some(asked)) if place.url == *asked => Some(place),
            // Until it is a data folder, nothing was committed anywhere: another store may be tried.
            (_, Some(asked)) => {
                let place = Place::new(asked);
                place.write(&root)?;
                Some(place)
            }
            (place, None) => place,
        };
        let folder = Self::with(disk, root, Some(Arc::new(lock)), place)?;
        folder.objects.clear()?;
        Ok(folder)
    }

    fn with(
        disk: Arc<dyn Disk>,
        root: PathBuf,
        lock: Option<Arc<File>>,
        place: Option<Place>,
    ) -> Result<Self> {
        let objects = match &place {
            Some(place) => Objects::remote(place, &root)?,
            None => Objects::local(disk.clone(), &root),
        };
        Ok(Self { root, lock, disk, objects, place: place.map(Arc::new) })
    }

    /// A folder on any disk, as if its lock were held.
    #[cfg(test)]
    pub(crate) fn on(disk: Arc<dyn Disk>, root: &Path) -> Self {
        static LOCK: std::sync::OnceLock<Arc<File>> = std::sync::OnceLock::new();
        let lock = LOCK.get_or_init(|| tempfile::tempfile().unwrap().into());
        Self::with(disk, root.to_path_buf(), Some(lock.clone()), None).unwrap()
    }

    /// Makes it a data folder where it is none yet.
    pub(crate) fn mark(&self) -> Result<()> {
        if format_of(&*self.disk, &self.root)?.is_none() {
            let version = match self.place {
                Some(_) => FORMAT_WITH_STORE,
                None => FORMAT_VERSION,
            };
            let content = format!("format = {version}\n");
            files::replace(&self.disk, &self.root.join(FORMAT), content.as_bytes())?;
        }
        files::create_folder(&*self.disk, &self.log())?;
        files::sync_folder(&*self.disk, &self.root)
    }

    /// Opens a data folder for reading, whether or not a writer holds it.
    ///
    /// # Errors
    ///
    /// [`Error::NotADataFolder`], [`Error::Newer`], [`Error::Io`].
    pub fn open_reader(path: &Path) -> Result<Self> {
        let disk: Arc<dyn Disk> = Arc::new(Files);
        if format_of(&*disk, path)?.is_none() {
            return Err(Error::NotADataFolder { path: path.to_path_buf() });
        }
        let place = place_of(&*disk, path)?;
        Self::with(disk, path.to_path_buf(), None, place)
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The definitions it remembers, TOML text; `None` when none were put.
    pub fn definitions(&self) -> Result<Option<String>> {
        files::read_text(&*self.disk, &self.root.join(DEFINITIONS))
    }

    /// Remembers definitions in place of the earlier ones, atomically and durably.
    ///
    /// # Panics
    ///
    /// If the folder was opened for reading.
    pub fn put_definitions(&self, text: &str) -> Result<()> {
        self.assert_writer();
        files::replace(&self.disk, &self.root.join(DEFINITIONS), text.as_bytes())
    }

    /// Where the log's segments are.
    pub fn log(&self) -> PathBuf {
        self.root.join(LOG)
    }

    pub(crate) fn dead_letters(&self) -> PathBuf {
        self.root.join(DEAD_LETTERS)
    }

    /// The store that history, record, checkpoints and manifest are in, if not the folder.
    pub fn store(&self) -> Option<&StoreUrl> {
        self.place.as_ref().map(|place| &place.url)
    }

    /// Where its history is if not in itself: the store and the id that the folder has there.
    pub(crate) fn place(&self) -> Option<&Place> {
        self.place.as_deref()
    }

    /// Where its log and definitions are, and its history if that is in itself.
    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
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

/// The store that a folder remembers.
fn place_of(disk: &dyn Disk, root: &Path) -> Result<Option<Place>> {
    let place = Place::read(root)?;
    if place.is_none() && format_of(disk, root)? == Some(FORMAT_WITH_STORE) {
        let what = "store.toml is missing beside it, which names the store".to_owned();
        return Err(Error::Damaged { path: root.join(FORMAT), what });
    }
    Ok(place)
}

/// The version of the layout, if the folder bears our mark, of one that this release reads.
fn format_of(disk: &dyn Disk, root: &Path) -> Result<Option<u32>> {
    let path = root.join(FORMAT);
    let Some(text) = files::read_text(disk, &path)? else { return Ok(None) };
    let version = text.trim().strip_prefix("format = ").and_then(|version| version.parse().ok());
    match version {
        Some(found) if found > FORMAT_WITH_STORE => {
            Err(Error::Newer { path, found, supported: FORMAT_WITH_STORE })
        }
        Some(_) => Ok(version),
        None => Err(Error::Damaged { path, what: "it names no format version".to_owned() }),
    }
}
