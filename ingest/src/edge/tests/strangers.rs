//! Clients that are not ours, or that do not behave.

use std::time::Duration;

use bytes::Bytes;
use isotick_model::Ticks;
use isotick_wire::frame::Encoder;
use isotick_wire::{Ack, Assembler, Code, Control, Hello, Kind, Message, Role, datagram, message};

use super::world::*;

/// A client by the letter of the protocol, without our library.
pub struct Raw {
    pub endpoint: quinn::Endpoint,
    pub connection: quinn::Connection,
    send: quinn::SendStream,
    recv: quinn::RecvStream,
    assembler: Assembler,
    session: u64,
}

impl Raw {
    pub async fn open(world: &World) -> Self {
        Self::open_with(world, None).await
    }

    async fn open_with(world: &World, shown: Option<ClientCertificate>) -> Self {
        let (endpoint, connection) = stranger_with(world, isotick_wire::ALPN, shown).await;
        let connection = connection.unwrap();
        let (send, recv) = connection.open_bi().await.unwrap();
        Self { endpoint, connection, send, recv, assembler: Assembler::default(), session: 0 }
    }

    pub async fn publish(world: &World, datagrams: bool) -> Self {
        Self::open(world).await.established(datagrams).await
    }

    /// A publisher that shows this certificate.
    pub async fn publish_with(world: &World, shown: Option<ClientCertificate>) -> Self {
        Self::open_with(world, shown).await.established(false).await
    }

    async fn established(mut self, datagrams: bool) -> Self {
        let role = Role::Publish { stream: "trades".into(), publisher: publisher(), datagrams };
        self.control(Control::Hello(Hello::new(role))).await;
        let Control::HelloReply(reply) = self.answer().await else { panic!() };
        self.session = reply.session;
        self
    }

    /// Goes on with a new session on the same connection.
    pub async fn another_stream(&mut self) {
        (self.send, self.recv) = self.connection.open_bi().await.unwrap();
        self.assembler = Assembler::default();
    }

    pub async fn control(&mut self, control: Control) {
        let mut bytes = Vec::new();
        control.put(&mut bytes).unwrap();
        self.bytes(&bytes).await;
    }

    pub async fn bytes(&mut self, bytes: &[u8]) {
        self.send.write_all(bytes).await.unwrap();
    }

    pub async fn frame(&mut self, ticks: &Ticks) {
        let mut bytes = Vec::new();
        let encode = |out: &mut Vec<u8>| Encoder::default().encode(ticks, 0..ticks.len(), &[], out);
        message::put(Kind::Ticks, &mut bytes, encode).unwrap();
        self.bytes(&bytes).await;
    }

    pub fn datagram(&self, ticks: &Ticks) {
        let mut bytes = Vec::new();
        datagram::put_session(self.session, &mut bytes);
        Encoder::default().encode(ticks, 0..ticks.len(), &[], &mut bytes).unwrap();
        self.connection.send_datagram(Bytes::from(bytes)).unwrap();
    }

    /// Wants nothing more of the stream.
    pub fn stop(&mut self) {
        let _ = self.recv.stop(0u32.into());
    }

    /// The next message, `None` when the service ended the stream.
    pub async fn message(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = self.assembler.next().unwrap() {
                return Some(message);
            }
            let chunk = self.recv.read_chunk(65_536, true).await.ok()??;
            self.assembler.feed(&chunk.bytes);
        }
    }

    pub async fn answer(&mut self) -> Control {
        Control::decode(&self.message().await.expect("an answer").payload).unwrap()
    }

    pub async fn ack(&mut self) -> Ack {
        match self.answer().await {
            Control::Ack(ack) => ack,
            other => panic!("{other:?}"),
        }
    }

    pub async fn finish(&mut self, rows: Option<u64>) -> Ack {
        self.control(Control::Finish(rows)).await;
        loop {
            match self.answer().await {
                Control::Ack(_) => {}
                Control::FinishReply(ack) => return ack,
                other => panic!("{other:?}"),
            }
        }
    }

    /// The code with which the service ends the session.
    pub async fn end(&mut self) -> Code {
        loop {
            match self.answer().await {
                Control::Goodbye(refusal) | Control::Refusal(refusal) => return refusal.code,
                _ => {}
            }
        }
    }
}

