//! A bad network path to a server: connections through here are refused, cut in the middle, or
//! lose the answer to what they carried. Conditional writes pass one at a time: `moto_server` looks
//! and replaces in two steps, so that of two at once both may win, where a store does it in one.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often a thread that waits looks around.
const LOOK_AROUND: Duration = Duration::from_millis(5);

/// What happens to a connection.
#[derive(Clone, Debug)]
#[allow(dead_code, reason = "the tests of a crate meet only some of them")]
pub enum Fault {
    /// Cut once it has carried so many bytes to the server.
    CutUpload(usize),
    /// Cut once it has carried so many bytes from the server.
    CutDownload(usize),
    /// Carries requests whose first line has this in it, and not what the server answers.
    LoseAnswer(&'static str),
}

/// The path. It ends when dropped.
pub struct Proxy {
    /// Where clients find the server.
    pub address: String,
    path: Arc<Path>,
    listening: Option<JoinHandle<()>>,
}

/// What the two ways of a connection know of each other.
#[derive(Default)]
struct Connection {
    /// No answer is carried any more.
    losing: AtomicBool,
    /// It carries a conditional write that has no answer yet.
    replacing: AtomicBool,
}

struct Path {
    server: SocketAddr,
    ended: AtomicBool,
    /// Whether a conditional write is on its way.
    replacing: AtomicBool,
    /// Faults to come, each met by one connection to which it applies.
    faults: Mutex<Vec<Fault>>,
    met: Mutex<Vec<Fault>>,
    /// First lines of requests.
    requests: Mutex<Vec<String>>,
}

impl Proxy {
    pub fn new(server: &str) -> Self {
        let path = Arc::new(Path {
            server: server.parse().expect("an address"),
            ended: AtomicBool::new(false),
            replacing: AtomicBool::new(false),
            faults: Mutex::default(),
            met: Mutex::default(),
            requests: Mutex::default(),
        });
        let mut proxy = Self { address: String::new(), path, listening: None };
        proxy.listen("127.0.0.1:0");
        proxy
    }

    fn listen(&mut self, address: &str) {
        let listener = TcpListener::bind(address).expect("the port is free");
        listener.set_nonblocking(true).expect("a socket");
        self.address = listener.local_addr().expect("it is bound").to_string();
        self.path.ended.store(false, Ordering::SeqCst);
        let path = self.path.clone();
        self.listening = Some(std::thread::spawn(move || {
            while !path.ended.load(Ordering::SeqCst) {
                match listener.accept() {
                    Ok((client, _)) => path.clone().carry(client),
                    Err(_) => std::thread::sleep(LOOK_AROUND),
                }
            }
        }));
    }

    /// From now on connections are refused, as by a server that is down; those that there are end.
    pub fn refuse(&mut self) {
        self.path.ended.store(true, Ordering::SeqCst);
        if let Some(listening) = self.listening.take() {
            listening.join().expect("nothing panics in there");
        }
    }

    /// The server is up again, where it was.
    pub fn accept(&mut self) {
        let address = self.address.clone();
        self.listen(&address);
    }

    /// Faults for connections to come.
    pub fn meet(&self, faults: impl IntoIterator<Item = Fault>) {
        self.path.faults.lock().expect("nobody panics here").extend(faults);
    }

    /// How many faults were met.
    pub fn met(&self) -> usize {
        self.path.met.lock().expect("nobody panics here").len()
    }

    /// The first lines of the requests since this was last asked.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.path.requests.lock().expect("nobody panics here"))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.refuse();
    }
}

impl Path {
    fn carry(self: Arc<Self>, client: TcpStream) {
        let Ok(server) = TcpStream::connect(self.server) else { return };
        for stream in [&client, &server] {
            stream.set_nonblocking(false).expect("a socket");
            stream.set_read_timeout(Some(LOOK_AROUND)).expect("a socket");
            stream.set_nodelay(true).expect("a socket");
        }
        let of_up = Arc::new(Connection::default());
        let of_down = of_up.clone();
        let pair = || {
            let clone = |stream: &TcpStream| stream.try_clone().expect("a handle");
            (clone(&client), clone(&server))
        };
        let (from, to) = pair();
        let path = self.clone();
        std::thread::spawn(move || path.up(from, to, &of_up));
        let (to, from) = pair();
        std::thread::spawn(move || self.down(from, to, &of_down));
    }

