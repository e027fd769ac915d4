#![doc = include_str!("../README.md")]

pub mod adapters;
pub mod calibrate;
mod device;
pub mod engine;
pub mod error;
mod groups;
mod inputs;
mod kernel;
mod known;
mod partition;
pub mod resident;
mod segments;
pub mod select;
pub mod timing;
pub mod variant;
mod wide;
mod work;

#[cfg(test)]
mod tests;

pub use adapters::{AdapterInfo, AdapterKind, AdapterLimits, AdapterUsage, Choice, devices};
pub use calibrate::{Calibrate, Calibration, Origin};
pub use engine::{GpuEngine, Settings};
pub use error::GpuError;
pub use resident::BatchId;
pub use select::RunClass;
pub use timing::{Bandwidth, Timing};
pub use variant::{Arithmetic, Encoding, Shape, Variant};
