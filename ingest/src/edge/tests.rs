//! Edge and client over loopback, with a service in memory.

mod authorities;
mod jobs;
mod patience;
mod strangers;
mod subscribers;
mod world;

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use isotick_client::{ClientError, Level, Options, Publisher, Subscriber};
use isotick_model::{PublisherId, RejectReason, Rejected};
use isotick_wire::Code;

use self::world::*;
use super::*;
use crate::input::{Input, Welcome};
use crate::intake::intake;

#[test]
fn publishes_resumes_and_tells_repeats_from_conflicts() {
    for io in [IoChoice::Auto, IoChoice::Socket] {
        publish_and_resume(&world_with(|config| config.io = io));
    }
}

fn publish_and_resume(world: &World) {
    world.client.block_on(async {
        let (mut first, reply) = world.publisher().await;
        assert_eq!((reply.next_sequence, reply.definitions.as_str()), (0, "[stream.trades]"));
        assert!(first.peer().notice().unwrap().contains(&world.certificates.fingerprint));
        let rejected = [Rejected { sequence: 20_000, reason: RejectReason::Inexact }];
        first.send(&ticks(0..20_000, 0), &rejected).await.unwrap();
        let ack = first.wait(Level::Written, 20_001).await.unwrap();
        assert_eq!((ack.accepted, ack.received_through, ack.durable_through), (20_000, 20_001, 0));
        assert_eq!(ack.rejected.get(RejectReason::Inexact), 1);
        drop(first);

        let (mut second, reply) = world.publisher().await;
        assert_eq!(reply.next_sequence, 20_001);
        second.send(&ticks(19_000..20_000, 0), &rejected).await.unwrap();
        second.send(&ticks(19_500..20_000, 1), &[]).await.unwrap();
        second.send(&ticks(20_001..20_011, -100_000), &[]).await.unwrap();
        second.send(&ticks(20_011..20_021, 0), &[]).await.unwrap();
        let ack = second.finish().await.unwrap();
        assert_eq!((ack.duplicate, ack.conflicting), (1_001, 500));
        assert_eq!(ack.rejected.get(RejectReason::OutOfBounds), 10);
        assert_eq!((ack.accepted, ack.durable_through), (20_010, 20_021));

        let mut other = PublisherId::new("late").unwrap();
        let address = world.address();
        let (mut late, _) =
            Publisher::connect(&address, "trades", &other, &Options::default()).await.unwrap();
        late.send(&ticks(0..10, 0), &[]).await.unwrap();
        assert_eq!(late.finish().await.unwrap().late, 10, "the first publisher was far ahead");
        other = PublisherId::new("gaps").unwrap();
        let (mut gaps, _) =
            Publisher::connect(&address, "trades", &other, &Options::default()).await.unwrap();
        gaps.send(&ticks(10..20, 0), &[]).await.unwrap();
        gaps.send(&ticks(0..5, 0), &[]).await.unwrap();
        gaps.wait(Level::Received, 5).await.unwrap();
        let (gaps, reply) =
            Publisher::connect(&address, "trades", &other, &Options::default()).await.unwrap();
        assert_eq!((reply.next_sequence, reply.held), (5, vec![10..=19]));
        drop(gaps);
    });
}

#[test]
fn a_dropped_connection_leaves_and_a_finish_comes_before_it() {
    let world = world();
    world.client.block_on(async {
        let (mut dropped, _) = world.publisher().await;
        dropped.send(&ticks(0..10, 0), &[]).await.unwrap();
        dropped.wait(Level::Received, 10).await.unwrap();
    });
    assert_eq!(world.event(), Event::Joined);
    assert_eq!(world.event(), Event::Left);
    world.client.block_on(async { world.publisher().await.0.finish().await.unwrap() });
    assert_eq!(world.event(), Event::Joined);
    assert_eq!(world.event(), Event::Finished);
    assert_eq!(world.event(), Event::Left);
}

#[test]
fn what_is_unknown_is_refused_with_a_reason() {
    let world = world();
    world.client.block_on(async {
        let (address, options) = (world.address(), Options::default());
        let refused = Publisher::connect(&address, "quotes", &publisher(), &options).await;
        let error = refused.unwrap_err();
        assert!(error.to_string().contains("`quotes`") && error.to_string().contains("trades"));
        assert!(!error.is_retryable());
        let refused = Subscriber::connect(&address, "nothing", &options).await;
        assert!(matches!(refused, Err(ClientError::Refused(r)) if r.code == Code::UnknownView));
        let status = isotick_client::status(&address, &options).await.unwrap();
        assert_eq!(status, "{\"streams\":[]}");
        let definitions = isotick_client::definitions(&address, &options).await.unwrap();
        assert_eq!(definitions, "[stream.trades]");
    });
    assert_eq!(world.edge.counters().sessions_refused, 2);
}

