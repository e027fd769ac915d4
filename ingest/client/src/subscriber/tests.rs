use std::time::Duration;

use super::*;
use crate::fake::{Fake, Manners, made, window};

fn publish(service: &Fake, windows: std::ops::Range<i64>) {
    service.kept.lock().unwrap().windows.extend(windows.map(window));
}

/// A service that is away is tried again soon.
fn quick() -> Options {
    Options { timeout: Duration::from_millis(500), ..Options::default() }
}

fn soon() -> Reconnect {
    Reconnect { wait_first: Duration::from_millis(5), ..Reconnect::default() }
}

#[tokio::test]
async fn a_subscriber_knows_its_cursor() {
    let service = Fake::start();
    publish(&service, 0..10);
    let address = service.address.to_string();
    let what = Subscribe { cursor: Some(4), ..Subscribe::new("bars") };
    let mut bars = Subscriber::connect(&address, what, &quick()).await.unwrap();
    assert_eq!(bars.cursor(), 4);
    let batch = bars.next().await.unwrap();
    assert_eq!(batch.windows, [window(4), window(5), window(6)]);
    assert_eq!(bars.cursor(), 7);
    let bars = Subscriber::connect(&address, "bars", &quick()).await.unwrap();
    assert_eq!(bars.cursor(), 10);
}

#[tokio::test]
async fn a_resuming_subscriber_gets_every_window_once_and_in_order() {
    // Each session is cut after a batch, as one that lagged; then the service itself is killed.
    let manners = Manners { cut_after: Some(2), ..Manners::default() };
    let service = Fake::with(made(), None, manners.clone());
    let address = service.address.to_string();
    let mut bars = ResumingSubscriber::connect(&address, "bars", &quick(), soon()).await.unwrap();
    publish(&service, 0..20);
    let mut received = Vec::new();
    while received.len() < 20 {
        received.extend(bars.next().await.unwrap().windows);
    }
    let service = service.restart(Duration::from_millis(50), manners).await;
    publish(&service, 20..40);
    while received.len() < 40 {
        received.extend(bars.next().await.unwrap().windows);
    }
    assert_eq!(received, (0..40).map(window).collect::<Vec<_>>());
    assert_eq!(bars.cursor(), 40);
    assert!(service.kept.lock().unwrap().hellos > 10);
}

#[tokio::test]
async fn windows_that_are_gone_are_an_error_that_names_them() {
    let service = Fake::start();
    publish(&service, 0..20);
    let address = service.address.to_string();
    let what = Subscribe { cursor: Some(2), ..Subscribe::new("bars") };
    let mut bars = ResumingSubscriber::connect(&address, what, &quick(), soon()).await.unwrap();
    bars.next().await.unwrap();
    service.kept.lock().unwrap().windows_from = 10;
    let _service = service.restart(Duration::ZERO, Manners::default()).await;
    // What was on its way when the service was killed may still come.
    let error = loop {
        match bars.next().await {
            Ok(batch) if batch.next_cursor < 20 => (),
            Ok(_) => return,
            Err(error) => break error,
        }
    };
    let ClientError::CursorGone { view, cursor, .. } = &error else { panic!("{error}") };
    assert_eq!((view.as_str(), *cursor), ("bars", bars.cursor()));
    assert!(error.to_string().contains("isotick scan bars"), "{error}");
}

#[tokio::test]
async fn it_gives_up_when_told_so() {
    let service = Fake::start();
    let address = service.address.to_string();
    let how = Reconnect { give_up_after: Some(Duration::ZERO), ..soon() };
    let mut bars = ResumingSubscriber::connect(&address, "bars", &quick(), how).await.unwrap();
    service.kill();
    assert!(bars.next().await.is_err());
}
