//! `isotick export`: a stream's ticks or a view's windows into a file for other tools.

use std::io::{self, BufWriter, Write};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use isotick_model::results::ResultSchema;
use isotick_model::{StreamSchema, Ticks, time, units};
use isotick_storage::Snapshot;
use isotick_storage::export::{Codec, InOrder, SLICE_ROWS, TableFormat, TickFile, WindowFile};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::cli::{
    ExportArgs, ExportCodec, ExportFormat, FieldArgs, InputArgs, RangeArgs, SelectionArgs,
    TimeFormat,
};
use crate::input::{Input, parse_key};
use crate::output::{RowWriter, TextFormat};
use crate::{definitions, engines, progress, scanning};

pub fn run(args: ExportArgs) -> Result<ExitCode> {
    let started = Instant::now();
    if let (Some(from), Some(to)) = (args.from, args.to)
        && from.0 >= to.0
    {
        bail!("--from is not before --to: nothing can lie between them");
    }
    let form = Form::of(&args)?;
    let target = Target::open(&args.output)?;
    let mut report = match (&args.stream, &args.view) {
        (Some(stream), None) => export_ticks(&args, &form, stream, &target)?,
        (None, Some(view)) => export_windows(&args, &form, view, &target)?,
        _ => bail!("what to export? Name a stream with --stream, or a view with --view"),
    };
    target.put_in_place()?;
    report["file"] = args.output.display().to_string().into();
    report["format"] = form.name().into();
    report["seconds"] = started.elapsed().as_secs_f64().into();
    let to_stdout = is_stdout(&args.output);
    match (args.json, to_stdout) {
        (true, false) => println!("{report}"),
        (true, true) => eprintln!("{report}"),
        (false, _) => eprintln!(
            "{}: {} rows, {} bytes, hash {}",
            if to_stdout {
                "standard output".to_owned()
            } else {
                args.output.display().to_string()
            },
            report["rows"],
            report["bytes"],
            report["hash"].as_str().unwrap_or_default()
        ),
    }
    Ok(ExitCode::SUCCESS)
}

/// What a file is to be.
struct Form {
    format: ExportFormat,
    codec: Codec,
    to_stdout: bool,
}

impl Form {
    /// By the arguments, else by the file's name.
    fn of(args: &ExportArgs) -> Result<Self> {
        let to_stdout = is_stdout(&args.output);
        let name = args.output.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let plain = name.strip_suffix(".zst");
        let by_name = match plain.unwrap_or(&name).rsplit_once('.').map(|(_, end)| end) {
            Some("parquet" | "pq") => Some(ExportFormat::Parquet),
            Some("csv") => Some(ExportFormat::Csv),
            Some("arrow" | "feather" | "ipc") => Some(ExportFormat::Arrow),
            _ => None,
        };
        let Some(format) = args.format.or(by_name) else {
            bail!(
                "{} does not say what it is to be: name it .parquet, .csv, .csv.zst or .arrow, or \
                 choose with --format",
                if to_stdout {
                    "standard output".into()
                } else {
                    args.output.display().to_string()
                }
            );
        };
        let packed = plain.is_some();
        if packed && format != ExportFormat::Csv {
            bail!("only CSV is compressed as a whole: leave .zst off, and use --codec zstd");
        }
        if packed && args.codec == Some(ExportCodec::None) {
            bail!("--codec none writes no .zst file: name it .csv");
        }
        let codec = match (args.codec, format) {
            (Some(ExportCodec::None), _) => Codec::None,
            (Some(ExportCodec::Zstd), _) | (None, ExportFormat::Parquet) => Codec::Zstd,
            (None, ExportFormat::Arrow) if !to_stdout => Codec::Zstd,
            (None, _) if packed => Codec::Zstd,
            (None, _) => Codec::None,
        };
        Ok(Self { format, codec, to_stdout })
    }