#[test]
fn a_frame_that_breaks_the_protocol_ends_the_session_with_the_reason() {
    let world = world();
    world.client.block_on(async {
        let (mut publisher, _) = world.publisher().await;
        let mut strange = ticks(0..10, 0);
        strange.values.pop();
        publisher.send(&strange, &[]).await.unwrap();
        let error = publisher.wait(Level::Received, 10).await.unwrap_err();
        assert!(matches!(&error, ClientError::Ended(r) if r.code == Code::Protocol), "{error:?}");
        assert!(error.to_string().contains("value columns"), "{error}");
        let (mut publisher, reply) = world.publisher().await;
        assert_eq!(reply.next_sequence, 0);
        publisher.send(&ticks(1 << 40..(1 << 40) + 1, 0), &[]).await.unwrap();
        let error = publisher.wait(Level::Received, 1).await.unwrap_err();
        assert!(
            matches!(&error, ClientError::Ended(r) if r.code == Code::TooManyGaps),
            "{error:?}"
        );
    });
    assert_eq!(world.edge.counters().protocol_errors, 1);
    let events = std::iter::from_fn(|| Some(world.event()));
    assert!(events.take(4).any(|event| event == Event::Undecodable));
}

#[test]
fn garbage_datagrams_are_counted_and_harm_nothing() {
    let world = world();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut noise = 1u64;
    for length in 0..300usize {
        let garbage: Vec<u8> = (0..length * 4)
            .map(|_| {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (noise >> 56) as u8
            })
            .collect();
        socket.send_to(&garbage, world.edge.local_addr()).unwrap();
    }
    world.client.block_on(async {
        let (mut publisher, _) = world.publisher().await;
        publisher.send(&ticks(0..1_000, 0), &[]).await.unwrap();
        assert_eq!(publisher.finish().await.unwrap().accepted, 1_000);
    });
    let refused = world.edge.counters().datagrams_refused;
    assert!((250..=300).contains(&refused), "{refused} of 300 datagrams counted");
}

#[test]
fn certificates_are_pinned() {
    let world = world();
    world.client.block_on(async {
        let address = world.address();
        let pin = |fingerprint: &str| Options {
            fingerprint: Some(fingerprint.into()),
            ..Options::default()
        };
        let right = pin(&world.certificates.fingerprint);
        let (pinned, _) =
            Publisher::connect(&address, "trades", &publisher(), &right).await.unwrap();
        assert_eq!(pinned.peer().notice(), None);
        let wrong = "ab".repeat(32);
        let refused = isotick_client::status(&address, &pin(&wrong)).await.unwrap_err();
        let text = refused.to_string();
        assert!(text.contains(&wrong) && text.contains(&world.certificates.fingerprint), "{text}");
        assert!(!refused.is_retryable());
    });
    world.eventually("a failed handshake is counted", |world| {
        world.edge.counters().handshakes_failed > 0
    });
}

#[test]
fn addresses_that_cannot_be_listened_on_are_named() {
    let world = world();
    let start = |listen| {
        let (intake, _inputs) = intake(1);
        let (config, stages) = (EdgeConfig::new(listen), Arc::default());
        Edge::start(&config, &world.certificates, intake, stages).unwrap_err()
    };
    let taken = world.edge.local_addr();
    let error = start(taken);
    assert!(matches!(error, EdgeError::AddressInUse { .. }), "{error:?}");
    assert!(error.to_string().contains(&taken.to_string()), "{error}");
    let error = start("192.0.2.1:7100".parse().unwrap());
    assert!(matches!(error, EdgeError::AddressNotAvailable { .. }), "{error:?}");
}

#[test]
fn nobody_there_is_said_so() {
    let free = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options = Options { timeout: Duration::from_millis(300), ..Options::default() };
    let error = runtime.block_on(isotick_client::status(&free.to_string(), &options)).unwrap_err();
    assert!(error.to_string().contains("is `isotick serve` running there?"), "{error}");
    assert!(error.is_retryable());
    let error = runtime.block_on(isotick_client::status("nonsense", &options)).unwrap_err();
    assert!(matches!(error, ClientError::Address { .. }));
}

