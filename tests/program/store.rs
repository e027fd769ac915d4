//! History in a bucket: the same results as in a folder, whatever happens to the service, to its
//! connections and to the store.

mod proxy;
mod server;

use std::process::Command;
use std::time::{Duration, Instant};

use self::proxy::{Fault, Proxy};
use super::{DEFINITIONS, Ended, Place, Running, Service, csv, ticks};

/// A place whose commands know the store.
struct Stored {
    place: Place,
    variables: Vec<(String, String)>,
    url: String,
}

impl Stored {
    /// With a bucket of its own; `None` where there is no server.
    fn new(bucket: &str) -> Option<(Self, Proxy)> {
        let server = server::shared()?;
        server.make_bucket(bucket);
        let proxy = Proxy::new(&server.address);
        let variables = server::variables(&proxy.address);
        let url = format!("s3://{bucket}/ticks");
        Some((Self { place: Place::new(DEFINITIONS), variables, url }, proxy))
    }

    fn start(&self, command: &str) -> Running {
        let mut words = Command::new(env!("CARGO_BIN_EXE_isotick"));
        words.args(command.split_whitespace()).current_dir(self.place.folder.path());
        words.envs(self.variables.iter().map(|(name, value)| (name, value)));
        Running::start(words, command)
    }

    fn ok(&self, command: &str) -> Ended {
        self.start(command).end().succeeded()
    }

    fn refuse(&self, command: &str, words: &[&str]) -> Ended {
        let ended = self.start(command).end();
        assert_eq!(ended.code, Some(1), "{ended}");
        for word in words {
            assert!(ended.err.contains(word), "no `{word}` in what it says: {ended}");
        }
        ended
    }

    fn hash(&self, scan: &str) -> String {
        self.ok(&format!("scan {scan} --hash")).out.trim().to_owned()
    }

    fn serve(&self, more: &str) -> Service {
        let running = self.start(&format!("serve --data data --engine cpu {more}"));
        Place::listening(running)
    }

    /// Tells the folder to give up soon, or to keep replaced files for so long.
    fn tune(&self, settings: &str) {
        let path = self.place.path("data/store.toml");
        let text = std::fs::read_to_string(&path).expect("the folder remembers its store");
        let kept = text.lines().filter(|line| !line.contains("_s = "));
        let text: Vec<_> = kept.chain(settings.lines()).collect();
        std::fs::write(path, text.join("\n")).expect("it is writable");
    }

    /// The names of what is in the data folder itself.
    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.place.path("data")).expect("it is a folder");
        let name = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.expect("it can be read").file_name().into_string().expect("text")
        };
        let mut names: Vec<_> = entries.map(name).collect();
        names.sort();
        names
    }
}

#[test]
fn a_service_killed_in_the_middle_loses_nothing_of_a_bucket() {
    let Some((stored, _proxy)) = Stored::new("killed") else { return };
    let place = &stored.place;
    const ROWS: usize = 24_000;
    place.write("ticks.csv", csv(&ticks(71, ROWS, 80)));
    let hash = place.hash("bars --file ticks.csv");
    let mut service = stored.serve(&format!("--listen 127.0.0.1:0 --store {}", stored.url));
    assert!(service.running.err_so_far().contains("history in s3://killed/ticks"));
    let publisher = place.publish("ticks.csv", &service, "--rate 12000/s");
    for (wait_ms, more_than) in [(0, 0), (150, 6_000), (50, 12_000)] {
        let started = Instant::now();
        while place.status(&service)["streams"]["trades"]["accepted"].as_u64() <= Some(more_than) {
            assert!(started.elapsed() < super::WITHIN, "no ticks come");
            std::thread::sleep(Duration::from_millis(10));
        }
        std::thread::sleep(Duration::from_millis(wait_ms));
        let address = service.address.clone();
        service.kill();
        // From now on the folder knows its store.
        service = stored.serve(&format!("--listen {address}"));
    }
    let report = publisher.end().succeeded().json();
    assert_eq!((&report["durable_through"], &report["accepted"]), (&ROWS.into(), &ROWS.into()));
    service.stop();
    assert_eq!(stored.hash("bars --data data"), hash);
    let report = stored.ok("verify bars --data data --json").json();
    assert_eq!((&report["differences"], &report["hash"]), (&0.into(), &report["live_hash"]));

    // The same in a folder.
    let service = place.serve("local");
    place.publish("ticks.csv", &service, "").end().succeeded();
    service.stop();
    assert_eq!(place.verified("bars", "local")["hash"], report["hash"]);
    let names = stored.names();
    for name in ["log", "store.toml", "definitions.toml", "format", "isotick.lock"] {
        assert!(names.iter().any(|known| known == name), "{name} in {names:?}");
    }
    let elsewhere = |name: &String| {
        name.starts_with("stream=") || name.starts_with("view=") || name.contains("manifest")
    };
    assert!(!names.iter().any(elsewhere), "{names:?}");
}

