//! Windows on their way to fast and slow subscribers.

use std::time::Duration;

use isotick_client::{ClientError, Options, Subscriber};
use isotick_wire::{Code, Control, Hello, Kind, Policy, Role, Subscribe, WindowBatch, windows};

use super::strangers::Raw;
use super::world::*;

#[test]
fn subscribers_get_every_batch_and_a_farewell() {
    let World { edge, windows, client, .. } = world();
    let address = edge.local_addr().to_string();
    client.block_on(async move {
        let options = Options::default();
        let mut bars = Subscriber::connect(&address, "bars", &options).await.unwrap();
        assert_eq!(*bars.schema(), schema_of_bars());
        let mut published = 0;
        for start in 0..20 {
            let sent = windows.publish(start, 10_000);
            published += sent.len() as u64;
            let (mut got, mut cursor) = (Vec::new(), 0);
            while got.len() < sent.len() {
                let batch = bars.next().await.unwrap();
                cursor = batch.next_cursor;
                got.extend(batch.windows);
            }
            assert_eq!((got, cursor), (sent, published));
        }
        std::thread::spawn(move || edge.shutdown(Duration::from_secs(5)));
        let error = bars.next().await.unwrap_err();
        assert!(matches!(&error, ClientError::Ended(r) if r.code == Code::ShuttingDown), "{error}");
        assert!(error.is_retryable());
    });
}

async fn subscribe(world: &World, policy: Policy) -> Raw {
    let mut raw = Raw::open(world).await;
    let role = Role::Subscribe(Subscribe { policy, ..Subscribe::new("bars") });
    raw.control(Control::Hello(Hello::new(role))).await;
    assert!(matches!(raw.answer().await, Control::SubscribeReply(_)));
    raw
}

/// The next batch, or the code of the end.
async fn next(raw: &mut Raw) -> Result<WindowBatch, Code> {
    let message = raw.message().await.expect("windows or an end");
    match message.kind {
        Kind::Windows => Ok(windows::decode(&message.payload, 1).unwrap()),
        _ => match Control::decode(&message.payload).unwrap() {
            Control::Goodbye(refusal) => Err(refusal.code),
            other => panic!("{other:?}"),
        },
    }
}

/// More than the client's window, the connection's buffer and the queue take together.
const ROUNDS: i64 = 200;
const KEYS: usize = 10_000;

#[test]
fn a_subscriber_that_does_not_read_is_disconnected_and_counted() {
    let world = world();
    world.client.block_on(async {
        let mut slow = subscribe(&world, Policy::Disconnect).await;
        (0..ROUNDS).for_each(|start| drop(world.windows.publish(start, KEYS)));
        let mut cursor = 0;
        let code = loop {
            match next(&mut slow).await {
                Ok(batch) => cursor = batch.next_cursor,
                Err(code) => break code,
            }
        };
        assert_eq!(code, Code::Lagged);
        assert!(cursor < ROUNDS as u64 * KEYS as u64);
    });
    assert_eq!(world.edge.counters().subscribers_lagged, 1);
    assert_eq!(world.windows.subscribers(), 0);
}

#[test]
fn a_subscriber_that_conflates_gets_the_newest_of_each_key() {
    let world = world();
    world.client.block_on(async {
        let mut slow = subscribe(&world, Policy::Conflate).await;
        (0..ROUNDS).for_each(|start| drop(world.windows.publish(start, KEYS)));
        let (mut cursor, mut got, mut newest) = (0, 0, 0);
        while cursor < ROUNDS as u64 * KEYS as u64 {
            let batch = next(&mut slow).await.unwrap();
            assert!(batch.next_cursor > cursor);
            cursor = batch.next_cursor;
            got += batch.windows.len() as u64;
            newest += batch.windows.iter().filter(|w| w.row.window_start == ROUNDS - 1).count();
        }
        let conflated = world.edge.counters().windows_conflated;
        assert_eq!((got + conflated, newest), (ROUNDS as u64 * KEYS as u64, KEYS));
        assert!(conflated > 0);
    });
}

#[test]
fn a_subscriber_that_blocks_gets_everything_and_the_service_waits() {
    let world = world();
    let windows = world.windows.clone();
    world.client.block_on(async {
        let mut slow = subscribe(&world, Policy::Block).await;
        let publishing =
            std::thread::spawn(move || (0..ROUNDS).for_each(|s| drop(windows.publish(s, KEYS))));
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!publishing.is_finished(), "the service did not wait");
        let mut cursor = 0;
        while cursor < ROUNDS as u64 * KEYS as u64 {
            let batch = next(&mut slow).await.unwrap();
            assert_eq!(batch.next_cursor, cursor + batch.windows.len() as u64);
            cursor = batch.next_cursor;
        }
        publishing.join().unwrap();
    });
    assert!(world.edge.counters().batches_blocked > 0);
    // One that never reads is waited for a bounded time, then sent away.
    let windows = world.windows.clone();
    world.client.block_on(async {
        let slow = subscribe(&world, Policy::Block).await;
        (0..ROUNDS).for_each(|start| drop(windows.publish(start, KEYS)));
        drop(slow);
    });
    assert_eq!(world.edge.counters().subscribers_lagged, 1);
}
