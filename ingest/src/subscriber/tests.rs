use isotick_model::results::{Value, WindowRow};
use isotick_model::view::OutputType;
use isotick_wire::VersionReason;

use super::*;
use crate::edge::mailbox;
use crate::input::SessionId;

fn schema() -> Arc<ResultSchema> {
    Arc::new(ResultSchema {
        keys: vec!["symbol".into()],
        columns: vec![("trades".into(), OutputType::Count)],
    })
}

fn window(key: &str, window_start: i64, version: u32) -> PublishedWindow {
    PublishedWindow {
        row: WindowRow {
            key: Key::from_components([key]),
            window_start,
            window_end: window_start + 1,
            version,
            values: vec![Value::Null],
        },
        reason: VersionReason::Closed,
    }
}

fn batch(next_cursor: u64, windows: Vec<PublishedWindow>) -> Arc<Batch> {
    Arc::new(Batch::new(windows, next_cursor, schema(), Instant::now()))
}

fn queue(policy: Policy, batches: usize) -> SubscriberQueue {
    let (mailbox, _wake) = mailbox().unwrap();
    let bytes_max = batches * batch(1, vec![window("A", 0, 1)]).bytes();
    let limits = QueueLimits { bytes_max, block_max: Duration::from_millis(20) };
    let outlet = Outlet::new(SessionId(1), &mailbox);
    let request = Subscribe { policy, ..Subscribe::new("bars") };
    SubscriberQueue::new(outlet, &request, schema(), limits, Arc::default())
}

fn taken(queue: &SubscriberQueue) -> Vec<Arc<Batch>> {
    let next = || match queue.next() {
        Next::Send(batch) => Some(batch),
        Next::Wait => None,
        Next::End(refusal) => panic!("{refusal}"),
    };
    std::iter::from_fn(next).collect()
}

#[test]
fn batches_come_in_order_and_a_full_queue_disconnects() {
    let queue = queue(Policy::Disconnect, 2);
    for cursor in 1..=2 {
        assert!(queue.offer(&batch(cursor, vec![window("A", 0, 1)])));
    }
    assert_eq!(taken(&queue).iter().map(|b| b.next_cursor()).collect::<Vec<_>>(), [1, 2]);
    for cursor in 3..=4 {
        assert!(queue.offer(&batch(cursor, vec![window("A", 0, 1)])));
    }
    assert!(!queue.offer(&batch(5, vec![window("A", 0, 1)])));
    let Next::End(refusal) = queue.next() else { panic!() };
    assert_eq!(refusal.code, Code::Lagged);
    assert!(refusal.text.contains("3 windows") && refusal.text.contains("cursor 2"), "{refusal}");
    assert!(matches!(queue.next(), Next::Wait), "the end is told once");
    assert!(!queue.offer(&batch(6, vec![window("A", 0, 1)])));
}

#[test]
fn conflating_keeps_the_newest_version_of_the_newest_window() {
    let queue = queue(Policy::Conflate, 1);
    assert!(queue.offer(&batch(1, vec![window("A", 0, 1)])));
    assert!(queue.offer(&batch(3, vec![window("B", 1, 1), window("A", 1, 2)])));
    assert!(queue.offer(&batch(5, vec![window("A", 1, 1), window("A", 0, 9)])));
    let got = taken(&queue);
    assert_eq!(got[0].windows(), [window("A", 0, 1)]);
    assert_eq!(got[1].windows(), [window("A", 1, 2), window("B", 1, 1)]);
    assert_eq!((got.len(), got[1].next_cursor()), (2, 5));
    assert_eq!(queue.counters.conflated.load(Ordering::Relaxed), 2);
    assert!(queue.offer(&batch(6, vec![window("A", 2, 1)])));
    assert_eq!(taken(&queue).len(), 1);
}

#[test]
fn blocking_waits_for_room_then_gives_up() {
    let queue = Arc::new(queue(Policy::Block, 1));
    assert!(queue.offer(&batch(1, vec![window("A", 0, 1)])));
    let reader = queue.clone();
    let reading = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(5));
        taken(&reader).len()
    });
    assert!(queue.offer(&batch(2, vec![window("A", 1, 1)])));
    assert!(reading.join().unwrap() >= 1);
    let mut cursor = 3;
    while queue.offer(&batch(cursor, vec![window("A", 2, 1)])) {
        cursor += 1;
        assert!(cursor < 10, "nobody reads");
    }
    assert!(matches!(queue.next(), Next::End(refusal) if refusal.code == Code::Lagged));
}

#[test]
fn who_resumes_gets_windows_from_the_cursor_on() {
    let all = batch(10, vec![window("A", 0, 1), window("B", 0, 1), window("C", 0, 1)]);
    assert_eq!(all.first_cursor(), 7);
    assert!(Arc::ptr_eq(&all.since(3).unwrap(), &all));
    assert!(Arc::ptr_eq(&all.since(7).unwrap(), &all));
    let rest = all.since(9).unwrap();
    assert_eq!((rest.windows(), rest.next_cursor()), (&[window("C", 0, 1)][..], 10));
    assert!(all.since(10).is_none());
}
