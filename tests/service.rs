//! The service from outside: ticks published over QUIC, a kill in the middle, a restart, against
//! the oracle and against importing the same file.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::canonical;
use crate::command::{hash_of, is_written, isotick};
use crate::oracle::{self, Arrival, Decimal, Event, Truth, Window};
use crate::random::{Case, Shape};
use crate::text;

const PUBLISHER: &str = "somebody";

/// A case as one publisher's file, with its definitions, below a temporary folder.
struct Setting {
    case: Case,
    folder: tempfile::TempDir,
}

impl Setting {
    fn new(shape: Shape, seed: u64, rows_max: usize) -> Self {
        let mut case = Case::new(shape, seed, rows_max);
        case.policy = "correct";
        // A file of one publisher: sequences are row numbers, and what is in it is plain text.
        let mut names: BTreeMap<String, String> = BTreeMap::new();
        for (row, tick) in case.ticks.iter_mut().enumerate() {
            tick.publisher = PUBLISHER.into();
            tick.sequence = row as u64;
            for key in &mut tick.key {
                let name = format!("k{}", names.len());
                *key = names.entry(key.clone()).or_insert(name).clone();
            }
        }
        case.view.filter = None;
        case.events =
            case.ticks.iter().map(|tick| Event::Tick(PUBLISHER.into(), tick.ts)).collect();
        for (tick, w) in case.ticks.iter_mut().zip(oracle::watermarks(&case.events)) {
            tick.arrival = Arrival::At(w);
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert!(case.ticks.len() > 500, "{}: too few to mean much", case.name());
        let setting = Self { case, folder };
        fs::write(setting.path("isotick.toml"), text::definitions(&setting.case))
            .expect("the folder is writable");
        fs::write(setting.path("ticks.csv"), setting.csv()).expect("the folder is writable");
        setting
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("the path is text").to_string()
    }

    fn csv(&self) -> String {
        let names = self.case.keys.iter().copied().chain(self.case.columns.iter().map(|c| c.name));
        let header: Vec<_> = [text::TIME].into_iter().chain(names).collect();
        let mut csv = header.join(",") + "\n";
        for tick in &self.case.ticks {
            let values = tick.values.iter().zip(&self.case.columns).map(|(value, column)| {
                let decimal = |digits: i64| Decimal { digits: digits.into(), scale: column.scale };
                value.map_or(String::new(), |value| decimal(value).to_string())
            });
            let fields = [tick.ts.to_string()].into_iter().chain(tick.key.clone()).chain(values);
            csv += &(fields.collect::<Vec<_>>().join(",") + "\n");
        }
        csv
    }

    fn expected(&self, truth: Truth) -> Vec<Window> {
        oracle::windows(&self.case.view, &self.case.ticks, truth)
    }

    /// The windows that live has closed when all ticks have come.
    fn closed(&self) -> Vec<Window> {
        let w = self.case.ticks.iter().map(|tick| tick.ts).max();
        let mut windows = self.expected(Truth::Seen);
        windows.retain(|window| Some(window.end) <= w);
        windows
    }

    fn hash(&self, windows: &[Window]) -> String {
        canonical::hash(&self.case.keys, &self.case.view, windows)
    }

    fn scan_hash(&self, data: &str, truth: &str) -> String {
        let data = self.text(data);
        hash_of(&isotick(&["scan", text::VIEW, "--data", &data, "--truth", truth, "--hash"]))
    }

    fn publish(&self, to: &str, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_isotick"));
        command.args(["publish", &self.text("ticks.csv"), "--stream", text::STREAM, "--to", to]);
        command.args(["--publisher", PUBLISHER, "--ack", "durable", "--json"]).args(more);
        command.current_dir(self.folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// A running service.
struct Service {
    process: Child,
    address: String,
}

impl Service {
    fn start(setting: &Setting, listen: &str) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_isotick"))
            .args(["serve", "--data", &setting.text("data"), "--listen", listen])
            .args(["--engine", "cpu", "--config", &setting.text("isotick.toml")])
            .stderr(Stdio::piped())
            .spawn()
            .expect("the service starts");
        let errors = BufReader::new(process.stderr.take().expect("it was piped"));
        let mut lines = errors.lines().map_while(Result::ok);
        let address = lines.find_map(|line| {
            let rest = line.strip_prefix("listening on ")?;
            rest.split(' ').next().map(str::to_string)
        });
        // Whatever else it says is read, so that it never waits for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        let address = address.expect("the service says where it listens");
        Self { process, address }
    }

    fn stop(mut self) {
        let id = self.process.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status().expect("kill runs");
        let status = self.process.wait().expect("the service ends");
        assert!(status.success(), "the service stops cleanly: {status}");
    }

    fn kill(mut self) {
        self.process.kill().expect("the service was running");
        self.process.wait().expect("the service ends");
    }
}

/// A test that fails leaves no service behind.
impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a publisher reported; it must have succeeded.
fn report(output: &std::process::Output) -> serde_json::Value {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "publish: {}\n{errors}", output.status);
    serde_json::from_slice(&output.stdout).expect("the report is JSON")
}

/// Live, history, import and the oracle agree on a folder whose service has stopped.
fn check(setting: &Setting) {
    let name = setting.case.name();
    let now = setting.hash(&setting.expected(Truth::Now));
    let seen = setting.hash(&setting.expected(Truth::Seen));
    assert_eq!(setting.scan_hash("data", "now"), now, "{name}: published, now");
    assert_eq!(setting.scan_hash("data", "seen"), seen, "{name}: published, seen");
    let closed = setting.closed();
    let verified = isotick(&["verify", text::VIEW, "--data", &setting.text("data")]);
    let said = String::from_utf8_lossy(&verified.stdout);
    let found = format!("{} windows, 0 differences", closed.len());
    assert!(said.replace(',', "").contains(&found.replace(',', "")), "{name}: {said}");
    assert_eq!(hash_of(&verified), setting.hash(&closed), "{name}: verified");
    let import = |data: &str| {
        let (file, data) = (setting.text("ticks.csv"), setting.text(data));
        let config = setting.text("isotick.toml");
        isotick(&[
            "import",
            &file,
            "--stream",
            text::STREAM,
            "--data",
            &data,
            "--config",
            &config,
            "--publisher",
            PUBLISHER,
        ]);
    };
    import("imported");
    assert_eq!(setting.scan_hash("imported", "now"), now, "{name}: imported");
    import("data");
    assert_eq!(setting.scan_hash("data", "now"), now, "{name}: published and imported");
}

#[test]
fn published_is_imported() {
    for (shape, seed) in
        [(Shape::Disorder, 1), (Shape::Nulls, 2), (Shape::Ties, 3), (Shape::Bounds, 4)]
    {
        let setting = Setting::new(shape, seed, 6_000);
        let service = Service::start(&setting, "127.0.0.1:0");
        for _ in 0..2 {
            let report = report(&setting.publish(&service.address, &[]).output().expect("it runs"));
            assert_eq!(report["durable_through"], setting.case.ticks.len(), "{report}");
        }
        service.stop();
        check(&setting);
    }
}

/// A subscriber's last version of every window is what the log says.
#[test]
fn a_subscriber_is_told_every_closed_window() {
    let setting = Setting::new(Shape::Mixed, 11, 20_000);
    let service = Service::start(&setting, "127.0.0.1:0");
    let at = ["--at", &service.address, "--format", "csv", "--time", "ns"];
    let tail = Command::new(env!("CARGO_BIN_EXE_isotick"))
        .args(["tail", text::VIEW])
        .args(at)
        .args(["--until-idle", "3s"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    std::thread::sleep(Duration::from_millis(700));
    report(&setting.publish(&service.address, &[]).output().expect("it runs"));
    let output = tail.wait_with_output().expect("it ends");
    assert!(output.status.success());
    let csv = String::from_utf8(output.stdout).expect("CSV is text");
    let keys = setting.case.keys.len();
    let mut last: BTreeMap<Vec<String>, Vec<String>> = BTreeMap::new();
    for line in csv.lines().skip(1) {
        let fields: Vec<String> = line.split(',').map(str::to_string).collect();
        last.insert(fields[..keys + 2].to_vec(), fields[keys + 3..].to_vec());
    }
    let closed = setting.closed();
    assert_eq!(last.len(), closed.len(), "{}", setting.case.name());
    for window in closed {
        let bounds = [window.start.to_string(), window.end.to_string()];
        let found = last.get(&[window.key.as_slice(), &bounds].concat()).expect("it was told");
        let view = &setting.case.view;
        for (((name, output), cell), text) in view.outputs.iter().zip(&window.cells).zip(found) {
            assert!(is_written(view, *output, cell, text), "{window}: {name} is {text}");
        }
    }
    service.stop();
}

/// Killed in the middle of a publish, restarted, resumed: nothing is missing, nothing counted
/// twice.
#[test]
fn a_kill_in_the_middle_changes_nothing() {
    for (seed, wait_ms) in [(21, 150), (22, 500)] {
        let setting = Setting::new(Shape::Disorder, seed, 40_000);
        let service = Service::start(&setting, "127.0.0.1:0");
        let address = service.address.clone();
        let rate = format!("{}/s", setting.case.ticks.len().max(10));
        let mut publish = setting.publish(&address, &["--rate", &rate]).spawn().expect("it runs");
        std::thread::sleep(Duration::from_millis(wait_ms));
        service.kill();
        let ended = publish.try_wait().expect("the publisher can be asked");
        assert_eq!(ended, None, "the kill came in the middle");
        let service = Service::start(&setting, &address);
        let report = report(&publish.wait_with_output().expect("it ends"));
        assert_eq!(report["durable_through"], setting.case.ticks.len(), "{report}");
        service.stop();
        check(&setting);
    }
}
