#![doc = include_str!("../README.md")]

pub mod arrow;
pub mod control;
pub mod datagram;
pub mod error;
pub mod frame;
#[doc(hidden)]
pub mod fuzzing;
pub mod jobs;
pub mod message;
mod pack;
mod proto;
pub mod windows;

pub use control::{
    Ack, Code, Control, Format, Hello, HelloReply, Policy, Refusal, Rejections, Role, Subscribe,
    SubscribeReply, Token,
};
pub use error::{DecodeError, EncodeError};
pub use frame::Frame;
pub use jobs::{FetchResult, JobId, JobRequest, ResultView, SubmitJob};
pub use message::{Assembler, Kind, Message};
pub use windows::{PublishedWindow, VersionReason, WindowBatch};

/// The application protocol that both sides name in the TLS handshake.
pub const ALPN: &[u8] = b"isotick/1";

/// The version that a Hello states.
pub const VERSION: u32 = 1;

/// The longest payload of one message from the service, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 8 << 20;

/// The longest payload of one message from a client, in bytes: a tick frame is cut to fit.
pub const REQUEST_BYTES_MAX: usize = 1 << 20;
