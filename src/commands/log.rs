//! `isotick log`: what the log holds, and what to do when it is damaged.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use isotick_model::LogPosition;
use isotick_storage::log::check::{LogDamage, LogReport, SegmentReport, check};
use isotick_storage::log::repair::{LogRepair, plan, repair};
use isotick_storage::{Snapshot, Store};
use serde_json::{Value, json};

use crate::cli::{LogArgs, LogCheckArgs, LogCommand, LogRepairArgs};

pub fn run(args: LogArgs) -> Result<ExitCode> {
    match args.command {
        LogCommand::Check(args) => run_check(&args),
        LogCommand::Repair(args) => run_repair(&args),
    }
}

fn run_check(args: &LogCheckArgs) -> Result<ExitCode> {
    let snapshot = Snapshot::open(&args.data)?;
    let report = check(snapshot.folder(), snapshot.manifest().covered())?;
    match args.json {
        true => println!("{}", to_json(&report)),
        false => print(&report)?,
    }
    Ok(if report.damage.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn run_repair(args: &LogRepairArgs) -> Result<ExitCode> {
    // Nothing is made where there is no data folder.
    drop(Snapshot::open(&args.data)?);
    let store = Store::open(&args.data, "isotick log repair")?;
    let report = check(store.folder(), store.manifest().covered())?;
    print(&report)?;
    let Some(damage) = &report.damage else {
        println!("nothing to repair");
        return Ok(ExitCode::SUCCESS);
    };
    let checkpoint = store.checkpoint(|error| eprintln!("{error}"))?;
    let needed = checkpoint.map_or(LogPosition(0), |checkpoint| checkpoint.position);
    let way = plan(damage, needed, store.manifest().covered())?;
    println!("{}", describe(&way, damage));
    if !args.yes {
        println!("nothing was changed; --yes does it");
        return Ok(ExitCode::FAILURE);
    }
    for path in repair(store.folder(), &report, &way)? {
        println!("kept in {}", path.display());
    }
    let report = check(store.folder(), store.manifest().covered())?;
    match &report.damage {
        None => println!("repaired: the log goes on at record {}", report.end.0),
        Some(damage) => println!("still damaged: {}; repair again", describe_damage(damage)),
    }
    Ok(if report.damage.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn describe_damage(damage: &LogDamage) -> String {
    format!(
        "{} at byte {}, where record {} should be: {}",
        damage.path.display(),
        damage.offset,
        damage.position.0,
        damage.what
    )
}

fn describe(way: &LogRepair, damage: &LogDamage) -> String {
    match way {
        LogRepair::Forget { before } => format!(
            "a repair loses nothing: history and the last checkpoint hold what is before record \
             {}; the log will begin there, and what is before is put aside",
            before.0
        ),
        LogRepair::Cut => format!(
            "a repair ends the log before record {}; it loses that record and {} whole ones behind \
             it with {} ticks ({} bytes), which end before record {}; they are put aside in files \
             beside",
            damage.position.0,
            damage.records_behind,
            damage.ticks_behind,
            damage.bytes_behind,
            damage.end_behind.0
        ),
    }
}

fn print(report: &LogReport) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "log {}", report.folder.display())?;
    writeln!(
        out,
        "  {:<24}  {:>7}  {:>12}  {:>12}  {:>12}  {:>12}  {:>12}",
        "segment", "version", "first", "records", "ticks", "bytes", "file bytes"
    )?;
    for segment in &report.segments {
        let SegmentReport { path, version, first, end, ticks, used_bytes, file_bytes } = segment;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let version = version.map_or_else(|| "none".to_owned(), |version| version.to_string());
        let records = end.0 - first.0;
        writeln!(
            out,
            "  {name:<24}  {version:>7}  {:>12}  {records:>12}  {ticks:>12}  {used_bytes:>12}  \
             {file_bytes:>12}",
            first.0
        )?;
    }
    if let Some(cut) = &report.torn {
        writeln!(
            out,
            "torn: {} bytes in {} from byte {}; never acknowledged as durable, and cut off when \
             the log is next opened for writing",
            cut.bytes,
            cut.path.display(),
            cut.offset
        )?;
    }
    match &report.damage {
        None => writeln!(out, "whole: it ends before record {}", report.end.0)?,
        Some(damage) => {
            writeln!(out, "damaged: {}", describe_damage(damage))?;
            writeln!(
                out,
                "behind it: {} whole records with {} ticks, {} bytes, before record {}",
                damage.records_behind,
                damage.ticks_behind,
                damage.bytes_behind,
                damage.end_behind.0
            )?;
            writeln!(out, "restore the file from a copy, or see `isotick log repair`")?;
        }
    }
    Ok(())
}

fn to_json(report: &LogReport) -> Value {
    let segments: Vec<_> = report
        .segments
        .iter()
        .map(|segment| {
            json!({
                "path": segment.path,
                "version": segment.version,
                "first": segment.first.0,
                "records": segment.end.0 - segment.first.0,
                "ticks": segment.ticks,
                "bytes": segment.used_bytes,
                "file_bytes": segment.file_bytes,
            })
        })
        .collect();
    json!({
        "folder": report.folder,
        "segments": segments,
        "end": report.end.0,
        "torn": report.torn.as_ref().map(|cut| json!({
            "path": cut.path, "offset": cut.offset, "bytes": cut.bytes,
        })),
        "damage": report.damage.as_ref().map(|damage| json!({
            "path": damage.path,
            "offset": damage.offset,
            "position": damage.position.0,
            "what": damage.what,
            "records_behind": damage.records_behind,
            "ticks_behind": damage.ticks_behind,
            "bytes_behind": damage.bytes_behind,
            "end_behind": damage.end_behind.0,
        })),
    })
}
