//! `cargo xtask fuzz`: libFuzzer over the targets of `tests/fuzz`, one after another.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{cargo, run};

/// How long each target runs when nothing is said.
const SECONDS: u64 = 60;
/// The longest input that libFuzzer tries.
const INPUT_BYTES_MAX: usize = 16 << 10;
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
        run(Command::new(&program)
            .arg(&corpus)
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-max_len={INPUT_BYTES_MAX}"))
            .arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"))
            .arg(format!("-artifact_prefix={}/", found.display()))
            .args(["-print_final_stats=1", "-verbosity=0", "-ignore_remaining_args=1"])
            .arg("--corpus")
            .arg(&corpus)
            .arg(target))
        .with_context(|| format!("{target}: see the input below {}", found.display()))?;
    }
    Ok(())
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
