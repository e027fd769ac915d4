//! Ticks and windows as Arrow IPC, as another language would send and read them.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampNanosecondType};
use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray};
use isotick_wire::{Code, Control, Format, Hello, Kind, Role, Subscribe, arrow};

use super::raw::{Client, message_bytes};
use crate::program::{DEFINITIONS, Place, SECOND_NS, START_NS};

/// Rows in time order, ten a second; row 5 has a price below zero.
fn batch(first: i64, rows: i64) -> RecordBatch {
    let column = |value: fn(i64) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values((first..first + rows).map(value)))
    };
    let symbols = (first..first + rows).map(|row| if row % 2 == 0 { "A" } else { "B" });
    let symbols: ArrayRef = Arc::new(StringArray::from_iter_values(symbols));
    RecordBatch::try_from_iter([
        ("symbol", symbols),
        ("ts", column(|row| START_NS + row * SECOND_NS / 10)),
        ("price", column(|row| if row == 5 { -1 } else { 10_000 + row })),
        ("size", column(|row| row + 1)),
    ])
    .expect("columns of one length")
}

#[test]
fn ticks_come_and_windows_go_as_arrow() {
    let place = Place::new(DEFINITIONS);
    let service = place.serve("data");
    let client = Client::new();
    let (mut stream, _) = client.publisher(&service.address, "arrow");
    // Two batches in one message, one in another; no column of sequences: they are numbered on.
    let payload = arrow::encode_batches(&[batch(0, 40), batch(40, 20)]);
    stream.send(&message_bytes(Kind::Arrow, &payload));
    stream.send(&message_bytes(Kind::Arrow, &arrow::encode_batches(&[batch(60, 40)])));
    let ack = stream.received(100);
    assert_eq!((ack.accepted, ack.rejected.total(), ack.duplicate), (99, 1, 0));
    // Sent again with their numbers, from where they were: nothing new.
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..40));
    let again = batch(0, 40);
    let names = again.schema();
    let names = names.fields().iter().map(|field| field.name().clone());
    let columns = names.zip(again.columns().iter().cloned());
    let columns: Vec<_> = columns.chain([("sequence".to_owned(), numbers)]).collect();
    let again = RecordBatch::try_from_iter(columns).expect("columns of one length");
    stream.send(&message_bytes(Kind::Arrow, &arrow::encode_batches(&[again])));
    let ack = stream.finish();
    assert_eq!((ack.accepted, ack.duplicate, ack.durable_through), (99, 40, 100));

    let role = Role::Subscribe(Subscribe {
        cursor: Some(0),
        format: Format::Arrow,
        ..Subscribe::new("bars")
    });
    let mut windows = client.open(&client.connect(&service.address));
    windows.control(&Control::Hello(Hello::new(role)));
    assert!(matches!(windows.next(), Some(Control::SubscribeReply(reply)) if reply.cursor == 0));
    let (mut cursor, mut trades, mut ends) = (0, 0, Vec::new());
    // Ten seconds of two symbols; the last one is open still.
    while cursor < 18 {
        let message = windows.message().expect("the session is open").expect("windows come");
        assert_eq!(message.kind, Kind::Arrow);
        let (next, ipc) = message.payload.split_first_chunk::<8>().expect("a cursor first");
        cursor = u64::from_le_bytes(*next);
        for batch in arrow::read_batches(ipc).expect("an Arrow IPC stream") {
            let column = |name: &str| batch.column_by_name(name).expect("the view's columns");
            trades += column("trades").as_primitive::<Int64Type>().values().iter().sum::<i64>();
            let times = column("window_end").as_primitive::<TimestampNanosecondType>();
            ends.extend_from_slice(times.values());
            assert_eq!(column("symbol").null_count(), 0);
        }
    }
    assert_eq!((cursor, trades), (18, 89));
    assert_eq!(ends.len(), 18);
    assert_eq!(ends.iter().max(), Some(&(START_NS + 9 * SECOND_NS)));

    // What is no Arrow, and what is none of the stream, ends its session with the reason.
    let no_stream = RecordBatch::try_from_iter([(
        "price",
        Arc::new(Int64Array::from_iter_values(0..3)) as ArrayRef,
    )]);
    let no_stream = arrow::encode_batches(&[no_stream.expect("one column")]);
    for payload in [b"garbage".to_vec(), no_stream] {
        let (mut stream, reply) = client.publisher(&service.address, "arrow");
        assert_eq!(reply.next_sequence, 100);
        stream.send(&message_bytes(Kind::Arrow, &payload));
        let refusal = stream.ended();
        assert_eq!(refusal.code, Code::Protocol, "{refusal}");
    }
    assert_eq!(place.status(&service)["edge"]["protocol_errors"], 2);
    drop(windows);
    service.stop();
    place.verified("bars", "data");
}
