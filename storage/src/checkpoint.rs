//! Checkpoints: what the live path held at a log position, so that a start need not replay what
//! is before it. What a checkpoint says is opaque here.
//!
//! A file is a magic, the format's version and the payload; its length and checksum stand in the
//! manifest, which names the newest two.

use std::io::Write;

use isotick_model::LogPosition;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::folder::DataFolder;
use crate::objects::StagedObject;

const MAGIC: [u8; 8] = *b"isotckpt";
const VERSION: u32 = 1;
const HEADER_LEN: usize = 12;

/// Checkpoints that are kept: should the newest be damaged, there is one before it.
pub(crate) const KEPT: usize = 2;

/// The folder of checkpoints, relative to the data folder.
pub(crate) const FOLDER: &str = "checkpoint";
/// The suffix of their names.
pub(crate) const SUFFIX: &str = ".state";

/// A stored checkpoint and what protects it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointFile {
    /// Relative to the data folder, with `/`.
    pub path: String,
    /// Length in bytes.
    pub bytes: u64,
    /// CRC-32 of the whole file.
    pub crc32: u32,
    /// The first log position whose effects are *not* in it.
    pub position: u64,
}

/// What the live path held at a log position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The first log position whose effects are *not* in it.
    pub position: LogPosition,
    /// What was held, in the words of whoever wrote it.
    pub payload: Vec<u8>,
}

/// Writes a checkpoint beside its place.
pub(crate) fn stage(
    folder: &DataFolder,
    checkpoint: &Checkpoint,
    id: &str,
) -> Result<(StagedObject, CheckpointFile)> {
    let position = checkpoint.position.0;
    let relative = format!("{FOLDER}/{position:020}-{id}{SUFFIX}");
    let mut header = [0; HEADER_LEN];
    header[..8].copy_from_slice(&MAGIC);
    header[8..].copy_from_slice(&VERSION.to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&header);
    crc.update(&checkpoint.payload);
    let (staged, ()) = folder.objects().stage(&relative, |file, path| {
        let written = file.write_all(&header).and_then(|()| file.write_all(&checkpoint.payload));
        written.map_err(Error::io("write", path))
    })?;
    let bytes = (HEADER_LEN + checkpoint.payload.len()) as u64;
    Ok((staged, CheckpointFile { path: relative, bytes, crc32: crc.finalize(), position }))
}

/// Reads a checkpoint.
///
/// # Errors
///
/// [`Error::Damaged`] when it is not what was written, [`Error::Newer`], [`Error::Io`].
pub(crate) fn read(folder: &DataFolder, file: &CheckpointFile) -> Result<Checkpoint> {
    let path = folder.objects().path_of(&file.path);
    let mut content = folder.objects().read_whole(&file.path)?;
    let damaged = |what: &str| Err(Error::Damaged { path: path.clone(), what: what.to_owned() });
    if content.len() as u64 != file.bytes {
        return damaged("the checkpoint has another length than the manifest says");
    }
    if crc32fast::hash(&content) != file.crc32 {
        return damaged("the checkpoint's checksum does not match its content");
    }
    let Some((magic, version)) = content.first_chunk::<HEADER_LEN>().map(|h| h.split_at(8)) else {
        return damaged("it is no checkpoint");
    };
    if magic != MAGIC {
        return damaged("it is no checkpoint");
    }
    let found = u32::from_le_bytes(version.try_into().expect("four bytes"));
    if found > VERSION {
        return Err(Error::Newer { path, found, supported: VERSION });
    }
    content.drain(..HEADER_LEN);
    Ok(Checkpoint { position: LogPosition(file.position), payload: content })
}
