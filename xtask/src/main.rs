//! Daily work as one command each: `cargo xtask test | lint | ci | fuzz | bundle`.

mod bundle;
mod fuzz;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

const USAGE: &str = "\
usage: cargo xtask TASK

  test [ARGS…]  install what the tests need (software Vulkan and a local S3 server, where this
                machine lets it), then run every test of the workspace; ARGS go to the test binaries
  lint          formatting and clippy, warnings are errors
  ci            what a submission must pass: lint, then test
  fuzz [--seconds N] [TARGET…]
                libFuzzer over every target of tests/fuzz or those named, each for a minute or N
                seconds; needs a C++ compiler
  bundle [DIR]  one folder for a host without a toolchain: the program, the exactness suite, the
                benches and a script that runs them on every adapter
                [default: bundle/isotick-VERSION-TARGET]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (task, rest) = match arguments.split_first() {
        Some((task, rest)) => (task.as_str(), rest),
        None => ("help", [].as_slice()),
    };
    let outcome = match task {
        "test" => test(rest),
        "lint" => lint(),
        "fuzz" => fuzz::run_targets(rest),
        "bundle" => bundle::run(rest),
        "ci" => lint().and_then(|()| test(rest)),
        _ => {
            eprintln!("{USAGE}");
            return if task == "help" { ExitCode::SUCCESS } else { ExitCode::from(2) };
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn lint() -> Result<()> {
    run(cargo().args(["fmt", "--all", "--", "--check"]))?;
    run(cargo()
        .args(["clippy", "--release", "--workspace", "--all-targets", "--locked"])
        .args(["--", "--deny", "warnings"]))
}

fn test(arguments: &[String]) -> Result<()> {
    let mut command = cargo();
    command.args(["test", "--release", "--workspace", "--locked"]);
    // Tests leave the user's cache folder alone.
    let calibration = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/gpu-calibration");
    command.env("ISOTICK_GPU_CALIBRATION", calibration);
    match install_software_vulkan() {
        // An adapter is there: tests on it must run, not be passed over.
        Ok(()) => drop(command.env("ISOTICK_REQUIRE_GPU", "1")),
        Err(error) => eprintln!("xtask: tests on a GPU adapter will be ignored: {error:#}"),
    }
    match install_s3_server() {
        Ok(program) => {
            command.env("ISOTICK_MOTO_SERVER", program).env("ISOTICK_REQUIRE_S3", "1");
        }
        Err(error) => eprintln!("xtask: tests on an S3 server will be ignored: {error:#}"),
    }
    if !arguments.is_empty() {
        command.arg("--").args(arguments);
    }
    run(&mut command)
}

/// Makes sure that the S3 server of the tests can be started: one on the path, or one of its own
/// in a virtual environment of Python below `target/`.
fn install_s3_server() -> Result<PathBuf> {
    let runs = |program: &Path| {
        let output = Command::new(program).arg("--help").output();
        output.is_ok_and(|output| output.status.success())
    };
    let on_path = PathBuf::from("moto_server");
    if runs(&on_path) {
        return Ok(on_path);
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/s3-server");
    let programs = folder.join(if cfg!(windows) { "Scripts" } else { "bin" });
    let program = programs.join("moto_server");
    if !runs(&program) {
        eprintln!("xtask: installing moto, a local S3 server, below target/");
        let remedy = "install Python 3 with venv and pip, or moto[server] itself";
        let python = if cfg!(windows) { "python" } else { "python3" };
        run(Command::new(python).args(["-m", "venv"]).arg(&folder)).context(remedy)?;
        let pip = ["-m", "pip", "install", "--quiet", "moto[server]>=5.1,<6"];
        run(Command::new(programs.join("python")).args(pip)).context(remedy)?;
    }
    if !runs(&program) {
        bail!("moto is installed, but {} does not run", program.display());
    }
    Ok(program)
}

/// Makes sure that a Vulkan adapter exists: a driver of the machine's own, or Mesa's software one.
fn install_software_vulkan() -> Result<()> {
    if has_vulkan_driver() {
        return Ok(());
    }
    if !cfg!(target_os = "linux") {
        // Metal and Direct3D come with the system.
        return Ok(());
    }
    let remedy = "install Vulkan's loader and a driver, e.g. on Debian or Ubuntu: \
                  apt-get install mesa-vulkan-drivers libvulkan1";
    let root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n");
    if !root || !Path::new("/usr/bin/apt-get").exists() {
        bail!("{remedy}");
    }
    eprintln!("xtask: installing Mesa's software Vulkan driver");
    let apt = |arguments: &[&str]| {
        run(Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive"))
    };
    apt(&["update", "-qq"]).context(remedy)?;
    apt(&["install", "-y", "-qq", "mesa-vulkan-drivers", "libvulkan1"]).context(remedy)?;
    if !has_vulkan_driver() {
        bail!("the packages are installed, but no Vulkan driver is listed; {remedy}");
    }
    Ok(())
}

fn has_vulkan_driver() -> bool {
    let folders = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d", "/usr/local/share/vulkan/icd.d"];
    let driver = folders
        .iter()
        .any(|folder| std::fs::read_dir(folder).is_ok_and(|mut files| files.next().is_some()));
    let libraries = Command::new("ldconfig").arg("-p").output();
    driver && libraries.is_ok_and(|list| contains(&list.stdout, b"libvulkan.so.1"))
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed ({status})");
    }
    Ok(())
}