    fn name(&self) -> &'static str {
        match self.format {
            ExportFormat::Parquet => "parquet",
            ExportFormat::Csv => "csv",
            ExportFormat::Arrow => "arrow",
        }
    }

    /// The form of a table of columns; `None` for text.
    fn table(&self) -> Option<TableFormat> {
        match (self.format, self.to_stdout) {
            (ExportFormat::Csv, _) => None,
            (ExportFormat::Parquet, _) => Some(TableFormat::Parquet),
            (ExportFormat::Arrow, false) => Some(TableFormat::Arrow),
            (ExportFormat::Arrow, true) => Some(TableFormat::ArrowStream),
        }
    }
}

fn is_stdout(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Where a file goes: under another name until it is whole.
enum Target {
    Stdout,
    File { unfinished: NamedTempFile, path: PathBuf },
}

impl Target {
    fn open(path: &Path) -> Result<Self> {
        if is_stdout(path) {
            return Ok(Self::Stdout);
        }
        if path.is_dir() {
            bail!("{} is a folder: name a file in it", path.display());
        }
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(".isotick-export-").suffix(".tmp");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // As a new file has them: what the user's mask leaves.
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        let unfinished = builder.tempfile_in(folder);
        let unfinished = unfinished.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self::File { unfinished, path: path.to_owned() })
    }

    fn writer(&self) -> Result<Hashed> {
        let out: Box<dyn Write + Send> = match self {
            Self::Stdout => Box::new(io::stdout()),
            Self::File { unfinished, .. } => Box::new(unfinished.as_file().try_clone()?),
        };
        Ok(Hashed {
            out: BufWriter::with_capacity(1 << 20, out),
            hasher: blake3::Hasher::new(),
            bytes: 0,
        })
    }

    fn put_in_place(self) -> Result<()> {
        let Self::File { unfinished, path } = self else { return Ok(()) };
        let failed = || format!("cannot write {}", path.display());
        unfinished.as_file().sync_all().with_context(failed)?;
        unfinished.persist(&path).with_context(failed)?;
        Ok(())
    }
}

/// Bytes on their way, hashed.
struct Hashed {
    out: BufWriter<Box<dyn Write + Send>>,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Text on its way, compressed or not.
enum Text {
    Plain(Box<Hashed>),
    Zstd(Box<zstd::stream::write::Encoder<'static, Hashed>>),
}

impl Text {
    fn new(out: Hashed, codec: Codec) -> io::Result<Self> {
        Ok(match codec {
            Codec::None => Self::Plain(Box::new(out)),
            Codec::Zstd => Self::Zstd(Box::new(zstd::stream::write::Encoder::new(out, 0)?)),
        })
    }

