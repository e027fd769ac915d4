//! The program as a user runs it: a folder, its definitions, small deterministic files, processes
//! with a time limit that never outlive their test.

mod access;
mod checkpoints;
mod client;
mod compaction;
mod crash;
mod damage;
mod deadletters;
mod demo;
mod disk;
mod export;
mod formats;
mod import;
mod jobs;
mod lanes;
mod lateness;
mod log;
mod network;
mod refusals;
mod resident;
mod retention;
mod rollup;
mod round;
mod security;
mod several;
mod store;

use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

/// No command of these tests needs longer, on a busy machine either.
pub const WITHIN: Duration = Duration::from_secs(45);
/// 2024-01-02T14:30:00Z, where generated ticks begin.
pub const START_NS: i64 = 1_704_205_800_000_000_000;
pub const SECOND_NS: i64 = 1_000_000_000;

/// A stream of trades; bars of a second, and one window over everything that counts.
pub const DEFINITIONS: &str = r#"
[stream.trades]
time    = "ts"
key     = "symbol"
columns = { price = { scale = 2, min = 0 }, size = { scale = 0 } }

[view.bars]
stream     = "trades"
window     = { tumbling = "1s" }
aggregates = ["ohlc(price)", "volume = sum(size)", "vwap = vwap(price, size)", "trades = count()"]
lateness   = { allowed = "50ms" }

[view.all]
stream     = "trades"
window     = { tumbling = "36500d" }
aggregates = ["count()"]
"#;

/// A folder with `isotick.toml`, where commands run.
pub struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub fn new(definitions: &str) -> Self {
        let place = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        place.write("isotick.toml", definitions);
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).expect("the folder is writable");
    }

    /// Starts a command, its words separated by spaces.
    pub fn start(&self, command: &str) -> Running {
        let mut words = Command::new(env!("CARGO_BIN_EXE_isotick"));
        words.args(command.split_whitespace()).current_dir(self.folder.path());
        Running::start(words, command)
    }

    /// Runs a command to its end, whatever it is.
    pub fn run(&self, command: &str) -> Ended {
        self.start(command).end()
    }

    /// Runs a command that must succeed.
    pub fn ok(&self, command: &str) -> Ended {
        self.run(command).succeeded()
    }

    /// Runs a command that must fail with exit code 1, and says all of `words` on standard error.
    pub fn refuse(&self, command: &str, words: &[&str]) -> Ended {
        let ended = self.run(command);
        assert_eq!(ended.code, Some(1), "{ended}");
        for word in words {
            assert!(ended.err.contains(word), "no `{word}` in what it says: {ended}");
        }
        ended
    }

    pub fn hash(&self, scan: &str) -> String {
        let ended = self.ok(&format!("scan {scan} --hash"));
        let hash = ended.out.trim();
        assert!(hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()), "{ended}");
        hash.into()
    }

    /// What `verify --json` says of a view without differences.
    pub fn verified(&self, view: &str, data: &str) -> Value {
        let report = self.ok(&format!("verify {view} --data {data} --json")).json();
        assert_eq!(report["differences"], 0, "{report}");
        assert_eq!(report["hash"], report["live_hash"], "{report}");
        report
    }

    /// How many ticks a folder holds, by the view `all`.
    pub fn ticks(&self, data: &str) -> u64 {
        let ended = self.ok(&format!("scan all --data {data} --format csv"));
        table(&ended.out).iter().map(|row| row["count"].parse::<u64>().expect("a count")).sum()
    }

    pub fn serve(&self, data: &str) -> Service {
        self.serve_with(data, "--listen 127.0.0.1:0")
    }

    pub fn serve_at(&self, data: &str, listen: &str) -> Service {
        self.serve_with(data, &format!("--listen {listen}"))
    }

    pub fn serve_with(&self, data: &str, more: &str) -> Service {
        let command = format!("serve --data {data} --engine cpu {more}");
        Self::listening(self.start(&command))
    }

    /// A service that was started, once it listens.
    fn listening(mut running: Running) -> Service {
        let listening = |text: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix("listening on "))?;
            Some(line.split(' ').next()?.to_owned())
        };
        let address = running.wait_for(listening);
        Service { running, address }
    }

    pub fn status(&self, service: &Service) -> Value {
        self.ok(&format!("status --at {} --json", service.address)).json()
    }

    pub fn publish(&self, file: &str, service: &Service, more: &str) -> Running {
        let to = &service.address;
        self.start(&format!("publish {file} --stream trades --to {to} --json {more}"))
    }
}

/// A service; killed when dropped.
pub struct Service {
    pub running: Running,
    pub address: String,
}

impl Service {
    /// SIGTERM, and a clean end.
    pub fn stop(self) {
        self.running.terminate();
        let ended = self.running.end().succeeded();
        assert!(ended.err.contains("everything is in history"), "{ended}");
    }

    /// SIGKILL.
    pub fn kill(self) {
        drop(self);
    }
}

/// A process with its output so far; killed when dropped.
pub struct Running {
    command: String,
    child: Child,
    out: Pipe,
    err: Pipe,
}

