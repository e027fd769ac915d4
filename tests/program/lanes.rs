//! Scans beside a live stream when things go wrong: kills in the middle, a flood, clients that
//! vanish, and jobs of others.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use isotick_client::{JobState, JobStatus, Jobs, Options, Reconnect, SubmitJob};

use super::crash::wait_for_ticks;
use super::{DEFINITIONS, Place, START_NS, Service, WITHIN, csv, ticks};

const ARCHIVE: &str = r#"
[stream.archive]
time    = "ts"
key     = "symbol"
columns = { price = { scale = 2, min = 0 }, size = { scale = 0 } }

[view.archived]
stream     = "archive"
window     = { tumbling = "1s" }
aggregates = ["ohlc(price)", "volume = sum(size)", "vwap = vwap(price, size)", "trades = count()"]
"#;

/// A folder with an archive of so many ticks in so many files, and the hash of its view.
fn place(archived: usize, files: usize) -> (Place, String) {
    let place = Place::new(&format!("{DEFINITIONS}{ARCHIVE}"));
    for (number, ticks) in ticks(11, archived, 200).chunks(archived / files).enumerate() {
        let name = format!("archive-{number}.csv");
        place.write(&name, csv(ticks));
        place.ok(&format!("import {name} --stream archive --data data"));
    }
    let hash = place.hash("archived --data data");
    (place, hash)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn jobs(service: &Service) -> Jobs {
    Jobs::at(&service.address, &Options::default())
}

/// Submissions that are all different, and all give the same.
fn whole(number: i64) -> SubmitJob {
    SubmitJob {
        from_ns: Some(START_NS - 1_000_000_000_000 - number),
        no_rollup: true,
        ..SubmitJob::new(["archived"])
    }
}

fn hash(job: &JobStatus) -> Option<&str> {
    job.views[0].hash.as_deref()
}

#[test]
fn ten_jobs_and_a_live_stream_outlive_kills() {
    const LIVE: usize = 24_000;
    const ARCHIVED: u64 = 3_000_000;
    let (place, expected) = place(ARCHIVED as usize, 30);
    place.write("live.csv", csv(&ticks(12, LIVE, 80)));
    let live = place.hash("bars --file live.csv");
    let client = runtime();
    // Files that are merged meanwhile would be read by one job and not by another.
    let more = "--scan-threads 1 --compact-share 0";
    let mut service = place.serve_with("data", &format!("--listen 127.0.0.1:0 {more}"));
    let publisher = place.publish("live.csv", &service, "--rate 12000/s --order file");
    wait_for_ticks(&place, &service, 0);
    let submitted = client.block_on(async {
        let mut ids = Vec::new();
        for number in 0..10 {
            ids.push(jobs(&service).submit(&whole(number)).await.expect("it is taken").id);
        }
        ids
    });
    let (mut kills, mut rows_before) = (0, 0);
    loop {
        let list = client.block_on(jobs(&service).list()).expect("they are listed");
        let over = list.iter().filter(|job| job.state.is_over()).count();
        if over == submitted.len() {
            break;
        }
        // Each kill comes when something was done since the one before.
        let rows: u64 = list.iter().map(|job| job.rows.done).sum();
        if kills < 8 && rows > rows_before {
            kills += 1;
            rows_before = rows;
            let address = service.address.clone();
            service.kill();
            service = place.serve_with("data", &format!("--listen {address} {more}"));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(kills > 0, "a kill came in the middle");
    for id in &submitted {
        let job = client.block_on(jobs(&service).show(id)).expect("it is known");
        assert_eq!((job.state, hash(&job)), (JobState::Done, Some(&*expected)), "{}", job.json());
    }
    // What was done before the last kill was not done again.
    let status = place.status(&service);
    let rows = status["lanes"]["rows"].as_u64().expect("a count");
    assert!(rows <= 10 * ARCHIVED - rows_before, "{rows} after {rows_before}");

    let report = publisher.end().succeeded().json();
    assert_eq!(report["durable_through"], LIVE, "{report}");
    service.stop();
    assert_eq!(place.hash("bars --data data"), live);
    place.verified("bars", "data");
}

#[test]
fn a_thousand_jobs_at_once_all_get_done() {
    let (place, expected) = place(30_000, 1);
    let service = place.serve_with("data", "--listen 127.0.0.1:0 --scans-running-max 8");
    let all = runtime().block_on(async {
        let jobs = jobs(&service);
        let mut waited = 0;
        let mut ids = BTreeSet::new();
        let mut under_way = tokio::task::JoinSet::new();
        for number in 0..1000 {
            let jobs = jobs.clone();
            under_way.spawn(async move { jobs.submit(&whole(number)).await });
            if under_way.len() >= 50 {
                let job = under_way.join_next().await.expect("some").expect("no panic");
                let job = job.expect("it is taken");
                waited += usize::from(job.position.is_some());
                ids.insert(job.id);
            }
        }
        while let Some(job) = under_way.join_next().await {
            ids.insert(job.expect("no panic").expect("it is taken").id);
        }
        assert_eq!(ids.len(), 1000, "every submission is a job of its own");
        assert!(waited > 0, "some waited in the queue");
        let started = Instant::now();
        loop {
            let list = jobs.list().await.expect("they are listed");
            let over = list.iter().filter(|job| job.state.is_over()).count();
            if over == 1000 {
                return list;
            }
            let queued = list.iter().filter_map(|job| job.position);
            let positions: BTreeSet<u64> = queued.clone().collect();
            assert_eq!(positions.len(), queued.count(), "no two have one place in the queue");
            assert!(started.elapsed() < 2 * WITHIN, "{over} of 1000 are done");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    for job in &all {
        assert_eq!((job.state, hash(job)), (JobState::Done, Some(&*expected)), "{}", job.json());
    }
    service.stop();
}

#[test]
fn a_client_that_vanishes_costs_nothing() {
    let (place, expected) = place(1_500_000, 1);
    let service = place.serve("data");
    let at = &service.address;
    let client = runtime();
    let job = client.block_on(async {
        let job = jobs(&service).submit(&whole(0)).await.expect("it is taken");
        jobs(&service).wait(&job.id, Reconnect::default(), |_| ()).await.expect("it is done")
    });
    for partial in ["", "--partial"] {
        for _ in 0..3 {
            let fetch =
                place.start(&format!("jobs fetch {} --at {at} --format csv {partial}", job.id));
            while fetch.out_so_far().is_empty() {
                std::thread::sleep(Duration::from_millis(1));
            }
            // SIGKILL, in the middle of its result.
            drop(fetch);
        }
    }
    let fetched = place.ok(&format!("jobs fetch {} --at {at} --hash", job.id));
    assert_eq!(fetched.out.trim(), expected);
    service.stop();
}

#[test]
fn jobs_are_their_owners_alone() {
    let (place, expected) = place(10_000, 1);
    for (name, rights) in [("ann", "--scan"), ("bob", "--scan"), ("root", "--admin")] {
        let token = place.ok(&format!("access add {name} {rights} --data data")).out;
        place.write(name, token.trim());
    }
    place.ok("access add pub --publish trades --data data");
    let service = place.serve("data");
    let ask = |who: &str, what: &str| {
        place.run(&format!("jobs {what} --at {} --token @{who}", service.address))
    };
    let submitted = ask("ann", "submit archived").succeeded();
    let id = submitted.out.trim();
    assert!(ask("ann", &format!("watch {id}")).succeeded().out.contains(&expected[..12]));
    for what in ["show", "fetch", "cancel", "retry", "watch"] {
        let ended = ask("bob", &format!("{what} {id}"));
        assert_eq!(ended.code, Some(1), "{ended}");
        assert!(ended.err.contains("there is no job"), "{ended}");
    }
    assert!(!ask("bob", "list").succeeded().out.contains(id));
    assert!(ask("root", "list").succeeded().out.contains(id));
    // The same submission by someone else is the same job, and his too.
    assert_eq!(ask("bob", "submit archived").succeeded().out.trim(), id);
    assert!(ask("bob", "list").succeeded().out.contains(id));
    service.stop();
}
