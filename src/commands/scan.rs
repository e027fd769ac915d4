//! `isotick scan`: a view over stored history or foreign files.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use isotick_model::results::{ResultSchema, WindowRow};
use isotick_model::{Key, PublisherId};
use isotick_scheduler::{Part, Scan};
use isotick_storage::source::Needed;
use isotick_storage::{ResultFile, Snapshot};

use crate::cli::{ScanArgs, ScanFormat, TruthChoice};
use crate::files::{self, Rejections};
use crate::output::{RowWriter, TextFormat};
use crate::scanning;
use crate::service::now_ns;
use crate::{definitions, engines};

pub fn run(args: ScanArgs) -> Result<ExitCode> {
    let started = Instant::now();
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
            let now_ns = now_ns();
            let mut parts: Vec<Part> = Vec::new();
            let mut total = Some(0);
            let mut publishers: Vec<(PublisherId, &PathBuf)> = Vec::new();
            // Publishers decide only between files, and one file needs no hash of its content.
            let alone = (args.file.len() == 1).then(|| files::publisher("file")).transpose()?;
            for path in &args.file {
                // A file's publisher is its content's hash: the same content is the same ticks.
                let needed = Needed {
                    keys: scan.key_selection(),
                    one_window: scanning::one_window(view, scan.truth),
                    latest_ns: files::latest(schema, now_ns),
                };
                let (fields, publisher) = (&args.fields, alone.as_ref());
                let source =
                    files::open(path, fields, &definitions, schema, publisher, Some(needed))?;
                let publisher = source.publisher().clone();
                if let Some((_, same)) = publishers.iter().find(|(known, _)| *known == publisher) {
                    let (path, same) = (path.display(), same.display());
                    eprintln!("note: {path} has the content of {same}: its ticks count once");
                    continue;
                }
                publishers.push((publisher, path));
                total = total.zip(source.rows_total()).map(|(sum, rows)| sum + rows);
                parts.extend(files::scan_parts(path, source, &scan.schema, &rejections, now_ns));
            }
            (parts, total)
        }
    };
    let engines = engines::open(args.engine, args.threads)?;
    let mut output = Output::open(&args, format, &ResultSchema::of(&scan.view))?;
    let finished =
        scanning::run(&scan, parts, rows_total, engines, &mut |rows| output.write(&rows))?;
    output.close()?;
    let query_seconds = started.elapsed().as_secs_f64();
    rejections.report();
    if args.hash {
        match (format, &args.output) {
            (Some(_), None) => eprintln!("hash {}", finished.hash),
            _ => println!("{}", finished.hash),
        }
    }
    match args.stats {
        true => {
            let mut stats = finished.to_json();
            stats["query_seconds"] = query_seconds.into();
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

/// Where the windows go.
enum Output {
    Nowhere,
    Text { writer: Box<RowWriter<BufWriter<Box<dyn Write>>>>, target: String },
    Parquet(Box<ResultFile>),
}

impl Output {
    fn open(args: &ScanArgs, format: Option<ScanFormat>, schema: &ResultSchema) -> Result<Self> {
        let text = match format {
            None => return Ok(Self::Nowhere),
            Some(ScanFormat::Table) => TextFormat::Table,
            Some(ScanFormat::Csv) => TextFormat::Csv,
            Some(ScanFormat::Json) => TextFormat::Json,
            Some(ScanFormat::Parquet) => {
                let path = args.output.as_ref().context("a Parquet result goes to a file")?;
                return Ok(Self::Parquet(Box::new(ResultFile::create(path, schema)?)));
            }
        };
        let (out, target): (Box<dyn Write>, _) = match &args.output {
            Some(path) => {
                let file = std::fs::File::create(path);
                let file = file.with_context(|| format!("cannot write {}", path.display()))?;
                (Box::new(file), path.display().to_string())
            }
            None => (Box::new(std::io::stdout()), "standard output".into()),
        };
        let writer = RowWriter::new(BufWriter::new(out), text, args.time, schema.clone(), false);
        Ok(Self::Text { writer: Box::new(writer), target })
    }

    fn write(&mut self, rows: &[WindowRow]) -> Result<()> {
        match self {
            Self::Nowhere => Ok(()),
            Self::Text { writer, target } => {
                writer.write(rows).with_context(|| format!("cannot write to {target}"))
            }
            Self::Parquet(file) => Ok(file.write(rows)?),
        }
    }

    fn close(self) -> Result<()> {
        match self {
            Self::Nowhere => {}
            Self::Text { writer, target } => {
                writer.finish().with_context(|| format!("cannot write to {target}"))?;
            }
            Self::Parquet(file) => file.close()?,
        }
        Ok(())
    }
}
