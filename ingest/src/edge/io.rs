//! How datagrams get in and out of one ingest thread.

mod socket;
#[cfg(target_os = "linux")]
mod uring;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::str::FromStr;
use std::time::Duration;

use quinn_proto::{EcnCodepoint, Transmit};

use super::mailbox::Wake;

/// The longest datagram accepted; loopback and jumbo frames use it, other paths find their own.
pub(super) const UDP_PAYLOAD_BYTES_MAX: u16 = 6_500;
/// Bytes of one send, over all its segments: above 65,507 the kernel refuses it.
const SEND_BYTES_MAX: usize = 65_000;
/// What the socket's buffers are asked to hold.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// Which way datagrams go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoChoice {
    /// io_uring where the kernel allows it, else plain sockets.
    #[default]
    Auto,
    /// io_uring, or an error.
    Uring,
    /// Plain sockets: `recvmmsg`, `sendmsg`, `poll`.
    Socket,
}

impl FromStr for IoChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "uring" => Ok(Self::Uring),
            "socket" => Ok(Self::Socket),
            _ => Err(format!("`{text}` is none of auto, uring, socket")),
        }
    }
}

impl fmt::Display for IoChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Uring => "uring",
            Self::Socket => "socket",
        })
    }
}

/// Datagrams of one sender that arrived together: `stride` bytes each, the last one maybe fewer.
pub(super) struct Received<'a> {
    pub(super) remote: SocketAddr,
    pub(super) local_ip: Option<IpAddr>,
    pub(super) ecn: Option<EcnCodepoint>,
    pub(super) stride: usize,
    pub(super) data: &'a [u8],
}

/// One thread's socket. Calls come from that thread only.
pub(super) trait Io {
    /// What it is, for people.
    fn name(&self) -> &'static str;

    /// Hands over what has arrived, a bounded number of datagrams. True when there was something.
    fn receive(&mut self, take: &mut dyn FnMut(Received<'_>)) -> io::Result<bool>;

    /// Whether something can be sent now. When not, [`wait`](Self::wait) ends once it can.
    fn has_room(&mut self) -> bool;

    /// Sends what `fill` writes, if it writes something. False when there was nothing.
    /// Call only with room.
    fn send(&mut self, fill: &mut dyn FnMut(&mut Vec<u8>) -> Option<Transmit>) -> bool;

    /// The most datagrams of `mtu` bytes that one send takes.
    fn segments_max(&self, mtu: u16) -> usize;

    /// Gets on its way what was sent; then waits until something arrives, the thread is woken,
    /// there is room again, or the time is over. Zero does not wait.
    fn wait(&mut self, timeout: Duration) -> io::Result<()>;
}

/// Makes the thread's way. The text says why `auto` did not take io_uring.
pub(super) fn open(
    choice: IoChoice,
    socket: UdpSocket,
    wake: Wake,
) -> io::Result<(Box<dyn Io>, Option<String>)> {
    let plain = |socket, wake, notice| -> io::Result<(Box<dyn Io>, Option<String>)> {
        Ok((Box::new(socket::SocketIo::new(socket, wake)?), notice))
    };
    match choice {
        IoChoice::Socket => plain(socket, wake, None),
        #[cfg(target_os = "linux")]
        IoChoice::Uring => Ok((Box::new(uring::UringIo::new(socket, wake)?), None)),
        #[cfg(target_os = "linux")]
        IoChoice::Auto => {
            let again = socket.try_clone()?;
            match uring::UringIo::new(again, wake.try_clone()?) {
                Ok(io) => Ok((Box::new(io), None)),
                Err(error) => {
                    let notice = format!("io_uring cannot be used here ({error}): plain sockets");
                    plain(socket, wake, Some(notice))
                }
            }
        }
        #[cfg(not(target_os = "linux"))]
        IoChoice::Uring => Err(io::ErrorKind::Unsupported.into()),
        #[cfg(not(target_os = "linux"))]
        IoChoice::Auto => plain(socket, wake, None),
    }
}

/// Sets what QUIC needs: larger buffers, offloads, no fragmentation, ECN. A smaller buffer than
/// asked for only costs throughput.
fn prepare(socket: &UdpSocket) -> io::Result<quinn_udp::UdpSocketState> {
    let state = quinn_udp::UdpSocketState::new(socket.into())?;
    let _ = state.set_recv_buffer_size(socket.into(), SOCKET_BUFFER_BYTES);
    let _ = state.set_send_buffer_size(socket.into(), SOCKET_BUFFER_BYTES);
    Ok(state)
}

/// Segments of one send within the kernel's bounds.
fn segments(mtu: u16, offered: usize) -> usize {
    (SEND_BYTES_MAX / usize::from(mtu.max(1))).clamp(1, offered.max(1))
}
