//! Jobs in a service, asked for without a network.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use isotick_ingest::feed::Seen;
use isotick_ingest::{EdgeConfig, Feed, Granted, JobOwner};
use isotick_kernels::ResultHasher;
use isotick_model::LogPosition;
use isotick_model::definitions::{Definitions, template};
use isotick_model::results::{ResultSchema, WindowRow};
use isotick_storage::{Snapshot, Store};
use isotick_wire::{
    Assembler, Code, Control, FetchResult, Format, JobId, JobRequest, Kind, Refusal, SubmitJob,
    windows,
};
use serde_json::Value;

use super::{Message, Request};
use crate::cli::{EngineChoice, JobsArgs, SecurityArgs, StorageArgs};
use crate::engines;
use crate::market::{Market, START_NS};
use crate::rollups::{self, Stored};
use crate::scanning;
use crate::security::Security;
use crate::service::{Options, Service};

mod device;

/// A data folder with history, and what starts a service on it.
struct World {
    dir: tempfile::TempDir,
    definitions: Definitions,
}

impl World {
    /// So many ticks of the market in each of some commits.
    fn new(commits: usize, ticks: usize) -> Self {
        Self::of(template::EXAMPLE, commits, ticks)
    }

    /// The same with definitions of its own.
    fn of(definitions: &str, commits: usize, ticks: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let definitions = Definitions::parse(definitions, "example").unwrap();
        let world = Self { dir, definitions };
        let mut store = Store::open(&world.path(), "test").unwrap();
        store.folder().put_definitions(&world.definitions.to_toml()).unwrap();
        let schema = world.definitions.stream("trades").unwrap();
        let mut market = Market::new(1);
        for _ in 0..commits {
            let mut commit = store.begin();
            commit.add_imported(schema, &[market.next_ticks(ticks)]).unwrap();
            commit.finish().unwrap();
        }
        world
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn serve(&self, jobs: JobsArgs) -> Service {
        Service::start(self.options(jobs)).unwrap()
    }

    fn options(&self, jobs: JobsArgs) -> Options {
        Options {
            data: self.path(),
            store: None,
            edge: EdgeConfig::new(([127, 0, 0, 1], 0).into()),
            memory_bytes_max: 64 << 20,
            engine: EngineChoice::Cpu,
            definitions: self.definitions.clone(),
            idle_after: Duration::from_secs(10),
            storage: StorageArgs { compact_share: 0.0, ..StorageArgs::default() },
            jobs,
            security: Security::new(&self.path(), SecurityArgs::default()),
            command: "test",
        }
    }

    /// What a scan of the folder gives.
    fn hash(&self, submit: &SubmitJob) -> String {
        let snapshot = Snapshot::open(&self.path()).unwrap();
        let view = self.definitions.view(&submit.views[0]).unwrap();
        let schema = self.definitions.stream(&view.stream).unwrap();
        let mut scan = scanning::whole(view, schema, isotick_kernels::Truth::Now);
        (scan.from_ns, scan.to_ns) = (submit.from_ns, submit.to_ns);
        scan.keys.clone_from(&submit.keys);
        let folder = scanning::folder_parts(&snapshot, &scan, Stored::Ticks, true).unwrap();
        let engines = engines::open(EngineChoice::Cpu, None).unwrap();
        let run = scanning::run(&scan, folder.parts, None, engines, &mut |_| Ok(()));
        run.unwrap().hash.to_string()
    }
}

/// What a request was answered with.
struct Answer {
    jobs: Vec<Value>,
    rows: Vec<WindowRow>,
    refused: Option<Refusal>,
}

impl Answer {
    fn last(&self) -> &Value {
        self.jobs.last().expect("it was answered with a job")
    }
}

fn ask(service: &Service, request: JobRequest) -> Answer {
    let (feed, seen) = Feed::detached();
    let owner = JobOwner::from(Granted::everything());
    let log_end: LogPosition = service.shared.log_next();
    let request = Request { request, owner, feed, log_end, last_ticks: None };
    service.scans.sender().send(Message::Request(Box::new(request))).unwrap();
    let mut answer = Answer { jobs: Vec::new(), rows: Vec::new(), refused: None };
    let mut columns = 0;
    let since = Instant::now();
    loop {
        match seen.next() {
            Seen::Nothing => {
                assert!(since.elapsed() < Duration::from_secs(60), "no answer came");
                std::thread::sleep(Duration::from_millis(1));
            }
            Seen::Message(bytes) => {
                let mut assembler = Assembler::default();
                assembler.feed(&bytes);
                let message = assembler.next().unwrap().unwrap();
                match message.kind {
                    Kind::Control => match Control::decode(&message.payload).unwrap() {
                        Control::JobsReply(json) => {
                            answer.jobs.push(serde_json::from_str(&json).unwrap());
                        }
                        Control::ResultView(view) => columns = view.schema.columns.len(),
                        other => panic!("{other:?}"),
                    },
                    Kind::Windows => {
                        let batch = windows::decode(&message.payload, columns).unwrap();
                        answer.rows.extend(batch.windows.into_iter().map(|window| window.row));
                    }
                    other => panic!("{other:?}"),
                }
            }
            Seen::End => return answer,
            Seen::Refused(refusal) => {
                answer.refused = Some(refusal);
                return answer;
            }
        }
    }
}

fn submit(service: &Service, submit: &SubmitJob) -> JobId {
    let answer = ask(service, JobRequest::Submit(submit.clone()));
    assert_eq!(answer.refused, None);
    JobId::new(answer.last()["id"].as_str().unwrap()).unwrap()
}

fn wait(service: &Service, id: &JobId) -> Value {
    ask(service, JobRequest::Watch(id.clone())).last().clone()
}

fn fetch(service: &Service, id: &JobId, partial: bool) -> Answer {
    let fetch = FetchResult { id: id.clone(), partial, format: Format::Windows };
    ask(service, JobRequest::Fetch(fetch))
}

fn hash_of(schema: &ResultSchema, rows: &[WindowRow]) -> String {
    isotick_kernels::result_hash(schema, rows).to_string()
}

fn few_threads() -> JobsArgs {
    JobsArgs { scan_threads: std::num::NonZeroUsize::new(2), ..JobsArgs::default() }
}

#[test]
fn a_job_gives_what_a_scan_gives_and_is_the_same_when_asked_again() {
    let world = World::new(3, 200_000);
    let service = world.serve(few_threads());
    let minute = 60_000_000_000;
    let mut asked = vec![SubmitJob::new(["bars_1s"]), SubmitJob::new(["bars_1m"])];
    asked.push(SubmitJob {
        from_ns: Some(START_NS + 7 * minute / 3),
        to_ns: Some(START_NS + 20 * minute / 3),
        ..SubmitJob::new(["bars_1s"])
    });
    let keys = Market::new(1).next_ticks(1000).keys;
    asked.push(SubmitJob { keys: keys[5..9].to_vec(), ..SubmitJob::new(["bars_1s"]) });
    for asked in &asked {
        let id = submit(&service, asked);
        // Those that come while it runs are given each window once.
        let mut partial = fetch(&service, &id, true);
        let done = wait(&service, &id);
        assert_eq!(done["state"], "done", "{done}");
        let expected = world.hash(asked);
        assert_eq!(done["views"][0]["hash"], *expected);
        let view = world.definitions.view(&asked.views[0]).unwrap();
        let schema = ResultSchema::of(view);
        let whole = fetch(&service, &id, false);
        assert_eq!(whole.refused, None);
        assert_eq!(whole.rows.len() as u64, done["views"][0]["windows"].as_u64().unwrap());
        assert_eq!(hash_of(&schema, &whole.rows), expected);
        partial.rows.sort_by(|a, b| (&a.key, a.window_start).cmp(&(&b.key, b.window_start)));
        assert_eq!(hash_of(&schema, &partial.rows), expected);
        assert_eq!(partial.last()["views"][0]["hash"], *expected);
        // The file for other tools.
        let path = world.path().join("jobs").join(id.as_str()).join("result-0.parquet");
        let mut hasher = ResultHasher::new(&schema);
        for rows in isotick_storage::read_results(&path, &schema).unwrap() {
            hasher.push(&isotick_kernels::EncodedRows::of(schema.columns.len(), &rows.unwrap()));
        }
        assert_eq!(hasher.finish().to_string(), expected);

        let again = ask(&service, JobRequest::Submit(asked.clone()));
        assert_eq!(again.last()["id"], id.as_str());
        assert_eq!(
            (&again.last()["state"], &again.last()["cached"]),
            (&"done".into(), &true.into())
        );
    }
    let fresh = SubmitJob { no_rollup: true, ..asked[0].clone() };
    let id = submit(&service, &fresh);
    assert_eq!(wait(&service, &id)["views"][0]["hash"], *world.hash(&asked[0]));
    let again = ask(&service, JobRequest::Submit(fresh));
    assert_eq!(again.last()["cached"], false, "what is asked to be computed is");
    service.stop().unwrap();
}

#[test]
fn jobs_that_are_cut_off_go_on_where_they_were() {
    let world = World::new(4, 400_000);
    let asked = SubmitJob::new(["bars_1s"]);
    let expected = world.hash(&asked);
    let slow = || JobsArgs { scan_threads: std::num::NonZeroUsize::new(1), ..JobsArgs::default() };
    let mut service = world.serve(slow());
    let id = submit(&service, &asked);
    let (mut stops, mut went_on) = (0, 0);
    let done = loop {
        let job = ask(&service, JobRequest::Show(id.clone())).last().clone();
        if job["state"] == "done" {
            break job;
        }
        let parts = job["parts"]["done"].as_u64().unwrap();
        if parts > went_on {
            went_on = parts;
            stops += 1;
            service.stop().unwrap();
            service = world.serve(slow());
            let job = ask(&service, JobRequest::Show(id.clone())).last().clone();
            assert!(!job["state"].is_null(), "{job}");
        }
    };
    assert!(stops > 2, "it was cut off while it ran");
    assert_eq!(done["views"][0]["hash"], *expected);
    assert_eq!(done["rows_read"], 1_600_000, "every tick was read once: {done}");
    service.stop().unwrap();
}

#[test]
fn a_job_over_a_damaged_file_fails_alone_and_goes_on_when_it_is_mended() {
    let world = World::new(2, 100_000);
    let folder = world.path().join("stream=trades");
    let date = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let file = std::fs::read_dir(date).unwrap().next().unwrap().unwrap().path();
    let good = std::fs::read(&file).unwrap();
    let mut bad = good.clone();
    for byte in &mut bad[1000..200_000] {
        *byte ^= 0x55;
    }
    std::fs::write(&file, &bad).unwrap();
    let service = world.serve(few_threads());
    let asked = SubmitJob::new(["bars_1m"]);
    let id = submit(&service, &asked);
    let failed = wait(&service, &id);
    assert_eq!(failed["state"], "failed");
    let error = failed["error"].as_str().unwrap();
    assert!(error.contains(file.file_name().unwrap().to_str().unwrap()), "{error}");
    let refused = fetch(&service, &id, false).refused.unwrap();
    assert_eq!(refused.code, Code::JobFailed);
    assert!(refused.text.contains(error), "{refused}");
    // Another one is not touched by it.
    let none = SubmitJob { to_ns: Some(START_NS - 3_600_000_000_000), ..asked.clone() };
    let other = submit(&service, &none);
    assert_eq!(wait(&service, &other)["state"], "done");

    std::fs::write(&file, &good).unwrap();
    let retried = ask(&service, JobRequest::Retry(id.clone()));
    assert_eq!(retried.refused, None);
    let done = wait(&service, &id);
    assert_eq!(done["views"][0]["hash"], *world.hash(&asked), "{done}");
    service.stop().unwrap();
}

#[test]
fn a_job_is_cancelled_at_once_and_may_begin_anew() {
    let world = World::new(4, 400_000);
    let service = world.serve(few_threads());
    let asked = SubmitJob::new(["bars_1s"]);
    let id = submit(&service, &asked);
    let since = Instant::now();
    let cancelled = ask(&service, JobRequest::Cancel(id.clone()));
    assert!(since.elapsed() < Duration::from_millis(100), "{:?}", since.elapsed());
    assert_eq!(cancelled.last()["state"], "cancelled");
    let refused = fetch(&service, &id, false).refused.unwrap();
    assert_eq!(refused.code, Code::JobFailed);
    // Asked for again, it is begun again.
    assert_eq!(submit(&service, &asked), id);
    assert_eq!(wait(&service, &id)["views"][0]["hash"], *world.hash(&asked));
    let unknown = ask(&service, JobRequest::Show(JobId::new("0123").unwrap()));
    assert_eq!(unknown.refused.unwrap().code, Code::UnknownJob);
    service.stop().unwrap();
}

#[test]
fn jobs_that_read_the_same_share_their_reads() {
    let world = World::new(3, 300_000);
    let service = world.serve(few_threads());
    let minute = 60_000_000_000;
    let asked: Vec<SubmitJob> = (0..8)
        .map(|n| SubmitJob {
            from_ns: (n > 0).then_some(START_NS + n * minute / 2),
            ..SubmitJob::new([if n % 2 == 0 { "bars_1s" } else { "bars_1m" }])
        })
        .collect();
    let ids: Vec<JobId> = asked.iter().map(|asked| submit(&service, asked)).collect();
    for (asked, id) in asked.iter().zip(&ids) {
        assert_eq!(wait(&service, id)["views"][0]["hash"], *world.hash(asked));
    }
    // The status shows where jobs stood a moment ago.
    let since = Instant::now();
    while service.shared.to_json()["lanes"]["shared_reads"].as_u64() == Some(0) {
        assert!(since.elapsed() < Duration::from_secs(10), "{}", service.shared.to_json()["lanes"]);
        std::thread::sleep(Duration::from_millis(50));
    }
    let list = ask(&service, JobRequest::List);
    assert_eq!(list.last()["jobs"].as_array().unwrap().len(), 8);
    service.stop().unwrap();
}

#[test]
fn a_job_of_many_views_computes_some_at_a_time_and_goes_on_so_after_a_restart() {
    let views: Vec<String> = (1..=12).map(|n| format!("bars_{n}0s")).collect();
    let declared = views.iter().zip(1..).map(|(name, n)| {
        format!(
            "\n[view.{name}]\nstream = \"trades\"\nwindow = {{ tumbling = \"{n}0s\" }}\n\
             aggregates = [\"ohlc(price)\", \"volume = sum(size)\"]\n"
        )
    });
    let declared: String = declared.collect();
    let world = World::of(&format!("{}{declared}", template::EXAMPLE), 1, 400_000);
    let service = world.serve(few_threads());
    let asked = SubmitJob { no_rollup: true, ..SubmitJob::new(views.clone()) };
    let id = submit(&service, &asked);
    let since = Instant::now();
    while ask(&service, JobRequest::Show(id.clone())).last()["parts"]["done"] == 0 {
        assert!(since.elapsed() < Duration::from_secs(60), "nothing comes");
    }
    service.stop().unwrap();
    let service = world.serve(few_threads());
    let done = wait(&service, &id);
    // Four row groups, three times four views.
    assert_eq!((&done["state"], &done["parts"]["total"]), (&"done".into(), &12.into()), "{done}");
    assert_eq!(done["rows"], serde_json::json!({ "done": 400_000, "total": 400_000 }));
    assert_eq!(done["rows_read"], 400_000);
    for (number, view) in views.iter().enumerate() {
        assert_eq!(done["views"][number]["hash"], *world.hash(&SubmitJob::new([view.as_str()])));
    }
    service.stop().unwrap();
}

#[test]
fn what_is_wrong_with_a_request_is_said() {
    let world = World::new(1, 1000);
    let service = world.serve(few_threads());
    let cases = [
        (
            SubmitJob::new(["bars_9s"]),
            Code::UnknownView,
            "there is no view `bars_9s`; declared are:",
        ),
        (
            SubmitJob { from_ns: Some(2), to_ns: Some(1), ..SubmitJob::new(["bars_1s"]) },
            Code::InvalidRequest,
            "`from` is not before `to`",
        ),
        (
            SubmitJob {
                keys: vec![isotick_model::Key::from_components(["A", "B"])],
                ..SubmitJob::new(["bars_1s"])
            },
            Code::InvalidRequest,
            "the stream's key has 1 columns",
        ),
    ];
    for (asked, code, text) in cases {
        let refused = ask(&service, JobRequest::Submit(asked)).refused.unwrap();
        assert_eq!(refused.code, code);
        assert!(refused.text.contains(text), "{refused}");
    }
    service.stop().unwrap();
}

#[test]
fn stored_states_stand_for_ticks_unless_ticks_are_asked_for() {
    let world = World::new(3, 200_000);
    let view = world.definitions.view("bars_1m").unwrap();
    let schema = world.definitions.stream("trades").unwrap();
    let base = rollups::stored_base(view, schema).unwrap();
    let mut store = Store::open(&world.path(), "test").unwrap();
    let work = store.plan_rollup(schema, &base, |_| true).unwrap();
    let rolled = rollups::reduce(&work, schema, &mut |_| Ok(())).unwrap();
    assert_eq!(store.commit_rolled(vec![rolled]).unwrap(), 1);
    // Both hold the folder.
    drop((work, store));
    let expected = world.hash(&SubmitJob::new(["bars_1m"]));
    let service = world.serve(few_threads());
    for (no_rollup, from_states) in [(false, 200_000), (true, 0)] {
        let asked = SubmitJob { no_rollup, ..SubmitJob::new(["bars_1m"]) };
        let id = submit(&service, &asked);
        let done = wait(&service, &id);
        assert_eq!(done["views"][0]["hash"], *expected, "{done}");
        assert_eq!(done["rows_from_states"], from_states);
        assert_eq!(done["rows_read"], 600_000 - from_states);
    }
    service.stop().unwrap();
}
