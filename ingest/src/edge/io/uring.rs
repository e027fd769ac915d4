//! io_uring: one multishot receive into a small ring of buffers, sends from slots, one call to
//! submit, reap and wait.

#![allow(unsafe_code, reason = "the kernel reads and writes memory that this module owns")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::collections::VecDeque;
use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use io_uring::types::{BufRingEntry, CancelBuilder, Fixed, RecvMsgOut, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode};
use quinn_proto::{EcnCodepoint, Transmit};

use super::super::mailbox::Wake;
use super::{Io, Received, prepare, segments};

/// Receive buffers, a power of two: few, so that they stay in the cache.
const BUFFERS: u16 = 16;
/// Bytes of one: what one receive may bring, its header, name and control data before it.
const BUFFER_BYTES: usize = (64 << 10) + 512;
/// Room for control messages: ECN, the local address, the segment size.
const CONTROL_BYTES: usize = 128;
/// Sends under way at most.
const SLOTS: usize = 32;
/// Sends that are handed to the kernel together.
const SUBMIT_SENDS: usize = 8;
/// What one turn hands over at most, so that timers and answers get theirs.
const RECEIVES_PER_TURN: usize = 32;

/// The group of receive buffers, and what completions are told apart by: slots have their index.
const GROUP: u16 = 0;
const RECEIVE: u64 = u64::MAX;
const WAKE: u64 = u64::MAX - 1;

/// Zeroed memory at page boundaries.
struct Pages {
    start: NonNull<u8>,
    layout: Layout,
}

impl Pages {
    fn new(bytes: usize) -> Self {
        let layout = Layout::from_size_align(bytes, 4096).expect("a valid layout");
        // SAFETY: the layout has a size above zero, by the constants of this module.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) });
        Self { start: start.unwrap_or_else(|| handle_alloc_error(layout)), layout }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

/// One send: everything that the kernel reads until its completion.
struct Slot {
    bytes: Vec<u8>,
    address: libc::sockaddr_storage,
    part: libc::iovec,
    control: [u64; CONTROL_BYTES / 8],
    header: libc::msghdr,
}

impl Slot {
    fn new() -> Self {
        // SAFETY: all of these are plain C structs for which zero is a valid value.
        unsafe {
            Self {
                bytes: Vec::new(),
                address: mem::zeroed(),
                part: mem::zeroed(),
                control: [0; CONTROL_BYTES / 8],
                header: mem::zeroed(),
            }
        }
    }
}

pub(super) struct UringIo {
    /// Dropped before the memory it works on; nothing is under way by then (see `drop`).
    ring: IoUring,
    _socket: UdpSocket,
    wake: Wake,
    entries: Pages,
    buffers: Pages,
    /// The tail of the ring of buffers as last published.
    tail: u16,
    /// The shape of what each receive brings; the kernel reads it for as long as one is armed.
    shape: Box<libc::msghdr>,
    /// Buffers that were filled, with their bytes, in the order of arrival.
    filled: VecDeque<(u16, usize)>,
    is_receiving: bool,
    is_watching: bool,
    /// Never grown or moved: the kernel has their addresses.
    slots: Box<[Slot]>,
    free: Vec<u16>,
    unsubmitted: usize,
    segments_offered: usize,
}

impl UringIo {
    pub(super) fn new(socket: UdpSocket, wake: Wake) -> io::Result<Self> {
        let state = prepare(&socket)?;
        let ring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_cqsize(1024)
            .build(128)?;
        let entries = Pages::new(usize::from(BUFFERS) * size_of::<BufRingEntry>());
        let buffers = Pages::new(usize::from(BUFFERS) * BUFFER_BYTES);
        ring.submitter().register_files(&[socket.as_raw_fd()])?;
        // SAFETY: the entries are page-aligned, as long as `BUFFERS` asks, and outlive the ring,
        // which is dropped first.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                entries.start.as_ptr() as u64,
                BUFFERS,
                GROUP,
                0,
            )?;
        }
        // SAFETY: a plain C struct for which zero is a valid value.
        let mut shape: Box<libc::msghdr> = Box::new(unsafe { mem::zeroed() });
        shape.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        shape.msg_controllen = CONTROL_BYTES as _;
        let mut io = Self {
            ring,
            _socket: socket,
            wake,
            entries,
            buffers,
            tail: 0,
            shape,
            filled: VecDeque::new(),
            is_receiving: false,
            is_watching: false,
            slots: (0..SLOTS).map(|_| Slot::new()).collect(),
            free: (0..SLOTS as u16).collect(),
            unsubmitted: 0,
            segments_offered: state.max_gso_segments(),
        };
        (0..BUFFERS).for_each(|buffer| io.recycle(buffer));
        io.arm();
        // A kernel that lacks something says so now, not under load.
        io.enter(Duration::ZERO)?;
        if !io.is_receiving {
            return Err(io::Error::other("multishot receive is not offered by this kernel"));
        }
        Ok(io)
    }

