//! Where a command's definitions come from: a file, or what the data folder remembers.

use std::path::Path;

use anyhow::{Context, Result, bail};
use isotick_model::definitions::Definitions;

use crate::cli::DefinitionArgs;

const DEFAULT: &str = "isotick.toml";

/// Definitions for a command that writes: the file's, added to what the folder remembers; or only
/// the latter where there is no file.
pub fn for_writing(args: &DefinitionArgs, remembered: Option<&str>) -> Result<Definitions> {
    match (read(args)?, remembered) {
        (Some(new), Some(old)) => evolve(old, new),
        (Some(new), None) => Ok(new),
        (None, Some(old)) => parse_remembered(old),
        (None, None) => missing(),
    }
}

/// Definitions for a command that reads views of a folder: what the folder remembers, unless a
/// file was named, or only the default file knows all the views.
pub fn for_reading(
    args: &DefinitionArgs,
    remembered: &str,
    views: &[String],
) -> Result<Definitions> {
    if args.config.is_none() {
        let old = parse_remembered(remembered)?;
        if views.iter().all(|view| old.view(view).is_ok()) || !Path::new(DEFAULT).exists() {
            return Ok(old);
        }
    }
    match read(args)? {
        Some(new) => evolve(remembered, new),
        None => parse_remembered(remembered),
    }
}

/// Definitions of a file alone.
pub fn from_file(args: &DefinitionArgs) -> Result<Definitions> {
    match read(args)? {
        Some(definitions) => Ok(definitions),
        None => missing(),
    }
}

/// Definitions that a data folder or a service remembers.
pub fn parse_remembered(text: &str) -> Result<Definitions> {
    Definitions::parse(text, "remembered definitions")
        .context("the remembered definitions are damaged")
}

fn read(args: &DefinitionArgs) -> Result<Option<Definitions>> {
    let path = match &args.config {
        Some(path) => path.as_path(),
        None if Path::new(DEFAULT).exists() => Path::new(DEFAULT),
        None => return Ok(None),
    };
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the definitions in {}", path.display()))?;
    Ok(Some(Definitions::parse(&text, &path.display().to_string())?))
}

fn evolve(remembered: &str, new: Definitions) -> Result<Definitions> {
    Ok(Definitions::evolve(&parse_remembered(remembered)?, &new)?)
}

fn missing<T>() -> Result<T> {
    bail!(
        "no definitions of streams and views: there is no ./{DEFAULT}; write one with \
         `isotick init` (or `isotick init --from FILE` to read columns off a file), or name one \
         with --config"
    )
}
