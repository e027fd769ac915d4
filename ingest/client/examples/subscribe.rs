//! Follows a view's windows from a cursor on, through restarts of the service, and ends when
//! nothing came for two seconds.
//!
//! ```sh
//! cargo run --release -p isotick-client --example subscribe -- 127.0.0.1:7400 bars 0
//! ```

use std::error::Error;
use std::time::Duration;

use isotick_client::{Options, PublishedWindow, Reconnect, ResumingSubscriber, Subscribe};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let address = args.next().unwrap_or_else(|| "127.0.0.1:7400".into());
    let view = args.next().unwrap_or_else(|| "bars".into());
    let cursor = args.next().map(|cursor| cursor.parse()).transpose()?;
    let next = follow(&address, &view, cursor, |window| {
        let row = window.row;
        println!("{} {} v{} {:?}", row.key, row.window_start, row.version, row.values);
    });
    // Whoever goes on later, in another process, begins here.
    println!("next cursor: {}", next.await?);
    Ok(())
}

/// Hands on every window from a cursor on, or from now on; returns where to go on.
pub async fn follow(
    address: &str,
    view: &str,
    cursor: Option<u64>,
    mut each: impl FnMut(PublishedWindow),
) -> Result<u64, Box<dyn Error>> {
    let what = Subscribe { cursor, ..Subscribe::new(view) };
    let options = Options::default();
    let mut bars =
        ResumingSubscriber::connect(address, what, &options, Reconnect::default()).await?;
    let quiet = Duration::from_secs(2);
    while let Ok(batch) = tokio::time::timeout(quiet, bars.next()).await {
        batch?.windows.into_iter().for_each(&mut each);
    }
    Ok(bars.cursor())
}