    fn buffer(&self, index: u16) -> *mut u8 {
        // SAFETY: `index` is below `BUFFERS`, so the result is inside the allocation.
        unsafe { self.buffers.start.as_ptr().add(usize::from(index) * BUFFER_BYTES) }
    }

    /// Gives a buffer to the kernel.
    fn recycle(&mut self, index: u16) {
        let base = self.entries.start.as_ptr().cast::<BufRingEntry>();
        let address = self.buffer(index) as u64;
        // SAFETY: the masked tail is below `BUFFERS`, the number of entries; the kernel does not
        // read this entry before the tail that is published below has passed it.
        let entry = unsafe { &mut *base.add(usize::from(self.tail & (BUFFERS - 1))) };
        entry.set_addr(address);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(index);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: `base` is the start of the registered ring, whose tail lies at a valid, aligned
        // place that only this thread writes.
        let tail = unsafe { &*BufRingEntry::tail(base).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }

    /// Queues what must always be under way: a receive, and a watch of the wake descriptor.
    fn arm(&mut self) {
        if !self.is_receiving {
            let receive = opcode::RecvMsgMulti::new(Fixed(0), &*self.shape, GROUP);
            self.is_receiving = self.push(receive.build().user_data(RECEIVE));
        }
        if !self.is_watching {
            let descriptor = io_uring::types::Fd(self.wake.as_fd().as_raw_fd());
            let watch = opcode::PollAdd::new(descriptor, libc::POLLIN as u32).multi(true);
            self.is_watching = self.push(watch.build().user_data(WAKE));
        }
    }

    fn push(&mut self, entry: io_uring::squeue::Entry) -> bool {
        // SAFETY: what entries point to (the shape, slots, buffers) is owned by this struct, does
        // not move (boxed or allocated), and is not touched until the completion.
        let pushed = unsafe { self.ring.submission().push(&entry) }.is_ok();
        self.unsubmitted += usize::from(pushed);
        pushed
    }

    /// Submits what is queued, lets the kernel do its part, and reaps.
    fn enter(&mut self, wait: Duration) -> io::Result<()> {
        self.arm();
        let timeout = Timespec::from(wait);
        let want = usize::from(!wait.is_zero());
        let args = SubmitArgs::new().timespec(&timeout);
        let entered = match want {
            // Completions appear only after a call that asks for them.
            0 => {
                let queued = self.ring.submission().len() as u32;
                const GET_EVENTS: u32 = 1;
                // SAFETY: no signal mask is passed; the queue holds valid entries (see `push`).
                unsafe {
                    self.ring.submitter().enter::<libc::sigset_t>(queued, 0, GET_EVENTS, None)
                }
            }
            _ => self.ring.submitter().submit_with_args(want, &args),
        };
        self.unsubmitted = 0;
        if let Err(error) = entered {
            match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => {}
                _ => return Err(error),
            }
        }
        self.reap();
        Ok(())
    }

    fn reap(&mut self) {
        let mut woken = false;
        for completion in self.ring.completion() {
            let (result, flags) = (completion.result(), completion.flags());
            match completion.user_data() {
                RECEIVE => {
                    if !cqueue::more(flags) {
                        self.is_receiving = false;
                    }
                    if let (Ok(bytes), Some(buffer)) =
                        (usize::try_from(result), cqueue::buffer_select(flags))
                    {
                        self.filled.push_back((buffer, bytes));
                    }
                }
                WAKE => {
                    woken = true;
                    self.is_watching &= cqueue::more(flags);
                }
                slot => {
                    self.free.push(slot as u16);
                    // A device that cannot segment says so; the datagrams count as lost.
                    if matches!(-result, libc::EIO | libc::EINVAL) {
                        self.segments_offered = 1;
                    }
                }
            }
        }
        if woken {
            self.wake.clear();
        }
    }
}

