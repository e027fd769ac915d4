#![doc = include_str!("../README.md")]

pub mod adapters;
mod device;
pub mod engine;
pub mod error;
mod kernel;
mod known;
mod segments;
mod wide;
mod work;

#[cfg(test)]
mod tests;

pub use adapters::{AdapterInfo, AdapterKind, AdapterLimits, AdapterUsage, Choice, devices};
pub use engine::GpuEngine;
pub use error::GpuError;
