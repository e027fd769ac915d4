//! Ticks in memory to finished windows, on one thread.

use std::time::Duration;

use anyhow::Result;
use isotick_gpu::{BatchId, Encoding, GpuEngine};
use isotick_kernels::{CpuEngine, Engine, Partitioner, Plan, Runs, Windows, result_hash};
use isotick_model::Ticks;
use isotick_model::results::ResultSchema;

use super::Bench;
use super::figure::{Figure, timed};
use crate::market::{Market, Skew};
use crate::placing;

/// Rows of a batch, at most.
const BATCH_ROWS: usize = 1 << 17;

pub fn run(bench: &mut Bench) -> Result<()> {
    for rows in bench.rows.clone() {
        for keys in bench.keys.clone() {
            for skew in [Skew::Uniform, Skew::Zipf] {
                if keys == 1 && skew == Skew::Zipf {
                    continue;
                }
                for sorted in [false, true] {
                    one(bench, rows, keys, skew, sorted)?;
                }
            }
        }
    }
    let rows = bench.rows.iter().copied().max().unwrap_or(1);
    variants(bench, rows.min(1 << 20))?;
    partition(bench, rows.min(1 << 22))
}

/// Rows in time order, each in its group: the CPU takes them as they come, the GPU partitions them
/// on the device. By the device's own clock where it has one: upload and readback are not in it.
fn partition(bench: &mut Bench, rows: usize) -> Result<()> {
    let (view, schema, repeat) = (bench.view.clone(), bench.schema.clone(), bench.repeat);
    let copy = bench.bandwidth.map(|bandwidth| bandwidth.copy_bytes_per_s);
    let batch = Market::of(1, 1_000, Skew::Zipf).next_ticks(rows);
    let plan = Plan::over(&view, &schema);
    let Some(groups) = placing::groups(&Partitioner::new(&view, &plan), &batch) else {
        return Ok(());
    };
    let input = format!("{rows} ticks of 1000 keys in time order, grouped: partials of bars_1m");
    // Each column and each group's number once.
    let bytes = (rows * (plan.columns().len() * size_of::<i64>() + size_of::<u32>())) as u64;
    let mut figures = Vec::new();
    let mut figure = |by: &str, measured: Measured, of_copy_bandwidth| {
        let ((times, hash), input, by) = (measured, input.clone(), by.to_owned());
        figures.push(Figure { input, by, rows, bytes, times, hash, of_copy_bandwidth });
    };
    let measured = Figure::times(repeat, || {
        let (elapsed, partials) = timed(|| CpuEngine.reduce_groups(&plan, &groups));
        Ok((elapsed, Some(hash_of_words(&partials?.words))))
    })?;
    figure("cpu, as they come", measured, None);
    if let Some(gpu) = bench.gpu.as_mut().filter(|gpu| gpu.takes_groups()) {
        let timestamps = gpu.take_time(true);
        let measured = Figure::times(repeat, || {
            let (elapsed, partials) = timed(|| gpu.reduce_groups(&plan, &groups));
            let hash = hash_of_words(&partials?.words);
            let own = gpu.last_timing().map(|timing| Duration::from_nanos(timing.compute_ns));
            Ok((own.filter(|_| timestamps).unwrap_or(elapsed), Some(hash)))
        });
        gpu.take_time(false);
        let measured = measured?;
        let clock = if timestamps { "device" } else { "host" };
        let share = copy.map(|copy| bytes as f64 / median(&measured.0).as_secs_f64() / copy);
        figure(&format!("gpu, partitioned on the device, {clock} clock"), measured, share);
    }
    figures.into_iter().for_each(|figure| bench.figures.add(figure));
    Ok(())
}

fn one(bench: &mut Bench, rows: usize, keys: usize, skew: Skew, sorted: bool) -> Result<()> {
    let batches = batches(rows, keys, skew, sorted);
    let order = if sorted { "sorted by key" } else { "in time order" };
    let skew = if skew == Skew::Zipf { "Zipf" } else { "uniform" };
    let input = format!("{rows} ticks of {keys} keys, {skew}, {order}: bars_1m");
    let (view, schema, repeat) = (bench.view.clone(), bench.schema.clone(), bench.repeat);
    let bytes = (placing::bytes_per_row(&Plan::over(&view, &schema)) * rows) as u64;
    let mut figures = Vec::new();
    for engine in bench.engines() {
        let (times, hash) = Figure::times(repeat, || {
            let mut windows = Windows::new(view.clone(), &schema);
            let (elapsed, done) = timed(|| {
                batches.iter().try_for_each(|batch| windows.update_all(batch, engine).map(drop))
            });
            done?;
            let (finishing, rows) = timed(|| windows.rows());
            Ok((
                elapsed + finishing,
                Some(result_hash(&ResultSchema::of(&view), &rows).to_string()),
            ))
        })?;
        // Most of it happens on the host: a share of the device's bandwidth would say nothing.
        let of_copy_bandwidth = None;
        let by = format!("{}, 1 thread", engine.kind());
        let input = input.clone();
        figures.push(Figure { input, by, rows, bytes, times, hash, of_copy_bandwidth });
    }
    figures.into_iter().for_each(|figure| bench.figures.add(figure));
    Ok(())
}

