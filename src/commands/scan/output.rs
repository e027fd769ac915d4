//! Where the windows of a scan go: standard output or files, as text or Parquet.

use std::fmt::Display;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use isotick_model::results::{ResultSchema, WindowRow};
use isotick_storage::ResultFile;

use crate::cli::{OutputArgs, ScanFormat};
use crate::output::{RowWriter, TextFormat};

/// What stands for a view's name in that of a file.
const VIEW: &str = "{view}";

/// What was asked for, looked over.
pub struct Target<'a> {
    args: &'a OutputArgs,
    /// `None`: only the hash is wanted.
    format: Option<ScanFormat>,
    views: usize,
}

impl<'a> Target<'a> {
    /// Where the windows of so many views go.
    pub fn of(args: &'a OutputArgs, views: usize) -> Result<Self> {
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
        if views > 1 {
            let apart = match &args.output {
                Some(path) => path.to_string_lossy().contains(VIEW),
                None => matches!(format, None | Some(ScanFormat::Table)),
            };
            if !apart {
                bail!("several views go to a file each: name them with -o, as in -o '{VIEW}.csv'");
            }
        }
        Ok(Self { args, format, views })
    }

    /// Whether only the hash is wanted.
    pub fn is_nowhere(&self) -> bool {
        self.format.is_none()
    }

    /// Opens what the windows of one view go to.
    pub fn open(&self, view: &str, schema: ResultSchema) -> Result<Output> {
        let path = self.args.output.as_ref().map(|path| match path.to_str() {
            Some(path) => PathBuf::from(path.replace(VIEW, view)),
            None => path.clone(),
        });
        let text = match self.format {
            None => return Ok(Output::Nowhere),
            Some(ScanFormat::Table) => TextFormat::Table,
            Some(ScanFormat::Csv) => TextFormat::Csv,
            Some(ScanFormat::Json) => TextFormat::Json,
            Some(ScanFormat::Parquet) => {
                let path = path.context("a Parquet result goes to a file")?;
                return Ok(Output::Parquet(Box::new(ResultFile::create(&path, &schema)?)));
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
        if self.views > 1 && !to_file {
            writeln!(out, "view {view}")?;
        }
        let writer = RowWriter::new(out, text, self.args.time, schema, false);
        Ok(Output::Text { writer: Box::new(writer), target })
    }

    /// Prints the hash of a view's result, where that was asked for.
    pub fn tell_hash(&self, view: &str, hash: &dyn Display) {
        if !self.args.hash {
            return;
        }
        let name = match self.views {
            1 => String::new(),
            _ => format!("{view} "),
        };
        match (self.format, &self.args.output) {
            (Some(_), None) => eprintln!("hash {name}{hash}"),
            _ => println!("{name}{hash}"),
        }
    }
}

/// Where the windows of one view go.
pub enum Output {
    /// Only the hash is wanted.
    Nowhere,
    /// As text.
    Text {
        /// Makes text of windows.
        writer: Box<RowWriter<BufWriter<Box<dyn Write>>>>,
        /// What is written to, for messages.
        target: String,
    },
    /// As a Parquet file.
    Parquet(Box<ResultFile>),
}

impl Output {
    /// Writes windows.
    pub fn write(&mut self, rows: &[WindowRow]) -> Result<()> {
        match self {
            Self::Nowhere => Ok(()),
            Self::Text { writer, target } => {
                writer.write(rows).with_context(|| format!("cannot write to {target}"))
            }
            Self::Parquet(file) => Ok(file.write(rows)?),
        }
    }

    /// Makes what was written visible.
    pub fn flush(&mut self) -> Result<()> {
        match self {
            Self::Text { writer, target } => {
                writer.flush().with_context(|| format!("cannot write to {target}"))
            }
            Self::Nowhere | Self::Parquet(_) => Ok(()),
        }
    }

    /// Ends the output.
    pub fn close(self) -> Result<()> {
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
