#![doc = include_str!("../README.md")]

mod connect;
mod datagrams;
pub mod error;
#[cfg(test)]
extern crate self as isotick_client;
#[cfg(test)]
mod fake;
mod held;
pub mod jobs;
mod publisher;
mod reconnect;
mod subscriber;
mod tls;
mod writer;

/// The version of Arrow that [`Publisher::send_arrow`] takes batches of.
pub use arrow_array;
pub use connect::{Options, Peer};
pub use error::ClientError;
pub use held::Held;
pub use isotick_wire::{
    Ack, Code, FetchResult, Format, HelloReply, JobId, Policy, PublishedWindow, Refusal, SubmitJob,
    Subscribe, Token, VersionReason, WindowBatch,
};
pub use jobs::{JobResult, JobState, JobStatus, JobWatch, Jobs, ResultItem};
pub use publisher::{Level, Publisher};
pub use reconnect::Reconnect;
pub use subscriber::{ResumingSubscriber, StatusMonitor, Subscriber, definitions, status};
pub use tls::{Authorities, Identity};
pub use writer::{TickWriter, WriterOptions};
