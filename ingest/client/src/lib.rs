#![doc = include_str!("../README.md")]

mod connect;
pub mod error;
#[cfg(test)]
mod fake;
mod publisher;
mod subscriber;
mod tls;

pub use connect::{Options, Peer};
pub use error::ClientError;
pub use isotick_wire::{
    Ack, Code, Format, HelloReply, Policy, PublishedWindow, Refusal, Subscribe, Token,
    VersionReason, WindowBatch,
};
pub use publisher::{Level, Publisher};
pub use subscriber::{Subscriber, definitions, status};
pub use tls::{Authorities, Identity};