#[test]
fn rows_without_room_stop_the_publisher_and_go_on_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let certificates = crate::certificates::load_or_create(dir.path()).unwrap();
    let (intake, mut inputs) = intake(1 << 20);
    let config = EdgeConfig { pin: false, ..EdgeConfig::new((Ipv4Addr::LOCALHOST, 0).into()) };
    let held = intake.clone();
    let edge = Edge::start(&config, &certificates, intake, Arc::default()).unwrap();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let address = edge.local_addr().to_string();
    const FRAMES: u64 = 200;
    let sending = runtime.spawn(async move {
        let (mut sender, _) =
            Publisher::connect(&address, "trades", &publisher(), &Options::default())
                .await
                .unwrap();
        for frame in 0..FRAMES {
            let mut rows = ticks(frame * 8_192..(frame + 1) * 8_192, 0);
            // What does not pack: so much must not fit the windows.
            let noise = |&s: &u64| (s.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 1) as i64;
            rows.values[1].values = rows.sequence.iter().map(noise).collect();
            sender.send(&rows, &[]).await.unwrap();
        }
        sender
    });
    let mut taken = Vec::new();
    while taken.is_empty() {
        inputs.take(&mut taken, Duration::from_secs(10));
    }
    let Some(Input::PublisherHello { reply, outlet, .. }) = taken.pop() else { panic!() };
    reply.send(Ok(Welcome {
        next_sequence: 0,
        held: vec![],
        definitions: String::new(),
        columns: 2,
        ack: isotick_wire::Ack::default(),
        arrow: no_arrow(),
    }));
    // Nothing is let go: the budget is spent, the windows fill up and the publisher waits.
    std::thread::sleep(Duration::from_millis(500));
    assert!(!sending.is_finished(), "the publisher was not stopped");
    assert!(held.held_bytes() <= 1 << 20, "{} bytes of rows", held.held_bytes());
    let mut frames = 0;
    while frames < FRAMES {
        assert!(inputs.take(&mut taken, Duration::from_secs(10)) && !taken.is_empty());
        frames +=
            taken.drain(..).filter(|input| matches!(input, Input::Frame { .. })).count() as u64;
    }
    drop((runtime.block_on(sending), outlet));
    assert_eq!(frames, FRAMES);
}

#[test]
fn datagrams_are_taken_and_what_is_missing_is_lost_at_the_end() {
    let world = world();
    world.client.block_on(async {
        let mut raw = strangers::Raw::publish(&world, true).await;
        let (lost, sent) = (40u64..50, 100u64);
        for start in (0..sent).step_by(10) {
            if start != lost.start {
                raw.datagram(&ticks(start..start + 10, 0));
            }
        }
        raw.datagram(&ticks(0..10, 0));
        // What is no frame, and a session that does not exist.
        raw.connection.send_datagram(vec![1, 2, 3].into()).unwrap();
        raw.connection.send_datagram(vec![0x80].into()).unwrap();
        let ack = loop {
            let ack = raw.ack().await;
            if ack.accepted == 90 && ack.duplicate == 10 {
                break ack;
            }
        };
        assert_eq!((ack.received_through, ack.missing, ack.lost), (40, 10, 0));
        let ack = raw.finish(Some(sent)).await;
        assert_eq!((ack.accepted, ack.duplicate, ack.lost, ack.missing), (90, 10, 10, 0));
        assert_eq!((ack.received_through, ack.durable_through), (100, 100));
    });
    assert_eq!(world.edge.counters().tick_datagrams_refused, 2);
}

#[test]
fn a_connection_that_moves_goes_on_whichever_thread_its_packets_reach() {
    let world = world_with(|config| config.threads = 2);
    let rebinds = 12;
    world.client.block_on(async {
        let mut raw = strangers::Raw::publish(&world, false).await;
        for step in 0..rebinds {
            raw.endpoint.rebind(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).unwrap();
            raw.frame(&ticks(step * 100..(step + 1) * 100, 0)).await;
            while raw.ack().await.received_through < (step + 1) * 100 {}
        }
        assert_eq!(raw.finish(None).await.accepted, rebinds * 100);
    });
    if world.edge.description().contains("2 ingest threads") {
        let counters = world.edge.counters();
        assert!(counters.datagrams_forwarded > 0, "{counters:?}");
        assert_eq!(counters.connections_accepted, 1);
    }
}

#[test]
fn every_stage_at_the_edge_is_measured() {
    let world = world();
    world.client.block_on(async {
        let (mut publisher, _) = world.publisher().await;
        publisher.send(&ticks(0..1_000, 0), &[]).await.unwrap();
        publisher.finish().await.unwrap();
    });
    for stage in [crate::Stage::Receive, crate::Stage::Decode, crate::Stage::Batch] {
        let times = world.stages.times(stage);
        assert!(times.count >= 1 && times.max_ns > 0, "{stage:?}: {times:?}");
    }
}

#[test]
fn too_many_connections_are_refused_as_busy() {
    let world = world_with(|config| config.connections_max = 1);
    world.client.block_on(async {
        let (first, _) = world.publisher().await;
        let error =
            isotick_client::status(&world.address(), &Options::default()).await.unwrap_err();
        assert!(matches!(&error, ClientError::Refused(r) if r.code == Code::Busy), "{error:?}");
        assert!(error.is_retryable());
        drop(first);
    });
    assert_eq!(world.edge.counters().connections_refused, 1);
}

/// Prints rows per second through client, QUIC and sequencer; run with `--ignored --nocapture`.
#[test]
#[ignore = "measures; it checks nothing"]
fn speed() {
    let world = world();
    let rows = 5_000_000;
    let all = ticks(0..rows, 0);
    let started = std::time::Instant::now();
    world.client.block_on(async {
        let (mut publisher, _) = world.publisher().await;
        publisher.send(&all, &[]).await.unwrap();
        assert_eq!(publisher.finish().await.unwrap().accepted, rows);
    });
    println!("{:.2} M rows/s", rows as f64 / started.elapsed().as_secs_f64() / 1e6);
}
