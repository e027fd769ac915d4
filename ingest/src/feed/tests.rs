use std::thread;
use std::time::Instant;

use isotick_wire::Code;

use super::*;

fn message(bytes: usize) -> Bytes {
    Bytes::from(vec![7; bytes])
}

/// A feed with limits of its own.
fn feed(bytes_max: usize, counters: &Arc<FeedCounters>) -> (Arc<Feed>, Detached) {
    let limits = FeedLimits { open_max: 2, bytes_max, patience: Duration::MAX };
    counters.open.fetch_add(1, Ordering::Relaxed);
    let (feed, queue) = Feed::with(None, limits, counters.clone());
    (feed, Detached(queue))
}

#[test]
fn messages_come_in_order_and_the_end_after_them() {
    let (feed, client) = Feed::detached();
    assert_eq!(client.next(), Seen::Nothing);
    for bytes in [3, 1, 2] {
        feed.put(message(bytes)).unwrap();
    }
    feed.finish();
    assert_eq!(feed.put(message(1)), Err(Closed), "nothing after the end");
    assert!(feed.is_closed());
    for bytes in [3, 1, 2] {
        assert_eq!(client.next(), Seen::Message(message(bytes)));
    }
    assert_eq!(client.next(), Seen::End);
}

#[test]
fn a_refusal_goes_before_what_waits_and_a_forgotten_feed_is_one() {
    let (feed, client) = Feed::detached();
    feed.put(message(1)).unwrap();
    feed.refuse(Refusal::new(Code::JobFailed, "why"));
    feed.finish();
    assert_eq!(client.next(), Seen::Refused(Refusal::new(Code::JobFailed, "why")));
    let (feed, client) = Feed::detached();
    drop(feed);
    assert!(matches!(client.next(), Seen::Refused(r) if r.code == Code::Unavailable));
}

#[test]
fn what_waits_is_bounded_in_each_and_over_all() {
    let counters = Arc::<FeedCounters>::default();
    let half = FEED_BYTES_MAX / 2;
    let (one, reads_one) = feed(FEED_BYTES_MAX + half, &counters);
    let (two, reads_two) = feed(FEED_BYTES_MAX + half, &counters);
    assert_eq!(one.try_put(message(10 * FEED_BYTES_MAX)), Ok(true), "one message always fits");
    assert_eq!(one.try_put(message(1)), Ok(false));
    reads_one.next();
    assert_eq!(one.try_put(message(half)), Ok(true));
    assert_eq!(one.try_put(message(half)), Ok(true));
    assert_eq!(one.try_put(message(1)), Ok(false), "its own bound");
    assert_eq!(two.try_put(message(half)), Ok(true));
    assert_eq!(two.try_put(message(1)), Ok(false), "the bound of all");
    assert_eq!(counters.bytes.load(Ordering::Relaxed), 3 * half);
    drop(reads_one);
    assert_eq!(two.try_put(message(1)), Ok(true));
    assert_eq!(one.try_put(message(1)), Err(Closed));
    drop(reads_two);
    assert_eq!(counters.bytes.load(Ordering::Relaxed), 0);
    assert_eq!(counters.open.load(Ordering::Relaxed), 0);
}

#[test]
fn who_waits_for_room_goes_on_or_learns_that_the_client_is_gone() {
    let (feed, client) = Feed::detached();
    feed.put(message(FEED_BYTES_MAX)).unwrap();
    let putting = thread::spawn({
        let feed = feed.clone();
        move || (feed.put(message(FEED_BYTES_MAX)), feed.put(message(1)))
    });
    thread::sleep(Duration::from_millis(50));
    assert!(!putting.is_finished(), "it did not wait");
    assert_eq!(client.next(), Seen::Message(message(FEED_BYTES_MAX)));
    thread::sleep(Duration::from_millis(50));
    assert!(!putting.is_finished(), "it did not wait for the second");
    let left = Instant::now();
    drop(client);
    assert_eq!(putting.join().unwrap(), (Ok(()), Err(Closed)));
    assert!(left.elapsed() < Duration::from_secs(5));
    assert!(feed.is_closed());
}