#[test]
fn imported_and_compacted_a_bucket_gives_the_same_with_few_requests() {
    let Some((stored, proxy)) = Stored::new("compacted") else { return };
    let place = &stored.place;
    for (name, seed) in [("a.csv", 81), ("b.csv", 82), ("c.csv", 83)] {
        place.write(name, csv(&ticks(seed, 10_000, 80)));
    }
    let hash = place.hash("bars --file a.csv b.csv c.csv");
    let one = place.hash("bars --file a.csv b.csv c.csv --key S3");
    let import = "import a.csv b.csv c.csv --stream trades --data data";
    stored.ok(&format!("{import} --store {}/", stored.url));
    assert_eq!(stored.hash("bars --data data"), hash);
    let report = stored.ok(&format!("{import} --json")).json();
    for file in report["files"].as_array().expect("a list") {
        assert_eq!((&file["held"], &file["imported"]), (&10_000.into(), &0.into()), "{file}");
    }
    proxy.requests();
    assert_eq!(stored.hash("bars --data data"), hash);
    let requests = proxy.requests();
    // The manifest, and each file whole with its footer.
    assert!(requests.len() <= 1 + 3, "{requests:?}");
    stored.ok("compact --data data");
    proxy.requests();
    assert_eq!(stored.hash("bars --data data"), hash);
    // The manifest, the end of the file, and what is read of its row group.
    let requests = proxy.requests();
    assert!(requests.len() <= 3, "{requests:?}");
    assert_eq!(stored.hash("bars --data data --key S3"), one);
    let requests = proxy.requests();
    assert!(requests.len() <= 6, "{requests:?}");
    let again = stored.ok("compact --data data");
    assert!(again.out.contains("compact already"), "{again}");

    // States live beside the history.
    stored.ok("rollup bars --data data");
    assert!(!stored.names().iter().any(|name| name.starts_with("rollup=")));
    proxy.requests();
    let scan = stored.ok("scan bars --data data --hash --stats");
    let requests = proxy.requests();
    assert!(requests.len() <= 3, "{requests:?}");
    assert!(scan.out.trim() == hash && scan.err.contains("\"rows_read\":0"), "{scan}");
    assert!(requests.iter().any(|request| request.contains("rollup")), "{requests:?}");
    stored.ok("rollup --data data --drop");
    assert_eq!(stored.hash("bars --data data"), hash);
}

#[test]
fn readers_go_on_while_a_bucket_is_compacted() {
    let Some((stored, _proxy)) = Stored::new("readers") else { return };
    let place = &stored.place;
    for (name, seed) in [("a.csv", 91), ("b.csv", 92)] {
        place.write(name, csv(&ticks(seed, 20_000, 80)));
    }
    let hash = place.hash("bars --file a.csv b.csv");
    stored.ok(&format!("import a.csv b.csv --stream trades --data data --store {}", stored.url));
    let bucket = std::fs::create_dir(place.path("reader"));
    bucket.expect("a folder");
    for name in ["format", "store.toml", "definitions.toml"] {
        let copied = std::fs::copy(
            place.path(&format!("data/{name}")),
            place.path(&format!("reader/{name}")),
        );
        copied.expect("a copy");
    }
    // Replaced files stay for those who hold the manifest before.
    let report = stored.ok("compact --data data --json").json();
    assert_eq!(report["streams"]["trades"]["after"]["files"], 1, "{report}");
    assert_eq!(stored.hash("bars --data reader"), hash);
    let counted = |more: usize| {
        let listed = files_of(&stored, "stream=trades");
        assert_eq!(listed.len(), 1 + more, "{listed:?}");
    };
    counted(2);
    stored.ok("import a.csv --stream trades --data data");
    counted(2);
    // Their time is over.
    stored.tune("grace_s = 0");
    stored.ok("import a.csv --stream trades --data data");
    counted(0);
    assert_eq!(stored.hash("bars --data data"), hash);
}

/// The names of a bucket that hold a word, as the server lists them.
fn files_of(stored: &Stored, word: &str) -> Vec<String> {
    let bucket = stored.url.trim_start_matches("s3://").split('/').next().expect("a bucket");
    let listed = server::shared().expect("it runs").list(bucket);
    listed.into_iter().filter(|name| name.contains(word)).collect()
}

