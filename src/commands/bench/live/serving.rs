//! The service that is measured: a process of its own, or one that runs already.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// How long a service may take to listen.
const START_WITHIN: Duration = Duration::from_secs(20);

/// A service. One that was started here is killed when dropped; its folder goes with it.
pub struct Serving {
    pub address: String,
    child: Option<Child>,
    /// What it said at its start.
    pub said: Vec<String>,
    _folder: Option<tempfile::TempDir>,
}

impl Serving {
    /// One that runs already.
    pub fn at(address: SocketAddr) -> Self {
        Self { address: address.to_string(), child: None, said: Vec::new(), _folder: None }
    }

    /// Starts this program as a service in a temporary folder.
    pub fn start(definitions: &str, more: &[String]) -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        Self::start_in(folder, definitions, more)
    }

    /// The same in a folder whose `data` may hold something already.
    pub fn start_in(folder: tempfile::TempDir, definitions: &str, more: &[String]) -> Result<Self> {
        let config = folder.path().join("isotick.toml");
        std::fs::write(&config, definitions).context("cannot write the definitions")?;
        let program = std::env::current_exe().context("this program's file is not known")?;
        let mut child = Command::new(program)
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(folder.path().join("data"))
            .arg("--config")
            .arg(&config)
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start the service")?;
        let errors = child.stderr.take().context("standard error is piped")?;
        let mut serving = Self {
            address: String::new(),
            child: Some(child),
            said: Vec::new(),
            _folder: Some(folder),
        };
        let (lines, said) = channel();
        // Reads to the end, so that the service never waits for a reader.
        std::thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                let _ = lines.send(line);
            }
        });
        loop {
            match said.recv_timeout(START_WITHIN) {
                Ok(line) => {
                    let address = line.strip_prefix("listening on ").map(first_word);
                    serving.said.push(line);
                    if let Some(address) = address {
                        serving.address = address;
                        return Ok(serving);
                    }
                }
                Err(RecvTimeoutError::Timeout) => bail!("the service does not listen"),
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("the service did not start: {}", serving.said.join("; "))
                }
            }
        }
    }

    /// Processor seconds so far of those of its threads whose names begin so.
    pub fn threads_cpu_s(&self, name: &str) -> Option<f64> {
        let tasks = format!("/proc/{}/task", self.child.as_ref()?.id());
        let mut sum = 0.0;
        for task in std::fs::read_dir(tasks).ok()?.flatten() {
            let comm = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            if comm.starts_with(name) {
                sum += cpu_s_of(&task.path().join("stat"))?;
            }
        }
        Some(sum)
    }

    /// Processor seconds so far; `None` where it is not this machine's to know.
    pub fn cpu_s(&self) -> Option<f64> {
        cpu_s(self.child.as_ref()?.id())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn first_word(text: &str) -> String {
    text.split_whitespace().next().unwrap_or_default().to_owned()
}

/// Processor seconds of a process, in steps of 10 ms; `None` where the system does not tell.
pub fn cpu_s(process: u32) -> Option<f64> {
    cpu_s_of(&["/proc", &process.to_string(), "stat"].iter().collect::<PathBuf>())
}

fn cpu_s_of(path: &Path) -> Option<f64> {
    /// What Linux counts in, for programs, on every machine.
    const TICKS_PER_S: f64 = 100.0;
    let text = std::fs::read_to_string(path).ok()?;
    // The name in parentheses may hold anything: what follows the last one are numbers.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS_PER_S)
}

/// Lets this thread's sleeps end when they should instead of within 50 µs of it; where the system
/// does not offer that, they end a little later, which the figures then hold.
pub fn sleep_precisely() {
    let Ok(link) = std::fs::read_link("/proc/thread-self") else { return };
    let Some(thread) = link.file_name().and_then(|name| name.to_str()) else { return };
    let _ = std::fs::write(format!("/proc/{thread}/timerslack_ns"), "1");
}
