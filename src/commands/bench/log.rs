//! `isotick bench log`: durable commits of the log, against what the disk does by `fio`.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use isotick_model::{LogPosition, PublisherId, time};
use isotick_storage::log::{LogIo, LogReader, LogRecord, LogWriter, fuzzing};
use isotick_storage::{DataFolder, store};
use serde_json::{Value, json};

use super::processor;
use crate::cli::LogBenchArgs;
use crate::service::now_ns;

/// Commits of every size.
const SIZES: [usize; 3] = [4 << 10, 64 << 10, 1 << 20];
/// A frame's header and the most of its padding.
const FRAME_BYTES: usize = 24 + 7;
/// The longest text of a record.
const TEXT_BYTES_MAX: usize = 65_000;
/// What is written before anything is timed, so that files are used again from then on.
const WARM_BYTES: u64 = 192 << 20;
/// Commits that are read back and hashed.
const READ_BACK: u64 = 4;

/// A way of writing, and how `fio` does the same.
struct Way {
    io: LogIo,
    /// Commits under way at most.
    depth: usize,
    fio: &'static [&'static str],
}

const WAYS: [Way; 3] = [
    Way { io: LogIo::Plain, depth: 1, fio: &["--ioengine=psync", "--fdatasync=1"] },
    Way {
        io: LogIo::Uring,
        depth: 1,
        fio: &["--ioengine=io_uring", "--direct=1", "--sync=dsync", "--iodepth=1"],
    },
    Way {
        io: LogIo::Uring,
        depth: 8,
        fio: &["--ioengine=io_uring", "--direct=1", "--sync=dsync", "--iodepth=8"],
    },
];

/// What was measured of one size and way.
struct Figure {
    size: usize,
    way: &'static Way,
    /// Commits a second, by round.
    commits_per_s: Vec<f64>,
    /// The same of `fio`; empty where it is not installed.
    fio_per_s: Vec<f64>,
    /// From handing a record over until it was known to be durable.
    latencies: Vec<Duration>,
    /// Bytes that went to the disk over those of the records.
    amplification: Option<f64>,
    hash: String,
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

impl Figure {
    fn at(&self, share: f64) -> Duration {
        let place = ((self.latencies.len() - 1) as f64 * share).round() as usize;
        self.latencies[place]
    }

    fn megabytes_per_s(&self) -> f64 {
        median(&self.commits_per_s) * self.size as f64 / 1e6
    }

    /// Of rounds that stood side by side, the median of their ratios.
    fn of_fio(&self) -> Option<f64> {
        let ratios: Vec<_> =
            self.commits_per_s.iter().zip(&self.fio_per_s).map(|(ours, fio)| ours / fio).collect();
        (!ratios.is_empty()).then(|| median(&ratios))
    }

    fn print(&self) {
        let fio = match self.of_fio() {
            Some(ratio) => format!(
                "{:>9.0}  {:>6.0} %{}",
                median(&self.fio_per_s),
                ratio * 100.0,
                if ratio < 0.8 { "  LOSES (80 % is asked for)" } else { "" }
            ),
            None => "not compared".to_owned(),
        };
        println!(
            "{:>8}  {:<5}  {:>5}  {:>9.0}  {:>7.1}  {:>8.1?}  {:>8.1?}  {:>6}  {}  {fio}",
            format!("{} KiB", self.size >> 10),
            self.way.io.to_string(),
            self.way.depth,
            median(&self.commits_per_s),
            self.megabytes_per_s(),
            self.at(0.5),
            self.at(0.99),
            self.amplification.map_or_else(|| "?".to_owned(), |times| format!("{times:.3}")),
            &self.hash[..12],
        );
    }

