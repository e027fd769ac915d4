//! What the sessions of one ingest thread share.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use isotick_wire::{Code, Hello, Refusal};
use rustls::pki_types::CertificateDer;

use super::SharedCounters;
use super::mailbox::Mailbox;
use super::thread::Shared;
use crate::access::{Admitted, Gate, Granted};
use crate::feed::FeedLimits;
use crate::input::SessionId;
use crate::intake::Intake;
use crate::stages::Stages;

/// What a session's driver may use of its thread.
pub(super) struct Context<'a> {
    pub(super) intake: &'a Intake,
    pub(super) mailbox: &'a Arc<Mailbox>,
    pub(super) counters: &'a SharedCounters,
    pub(super) stages: &'a Stages,
    pub(super) message_timeout: Duration,
    pub(super) holding: &'a mut Holding,
    pub(super) feed_limits: FeedLimits,
    gate: &'a Gate,
}

impl Context<'_> {
    /// The clock of `ts_recv`: read here, at the edge, and an argument everywhere behind it.
    #[allow(clippy::disallowed_methods, reason = "this is where the clock is read")]
    pub(super) fn now_ns(&self) -> i64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since.map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
    }

    /// Whether who connected may do what it asks.
    pub(super) fn admit(
        &self,
        hello: &Hello,
        connection: &quinn_proto::Connection,
    ) -> Result<Granted, Refusal> {
        let chain = client_chain(connection);
        self.gate.check(&hello.token, chain.first(), &hello.role, self.now_s())
    }

    /// Whether who was let in would be let in now.
    pub(super) fn still_may(
        &self,
        admitted: &Admitted,
        connection: &quinn_proto::Connection,
    ) -> Result<(), Refusal> {
        self.gate.recheck(admitted, client_chain(connection).first(), self.now_s())
    }

    /// The same in whole seconds since 1970 UTC.
    pub(super) fn now_s(&self) -> i64 {
        self.now_ns() / 1_000_000_000
    }

    pub(super) fn count_refusal(&self, refusal: &Refusal, before_welcome: bool) {
        let counters = self.counters;
        SharedCounters::add(match refusal.code {
            Code::Protocol | Code::Version => &counters.protocol_errors,
            Code::TooSlow => &counters.too_slow,
            Code::Unauthenticated | Code::Forbidden => &counters.sessions_forbidden,
            _ if before_welcome => &counters.sessions_refused,
            _ => return,
        });
    }
}

/// What the client has shown in the handshake, its own certificate first.
pub(super) fn client_chain(connection: &quinn_proto::Connection) -> Vec<CertificateDer<'static>> {
    let identity = connection.crypto_session().peer_identity();
    let chain = identity.and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    chain.map(|chain| *chain).unwrap_or_default()
}

/// Of one turn.
pub(super) fn context<'a>(
    shared: &'a Shared,
    mailbox: &'a Arc<Mailbox>,
    holding: &'a mut Holding,
) -> Context<'a> {
    Context {
        intake: &shared.intake,
        mailbox,
        counters: &shared.counters,
        stages: &shared.stages,
        message_timeout: shared.config.message_timeout,
        holding,
        feed_limits: shared.config.feed_limits(),
        gate: &shared.config.gate,
    }
}

/// Bytes of messages that are not whole yet, of all sessions of a thread. Above the bound only one
/// session goes on reading, so that memory is bounded and somebody always gets to an end.
pub(super) struct Holding {
    bytes: usize,
    bytes_max: usize,
    favourite: Option<SessionId>,
    starved: Vec<SessionId>,
}

impl Holding {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes: 0, bytes_max, favourite: None, starved: Vec::new() }
    }

    /// Whether a session may read on.
    pub(super) fn may_read(&mut self, session: SessionId) -> bool {
        if self.bytes <= self.bytes_max {
            return true;
        }
        if *self.favourite.get_or_insert(session) == session {
            return true;
        }
        if !self.starved.contains(&session) {
            self.starved.push(session);
        }
        false
    }

    /// Whether this is the session that all others wait for.
    pub(super) fn is_favourite(&self, session: SessionId) -> bool {
        self.favourite == Some(session)
    }

    /// What a session holds changed.
    pub(super) fn changed(&mut self, session: SessionId, from: usize, to: usize) {
        self.bytes = self.bytes + to - from;
        if to == 0 && self.favourite == Some(session) {
            self.favourite = None;
        }
    }

    /// Sessions that may try again.
    pub(super) fn relieved(&mut self) -> Vec<SessionId> {
        match self.bytes <= self.bytes_max || self.favourite.is_none() {
            true => std::mem::take(&mut self.starved),
            false => Vec::new(),
        }
    }
}