#[test]
fn compacting_a_bucket_can_be_killed_at_any_point() {
    let Some((stored, proxy)) = Stored::new("kills") else { return };
    let place = &stored.place;
    for (name, seed) in [("a.csv", 94), ("b.csv", 95)] {
        // Many dates: a commit each.
        let mut ticks = ticks(seed, 6_000, 0);
        for (number, tick) in ticks.iter_mut().enumerate() {
            tick.ts += number as i64 % 12 * 86_400 * super::SECOND_NS;
        }
        place.write(name, csv(&ticks));
    }
    let hash = place.hash("bars --file a.csv b.csv");
    stored.ok(&format!("import a.csv b.csv --stream trades --data data --store {}", stored.url));
    assert_eq!(stored.hash("bars --data data"), hash);
    let mut collected = 0;
    for (round, wait_ms) in [0, 0, 0, 1, 2, 3, 5, 8, 13, 21].into_iter().enumerate() {
        proxy.requests();
        let mut compacting = stored.start("compact --data data");
        // A file is on its way, or there already, and the manifest does not name it yet or does.
        let (mut puts, started) = (0, Instant::now());
        while puts <= round % 3 && compacting.is_running() && started.elapsed() < super::WITHIN {
            std::thread::sleep(Duration::from_millis(1));
            let is_put = |line: &&String| line.starts_with("PUT") && line.contains(".parquet");
            puts += proxy.requests().iter().filter(is_put).count();
        }
        std::thread::sleep(Duration::from_millis(wait_ms));
        let said = compacting.err_so_far();
        collected += usize::from(said.contains("files that an interrupted command had left"));
        drop(compacting);
        assert_eq!(stored.hash("bars --data data"), hash, "in round {round}");
    }
    stored.tune("grace_s = 0");
    for _ in 0..2 {
        let last = stored.ok("compact --data data");
        collected += usize::from(last.err.contains("files that an interrupted command had left"));
    }
    assert!(collected > 0, "a kill leaves files");
    stored.ok("import a.csv --stream trades --data data");
    assert_eq!(files_of(&stored, "stream=trades").len(), 12, "nothing is left of the others");
    assert_eq!(stored.hash("bars --data data"), hash);
    let left = std::fs::read_dir(place.path("data/spool")).map(Iterator::count);
    assert!(left.is_ok_and(|left| left == 0), "nothing waits to be put any more");
}

#[test]
fn a_store_belongs_to_one_data_folder() {
    let Some((stored, _proxy)) = Stored::new("owned") else { return };
    let place = &stored.place;
    place.write("a.csv", csv(&ticks(73, 1_000, 0)));
    let import = "import a.csv --stream trades";
    let url = &stored.url;
    stored.ok(&format!("{import} --data data --store {url}"));
    stored.refuse(
        &format!("{import} --data other --store {url}"),
        &["s3://owned/ticks/manifest.json belongs to another data folder", "--store"],
    );
    // Refused, it is no data folder yet, and may go elsewhere.
    stored.ok(&format!("{import} --data other --store {url}-2"));
    let words = ["data has its history in s3://owned/ticks, not in s3://owned/x", "leave --store"];
    stored.refuse(&format!("{import} --data data --store s3://owned/x"), &words);
    place.ok(&format!("{import} --data local"));
    stored.refuse(
        &format!("{import} --data local --store {url}-3"),
        &["local has its history in itself, not in s3://owned/ticks-3"],
    );
    let ended = stored.start(&format!("{import} --data new --store nowhere")).end();
    assert_eq!(ended.code, Some(2), "{ended}");
    assert!(ended.err.contains("write s3://bucket/prefix"), "{ended}");

    // A copy of the folder is the same folder: the one that opens last writes.
    let hash = stored.hash("bars --data data");
    let service = stored.serve("--listen 127.0.0.1:0");
    std::fs::create_dir(place.path("copy")).expect("a folder");
    for name in ["format", "store.toml", "definitions.toml"] {
        let (from, to) = (format!("data/{name}"), format!("copy/{name}"));
        std::fs::copy(place.path(&from), place.path(&to)).expect("a copy");
    }
    stored.ok("compact --data copy");
    place.write("b.csv", csv(&ticks(74, 1_000, 0)));
    let published = place.publish("b.csv", &service, "--no-reconnect").end();
    assert_eq!(published.code, Some(1), "{published}");
    let said = service.running.err_so_far() + &published.err;
    assert!(said.contains("another writer replaced the manifest"), "{said}");
    service.kill();
    assert_eq!(stored.hash("bars --data copy"), hash);
    // Nothing is lost: the log has it.
    let service = stored.serve("--listen 127.0.0.1:0");
    place.publish("b.csv", &service, "").end().succeeded();
    service.stop();
    assert_eq!(stored.hash("bars --data data"), place.hash("bars --file a.csv b.csv"));
}

