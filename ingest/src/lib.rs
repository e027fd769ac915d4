#![doc = include_str!("../README.md")]

pub mod access;
pub mod certificates;
pub mod edge;
pub mod error;
pub mod input;
pub mod sequencer;
pub mod session;

pub use access::{Access, Gate, Granted};
pub use certificates::Certificates;
pub use edge::{Counters, Edge, EdgeConfig};
pub use error::{AccessError, CertificateError, EdgeError, SequencerError};
pub use input::{Input, SessionId, Subscription, Welcome};
pub use sequencer::{Accepted, Marks, PublisherStatus, Sequencer, Slot, StreamStatus};
