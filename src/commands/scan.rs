//! `isotick scan`: a view over stored history or foreign files.

pub mod output;
mod remote;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use isotick_model::results::ResultSchema;

use self::output::{Output, Target};
use crate::cli::ScanArgs;
use crate::engines;
use crate::input::Input;
use crate::{memory, scanning};

pub fn run(args: ScanArgs) -> Result<ExitCode> {
    if args.remote.at.is_some() {
        return remote::run(args);
    }
    let started = Instant::now();
    let target = Target::of(&args.output, args.views.len())?;
    let engines = engines::open(args.engine.engine, args.engine.threads)?;
    let Input { scan, parts, rows, bytes, rejections, .. } =
        Input::open(&args.views, &args.input, engines.workers.len())?;
    bytes.into_iter().for_each(memory::suit);
    let mut outputs = Vec::new();
    for of in &scan.views {
        outputs.push(Some(target.open(&of.view.name, ResultSchema::of(&of.view))?));
    }
    // Views come one after another: what went before is complete.
    let close = |outputs: &mut [Option<Output>]| {
        outputs.iter_mut().filter_map(Option::take).try_for_each(Output::close)
    };
    let all = scanning::run_all(&scan, parts, rows, engines, &mut |number, rows| {
        close(&mut outputs[..number])?;
        match &mut outputs[number] {
            Some(output) if !target.is_nowhere() => output.write(&rows.rows()),
            _ => Ok(()),
        }
    })?;
    close(&mut outputs)?;
    let query_seconds = started.elapsed().as_secs_f64();
    rejections.report();
    for finished in &all {
        target.tell_hash(&finished.view, &finished.hash);
    }
    for finished in all.iter().filter(|_| !args.output.stats) {
        match all.len() {
            1 => eprintln!("{}", finished.summary()),
            _ => eprintln!("{}: {}", finished.view, finished.summary()),
        }
    }
    if args.output.stats {
        let stats = all.iter().map(|finished| {
            let mut stats = finished.to_json();
            stats["query_seconds"] = query_seconds.into();
            stats["rejected"] = rejections.to_json();
            stats
        });
        let mut stats: Vec<_> = stats.collect();
        match stats.len() {
            1 => eprintln!("{}", stats.remove(0)),
            _ => eprintln!("{}", serde_json::Value::from(stats)),
        }
    }
    Ok(ExitCode::SUCCESS)
}
