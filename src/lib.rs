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

/// Runs the program with the process's arguments and maps its outcome to an exit code: 0 for
/// success, 1 for failure or a difference found, 2 for a wrong command line.
pub fn run() -> ExitCode {
    let cli = cli::Cli::parse();
    log_to_stderr();
    match commands::run(cli.command) {
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

/// Whoever read our output went away, e.g. `isotick scan … | head`.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    })
}