impl Io for UringIo {
    fn name(&self) -> &'static str {
        "io_uring"
    }

    fn receive(&mut self, take: &mut dyn FnMut(Received<'_>)) -> io::Result<bool> {
        let mut some = false;
        for _ in 0..RECEIVES_PER_TURN {
            let Some((buffer, bytes)) = self.filled.pop_front() else { break };
            // SAFETY: the kernel wrote `bytes` into this buffer, which is initialised memory of at
            // least that length, and leaves it alone until it is recycled below.
            let data = unsafe { std::slice::from_raw_parts(self.buffer(buffer), bytes) };
            if let Ok(message) = RecvMsgOut::parse(data, &self.shape)
                && let Some(received) = received(&message)
            {
                take(received);
            }
            self.recycle(buffer);
            some = true;
        }
        Ok(some)
    }

    fn has_room(&mut self) -> bool {
        if self.free.is_empty() {
            // An error here comes again in `wait`, which reports it.
            let _ = self.enter(Duration::ZERO);
        }
        !self.free.is_empty()
    }

    fn send(&mut self, fill: &mut dyn FnMut(&mut Vec<u8>) -> Option<Transmit>) -> bool {
        let Some(&index) = self.free.last() else { return false };
        let slot = &mut self.slots[usize::from(index)];
        slot.bytes.clear();
        let Some(transmit) = fill(&mut slot.bytes) else { return false };
        slot.address_to(&transmit);
        let entry = opcode::SendMsg::new(Fixed(0), &slot.header).build().user_data(index.into());
        if self.push(entry) {
            self.free.pop();
        }
        if self.unsubmitted >= SUBMIT_SENDS {
            let _ = self.enter(Duration::ZERO);
        }
        true
    }

    fn segments_max(&self, mtu: u16) -> usize {
        segments(mtu, self.segments_offered)
    }

    fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        match self.filled.is_empty() {
            true => self.enter(timeout),
            false => self.enter(Duration::ZERO),
        }
    }
}

impl Drop for UringIo {
    fn drop(&mut self) {
        // Nothing may use the memory any more when it is freed. A kernel that cannot cancel so
        // keeps it: leaked, not freed under its hands.
        let cancelled = self.ring.submitter().register_sync_cancel(None, CancelBuilder::any());
        let idle = match cancelled {
            Ok(()) => true,
            Err(error) => error.raw_os_error() == Some(libc::ENOENT),
        };
        if !idle {
            mem::forget(mem::replace(&mut self.entries, Pages::new(1)));
            mem::forget(mem::replace(&mut self.buffers, Pages::new(1)));
            mem::forget(mem::take(&mut self.slots));
        }
    }
}

impl Slot {
    /// Fills the header for `transmit`, whose bytes are in place.
    fn address_to(&mut self, transmit: &Transmit) {
        let header = &mut self.header;
        self.part.iov_base = self.bytes.as_mut_ptr().cast();
        self.part.iov_len = transmit.size;
        header.msg_name = (&raw mut self.address).cast();
        header.msg_namelen = put_address(&mut self.address, transmit.destination);
        header.msg_iov = &raw mut self.part;
        header.msg_iovlen = 1;
        header.msg_control = self.control.as_mut_ptr().cast();
        let mut control = Control::new(header);
        let ecn = transmit.ecn.map_or(0, |ecn| ecn as libc::c_int);
        match transmit.destination {
            SocketAddr::V4(_) => control.put(libc::IPPROTO_IP, libc::IP_TOS, ecn),
            SocketAddr::V6(_) => control.put(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, ecn),
        }
        if let Some(segment) = transmit.segment_size
            && segment < transmit.size
        {
            control.put(libc::SOL_UDP, libc::UDP_SEGMENT, segment as u16);
        }
        match transmit.src_ip {
            Some(IpAddr::V4(ip)) => {
                let source = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                control.put(libc::IPPROTO_IP, libc::IP_PKTINFO, source);
            }
            Some(IpAddr::V6(ip)) => {
                let source = libc::in6_pktinfo {
                    ipi6_ifindex: 0,
                    ipi6_addr: libc::in6_addr { s6_addr: ip.octets() },
                };
                control.put(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, source);
            }
            None => {}
        }
        let bytes = control.bytes;
        header.msg_controllen = bytes as _;
    }
}

/// Writes control messages into a header's buffer of [`CONTROL_BYTES`] zeroed bytes.
struct Control<'a> {
    header: &'a mut libc::msghdr,
    next: *mut libc::cmsghdr,
    bytes: usize,
}

impl<'a> Control<'a> {
    fn new(header: &'a mut libc::msghdr) -> Self {
        header.msg_controllen = CONTROL_BYTES as _;
        // SAFETY: the header points to a control buffer of that length; the macros look for the
        // lengths of messages in it, which must not be left from an earlier use.
        let next = unsafe {
            header.msg_control.cast::<u8>().write_bytes(0, CONTROL_BYTES);
            libc::CMSG_FIRSTHDR(header)
        };
        Self { header, next, bytes: 0 }
    }

