//! `cargo xtask fuzz`: libFuzzer over the targets of `tests/fuzz`, one after another.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{cargo, run};

/// How long each target runs when nothing is said.
const SECONDS: u64 = 60;
/// The longest input that libFuzzer tries.
const INPUT_BYTES_MAX: usize = 16 << 10;
/// Lines that are shown of what libFuzzer says when it has found something.
const SHOWN_LINES_MAX: usize = 60;
/// Memory at which libFuzzer gives up: far above what any target may hold.
const MEMORY_MIB_MAX: usize = 2_048;

/// Coverage counters for every crate. They are LLVM's own, so a stable compiler makes them.
const FLAGS: [&str; 6] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

pub fn run_targets(arguments: &[String]) -> Result<()> {
    let (seconds, named) = parse(arguments)?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the root")?;
    let targets = targets(root)?;
    if let Some(unknown) = named.iter().find(|name| !targets.contains(name)) {
        bail!("there is no target `{unknown}`; there are: {}", targets.join(", "));
    }
    let program = build(root)?;
    let chosen = if named.is_empty() { &targets } else { &named };
    for target in chosen {
        eprintln!("xtask: {target}, {seconds} s");
        let folder = root.join("target/fuzz").join(target);
        let (corpus, found) = (folder.join("corpus"), folder.join("found"));
        for folder in [&corpus, &found] {
            std::fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
        }
        let done = fuzz(
            Command::new(&program)
                .arg(&corpus)
                .arg(format!("-max_total_time={seconds}"))
                .arg(format!("-max_len={INPUT_BYTES_MAX}"))
                .arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"))
                .arg(format!("-artifact_prefix={}/", found.display()))
                .arg("-ignore_remaining_args=1")
                .arg("--corpus")
                .arg(&corpus)
                .arg(target),
        )
        .with_context(|| {
            format!(
                "{target}: keep the input below {} as hexadecimal digits in \
                 tests/fuzz/regressions/{target}/SAYS-WHAT.hex",
                found.display()
            )
        })?;
        eprintln!("xtask: {target}: {done}");
    }
    Ok(())
}

/// Runs libFuzzer; gives back its last line, with runs, coverage and speed. What it says is shown
/// when it finds something.
fn fuzz(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        // Of a long run the end says what was found.
        let lines: Vec<_> = said.lines().collect();
        lines[lines.len().saturating_sub(SHOWN_LINES_MAX)..].iter().for_each(|l| eprintln!("{l}"));
        bail!("a promise is broken ({})", output.status);
    }
    let done = said.lines().rev().find_map(|line| line.split_once("DONE"));
    let (runs, done) = done.context("libFuzzer does not say what it did")?;
    let runs = runs.trim_matches(|c: char| !c.is_ascii_digit());
    Ok(format!("{runs} runs, {}", done.split_whitespace().collect::<Vec<_>>().join(" ")))
}

fn parse(arguments: &[String]) -> Result<(u64, Vec<String>)> {
    let (mut seconds, mut named) = (SECONDS, Vec::new());
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seconds" => {
                let text = arguments.next().context("--seconds needs a number")?;
                seconds = text.parse().with_context(|| format!("--seconds {text}"))?;
            }
            name => named.push(name.to_owned()),
        }
    }
    Ok((seconds, named))
}

/// The names of the targets: their driver in the tests lists them.
fn targets(root: &Path) -> Result<Vec<String>> {
    let path = root.join("tests/fuzz/tests/bounded.rs");
    let text = std::fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
    let list = text.split_once("\ntargets!(").and_then(|(_, rest)| rest.split_once(')'));
    let (list, _) = list.context("tests/bounded.rs lists no targets")?;
    Ok(list.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect())
}

fn build(root: &Path) -> Result<PathBuf> {
    let host = Command::new("rustc").arg("-vV").output().context("cannot run rustc")?;
    let host = String::from_utf8(host.stdout)?;
    let host = host.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("rustc -vV names the host")?.to_owned();
    let folder = root.join("tests/fuzz/libfuzzer");
    let target_dir = root.join("target/fuzz/build");
    // The versions that everything else is built with; libFuzzer's is added to them.
    std::fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock")).context("Cargo.lock")?;
    // With --target, build scripts and macros are not instrumented.
    run(cargo()
        .args(["build", "--release", "--target", &host])
        .arg("--manifest-path")
        .arg(folder.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target_dir)
        .env("RUSTFLAGS", FLAGS.join(" ")))?;
    Ok(target_dir.join(host).join("release/isotick-libfuzzer"))
}