    /// Waits until no other connection replaces.
    fn replace(&self, connection: &Connection) {
        while self.replacing.swap(true, Ordering::SeqCst) && !self.ended.load(Ordering::SeqCst) {
            std::thread::sleep(LOOK_AROUND);
        }
        connection.replacing.store(true, Ordering::SeqCst);
    }

    /// What the connection replaced, if anything, is done.
    fn replaced(&self, connection: &Connection) {
        if connection.replacing.swap(false, Ordering::SeqCst) {
            self.replacing.store(false, Ordering::SeqCst);
        }
    }

    /// Reads a piece; `None` at the end.
    fn piece<'a>(&self, from: &mut TcpStream, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        loop {
            if self.ended.load(Ordering::SeqCst) {
                return None;
            }
            match from.read(buffer) {
                Ok(0) => return None,
                Ok(read) => return Some(&buffer[..read]),
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) => {}
                Err(_) => return None,
            }
        }
    }

    /// Takes the first fault to come that applies.
    fn fault(&self, applies: impl Fn(&Fault) -> bool) -> bool {
        let mut faults = self.faults.lock().expect("nobody panics here");
        let Some(at) = faults.iter().position(applies) else { return false };
        self.met.lock().expect("nobody panics here").push(faults.remove(at));
        true
    }

    fn up(&self, mut from: TcpStream, mut to: TcpStream, connection: &Connection) {
        let mut buffer = vec![0; 1 << 14];
        let mut carried = 0;
        while let Some(piece) = self.piece(&mut from, &mut buffer) {
            if let Some(line) = first_line(piece) {
                if self.fault(|fault| matches!(fault, Fault::LoseAnswer(of) if line.contains(of))) {
                    connection.losing.store(true, Ordering::SeqCst);
                }
                self.requests.lock().expect("nobody panics here").push(line);
                if is_conditional_write(piece) {
                    self.replace(connection);
                }
            }
            carried += piece.len();
            if self.fault(|fault| matches!(fault, Fault::CutUpload(at) if carried >= *at)) {
                let _ = to.write_all(&piece[..piece.len() / 2]);
                break;
            }
            if to.write_all(piece).is_err() {
                break;
            }
        }
        end(&from, &to);
    }

    fn down(&self, mut from: TcpStream, mut to: TcpStream, connection: &Connection) {
        let mut buffer = vec![0; 1 << 14];
        let mut carried = 0;
        while let Some(piece) = self.piece(&mut from, &mut buffer) {
            self.replaced(connection);
            carried += piece.len();
            let cut = self.fault(|fault| matches!(fault, Fault::CutDownload(at) if carried >= *at));
            if cut || connection.losing.load(Ordering::SeqCst) || to.write_all(piece).is_err() {
                break;
            }
        }
        self.replaced(connection);
        end(&from, &to);
    }
}

fn end(from: &TcpStream, to: &TcpStream) {
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// The first line of a request, if a piece begins one.
fn first_line(piece: &[u8]) -> Option<String> {
    let methods = ["GET /", "PUT /", "POST /", "DELETE /", "HEAD /"];
    methods.iter().find(|method| piece.starts_with(method.as_bytes()))?;
    let line = piece.split(|&byte| byte == b'\r').next()?;
    Some(String::from_utf8_lossy(line).into_owned())
}

/// Whether a piece begins a write that holds only if something is there, or nothing.
fn is_conditional_write(piece: &[u8]) -> bool {
    let head =
        piece.windows(4).position(|end| end == b"\r\n\r\n").map_or(piece, |end| &piece[..end]);
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    head.starts_with("put /")
        && (head.contains("\r\nif-match:") || head.contains("\r\nif-none-match:"))
}
