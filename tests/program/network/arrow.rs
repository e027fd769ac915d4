//! Ticks and windows as Arrow IPC, as another language would send and read them.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Decimal128Type, Float64Type, Int32Type, Int64Type, TimestampNanosecondType, UInt32Type,
};
use arrow_array::{
    Array, ArrayRef, DictionaryArray, Int64Array, ListArray, RecordBatch, StringArray,
};
use isotick_client::{ClientError, Level, Options, Publisher};
use isotick_model::PublisherId;
use isotick_wire::{Code, Control, Format, Hello, Kind, Role, Subscribe, arrow};

use super::raw::{Client, columns, message_bytes};
use crate::program::{DEFINITIONS, Place, SECOND_NS, START_NS, Tick};

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

/// The same rows with the symbols by dictionary, and a column that the stream has not.
fn by_dictionary(first: i64, rows: i64) -> RecordBatch {
    let plain = batch(first, rows);
    let symbols = plain.column(0).as_string::<i32>().iter().flatten();
    let symbols: DictionaryArray<Int32Type> = symbols.collect();
    let names = plain.schema();
    let names = names.fields().iter().map(|field| field.name().clone()).skip(1);
    let columns = names.zip(plain.columns()[1..].iter().cloned());
    let more: [(String, ArrayRef); 2] = [
        ("symbol".into(), Arc::new(symbols)),
        ("venue".into(), Arc::new(StringArray::from_iter_values((0..rows).map(|_| "X")))),
    ];
    RecordBatch::try_from_iter(columns.chain(more)).expect("columns of one length")
}

#[tokio::test]
async fn the_client_sends_record_batches_and_frames_in_one_session() {
    let place = Place::new(DEFINITIONS);
    let service = place.serve("data");
    let publisher = PublisherId::new("client").expect("a name");
    let options = Options { frame_rows: 700, ..Options::default() };
    let connect =
        || async { Publisher::connect(&service.address, "trades", &publisher, &options).await };
    let (mut session, _) = connect().await.expect("everybody may");
    session.send_arrow(&batch(0, 2_500)).await.expect("it takes them");
    // A frame brings its numbers; batches after it go on from there.
    let tick = |row: i64| Tick {
        ts: START_NS + row * SECOND_NS / 10,
        symbol: if row % 2 == 0 { "A".into() } else { "B".into() },
        price: 10_000 + row,
        size: row + 1,
    };
    let rows: Vec<_> = (2_500..2_600).map(tick).collect();
    session.send(&columns(&rows, 2_500), &[]).await.expect("it takes them");
    session.send_arrow(&by_dictionary(2_600, 400)).await.expect("it takes them");
    session.wait(Level::Written, 3_000).await.expect("all were numbered");
    // What no service reads is refused here, and the session goes on.
    let nested: ArrayRef =
        Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([Some([Some(1)])]));
    let nested = RecordBatch::try_from_iter([("price", nested)]).expect("one column");
    let refused = session.send_arrow(&nested).await.expect_err("a list");
    let ClientError::Encode(refused) = refused else { panic!("{refused}") };
    assert!(refused.to_string().contains("type"), "{refused}");
    session.send_arrow(&batch(3_000, 0)).await.expect("nothing is easy");
    let ack = session.finish().await.expect("the service finishes");
    assert_eq!((ack.accepted, ack.rejected.total(), ack.durable_through), (2_999, 1, 3_000));
    assert_eq!((ack.duplicate, ack.conflicting), (0, 0));

    let (mut session, reply) = connect().await.expect("everybody may");
    assert_eq!(reply.next_sequence, 3_000);
    let price: ArrayRef = Arc::new(Int64Array::from_iter_values(0..3));
    let price = RecordBatch::try_from_iter([("price", price)]).expect("one column");
    session.send_arrow(&price).await.expect("the service looks at names");
    let ended = session.wait(Level::Received, 3_003).await.expect_err("no time, no key");
    assert!(matches!(&ended, ClientError::Ended(r) if r.code == Code::Protocol), "{ended}");
    service.stop();
    assert_eq!(place.ticks("data"), 2_999);
    place.verified("bars", "data");
}

/// The windows of an IPC stream as lines of `tail --format csv --time ns`.
fn lines(stream: &[u8]) -> Vec<String> {
    let batches = arrow::read_batches(stream).expect("an Arrow IPC stream");
    let line = |batch: &RecordBatch, row: usize| {
        let column = |name: &str| batch.column_by_name(name).expect("the view's columns");
        let time = |name| column(name).as_primitive::<TimestampNanosecondType>().value(row);
        let decimal = |name| column(name).as_primitive::<Decimal128Type>().value_as_string(row);
        let [open, high, low, close, volume] =
            ["open", "high", "low", "close", "volume"].map(decimal);
        assert_eq!(column("reason").as_string::<i32>().value(row), "closed");
        format!(
            "{},{},{},{},{open},{high},{low},{close},{volume},{},{}",
            column("symbol").as_string::<i32>().value(row),
            time("window_start"),
            time("window_end"),
            column("version").as_primitive::<UInt32Type>().value(row),
            column("vwap").as_primitive::<Float64Type>().value(row),
            column("trades").as_primitive::<Int64Type>().value(row),
        )
    };
    batches.iter().flat_map(|b| (0..b.num_rows()).map(move |row| line(b, row))).collect()
}

#[test]
fn a_tail_in_arrow_is_one_stream_of_what_a_tail_in_csv_says() {
    let place = Place::new(DEFINITIONS);
    let service = place.serve("data");
    let at = &service.address;
    // Reads from before the first window on, into a pipe.
    let tail = format!("tail bars --at {at} --format arrow --until-idle 3s");
    let mut piped = std::process::Command::new(env!("CARGO_BIN_EXE_isotick"));
    piped.args(tail.split_whitespace()).stdout(std::process::Stdio::piped());
    let piped = piped.stderr(std::process::Stdio::null()).spawn().expect("the binary runs");
    let started = std::time::Instant::now();
    while place.status(&service)["edge"]["sessions_open"].as_u64() < Some(2) {
        assert!(started.elapsed() < crate::program::WITHIN, "nobody subscribes");
    }
    let client = Client::new();
    let (mut stream, _) = client.publisher(at, "arrow");
    let mut sent = 0;
    for rows in [500, 300, 700] {
        let payload = arrow::encode_batches(&[batch(sent, rows)]);
        stream.send(&message_bytes(Kind::Arrow, &payload));
        sent += rows;
        stream.received(sent as u64);
    }
    assert_eq!(stream.finish().accepted, 1_499);
    let again = format!("tail bars --at {at} --from-cursor 0 --until-idle 1s");
    place.ok(&format!("{again} --format arrow -o bars.arrows"));
    let csv = place.ok(&format!("{again} --format csv --time ns -o bars.csv"));
    assert_eq!(csv.out, "");
    let csv = std::fs::read_to_string(place.path("bars.csv")).expect("it was written");
    let mut expected: Vec<_> = csv.lines().skip(1).map(str::to_owned).collect();
    assert_eq!(expected.len(), 2 * 149);
    expected.sort_unstable();
    let file = std::fs::read(place.path("bars.arrows")).expect("it was written");
    let piped = piped.wait_with_output().expect("it ends");
    assert!(piped.status.success(), "{}", piped.status);
    for stream in [file, piped.stdout] {
        assert!(stream.ends_with(&[0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0]), "an end mark");
        let mut found = lines(&stream);
        found.sort_unstable();
        assert_eq!(found, expected);
    }
    place.refuse(&format!("{again} --format arrow -o none/bars.arrows"), &["cannot write none/"]);
    service.stop();
}
