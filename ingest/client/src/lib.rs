#![doc = include_str!("../README.md")]

mod connect;
pub mod error;
mod publisher;
mod subscriber;

pub use connect::{Options, Peer};
pub use error::ClientError;
pub use isotick_wire::{
    Ack, Code, HelloReply, PublishedWindow, Refusal, VersionReason, WindowBatch,
};
pub use publisher::{Level, Publisher};
pub use subscriber::{Subscriber, definitions, status};
