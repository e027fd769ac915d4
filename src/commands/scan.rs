//! `isotick scan`: a view over stored history or foreign files.

use std::io::{BufWriter, Write};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use isotick_kernels::EncodedRows;
use isotick_model::results::ResultSchema;
use isotick_storage::ResultFile;

use crate::cli::{ScanArgs, ScanFormat};
use crate::engines;
use crate::input::Input;
use crate::output::{RowWriter, TextFormat};
use crate::scanning;

pub fn run(args: ScanArgs) -> Result<ExitCode> {
    let started = Instant::now();
    let format = chosen_format(&args)?;
    let Input { scan, parts, rows, rejections, .. } = Input::open(&args.input)?;
    let engines = engines::open(args.engine.engine, args.engine.threads)?;
    let mut output = Output::open(&args, format, &ResultSchema::of(&scan.view))?;
    let finished = scanning::run(&scan, parts, rows, engines, &mut |rows| output.write(rows))?;
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

    fn write(&mut self, rows: &EncodedRows) -> Result<()> {
        match self {
            Self::Nowhere => Ok(()),
            Self::Text { writer, target } => {
                writer.write(&rows.rows()).with_context(|| format!("cannot write to {target}"))
            }
            Self::Parquet(file) => Ok(file.write(&rows.rows())?),
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