    fn to_json(&self) -> Value {
        json!({
            "bytes": self.size,
            "io": self.way.io.to_string(),
            "depth": self.way.depth,
            "commits_per_s": self.commits_per_s,
            "megabytes_per_s": self.megabytes_per_s(),
            "p50_us": self.at(0.5).as_secs_f64() * 1e6,
            "p99_us": self.at(0.99).as_secs_f64() * 1e6,
            "write_amplification": self.amplification,
            "fio_commits_per_s": self.fio_per_s,
            "of_fio": self.of_fio(),
            "hash": self.hash,
        })
    }
}

pub fn run(args: &LogBenchArgs) -> Result<ExitCode> {
    let seconds = Duration::from_secs_f64(if args.quick { 0.2 } else { 1.0 });
    let rounds = if args.quick { 1 } else { args.repeat.get() };
    let has_fio = !args.quick && Command::new("fio").arg("--version").output().is_ok();
    println!("machine {}; files below {}", processor(), args.dir.display());
    if !has_fio && !args.quick {
        println!("fio is not installed: nothing to compare with");
    }
    println!(
        "{:>8}  {:<5}  {:>5}  {:>9}  {:>7}  {:>8}  {:>8}  {:>6}  {:<12}  {:>9}  {:>8}",
        "commit",
        "io",
        "depth",
        "commits/s",
        "MB/s",
        "p50",
        "p99",
        "amplif",
        "hash",
        "fio/s",
        "of fio"
    );
    let mut figures = Vec::new();
    for size in SIZES {
        let content = Content::of(size);
        for way in &WAYS {
            let folder = tempfile::tempdir_in(&args.dir)
                .with_context(|| format!("cannot use {}", args.dir.display()))?;
            let mut log = match Log::open(folder.path(), way) {
                Ok(log) => log,
                Err(error) if way.io == LogIo::Uring => {
                    println!("{:>8}  uring: {error:#}", format!("{} KiB", size >> 10));
                    continue;
                }
                Err(error) => return Err(error),
            };
            if !args.quick {
                log.warm(&content, WARM_BYTES)?;
            }
            let target = has_fio.then(|| lay_out(folder.path())).transpose()?;
            let mut figure = Figure {
                size,
                way,
                commits_per_s: Vec::new(),
                fio_per_s: Vec::new(),
                latencies: Vec::new(),
                amplification: None,
                hash: String::new(),
            };
            let (mut written, appended) = (Some(0), log.writer.bytes());
            for _ in 0..rounds {
                let before = written_bytes(folder.path());
                figure.commits_per_s.push(log.measure(&content, seconds, &mut figure.latencies)?);
                let after = written_bytes(folder.path());
                let round = before.zip(after).map(|(before, after)| after - before);
                written = written.zip(round).map(|(written, round)| written + round);
                if let Some(target) = &target {
                    figure.fio_per_s.push(fio(target, way, size, seconds)?);
                }
            }
            let bytes = (log.writer.bytes() - appended) as f64;
            figure.amplification = written.map(|written| written as f64 / bytes);
            figure.latencies.sort_unstable();
            figure.hash = log.read_back(&content)?;
            figure.print();
            figures.push(figure);
        }
    }
    for pair in figures.windows(2).filter(|pair| pair[0].size == pair[1].size) {
        ensure!(pair[0].hash == pair[1].hash, "two ways read different records back");
    }
    if let Some(path) = &args.json {
        let report = json!({
            "isotick": env!("CARGO_PKG_VERSION"),
            "date": time::format_rfc3339(now_ns()),
            "processor": processor(),
            "figures": figures.iter().map(Figure::to_json).collect::<Vec<_>>(),
        });
        std::fs::write(path, format!("{report:#}\n"))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What fills a commit of a size: records whose bytes are those of a text, so that next to nothing
/// is spent on encoding them.
struct Content {
    texts: Vec<usize>,
}

impl Content {
    /// As many bytes as fit.
    fn of(size: usize) -> Self {
        let beside = fuzzing::encode(&lost(String::new())).len() + FRAME_BYTES;
        let records = size.div_ceil(TEXT_BYTES_MAX + beside);
        Self { texts: vec![(size / records - beside).min(TEXT_BYTES_MAX); records] }
    }

    /// The commit of a number: its texts are the number's own.
    fn commit(&self, number: u64) -> Vec<LogRecord> {
        let mut state = number;
        let mut letters = || {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            (mixed ^ (mixed >> 27)).to_le_bytes().map(|byte| char::from(b'a' + byte % 16))
        };
        let mut text = |len: usize| {
            let mut text = String::with_capacity(len + 8);
            while text.len() < len {
                text.extend(letters());
            }
            text.truncate(len);
            text
        };
        self.texts.iter().map(|len| lost(text(*len))).collect()
    }
}

fn lost(stream: String) -> LogRecord {
    let publisher = PublisherId::new("bench").expect("a short name");
    LogRecord::Lost { stream, publisher, through: 0, ts_recv_ns: 0 }
}

struct Log {
    folder: DataFolder,
    writer: LogWriter,
    depth: usize,
}

impl Log {
    fn open(path: &Path, way: &Way) -> Result<Self> {
        let store = store::Store::open(&path.join("data"), "isotick bench log")?;
        let (writer, _) = store.open_log_with(way.io)?;
        Ok(Self { folder: store.folder().clone(), writer, depth: way.depth })
    }

    /// Writes so much that files are used again, as in a service that makes checkpoints.
    fn warm(&mut self, content: &Content, bytes: u64) -> Result<()> {
        let records = content.commit(0);
        while self.writer.bytes() < bytes {
            self.writer.append_batch(&records)?;
            let durable = self.writer.syncer().sync()?;
            self.writer.release(durable)?;
        }
        Ok(())
    }

    /// Commits a second for so long.
    fn measure(
        &mut self,
        content: &Content,
        seconds: Duration,
        latencies: &mut Vec<Duration>,
    ) -> Result<f64> {
        // Made before: what is measured begins with the records.
        let made: Vec<_> = (0..32).map(|number| content.commit(number)).collect();
        let syncer = self.writer.syncer();
        let mut under_way: VecDeque<(LogPosition, Instant)> = VecDeque::new();
        let (started, mut commits, mut released) = (Instant::now(), 0u64, 0);
        for records in made.iter().cycle() {
            if started.elapsed() >= seconds {
                break;
            }
            let now = Instant::now();
            let first = self.writer.append_batch(records)?;
            under_way.push_back((LogPosition(first.0 + records.len() as u64 - 1), now));
            let wait = match under_way.len() < self.depth {
                true => Duration::ZERO,
                false => Duration::from_secs(1),
            };
            loop {
                let (durable, _) = syncer.advance(wait)?;
                while let Some((position, began)) = under_way.front()
                    && *position < durable
                {
                    latencies.push(began.elapsed());
                    commits += 1;
                    under_way.pop_front();
                }
                if under_way.len() < self.depth {
                    break;
                }
            }
            // Every sixteen mebibytes, as a checkpoint would.
            if self.writer.bytes() - released > 16 << 20 {
                released = self.writer.bytes();
                // All but what is under way.
                let first = self.writer.next().0 - (under_way.len() * records.len()) as u64;
                let first = LogPosition(first);
                self.writer.release(first)?;
            }
        }
        let took = started.elapsed();
        syncer.sync()?;
        Ok(commits as f64 / took.as_secs_f64())
    }

    /// Appends records of their own, and hashes what is read back of them.
    fn read_back(&mut self, content: &Content) -> Result<String> {
        let first = self.writer.next();
        for number in 0..READ_BACK {
            self.writer.append_batch(&content.commit(number))?;
        }
        self.writer.syncer().sync()?;
        let mut hasher = blake3::Hasher::new();
        let mut count = 0;
        for entry in LogReader::from(&self.folder, first)? {
            hasher.update(&fuzzing::encode(&entry?.1));
            count += 1;
        }
        let appended = self.writer.next().0 - first.0;
        ensure!(count == appended, "{count} of {appended} records were read back");
        Ok(hasher.finalize().to_hex().to_string())
    }
}

/// A file for `fio` to overwrite, as large as a segment.
fn lay_out(folder: &Path) -> Result<PathBuf> {
    let path = folder.join("fio");
    let file = std::fs::File::create(&path)?;
    let zeros = vec![0; 1 << 20];
    for _ in 0..64 {
        std::io::Write::write_all(&mut &file, &zeros)?;
    }
    file.sync_all()?;
    Ok(path)
}

/// Writes a second that `fio` makes durable.
fn fio(target: &Path, way: &Way, size: usize, seconds: Duration) -> Result<f64> {
    let output = Command::new("fio")
        .args(["--name=log", "--rw=write", "--overwrite=1", "--size=64m", "--time_based"])
        .args(["--allow_file_create=0", "--output-format=json"])
        .args(way.fio)
        .arg(format!("--bs={size}"))
        .arg(format!("--runtime={}ms", seconds.as_millis()))
        .arg(format!("--filename={}", target.display()))
        .output()
        .context("cannot run fio")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let start = text.find('{').context("fio printed no figures")?;
    let report: Value = serde_json::from_str(&text[start..])
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let write = &report["jobs"][0]["write"];
    let (count, took) = (write["total_ios"].as_f64(), write["runtime"].as_f64());
    let rate = count.zip(took).map(|(count, took_ms)| count / (took_ms / 1e3));
    rate.filter(|rate| *rate > 0.0).context("fio wrote nothing")
}

/// What the block device below a folder has written, for whichever process, where the system
/// tells it. What the system counts for a process is what it dirtied: whole folios of many pages.
#[cfg(target_os = "linux")]
fn written_bytes(folder: &std::path::Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    let device = std::fs::metadata(folder).ok()?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let text = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).ok()?;
    // The seventh number counts sectors of 512 bytes.
    text.split_whitespace().nth(6)?.parse::<u64>().ok()?.checked_mul(512)
}

#[cfg(not(target_os = "linux"))]
fn written_bytes(_folder: &std::path::Path) -> Option<u64> {
    None
}
