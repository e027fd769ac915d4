#![doc = include_str!("README.md")]

pub mod arrow;
mod cli;
mod commands;
mod comparing;
mod connecting;
mod definitions;
mod device;
mod engines;
mod files;
mod held;
mod input;
mod leaving;
pub mod market;
mod memory;
mod output;
mod pace;
mod placing;
mod progress;
mod publishing;
mod resident;
pub mod rollups;
mod scanning;
mod security;
mod service;

use std::process::ExitCode;

use clap::Parser;
use isotick_storage::source::panics_become_errors;

/// Runs the program with the process's arguments and maps its outcome to an exit code: 0 for
/// success, 1 for failure or a difference found, 2 for a wrong command line; as shells have it, 130
/// for a client's command that was interrupted and 143 for one that was told to end.
pub fn run() -> ExitCode {
    let cli = cli::Cli::parse();
    log_to_stderr();
    say_nothing_of_handled_panics();
    let run = std::panic::AssertUnwindSafe(|| commands::run(cli.command));
    let outcome = match std::panic::catch_unwind(run) {
        Ok(outcome) => outcome,
        Err(panic) if is_broken_print(&*panic) => return ExitCode::SUCCESS,
        Err(panic) => std::panic::resume_unwind(panic),
    };
    match outcome {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("isotick: {}", describe(&error));
            ExitCode::FAILURE
        }
    }
}

/// Warnings and errors of running services go to standard error; `ISOTICK_LOG` says otherwise, e.g.
/// `ISOTICK_LOG=info`.
fn log_to_stderr() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("ISOTICK_LOG");
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .with_env_filter(filter.unwrap_or_else(|_| EnvFilter::new("warn")))
        .init();
}

/// The error and its causes, each said once: many errors name their cause themselves.
fn describe(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        match text.is_empty() {
            true => text = cause,
            false if text.contains(&cause) => {}
            false => text += &format!(": {cause}"),
        }
    }
    text
}

/// Whoever reads standard output may have had enough at any time, as `head` does; `println!` panics
/// then. And a decoder's panic over a damaged file is told of as an error that names the file; where
/// it came from is said with `ISOTICK_LOG=debug`.
fn say_nothing_of_handled_panics() {
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panics_become_errors() {
            tracing::debug!("becomes an error: {panic}");
        } else if !is_broken_print(panic.payload()) {
            say(panic);
        }
    }));
}

fn is_broken_print(panic: &(dyn std::any::Any + Send)) -> bool {
    let text = panic.downcast_ref::<String>();
    text.is_some_and(|text| {
        text.starts_with("failed printing to stdout") && text.contains("Broken pipe")
    })
}

/// Whoever read our output went away, e.g. `isotick scan … | head`.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    })
}
