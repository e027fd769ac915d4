#![doc = include_str!("../README.md")]

pub mod engine;
pub mod partial;
pub mod plan;
pub mod runs;

pub use engine::{Engine, EngineError, EngineKind};
pub use partial::Partials;
pub use plan::{Plan, Term};
pub use runs::{Run, Runs};
