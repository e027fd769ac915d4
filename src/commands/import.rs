//! `isotick import`: files into a data folder's history, idempotent, in bounded memory.
//!
//! A file goes in piece by piece, each a commit. With every piece the manifest notes how far that
//! content, read in that way, is in: a later import of the same goes on from there, or has nothing
//! to do.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use isotick_ingest::sequencer::content_hashes;
use isotick_model::definitions::Definitions;
use isotick_model::{Inexact, PublisherId, RejectReason, StreamSchema, Ticks};
use isotick_storage::source::{ProgressUnit, Source, SourceBatch, SourceOptions};
use isotick_storage::{DataFolder, Error, Imported, ImportedSource, Opening, Snapshot, Store};
use serde_json::json;

use crate::cli::{FieldArgs, ImportArgs};
use crate::files::{self, Rejections};
use crate::held::Held;
use crate::service::now_ns;
use crate::{definitions, progress};

/// Rows that are passed at a time where they are imported already: so often is progress shown.
const PASSED_ROWS: u64 = 1 << 18;

/// What became of a file.
#[derive(Default)]
struct Outcome {
    rows: u64,
    /// Rows that an earlier import had brought, and that were not looked at again.
    resumed_at: u64,
    imported: u64,
    /// Ticks that the folder held already, from a publisher or an earlier import.
    held: u64,
    /// Rows whose identity the folder holds with other content.
    conflicting: u64,
    rejected: BTreeMap<&'static str, u64>,
}

/// A file that could be opened, before anything is written.
struct Input<'a> {
    path: &'a Path,
    publisher: PublisherId,
    source: Source,
    /// What the ticks are a function of: the file's content and what it is read by.
    hash: String,
}

pub fn run(args: ImportArgs) -> Result<ExitCode> {
    let (existing, remembered) = match DataFolder::open_reader(&args.data) {
        Ok(folder) => {
            // What is there is asked of the store when it is open; without one, here.
            let snapshot = args.dry_run.then(|| Snapshot::open(&args.data)).transpose()?;
            (snapshot, folder.definitions()?)
        }
        Err(Error::NotADataFolder { .. }) => (None, None),
        Err(error) => return Err(error.into()),
    };
    let definitions = definitions::for_writing(&args.definitions, remembered.as_deref())?;
    let schema = definitions.stream(&args.stream)?.clone();
    let inputs = open(&args, &definitions, &schema)?;
    let mut store = None;
    if !args.dry_run {
        let opening = Opening {
            command: "isotick import",
            store: args.place.store.as_ref(),
            now_ns: now_ns(),
        };
        let opened = Store::open_with(&args.data, opening)?;
        if let Some(notice) = opened.leftovers_notice() {
            eprintln!("{notice}");
        }
        opened.folder().put_definitions(&definitions.to_toml())?;
        store = Some(opened);
    }
    let mut rejects = args.rejects.as_deref().map(RejectsFile::create).transpose()?;
    let rejections = Rejections::default();
    let mut reports = Vec::new();
    for input in inputs {
        let path = input.path;
        let publisher = input.publisher.clone();
        let mut each = |batch: &SourceBatch| {
            rejections.count(path, batch);
            rejects.as_mut().map_or(Ok(()), |rejects| rejects.write(path, batch))
        };
        let outcome = match &mut store {
            Some(store) => import(store, &schema, input, &args, &mut each)?,
            None => check(existing.as_ref(), &schema, input, &mut each)?,
        };
        reports.push(report(path, &publisher, &outcome, args.dry_run));
        if !args.json {
            let verb = if args.dry_run { "would be imported" } else { "imported" };
            eprintln!(
                "{}: {} rows{}: {} {verb}, {} held already, {} conflicting, {} rejected",
                path.display(),
                outcome.rows,
                match outcome.resumed_at {
                    0 => String::new(),
                    rows => format!(", {rows} of them imported before"),
                },
                outcome.imported,
                outcome.held,
                outcome.conflicting,
                outcome.rejected.values().sum::<u64>()
            );
        }
        if outcome.conflicting > 0 {
            eprintln!(
                "{} rows of {} have the publisher and sequence of other ticks in {} and were left \
                 out: a publisher's name stands for one content; use another --publisher",
                outcome.conflicting,
                path.display(),
                args.data.display()
            );
        }
    }
    rejections.report();
    if let Some(rejects) = rejects {
        rejects.finish()?;
    }
    if args.json {
        println!("{}", json!({ "stream": schema.name, "files": reports }));
    }
    Ok(ExitCode::SUCCESS)
}

