//! Publishes ticks one by one to the stream `trades` and survives restarts of the service.
//!
//! ```sh
//! isotick serve --data ./data                # with a stream `trades`: ts, symbol, price, size
//! cargo run --release -p isotick-client --example publish -- 127.0.0.1:7400 my-feed 100000
//! ```

use std::error::Error;

use isotick_client::{Ack, Options, Reconnect, TickWriter, WriterOptions};
use isotick_model::schema::Inexact;
use isotick_model::{Key, PublisherId};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let address = args.next().unwrap_or_else(|| "127.0.0.1:7400".into());
    let name = args.next().unwrap_or_else(|| "example".into());
    let rows = args.next().map_or(Ok(100_000), |rows| rows.parse())?;
    let ack = publish(&address, &name, rows).await?;
    println!("{} accepted, durable through row {}", ack.accepted, ack.durable_through);
    Ok(())
}

/// Publishes `rows` ticks under a name.
pub async fn publish(address: &str, name: &str, rows: u64) -> Result<Ack, Box<dyn Error>> {
    let publisher = PublisherId::new(name).ok_or("a publisher's name has 1 to 256 bytes")?;
    let reconnect = Reconnect::default()
        .with_notice(|error, wait| eprintln!("{error}; again in {} ms", wait.as_millis()));
    let options = WriterOptions { reconnect, ..WriterOptions::default() };
    let mut writer =
        TickWriter::connect(address, "trades", &publisher, &Options::default(), options).await?;

    // Values are scaled integers: 101.25 in a column of scale 2 is 10125.
    let price_column = writer.schema().column("price").ok_or("the stream has no price")?;
    let scale = writer.schema().columns[price_column].scale;
    let symbols = ["AAPL", "MSFT", "NVDA"].map(|symbol| Key::from_components([symbol]));

    // Row n is always the same tick here, so a source begins where the service stands: a second
    // run under the same name sends only what is missing.
    for n in writer.next_sequence()..rows {
        let ts_ns = 1_704_205_800_000_000_000 + n as i64 * 1_000_000;
        let price = scale.from_f64(100.0 + (n % 400) as f64 / 4.0, Inexact::Reject).ok();
        let size = Some(1 + (n % 7) as i64);
        writer.append(ts_ns, &symbols[n as usize % 3], &[price, size]).await?;
    }
    Ok(writer.finish().await?)
}
