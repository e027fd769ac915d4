use std::time::Duration;

use isotick_model::Key;
use isotick_wire::Code;

use super::*;
use crate::fake::{Fake, Manners, made, schema, window};

#[allow(dead_code)]
#[path = "../../examples/scan.rs"]
mod example;

/// A service with ten windows.
fn service(manners: Manners) -> (Fake, Jobs) {
    let service = Fake::with(made(), None, manners);
    service.kept.lock().unwrap().windows.extend((0..10).map(window));
    let options = Options { timeout: Duration::from_millis(500), ..Options::default() };
    let jobs = Jobs::at(service.address.to_string(), &options);
    (service, jobs)
}

fn rows() -> Vec<WindowRow> {
    (0..10).map(|n| window(n).row).collect()
}

fn soon() -> Reconnect {
    Reconnect { wait_first: Duration::from_millis(5), ..Reconnect::default() }
}

#[tokio::test]
async fn the_same_submission_is_the_same_job() {
    let (_service, jobs) = service(Manners::default());
    let one = SubmitJob { from_ns: Some(5), ..SubmitJob::new(["bars"]) };
    let first = jobs.submit(&one).await.unwrap();
    assert_eq!((first.id.as_str(), first.state), ("job-0", JobState::Queued));
    assert!(first.json().contains("\"of_a_later_version\":[1,2]"), "{}", first.json());
    assert_eq!(jobs.submit(&SubmitJob::new(["bars"])).await.unwrap().id.as_str(), "job-1");
    assert_eq!(jobs.submit(&one).await.unwrap().id, first.id);
    let all = jobs.list().await.unwrap();
    let ids: Vec<_> = all.iter().map(|job| job.id.as_str()).collect();
    assert_eq!(ids, ["job-1", "job-0"]);
    assert_eq!(jobs.cancel(&first.id).await.unwrap().state, JobState::Cancelled);
    let error = jobs.wait(&first.id, soon(), |_| ()).await.unwrap_err();
    assert!(error.to_string().contains("isotick jobs retry job-0"), "{error}");
    assert_eq!(jobs.retry(&first.id).await.unwrap().state, JobState::Queued);
    assert_eq!(jobs.show(&first.id).await.unwrap().rows, Progress { done: 3, total: 3 });
    let none = jobs.show(&JobId::new("job-9").unwrap()).await.unwrap_err();
    assert!(matches!(&none, ClientError::Refused(r) if r.code == Code::UnknownJob), "{none}");
    assert!(!none.is_retryable());
}

#[tokio::test]
async fn a_watch_ends_with_the_job() {
    let (_service, jobs) = service(Manners::default());
    let id = jobs.submit(&SubmitJob::new(["bars"])).await.unwrap().id;
    let mut watch = jobs.watch(&id).await.unwrap();
    let mut states = Vec::new();
    while let Some(job) = watch.next().await.unwrap() {
        states.push(job.state);
    }
    use JobState::{Done, Queued, Running};
    assert_eq!(states, [Queued, Running, Running, Done]);
}

#[tokio::test]
async fn a_scan_is_submitted_watched_and_read_through_lost_connections() {
    // Each connection breaks after two steps, which the next begins anew.
    let (service, jobs) = service(Manners { cut_after: Some(2), ..Manners::default() });
    let scanning = tokio::spawn(async move {
        let what = SubmitJob::new(["bars", "flow"]);
        let mut steps = 0;
        let mut result = jobs.scan(&what, Format::Windows, soon(), |_| steps += 1).await.unwrap();
        let (mut views, mut got) = (Vec::new(), Vec::new());
        while let Some(item) = result.next().await.unwrap() {
            match item {
                ResultItem::View { index, view, schema: columns } => {
                    assert_eq!((index, columns), (views.len(), schema()));
                    views.push(view);
                }
                ResultItem::Windows(rows) => got.extend(rows),
                ResultItem::Arrow(_) => panic!("not asked for"),
            }
        }
        (views, got, steps, result.job().clone())
    });
    let hellos = |service: &Fake| service.kept.lock().unwrap().hellos;
    while hellos(&service) < 8 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let service = service.restart(Duration::from_millis(20), Manners::default()).await;
    let (views, got, steps, job) = scanning.await.unwrap();
    assert_eq!(views, ["bars", "flow"]);
    assert_eq!(got, [rows(), rows()].concat());
    assert!(steps > 8, "{steps}");
    assert_eq!((job.state, job.views[1].windows), (JobState::Done, Some(10)));
    assert_eq!(service.kept.lock().unwrap().jobs.len(), 1);
}

#[tokio::test]
async fn a_result_comes_as_arrow() {
    let (_service, jobs) = service(Manners::default());
    let what = SubmitJob::new(["bars"]);
    let mut result = jobs.scan(&what, Format::Arrow, soon(), |_| ()).await.unwrap();
    let mut streams = 0;
    while let Some(item) = result.next().await.unwrap() {
        match item {
            ResultItem::Arrow(bytes) => {
                assert_eq!(bytes[..4], [0xFF; 4], "an IPC stream begins so");
                streams += 1;
            }
            ResultItem::View { .. } => {}
            ResultItem::Windows(_) => panic!("not asked for"),
        }
    }
    assert_eq!(streams, 3);
}

