use std::sync::atomic::{AtomicUsize, Ordering};

use isotick_model::ValueColumn;

use super::*;
use crate::fake::{Fake, Manners, Row, made};

fn publisher() -> PublisherId {
    PublisherId::new("p").unwrap()
}

/// A service that is away is tried again soon.
fn quick() -> Options {
    Options { timeout: Duration::from_millis(500), ..Options::default() }
}

fn options() -> WriterOptions {
    let reconnect = Reconnect { wait_first: Duration::from_millis(5), ..Reconnect::default() };
    WriterOptions { batch_rows: 100, reconnect, ..WriterOptions::default() }
}

async fn writer(service: &Fake, options: WriterOptions) -> TickWriter {
    let address = service.address.to_string();
    TickWriter::connect(&address, "trades", &publisher(), &quick(), options).await.unwrap()
}

/// The content of a row, by its number.
fn row(n: u64) -> Row {
    let price = (n % 11 != 3).then_some(n as i64 * 7 - 5_000);
    (1_000 + n as i64, vec![format!("k{}", n % 17)], vec![price, Some(n as i64)])
}

async fn append(writer: &mut TickWriter, rows: std::ops::Range<u64>) {
    for n in rows {
        let (ts, key, values) = row(n);
        let key = Key::from_components(key);
        assert_eq!(writer.append(ts, &key, &values).await.unwrap(), n);
    }
}

fn assert_kept(service: &Fake, rows: u64) {
    let kept = service.kept.lock().unwrap();
    assert_eq!(kept.rows.len() as u64, rows);
    for (&n, kept) in &kept.rows {
        assert_eq!(*kept, row(n));
    }
    assert_eq!(kept.conflicting, 0);
}

#[tokio::test]
async fn batches_close_on_rows_bytes_and_age() {
    let service = Fake::start();
    let mut by_rows = writer(&service, options()).await;
    append(&mut by_rows, 0..100).await;
    by_rows.flush(Level::Durable).await.unwrap();
    assert_kept(&service, 100);

    // Nothing but its age sends a single row.
    append(&mut by_rows, 100..101).await;
    tokio::time::timeout(Duration::from_secs(5), by_rows.seen.wait_for(|s| s.ack.accepted == 101))
        .await
        .expect("the row is sent when it is old enough")
        .unwrap();
    drop(by_rows);

    let many = WriterOptions {
        batch_rows: 30_000,
        batch_bytes: 1_000,
        batch_age: Duration::from_secs(60),
        ..options()
    };
    let mut by_bytes = writer(&service, many).await;
    append(&mut by_bytes, 101..1_000).await;
    let frames = by_bytes.shared.lock().sent_through;
    by_bytes.seen.wait_for(|seen| seen.ack.accepted > 500).await.unwrap();
    assert!(frames < 1_000 && by_bytes.shared.lock().batch.len() < 400);
    by_bytes.finish().await.unwrap();
    assert_kept(&service, 1_000);
}

