//! `isotick compact`: a data folder's history files merged into one sorted layout per date.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use isotick_model::definitions::Definitions;
use isotick_storage::{DataFolder, Manifest, Opening, Store};
use serde_json::json;

use crate::cli::CompactArgs;
use crate::progress;
use crate::service::now_ns;

/// What a stream's history is stored in.
#[derive(Clone, Copy, Default)]
struct Stored {
    files: u64,
    rows: u64,
    bytes: u64,
}

impl Stored {
    fn of(manifest: &Manifest, stream: &str) -> Self {
        let files = manifest.streams.get(stream).into_iter().flat_map(|stream| &stream.files);
        files.fold(Self::default(), |sum, file| Self {
            files: sum.files + 1,
            rows: sum.rows + file.file.rows,
            bytes: sum.bytes + file.file.bytes,
        })
    }

    fn bytes_per_tick(self) -> f64 {
        self.bytes as f64 / self.rows.max(1) as f64
    }

    fn to_json(self) -> serde_json::Value {
        json!({ "files": self.files, "rows": self.rows, "bytes": self.bytes })
    }
}

impl std::fmt::Display for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { files, bytes, .. } = self;
        write!(f, "{files} files, {bytes} bytes ({:.2} a tick)", self.bytes_per_tick())
    }
}

pub fn run(args: CompactArgs) -> Result<ExitCode> {
    // Nothing is made where there is no data folder.
    let text = DataFolder::open_reader(&args.data)?.definitions()?;
    let text = text.with_context(|| {
        format!("{} remembers no definitions: nothing was stored in it yet", args.data.display())
    })?;
    let definitions = Definitions::parse(&text, "definitions.toml")
        .with_context(|| format!("the definitions in {} are damaged", args.data.display()))?;
    let opening = Opening { command: "isotick compact", store: None, now_ns: now_ns() };
    let mut store = Store::open_with(&args.data, opening)?;
    if let Some(notice) = store.leftovers_notice() {
        eprintln!("{notice}");
    }
    let streams: Vec<String> = match &args.stream {
        Some(stream) if !store.manifest().streams.contains_key(stream) => {
            let known: Vec<_> = store.manifest().streams.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            bail!("no history of stream {stream} in {}; there is {known}", args.data.display());
        }
        Some(stream) => vec![stream.clone()],
        None => store.manifest().streams.keys().cloned().collect(),
    };
    let mut reports = serde_json::Map::new();
    for name in streams {
        let schema = definitions.stream(&name)?;
        let before = Stored::of(store.manifest(), &name);
        let merged = store.uncompacted_rows(&name);
        let started = Instant::now();
        let bar = progress::bar(&format!("compacting {name}"), Some(merged), "rows");
        store.compact(schema, &mut |rows| bar.inc(rows))?;
        bar.finish_and_clear();
        let seconds = started.elapsed().as_secs_f64();
        let after = Stored::of(store.manifest(), &name);
        let rows_per_s = (merged as f64 / seconds.max(1e-9)) as u64;
        if args.json {
            reports.insert(
                name,
                json!({
                    "before": before.to_json(),
                    "after": after.to_json(),
                    "merged_rows": merged,
                    "seconds": seconds,
                    "rows_per_s": if merged == 0 { 0 } else { rows_per_s },
                }),
            );
        } else if merged == 0 {
            println!("{name}: compact already: {} rows in {before}", before.rows);
        } else {
            println!(
                "{name}: {} rows from {before} to {after}; merged {merged} rows in {seconds:.2} s, \
                 {rows_per_s} rows/s",
                after.rows
            );
        }
    }
    if args.json {
        println!("{}", json!({ "streams": reports, "leftovers": store.leftovers() }));
    }
    Ok(ExitCode::SUCCESS)
}
