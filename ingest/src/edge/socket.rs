//! The socket under the endpoint: counts datagrams that are none of ours.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use quinn::crypto::{CryptoError, HmacKey};
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, ConnectionId, ConnectionIdGenerator, UdpPoller};

use rustls::pki_types::PrivateKeyDer;

use super::SharedCounters;
use crate::certificates::sha256;

/// The QUIC version in long headers, and the two header bits that matter here.
const VERSION_1: [u8; 4] = [0, 0, 0, 1];
const LONG_HEADER: u8 = 0x80;
/// Bytes of a connection id: a number that is used once and what only this edge derives from it.
const ID_BYTES: usize = 8;

/// Makes connection ids that this edge recognises, with keys of its own.
#[derive(Clone, Default)]
pub(super) struct ConnectionIds {
    numbers: RandomState,
    signatures: RandomState,
    made: Arc<AtomicU32>,
}

impl ConnectionIds {
    fn signature(&self, number: [u8; 4]) -> [u8; 4] {
        (self.signatures.hash_one(number) as u32).to_le_bytes()
    }

    /// Whether the id was made here. Others pass once in 2^32.
    fn recognises(&self, id: [u8; ID_BYTES]) -> bool {
        let [a, b, c, d, signature @ ..] = id;
        self.signature([a, b, c, d]) == signature
    }
}

impl ConnectionIdGenerator for ConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let made = self.made.fetch_add(1, Ordering::Relaxed);
        let number = (self.numbers.hash_one(made) as u32).to_le_bytes();
        let mut id = [0; ID_BYTES];
        id[..4].copy_from_slice(&number);
        id[4..].copy_from_slice(&self.signature(number));
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// Signs stateless resets. It comes from the TLS key, so that a service that was killed and
/// started again tells the clients of its former self at once that their connections are gone.
pub(super) struct ResetKey([u8; 32]);

impl ResetKey {
    pub(super) fn of(key: &PrivateKeyDer<'_>) -> Self {
        let mut seed = b"isotick stateless reset".to_vec();
        seed.extend_from_slice(key.secret_der());
        Self(sha256(&seed).as_ref().try_into().expect("SHA-256 gives 32 bytes"))
    }
}

/// SHA-256 over key and data. The data are connection ids of one length, so that nothing can be
/// learnt by extending them.
impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        let mut bytes = self.0.to_vec();
        bytes.extend_from_slice(data);
        signature_out.copy_from_slice(&sha256(&bytes).as_ref()[..signature_out.len()]);
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let mut expected = [0; 32];
        self.sign(data, &mut expected);
        (expected == signature).then_some(()).ok_or(CryptoError)
    }
}

/// Passes everything through; the endpoint itself drops what is not valid.
pub(super) struct CountingSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    ids: ConnectionIds,
    counters: Arc<SharedCounters>,
}

impl CountingSocket {
    pub(super) fn new(
        inner: Arc<dyn AsyncUdpSocket>,
        ids: ConnectionIds,
        counters: Arc<SharedCounters>,
    ) -> Self {
        Self { inner, ids, counters }
    }

    /// Whether a datagram can belong to a connection here or begin one.
    fn plausible(&self, datagram: &[u8]) -> bool {
        let Some((&first, rest)) = datagram.split_first() else { return false };
        if first & LONG_HEADER != 0 {
            return rest.starts_with(&VERSION_1);
        }
        rest.first_chunk().is_some_and(|id| self.ids.recognises(*id))
    }
}

impl fmt::Debug for CountingSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl AsyncUdpSocket for CountingSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let polled = self.inner.poll_recv(cx, bufs, meta);
        if let Poll::Ready(Ok(filled)) = polled {
            for (buffer, meta) in bufs.iter().zip(meta.iter()).take(filled) {
                let datagrams = buffer[..meta.len].chunks(meta.stride.max(1));
                let refused = datagrams.filter(|datagram| !self.plausible(datagram)).count();
                if refused > 0 {
                    self.counters.datagrams_refused.fetch_add(refused as u64, Ordering::Relaxed);
                }
            }
        }
        polled
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}
