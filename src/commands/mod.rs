//! The commands: each is one file, named as the user types it.

mod access;
mod bench;
mod compact;
mod deadletters;
mod demo;
mod devices;
mod explain;
mod export;
mod fsck;
mod import;
mod init;
mod jobs;
mod log;
mod numbers;
mod publish;
mod rollup;
mod scan;
mod serve;
mod status;
mod streams;
mod tail;
mod top;
mod verify;

use std::process::ExitCode;

use anyhow::Result;

use crate::cli::Command;

/// Runs a command.
pub fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Demo(args) => demo::run(args),
        Command::Serve(args) => serve::run(args),
        Command::Access(args) => access::run(args),
        Command::DeadLetters(args) => deadletters::run(args),
        Command::Status(args) => status::run(args),
        Command::Top(args) => top::run(args),
        Command::Publish(args) => publish::run(args),
        Command::Tail(args) => tail::run(args),
        Command::Import(args) => import::run(args),
        Command::Export(args) => export::run(args),
        Command::Compact(args) => compact::run(args),
        Command::Rollup(args) => rollup::run(args),
        Command::Fsck(args) => fsck::run(args),
        Command::Streams(args) => streams::run(args),
        Command::Log(args) => log::run(args),
        Command::Scan(args) => scan::run(*args),
        Command::Jobs(args) => jobs::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Devices(args) => devices::run(args),
        Command::Init(args) => init::run(args),
    }
}