struct Pipe {
    text: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Pipe {
    fn new(mut from: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let into = text.clone();
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 1 << 16];
            while let Ok(read @ 1..) = from.read(&mut buffer) {
                into.lock().expect("nobody panics here").extend_from_slice(&buffer[..read]);
            }
        });
        Self { text, reader: Some(reader) }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().expect("nobody panics here")).into_owned()
    }

    fn end(&mut self) -> String {
        self.reader.take().expect("it ends once").join().expect("nothing panics in there");
        self.so_far()
    }
}

impl Running {
    pub fn start(mut command: Command, words: &str) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary runs");
        let out = Pipe::new(child.stdout.take().expect("it is piped"));
        let err = Pipe::new(child.stderr.take().expect("it is piped"));
        Self { command: words.to_owned(), child, out, err }
    }

    /// Waits until standard error holds something.
    pub fn wait_for<T>(&mut self, found: impl Fn(&str) -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            // Whether it has ended is asked first: what it said before is complete then.
            let ended = self.child.try_wait().expect("it can be asked").is_some();
            let text = self.err.so_far();
            // Whole lines only.
            if let Some(found) = found(&text[..text.rfind('\n').map_or(0, |at| at + 1)]) {
                return found;
            }
            let late = started.elapsed() > WITHIN;
            assert!(!ended && !late, "isotick {}: waited in vain; it said:\n{text}", self.command);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn out_so_far(&self) -> String {
        self.out.so_far()
    }

    pub fn err_so_far(&self) -> String {
        self.err.so_far()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it can be asked").is_none()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn terminate(&self) {
        let status = Command::new("kill").args(["-TERM", &self.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    /// Waits for its end.
    pub fn end(mut self) -> Ended {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it can be asked") {
                break status;
            }
            if started.elapsed() > WITHIN {
                let _ = self.child.kill();
                panic!("isotick {} does not end; it said:\n{}", self.command, self.err.so_far());
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let (out, err) = (self.out.end(), self.err.end());
        Ended { command: self.command.clone(), code: status.code(), out, err }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that has ended.
pub struct Ended {
    command: String,
    /// `None` after a signal.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ended {
    pub fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{self}");
        self
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in {self}"))
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { command, code, out, err } = self;
        let start = |text: &str| text.chars().take(4000).collect::<String>();
        write!(f, "isotick {command}\nexit code {code:?}\n{}\n{}", start(out), start(err))
    }
}

/// The fields of a row of CSV, by their names.
pub type Row = std::collections::BTreeMap<String, String>;

/// CSV with a header as rows.
pub fn table(csv: &str) -> Vec<Row> {
    let mut lines = csv.lines().map(|line| line.split(','));
    let names: Vec<_> = lines.next().expect("a header").collect();
    let row = |line: std::str::Split<'_, char>| {
        names.iter().zip(line).map(|(name, field)| ((*name).into(), field.into())).collect()
    };
    lines.map(row).collect()
}

/// A tick of `trades`.
#[derive(Clone)]
pub struct Tick {
    pub ts: i64,
    pub symbol: String,
    /// Hundredths.
    pub price: i64,
    pub size: i64,
}

/// A sequence of numbers without any meaning, always the same.
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// Ticks some milliseconds apart; one in ten stands up to `behind_ms_max` behind its place.
pub fn ticks(seed: u64, count: usize, behind_ms_max: u64) -> Vec<Tick> {
    let mut numbers = Numbers::new(seed);
    let mut now = START_NS;
    let tick = |_| {
        now += numbers.below(3_000_000) as i64;
        let behind = match numbers.below(10) {
            0 => numbers.below(behind_ms_max + 1) as i64 * 1_000_000,
            _ => 0,
        };
        Tick {
            ts: now - behind,
            symbol: format!("S{}", numbers.below(7)),
            price: 10_000 + numbers.below(500) as i64,
            size: numbers.below(20) as i64,
        }
    };
    (0..count).map(tick).collect()
}

pub fn csv(ticks: &[Tick]) -> String {
    let mut text = String::from("ts,symbol,price,size\n");
    for Tick { ts, symbol, price, size } in ticks {
        let (whole, cents) = (price / 100, price % 100);
        writeln!(text, "{ts},{symbol},{whole}.{cents:02},{size}").expect("text takes everything");
    }
    text
}

/// How many ticks of one publisher come behind the greatest time so far.
pub fn late(ticks: &[Tick]) -> u64 {
    arrivals(ticks).filter(|(ts, w)| ts < w).count() as u64
}

/// How many of them come when their window has been closed for longer than allowed.
pub fn too_late(ticks: &[Tick], width_ns: i64, allowed_ns: i64) -> u64 {
    let end = |ts: i64| ts - ts.rem_euclid(width_ns) + width_ns;
    arrivals(ticks).filter(|(ts, w)| ts < w && end(*ts) + allowed_ns <= *w).count() as u64
}

/// Each tick's time and the watermark that it meets.
fn arrivals(ticks: &[Tick]) -> impl Iterator<Item = (i64, i64)> {
    ticks.iter().scan(i64::MIN, |w, tick| {
        let met = *w;
        *w = met.max(tick.ts);
        Some((tick.ts, met))
    })
}

/// The folder of real files, if there is one.
pub fn real_files() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let folder = std::env::var_os("ISOTICK_DATA").map_or(beside, PathBuf::from);
    folder.is_dir().then_some(folder)
}
