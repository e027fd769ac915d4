//! `isotick scan --at`: the scan of a running service, waited for.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

use super::output::Target;
use crate::cli::{JobSubmitArgs, ScanArgs};
use crate::commands::jobs;

pub fn run(args: ScanArgs) -> Result<ExitCode> {
    let started = Instant::now();
    let ScanArgs { views, input, engine, output, remote } = args;
    let target = Target::of(&output, views.len())?;
    let detach = remote.detach;
    let submit = JobSubmitArgs {
        views,
        at: remote.at.unwrap_or_default(),
        selection: input.selection,
        engine: engine.engine,
        no_rollup: input.no_rollup,
        priority: remote.priority,
        json: false,
        connect: remote.connect,
    };
    match detach {
        true => jobs::submit(submit),
        false => jobs::scan(submit, &target, output.stats, started),
    }
}
