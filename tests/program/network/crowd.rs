//! A thousand connections at once: each is served, or told why not; memory stays bounded.

use std::time::{Duration, Instant};

use isotick_wire::{Control, Kind};
use quinn::ConnectionError;

use super::peers::counts;
use super::raw::{Client, frame, hello, message_bytes};
use crate::program::{DEFINITIONS, Place, Service, Tick, csv, ticks};

const CONNECTIONS: usize = 1_000;
/// Of them, those that publish.
const PUBLISHERS: usize = 200;
const ROWS_EACH: usize = 50;
/// What the service may hold resident with all of them open.
const RESIDENT_BYTES_MAX: u64 = 512 << 20;
/// QUIC's own code of a refused connection.
const CONNECTION_REFUSED: u64 = 2;

fn resident_bytes(service: &Service) -> u64 {
    let path = format!("/proc/{}/status", service.running.id());
    let text = std::fs::read_to_string(path).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux says so");
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kibibytes << 10
}

#[test]
fn a_thousand_connections_are_served_or_refused() {
    let place = Place::new(DEFINITIONS);
    place.write("ticks.csv", csv(&ticks(221, 30_000, 20)));
    let service = place.serve("data");
    let client = Client::new();
    let dialled: Vec<_> = (0..CONNECTIONS).map(|_| client.dial(&service)).collect();
    let (mut open, mut refused) = (Vec::new(), 0);
    for connecting in dialled {
        match client.wait(connecting) {
            Ok(connection) => open.push(connection),
            Err(ConnectionError::ConnectionClosed(close))
                if u64::from(close.error_code) == CONNECTION_REFUSED =>
            {
                refused += 1;
            }
            Err(error) => panic!("neither served nor refused: {error}"),
        }
    }
    let publishers = PUBLISHERS.min(open.len());
    assert!(publishers > 0, "{refused} were refused");

    // Everyone who was let in publishes or is just there; meanwhile others are served.
    let publisher = place.publish("ticks.csv", &service, "--no-reconnect");
    let rows: Vec<Tick> = ticks(222, ROWS_EACH, 0);
    let mut streams: Vec<_> = open[..publishers].iter().map(|known| client.open(known)).collect();
    for (number, stream) in streams.iter_mut().enumerate() {
        stream.control(&hello(&format!("crowd-{number}")));
        stream.send(&message_bytes(Kind::Ticks, &frame(&rows, 0)));
    }
    for stream in &mut streams {
        assert!(matches!(stream.next(), Some(Control::HelloReply(_))));
        stream.received(ROWS_EACH as u64);
    }
    let asked = Instant::now();
    let status = place.status(&service);
    assert!(asked.elapsed() < Duration::from_secs(2), "a status after {:?}", asked.elapsed());
    let resident = resident_bytes(&service);
    assert!(resident < RESIDENT_BYTES_MAX, "{resident} bytes are resident");
    let edge = |name: &str| status["edge"][name].as_u64().expect("a count");
    assert!(edge("connections_open") >= open.len() as u64, "{status}");
    assert!(edge("connections_accepted") >= open.len() as u64, "{status}");
    assert_eq!(edge("connections_refused"), refused, "{status}");
    assert_eq!(edge("handshakes_failed"), 0, "{status}");
    assert_eq!(open.len() as u64 + refused, CONNECTIONS as u64);
    for number in 0..publishers {
        assert_eq!(counts(&status, &format!("crowd-{number}")), [ROWS_EACH as u64, 0, 0]);
    }
    for stream in streams {
        let ack = stream.finish();
        assert_eq!(ack.durable_through, ROWS_EACH as u64, "{ack:?}");
    }
    assert_eq!(publisher.end().succeeded().json()["accepted"], 30_000);
    open.iter().for_each(|connection| connection.close(0u32.into(), b""));
    drop(client);
    service.stop();
    assert_eq!(place.ticks("data"), (30_000 + publishers * ROWS_EACH) as u64);
    place.verified("bars", "data");
}
