#![doc = include_str!("../README.md")]

pub mod adapters;
mod device;
pub mod engine;
pub mod error;
mod inputs;
mod kernel;
mod known;
mod segments;
pub mod select;
pub mod variant;
mod wide;
mod work;

#[cfg(test)]
mod tests;

pub use adapters::{AdapterInfo, AdapterKind, AdapterLimits, AdapterUsage, Choice, devices};
pub use engine::GpuEngine;
pub use error::GpuError;
pub use variant::{Arithmetic, Encoding, Shape, Variant};
