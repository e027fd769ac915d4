//! `isotick scan`: a view over stored history or foreign files.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use isotick_model::results::ResultSchema;
use isotick_model::{Key, PublisherId};
use isotick_scheduler::{Part, Scan};
use isotick_storage::Snapshot;

use crate::cli::{ScanArgs, ScanFormat, TruthChoice};
use crate::files::{self, Rejections};
use crate::output::{RowWriter, TextFormat};
use crate::scanning::{self, Finished};
use crate::service::now_ns;
use crate::{definitions, engines};

pub fn run(args: ScanArgs) -> Result<ExitCode> {
    let format = chosen_format(&args)?;
    if args.data.is_none() && args.file.is_empty() {
        bail!("what to scan? Name a data folder with --data DIR, or files with --file FILE…");
    }
    if args.data.is_none() && args.truth != TruthChoice::Now {
        bail!(
            "--truth seen and late ask what the live path knew; files scanned in place never \
             passed it: use --data DIR"
        );
    }
    if let (Some(from), Some(to)) = (args.from, args.to)
        && from.0 >= to.0
    {
        bail!("--from is not before --to: no window can lie between them");
    }
    let snapshot = args.data.as_deref().map(Snapshot::open).transpose()?;
    let definitions = match &snapshot {
        Some(snapshot) => {
            let remembered = snapshot.folder().definitions()?;
            match remembered {
                Some(text) => definitions::for_reading(&args.definitions, &text, &args.view)?,
                None => definitions::from_file(&args.definitions)?,
            }
        }
        None => definitions::from_file(&args.definitions)?,
    };
    let view = definitions.view(&args.view)?;
    let schema = definitions.stream(&view.stream)?;
    let scan = Scan {
        from_ns: args.from.map(|from| from.0),
        to_ns: args.to.map(|to| to.0),
        keys: args
            .key
            .iter()
            .map(|key| parse_key(key, schema.keys.len()))
            .collect::<Result<_>>()?,
        ..scanning::whole(view, schema, scanning::truth(args.truth, view))
    };
    let rejections = Arc::new(Rejections::default());
    let (parts, rows_total) = match &snapshot {
        Some(snapshot) => {
            let (parts, rows) = scanning::folder_parts(snapshot, &scan, true)?;
            (parts, Some(rows))
        }
        None => {
            let mut parts: Vec<Part> = Vec::new();
            let mut total = Some(0);
            let mut publishers: Vec<(PublisherId, &PathBuf)> = Vec::new();
            for path in &args.file {
                // A file's publisher is its content's hash: the same content is the same ticks.
                let source = files::open(path, &args.fields, &definitions, schema, None)?;
                let publisher = source.publisher().clone();
                if let Some((_, same)) = publishers.iter().find(|(known, _)| *known == publisher) {
                    let (path, same) = (path.display(), same.display());
                    eprintln!("note: {path} has the content of {same}: its ticks count once");
                    continue;
                }
                publishers.push((publisher, path));
                total = total.zip(source.rows_total()).map(|(sum, rows)| sum + rows);
                parts.extend(files::scan_parts(path, source, &scan.schema, &rejections, now_ns()));
            }
            (parts, total)
        }
    };
    let engines = engines::open(args.engine, args.threads)?;
    let finished = scanning::run(&scan, parts, rows_total, engines)?;
    rejections.report();
    write(&args, format, &ResultSchema::of(&scan.view), &finished)?;
    match args.stats {
        true => {
            let mut stats = finished.to_json();
            stats["rejected"] = rejections.to_json();
            eprintln!("{stats}");
        }
        false => eprintln!("{}", finished.summary()),
    }
    Ok(ExitCode::SUCCESS)
}

fn chosen_format(args: &ScanArgs) -> Result<Option<ScanFormat>> {
    let by_name = args.output.as_ref().and_then(|path| path.extension()?.to_str());
    let format = args.format.or(match (by_name, args.hash) {
        (Some("parquet"), _) => Some(ScanFormat::Parquet),
        (Some("csv"), _) => Some(ScanFormat::Csv),
        (Some("json" | "jsonl"), _) => Some(ScanFormat::Json),
        (Some(_), _) | (None, false) => Some(ScanFormat::Table),
        (None, true) => args.output.is_some().then_some(ScanFormat::Table),
    });
    if format == Some(ScanFormat::Parquet) && args.output.is_none() {
        bail!("--format parquet writes a file: name it with -o FILE");
    }
    Ok(format)
}

/// The components of a key; several are written as one line of CSV.
fn parse_key(text: &str, columns: usize) -> Result<Key> {
    if columns == 1 {
        return Ok(Key::from_components([text]));
    }
    let mut line = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
    let components = line.records().next().transpose()?.unwrap_or_default();
    if components.len() != columns {
        bail!(
            "--key {text}: the stream's key has {columns} columns; write them as in CSV, joined by \
             commas, with quotes around a part that holds a comma"
        );
    }
    Ok(Key::from_components(components.iter()))
}

fn write(
    args: &ScanArgs,
    format: Option<ScanFormat>,
    schema: &ResultSchema,
    finished: &Finished,
) -> Result<()> {
    let text = match format {
        None => None,
        Some(ScanFormat::Table) => Some(TextFormat::Table),
        Some(ScanFormat::Csv) => Some(TextFormat::Csv),
        Some(ScanFormat::Json) => Some(TextFormat::Json),
        Some(ScanFormat::Parquet) => {
            let path = args.output.as_ref().context("a Parquet result goes to a file")?;
            isotick_storage::write_results(path, schema, &finished.rows)?;
            None
        }
    };
    if let Some(text) = text {
        let out: Box<dyn Write> = match &args.output {
            Some(path) => Box::new(
                std::fs::File::create(path)
                    .with_context(|| format!("cannot write {}", path.display()))?,
            ),
            None => Box::new(std::io::stdout().lock()),
        };
        let mut writer =
            RowWriter::new(BufWriter::new(out), text, args.time, schema.clone(), false);
        let target = match &args.output {
            Some(path) => path.display().to_string(),
            None => "standard output".into(),
        };
        writer
            .write(&finished.rows)
            .and_then(|()| writer.finish())
            .with_context(|| format!("cannot write to {target}"))?;
    }
    if args.hash {
        match (format, &args.output) {
            (Some(_), None) => eprintln!("hash {}", finished.hash),
            _ => println!("{}", finished.hash),
        }
    }
    Ok(())
}
