//! Plain sockets: many datagrams per call where the system offers it, waiting in `poll`.

use std::io::{self, IoSliceMut};
use std::net::UdpSocket;
use std::time::Duration;

use quinn_proto::{EcnCodepoint, Transmit};
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSocketState};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::super::mailbox::Wake;
use super::{Io, Received, prepare, segments};

/// Bytes of one receive buffer: what one call may bring, all its segments together.
const BUFFER_BYTES: usize = 64 << 10;
/// Receive buffers; few, so that they stay in the cache.
const BUFFERS: usize = if BATCH_SIZE < 8 { BATCH_SIZE } else { 8 };

pub(super) struct SocketIo {
    socket: UdpSocket,
    state: UdpSocketState,
    wake: Wake,
    buffers: Vec<u8>,
    metas: [RecvMeta; BUFFERS],
    outgoing: Vec<u8>,
    /// What the socket had no room for; its bytes are in `outgoing`.
    stuck: Option<Transmit>,
}

impl SocketIo {
    pub(super) fn new(socket: UdpSocket, wake: Wake) -> io::Result<Self> {
        let state = prepare(&socket)?;
        Ok(Self {
            socket,
            state,
            wake,
            buffers: vec![0; BUFFERS * BUFFER_BYTES],
            metas: [RecvMeta::default(); BUFFERS],
            outgoing: Vec::new(),
            stuck: None,
        })
    }

    /// Sends the bytes in `outgoing`, or keeps them. A destination that cannot be reached is that
    /// connection's loss, which its own timers notice.
    fn put(&mut self, transmit: Transmit) {
        let sent = self.state.try_send(
            (&self.socket).into(),
            &quinn_udp::Transmit {
                destination: transmit.destination,
                ecn: transmit.ecn.and_then(|ecn| quinn_udp::EcnCodepoint::from_bits(ecn as u8)),
                contents: &self.outgoing[..transmit.size],
                segment_size: transmit.segment_size,
                src_ip: transmit.src_ip,
            },
        );
        if sent.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            self.stuck = Some(transmit);
        }
    }
}

impl Io for SocketIo {
    fn name(&self) -> &'static str {
        "plain sockets"
    }

    fn receive(&mut self, take: &mut dyn FnMut(Received<'_>)) -> io::Result<bool> {
        let mut chunks = self.buffers.chunks_mut(BUFFER_BYTES).map(IoSliceMut::new);
        let mut buffers: [IoSliceMut<'_>; BUFFERS] =
            std::array::from_fn(|_| chunks.next().expect("as many chunks as buffers"));
        let received = self.state.recv((&self.socket).into(), &mut buffers, &mut self.metas);
        let filled = match received {
            Ok(filled) => filled,
            Err(error) => {
                return match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(false),
                    // A destination's complaint about something sent earlier.
                    io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Ok(true),
                    _ => Err(error),
                };
            }
        };
        for (buffer, meta) in buffers.iter().zip(&self.metas).take(filled) {
            take(Received {
                remote: meta.addr,
                local_ip: meta.dst_ip,
                ecn: meta.ecn.and_then(|ecn| EcnCodepoint::from_bits(ecn as u8)),
                stride: meta.stride.max(1),
                data: &buffer[..meta.len],
            });
        }
        Ok(filled > 0)
    }

    fn has_room(&mut self) -> bool {
        if let Some(transmit) = self.stuck.take() {
            self.put(transmit);
        }
        self.stuck.is_none()
    }

    fn send(&mut self, fill: &mut dyn FnMut(&mut Vec<u8>) -> Option<Transmit>) -> bool {
        self.outgoing.clear();
        let Some(transmit) = fill(&mut self.outgoing) else { return false };
        self.put(transmit);
        true
    }

    fn segments_max(&self, mtu: u16) -> usize {
        segments(mtu, self.state.max_gso_segments())
    }

    fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        if timeout.is_zero() {
            return Ok(());
        }
        let writable = if self.stuck.is_some() { PollFlags::OUT } else { PollFlags::empty() };
        let mut ready = [
            PollFd::new(&self.socket, PollFlags::IN | writable),
            PollFd::new(&self.wake, PollFlags::IN),
        ];
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        match poll(&mut ready, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if !ready[1].revents().is_empty() {
            self.wake.clear();
        }
        Ok(())
    }
}