/// Opens every file, so that a wrong name or column is told before anything is written.
fn open<'a>(
    args: &'a ImportArgs,
    definitions: &Definitions,
    schema: &StreamSchema,
) -> Result<Vec<Input<'a>>> {
    let input = |path: &'a std::path::PathBuf| {
        let content = content_of(path)?;
        let publisher = match &args.publisher {
            Some(name) => files::publisher(name)?,
            None => content.clone(),
        };
        let options = SourceOptions::default();
        let batch_rows = options.batch_rows.min(args.piece_rows.get());
        let options = SourceOptions { publisher: Some(publisher.clone()), batch_rows, ..options };
        let source = files::open_by(path, &args.fields, definitions, schema, options)?;
        let hash = reading(&content, &args.fields, definitions, schema);
        Ok(Input { path, publisher, source, hash })
    };
    args.files.iter().map(input).collect()
}

fn report(
    path: &Path,
    publisher: &PublisherId,
    outcome: &Outcome,
    dry_run: bool,
) -> serde_json::Value {
    json!({
        "file": path.display().to_string(),
        "publisher": publisher.as_str(),
        "rows": outcome.rows,
        "resumed_at": outcome.resumed_at,
        "imported": if dry_run { 0 } else { outcome.imported },
        "valid": outcome.imported + outcome.held + outcome.conflicting,
        "held": outcome.held,
        "conflicting": outcome.conflicting,
        "rejected": outcome.rejected,
    })
}

/// The hash of a file's content, with progress: large files take a while.
fn content_of(path: &Path) -> Result<PublisherId> {
    let bytes = std::fs::metadata(path).ok().map(|metadata| metadata.len());
    let bar = progress::bar(&format!("hashing {}", path.display()), bytes, "bytes");
    let content = Source::publisher_default_told(path, &mut |done| bar.set_position(done))?;
    bar.finish_and_clear();
    Ok(content)
}

/// A hash of a file's content and of all that its ticks hang on besides.
fn reading(
    content: &PublisherId,
    fields: &FieldArgs,
    definitions: &Definitions,
    schema: &StreamSchema,
) -> String {
    let mut map = fields.map.clone();
    map.sort();
    let windows = definitions.views_of(&schema.name).map(|view| view.window);
    let mut windows: Vec<_> = windows.map(|window| (window.width_ns, window.origin_ns)).collect();
    windows.sort_unstable();
    windows.dedup();
    let columns = schema.columns.iter().map(|column| {
        let digits = column.scale.digits();
        json!([column.name, digits, column.min, column.max, column.optional])
    });
    let allowed = schema
        .keys_allowed
        .as_ref()
        .map(|keys| keys.sorted().into_iter().map(|key| key.components()).collect::<Vec<_>>());
    let text = json!({
        "content": content.as_str(),
        "map": map,
        "unit": fields.time_unit.unwrap_or_default().to_string(),
        "stream": schema.name,
        "time": schema.time,
        "keys": schema.keys,
        "columns": columns.collect::<Vec<_>>(),
        "round": schema.inexact == Inexact::Round,
        "allowed": allowed,
        "windows": windows,
    });
    blake3::hash(text.to_string().as_bytes()).to_hex().to_string()
}

