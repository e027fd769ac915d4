//! `isotick scan`: a view over stored history or foreign files.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use isotick_kernels::EncodedRows;
use isotick_model::results::ResultSchema;
use isotick_model::view::View;
use isotick_storage::ResultFile;

use crate::cli::{ScanArgs, ScanFormat};
use crate::engines;
use crate::input::Input;
use crate::output::{RowWriter, TextFormat};
use crate::scanning;

pub fn run(args: ScanArgs) -> Result<ExitCode> {
    let started = Instant::now();
    let format = chosen_format(&args)?;
    let Input { scan, parts, rows, rejections, .. } = Input::open(&args.views, &args.input)?;
    let engines = engines::open(args.engine.engine, args.engine.threads)?;
    let mut outputs = Vec::new();
    for of in &scan.views {
        outputs.push(Some(Output::open(&args, format, &of.view)?));
    }
    // Views come one after another: what went before is complete.
    let close = |outputs: &mut [Option<Output>]| {
        outputs.iter_mut().filter_map(Option::take).try_for_each(Output::close)
    };
    let all = scanning::run_all(&scan, parts, rows, engines, &mut |number, rows| {
        close(&mut outputs[..number])?;
        outputs[number].as_mut().map_or(Ok(()), |output| output.write(rows))
    })?;
    close(&mut outputs)?;
    let query_seconds = started.elapsed().as_secs_f64();
    rejections.report();
    for finished in all.iter().filter(|_| args.hash) {
        let name = match all.len() {
            1 => String::new(),
            _ => format!("{} ", finished.view),
        };
        match (format, &args.output) {
            (Some(_), None) => eprintln!("hash {name}{}", finished.hash),
            _ => println!("{name}{}", finished.hash),
        }
    }
    for finished in all.iter().filter(|_| !args.stats) {
        match all.len() {
            1 => eprintln!("{}", finished.summary()),
            _ => eprintln!("{}: {}", finished.view, finished.summary()),
        }
    }
    if args.stats {
        let stats = all.iter().map(|finished| {
            let mut stats = finished.to_json();
            stats["query_seconds"] = query_seconds.into();
            stats["rejected"] = rejections.to_json();
            stats
        });
        let mut stats: Vec<_> = stats.collect();
        match stats.len() {
            1 => eprintln!("{}", stats.remove(0)),
            _ => eprintln!("{}", serde_json::Value::from(stats)),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What stands for a view's name in that of a file.
const VIEW: &str = "{view}";

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
    if args.views.len() > 1 {
        let apart = match &args.output {
            Some(path) => path.to_string_lossy().contains(VIEW),
            None => matches!(format, None | Some(ScanFormat::Table)),
        };
        if !apart {
            bail!("several views go to a file each: name them with -o, as in -o '{VIEW}.csv'");
        }
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
    fn open(args: &ScanArgs, format: Option<ScanFormat>, view: &View) -> Result<Self> {
        let schema = ResultSchema::of(view);
        let path = args.output.as_ref().map(|path| match path.to_str() {
            Some(path) => PathBuf::from(path.replace(VIEW, &view.name)),
            None => path.clone(),
        });
        let text = match format {
            None => return Ok(Self::Nowhere),
            Some(ScanFormat::Table) => TextFormat::Table,
            Some(ScanFormat::Csv) => TextFormat::Csv,
            Some(ScanFormat::Json) => TextFormat::Json,
            Some(ScanFormat::Parquet) => {
                let path = path.context("a Parquet result goes to a file")?;
                return Ok(Self::Parquet(Box::new(ResultFile::create(&path, &schema)?)));
            }
        };
        let to_file = path.is_some();
        let (out, target): (Box<dyn Write>, _) = match path {
            Some(path) => {
                let file = std::fs::File::create(&path);
                let file = file.with_context(|| format!("cannot write {}", path.display()))?;
                (Box::new(file), path.display().to_string())
            }
            None => (Box::new(std::io::stdout()), "standard output".into()),
        };
        let mut out = BufWriter::new(out);
        if args.views.len() > 1 && !to_file {
            writeln!(out, "view {}", view.name)?;
        }
        let writer = RowWriter::new(out, text, args.time, schema, false);
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
