//! Who is waited for, and for how long; who may stay, and until when.

use std::time::Duration;

use isotick_client::{ClientError, Options, Subscriber};
use isotick_wire::frame::Encoder;
use isotick_wire::{Code, Kind, Token, message};

use super::strangers::Raw;
use super::world::*;
use crate::access::{Access, Credential, Entry, Gate, Pattern, Rights};
use crate::certificates::sha256;

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
        // Whoever sends next above the bound is the one that is read.
        for bytes in [&[0; 2_000][..], &[0]] {
            greedy.bytes(bytes).await;
            sleep(50).await;
        }
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
        // The honest one began as early, and is neither read nor sent away.
        let heard = tokio::time::timeout(Duration::from_millis(150), honest.ack()).await;
        assert!(heard.is_err(), "{heard:?}");
        assert_eq!(greedy.end().await, Code::TooSlow);
        while honest.ack().await.received_through < 30_000 {}
        assert_eq!(honest.finish(None).await.accepted, 30_000);
    });
}

/// A token that ends soon, another one that does not: sessions end with theirs.
#[test]
fn a_session_ends_when_its_token_does() {
    let now_s = i64::try_from(now().as_secs()).unwrap();
    let entry = |name: &str, expires_unix_s| Entry {
        name: name.into(),
        credential: Credential::Token(sha256(name.as_bytes()).as_ref().try_into().unwrap()),
        rights: Rights { subscribe: vec![Pattern::new("bars").unwrap()], ..Rights::default() },
        expires_unix_s,
    };
    let access = Access::of(vec![entry("brief", Some(now_s + 3)), entry("long", Some(now_s + 90))]);
    let world = world_with(|config| config.gate = Gate::new(access));
    let address = world.address();
    let subscribe = |token: &str| {
        let options = Options { token: Token::new(token), ..Options::default() };
        let address = address.clone();
        async move { Subscriber::connect(&address, "bars", &options).await }
    };
    world.client.block_on(async {
        let mut brief = subscribe("brief").await.unwrap();
        let mut long = subscribe("long").await.unwrap();
        let ended = brief.next().await.unwrap_err();
        let after = now().as_secs_f64() - now_s as f64;
        assert!((3.0..8.0).contains(&after), "{after} s");
        let ClientError::Ended(refusal) = ended else { panic!("{ended}") };
        assert_eq!(refusal.code, Code::Unauthenticated);
        assert!(refusal.text.starts_with("the token has expired"), "{refusal}");
        assert!(subscribe("brief").await.is_err());
        assert_eq!(world.edge.counters().sessions_revoked, 1);
        world.windows.publish(0, 3);
        assert_eq!(long.next().await.unwrap().windows.len(), 3);
    });
}

#[allow(clippy::disallowed_methods, reason = "tokens end by the clock of the machine")]
fn now() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap()
}