#[tokio::test]
async fn a_result_that_is_cut_short_is_never_taken_for_whole() {
    let (_service, jobs) = service(Manners { cut_result: true, ..Manners::default() });
    let id = jobs.submit(&SubmitJob::new(["bars"])).await.unwrap().id;
    let fetch = FetchResult { id, partial: false, format: Format::Windows };
    let mut result = jobs.fetch(fetch).await.unwrap();
    assert!(matches!(result.next().await, Ok(Some(ResultItem::View { .. }))));
    assert!(matches!(result.next().await, Ok(Some(ResultItem::Windows(_)))));
    let error = result.next().await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("whole"), "{error}");
}

#[tokio::test]
async fn a_result_goes_on_where_the_connection_was_lost() {
    for format in [Format::Windows, Format::Arrow] {
        // Each connection ends after some windows.
        let (service, jobs) = service(Manners { cut_result: true, ..Manners::default() });
        let id = jobs.submit(&SubmitJob::new(["bars", "flow"])).await.unwrap().id;
        let fetch = FetchResult { id, partial: false, format };
        let fetching = tokio::spawn(async move {
            let mut result = jobs.fetch_through(fetch, soon()).await.unwrap();
            let (mut views, mut got, mut streams) = (Vec::new(), Vec::new(), 0);
            while let Some(item) = result.next().await.unwrap() {
                match item {
                    ResultItem::View { view, .. } => views.push(view),
                    ResultItem::Windows(rows) => got.extend(rows),
                    ResultItem::Arrow(_) => streams += 1,
                }
            }
            (views, got, streams)
        });
        let hellos = |service: &Fake| service.kept.lock().unwrap().hellos;
        while hellos(&service) < 5 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let _service = service.restart(Duration::from_millis(20), Manners::default()).await;
        let (views, got, streams) = fetching.await.unwrap();
        assert_eq!(views, ["bars", "flow"]);
        match format {
            Format::Windows => assert_eq!((got, streams), ([rows(), rows()].concat(), 0)),
            Format::Arrow => assert_eq!((got, streams), (Vec::new(), 6)),
        }
    }
}

#[tokio::test]
async fn a_failed_job_is_an_error_with_its_reason() {
    let (_service, jobs) = service(Manners::default());
    let what = SubmitJob::new(["broken"]);
    let error = jobs.scan(&what, Format::Windows, soon(), |_| ()).await.err().expect("it fails");
    let text = error.to_string();
    assert!(text.contains("x.parquet is damaged") && text.contains("retry job-0"), "{text}");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn too_many_keys_are_told_before_anything_is_sent() {
    let (service, jobs) = service(Manners::default());
    let key = |n: usize| Key::from_components([format!("{n:0>100}")]);
    let what = SubmitJob { keys: (0..20_000).map(key).collect(), ..SubmitJob::new(["bars"]) };
    let error = jobs.submit(&what).await.unwrap_err();
    assert!(matches!(error, ClientError::RequestTooLarge { bytes } if bytes > 1 << 20), "{error}");
    assert_eq!(service.kept.lock().unwrap().hellos, 0);
}

#[tokio::test]
async fn the_example_scans() {
    let (service, _) = service(Manners::default());
    let (mut told, mut got) = (0, Vec::new());
    let address = service.address.to_string();
    let job = example::scan(&address, "bars", |_| told += 1, |row| got.push(row)).await.unwrap();
    assert_eq!((job.state, got), (JobState::Done, rows()));
    assert_eq!(told, 5);
}

#[test]
fn a_job_is_read_leniently() {
    let full = r#"{"id":"a1","state":"running","owner":"q","owners":["q","r"],
        "views":[{"view":"bars","definition":"d","windows":1,"hash":"h"}],"from":null,"to":"t",
        "keys":[],"truth":"now","priority":5,"parts":{"done":3,"total":10},"rows":null,
        "bytes":{"done":1},"rows_per_s":1e6,"seconds":2,"remaining_seconds":null,"attempts":1,
        "error":null,"engines":{"cpu":123},"cached":null,"position":3,"new":{}}"#;
    let job = JobStatus::parse(full).unwrap();
    assert_eq!((job.state, job.position, job.cached), (JobState::Running, Some(3), false));
    assert_eq!((job.parts, job.rows), (Progress { done: 3, total: 10 }, Progress::default()));
    assert_eq!((job.engines["cpu"], job.seconds), (123, Some(2.0)));
    assert_eq!(job.views[0].windows, Some(1));
    let least = JobStatus::parse(r#"{"id":"a1","state":"dreaming"}"#).unwrap();
    assert_eq!(least.state, JobState::Unknown);
    assert!(!least.state.is_over());
    for wrong in ["", "[]", "{}", r#"{"id":"a b","state":"done"}"#, r#"{"id":1,"state":"done"}"#] {
        assert!(JobStatus::parse(wrong).is_err(), "{wrong}");
    }
    assert!(JobStatus::parse_list(r#"{"jobs":[{"id":"a"}]}"#).is_err());
    assert_eq!(JobStatus::parse_list(r#"{"jobs":[]}"#).unwrap(), []);
}

#[tokio::test]
async fn a_wrong_address_is_told_at_once() {
    let options = Options { timeout: Duration::from_millis(100), ..Options::default() };
    let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let jobs = Jobs::at(free.to_string(), &options);
    let error = jobs.run(&SubmitJob::new(["bars"]), soon(), |_| ()).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    let error = jobs.wait(&JobId::new("a").unwrap(), soon(), |_| ()).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
}
