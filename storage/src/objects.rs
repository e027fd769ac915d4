//! Where history, record and manifest live. Everything above sees finished files that are put,
//! read by ranges, listed and removed, and a manifest that is swapped.

mod buffers;
mod local;
mod place;
mod remote;
mod url;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use self::local::{Local, LocalFile};
use self::remote::{Remote, RemoteFile, Settings, Spooled};
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::files::{NewFile, Staged};
use crate::manifest::StoredFile;

pub(crate) use self::local::read_range;
pub(crate) use self::place::Place;
pub use self::url::StoreUrl;

const MANIFEST: &str = "manifest.json";
/// Where files of a store are written before they are put, in the data folder.
const SPOOL: &str = "spool";

/// A place for files, by names relative to it with `/`.
#[derive(Clone, Debug)]
pub(crate) enum Objects {
    Local(Local),
    Remote(Arc<Remote>),
}

/// A finished file that is not in place yet. Dropping it removes it.
#[must_use = "the file counts only once it is in place"]
pub(crate) enum StagedObject {
    Local(Staged),
    Remote(Spooled),
}

/// A manifest that is not in place yet. Dropping it removes it.
#[must_use = "the manifest counts only once it is swapped"]
pub(crate) enum StagedManifest {
    Local(Staged),
    Remote(Arc<Remote>, Bytes),
}

/// Why a manifest was not swapped, or may not have been.
#[derive(Debug)]
pub(crate) enum SwapError {
    /// The one that was there still is.
    Failed(Error),
    /// Nobody knows: the store did not answer for too long.
    Unknown(Error),
    /// Another one is there, with this text.
    Replaced(Vec<u8>),
}

/// Which manifest was read: what the next one replaces, and nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tag(Option<String>);

impl Objects {
    /// A local folder.
    pub fn local(disk: Arc<dyn Disk>, root: &Path) -> Self {
        Self::Local(Local::new(disk, root))
    }

    /// A store, with credentials and endpoint from the environment. `root` is the data folder.
    ///
    /// # Errors
    ///
    /// [`Error::Object`] for settings that cannot be; nothing is asked of the store yet.
    pub fn remote(place: &Place, root: &Path) -> Result<Self> {
        let settings = Settings::of_environment(place.patience);
        Ok(Self::Remote(Arc::new(Remote::new(&place.url, root.join(SPOOL), &settings)?)))
    }

    /// Removes what an earlier process left beside the files.
    pub fn clear(&self) -> Result<()> {
        match self {
            Self::Local(_) => Ok(()),
            Self::Remote(remote) => remote.clear_spool(),
        }
    }

    /// Writes a file under a temporary name. `write` also gets the name to put in errors.
    ///
    /// # Errors
    ///
    /// Those of `write`, [`Error::Io`].
    pub fn stage<T>(
        &self,
        relative: &str,
        write: impl FnOnce(&mut NewFile, &Path) -> Result<T>,
    ) -> Result<(StagedObject, T)> {
        match self {
            Self::Local(local) => {
                let (staged, result) = local.stage(relative, write)?;
                Ok((StagedObject::Local(staged), result))
            }
            Self::Remote(remote) => {
                let (staged, result) = remote.stage(relative, write)?;
                Ok((StagedObject::Remote(staged), result))
            }
        }
    }

