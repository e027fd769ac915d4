//! Measures the variants on an adapter, and keeps what was measured in a file.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use isotick_kernels::{Group, Groups, Partials, Plan, Run, Runs, Term};
use isotick_model::{Key, PublisherId, Ticks, ValueColumn};
use serde_json::{Value, json};

use crate::adapters::AdapterInfo;
use crate::engine::GpuEngine;
use crate::error::GpuError;
use crate::select::{RunClass, Selection};
use crate::variant::{Shape, Variant};

/// Whether an engine measures its variants when it opens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Calibrate {
    /// No: what is usual for the kind of adapter is assumed.
    #[default]
    Off,
    /// Yes, unless the file of an earlier measurement is in this folder, which is made where it is
    /// missing. A folder that cannot be written is said at debug level, and nothing else changes.
    Cached(PathBuf),
    /// Yes, at every opening.
    Always,
}

impl Calibrate {
    /// The variable that overrides the folder, or with `off` switches measuring off.
    pub const VARIABLE: &'static str = "ISOTICK_GPU_CALIBRATION";

    /// What an environment means, asked by variable's name: [`Self::VARIABLE`], else the folder
    /// `isotick` in the user's cache folder (`XDG_CACHE_HOME`, `LOCALAPPDATA` on Windows, else
    /// `.cache` or on macOS `Library/Caches` in the home folder). Without any of them each opening
    /// measures.
    pub fn of_environment(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        // The standard tells to ignore relative folders.
        let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        if let Some(wanted) = variable(Self::VARIABLE).filter(|wanted| !wanted.is_empty()) {
            return if wanted == "off" { Self::Off } else { Self::Cached(wanted.into()) };
        }
        let in_home = if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" };
        let caches =
            if cfg!(windows) { absolute("LOCALAPPDATA") } else { absolute("XDG_CACHE_HOME") }
                .or_else(|| absolute("HOME").map(|home| home.join(in_home)));
        caches.map_or(Self::Always, |folder| Self::Cached(folder.join("isotick")))
    }
}

/// Where a choice of variants comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Assumed from the kind of adapter.
    Assumed,
    /// Measured when the engine was opened.
    Measured,
    /// Measured by an earlier engine on the same adapter, driver and kernels.
    Cached,
}

/// What is known of the variants on an adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// Where it comes from.
    pub origin: Origin,
    /// Nanoseconds per row of each variant, by [`RunClass`], upload and readback included; `None`
    /// where it was not measured. Of [`Origin::Assumed`] only the order means anything.
    pub ns_per_row: BTreeMap<Variant, [Option<f64>; 3]>,
    /// Nanoseconds per row that rows in any order cost more than rows in runs: their partition on
    /// the device. `None` where it was not measured.
    pub partition_ns_per_row: Option<f64>,
    /// The variants that are not used, each with the reason.
    pub skipped: Vec<(Variant, String)>,
    /// The variant for runs of each class.
    pub chosen: [Variant; 3],
}

/// Rows that are measured, few enough that all variants take well under the time allowed.
const HARDWARE_ROWS: u32 = 1 << 19;
const SOFTWARE_ROWS: u32 = 1 << 14;
/// When no further variant is measured.
const HARDWARE_TIME_MAX: Duration = Duration::from_millis(300);
const SOFTWARE_TIME_MAX: Duration = Duration::from_millis(800);
/// The lengths of run that stand for the classes.
const RUN_ROWS: [u32; 3] = [8, 256, 8192];

/// What makes a measurement worthless when it changes: adapter, driver, kernels.
pub(crate) fn identity(adapter: &AdapterInfo) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut part = |text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    part(&adapter.name);
    part(&adapter.backend);
    part(&adapter.driver);
    part(env!("CARGO_PKG_VERSION"));
    for permutation in isotick_shaders::ALL.iter().flat_map(|shader| shader.permutations) {
        part(permutation.source);
    }
    hasher.finalize().to_hex()[..32].to_owned()
}

/// The file of an adapter's measurement.
pub(crate) fn file(folder: &Path, identity: &str) -> PathBuf {
    folder.join(format!("gpu-{identity}.json"))
}

/// What an earlier measurement found; `None` where there is none that can be read.
pub(crate) fn read(path: &Path) -> Option<Selection> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            tracing::debug!(path = %path.display(), %error, "no calibration of this adapter yet");
            return None;
        }
    };
    let selection = parse(&text);
    if selection.is_none() {
        tracing::debug!(path = %path.display(), "not a calibration: measuring again");
    }
    selection
}