#[test]
fn another_protocol_and_garbage_on_a_stream_are_refused() {
    let world = world();
    world.client.block_on(async {
        let (_endpoint, refused) = stranger(&world, b"h3").await;
        let error = refused.unwrap_err();
        assert!(matches!(error, quinn::ConnectionError::ConnectionClosed(_)), "{error:?}");
        let (_endpoint, connection) = stranger(&world, isotick_wire::ALPN).await;
        let connection = connection.unwrap();
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        send.write_all(&[0x55; 1_000]).await.unwrap();
        let answer = recv.read_to_end(10_000).await.unwrap();
        let mut assembler = isotick_wire::Assembler::default();
        assembler.feed(&answer);
        let message = assembler.next().unwrap().unwrap();
        let answer = isotick_wire::Control::decode(&message.payload).unwrap();
        assert!(
            matches!(&answer, isotick_wire::Control::Refusal(r) if r.code == Code::Protocol),
            "{answer:?}"
        );
        let (mut publisher, _) = world.publisher().await;
        publisher.send(&ticks(0..10, 0), &[]).await.unwrap();
        assert_eq!(publisher.finish().await.unwrap().accepted, 10);
    });
    let counters = world.edge.counters();
    assert_eq!((counters.handshakes_failed, counters.protocol_errors), (1, 1));
}

fn hasty() -> World {
    world_with(|config| {
        config.hello_timeout = Duration::from_millis(200);
        config.message_timeout = Duration::from_millis(300);
    })
}

#[test]
fn who_says_nothing_or_never_ends_a_message_is_sent_away() {
    let world = hasty();
    world.client.block_on(async {
        let mut silent = Raw::open(&world).await;
        silent.bytes(&[5]).await;
        assert_eq!(silent.end().await, Code::TooSlow);

        let mut slow = Raw::publish(&world, false).await;
        slow.frame(&ticks(0..10, 0)).await;
        tokio::time::sleep(Duration::from_millis(600)).await;
        // Silence between messages is no offence.
        slow.frame(&ticks(10..20, 0)).await;
        while slow.ack().await.received_through < 20 {}
        slow.bytes(&[200, 0, 0, 0, 2, 1]).await;
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            slow.bytes(&[0]).await;
        }
        assert_eq!(slow.end().await, Code::TooSlow);

        let (_endpoint, unused) = stranger(&world, isotick_wire::ALPN).await;
        let closed = unused.unwrap().closed().await;
        let quinn::ConnectionError::ApplicationClosed(close) = closed else { panic!("{closed:?}") };
        assert_eq!(close.error_code.into_inner(), u64::from(Code::TooSlow.number()));
    });
    // The connections of the first two are without a session then, and may have been closed too.
    let counters = world.edge.counters();
    assert!((3..=5).contains(&counters.too_slow), "{counters:?}");
}

#[test]
fn many_strangers_at_once_prove_their_addresses_and_are_served() {
    let world = world_with(|config| config.handshakes_unproven_max = 0);
    world.client.block_on(async {
        let one = async {
            let (endpoint, connection) = stranger(&world, isotick_wire::ALPN).await;
            drop(connection.map(|connection| connection.close(0u32.into(), b"")));
            endpoint.wait_idle().await;
        };
        let all: Vec<_> = (0..200).map(|_| stranger(&world, isotick_wire::ALPN)).collect();
        one.await;
        let mut open = Vec::new();
        for (endpoint, connection) in futures(all).await {
            open.push((endpoint, connection.unwrap()));
        }
        assert_eq!(open.len(), 200);
        world.eventually("all are served", |world| {
            world.edge.counters().connections_accepted >= 200
        });
    });
    let counters = world.edge.counters();
    assert!(counters.addresses_challenged >= 200, "{counters:?}");
}

/// Runs all at once, on this task.
async fn futures<T>(all: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut pending: Vec<_> = all.into_iter().map(|one| (Box::pin(one), None)).collect();
    std::future::poll_fn(|cx| {
        let mut ready = true;
        for (future, done) in &mut pending {
            if done.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(value) => *done = Some(value),
                    std::task::Poll::Pending => ready = false,
                }
            }
        }
        match ready {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    pending.into_iter().filter_map(|(_, done)| done).collect()
}
