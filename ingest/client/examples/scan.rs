//! Has the service scan a view over history, shows how far it is, and prints the windows.
//!
//! ```sh
//! cargo run --release -p isotick-client --example scan -- 127.0.0.1:7400 bars_1m
//! ```

use std::error::Error;

use isotick_client::jobs::JobStatus;
use isotick_client::{Format, Jobs, Options, Reconnect, ResultItem, SubmitJob};
use isotick_model::results::WindowRow;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let address = args.next().unwrap_or_else(|| "127.0.0.1:7400".into());
    let view = args.next().unwrap_or_else(|| "bars".into());
    let told = |job: &JobStatus| {
        eprintln!("{} {}: {} of {} rows", job.id, job.state.name(), job.rows.done, job.rows.total);
    };
    let print = |row: WindowRow| println!("{} {} {:?}", row.key, row.window_start, row.values);
    let job = scan(&address, &view, told, print).await?;
    // The same hash comes from a local scan, from live windows, and from any engine.
    eprintln!("hash {}", job.views[0].hash.as_deref().unwrap_or("unknown"));
    Ok(())
}

/// Hands on every window of a view; returns the job with its hash. It may be called again after
/// any failure: the service does the work once.
pub async fn scan(
    address: &str,
    view: &str,
    told: impl FnMut(&JobStatus),
    mut each: impl FnMut(WindowRow),
) -> Result<JobStatus, Box<dyn Error>> {
    let jobs = Jobs::at(address, &Options::default());
    let what = SubmitJob::new([view]);
    let mut result = jobs.scan(&what, Format::Windows, Reconnect::default(), told).await?;
    while let Some(item) = result.next().await? {
        if let ResultItem::Windows(rows) = item {
            rows.into_iter().for_each(&mut each);
        }
    }
    Ok(result.job().clone())
}