fn parse(text: &str) -> Option<Selection> {
    let root: Value = serde_json::from_str(text).ok()?;
    let table = root.get("ns_per_row")?.as_object()?;
    let mut ns_per_row = BTreeMap::new();
    for variant in Variant::all() {
        let Some(costs) = table.get(&variant.to_string()) else { continue };
        let costs: [Value; 3] = costs.as_array()?.clone().try_into().ok()?;
        let costs = costs.map(|cost| cost.as_f64().filter(|cost| *cost > 0.0));
        ns_per_row.insert(variant, costs);
    }
    ns_per_row.contains_key(&Variant::BASE).then_some(Selection {
        ns_per_row,
        forced: None,
        partition_ns_per_row: root.get("partition_ns_per_row").and_then(Value::as_f64),
    })
}

/// Keeps a measurement: whole, or not at all.
pub(crate) fn write(path: &Path, adapter: &AdapterInfo, selection: &Selection) {
    let attempt = || -> io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let table: serde_json::Map<_, _> = selection
            .ns_per_row
            .iter()
            .map(|(variant, costs)| (variant.to_string(), json!(costs)))
            .collect();
        let root = json!({
            "adapter": adapter.name,
            "driver": adapter.driver,
            "ns_per_row": table,
            "partition_ns_per_row": selection.partition_ns_per_row,
        });
        // A name of this process, so that two that start together do not write into one file.
        let draft = path.with_extension(format!("{}.tmp", std::process::id()));
        fs::write(&draft, format!("{root:#}\n"))?;
        fs::rename(&draft, path)
    };
    if let Err(error) = attempt() {
        tracing::debug!(path = %path.display(), %error, "the calibration could not be kept");
    }
}

/// Measures what the adapter can run, [`Variant::BASE`] first and completely. A variant that
/// differs from it in a single bit is left out, with the reason.
pub(crate) fn measure(engine: &mut GpuEngine) -> Result<(Selection, Refused), GpuError> {
    let software = engine.adapter().is_software();
    let (rows, time_max) = match software {
        true => (SOFTWARE_ROWS, SOFTWARE_TIME_MAX),
        false => (HARDWARE_ROWS, HARDWARE_TIME_MAX),
    };
    let batches = RUN_ROWS.map(|run_rows| batch(rows, run_rows));
    let plan = plan();
    let begin = Instant::now();
    let mut selection =
        Selection { ns_per_row: BTreeMap::new(), forced: None, partition_ns_per_row: None };
    let (mut refused, mut expected) = (Vec::new(), [const { None }; 3]);
    for variant in by_promise(engine.variants()) {
        if begin.elapsed() > time_max {
            refused.push((variant, "not measured in the time there is".into()));
            continue;
        }
        let mut costs: [Option<f64>; 3] = [None; 3];
        // Long runs first: a variant that is slow there is not tried on shorter ones.
        for class in RunClass::ALL.into_iter().rev() {
            let best = selection.best(class);
            let longer = RunClass::ALL.get(class as usize + 1).copied();
            let is_slow = longer.is_some_and(|longer| {
                let found = costs[longer as usize].zip(selection.best(longer));
                found.is_some_and(|(cost, best): (f64, f64)| cost > 4.0 * best)
            });
            if is_slow {
                break;
            }
            let batch = &batches[class as usize];
            let (cost, partials) = time(engine, variant, &plan, batch, best)?;
            if *expected[class as usize].get_or_insert_with(|| partials.clone()) != partials {
                refused.push((variant, "it computes wrong sums here".into()));
                costs = [None; 3];
                break;
            }
            costs[class as usize] = Some(cost);
        }
        if costs.iter().any(Option::is_some) {
            selection.ns_per_row.insert(variant, costs);
        }
    }
    selection.partition_ns_per_row = measure_partition(engine, &selection, &plan, rows)?;
    Ok((selection, refused))
}

