//! Connection ids that say which thread a connection belongs to, and the key of resets.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use quinn_proto::crypto::{CryptoError, HmacKey};
use quinn_proto::{ConnectionId, ConnectionIdGenerator};
use rustls::pki_types::PrivateKeyDer;

use crate::certificates::sha256;

/// The QUIC version in long headers, and the header bit that tells them.
const VERSION_1: [u8; 4] = [0, 0, 0, 1];
const LONG_HEADER: u8 = 0x80;
/// Bytes of a connection id: the thread, a number that is used once, and what only this edge
/// derives from both.
const ID_BYTES: usize = 9;
/// The most threads that ids can tell apart.
pub(super) const THREADS_MAX: usize = 256;

/// What all threads of an edge derive ids from.
#[derive(Clone, Default)]
pub(super) struct ConnectionIds(Arc<Keys>);

#[derive(Default)]
struct Keys {
    numbers: RandomState,
    signatures: RandomState,
    made: AtomicU32,
}

/// To whom a datagram belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// It may begin a connection, or belongs to one whose id the client chose.
    Anyone,
    /// The thread with this index made its connection id.
    Thread(u8),
    /// It belongs to no connection of this edge and cannot begin one.
    Nobody,
}

impl ConnectionIds {
    fn signature(&self, thread: u8, number: [u8; 4]) -> [u8; 4] {
        (self.0.signatures.hash_one((thread, number)) as u32).to_le_bytes()
    }

    fn make(&self, thread: u8) -> [u8; ID_BYTES] {
        let made = self.0.made.fetch_add(1, Ordering::Relaxed);
        let number = (self.0.numbers.hash_one(made) as u32).to_le_bytes();
        let mut id = [thread; ID_BYTES];
        id[1..5].copy_from_slice(&number);
        id[5..].copy_from_slice(&self.signature(thread, number));
        id
    }

    /// The thread whose id this is. Others' ids pass once in 2^32.
    fn thread_of(&self, id: [u8; ID_BYTES]) -> Option<u8> {
        let [thread, a, b, c, d, signature @ ..] = id;
        (self.signature(thread, [a, b, c, d]) == signature).then_some(thread)
    }

    /// Reads the part of the header that is not encrypted.
    pub(super) fn owner(&self, datagram: &[u8]) -> Owner {
        let Some((&first, rest)) = datagram.split_first() else { return Owner::Nobody };
        if first & LONG_HEADER == 0 {
            let thread = rest.first_chunk().and_then(|id| self.thread_of(*id));
            return thread.map_or(Owner::Nobody, Owner::Thread);
        }
        let Some((version, rest)) = rest.split_first_chunk::<4>() else { return Owner::Nobody };
        if *version != VERSION_1 {
            return Owner::Nobody;
        }
        match rest.split_first() {
            Some((&length, id)) if usize::from(length) == ID_BYTES => {
                let thread = id.first_chunk().and_then(|id| self.thread_of(*id));
                thread.map_or(Owner::Anyone, Owner::Thread)
            }
            _ => Owner::Anyone,
        }
    }

    /// Makes ids of one thread.
    pub(super) fn of_thread(&self, thread: u8) -> ThreadIds {
        ThreadIds { ids: self.clone(), thread }
    }
}

/// Makes the ids of one thread.
#[derive(Clone)]
pub(super) struct ThreadIds {
    ids: ConnectionIds,
    thread: u8,
}

impl ConnectionIdGenerator for ThreadIds {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&self.ids.make(self.thread))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_its_thread_in_both_kinds_of_header() {
        let ids = ConnectionIds::default();
        for thread in [0, 1, 255] {
            let id = ids.of_thread(thread).generate_cid();
            let short = [&[0x40][..], &id, b"packet"].concat();
            assert_eq!(ids.owner(&short), Owner::Thread(thread));
            let long = [&[0xE0, 0, 0, 0, 1, ID_BYTES as u8][..], &id, b"packet"].concat();
            assert_eq!(ids.owner(&long), Owner::Thread(thread));
            assert_eq!(ConnectionIds::default().owner(&short), Owner::Nobody);
        }
    }

    #[test]
    fn what_cannot_be_quic_belongs_to_nobody() {
        let ids = ConnectionIds::default();
        assert_eq!(ids.owner(&[]), Owner::Nobody);
        assert_eq!(ids.owner(&[0x40, 1, 2]), Owner::Nobody);
        assert_eq!(ids.owner(&[0xC0, 0, 0]), Owner::Nobody);
        assert_eq!(ids.owner(&[0xC0, 9, 9, 9, 9, 0]), Owner::Nobody);
        assert_eq!(ids.owner(&[0xC0, 0, 0, 0, 1, 4, 1, 2, 3, 4]), Owner::Anyone);
    }
}