#[tokio::test]
async fn columns_are_numbered_on_whatever_they_say() {
    let service = Fake::start();
    let mut writer = writer(&service, options()).await;
    append(&mut writer, 0..7).await;
    let rows: Vec<Row> = (7..1_000).map(row).collect();
    let column = |c: usize| ValueColumn {
        values: rows.iter().map(|row| row.2[c].unwrap_or(0)).collect(),
        nulls: Some(rows.iter().map(|row| row.2[c].is_some()).collect()),
    };
    let ticks = Ticks {
        ts_event: rows.iter().map(|row| row.0).collect(),
        sequence: rows.iter().map(|_| 5).collect(),
        publishers: vec![PublisherId::new("other").unwrap()],
        publisher: Vec::new().into(),
        keys: (0..17).map(|key| Key::from_components([format!("k{key}")])).collect(),
        key: (7..1_000).map(|n| n % 17).collect(),
        values: vec![column(0), column(1)],
        seen: None,
    };
    assert_eq!(writer.append_ticks(&ticks).await.unwrap(), 7);
    append(&mut writer, 1_000..1_010).await;
    let ack = writer.finish().await.unwrap();
    assert_eq!((ack.durable_through, ack.duplicate), (1_010, 0));
    assert_kept(&service, 1_010);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_service_is_killed_and_started_again() {
    let interruptions = Arc::new(AtomicUsize::new(0));
    let counted = interruptions.clone();
    let cut = |after| Manners { cut_after: Some(after), ..Manners::default() };
    // Half of the frame that comes with the cut is kept: resuming must cut a frame.
    let mut service = Fake::with(made(), None, cut(5));
    let options = options();
    let reconnect = options.reconnect.clone().with_notice(move |_, _| {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let mut writer = writer(&service, WriterOptions { reconnect, ..options }).await;
    append(&mut writer, 0..3_000).await;
    for n in 1..5 {
        service = service.restart(Duration::from_millis(20), cut(6 + n)).await;
        append(&mut writer, 3_000 * n..3_000 * (n + 1)).await;
    }
    let written = writer.flush(Level::Written).await.unwrap();
    assert!(written.written_through >= 15_000);
    service = service.restart(Duration::from_millis(20), cut(1)).await;
    append(&mut writer, 15_000..15_010).await;
    // The service never takes a second message of a session: not even finishing comes through.
    let finishing = tokio::spawn(writer.finish());
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!finishing.is_finished());
    service = service.restart(Duration::ZERO, Manners::default()).await;
    let ack = finishing.await.unwrap().unwrap();
    assert_eq!(ack.durable_through, 15_010);
    assert_kept(&service, 15_010);
    assert!(interruptions.load(Ordering::Relaxed) > 10);
}

#[tokio::test]
async fn what_is_kept_is_bounded() {
    let manners = Manners { silent: true, ..Manners::default() };
    let service = Fake::with(made(), None, manners);
    let few = WriterOptions { pending_rows: 250, ..options() };
    let mut writer = writer(&service, few).await;
    append(&mut writer, 0..250).await;
    let (ts, _, values) = row(250);
    let key = Key::from_components(["k"]);
    let waits = writer.append(ts, &key, &values);
    assert!(tokio::time::timeout(Duration::from_millis(200), waits).await.is_err());
    assert_eq!(writer.next_sequence(), 250);
    assert_eq!(service.kept.lock().unwrap().rows.len(), 250);
    let _service = service.restart(Duration::ZERO, Manners::default()).await;
    append(&mut writer, 250..260).await;
    writer.finish().await.unwrap();
}

#[tokio::test]
async fn a_name_that_others_use_or_a_service_that_forgot_is_an_error() {
    let service = Fake::start();
    let mut first = writer(&service, options()).await;
    let mut second = writer(&service, options()).await;
    append(&mut first, 0..10).await;
    first.flush(Level::Durable).await.unwrap();
    let mut service = service.restart(Duration::ZERO, Manners::default()).await;
    let error = second.append(0, &Key::from_components(["k"]), &[None, None]).await;
    let error = match error {
        Ok(_) => second.flush(Level::Written).await.unwrap_err(),
        Err(error) => error,
    };
    assert!(matches!(error, ClientError::Overtaken { held: 10, .. }), "{error}");

    service.kept.lock().unwrap().rows.clear();
    service = service.restart(Duration::ZERO, Manners::default()).await;
    let error = first.finish().await.unwrap_err();
    assert!(matches!(error, ClientError::Forgotten { durable: 10, held: 0, .. }), "{error}");

    service.kept.lock().unwrap().rows.insert(4, row(4));
    let address = service.address.to_string();
    let (id, connect) = (publisher(), quick());
    let gap = TickWriter::connect(&address, "trades", &id, &connect, options()).await;
    assert!(matches!(gap.unwrap_err(), ClientError::Gap { missing: 0, held: 4, .. }));
}

#[tokio::test]
async fn rows_that_cannot_be_sent_are_refused_alone() {
    let service = Fake::start();
    let mut writer = writer(&service, options()).await;
    let error = writer.append(0, &Key::from_components(["k"]), &[None]).await.unwrap_err();
    assert!(matches!(error, ClientError::Columns { expected: 2, found: 1, .. }), "{error}");
    let long = Key::from_components(["k".repeat(5_000)]);
    let error = writer.append(0, &long, &[None, None]).await.unwrap_err();
    assert!(matches!(error, ClientError::KeyTooLong { .. }), "{error}");
    append(&mut writer, 0..3).await;
    writer.finish().await.unwrap();
    assert_kept(&service, 3);
}
