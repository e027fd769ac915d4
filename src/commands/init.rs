//! `isotick init`: a commented configuration, of the built-in example or read off a file.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use isotick_model::definitions::template;
use isotick_model::time::TimeUnit;
use isotick_storage::source::{Source, Suggestion};

use crate::cli::InitArgs;

pub fn run(args: InitArgs) -> Result<ExitCode> {
    let text = match &args.from {
        Some(path) => read_off(path)?,
        None => template::EXAMPLE.to_owned(),
    };
    let path = &args.config;
    if path.exists() && !args.force {
        bail!("{} exists; replace it with --force, or name another with --config", path.display());
    }
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!(
        "wrote {}: check columns and scales, then try `isotick scan` or `isotick serve`",
        path.display()
    );
    Ok(ExitCode::SUCCESS)
}

/// A configuration that fits a file; what was guessed or left out is told on standard error.
fn read_off(path: &Path) -> Result<String> {
    let suggestion = suggest(path)?;
    tell(&suggestion);
    for (column, field) in &suggestion.map {
        eprintln!("column {column} comes from field {field}: use --map '{column}={field}'");
    }
    if suggestion.time_unit != TimeUnit::default() {
        eprintln!("times are in {0}: use --time-unit {0}", suggestion.time_unit);
    }
    Ok(template::template_for(&suggestion.schema))
}

/// What of a file a suggested stream leaves out or guesses, on standard error.
pub fn tell(suggestion: &Suggestion) {
    for (field, why) in &suggestion.skipped {
        eprintln!("left out {field}: {why}");
    }
    for (column, note) in &suggestion.notes {
        eprintln!("{column}: {note}");
    }
}

/// A stream that fits a file: `trades` where it has prices, else `ticks`.
pub fn suggest(path: &Path) -> Result<Suggestion> {
    let mut suggestion = Source::suggest(path, "ticks")?;
    if suggestion.schema.column("price").is_some() {
        suggestion.schema.name = "trades".into();
    }
    Ok(suggestion)
}
