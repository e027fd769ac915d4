//! Who is waited for, and for how long.

use std::time::Duration;

use isotick_wire::frame::Encoder;
use isotick_wire::{Code, Kind, message};

use super::strangers::Raw;
use super::world::*;

fn frame(rows: std::ops::Range<u64>) -> Vec<u8> {
    let (ticks, mut bytes) = (ticks(rows, 0), Vec::new());
    let encode = |out: &mut Vec<u8>| Encoder::default().encode(&ticks, 0..ticks.len(), &[], out);
    message::put(Kind::Ticks, &mut bytes, encode).unwrap();
    bytes
}

async fn sleep(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

/// One slow client takes all memory for unfinished messages. An honest one that the service does
/// not read meanwhile is not the slow one; one that says nothing is.
#[test]
fn the_time_in_which_the_service_does_not_read_is_not_the_publishers() {
    let world = world_with(|config| {
        config.message_timeout = Duration::from_millis(1_500);
        // 1,000 bytes of unfinished messages.
        config.unread_bytes_max = 2_000;
    });
    world.client.block_on(async {
        let mut honest = Raw::publish(&world, false).await;
        let mut silent = Raw::publish(&world, false).await;
        let mut greedy = Raw::publish(&world, false).await;
        let message = frame(0..30_000);
        assert!(message.len() > 3_000, "{}", message.len());
        honest.bytes(&message[..500]).await;
        silent.bytes(&message[..100]).await;
        sleep(700).await;
        greedy.bytes(&[0, 0, 1, 0, 2]).await;
        greedy.bytes(&[0; 2_000]).await;
        sleep(50).await;
        honest.bytes(&message[500..]).await;
        let dribble = async {
            loop {
                greedy.bytes(&[0]).await;
                sleep(50).await;
            }
        };
        let code = tokio::select! {
            code = silent.end() => code,
            () = dribble => unreachable!(),
        };
        assert_eq!(code, Code::TooSlow);
        assert_eq!(greedy.end().await, Code::TooSlow);
        while honest.ack().await.received_through < 30_000 {}
        assert_eq!(honest.finish(None).await.accepted, 30_000);
    });
}