fn import(
    store: &mut Store,
    schema: &StreamSchema,
    mut input: Input<'_>,
    args: &ImportArgs,
    each: &mut dyn FnMut(&SourceBatch) -> Result<()>,
) -> Result<Outcome> {
    let known = store.manifest().imported(&schema.name, input.publisher.as_str()).cloned();
    let known = known.filter(|known| is_of(known, &input.hash));
    let mut outcome = known.as_ref().map(Outcome::of).unwrap_or_default();
    let complete = known.as_ref().and_then(|known| known.source.as_ref());
    let complete = complete.is_some_and(|source| source.complete);
    if complete && args.rejects.is_none() {
        return Ok(outcome);
    }
    let start = outcome.resumed_at;
    let snapshot = store.snapshot();
    let mut held = Held::of(Some(&snapshot), schema, &input.publisher, start)?;
    let mut piece = Piece { schema, hash: &input.hash.clone(), batches: Vec::new(), rows: 0 };
    let publisher = input.publisher.clone();
    // What was rejected has to be read again to be told of again.
    let passed = if args.rejects.is_some() { 0 } else { start };
    let mut committed = start;
    let mut brought = 0;
    let read = outcome.read(
        schema,
        &mut input,
        passed,
        &mut held,
        "importing",
        each,
        &mut |ticks, outcome| {
            piece.rows += ticks.len();
            piece.batches.push(ticks);
            if piece.rows >= args.piece_rows.get() {
                brought += piece.rows;
                piece.commit(store, &publisher, outcome, false)?;
                committed = outcome.rows;
            }
            Ok(())
        },
    );
    if committed > 0 {
        read.with_context(|| {
            format!(
                "{committed} rows of {} are in {} as publisher {publisher}: import a mended file \
                 with --publisher {publisher}, and they are known there",
                input.path.display(),
                args.data.display(),
                publisher = publisher.as_str()
            )
        })?;
    } else {
        read?;
    }
    let new = brought + piece.rows > 0 || !outcome.rejected.is_empty();
    // Where nothing is new the folder stays as it is.
    if !complete && (new || start > 0) {
        piece.commit(store, &publisher, &outcome, true)?;
    }
    Ok(outcome)
}

/// Whether what an import brought came from this reading, so that it need not be compared.
fn is_of(imported: &Imported, hash: &str) -> bool {
    imported.source.as_ref().is_some_and(|source| source.hash == hash)
}

/// Ticks that are committed together.
struct Piece<'a> {
    schema: &'a StreamSchema,
    hash: &'a str,
    batches: Vec<Ticks>,
    rows: usize,
}

impl Piece<'_> {
    fn commit(
        &mut self,
        store: &mut Store,
        publisher: &PublisherId,
        outcome: &Outcome,
        complete: bool,
    ) -> Result<()> {
        store.handle_time(now_ns());
        let mut commit = store.begin();
        commit.add_imported(self.schema, &std::mem::take(&mut self.batches))?;
        self.rows = 0;
        let rejected = &outcome.rejected;
        // Rows that conflict are not in; those beyond the horizon can be taken another day.
        let final_ =
            outcome.conflicting == 0 && !rejected.contains_key(RejectReason::BeyondHorizon.name());
        let hash = self.hash.to_owned();
        let imported = Imported {
            rows: outcome.rows,
            rejected: rejected.iter().map(|(name, rows)| ((*name).to_owned(), *rows)).collect(),
            source: final_.then_some(ImportedSource { hash, rows: outcome.rows, complete }),
        };
        commit.mark_imported(&self.schema.name, publisher, imported);
        commit.finish()?;
        Ok(())
    }
}

/// Reads a file through without storing anything.
fn check(
    existing: Option<&Snapshot>,
    schema: &StreamSchema,
    mut input: Input<'_>,
    each: &mut dyn FnMut(&SourceBatch) -> Result<()>,
) -> Result<Outcome> {
    let mut held = Held::of(existing, schema, &input.publisher, 0)?;
    let mut outcome = Outcome::default();
    outcome.read(schema, &mut input, 0, &mut held, "checking", each, &mut |_, _| Ok(()))?;
    Ok(outcome)
}

