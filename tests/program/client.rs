//! The client library's examples, as their readers would run them, against the program; and ticks
//! that come as Arrow.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use isotick::arrow::ticks_of_payload;
use isotick_model::PublisherId;
use isotick_model::definitions::Definitions;

use super::{DEFINITIONS, Place, Service};

#[allow(dead_code)]
#[path = "../../ingest/client/examples/publish.rs"]
mod publish;
#[allow(dead_code)]
#[path = "../../ingest/client/examples/scan.rs"]
mod scan;
#[allow(dead_code)]
#[path = "../../ingest/client/examples/subscribe.rs"]
mod subscribe;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

#[test]
fn the_examples_publish_and_subscribe() {
    let place = Place::new(DEFINITIONS);
    let service = place.serve("data");
    let (client, address) = (runtime(), service.address.clone());
    for _ in 0..2 {
        // The second time everything is held.
        let ack = client.block_on(publish::publish(&address, "feed", 30_000)).unwrap();
        assert_eq!((ack.accepted, ack.durable_through, ack.duplicate), (30_000, 30_000, 0));
    }
    // Thirty seconds of three symbols; the last second is still open.
    let mut windows = Vec::new();
    let follow = subscribe::follow(&address, "bars", Some(0), |window| windows.push(window.row));
    assert_eq!(client.block_on(follow).unwrap(), 29 * 3);
    assert_eq!(windows.len(), 29 * 3);
    assert!(windows.iter().all(|row| row.version == 1));
    // A scan knows the windows that are still open as well.
    let mut scanned = Vec::new();
    let scanning = scan::scan(&address, "bars", |_| (), |row| scanned.push(row));
    let job = client.block_on(scanning).unwrap();
    assert_eq!(scanned.len(), 30 * 3);
    service.stop();
    assert_eq!(job.views[0].hash.as_deref(), Some(place.hash("bars --data data").as_str()));
    place.verified("bars", "data");
    assert_eq!(place.ticks("data"), 30_000);
}

#[test]
fn a_writer_outlives_the_service() {
    const ROWS: u64 = 2_000_000;
    let place = Place::new(DEFINITIONS);
    let service = place.serve("data");
    let (client, address) = (runtime(), service.address.clone());
    let writing = client.spawn({
        let address = address.clone();
        async move { publish::publish(&address, "feed", ROWS).await.map_err(|e| e.to_string()) }
    });
    let accepted = |service: &Service| {
        let status = place.status(service);
        status["streams"]["trades"]["publishers"][0]["accepted"].as_u64().unwrap_or(0)
    };
    while accepted(&service) < 100_000 {
        std::thread::sleep(Duration::from_millis(10));
    }
    service.kill();
    assert!(!writing.is_finished(), "the service was killed too late to prove anything");
    let service = place.serve_at("data", &address);
    let ack = client.block_on(writing).unwrap().unwrap();
    assert_eq!((ack.accepted, ack.durable_through), (ROWS, ROWS));
    service.stop();
    place.verified("bars", "data");
    assert_eq!(place.ticks("data"), ROWS);
}

#[test]
fn datagrams_are_all_accounted_for() {
    let place = Place::new(DEFINITIONS);
    let service = place.serve("data");
    let mut csv = String::from("ts,symbol,price,size\n");
    for n in 0..50_000i64 {
        csv += &format!("{},S{},{}.5,{}\n", super::START_NS + n * 1_000_000, n % 9, n % 50, n % 3);
    }
    place.write("ticks.csv", csv);
    let report = place.publish("ticks.csv", &service, "--datagrams").end().succeeded().json();
    let count = |name: &str| report[name].as_u64().unwrap();
    assert_eq!(count("accepted") + count("lost"), 50_000, "{report}");
    assert_eq!((count("missing"), count("duplicate")), (0, 0), "{report}");
    assert_eq!(count("durable_through"), 50_000, "{report}");
    assert!(count("accepted") > 0);
    // Once it is finished, what is lost stays lost.
    let again = place.publish("ticks.csv", &service, "").end().succeeded().json();
    assert_eq!((&again["accepted"], &again["lost"]), (&report["accepted"], &report["lost"]));
    service.stop();
    place.verified("bars", "data");
    assert_eq!(place.ticks("data"), count("accepted"));
}

#[test]
fn an_arrow_payload_becomes_ticks_by_the_definition() {
    let schema = Definitions::parse(DEFINITIONS, "test").unwrap().streams.remove(0);
    let batch = |prices: [f64; 3]| {
        let columns: [(&str, ArrayRef); 4] = [
            ("symbol", Arc::new(StringArray::from(vec!["A", "B", "A"]))),
            ("ts", Arc::new(Int64Array::from(vec![1, 2, 3]))),
            ("price", Arc::new(Float64Array::from(prices.to_vec()))),
            ("size", Arc::new(Int64Array::from(vec![5, 6, 7]))),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    };
    let payload =
        isotick_wire::arrow::encode_batches(&[batch([1.5, 2.0, 3.25]), batch([1.0, -2.0, 3.0])]);
    let publisher = PublisherId::new("p").unwrap();
    let parts = ticks_of_payload(&payload, &schema, &publisher, 100).unwrap();
    let [(first, none), (second, one)] = &parts[..] else { panic!("two batches") };
    assert_eq!(
        (&first.sequence[..], &second.sequence[..]),
        (&[100, 101, 102][..], &[103, 105][..])
    );
    assert_eq!(&first.values[0].values[..], [150, 200, 325]);
    assert!(none.is_empty());
    assert_eq!(one.iter().map(|row| row.sequence).collect::<Vec<_>>(), [104]);
    assert!(ticks_of_payload(&payload[..100], &schema, &publisher, 0).is_err());
}
