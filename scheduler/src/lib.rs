#![doc = include_str!("../README.md")]

pub mod lanes;
pub mod live;
pub mod part;
pub mod piece;
pub mod placement;
pub mod scan;
mod threads;

pub use lanes::{DeviceLane, Lanes, LanesConfig};
pub use live::{LiveCounters, LiveView, Published, Reason, SavedView, is_closed};
pub use part::{Extent, Part, Place, Read, StatesSink, TickSink, apart};
pub use piece::{Piece, PieceInHand, PieceOfView, PlannedScan};
pub use placement::{Costs, Work, break_even_rows, choose};
pub use scan::{OnFailure, Scan, ScanError, ScanOutcome, ScanView, ViewOutcome};