/// Every variant of the GPU kernels over one batch in runs, and over columns that stay there.
fn variants(bench: &mut Bench, rows: usize) -> Result<()> {
    let (view, schema, repeat) = (bench.view.clone(), bench.schema.clone(), bench.repeat);
    let copy = bench.bandwidth.map(|bandwidth| bandwidth.copy_bytes_per_s);
    let Some(gpu) = bench.gpu.as_mut() else { return Ok(()) };
    let batch = by_key(&Market::of(1, 1_000, Skew::Zipf).next_ticks(rows));
    let plan = Plan::over(&view, &schema);
    let runs = placing::runs(&Partitioner::new(&view, &plan), &batch);
    let columns = plan.columns().len() * batch.len();
    let input = format!("{} ticks of 1000 keys in runs: partials of bars_1m", batch.len());
    let mut figures = Vec::new();
    let mut figure = |by: String, bytes: u64, measured: (Vec<Duration>, _)| {
        let (times, hash) = measured;
        let seconds = median(&times).as_secs_f64();
        let of_copy_bandwidth =
            copy.filter(|_| by.starts_with("gpu")).map(|copy| bytes as f64 / seconds / copy);
        let (input, rows) = (input.clone(), batch.len());
        figures.push(Figure { input, by, rows, bytes, times, hash, of_copy_bandwidth });
    };
    let reduce = |engine: &mut dyn Engine| {
        Figure::times(repeat, || {
            let (elapsed, partials) = timed(|| engine.reduce(&plan, &runs));
            Ok((elapsed, Some(hash_of_words(&partials?.words))))
        })
    };
    let wide_bytes = (columns * size_of::<i64>()) as u64;
    figure("cpu".to_owned(), wide_bytes, reduce(&mut CpuEngine)?);
    for variant in gpu.variants() {
        gpu.force(Some(variant))?;
        let bytes = match variant.encoding {
            Encoding::Wide => wide_bytes,
            // As far as the market's columns go: all of them span less than 2^32.
            Encoding::Frame => (columns * size_of::<u32>()) as u64,
        };
        figure(format!("gpu {variant}"), bytes, reduce(gpu)?);
    }
    gpu.force(None)?;
    let (measured, bytes, clock) = resident(gpu, repeat, &plan, &runs)?;
    figure(format!("gpu resident, {clock} clock"), bytes, measured);
    figures.into_iter().for_each(|figure| bench.figures.add(figure));
    Ok(())
}

type Measured = (Vec<Duration>, Option<String>);

/// Reduces a batch whose columns stay on the device, by the device's own clock where it has one.
fn resident(
    gpu: &mut GpuEngine,
    repeat: usize,
    plan: &Plan,
    runs: &Runs,
) -> Result<(Measured, u64, &'static str)> {
    let id = BatchId(0);
    let timestamps = gpu.take_time(true);
    let measured = Figure::times(repeat, || {
        let (elapsed, partials) = timed(|| gpu.reduce_resident(id, plan, runs));
        let hash = hash_of_words(&partials?.words);
        let own = gpu.last_timing().map(|timing| Duration::from_nanos(timing.compute_ns));
        Ok((own.filter(|_| timestamps).unwrap_or(elapsed), Some(hash)))
    });
    gpu.take_time(false);
    let bytes = gpu.resident().bytes;
    gpu.evict(id);
    Ok((measured?, bytes, if timestamps { "device" } else { "host" }))
}

fn hash_of_words(words: &[u64]) -> String {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    blake3::hash(&bytes).to_hex().to_string()
}

/// The market in batches; sorted, each batch is by key, then time.
fn batches(rows: usize, keys: usize, skew: Skew, sorted: bool) -> Vec<Ticks> {
    let mut market = Market::of(1, keys, skew);
    let mut left = rows;
    let mut batches = Vec::new();
    while left > 0 {
        let ticks = market.next_ticks(left.min(BATCH_ROWS));
        left -= ticks.len();
        batches.push(if sorted { by_key(&ticks) } else { ticks });
    }
    batches
}

fn by_key(ticks: &Ticks) -> Ticks {
    let mut rows: Vec<u32> = (0..ticks.len() as u32).collect();
    rows.sort_by_key(|&row| (ticks.key[row as usize], ticks.ts_event[row as usize]));
    ticks.take(&rows)
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[times.len() / 2].max(Duration::from_nanos(1))
}
