//! `isotick import`: files into a data folder's history, idempotent, in bounded memory.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use isotick_ingest::sequencer::content_hashes;
use isotick_model::definitions::Definitions;
use isotick_model::{PublisherId, RejectReason, StreamSchema, Ticks};
use isotick_storage::source::{ProgressUnit, Source, SourceBatch};
use isotick_storage::{DataFolder, Error, Imported, Opening, Snapshot, Store};
use serde_json::json;

use crate::cli::ImportArgs;
use crate::files::{self, Rejections};
use crate::held::{Held, Known};
use crate::service::now_ns;
use crate::{definitions, progress};

/// Ticks that are sorted and written as one piece.
const PIECE_ROWS: usize = 1 << 20;

/// What became of a file.
#[derive(Default)]
struct Outcome {
    rows: u64,
    imported: u64,
    /// Ticks that the folder held already, from a publisher or an earlier import.
    held: u64,
    /// Rows whose identity the folder holds with other content.
    conflicting: u64,
    rejected: BTreeMap<RejectReason, u64>,
}

/// A file that could be opened, before anything is written.
struct Input<'a> {
    path: &'a Path,
    publisher: PublisherId,
    source: Source,
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
            Some(store) => import(store, &schema, input, &mut each)?,
            None => check(existing.clone(), &schema, input, &mut each)?,
        };
        reports.push(report(path, &publisher, &outcome, args.dry_run));
        if !args.json {
            let verb = if args.dry_run { "would be imported" } else { "imported" };
            eprintln!(
                "{}: {} rows: {} {verb}, {} held already, {} conflicting, {} rejected",
                path.display(),
                outcome.rows,
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
        let publisher = match &args.publisher {
            Some(name) => files::publisher(name)?,
            None => Source::publisher_default(path)?,
        };
        let source = files::open(path, &args.fields, definitions, schema, Some(&publisher), None)?;
        Ok(Input { path, publisher, source })
    };
    args.files.iter().map(input).collect()
}

fn report(
    path: &Path,
    publisher: &PublisherId,
    outcome: &Outcome,
    dry_run: bool,
) -> serde_json::Value {
    let rejected = outcome.rejected.iter();
    let rejected: serde_json::Map<_, _> =
        rejected.map(|(reason, rows)| (reason.name().to_owned(), (*rows).into())).collect();
    json!({
        "file": path.display().to_string(),
        "publisher": publisher.as_str(),
        "rows": outcome.rows,
        "imported": if dry_run { 0 } else { outcome.imported },
        "valid": outcome.imported + outcome.held + outcome.conflicting,
        "held": outcome.held,
        "conflicting": outcome.conflicting,
        "rejected": rejected,
    })
}

fn import(
    store: &mut Store,
    schema: &StreamSchema,
    mut input: Input<'_>,
    each: &mut dyn FnMut(&SourceBatch) -> Result<()>,
) -> Result<Outcome> {
    let held = Known::of(Some(store.snapshot()))?.held(schema, &input.publisher)?;
    let mut outcome = Outcome::default();
    let mut commit = store.begin();
    let (mut piece, mut piece_rows) = (Vec::new(), 0);
    outcome.read(schema, &mut input, &held, "importing", each, &mut |ticks| {
        piece_rows += ticks.len();
        piece.push(ticks);
        if piece_rows >= PIECE_ROWS {
            commit.add_imported(schema, &std::mem::take(&mut piece))?;
            piece_rows = 0;
        }
        Ok(())
    })?;
    if outcome.imported == 0 && outcome.rejected.is_empty() {
        // Nothing new: the folder stays as it is.
        return Ok(outcome);
    }
    commit.add_imported(schema, &piece)?;
    let rejected = outcome.rejected.iter().map(|(reason, rows)| (*reason, *rows));
    let imported = Imported::new(outcome.rows, rejected);
    commit.mark_imported(&schema.name, &input.publisher, imported);
    commit.finish()?;
    Ok(outcome)
}

/// Reads a file through without storing anything.
fn check(
    existing: Option<Snapshot>,
    schema: &StreamSchema,
    mut input: Input<'_>,
    each: &mut dyn FnMut(&SourceBatch) -> Result<()>,
) -> Result<Outcome> {
    let held = Known::of(existing)?.held(schema, &input.publisher)?;
    let mut outcome = Outcome::default();
    outcome.read(schema, &mut input, &held, "checking", each, &mut |_| Ok(()))?;
    Ok(outcome)
}

impl Outcome {
    /// Reads a file, counts its rows and hands on the ticks that are new.
    fn read(
        &mut self,
        schema: &StreamSchema,
        input: &mut Input<'_>,
        held: &Held,
        verb: &str,
        each: &mut dyn FnMut(&SourceBatch) -> Result<()>,
        sink: &mut dyn FnMut(Ticks) -> Result<()>,
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
        while let Some(mut batch) = source.next_batch()? {
            files::reject_beyond_horizon(schema, &mut batch, now);
            each(&batch)?;
            bar.set_position(source.progress().done);
            sink(self.count(batch, held))?;
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// Counts a batch and gives back the ticks that are new.
    fn count(&mut self, batch: SourceBatch, held: &Held) -> Ticks {
        self.rows += batch.rows as u64;
        for rejected in &batch.rejected {
            *self.rejected.entry(rejected.reason).or_default() += 1;
        }
        let ticks = batch.ticks;
        let content = content_hashes(&ticks);
        let mut new = Vec::with_capacity(ticks.len());
        for (row, &sequence) in ticks.sequence.iter().enumerate() {
            match held.content(sequence) {
                None => new.push(row as u32),
                Some(known) if known == content[row] => self.held += 1,
                Some(_) => self.conflicting += 1,
            }
        }
        self.imported += new.len() as u64;
        if new.len() == ticks.len() { ticks } else { ticks.take(&new) }
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
