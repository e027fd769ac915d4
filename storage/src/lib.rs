#![doc = include_str!("../README.md")]

pub mod checkpoint;
pub mod compaction;
pub mod deadletters;
mod disk;
mod error;
pub mod export;
mod files;
#[cfg(test)]
mod fixtures;
pub mod folder;
pub mod fsck;
pub mod history;
pub mod log;
pub mod manifest;
mod objects;
mod parquet_file;
pub mod record;
pub mod retention;
pub mod rollup;
#[cfg(test)]
mod simulation;
mod snapshot;
pub mod source;
pub mod store;
mod zeros;

pub use checkpoint::Checkpoint;
pub use compaction::{Eagerness, Merge, Merged};
pub use deadletters::{DeadLetters, Letter};
pub use error::{Error, Result};
pub use folder::DataFolder;
pub use history::{ALL_TIME, Columns, Part};
pub use log::{LogReader, LogRecord, LogSyncer, LogWriter, Recovery};
pub use manifest::{Imported, ImportedSource, Manifest, Unrecorded};
pub use objects::StoreUrl;
pub use record::{RecordedWindow, ResultFile, read_results};
pub use retention::Dropped;
pub use rollup::{Rolled, RollupBase, RollupTerm, RollupWork, StatesPart, StoredStates};
pub use snapshot::{Choose, Chosen, Frozen, Parts, Snapshot};
pub use store::{Commit, Opening, Pinned, Pins, Store};