    fn finish(self) -> io::Result<Hashed> {
        match self {
            Self::Plain(out) => Ok(*out),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(out) => out.flush(),
            Self::Zstd(encoder) => encoder.flush(),
        }
    }
}

/// The end of a file: what was written.
fn summary(mut out: Hashed, rows: u64) -> Result<Value> {
    out.flush()?;
    let hash = out.hasher.finalize().to_hex();
    Ok(json!({ "rows": rows, "bytes": out.bytes, "hash": hash.as_str() }))
}

/// The times that are asked for, inclusive.
fn times(args: &ExportArgs) -> RangeInclusive<i64> {
    let from = args.from.map_or(i64::MIN, |from| from.0);
    // Nothing is before the least time: the range is empty then.
    match args.to.map(|to| to.0.checked_sub(1)) {
        None => from..=i64::MAX,
        Some(Some(last)) => from..=last,
        Some(None) => RangeInclusive::new(i64::MAX, i64::MIN),
    }
}

fn export_ticks(args: &ExportArgs, form: &Form, stream: &str, target: &Target) -> Result<Value> {
    let snapshot = Snapshot::open(&args.data)?;
    let definitions = match snapshot.folder().definitions()? {
        Some(remembered) => definitions::for_reading(&args.definitions, &remembered, &[])?,
        None => definitions::from_file(&args.definitions)?,
    };
    let schema = definitions.stream(stream)?;
    let keys = args.key.iter().map(|key| parse_key(key, schema.keys.len()));
    let keys = keys.collect::<Result<Vec<_>>>()?;
    let ticks = InOrder::new(&snapshot, schema, times(args), &keys, SLICE_ROWS)?;
    let bar = progress::bar(&format!("exporting {stream}"), Some(ticks.rows()), "rows");
    let mut rows = 0;
    let out = target.writer()?;
    let out = match form.table() {
        Some(format) => {
            let mut file = TickFile::new(out, &args.output, schema, format, form.codec)?;
            for ticks in ticks {
                let ticks = ticks?;
                file.write(&ticks)?;
                rows += ticks.len() as u64;
                bar.set_position(rows);
            }
            file.finish()?
        }
        None => {
            let failed = || format!("cannot write to {}", args.output.display());
            let mut csv = csv::Writer::from_writer(Text::new(out, form.codec)?);
            csv.write_record(names(schema)).with_context(failed)?;
            for ticks in ticks {
                let ticks = ticks?;
                write_csv(&mut csv, schema, &ticks, args.time).with_context(failed)?;
                rows += ticks.len() as u64;
                bar.set_position(rows);
            }
            let text = csv.into_inner().map_err(|error| error.into_error());
            text.and_then(Text::finish).with_context(failed)?
        }
    };
    bar.finish_and_clear();
    let mut report = summary(out, rows)?;
    report["stream"] = stream.into();
    Ok(report)
}

/// The names of the columns of ticks as text.
fn names(schema: &StreamSchema) -> impl Iterator<Item = &String> {
    let values = schema.columns.iter().map(|column| &column.name);
    std::iter::once(&schema.time).chain(&schema.keys).chain(values)
}

fn write_csv(
    csv: &mut csv::Writer<Text>,
    schema: &StreamSchema,
    ticks: &Ticks,
    format: TimeFormat,
) -> csv::Result<()> {
    let components: Vec<_> = ticks.keys.iter().map(|key| key.components()).collect();
    for row in 0..ticks.len() {
        let ts = ticks.ts_event[row];
        csv.write_field(match format {
            TimeFormat::Rfc3339 => time::format_rfc3339(ts),
            TimeFormat::Ns => ts.to_string(),
        })?;
        for component in &components[ticks.key[row] as usize] {
            csv.write_field(component)?;
        }
        for (column, values) in schema.columns.iter().zip(&ticks.values) {
            let value = values.get(row);
            let text = value.map(|value| units::format_scaled(value.into(), column.scale));
            csv.write_field(text.unwrap_or_default())?;
        }
        csv.write_record(None::<&[u8]>)?;
    }
    Ok(())
}

fn export_windows(args: &ExportArgs, form: &Form, view: &str, target: &Target) -> Result<Value> {
    let input = InputArgs {
        data: Some(args.data.clone()),
        file: Vec::new(),
        selection: SelectionArgs {
            range: RangeArgs { from: args.from, to: args.to },
            key: args.key.clone(),
            truth: args.truth,
        },
        no_rollup: false,
        skip_damaged: false,
        definitions: args.definitions.clone(),
        fields: FieldArgs::default(),
    };
    let engines = engines::open(args.engine.engine, args.engine.threads)?;
    let Input { scan, parts, rows, .. } =
        Input::open(&[view.to_owned()], &input, engines.workers.len())?;
    let schema = ResultSchema::of(&scan.views[0].view);
    let out = target.writer()?;
    let (out, finished) = match form.table() {
        Some(format) => {
            let mut file = WindowFile::new(out, &args.output, &schema, format, form.codec)?;
            let finished = scanning::run(&scan, parts, rows, engines, &mut |windows| {
                Ok(file.write(&windows.rows())?)
            })?;
            (file.finish()?, finished)
        }
        None => {
            let failed = || format!("cannot write to {}", args.output.display());
            let text = Text::new(out, form.codec)?;
            let mut writer = RowWriter::new(text, TextFormat::Csv, args.time, schema, false);
            let finished = scanning::run(&scan, parts, rows, engines, &mut |windows| {
                writer.write(&windows.rows()).with_context(failed)
            })?;
            (writer.finish().and_then(Text::finish).with_context(failed)?, finished)
        }
    };
    let mut report = summary(out, finished.windows as u64)?;
    report["view"] = view.into();
    report["rows_read"] = finished.rows_read.into();
    report["result_hash"] = finished.hash.to_string().into();
    Ok(report)
}
