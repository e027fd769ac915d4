//! What can go wrong in a data folder.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::errors::ParquetError;

/// A failed operation on a data folder. Messages name the file, and the remedy where there is one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused a file operation.
    #[error("cannot {action} {}: {source}{}", .path.display(), remedy(.action, .source))]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// Another process writes this data folder.
    #[error("{} is in use by {holder}; stop it or use another --data", .path.display())]
    InUse {
        /// The data folder.
        path: PathBuf,
        /// Who holds it, e.g. `process 123 (isotick serve)`.
        holder: String,
    },
    /// The path is no data folder.
    #[error(
        "{} is no Isotick data folder; `isotick import` and `isotick serve` with --data make one",
        .path.display()
    )]
    NotADataFolder {
        /// The path.
        path: PathBuf,
    },
    /// A folder that holds files with our names but was not made by us.
    #[error(
        "{} holds {entry} but is no Isotick data folder; use an empty folder for --data",
        .path.display()
    )]
    ForeignFolder {
        /// The folder.
        path: PathBuf,
        /// The name that would be taken for ours.
        entry: String,
    },
    /// The data was written by a newer release.
    #[error(
        "{} has format {found}, this release reads up to {supported}; use a newer isotick",
        .path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format version.
        found: u32,
        /// The newest format version known here.
        supported: u32,
    },
    /// A log frame that was durable cannot be read.
    #[error(
        "{} is damaged at byte {offset}: {what}; restore the file from a copy, or see with \
         `isotick log check` what is left and give up the rest with `isotick log repair`",
        .path.display()
    )]
    LogCorrupt {
        /// The segment.
        path: PathBuf,
        /// Where the frame starts, in bytes.
        offset: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The log lacks records that are asked for.
    #[error(
        "the log {} does not hold position {position}: it begins later, ends before, or lacks a \
         segment; a service at work gives up what its history covers, so ask again",
        .path.display()
    )]
    LogGap {
        /// The log's folder.
        path: PathBuf,
        /// The position that should be there.
        position: u64,
    },
    /// A damaged log that no repair makes one from which a start can be made.
    #[error(
        "{} lacks record {position}, which a start needs, and history holds what came after it, \
         up to record {covered}: restore the file from a copy, or keep this folder for scans and \
         serve from a new one",
        .path.display()
    )]
    LogBeyondRepair {
        /// The segment.
        path: PathBuf,
        /// The first record that cannot be read.
        position: u64,
        /// The first record that history does not hold.
        covered: u64,
    },
    /// An earlier write or sync failed; nothing can be acknowledged any more.
    #[error("the log takes no more records: {reason}")]
    LogPoisoned {
        /// The failure that came first.
        reason: Arc<str>,
    },
    /// Work was given up because it was asked to be.
    #[error("it was stopped")]
    Stopped,
    /// A record is longer than a log frame can be.
    #[error("a log record of {bytes} bytes is longer than {max}; publish in smaller batches")]
    RecordTooLong {
        /// Its length.
        bytes: usize,
        /// The longest allowed.
        max: usize,
    },
    /// The manifest cannot be read, or breaks one of its invariants.
    #[error("{} is damaged: {what}; restore it from a copy", .path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A stored Parquet file is truncated or damaged.
    #[error("{} is damaged: {what}; restore it from a copy", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, naming the column where it is one column.
        what: String,
    },
    /// A file of stored states is truncated or damaged; the ticks that they stand for are not.
    #[error(
        "{} is damaged: {what}; `isotick scan --no-rollup` reads the ticks in its place, `isotick \
         rollup --drop` removes it",
        .path.display()
    )]
    StatesDamaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, naming the column where it is one column.
        what: String,
    },
    /// The Parquet library refused.
    #[error("cannot {action} {}: {source}", .path.display())]
    Parquet {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The library's reason.
        source: ParquetError,
    },
    /// A stored column does not fit the definition it is read with.
    #[error("{}: column {column}: {what}", .path.display())]
    Column {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// What does not fit.
        what: String,
    },
    /// Two different results were recorded under one (key, window, version).
    #[error(
        "{}: view {view}: key {key}, window start {window_start}, version {version} is recorded \
         twice with different values",
        .path.display()
    )]
    RecordConflict {
        /// The file that holds the second one.
        path: PathBuf,
        /// The view.
        view: String,
        /// The key.
        key: String,
        /// The window's start, nanoseconds UTC.
        window_start: i64,
        /// The version.
        version: u32,
    },
    /// The store refused, or could not be reached for as long as it was tried.
    #[error("cannot {action} {object}: {what}; {remedy}")]
    Object {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or store, as `s3://…`.
        object: String,
        /// What the store or the network said.
        what: String,
        /// What to do.
        remedy: &'static str,
        /// Whether the file is not there.
        missing: bool,
    },
    /// The name of a store is none.
    #[error("{text} names no store: {what}; write s3://bucket/prefix")]
    StoreUrl {
        /// What was given.
        text: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A data folder was made with another store.
    #[error(
        "{} has its history in {remembered}, not in {asked}; leave --store out, or use another \
         --data",
        .path.display()
    )]
    OtherStore {
        /// The data folder.
        path: PathBuf,
        /// Where its history is.
        remembered: String,
        /// What was asked for.
        asked: String,
    },
    /// A store belongs to another data folder: its positions are those of another log.
    #[error(
        "{} belongs to another data folder ({owner}, this one is {folder}): log positions in it \
         are those of that folder's log; use that folder, or another prefix with --store",
        .path.display()
    )]
    StoreOwned {
        /// The manifest.
        path: PathBuf,
        /// The id of the data folder that it belongs to.
        owner: String,
        /// The id of this one.
        folder: String,
    },
    /// Another writer has replaced the manifest that a commit was to replace.
    #[error(
        "another writer replaced the manifest {}: version {version} was to follow, but {found} is \
         there; nothing was overwritten and this commit does not count; stop the other writer, \
         then start this one again",
        .path.display()
    )]
    ManifestReplaced {
        /// The manifest.
        path: PathBuf,
        /// The version of the commit that did not happen.
        version: u64,
        /// What is there, e.g. `version 7 of data folder 0123…`.
        found: String,
    },
}

/// The result of a storage operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Wraps an operating system error: for `map_err`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_path_buf(), source }
    }

    /// Wraps an error of the Parquet library: for `map_err`. An operating system error inside
    /// comes out as one.
    pub(crate) fn parquet(action: &'static str, path: &Path) -> impl FnOnce(ParquetError) -> Self {
        move |source| {
            let path = path.to_path_buf();
            match source {
                ParquetError::External(inner) => match inner.downcast::<io::Error>() {
                    Ok(source) => Self::Io { action, path, source: *source },
                    Err(inner) => {
                        Self::Parquet { action, path, source: ParquetError::External(inner) }
                    }
                },
                source => Self::Parquet { action, path, source },
            }
        }
    }

    /// Whether a file is not there.
    pub fn is_missing(&self) -> bool {
        match self {
            Self::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::Object { missing, .. } => *missing,
            _ => false,
        }
    }

    /// Whether the disk is full: what the caller can wait out or free.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    }
}

/// What a user can do about an operating system error.
fn remedy(action: &str, source: &io::Error) -> impl fmt::Display {
    match source.kind() {
        io::ErrorKind::NotFound if action == "open" => "; `isotick fsck` says what else is missing",
        io::ErrorKind::PermissionDenied if matches!(action, "open" | "read") => {
            "; allow this user to read it"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free space there, then start again"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; allow writing there or use another folder"
        }
        _ => "",
    }
}
