//! A bad network path: UDP through here is lost, held back, repeated, and moved to other ports.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::program::Numbers;

/// The longest datagram that the path carries: the payload of an Ethernet frame, in round numbers.
/// Over loopback a service's datagrams would be so long that few are left to lose.
const PATH_BYTES_MAX: usize = 1_400;
/// How long a thread waits for a datagram before it looks around.
const LOOK_AROUND: Duration = Duration::from_millis(20);

/// What happens to datagrams, each way, in datagrams of a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    pub lost: u64,
    pub repeated: u64,
    /// Held back so that those behind overtake them.
    pub held_back: u64,
}

/// The path. It ends when dropped.
pub struct Proxy {
    /// Where clients find the service.
    pub address: String,
    path: Arc<Path>,
    forth: Option<JoinHandle<()>>,
}

struct Path {
    front: UdpSocket,
    service: SocketAddr,
    faults: Faults,
    seed: AtomicU64,
    /// Per client the socket that the service sees.
    flows: Mutex<HashMap<SocketAddr, Arc<UdpSocket>>>,
    ended: AtomicBool,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    carried: AtomicU64,
    lost: AtomicU64,
    repeated: AtomicU64,
    held_back: AtomicU64,
}

impl Proxy {
    pub fn new(service: &str, faults: Faults, seed: u64) -> Self {
        let front = bind();
        let address = front.local_addr().expect("it is bound").to_string();
        let path = Arc::new(Path {
            front,
            service: service.parse().expect("an address"),
            faults,
            seed: AtomicU64::new(seed),
            flows: Mutex::default(),
            ended: AtomicBool::new(false),
            counts: Counts::default(),
        });
        let forth = path.clone();
        let forth = Some(std::thread::spawn(move || forth.forth()));
        Self { address, path, forth }
    }

    /// From now on the service sees its clients at other ports, and what it sends to the former
    /// ones is lost.
    pub fn migrate(&self) {
        let mut flows = self.path.flows.lock().expect("nobody panics here");
        assert!(!flows.is_empty(), "there is nobody to migrate");
        for (&client, socket) in flows.iter_mut() {
            *socket = self.path.open(client);
        }
    }

    /// How many datagrams were carried, and how many met each fault.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        let Counts { carried, lost, repeated, held_back } = &self.path.counts;
        let all = [
            ("carried", carried),
            ("lost", lost),
            ("repeated", repeated),
            ("held_back", held_back),
        ];
        all.map(|(name, count)| (name, count.load(Ordering::Relaxed))).into()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.path.ended.store(true, Ordering::Relaxed);
        let _ = self.forth.take().map(JoinHandle::join);
    }
}

impl Path {
    /// From the clients to the service.
    fn forth(self: &Arc<Self>) {
        let mut way = Way::new(self);
        while !self.ended.load(Ordering::Relaxed) {
            if let Some((bytes, client)) = way.receive(&self.front) {
                let mut flows = self.flows.lock().expect("nobody panics here");
                flows.entry(client).or_insert_with(|| self.open(client));
                drop(flows);
                way.take(bytes, client);
            }
            way.send_due(|bytes, client| {
                let flows = self.flows.lock().expect("nobody panics here");
                let _ = flows[&client].send(bytes);
            });
        }
    }

    /// From the service to a client, until the client has moved to another socket.
    fn back(self: &Arc<Self>, socket: &Arc<UdpSocket>, client: SocketAddr) {
        let mut way = Way::new(self);
        let is_current = || {
            let flows = self.flows.lock().expect("nobody panics here");
            flows.get(&client).is_none_or(|current| Arc::ptr_eq(current, socket))
        };
        while !self.ended.load(Ordering::Relaxed) {
            let received = way.receive(socket);
            if !is_current() {
                break;
            }
            if let Some((bytes, _)) = received {
                way.take(bytes, client);
            }
            way.send_due(|bytes, client| {
                let _ = self.front.send_to(bytes, client);
            });
        }
    }

    fn open(self: &Arc<Self>, client: SocketAddr) -> Arc<UdpSocket> {
        let socket = bind();
        socket.connect(self.service).expect("loopback is connected");
        let socket = Arc::new(socket);
        let (path, back) = (self.clone(), socket.clone());
        // It ends by itself, at the latest a moment after the path does.
        std::thread::spawn(move || path.back(&back, client));
        socket
    }
}

/// When a datagram is due, its number among those, where it goes and what it is.
type Waiting = (Instant, u64, SocketAddr, Vec<u8>);

/// One direction: what waits to be sent, by the time it is due.
struct Way {
    path: Arc<Path>,
    numbers: Numbers,
    waiting: BinaryHeap<Reverse<Waiting>>,
    taken: u64,
    buffer: Vec<u8>,
}

impl Way {
    fn new(path: &Arc<Path>) -> Self {
        let seed = path.seed.fetch_add(1, Ordering::Relaxed);
        Self {
            path: path.clone(),
            numbers: Numbers::new(seed),
            waiting: BinaryHeap::new(),
            taken: 0,
            buffer: vec![0; 1 << 16],
        }
    }

    /// Waits for a datagram, at most until another one is due.
    fn receive(&mut self, socket: &UdpSocket) -> Option<(Vec<u8>, SocketAddr)> {
        let due = self.waiting.peek().map(|Reverse((due, ..))| *due);
        let wait = due.map_or(LOOK_AROUND, |due| due.saturating_duration_since(Instant::now()));
        // Zero would be forever.
        let wait = wait.clamp(Duration::from_micros(100), LOOK_AROUND);
        socket.set_read_timeout(Some(wait)).expect("a timeout above zero");
        match socket.recv_from(&mut self.buffer) {
            Ok((bytes, from)) => Some((self.buffer[..bytes].to_vec(), from)),
            // A service that is not there yet refuses; it may come.
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::ConnectionRefused => None,
                _ => panic!("the path broke: {error}"),
            },
        }
    }

    /// Decides what becomes of a datagram.
    fn take(&mut self, bytes: Vec<u8>, client: SocketAddr) {
        if bytes.len() > PATH_BYTES_MAX {
            return;
        }
        let (path, faults) = (self.path.clone(), self.path.faults);
        let mut happens = |of_thousand: u64, count: &AtomicU64| {
            let happens = self.numbers.below(1000) < of_thousand;
            count.fetch_add(u64::from(happens), Ordering::Relaxed);
            happens
        };
        path.counts.carried.fetch_add(1, Ordering::Relaxed);
        if happens(faults.lost, &path.counts.lost) {
            return;
        }
        let copies = 1 + usize::from(happens(faults.repeated, &path.counts.repeated));
        let held_back = happens(faults.held_back, &path.counts.held_back);
        for copy in 0..copies {
            // The original of a repeated datagram comes on time, the copy may come much later.
            let delayed = held_back || copy > 0;
            let delay = if delayed { 200 + self.numbers.below(10_000) } else { 0 };
            let due = Instant::now() + Duration::from_micros(delay);
            self.taken += 1;
            self.waiting.push(Reverse((due, self.taken, client, bytes.clone())));
        }
    }

    fn send_due(&mut self, send: impl Fn(&[u8], SocketAddr)) {
        let now = Instant::now();
        while self.waiting.peek().is_some_and(|Reverse((due, ..))| *due <= now) {
            let Some(Reverse((.., client, bytes))) = self.waiting.pop() else { return };
            send(&bytes, client);
        }
    }
}

fn bind() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").expect("there are ports")
}
