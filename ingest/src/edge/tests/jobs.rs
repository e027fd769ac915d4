//! Requests about jobs: the test is the service, and clients read, vanish or never read.

use std::thread;
use std::time::{Duration, Instant};

use isotick_wire::jobs::{Priority, Truth};
use isotick_wire::{
    Code, Control, FetchResult, Format, Hello, JobId, JobRequest, Kind, Refusal, ResultView, Role,
    SubmitJob, Token, windows,
};

use super::strangers::Raw;
use super::world::*;
use crate::access::{Access, JobOwner};
use crate::edge::IoChoice;
use crate::feed::{Closed, FEED_BYTES_MAX, Feed, FeedError};

fn id() -> JobId {
    JobId::new("j1").unwrap()
}

fn fetch(format: Format) -> JobRequest {
    JobRequest::Fetch(FetchResult { id: id(), partial: false, format })
}

async fn ask(world: &World, request: JobRequest) -> Raw {
    let mut raw = Raw::open(world).await;
    raw.control(Control::Hello(Hello::new(Role::Jobs(request)))).await;
    raw
}

fn reply(text: &str) -> Control {
    Control::JobsReply(text.into())
}

fn view() -> Control {
    Control::ResultView(ResultView { index: 0, view: "bars".into(), schema: schema_of_bars() })
}

/// Puts windows until the client is gone or everything is put.
fn put_result(feed: &Feed, batches: i64, windows: usize, format: Format) -> Result<(), FeedError> {
    feed.put_control(&reply("{\"state\":\"done\"}"))?;
    feed.put_control(&view())?;
    for at in 0..batches {
        let first = at as u64 * windows as u64;
        feed.put_windows(&batch(at, windows), first, &schema_of_bars(), format)?;
    }
    feed.put_control(&reply("{\"hash\":\"h\"}"))?;
    feed.finish();
    Ok(())
}

#[test]
fn a_request_comes_as_it_was_said_and_the_answer_goes_back() {
    for io in [IoChoice::Auto, IoChoice::Socket] {
        let world = world_with(|config| config.io = io);
        let submit = SubmitJob {
            from_ns: Some(5),
            truth: Truth::Seen,
            priority: Priority::new(9).unwrap(),
            ..SubmitJob::new(["bars", "flow"])
        };
        world.client.block_on(async {
            let mut raw = ask(&world, JobRequest::Submit(submit.clone())).await;
            let Asked { request, owner, feed } = world.asked();
            assert_eq!(request, JobRequest::Submit(submit));
            assert_eq!((owner.name.as_str(), owner.is_admin), (JobOwner::ANYONE, true));
            assert_eq!(world.edge.counters().job_sessions_open, 1);
            feed.put_control(&reply("{\"id\":\"j1\"}")).unwrap();
            assert_eq!(raw.answer().await, reply("{\"id\":\"j1\"}"));
            feed.finish();
            assert!(raw.message().await.is_none(), "the stream ends");
        });
        world.eventually("the session is over", |world| {
            world.edge.counters().job_sessions_open == 0
        });
    }
}

#[test]
fn a_watch_gets_every_message_while_it_lasts() {
    let world = world();
    world.client.block_on(async {
        let mut raw = ask(&world, JobRequest::Watch(id())).await;
        let Asked { feed, .. } = world.asked();
        for step in 0..50 {
            let said = reply(&format!("{{\"step\":{step}}}"));
            assert!(feed.try_put_control(&said).unwrap());
            assert_eq!(raw.answer().await, said);
        }
        feed.finish();
        assert!(raw.message().await.is_none());
    });
}

#[test]
fn a_result_larger_than_what_may_wait_comes_whole_and_in_order() {
    const BATCHES: i64 = 60;
    const WINDOWS: usize = 10_000;
    let world = world();
    for format in [Format::Windows, Format::Arrow] {
        world.client.block_on(async {
            let mut raw = ask(&world, fetch(format)).await;
            let Asked { feed, .. } = world.asked();
            let putting = thread::spawn(move || put_result(&feed, BATCHES, WINDOWS, format));
            assert_eq!(raw.answer().await, reply("{\"state\":\"done\"}"));
            assert_eq!(raw.answer().await, view());
            let (mut cursor, all) = (0, BATCHES as u64 * WINDOWS as u64);
            let mut got = Vec::new();
            while cursor < all {
                let message = raw.message().await.unwrap();
                if format == Format::Arrow {
                    assert_eq!(message.kind, Kind::Arrow);
                    let next = u64::from_le_bytes(message.payload[..8].try_into().unwrap());
                    assert!(next > cursor && next <= all);
                    cursor = next;
                } else {
                    let batch = windows::decode(&message.payload, 1).unwrap();
                    cursor += batch.windows.len() as u64;
                    assert_eq!(batch.next_cursor, cursor);
                    got.extend(batch.windows);
                }
            }
            if format == Format::Windows {
                let sent: Vec<_> = (0..BATCHES).flat_map(|at| batch(at, WINDOWS)).collect();
                assert!(got == sent, "windows are missing or changed");
            }
            assert_eq!(raw.answer().await, reply("{\"hash\":\"h\"}"));
            assert!(raw.message().await.is_none());
            putting.join().unwrap().unwrap();
        });
    }
    assert_eq!(world.edge.counters().job_bytes, 0);
}

