//! What the edge has met since it started.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::feed::FeedCounters;
use crate::subscriber::SubscriberCounters;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What the edge has met since it started.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
            /// Subscribers disconnected because they fell behind.
            pub subscribers_lagged: u64,
            /// Windows that a newer one of the same key took the place of, for slow subscribers.
            pub windows_conflated: u64,
            /// Batches of windows that waited for a subscriber that chose to block.
            pub batches_blocked: u64,
            /// Requests about jobs that are being answered.
            pub job_sessions_open: u64,
            /// Requests about jobs refused because too many are being answered.
            pub job_sessions_refused: u64,
            /// Bytes of their answers that wait to be sent.
            pub job_bytes: u64,
        }

        #[derive(Debug, Default)]
        pub(super) struct SharedCounters {
            $(pub(super) $name: AtomicU64,)*
            pub(super) subscribers: Arc<SubscriberCounters>,
            pub(super) feeds: Arc<FeedCounters>,
        }

        impl SharedCounters {
            pub(super) fn read(&self) -> Counters {
                let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
                Counters {
                    $($name: get(&self.$name),)*
                    subscribers_lagged: get(&self.subscribers.lagged),
                    windows_conflated: get(&self.subscribers.conflated),
                    batches_blocked: get(&self.subscribers.blocked),
                    job_sessions_open: self.feeds.open.load(Ordering::Relaxed) as u64,
                    job_sessions_refused: get(&self.feeds.refused),
                    job_bytes: self.feeds.bytes.load(Ordering::Relaxed) as u64,
                }
            }
        }

        impl Counters {
            /// Every counter with its name, for status and metrics.
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![
                    $((stringify!($name), self.$name),)*
                    ("subscribers_lagged", self.subscribers_lagged),
                    ("windows_conflated", self.windows_conflated),
                    ("batches_blocked", self.batches_blocked),
                    ("job_sessions_open", self.job_sessions_open),
                    ("job_sessions_refused", self.job_sessions_refused),
                    ("job_bytes", self.job_bytes),
                ]
            }
        }
    };
}

counters! {
    /// Connections open now.
    connections_open,
    /// Connections whose handshake succeeded.
    connections_accepted,
    /// Connections refused because too many are open.
    connections_refused,
    /// Handshakes that failed: another protocol, a fingerprint the client refused, silence.
    handshakes_failed,
    /// Clients that were asked to prove their address first, because many came at once.
    addresses_challenged,
    /// UDP datagrams that belong to no connection and cannot begin one.
    datagrams_refused,
    /// UDP datagrams that came to another thread than their connection's and were handed over.
    datagrams_forwarded,
    /// UDP datagrams that were to be handed over and found no room.
    datagrams_not_forwarded,
    /// Tick datagrams that found no room in memory; their rows are missing.
    tick_datagrams_dropped,
    /// Tick datagrams that could not be read, or belong to no session that sends them.
    tick_datagrams_refused,
    /// Sessions open now.
    sessions_open,
    /// Sessions refused by the service, e.g. for an unknown stream.
    sessions_refused,
    /// Sessions refused for want of a token or of a right.
    sessions_forbidden,
    /// Sessions ended because the access rules, read again, no longer allow them, or the token or
    /// certificate that let them in has expired.
    sessions_revoked,
    /// Sessions ended because the client broke the protocol.
    protocol_errors,
    /// Sessions and connections ended because the client was too slow.
    too_slow,
}

impl SharedCounters {
    pub(super) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn sub(counter: &AtomicU64) {
        counter.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Reads the edge's counters from any thread.
#[derive(Clone, Debug, Default)]
pub struct CounterReader(pub(super) Arc<SharedCounters>);

impl CounterReader {
    /// The counters now.
    pub fn read(&self) -> Counters {
        self.0.read()
    }

    /// Those of the subscribers' queues, to be given to each.
    pub fn subscribers(&self) -> Arc<SubscriberCounters> {
        self.0.subscribers.clone()
    }
}
