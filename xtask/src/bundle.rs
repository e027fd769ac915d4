//! `cargo xtask bundle`: one folder for a host without a toolchain.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{cargo, run as run_command};

const SCRIPT: &str = include_str!("bundle/run.sh");
const README: &str = include_str!("bundle/README.md");

/// What is built, and its name in the bundle.
const PROGRAMS: [(&str, &str, &str); 4] = [
    ("bin", "isotick", "isotick"),
    ("test", "isotick", "exactness-suite"),
    ("bench", "kernels", "criterion-kernels"),
    ("lib", "isotick_gpu", "gpu-suite"),
];

pub fn run(arguments: &[String]) -> Result<()> {
    let folder = match arguments {
        [] => default_folder()?,
        [folder] => PathBuf::from(folder),
        _ => bail!("cargo xtask bundle takes one folder at most"),
    };
    let built = build()?;
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    for (kind, target, name) in PROGRAMS {
        let found = built
            .iter()
            .find(|program| (program.kind.as_str(), program.target.as_str()) == (kind, target));
        let program = found.with_context(|| format!("cargo built no {kind} {target}"))?;
        let to = folder.join(name);
        // A program that runs cannot be overwritten, only replaced.
        let _ = std::fs::remove_file(&to);
        std::fs::copy(&program.path, &to)
            .with_context(|| format!("cannot copy {} to {}", program.path, to.display()))?;
        strip(&to);
    }
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        anyhow::Ok(path)
    };
    write("README.md", README)?;
    make_executable(&write("run.sh", SCRIPT)?)?;
    let config = folder.join("isotick.toml");
    run_command(
        Command::new(folder.join("isotick").canonicalize()?)
            .args(["init", "--force", "--config"])
            .arg(&config),
    )?;
    println!("{}", folder.display());
    Ok(())
}

fn default_folder() -> Result<PathBuf> {
    let rustc = Command::new("rustc").arg("-vV").output().context("cannot run rustc")?;
    let text = String::from_utf8_lossy(&rustc.stdout).into_owned();
    let target = text.lines().find_map(|line| line.strip_prefix("host: "));
    let name = format!("isotick-{}-{}", env!("CARGO_PKG_VERSION"), target.unwrap_or("unknown"));
    Ok(Path::new("bundle").join(name))
}

/// An executable that cargo has built.
struct Program {
    kind: String,
    target: String,
    path: String,
}

fn build() -> Result<Vec<Program>> {
    let mut programs = Vec::new();
    let whole = ["-p", "isotick", "--bin", "isotick", "--test", "isotick", "--bench", "kernels"];
    let mut build = cargo();
    build.args(["build", "--release", "--locked"]).args(whole);
    let mut suite = cargo();
    suite.args(["test", "--release", "--locked", "--no-run", "-p", "isotick-gpu", "--lib"]);
    for command in [&mut build, &mut suite] {
        command.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit());
        let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
        if !output.status.success() {
            bail!("{command:?} failed ({})", output.status);
        }
        programs.extend(String::from_utf8_lossy(&output.stdout).lines().filter_map(program));
    }
    Ok(programs)
}

/// The executable that a line of cargo's output names.
fn program(line: &str) -> Option<Program> {
    let message: Value = serde_json::from_str(line).ok()?;
    let target = &message["target"];
    Some(Program {
        path: message["executable"].as_str()?.to_owned(),
        kind: target["kind"][0].as_str()?.to_owned(),
        target: target["name"].as_str()?.to_owned(),
    })
}

/// Takes debug information out, where the system has the tool; the program runs with it as well.
fn strip(program: &Path) {
    if !Command::new("strip").arg(program).status().is_ok_and(|status| status.success()) {
        eprintln!("xtask: {} keeps its debug information: no strip here", program.display());
    }
}

#[cfg(unix)]
fn make_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}

#[cfg(not(unix))]
fn make_executable(_: &Path) -> Result<()> {
    Ok(())
}
