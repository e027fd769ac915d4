//! What arrived: to whom it belongs, and who is let in.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use isotick_wire::{Code, Refusal};
use quinn_proto::{DatagramEvent, Incoming, Transmit};
use rustls::pki_types::UnixTime;

use super::super::SharedCounters;
use super::super::context::{client_chain, context};
use super::super::ids::Owner;
use super::super::mailbox::Forwarded;
use super::super::tls::Admission;
use super::{Connection, IngestThread};

impl IngestThread {
    /// Sees to whom a datagram belongs.
    pub(super) fn route(&mut self, datagram: Forwarded, now: Instant) {
        let counters = &self.shared.counters;
        match self.shared.ids.owner(&datagram.data) {
            Owner::Thread(owner) if usize::from(owner) != self.index => {
                let mailbox = self.shared.mailboxes.get(usize::from(owner));
                return SharedCounters::add(
                    match mailbox.is_some_and(|mailbox| mailbox.forward(datagram)) {
                        true => &counters.datagrams_forwarded,
                        false => &counters.datagrams_not_forwarded,
                    },
                );
            }
            Owner::Nobody => SharedCounters::add(&counters.datagrams_refused),
            Owner::Anyone | Owner::Thread(_) => {}
        }
        self.handle(datagram, now);
    }

    pub(super) fn handle(&mut self, datagram: Forwarded, now: Instant) {
        let Forwarded { remote, local_ip, ecn, data } = datagram;
        let mut response = Vec::new();
        match self.endpoint.handle(now, remote, local_ip, ecn, data, &mut response) {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                if let Some(connection) = self.connections.get_mut(&handle) {
                    connection.proto.handle_event(event);
                    self.make_due(handle);
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                if let Some(transmit) = self.let_in(incoming, now, &mut response) {
                    self.respond(transmit, &response);
                }
            }
            Some(DatagramEvent::Response(transmit)) => self.respond(transmit, &response),
            None => {}
        }
    }

    /// Sends a datagram that belongs to no connection. Nobody waits for it: without room it is
    /// dropped.
    fn respond(&mut self, transmit: Transmit, bytes: &[u8]) {
        if self.io.has_room() {
            let mut transmit = Some(transmit);
            self.io.send(&mut |out| {
                out.extend_from_slice(bytes);
                transmit.take()
            });
        }
    }

    /// From now on clients are let in by this. When other authorities vouch for them than before,
    /// whoever they do not vouch for is told so and sent away: one signature checked for each
    /// connection.
    pub(super) fn admit_by(&mut self, admission: Admission, now: Instant) {
        self.endpoint.set_server_config(Some(admission.server.clone()));
        let before = std::mem::replace(&mut self.admission, admission);
        if self.admission.vouches_as(&before) {
            return;
        }
        self.admissions += 1;
        let established = self.connections.iter().filter(|(_, c)| c.is_established);
        let handles: Vec<_> = established.map(|(handle, _)| *handle).collect();
        for handle in handles {
            let Some(mut connection) = self.connections.remove(&handle) else { continue };
            self.hold_against_authorities(&mut connection);
            if let Connection { proto, drivers, disowned: Some(refusal), .. } = &mut connection {
                let mut cx = context(&self.shared, &self.mailbox, &mut self.holding);
                for driver in drivers {
                    driver.revoke(refusal.clone(), proto, &mut cx, now);
                }
            }
            self.connections.insert(handle, connection);
            self.make_due(handle);
        }
    }

    /// Whether the authorities of now vouch for a client that was let in by earlier ones.
    pub(super) fn hold_against_authorities(&mut self, connection: &mut Connection) {
        if connection.admission == self.admissions {
            return;
        }
        connection.admission = self.admissions;
        let now_s = context(&self.shared, &self.mailbox, &mut self.holding).now_s();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now_s.max(0).unsigned_abs()));
        let vouched = self.admission.vouch(&client_chain(&connection.proto), now);
        connection.disowned = vouched.err().map(|error| {
            let text = format!(
                "other authorities vouch for clients now, and not for this one ({error}): ask the \
                 service's operator for a new certificate"
            );
            Refusal::new(Code::Unauthenticated, text)
        });
    }

    /// Lets a client in, asks it to prove its address, or refuses it.
    fn let_in(
        &mut self,
        incoming: Incoming,
        now: Instant,
        response: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let counters = &self.shared.counters;
        let open = self.shared.connections.load(Ordering::Relaxed);
        if self.stopping.is_some() || open >= self.shared.config.connections_max {
            SharedCounters::add(&counters.connections_refused);
            return Some(self.endpoint.refuse(incoming, response));
        }
        let unproven_max = self.shared.config.handshakes_unproven_max;
        if self.handshakes >= unproven_max && !incoming.remote_address_validated() {
            SharedCounters::add(&counters.addresses_challenged);
            return self.endpoint.retry(incoming, response).ok();
        }
        match self.endpoint.accept(incoming, now, response, None) {
            Ok((handle, proto)) => {
                self.shared.connections.fetch_add(1, Ordering::Relaxed);
                self.handshakes += 1;
                let connection = Connection {
                    proto,
                    drivers: Vec::new(),
                    is_established: false,
                    unused_since: now,
                    deadline: None,
                    is_due: false,
                    admission: self.admissions,
                    disowned: None,
                };
                self.connections.insert(handle, connection);
                self.make_due(handle);
                None
            }
            Err(error) => {
                SharedCounters::add(&counters.handshakes_failed);
                error.response
            }
        }
    }
}
