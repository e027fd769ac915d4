use isotick_model::{Key, RejectReason, ValueColumn};

use super::*;
use crate::fake::Fake;

fn ticks(rows: std::ops::Range<u64>) -> Ticks {
    let column =
        |f: fn(u64) -> i64| ValueColumn { values: rows.clone().map(f).collect(), nulls: None };
    Ticks {
        ts_event: rows.clone().map(|n| n as i64).collect(),
        sequence: rows.clone().collect(),
        publishers: vec![PublisherId::new("p").unwrap()],
        publisher: Vec::new().into(),
        keys: (0..500).map(|n| Key::from_components([format!("key {n}")])).collect(),
        key: rows.clone().map(|n| (n * 7 % 500) as u32).collect(),
        values: vec![column(|n| n as i64 * 31 % 1_000), column(|n| n as i64)],
        seen: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_lost_of_datagrams_is_told_and_nothing_else_is_lost() {
    let service = Fake::start();
    let (id, options) = (PublisherId::new("p").unwrap(), Options::default());
    let address = service.address.to_string();
    let (mut publisher, _) =
        Publisher::connect_lossy(&address, "trades", &id, &options).await.unwrap();
    let rows = 50_000;
    let mut sent = ticks(0..rows);
    // One key that fits no datagram: its row takes the stream.
    let mut keys = sent.keys.to_vec();
    keys.push(Key::from_components(["k".repeat(4_000)]));
    sent.keys = keys.into();
    let mut key = sent.key.to_vec();
    key[1_234] = 500;
    sent.key = key.into();
    publisher.send_lossy(&sent, &[]).await.unwrap();
    let ack = publisher.finish_lossy(rows).await.unwrap();
    let kept = service.kept.lock().unwrap();
    assert!(kept.datagrams > rows / 1_000, "{} datagrams", kept.datagrams);
    assert!(kept.rows.contains_key(&1_234));
    assert_eq!(ack.durable_through, rows);
    assert_eq!(ack.accepted + ack.lost, rows);
    // The service throws every seventh datagram away, the machine few more.
    assert!((rows / 20..rows / 2).contains(&ack.lost), "{} rows lost", ack.lost);
    for (&n, row) in kept.rows.iter().filter(|(n, _)| **n != 1_234) {
        assert_eq!((row.0, &row.1[0]), (n as i64, &format!("key {}", n * 7 % 500)));
    }
}

#[tokio::test]
async fn datagrams_must_be_asked_for() {
    let service = Fake::start();
    let (id, options) = (PublisherId::new("p").unwrap(), Options::default());
    let address = service.address.to_string();
    let (mut publisher, _) = Publisher::connect(&address, "trades", &id, &options).await.unwrap();
    let error = publisher.send_lossy(&ticks(0..5), &[]).await.unwrap_err();
    assert!(matches!(error, ClientError::NoDatagrams { .. }), "{error}");
    publisher.send(&ticks(0..5), &[]).await.unwrap();
    assert_eq!(publisher.finish().await.unwrap().accepted, 5);
}

#[test]
fn a_datagram_takes_as_many_rows_as_fit() {
    let mut datagrams = Datagrams::new(1, 0);
    let rows = ticks(0..1_000);
    let rejected: Vec<_> =
        (0..300).map(|n| Rejected { sequence: n * 3, reason: RejectReason::Malformed }).collect();
    let (mut start, mut left) = (0, &rejected[..]);
    while start < rows.len() || !left.is_empty() {
        let (end, between) = datagrams.cut(&rows, start, left);
        let all = end - start + between;
        assert!(all > 0 && end <= rows.len());
        // Forty bytes and ten a row.
        if datagrams.fits(all, 40 + 10 * all, 1_162) {
            assert!(all <= 112);
            (start, left) = (end, &left[between..]);
        }
    }
    assert!(datagrams.rows > 100, "{} rows", datagrams.rows);
}
