//! `isotick import`: files into a data folder's history, idempotent, in bounded memory.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use isotick_ingest::{Marks, Sequencer};
use isotick_model::definitions::Definitions;
use isotick_model::{LogPosition, PublisherId, RejectReason, Rejected, StreamSchema, Ticks};
use isotick_storage::source::{ProgressUnit, Source, SourceBatch};
use isotick_storage::{Imported, LogReader, Snapshot, Store};
use serde_json::json;

use crate::cli::ImportArgs;
use crate::files::{self, Rejections};
use crate::service::{now_ns, replay_record};
use crate::{definitions, progress};

/// Ticks that are sorted and written as one piece.
const PIECE_ROWS: usize = 1 << 20;

/// What became of a file.
#[derive(Default)]
struct Outcome {
    rows: u64,
    imported: u64,
    /// Rows that the folder held already: published before, or the file was imported before.
    held: u64,
    rejected: BTreeMap<RejectReason, u64>,
}

pub fn run(args: ImportArgs) -> Result<ExitCode> {
    let remembered = match Snapshot::open(&args.data) {
        Ok(snapshot) => snapshot.folder().definitions()?,
        Err(_) => None,
    };
    let definitions = definitions::for_writing(&args.definitions, remembered.as_deref())?;
    let schema = definitions.stream(&args.stream)?.clone();
    let mut folder = match args.dry_run {
        true => None,
        false => Some(Folder::open(&args.data, &definitions)?),
    };
    let mut rejects = args.rejects.as_deref().map(RejectsFile::create).transpose()?;
    let rejections = Rejections::default();
    let mut reports = Vec::new();
    for path in &args.files {
        let publisher = match &args.publisher {
            Some(name) => files::publisher(name)?,
            None => Source::publisher_default(path)?,
        };
        let source = files::open(path, &args.fields, &definitions, &schema, Some(&publisher))?;
        let mut each = |batch: &SourceBatch| {
            rejections.count(path, batch);
            rejects.as_mut().map_or(Ok(()), |rejects| rejects.write(path, batch))
        };
        let outcome = match &mut folder {
            Some(folder) => folder.import(path, &schema, &publisher, source, &mut each)?,
            None => check(path, &schema, source, &mut each)?,
        };
        reports.push(report(path, &publisher, &outcome, args.dry_run));
        if !args.json {
            let verb = if args.dry_run { "would be imported" } else { "imported" };
            eprintln!(
                "{}: {} rows: {} {verb}, {} held already, {} rejected",
                path.display(),
                outcome.rows,
                outcome.imported,
                outcome.held,
                outcome.rejected.values().sum::<u64>()
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
        "valid": outcome.imported + outcome.held,
        "held": outcome.held,
        "rejected": rejected,
    })
}

/// A data folder to import into.
struct Folder {
    store: Store,
    /// Knows which rows of which publisher the folder holds.
    sequencer: Sequencer,
}

impl Folder {
    fn open(data: &Path, definitions: &Definitions) -> Result<Self> {
        let store = Store::open(data, "isotick import")?;
        store.folder().put_definitions(&definitions.to_toml())?;
        let mut sequencer = Sequencer::default();
        for schema in &definitions.streams {
            sequencer.declare(schema.clone(), &[]);
        }
        // Opening the log cuts off a torn end, which must not be read as ticks.
        store.open_log()?;
        for record in LogReader::from(store.folder(), LogPosition(0))? {
            replay_record(&mut sequencer, &record?.1)?;
        }
        Ok(Self { store, sequencer })
    }

    fn import(
        &mut self,
        path: &Path,
        schema: &StreamSchema,
        publisher: &PublisherId,
        mut source: Source,
        each: &mut dyn FnMut(&SourceBatch) -> Result<()>,
    ) -> Result<Outcome> {
        if let Some(imported) = self.store.manifest().imported(&schema.name, publisher.as_str()) {
            return Ok(Outcome { rows: imported.rows, held: imported.rows, ..Outcome::default() });
        }
        let slot = self.sequencer.slot(&schema.name, publisher)?;
        let marks = self.sequencer.marks(slot);
        let now = now_ns();
        let mut outcome = Outcome::default();
        let mut commit = self.store.begin();
        let (mut piece, mut piece_rows) = (Vec::new(), 0);
        let bar = bar(path, "importing", &source);
        while let Some(mut batch) = source.next_batch()? {
            files::reject_beyond_horizon(schema, &mut batch, now);
            each(&batch)?;
            bar.set_position(source.progress().done);
            let ticks = outcome.count(batch, &marks);
            piece_rows += ticks.len();
            piece.push(ticks);
            if piece_rows >= PIECE_ROWS {
                commit.add_imported(schema, &std::mem::take(&mut piece))?;
                piece_rows = 0;
            }
        }
        bar.finish_and_clear();
        commit.add_imported(schema, &piece)?;
        let rejected = outcome.rejected.iter().map(|(reason, rows)| (*reason, *rows));
        commit.mark_imported(&schema.name, publisher, Imported::new(outcome.rows, rejected));
        commit.finish()?;
        Ok(outcome)
    }
}

/// Reads a file through without storing anything.
fn check(
    path: &Path,
    schema: &StreamSchema,
    mut source: Source,
    each: &mut dyn FnMut(&SourceBatch) -> Result<()>,
) -> Result<Outcome> {
    let now = now_ns();
    let mut outcome = Outcome::default();
    let bar = bar(path, "checking", &source);
    while let Some(mut batch) = source.next_batch()? {
        files::reject_beyond_horizon(schema, &mut batch, now);
        each(&batch)?;
        bar.set_position(source.progress().done);
        outcome.count(batch, &Marks::default());
    }
    bar.finish_and_clear();
    Ok(outcome)
}

fn bar(path: &Path, verb: &str, source: &Source) -> indicatif::ProgressBar {
    let total = source.progress();
    let unit = match total.unit {
        ProgressUnit::Rows => "rows",
        ProgressUnit::Bytes => "bytes",
    };
    progress::bar(&format!("{verb} {}", path.display()), Some(total.total), unit)
}

impl Outcome {
    /// Counts a batch and gives back the ticks that are new.
    fn count(&mut self, batch: SourceBatch, marks: &Marks) -> Ticks {
        self.rows += batch.rows as u64;
        let held = |sequence: u64| {
            sequence < marks.next_sequence
                || marks.held.iter().any(|range| range.contains(&sequence))
        };
        let rows = 0..batch.ticks.len() as u32;
        let new: Vec<u32> = rows.filter(|&row| !held(batch.ticks.sequence[row as usize])).collect();
        self.held += (batch.ticks.len() - new.len()) as u64;
        for Rejected { sequence, reason } in batch.rejected {
            match held(sequence) {
                true => self.held += 1,
                false => *self.rejected.entry(reason).or_default() += 1,
            }
        }
        self.imported += new.len() as u64;
        if new.len() == batch.ticks.len() { batch.ticks } else { batch.ticks.take(&new) }
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