#[test]
fn a_client_that_vanishes_in_the_middle_of_a_result_frees_who_writes_it() {
    let world = world();
    world.client.block_on(async {
        // One leaves politely, one stops reading the stream, one is just gone.
        for way in 0..3 {
            let mut raw = ask(&world, fetch(Format::Windows)).await;
            let Asked { feed, .. } = world.asked();
            let putting = thread::spawn(move || {
                let put = put_result(&feed, 10_000, 10_000, Format::Windows);
                (put, feed.is_closed())
            });
            assert_eq!(raw.answer().await, reply("{\"state\":\"done\"}"));
            raw.message().await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(!putting.is_finished(), "everything was put before it left");
            assert!(world.edge.counters().job_bytes > 0);
            match way {
                0 => raw.connection.close(0u32.into(), b"enough"),
                1 => raw.stop(),
                _ => raw.endpoint.close(0u32.into(), b""),
            }
            let (put, is_closed) = putting.join().unwrap();
            assert!(matches!(put, Err(FeedError::Closed(Closed))), "{way}: {put:?}");
            assert!(is_closed);
        }
    });
    world.eventually("nothing is kept", |world| {
        let counters = world.edge.counters();
        (counters.job_sessions_open, counters.job_bytes) == (0, 0)
    });
}

#[test]
fn a_client_that_never_reads_is_sent_away_and_others_do_not_wait_for_it() {
    let world = world_with(|config| config.job_timeout = Duration::from_millis(500));
    world.client.block_on(async {
        let slow = ask(&world, fetch(Format::Windows)).await;
        let Asked { feed, .. } = world.asked();
        let began = Instant::now();
        let putting = thread::spawn(move || put_result(&feed, 10_000, 10_000, Format::Windows));
        let mut other = ask(&world, JobRequest::List).await;
        let Asked { feed, .. } = world.asked();
        feed.put_control(&reply("{\"jobs\":[]}")).unwrap();
        feed.finish();
        assert_eq!(other.answer().await, reply("{\"jobs\":[]}"));
        assert!(world.edge.counters().job_bytes <= 2 * FEED_BYTES_MAX as u64);
        let put = putting.join().unwrap();
        assert!(matches!(put, Err(FeedError::Closed(Closed))), "{put:?}");
        assert!(began.elapsed() >= Duration::from_millis(450), "{:?}", began.elapsed());
        let closed = slow.connection.closed().await;
        let quinn::ConnectionError::ApplicationClosed(close) = closed else { panic!("{closed:?}") };
        assert_eq!(close.error_code.into_inner(), u64::from(Code::TooSlow.number()));
    });
    assert_eq!(world.edge.counters().too_slow, 1);
}

#[test]
fn refusals_come_before_or_in_the_middle_and_silence_of_the_service_is_one() {
    let world = world();
    world.client.block_on(async {
        let mut raw = ask(&world, JobRequest::Show(id())).await;
        let unknown = Refusal::new(Code::UnknownJob, "there is no job j1");
        world.asked().feed.refuse(unknown.clone());
        assert_eq!(raw.answer().await, Control::Refusal(unknown));

        let mut raw = ask(&world, fetch(Format::Windows)).await;
        let Asked { feed, .. } = world.asked();
        feed.put_control(&view()).unwrap();
        assert_eq!(raw.answer().await, view());
        let failed = Refusal::new(Code::JobFailed, "the file x is damaged");
        feed.refuse(failed.clone());
        assert_eq!(raw.answer().await, Control::Goodbye(failed));

        let mut raw = ask(&world, JobRequest::List).await;
        drop(world.asked());
        assert_eq!(raw.end().await, Code::Unavailable);
        // Nothing more may be said after the request.
        let mut raw = ask(&world, JobRequest::Watch(id())).await;
        let Asked { feed, .. } = world.asked();
        raw.bytes(&[0, 0, 0, 0, 1]).await;
        assert_eq!(raw.end().await, Code::Protocol);
        world.eventually("the feed knows", |_| feed.is_closed());
    });
}

#[test]
fn the_number_of_requests_is_bounded() {
    let world = world_with(|config| config.job_sessions_max = 2);
    world.client.block_on(async {
        let first = ask(&world, JobRequest::Watch(id())).await;
        let second = ask(&world, JobRequest::Watch(id())).await;
        let feeds = [world.asked().feed, world.asked().feed];
        let mut third = ask(&world, JobRequest::List).await;
        assert_eq!(third.end().await, Code::Busy);
        drop((first, second));
        world.eventually("the others left", |_| feeds.iter().all(|feed| feed.is_closed()));
        let _fourth = ask(&world, JobRequest::List).await;
        world.asked();
    });
    assert_eq!(world.edge.counters().job_sessions_refused, 1);
}

#[test]
fn who_may_not_scan_is_refused_before_the_service_hears_of_it() {
    let world = world_with(|config| {
        let text = format!(
            "[token.reader]\nsha256 = \"{}\"\nsubscribe = [\"*\"]\n\
             [token.quant]\nsha256 = \"{}\"\nscan = true\n",
            hex_sha256("r"),
            hex_sha256("q"),
        );
        config.gate.replace(Access::parse(&text, "access.toml").unwrap());
    });
    world.client.block_on(async {
        for request in [JobRequest::Submit(SubmitJob::new(["bars"])), JobRequest::List] {
            let role = Role::Jobs(request);
            let mut raw = Raw::open(&world).await;
            raw.control(Control::Hello(Hello { role: role.clone(), token: Token::new("r") })).await;
            assert_eq!(raw.end().await, Code::Forbidden);
            let mut raw = Raw::open(&world).await;
            raw.control(Control::Hello(Hello { role, token: Token::new("q") })).await;
            let Asked { owner, .. } = world.asked();
            assert_eq!((owner.name.as_str(), owner.is_admin), ("quant", false));
        }
    });
    assert_eq!(world.edge.counters().sessions_forbidden, 2);
}

fn hex_sha256(text: &str) -> String {
    let digest = crate::certificates::sha256(text.as_bytes());
    crate::certificates::hex(digest.as_ref())
}