    /// Makes files that were put in place durable, where they are not yet.
    pub fn settle<'a>(&self, put: impl IntoIterator<Item = &'a str>) -> Result<()> {
        match self {
            Self::Local(local) => local.settle(put),
            Self::Remote(_) => Ok(()),
        }
    }

    /// Opens files as the manifest describes them: what came of each, in their order. Give few at
    /// a time: each takes a handle or the file's end in memory.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] for another length; one that [is missing](Error::is_missing) for a
    /// missing file.
    pub fn open_all(&self, files: &[&StoredFile]) -> Vec<Result<ObjectFile>> {
        match self {
            Self::Local(local) => {
                files.iter().map(|file| Ok(ObjectFile::Local(local.open(file)?))).collect()
            }
            Self::Remote(remote) => {
                let opened = remote.open_all(files);
                opened.into_iter().map(|file| Ok(ObjectFile::Remote(file?))).collect()
            }
        }
    }

    /// Removes a file that nothing refers to any more.
    pub fn remove(&self, relative: &str) -> Result<()> {
        match self {
            Self::Local(local) => local.remove(relative),
            Self::Remote(remote) => remote.remove(relative),
        }
    }

    /// Removes files that nothing refers to, as far as that is quickly done: what stays goes when the
    /// folder is next opened for writing.
    pub fn try_to_remove(&self, files: &[String]) {
        match self {
            Self::Local(local) => files.iter().for_each(|file| drop(local.remove(file))),
            Self::Remote(remote) => remote.try_to_remove(files),
        }
    }

    /// Every file of our layout, unfinished ones included.
    pub fn names(&self) -> Result<Vec<String>> {
        match self {
            Self::Local(local) => local.names(),
            Self::Remote(remote) => remote.names(),
        }
    }

    /// A file's name, for people.
    pub fn path_of(&self, relative: &str) -> PathBuf {
        match self {
            Self::Local(local) => local.path_of(relative),
            Self::Remote(remote) => remote.path_of(relative),
        }
    }

    /// The manifest's name, for people.
    pub fn manifest_path(&self) -> PathBuf {
        self.path_of(MANIFEST)
    }

    /// Reads a file that is no history or record, whole.
    pub fn read_whole(&self, relative: &str) -> Result<Vec<u8>> {
        match self {
            Self::Local(local) => local.read_whole(relative),
            Self::Remote(remote) => remote.read_whole(relative),
        }
    }

    /// The manifest's text; `None` before the first.
    pub fn read_manifest(&self) -> Result<Option<(Vec<u8>, Tag)>> {
        match self {
            Self::Local(local) => Ok(local.read_manifest()?.map(|text| (text, Tag::default()))),
            Self::Remote(remote) => remote.read_manifest(),
        }
    }

    /// Makes a manifest ready to be swapped.
    pub fn stage_manifest(&self, text: &[u8]) -> Result<StagedManifest> {
        match self {
            Self::Local(local) => Ok(StagedManifest::Local(local.stage_manifest(text)?)),
            Self::Remote(remote) => {
                Ok(StagedManifest::Remote(remote.clone(), Bytes::copy_from_slice(text)))
            }
        }
    }

    /// Makes a swapped manifest durable, where it is not yet.
    pub fn settle_manifest(&self) -> Result<()> {
        match self {
            Self::Local(local) => local.settle_manifest(),
            Self::Remote(_) => Ok(()),
        }
    }
}

impl StagedObject {
    /// Puts the file in place. It counts once it is settled and a manifest names it.
    pub fn put_in_place(self) -> Result<()> {
        match self {
            Self::Local(staged) => staged.put_in_place(),
            Self::Remote(spooled) => spooled.upload(),
        }
    }
}

impl StagedManifest {
    /// Puts the manifest in place of the one that was read with this tag: the commit.
    pub fn swap(self, replaced: &Tag) -> Result<Tag, SwapError> {
        match self {
            // The writer's lock says that nobody else swaps.
            Self::Local(staged) => {
                staged.put_in_place().map(|()| Tag::default()).map_err(SwapError::Failed)
            }
            Self::Remote(remote, text) => remote.swap_manifest(text, replaced),
        }
    }
}

/// A file that is open for reading.
#[derive(Clone, Debug)]
pub(crate) enum ObjectFile {
    Local(LocalFile),
    Remote(RemoteFile),
}

impl ObjectFile {
    /// Its name, for people.
    pub fn path(&self) -> &Path {
        match self {
            Self::Local(file) => file.path(),
            Self::Remote(file) => file.path(),
        }
    }

    /// Lets go of what only the footer needed, and without `keep_open` of everything until
    /// something is read.
    pub fn after_footer(&mut self, keep_open: bool) {
        match self {
            Self::Local(file) => file.after_footer(keep_open),
            Self::Remote(file) => file.after_footer(keep_open),
        }
    }

    /// Reads so many bytes at a position.
    pub fn read(&self, start: u64, len: u64) -> Result<Bytes> {
        match self {
            Self::Local(file) => file.read(start, len),
            Self::Remote(file) => file.read(start, len),
        }
    }

    /// Reads several ranges, given in ascending order, and hands each over with its number.
    ///
    /// # Errors
    ///
    /// Those of reading, and of `each`.
    pub fn read_each(
        &self,
        ranges: &[Range<u64>],
        each: &mut dyn FnMut(usize, Bytes) -> Result<()>,
    ) -> Result<()> {
        match self {
            Self::Local(file) => file.read_each(ranges, each),
            Self::Remote(file) => file.read_each(ranges, each),
        }
    }
}
