//! The log: every accepted input in one total order, in segments of checksummed frames.
//!
//! A segment is the file `log/<first position, 20 digits>.log`.

pub mod check;
mod codec;
mod commits;
#[doc(hidden)]
pub mod fuzzing;
mod pack;
mod reader;
mod recovery;
pub mod repair;
mod segment;
#[cfg(test)]
mod simulation;
mod spares;
mod state;
#[cfg(test)]
mod tests;
#[cfg(target_os = "linux")]
mod uring;
mod writer;

use isotick_model::{PublisherId, Rejected, Ticks};

use crate::disk;

pub use reader::LogReader;
pub use recovery::{Cut, Recovery};
pub use state::LogFaults;
pub use writer::{LogIo, LogSyncer, LogWriter};

/// A unit of live processing. Its position is its ordinal in the log.
#[derive(Clone, Debug)]
pub enum LogRecord {
    /// Ticks of one publisher, and the rows that were rejected among them.
    Ticks {
        /// The stream's name.
        stream: String,
        /// The accepted rows, with `seen`; `publishers` holds exactly one, also when there is no
        /// row.
        ticks: Ticks,
        /// The rejected rows.
        rejected: Vec<Rejected>,
        /// The service's clock at arrival, nanoseconds UTC.
        ts_recv_ns: i64,
    },
    /// A publisher joined a stream, or is active again.
    Joined {
        /// The stream's name.
        stream: String,
        /// Who.
        publisher: PublisherId,
        /// The service's clock, nanoseconds UTC.
        ts_recv_ns: i64,
    },
    /// A publisher left, finished or went idle.
    Idle {
        /// The stream's name.
        stream: String,
        /// Who.
        publisher: PublisherId,
        /// The service's clock, nanoseconds UTC.
        ts_recv_ns: i64,
    },
    /// The gaps of a publisher were closed.
    Lost {
        /// The stream's name.
        stream: String,
        /// Who.
        publisher: PublisherId,
        /// Rows below this sequence that were not held are taken as lost.
        through: u64,
        /// The service's clock, nanoseconds UTC.
        ts_recv_ns: i64,
    },
}

impl LogRecord {
    /// The stream it belongs to.
    pub fn stream(&self) -> &str {
        match self {
            Self::Ticks { stream, .. }
            | Self::Joined { stream, .. }
            | Self::Idle { stream, .. }
            | Self::Lost { stream, .. } => stream,
        }
    }
}