/// What rows in any order cost more than rows in runs, nanoseconds per row: at least a picosecond.
/// `None` where they are not partitioned, or wrongly.
fn measure_partition(
    engine: &mut GpuEngine,
    selection: &Selection,
    plan: &Plan,
    rows: u32,
) -> Result<Option<f64>, GpuError> {
    if engine.partition_lacking().is_some() {
        return Ok(None);
    }
    let class = RunClass::Medium;
    let variant = selection.of_class(class);
    let runs = batch(rows, RUN_ROWS[class as usize]);
    let groups = interleaved(&runs);
    let (in_runs, _) = time(engine, variant, plan, &runs, None)?;
    let mut least = f64::INFINITY;
    for _ in 0..3 {
        let begin = Instant::now();
        match engine.reduce_groups_by(variant, plan, &groups) {
            // That is found out, and said, when the engine warms up.
            Err(GpuError::Unplaced { .. }) => return Ok(None),
            reduced => reduced?,
        };
        least = least.min(begin.elapsed().as_nanos() as f64 / f64::from(rows));
    }
    Ok(Some(((least - in_runs) * 1000.0).round().max(1.0) / 1000.0))
}

/// The same rows, but as if those of all runs came in turns.
fn interleaved(runs: &Runs) -> Groups {
    let (rows, groups) = (runs.ticks.len() as u32, runs.runs.len() as u32);
    let list = runs.runs.iter();
    let list = list.map(|run| Group { key: 0, rows: run.len, window_start: run.window_start });
    Groups {
        ticks: runs.ticks.clone(),
        group_of: (0..rows).map(|row| row % groups).collect(),
        groups: list.collect(),
        publisher_codes: runs.publisher_codes.clone(),
        publisher_ranks: vec![0],
    }
}

/// Variants that are left out, each with the reason.
pub(crate) type Refused = Vec<(Variant, String)>;

/// The variants, those first that are most likely to be chosen.
fn by_promise(mut variants: Vec<Variant>) -> Vec<Variant> {
    let group = Variant { shape: Shape::Workgroup, ..Variant::BASE };
    variants.sort_by_key(|variant| (*variant != Variant::BASE, *variant != group));
    variants
}

/// Nanoseconds per row, the better of two runs after one that compiles. One is enough where it is
/// far from the best.
fn time(
    engine: &mut GpuEngine,
    variant: Variant,
    plan: &Plan,
    runs: &Runs,
    best: Option<f64>,
) -> Result<(f64, Partials), GpuError> {
    let partials = engine.reduce_runs(variant, plan, runs)?;
    let mut least = f64::INFINITY;
    for _ in 0..2 {
        let begin = Instant::now();
        engine.reduce_runs(variant, plan, runs)?;
        let cost = begin.elapsed().as_nanos() as f64 / runs.ticks.len() as f64;
        least = least.min(cost);
        if best.is_some_and(|best| cost > 2.0 * best) {
            break;
        }
    }
    // In whole picoseconds, which a file keeps exactly.
    Ok(((least * 1000.0).round().max(1.0) / 1000.0, partials))
}

/// The terms of a bar with a volume-weighted price.
fn plan() -> Plan {
    Plan::of_terms([
        Term::First(0),
        Term::Max(0),
        Term::Min(0),
        Term::Last(0),
        Term::Sum(1),
        Term::SumProduct(0, 1),
        Term::SumPaired { of: 1, with: 0 },
    ])
}

/// Prices that wander and small sizes, in runs of one length.
fn batch(rows: u32, run_rows: u32) -> Runs {
    // A linear congruential generator (Knuth's MMIX constants): any spread of values will do.
    let mut state = 1_u64;
    let mut next = |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut price = 1_000_000_i64;
    let mut prices = Vec::new();
    for _ in 0..rows {
        price += next(201) as i64 - 100;
        prices.push(price);
    }
    let sizes: Vec<i64> = (0..rows).map(|_| 1 + next(1000) as i64).collect();
    let column = |values: Vec<i64>| ValueColumn { values: values.into(), nulls: None };
    let ticks = Ticks {
        ts_event: (0..i64::from(rows)).collect(),
        sequence: (0..u64::from(rows)).collect(),
        publishers: PublisherId::new("calibration").into_iter().collect(),
        publisher: vec![].into(),
        keys: vec![Key::empty()].into(),
        key: vec![0; rows as usize].into(),
        values: vec![column(prices), column(sizes)],
        seen: None,
    };
    let runs = (0..rows / run_rows)
        .map(|run| Run { start: run * run_rows, len: run_rows, key: 0, window_start: run.into() })
        .collect();
    Runs { ticks, runs, publisher_codes: vec![0] }
}

#[cfg(test)]
#[path = "tests/calibrate.rs"]
mod tests;
