//! Where history, record and manifest live. Everything above sees finished files that are put,
//! read by ranges, listed and removed, and a manifest that is swapped.

mod buffers;
mod local;

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use self::local::{Local, LocalFile};
use crate::error::Result;
use crate::files::Staged;
use crate::manifest::StoredFile;

pub(crate) use self::local::read_range;

const MANIFEST: &str = "manifest.json";

/// A place for files, by names relative to it with `/`.
#[derive(Clone, Debug)]
pub(crate) enum Objects {
    Local(Local),
}

/// A finished file that is not in place yet. Dropping it removes it.
#[must_use = "the file counts only once it is in place"]
pub(crate) enum StagedObject {
    Local(Staged),
}

/// A manifest that is not in place yet. Dropping it removes it.
#[must_use = "the manifest counts only once it is swapped"]
pub(crate) enum StagedManifest {
    Local(Staged),
}

/// Which manifest was read: what the next one replaces, and nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tag(Option<String>);

impl Objects {
    /// A local folder.
    pub fn local(root: &Path) -> Self {
        Self::Local(Local::new(root))
    }

    /// Writes a file under a temporary name. `write` also gets the name to put in errors.
    ///
    /// # Errors
    ///
    /// Those of `write`, [`Error::Io`](crate::Error::Io).
    pub fn stage<T>(
        &self,
        relative: &str,
        write: impl FnOnce(&mut File, &Path) -> Result<T>,
    ) -> Result<(StagedObject, T)> {
        match self {
            Self::Local(local) => {
                let (staged, result) = local.stage(relative, write)?;
                Ok((StagedObject::Local(staged), result))
            }
        }
    }

    /// Makes files that were put in place durable, where they are not yet.
    pub fn settle<'a>(&self, put: impl IntoIterator<Item = &'a str>) -> Result<()> {
        match self {
            Self::Local(local) => local.settle(put),
        }
    }

    /// Opens a file as the manifest describes it.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`](crate::Error::Damaged) for another length; one that
    /// [is missing](crate::Error::is_missing) for a missing file.
    pub fn open(&self, file: &StoredFile) -> Result<ObjectFile> {
        match self {
            Self::Local(local) => Ok(ObjectFile::Local(local.open(file)?)),
        }
    }

    /// Removes a file that nothing refers to any more.
    pub fn remove(&self, relative: &str) -> Result<()> {
        match self {
            Self::Local(local) => local.remove(relative),
        }
    }

    /// Every file of our layout, unfinished ones included.
    pub fn names(&self) -> Result<Vec<String>> {
        match self {
            Self::Local(local) => local.names(),
        }
    }

    /// A file's name, for people.
    pub fn path_of(&self, relative: &str) -> PathBuf {
        match self {
            Self::Local(local) => local.path_of(relative),
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
        }
    }

    /// The manifest's text; `None` before the first.
    pub fn read_manifest(&self) -> Result<Option<(Vec<u8>, Tag)>> {
        match self {
            Self::Local(local) => Ok(local.read_manifest()?.map(|text| (text, Tag::default()))),
        }
    }

    /// Makes a manifest ready to be swapped.
    pub fn stage_manifest(&self, text: &[u8]) -> Result<StagedManifest> {
        match self {
            Self::Local(local) => Ok(StagedManifest::Local(local.stage_manifest(text)?)),
        }
    }

    /// Makes a swapped manifest durable, where it is not yet.
    pub fn settle_manifest(&self) -> Result<()> {
        match self {
            Self::Local(local) => local.settle_manifest(),
        }
    }
}

impl StagedObject {
    /// Puts the file in place. It counts once it is settled and a manifest names it.
    pub fn put_in_place(self) -> Result<()> {
        match self {
            Self::Local(staged) => staged.put_in_place(),
        }
    }
}

impl StagedManifest {
    /// Puts the manifest in place of the one that was read with this tag: the commit.
    pub fn swap(self, _replaced: &Tag) -> Result<Tag> {
        match self {
            // The writer's lock says that nobody else swaps.
            Self::Local(staged) => staged.put_in_place().map(|()| Tag::default()),
        }
    }
}

/// A file that is open for reading.
#[derive(Clone, Debug)]
pub(crate) enum ObjectFile {
    Local(LocalFile),
}

impl ObjectFile {
    /// Its name, for people.
    pub fn path(&self) -> &Path {
        match self {
            Self::Local(file) => file.path(),
        }
    }

    /// Lets go of the operating system's handle, if there is one, until something is read.
    pub fn close(&mut self) {
        match self {
            Self::Local(file) => file.close(),
        }
    }

    /// Reads so many bytes at a position.
    pub fn read(&self, start: u64, len: u64) -> Result<Bytes> {
        match self {
            Self::Local(file) => file.read(start, len),
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
        }
    }
}
