#![doc = include_str!("../README.md")]

pub mod access;
pub mod certificates;
pub mod edge;
pub mod error;
pub mod feed;
pub mod input;
pub mod intake;
mod messages;
pub mod sequencer;
pub mod session;
pub mod stages;
pub mod subscriber;

pub use access::{Access, Gate, Granted, JobOwner};
pub use certificates::Certificates;
pub use edge::{Counters, Edge, EdgeConfig, IoChoice};
pub use error::{AccessError, CertificateError, EdgeError, SequencerError};
pub use feed::{Feed, FeedError};
pub use input::{ArrowDecoder, Input, Outlet, Reply, SessionId, Stamps, Subscription, Welcome};
pub use intake::{Inputs, Intake, Notifier, Permit, intake};
pub use sequencer::{Accepted, Marks, PublisherStatus, Sequencer, Slot, StreamStatus};
pub use stages::{Stage, Stages};
pub use subscriber::{Batch, QueueLimits, SubscriberCounters, SubscriberQueue};
