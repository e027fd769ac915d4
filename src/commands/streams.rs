//! `isotick streams`: what is stored of each stream, and dropping it.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use isotick_model::definitions::Definitions;
use isotick_model::{ByteSize, Retention, time};
use isotick_storage::manifest::StreamFiles;
use isotick_storage::{Dropped, Snapshot, Store};
use serde_json::{Value, json};

use crate::cli::{StreamsArgs, StreamsCommand, StreamsDropArgs, StreamsListArgs};
use crate::definitions;
use crate::service::now_ns;

pub fn run(args: StreamsArgs) -> Result<ExitCode> {
    match args.command {
        StreamsCommand::List(args) => list(&args),
        StreamsCommand::Drop(args) => drop_stream(&args),
    }
}

fn list(args: &StreamsListArgs) -> Result<ExitCode> {
    let snapshot = Snapshot::open(&args.data)?;
    let definitions = remembered(&snapshot)?;
    let manifest = snapshot.manifest();
    let mut streams = serde_json::Map::new();
    let nothing = StreamFiles::default();
    for schema in &definitions.streams {
        let files = manifest.streams.get(&schema.name).unwrap_or(&nothing);
        let views = definitions.views_of(&schema.name).map(|view| view.name.as_str());
        let stream = json!({
            "rows": files.files.iter().map(|file| file.file.rows).sum::<u64>(),
            "bytes": files.files.iter().map(|file| file.file.bytes).sum::<u64>(),
            "files": files.files.len(),
            "first": files.files.iter().map(|file| file.ts_min).min().map(time::format_rfc3339),
            "last": files.files.iter().map(|file| file.ts_max).max().map(time::format_rfc3339),
            "watermark": files.watermark.map(time::format_rfc3339),
            "imported": files.imported.len(),
            "retention": retention_text(schema.retention),
            "dropped_before": files.dropped_before.map(time::format_rfc3339),
            "views": views.collect::<Vec<_>>(),
        });
        streams.insert(schema.name.clone(), stream);
    }
    if args.json {
        println!("{}", json!({ "streams": streams }));
        return Ok(ExitCode::SUCCESS);
    }
    if streams.is_empty() {
        println!("no streams");
    }
    for (name, stream) in &streams {
        let text = |field: &str| stream[field].as_str().unwrap_or("none").to_owned();
        let per_tick = match stream["rows"].as_u64() {
            Some(rows @ 1..) => {
                let bytes = stream["bytes"].as_u64().unwrap_or(0);
                format!(" ({:.2} a tick)", bytes as f64 / rows as f64)
            }
            _ => String::new(),
        };
        println!(
            "{name}: {} ticks, {} bytes{per_tick} in {} files",
            stream["rows"], stream["bytes"], stream["files"]
        );
        if stream["rows"] != 0 {
            println!("  from {} to {}", text("first"), text("last"));
        }
        println!("  watermark {}, retention {}", text("watermark"), text("retention"));
        if stream["dropped_before"].is_string() {
            println!("  dropped before {}", text("dropped_before"));
        }
        let views = stream["views"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let views: Vec<_> = views.collect();
        println!("  views: {}", if views.is_empty() { "none".into() } else { views.join(", ") });
    }
    Ok(ExitCode::SUCCESS)
}

fn drop_stream(args: &StreamsDropArgs) -> Result<ExitCode> {
    // Nothing is made where there is no data folder.
    let definitions = remembered(&Snapshot::open(&args.data)?)?;
    if definitions.stream(&args.stream).is_err() {
        let names: Vec<_> = definitions.streams.iter().map(|stream| stream.name.as_str()).collect();
        let known = if names.is_empty() { "none".into() } else { names.join(", ") };
        bail!("no stream {} in {}; there is {known}", args.stream, args.data.display());
    }
    let mut store = Store::open(&args.data, "isotick streams drop")?;
    store.handle_time(now_ns());
    let unflushed = store.snapshot().uncovered_records()?;
    if unflushed > 0 {
        bail!(
            "{unflushed} log records are not in history yet: start the service and stop it again, \
             which brings them there"
        );
    }
    let manifest = store.manifest().clone();
    let nothing = StreamFiles::default();
    let files = manifest.streams.get(&args.stream).unwrap_or(&nothing);
    let before = args.before.map(|before| before.0);
    let going = Dropped::of(
        files.files.iter().filter(|file| before.is_none_or(|before| file.ts_max < before)),
    );
    let views: Vec<_> = definitions.views_of(&args.stream).collect();
    if args.yes {
        match before {
            Some(before) => {
                store.drop_ticks(&args.stream, before)?;
            }
            None => {
                let hashes: Vec<_> = records_of(&manifest, &views);
                store.drop_stream(&args.stream, &hashes)?;
                let kept = Definitions {
                    streams: (definitions.streams.iter())
                        .filter(|stream| stream.name != args.stream)
                        .cloned()
                        .collect(),
                    views: (definitions.views.iter())
                        .filter(|view| view.stream != args.stream)
                        .cloned()
                        .collect(),
                };
                store.folder().put_definitions(&kept.to_toml())?;
            }
        }
    }
    if args.json {
        let report = json!({
            "stream": args.stream,
            "files": going.files,
            "rows": going.rows,
            "bytes": going.bytes,
            "done": args.yes,
        });
        println!("{report}");
    } else {
        let verb = if args.yes { "dropped" } else { "would be dropped" };
        println!(
            "{}: {} ticks, {} bytes in {} files {verb}",
            args.stream, going.rows, going.bytes, going.files
        );
        if before.is_none() && !views.is_empty() {
            let names: Vec<_> = views.iter().map(|view| view.name.as_str()).collect();
            println!("with the views {} and what they recorded", names.join(", "));
        }
        if !args.yes {
            println!("nothing was changed; --yes does it");
        }
    }
    Ok(if args.yes { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The definitions under which something of these views, or of earlier ones of their names, is
/// recorded.
fn records_of<'a>(
    manifest: &'a isotick_storage::Manifest,
    views: &[&isotick_model::view::View],
) -> Vec<&'a str> {
    let is_one = |name: &str| views.iter().any(|view| view.name == name);
    let records = manifest.records.iter().filter(|(_, record)| is_one(&record.view));
    records.map(|(definition, _)| definition.as_str()).collect()
}

fn remembered(snapshot: &Snapshot) -> Result<Definitions> {
    let text = snapshot.folder().definitions()?;
    let text = text.with_context(|| {
        let path = snapshot.folder().path().display();
        format!("{path} remembers no definitions: nothing was stored in it yet")
    })?;
    definitions::parse_remembered(&text)
}

/// What is kept, for people.
fn retention_text(retention: Retention) -> Option<String> {
    let age = retention.age_ns.map(time::format_duration);
    let size = retention.bytes.map(|bytes| ByteSize(bytes).to_string());
    let parts: Vec<_> = age.into_iter().chain(size).collect();
    (!parts.is_empty()).then(|| parts.join(" and "))
}