    fn put<T: Copy>(&mut self, level: libc::c_int, kind: libc::c_int, value: T) {
        let size = size_of::<T>() as u32;
        // SAFETY: sizes only. Each message takes at most 40 bytes, there are at most three, so
        // they fit the buffer and `next` is not null; it is aligned as the buffer of `u64` is.
        unsafe {
            self.bytes += libc::CMSG_SPACE(size) as usize;
            assert!(self.bytes <= CONTROL_BYTES && !self.next.is_null(), "control data overflow");
            (*self.next).cmsg_level = level;
            (*self.next).cmsg_type = kind;
            (*self.next).cmsg_len = libc::CMSG_LEN(size) as _;
            libc::CMSG_DATA(self.next).cast::<T>().write_unaligned(value);
            self.next = libc::CMSG_NXTHDR(self.header, self.next);
        }
    }
}

fn put_address(storage: &mut libc::sockaddr_storage, address: SocketAddr) -> libc::socklen_t {
    let start = (&raw mut *storage).cast::<u8>();
    match address {
        SocketAddr::V4(address) => {
            let raw = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: the storage is large enough for every kind of address.
            unsafe { start.cast::<libc::sockaddr_in>().write_unaligned(raw) };
            size_of::<libc::sockaddr_in>() as libc::socklen_t
        }
        SocketAddr::V6(address) => {
            let raw = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: address.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                sin6_scope_id: address.scope_id(),
            };
            // SAFETY: as above.
            unsafe { start.cast::<libc::sockaddr_in6>().write_unaligned(raw) };
            size_of::<libc::sockaddr_in6>() as libc::socklen_t
        }
    }
}

/// Reads a received message. `None` when the kernel names no sender or cut something off.
fn received<'a>(message: &'a RecvMsgOut<'_>) -> Option<Received<'a>> {
    let remote = address(message.name_data())?;
    if message.is_payload_truncated() {
        return None;
    }
    let data = message.payload_data();
    let (mut stride, mut ecn, mut local_ip) = (data.len(), 0u8, None);
    let control = message.control_data();
    // SAFETY: a plain C struct for which zero is a valid value.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_control = control.as_ptr().cast_mut().cast();
    header.msg_controllen = control.len() as _;
    // SAFETY: the macros stay within the control data; what they point to is read unaligned, and
    // only as many bytes as the kernel writes for that kind of message.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(&header);
        while !next.is_null() {
            let value = libc::CMSG_DATA(next);
            match ((*next).cmsg_level, (*next).cmsg_type) {
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    let bytes = value.cast::<libc::c_int>().read_unaligned();
                    stride = usize::try_from(bytes).unwrap_or(stride);
                }
                (libc::IPPROTO_IP, libc::IP_TOS) | (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                    ecn = value.read() & 3;
                }
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info = value.cast::<libc::in_pktinfo>().read_unaligned();
                    let octets = info.ipi_addr.s_addr.to_ne_bytes();
                    local_ip = Some(IpAddr::V4(Ipv4Addr::from(octets)));
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info = value.cast::<libc::in6_pktinfo>().read_unaligned();
                    local_ip = Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)));
                }
                _ => {}
            }
            next = libc::CMSG_NXTHDR(&header, next);
        }
    }
    let ecn = EcnCodepoint::from_bits(ecn);
    Some(Received { remote, local_ip, ecn, stride: stride.max(1), data })
}

fn address(name: &[u8]) -> Option<SocketAddr> {
    let family = libc::c_int::from(u16::from_ne_bytes(*name.first_chunk()?));
    match family {
        libc::AF_INET if name.len() >= size_of::<libc::sockaddr_in>() => {
            // SAFETY: the length was checked, every bit pattern is valid.
            let raw = unsafe { name.as_ptr().cast::<libc::sockaddr_in>().read_unaligned() };
            let ip = Ipv4Addr::from(raw.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddrV4::new(ip, u16::from_be(raw.sin_port)).into())
        }
        libc::AF_INET6 if name.len() >= size_of::<libc::sockaddr_in6>() => {
            // SAFETY: as above.
            let raw = unsafe { name.as_ptr().cast::<libc::sockaddr_in6>().read_unaligned() };
            let (port, flow) = (u16::from_be(raw.sin6_port), raw.sin6_flowinfo);
            let ip = Ipv6Addr::from(raw.sin6_addr.s6_addr);
            Some(SocketAddrV6::new(ip, port, flow, raw.sin6_scope_id).into())
        }
        _ => None,
    }
}
