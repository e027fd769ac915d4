#![doc = include_str!("../README.md")]

pub mod byte_size;
pub mod definitions;
pub mod error;
pub mod expr;
pub mod ids;
pub mod key;
pub mod key_selection;
pub mod quantile;
pub mod results;
pub mod schema;
pub mod ticks;
pub mod time;
pub mod units;
pub mod view;
pub mod watermark;

pub use byte_size::ByteSize;
pub use ids::{LogPosition, PublisherId};
pub use key::{Key, KeySet};
pub use key_selection::KeySelection;
pub use quantile::Quantile;
pub use schema::{Codec, Column, Inexact, Retention, StreamSchema};
pub use ticks::{RejectReason, Rejected, Ticks, ValueColumn};
pub use units::Scale;
