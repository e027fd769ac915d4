//! `isotick verify`: what live published against a scan of history, window by window.

use std::process::ExitCode;

use anyhow::{Context, Result};
use isotick_kernels::{Truth, result_hash};
use isotick_model::results::{ResultSchema, WindowRow};
use isotick_scheduler::{Scan, is_closed};
use isotick_storage::Snapshot;
use serde_json::json;

use crate::cli::VerifyArgs;
use crate::comparing::differences;
use crate::rollups::Stored;
use crate::{definitions, engines, scanning};

/// Differing windows that are shown.
const SHOWN_MAX: usize = 10;

pub fn run(args: VerifyArgs) -> Result<ExitCode> {
    let (from_ns, to_ns) = args.range.bounds_ns()?;
    let snapshot = Snapshot::open(&args.data)?;
    let remembered = snapshot.folder().definitions()?.with_context(|| {
        format!("{} remembers no definitions: no service has run here", args.data.display())
    })?;
    let definitions = definitions::parse_remembered(&remembered)?;
    let view = definitions.view(&args.view)?;
    let schema = definitions.stream(&view.stream)?;
    let truth = Truth::Seen { allowed_ns: view.lateness.allowed_ns };
    let scan = Scan { from_ns, to_ns, ..scanning::whole(view, schema, truth) };
    let folder = scanning::folder_parts(&snapshot, &scan, Stored::Ticks, false)?;
    let engines = engines::open(args.engine, None)?;
    let (mut scanned, mut open) = (Vec::new(), 0);
    let watermark = snapshot.watermark(&view.stream);
    let finished = scanning::run(&scan, folder.parts, Some(folder.rows), engines, &mut |rows| {
        let rows = rows.rows();
        let all = rows.len();
        scanned.extend(rows.into_iter().filter(|row| is_closed(view, row.window_end, watermark)));
        open += all;
        Ok(())
    })?;
    open -= scanned.len();

    let result = ResultSchema::of(view);
    let (summary, engines) = (finished.summary(), finished.engines_json());
    let record = snapshot.manifest().record(&view.definition);
    let unrecorded = record.map_or(&[][..], |record| &record.unrecorded);
    let was_live = |row: &WindowRow| {
        folder.dropped_before.is_none_or(|before| row.window_start >= before)
            && !unrecorded.iter().any(|missed| missed.contains(row.window_start))
    };
    let closed = scanned.len();
    scanned.retain(was_live);
    let not_compared = closed - scanned.len();
    let in_range = |row: &WindowRow| {
        scan.from_ns.is_none_or(|from| row.window_start >= from)
            && scan.to_ns.is_none_or(|to| row.window_start < to)
    };
    let mut live = snapshot.record(&view.definition, &result)?;
    live.retain(|row| in_range(row) && was_live(row));
    let differing = differences(&live, &scanned);
    let hash = result_hash(&result, &scanned);
    if args.json {
        let report = json!({
            "view": view.name,
            "windows": scanned.len(),
            "differences": differing.len(),
            "open": open,
            "not_compared": not_compared,
            "rows": finished.rows_read,
            "engine": finished.engine,
            "rows_by_engine": engines,
            "hash": hash.to_string(),
            "live_hash": result_hash(&result, &live).to_string(),
        });
        println!("{report}");
    } else {
        println!(
            "{} windows, {} differences, hash {hash} ({} open, not compared)",
            scanned.len(),
            differing.len(),
            open
        );
    }
    eprintln!("scanned {summary}");
    if not_compared > 0 {
        eprintln!(
            "note: {not_compared} windows were not compared: they were closed before {} came into \
             use, or hold ticks that were dropped since",
            view.name
        );
    }
    if record.is_none() {
        eprintln!("note: no live record: no service has computed this view here yet");
    }
    let unflushed = snapshot.uncovered_records()?;
    if unflushed > 0 {
        eprintln!(
            "note: {unflushed} log records are not in history yet and were not compared: a running \
             service brings them there within seconds, a stopped one at its next start"
        );
    }
    for difference in differing.iter().take(SHOWN_MAX) {
        eprint!("{}", difference.describe(&result, ["live", "history"]));
    }
    if differing.len() > SHOWN_MAX {
        eprintln!("… and {} more", differing.len() - SHOWN_MAX);
    }
    Ok(if differing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
