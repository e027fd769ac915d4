#![doc = include_str!("../README.md")]

pub mod base;
pub mod cpu;
pub mod engine;
pub mod filter;
mod finished;
mod grid;
pub mod hash;
mod index;
mod lower;
pub mod merge;
mod multiset;
mod multisets;
pub mod partial;
pub mod partition;
pub mod plan;
mod rational;
pub mod results;
pub mod runs;
pub mod states;
pub mod tables;
mod wide;
pub mod windows;

#[cfg(test)]
mod testing;

pub use base::Base;
pub use cpu::CpuEngine;
pub use engine::{Engine, EngineError, EngineKind, Holding};
pub use grid::Grid;
pub use hash::{EncodedRows, ResultHash, ResultHasher, result_hash};
pub use merge::{Merge, MergeError, Run as SortedRun};
pub use partial::Partials;
pub use partition::{Form, Partitioned, Partitioner, Truth};
pub use plan::{Plan, Term, ValuesOf};
pub use results::{Ordered, Results};
pub use runs::{Group, Groups, Run, Runs};
pub use tables::{KeyTable, PublisherTable};
pub use windows::{SavedMultiset, SavedWindows, Touched, Unfit, WindowId, Windows};
