//! What networks and bad peers do to a service, over real QUIC: after each of it the service
//! answers, every row that was sent is counted once, and `verify` finds no difference.

mod arrow;
#[cfg(target_os = "linux")]
mod barred;
mod crowd;
mod leaving;
mod path;
mod peers;
mod proxy;
mod raw;
mod slow;

/// Both ways that datagrams go at the service. Where the kernel offers no io_uring they are one.
const WAYS: [&str; 2] = ["auto", "socket"];
