//! A stored market: reading and reducing it, against reading it alone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use isotick_kernels::{CpuEngine, Engine, Holding, Truth};
use isotick_scheduler::{OnFailure, Part, Read, Scan};
use isotick_storage::{Snapshot, Store};

use super::Bench;
use super::figure::{Figure, timed};
use crate::cli::EngineChoice;
use crate::device::{DeviceLimits, Devices, Lane};
use crate::market::Market;
use crate::resident::{self, Status};
use crate::rollups::Stored;
use crate::scanning;

/// Ticks that are stored at a time.
const PIECE_ROWS: usize = 1 << 20;

pub fn run(bench: &mut Bench) -> Result<()> {
    let rows = if bench.quick { 1 << 18 } else { 1 << 22 };
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let mut store = Store::open(folder.path(), "bench")?;
    let mut market = Market::new(1);
    let mut left = rows;
    while left > 0 {
        let ticks = market.next_ticks(left.min(PIECE_ROWS));
        left -= ticks.len();
        let mut commit = store.begin();
        commit.add_imported(&bench.schema, &[ticks])?;
        commit.finish()?;
    }
    let snapshot = Snapshot::open(folder.path())?;
    let scan = scanning::whole(&bench.view, &bench.schema, Truth::Now);
    let planned = || scanning::folder_parts(&snapshot, &scan, Stored::Ticks, true);
    let bytes = planned()?.bytes;
    let input =
        format!("{rows} stored ticks, {:.1} bytes each: bars_1m", bytes as f64 / rows as f64);
    let threads = bench.threads;
    let mut add = |by: &str, threads: usize, times, hash| {
        let (input, by) = (input.clone(), format!("{by}, {threads} threads"));
        let of_copy_bandwidth = None;
        bench.figures.add(Figure { input, by, rows, bytes, times, hash, of_copy_bandwidth });
    };
    let (times, _) = Figure::times(bench.repeat, || {
        let parts = planned()?.parts;
        let (elapsed, done) = timed(|| decode(parts, threads));
        done?;
        Ok((elapsed, None))
    })?;
    add("decoding alone", threads, times, None);
    // One thread more or less must not change the hash.
    for threads in [threads, threads + 1] {
        let (times, hash) = Figure::times(bench.repeat, || {
            let parts = planned()?.parts;
            let engines = (0..threads).map(|_| Box::new(CpuEngine) as Box<dyn Engine>).collect();
            let (elapsed, hash) = timed(|| whole(&scan, parts, engines));
            Ok((elapsed, Some(hash?)))
        })?;
        add("cpu", threads, times, hash);
    }
    if bench.gpu.is_some() {
        resident(bench, &input, rows, &snapshot, &scan)?;
    }
    Ok(())
}

/// The same scan again and again by a device, as a service does it: after the first time its row
/// groups are in memory and their columns on the device.
fn resident(
    bench: &mut Bench,
    input: &str,
    rows: usize,
    snapshot: &Snapshot,
    scan: &Scan,
) -> Result<()> {
    const ROW_GROUPS_BYTES_MAX: u64 = 1 << 30;
    let limits = DeviceLimits {
        wait_max: Duration::from_secs(1),
        resident_bytes_max: None,
        row_groups_bytes_max: ROW_GROUPS_BYTES_MAX,
    };
    let (devices, choice) = (Arc::new(Devices::new(limits)), EngineChoice::Gpu);
    let threads = bench.threads;
    let mut once = || {
        let parts = resident::parts(&devices, choice, snapshot, scan)?;
        let opened = (0..threads).map(|_| devices.open(choice, Lane::Scan));
        let engines = opened.map(|opened| Ok(opened?.engine)).collect::<Result<Vec<_>>>()?;
        let (elapsed, hash) = timed(|| whole(scan, parts, engines));
        Ok((elapsed, Some(hash?)))
    };
    let (times, hash) = Figure::times(1, &mut once)?;
    let bytes = |device: &Holding, _: &Status| device.uploaded_bytes;
    let moved = |of: fn(&Holding, &Status) -> u64| {
        devices.resident().iter().map(|(device, memory)| of(device, memory)).sum::<u64>()
    };
    let cold = moved(bytes);
    let mut add = |by: &str, bytes: u64, times: Vec<Duration>, hash, of_copy_bandwidth| {
        let (input, by) = (input.to_owned(), format!("{by}, {threads} threads"));
        bench.figures.add(Figure { input, by, rows, bytes, times, hash, of_copy_bandwidth });
    };
    add("gpu, not yet resident", cold, times, hash, None);
    let read = moved(|_, memory| memory.bytes_read);
    let (times, hash) = Figure::times(bench.repeat, &mut once)?;
    let (device_bytes, read_again) =
        (moved(|device, _| device.bytes), moved(|_, memory| memory.bytes_read) - read);
    let mut sorted = times.clone();
    sorted.sort_unstable();
    let seconds = sorted[sorted.len() / 2].as_secs_f64().max(1e-9);
    let copy = bench.bandwidth.map(|bandwidth| bandwidth.copy_bytes_per_s);
    let share = copy.map(|copy| device_bytes as f64 / seconds / copy);
    let by = format!(
        "gpu resident scan, {read_again} bytes read and {} moved again",
        moved(bytes) - cold
    );
    add(&by, device_bytes, times, hash, share);
    Ok(())
}

/// Reads all parts and does nothing with them.
fn decode(parts: Vec<Part>, threads: usize) -> Result<()> {
    let (queue, rows) = (Mutex::new(parts), AtomicU64::new(0));
    let work = || -> Result<()> {
        loop {
            let part = queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(part) = part else { return Ok(()) };
            if let Read::Ticks(read) = part.read {
                read(&mut |ticks| {
                    rows.fetch_add(ticks.len() as u64, Ordering::Relaxed);
                    Ok(())
                })?;
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })
}

/// The scan until its last window is finished and hashed; the hash.
fn whole(scan: &Scan, parts: Vec<Part>, engines: Vec<Box<dyn Engine>>) -> Result<String> {
    let threads = engines.len();
    let outcome = scan.run(parts, engines, OnFailure::Stop, &AtomicU64::new(0))?;
    let threads = threads.try_into().context("there is a thread")?;
    Ok(outcome.views[0].finish(threads, |_| anyhow::Ok(()))?.to_string())
}
