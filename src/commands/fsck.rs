//! `isotick fsck`: everything in a data folder read and checked.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use isotick_model::definitions::Definitions;
use isotick_storage::Snapshot;
use isotick_storage::fsck::{Finding, fsck};
use serde_json::json;

use crate::cli::FsckArgs;
use crate::{definitions, progress};

pub fn run(args: FsckArgs) -> Result<ExitCode> {
    let started = Instant::now();
    let snapshot = Snapshot::open(&args.data)?;
    let definitions = match snapshot.folder().definitions()? {
        Some(text) => definitions::parse_remembered(&text)?,
        None => Definitions::default(),
    };
    let rows = snapshot.manifest().files().map(|file| file.rows).sum();
    let bar = progress::bar("reading", Some(rows), "rows");
    let report = fsck(&snapshot, &definitions, &mut |rows| bar.inc(rows))
        .with_context(|| format!("cannot check {}", args.data.display()))?;
    bar.finish_and_clear();
    let log = report.log.as_ref();
    let records = log.map_or(0, |log| {
        log.segments.iter().map(|segment| segment.end.0 - segment.first.0).sum::<u64>()
    });
    let torn = log.and_then(|log| log.torn.as_ref());
    if args.json {
        let finding = |Finding { place, what, remedy }: &Finding| json!({ "place": place, "what": what, "remedy": remedy });
        let object = json!({
            "manifest_version": report.version,
            "covered": report.covered.0,
            "history_files": report.history_files,
            "ticks": report.ticks,
            "record_files": report.record_files,
            "windows": report.windows,
            "rollup_files": report.rollup_files,
            "states": report.states,
            "checkpoints": report.checkpoints,
            "log_records": records,
            "log_torn_bytes": torn.map(|cut| cut.bytes),
            "orphans": report.orphans,
            "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
            "seconds": started.elapsed().as_secs_f64(),
        });
        println!("{object}");
    } else {
        println!(
            "manifest {}: {} ticks in {} files, {} states of them in {} files, {} recorded windows \
             in {} files, {} checkpoints, {records} log records",
            report.version,
            report.ticks,
            report.history_files,
            report.states,
            report.rollup_files,
            report.windows,
            report.record_files,
            report.checkpoints
        );
        if let Some(cut) = torn {
            println!(
                "the log ends torn: {} bytes that were never acknowledged as durable; the next \
                 start cuts them off",
                cut.bytes
            );
        }
        if !report.orphans.is_empty() {
            println!(
                "{} files that nothing refers to, left by a command that was interrupted; the next \
                 command that writes removes them",
                report.orphans.len()
            );
        }
        for Finding { place, what, remedy } in &report.findings {
            println!("{place}: {what}\n  {remedy}");
        }
        match report.findings.len() {
            0 => println!("nothing is wrong ({:.1} s)", started.elapsed().as_secs_f64()),
            findings => println!("{findings} findings"),
        }
    }
    Ok(if report.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