impl Outcome {
    /// What an earlier import says of the rows that it brought.
    fn of(imported: &Imported) -> Self {
        let rows = imported.source.as_ref().map_or(0, |source| source.rows);
        let named = |name: &str| RejectReason::ALL.into_iter().find(|reason| reason.name() == name);
        let rejected = imported.rejected.iter();
        let rejected = rejected.filter_map(|(name, rows)| Some((named(name)?.name(), *rows)));
        let rejected: BTreeMap<_, _> = rejected.collect();
        let held = rows.saturating_sub(rejected.values().sum());
        Self { rows, resumed_at: rows, held, rejected, ..Self::default() }
    }

    /// Reads a file from a row on, counts its rows and hands on the ticks that are new. Rows that
    /// are counted already are told to `each` only.
    #[expect(clippy::too_many_arguments, reason = "three of them are the caller's own")]
    fn read(
        &mut self,
        schema: &StreamSchema,
        input: &mut Input<'_>,
        from: u64,
        held: &mut Held,
        verb: &str,
        each: &mut dyn FnMut(&SourceBatch) -> Result<()>,
        sink: &mut dyn FnMut(Ticks, &Self) -> Result<()>,
    ) -> Result<()> {
        let now = now_ns();
        let source = &mut input.source;
        let total = source.progress();
        let unit = match total.unit {
            ProgressUnit::Rows => "rows",
            ProgressUnit::Bytes => "bytes",
        };
        let what = format!("{verb} {}", input.path.display());
        let bar = progress::bar(&what, Some(total.total), unit);
        for row in (0..from).step_by(PASSED_ROWS as usize).skip(1).chain([from]) {
            source.skip_to(row)?;
            bar.set_position(source.progress().done);
        }
        // What was passed says nothing of how long the rest takes.
        bar.reset_eta();
        while let Some(mut batch) = source.next_batch()? {
            files::reject_beyond_horizon(schema, &mut batch, now);
            each(&batch)?;
            bar.set_position(source.progress().done);
            let ticks = self.count(batch, held)?;
            sink(ticks, self)?;
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// Counts a batch and gives back the ticks that are new.
    fn count(&mut self, batch: SourceBatch, held: &mut Held) -> Result<Ticks> {
        let known = self.resumed_at;
        self.rows = self.rows.max(batch.first_row + batch.rows as u64);
        for rejected in batch.rejected.iter().filter(|row| row.sequence >= known) {
            *self.rejected.entry(rejected.reason.name()).or_default() += 1;
        }
        let ticks = batch.ticks;
        let content = content_hashes(&ticks);
        let mut new = Vec::with_capacity(ticks.len());
        for (row, &sequence) in ticks.sequence.iter().enumerate() {
            if sequence < known {
                continue;
            }
            match held.content(sequence)? {
                None => new.push(row as u32),
                Some(held) if held == content[row] => self.held += 1,
                Some(_) => self.conflicting += 1,
            }
        }
        self.imported += new.len() as u64;
        Ok(if new.len() == ticks.len() { ticks } else { ticks.take(&new) })
    }
}

/// Every rejected row, as CSV.
struct RejectsFile {
    csv: csv::Writer<std::fs::File>,
}

impl RejectsFile {
    fn create(path: &Path) -> Result<Self> {
        let mut csv = csv::Writer::from_path(path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        csv.write_record(["file", "row", "line", "column", "reason", "text"])?;
        Ok(Self { csv })
    }

    fn write(&mut self, path: &Path, batch: &SourceBatch) -> Result<()> {
        for row in &batch.details {
            let line = row.line.map_or_else(String::new, |line| line.to_string());
            let file = path.display().to_string();
            let fields =
                [&file, &row.row.to_string(), &line, &row.column, row.reason.name(), &row.text];
            self.csv.write_record(fields)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        Ok(self.csv.flush()?)
    }
}