#[test]
fn a_store_that_is_down_for_a_while_is_waited_for() {
    let Some((stored, mut proxy)) = Stored::new("outage") else { return };
    let place = &stored.place;
    const ROWS: usize = 6_000;
    place.write("ticks.csv", csv(&ticks(75, ROWS, 80)));
    let hash = place.hash("bars --file ticks.csv");
    let mut service = stored.serve(&format!("--listen 127.0.0.1:0 --store {}", stored.url));
    proxy.meet([Fault::CutUpload(3_000), Fault::LoseAnswer("manifest.json")]);
    // The publisher's end waits for history.
    let mut publisher = place.publish("ticks.csv", &service, "");
    service.running.wait_for(|said| said.contains("trying again in").then_some(()));
    proxy.refuse();
    std::thread::sleep(Duration::from_millis(1_500));
    assert!(publisher.is_running(), "{}", publisher.err_so_far());
    proxy.accept();
    publisher.end().succeeded();
    service.stop();
    assert_eq!(proxy.met(), 2);
    assert_eq!(stored.hash("bars --data data"), hash);

    // For longer than it is waited for: said, and nothing is lost.
    stored.tune("retry_s = 1");
    place.write("more.csv", csv(&ticks(76, ROWS, 80)));
    let service = stored.serve("--listen 127.0.0.1:0");
    proxy.refuse();
    let failed = place.publish("more.csv", &service, "--no-reconnect").end();
    assert_eq!(failed.code, Some(1), "{failed}");
    assert!(failed.err.contains("s3://outage/ticks") && failed.err.contains("tried"), "{failed}");
    stored.refuse("scan bars --data data --hash", &["cannot read s3://outage/ticks/manifest.json"]);
    service.kill();
    let words = ["cannot read s3://outage/ticks/manifest.json", "check the network"];
    stored.refuse("serve --data data --listen 127.0.0.1:0", &words);
    proxy.accept();
    // Half a commit counts for nothing: what it should have brought is in the log alone.
    let report = stored.ok("verify bars --data data --json").json();
    assert_eq!((&report["rows"], &report["differences"]), (&ROWS.into(), &0.into()), "{report}");
    let service = stored.serve("--listen 127.0.0.1:0");
    let report = place.publish("more.csv", &service, "").end().succeeded().json();
    assert_eq!((&report["accepted"], &report["conflicting"]), (&ROWS.into(), &0.into()));
    service.stop();
    assert_eq!(stored.hash("bars --data data"), place.hash("bars --file ticks.csv more.csv"));
    stored.ok("verify bars --data data");
}

#[test]
fn damage_and_wrong_settings_of_a_store_are_named() {
    let Some((mut stored, proxy)) = Stored::new("damage") else { return };
    stored.place.write("a.csv", csv(&ticks(77, 1_000, 0)));
    let import = "import a.csv --stream trades --data data --store";
    stored.refuse(&format!("{import} s3://no-such-bucket/x"), &["the bucket does not exist"]);
    stored.ok(&format!("{import} {}", stored.url));
    let names = files_of(&stored, "stream=trades");
    let [name] = names.as_slice() else { panic!("{names:?}") };
    server::shared().expect("it runs").put("damage", name, &[7; 300]);
    let words = [&*format!("s3://damage/{name} is damaged"), "it has 300 bytes instead of"];
    stored.refuse("scan bars --data data --hash", &words);
    server::shared().expect("it runs").put("damage", "ticks/manifest.json", b"{");
    stored.refuse("scan bars --data data --hash", &["manifest.json is damaged"]);
    std::fs::remove_file(stored.place.path("data/store.toml")).expect("it is there");
    stored.refuse("scan bars --data data --hash", &["data/format", "store.toml is missing"]);

    let Some(guarded) = server::guarded(1) else { return };
    guarded.make_bucket("guarded");
    stored.variables = guarded.variables();
    let words = ["s3://guarded/x/manifest.json", "InvalidAccessKeyId", "AWS_SECRET_ACCESS_KEY"];
    stored.refuse("import a.csv --stream trades --data new --store s3://guarded/x", &words);
    drop(proxy);
}
