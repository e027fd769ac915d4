//! Reading all of a data folder to say what is wrong with it, and what to do.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use isotick_model::definitions::Definitions;
use isotick_model::results::ResultSchema;
use isotick_model::ticks::NEVER_SEEN;
use isotick_model::view::View;
use isotick_model::{KeySelection, LogPosition, PublisherId, StreamSchema, Ticks};
use roaring::RoaringTreemap;

use crate::error::{Error, Result};
use crate::history::{self, ALL_TIME, Columns};
use crate::log::check::{LogReport, check};
use crate::manifest::{HistoryFile, Origin, RecordFiles, StoredFile};
use crate::snapshot::Snapshot;
use crate::{checkpoint, manifest, parquet_file, record, rollup};

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about: a file, a stream, the log.
    pub place: String,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// What a data folder holds, and what is wrong with it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The manifest's version.
    pub version: u64,
    /// The first log position that the files do not cover.
    pub covered: LogPosition,
    /// Files of history that were read.
    pub history_files: u64,
    /// Ticks in them.
    pub ticks: u64,
    /// Files of recorded windows that were read.
    pub record_files: u64,
    /// Windows in them, each version.
    pub windows: u64,
    /// Files of states that were read.
    pub rollup_files: u64,
    /// States in them.
    pub states: u64,
    /// Checkpoints that were read.
    pub checkpoints: u64,
    /// The log, where it could be read.
    pub log: Option<LogReport>,
    /// Files that nothing refers to: the next writer removes them.
    pub orphans: Vec<String>,
    /// What is wrong, in the order found.
    pub findings: Vec<Finding>,
}

/// How to go on with a damaged file of history or record.
const RESTORE: &str = "restore it from a copy; without one, `isotick scan --skip-damaged` leaves \
                       it out and says so";

/// How to go on with damaged states.
const ROLL_UP_AGAIN: &str = "`isotick scan --no-rollup` reads the ticks; `isotick rollup --drop` \
                             removes the states, and `isotick rollup` makes them anew";

/// Reads everything that the manifest names, the log and the checkpoints: checksums, order,
/// statistics, counts, and that no tick is there twice. Needs no lock; beside a writer, files that
/// come and go meanwhile are not findings. `progress` is told of rows.
///
/// Memory: a row group, and a compressed bitmap of each publisher's sequences.
///
/// # Errors
///
/// What keeps everything from being read: the folder, the manifest, the definitions.
pub fn fsck(
    snapshot: &Snapshot,
    definitions: &Definitions,
    progress: &mut dyn FnMut(u64),
) -> Result<Report> {
    let folder = snapshot.folder();
    let manifest = snapshot.manifest();
    let mut report =
        Report { version: manifest.version, covered: snapshot.covered(), ..Report::default() };
    for (name, stream) in &manifest.streams {
        let Ok(schema) = definitions.stream(name) else {
            report.find(
                format!("stream {name}"),
                "the definitions do not have it, so that its files cannot be read",
                "put its definition back with --config at the next `isotick serve` or `import`",
            );
            continue;
        };
        let mut held = BTreeMap::new();
        for runs in manifest.runs(name).into_values() {
            for run in runs {
                check_run(snapshot, schema, &run, &mut held, &mut report, progress);
            }
        }
        for file in &stream.files {
            for (base, states) in file.rollups.iter().filter_map(|of| Some((of.0, of.1.as_ref()?)))
            {
                report.rollup_files += 1;
                report.states += states.file.rows;
                let base = &stream.bases[base];
                if let Err(error) = rollup::check(folder, schema, file, states, base) {
                    let place = folder.objects().path_of(&states.file.path).display().to_string();
                    report.find(place, &error.to_string(), ROLL_UP_AGAIN);
                }
                progress(states.file.rows);
            }
        }
        let rows: u64 = stream.files.iter().map(|file| file.file.rows).sum();
        let repeated = held.values().map(|held: &Held| held.repeated).sum::<u64>();
        if repeated > 0 {
            report.find(
                format!("stream {name}"),
                &format!("{repeated} of {rows} ticks are there more than once"),
                "results count them twice: keep the folder and report this",
            );
        }
    }
    for (definition, record) in &manifest.records {
        let view = definitions.views.iter().find(|view| view.definition.0 == *definition);
        for file in &record.files {
            report.record_files += 1;
            report.windows += file.rows;
            if let Err(error) = check_record(snapshot, view, file) {
                report.damaged(&folder.objects().path_of(&file.path), &error);
            }
            progress(file.rows);
        }
    }
    for file in &manifest.checkpoints {
        report.checkpoints += 1;
        if let Err(error) = checkpoint::read(folder, file) {
            let remedy = "a start takes the checkpoint before it; where both are damaged, restore \
                          one from a copy";
            let place = folder.objects().path_of(&file.path);
            report.find(place.display().to_string(), &error.to_string(), remedy);
        }
    }
    match check(folder, manifest.covered()) {
        Ok(log) => report.log_findings(log, manifest),
        Err(error) => {
            report.find(folder.log().display().to_string(), &error.to_string(), "see above");
        }
    }
    report.orphans = manifest::orphans(folder, manifest)?;
    // Beside a writer, what is missing or too much may only be newer or older than what was read.
    if manifest::Manifest::read(folder)?.version != manifest.version {
        report.orphans.clear();
    }
    Ok(report)
}

/// The sequences of a publisher that were met.
#[derive(Default)]
struct Held {
    sequences: RoaringTreemap,
    repeated: u64,
}

/// Where a row stands in the order of history.
type Place = (isotick_model::Key, i64, PublisherId, u64);

fn place_of(ticks: &Ticks, row: usize) -> Place {
    let publisher = ticks.publisher_of(row).clone();
    (ticks.key_of(row).clone(), ticks.ts_event[row], publisher, ticks.sequence[row])
}

/// Files that follow each other in order.
fn check_run(
    snapshot: &Snapshot,
    schema: &StreamSchema,
    run: &[&HistoryFile],
    held: &mut BTreeMap<PublisherId, Held>,
    report: &mut Report,
    progress: &mut dyn FnMut(u64),
) {
    let mut last = None;
    for file in run {
        report.history_files += 1;
        let path = snapshot.folder().objects().path_of(&file.file.path);
        let mut seen = FileSeen { last: last.take(), ..FileSeen::default() };
        match check_file(snapshot, schema, file, &mut seen, held, progress) {
            Ok(()) => {}
            Err(error) => report.damaged(&path, &error),
        }
        report.ticks += seen.rows;
        for what in seen.wrong {
            report.find(path.display().to_string(), what, RESTORE);
        }
        last = seen.last;
    }
}

/// What was met of a file.
#[derive(Default)]
struct FileSeen {
    rows: u64,
    last: Option<Place>,
    wrong: Vec<&'static str>,
}

impl FileSeen {
    fn wrong(&mut self, what: &'static str) {
        if !self.wrong.contains(&what) {
            self.wrong.push(what);
        }
    }
}

fn check_file(
    snapshot: &Snapshot,
    schema: &StreamSchema,
    file: &HistoryFile,
    seen: &mut FileSeen,
    held: &mut BTreeMap<PublisherId, Held>,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    // Also what no scan of all rows needs.
    parquet_file::check(snapshot.folder().objects(), &file.file)?;
    let (columns, all) = (Columns::all(schema), KeySelection::default());
    let parts = history::plan(snapshot.folder(), schema, [file], &columns, &ALL_TIME, &all)?;
    let (mut ts_min, mut ts_max) = (i64::MAX, i64::MIN);
    for part in parts {
        let times = part.times();
        for ticks in part.read()? {
            let ticks = ticks?;
            for row in 0..ticks.len() {
                let place = place_of(&ticks, row);
                let ts = place.1;
                if seen.last.as_ref().is_some_and(|last| *last > place) {
                    seen.wrong("its rows are not in the order of history");
                }
                if !times.contains(&ts) {
                    seen.wrong("the statistics of a row group do not hold its times");
                }
                let is_imported = ticks.seen_of(row) == NEVER_SEEN;
                match file.origin {
                    Origin::Log { .. } if is_imported => {
                        seen.wrong("it comes from the log and has ticks that were never live");
                    }
                    Origin::Imported if !is_imported => {
                        seen.wrong("it was imported and has ticks that were live");
                    }
                    _ => {}
                }
                (ts_min, ts_max) = (ts_min.min(ts), ts_max.max(ts));
                seen.last = Some(place);
            }
            for row in 0..ticks.len() {
                let publisher = ticks.publisher_of(row);
                if !held.contains_key(publisher) {
                    held.insert(publisher.clone(), Held::default());
                }
                let held = held.get_mut(publisher).expect("it was just put there");
                held.repeated += u64::from(!held.sequences.insert(ticks.sequence[row]));
            }
            seen.rows += ticks.len() as u64;
            progress(ticks.len() as u64);
        }
    }
    if seen.rows != file.file.rows {
        seen.wrong("it has another number of rows than the manifest says");
    }
    if (ts_min, ts_max) != (file.ts_min, file.ts_max) {
        seen.wrong("its times are others than the manifest says");
    }
    Ok(())
}

/// Reads a file of recorded windows: as windows where the view is known, else its bytes.
fn check_record(snapshot: &Snapshot, view: Option<&View>, file: &StoredFile) -> Result<()> {
    match view {
        Some(view) => {
            let files = RecordFiles { files: vec![file.clone()], ..RecordFiles::default() };
            record::read(snapshot.folder(), &files, &ResultSchema::of(view)).map(drop)
        }
        None => parquet_file::check(snapshot.folder().objects(), file),
    }
}

impl Report {
    fn find(&mut self, place: String, what: &str, remedy: &str) {
        self.findings.push(Finding { place, what: what.to_owned(), remedy: remedy.to_owned() });
    }

    fn damaged(&mut self, path: &std::path::Path, error: &Error) {
        self.find(path.display().to_string(), &error.to_string(), RESTORE);
    }

    fn log_findings(&mut self, log: LogReport, manifest: &manifest::Manifest) {
        if let Some(damage) = &log.damage {
            let what =
                format!("record {} at byte {}: {}", damage.position.0, damage.offset, damage.what);
            let remedy = "`isotick log check` says what is behind it, `isotick log repair` goes on";
            self.find(damage.path.display().to_string(), &what, remedy);
        } else if log.end < manifest.covered() {
            let what = format!(
                "it ends before record {}, and history holds what came before record {}",
                log.end.0, manifest.covered
            );
            self.find(log.folder.display().to_string(), &what, "restore its files from a copy");
        }
        let first = log.segments.first().map_or(log.end, |segment| segment.first);
        let needed = manifest.checkpoints.first().map_or(0, |oldest| oldest.position);
        if first.0 > needed {
            let what = format!(
                "it begins with record {}, and a start needs it from record {needed} on",
                first.0
            );
            self.find(log.folder.display().to_string(), &what, "restore its files from a copy");
        }
        self.log = Some(log);
    }
}

/// The files of a stream that cannot be read whole, each with the reason, and a snapshot without
/// them: what a scan takes that is to go on without what is damaged. Reads everything once.
///
/// # Errors
///
/// [`Error::Io`] where the operating system refuses to read a file that is there.
pub fn without_damaged(
    snapshot: &Snapshot,
    schema: &StreamSchema,
    progress: &mut dyn FnMut(u64),
) -> Result<(Snapshot, Vec<(PathBuf, Error)>)> {
    let mut damaged = Vec::new();
    let mut left_out = HashSet::new();
    let files = snapshot.manifest().streams.get(&schema.name).into_iter().flat_map(|s| &s.files);
    for file in files {
        if let Err(error) = parquet_file::check(snapshot.folder().objects(), &file.file) {
            damaged.push((snapshot.folder().objects().path_of(&file.file.path), error));
            left_out.insert(file.file.path.clone());
        }
        progress(file.file.rows);
    }
    Ok((snapshot.without(&schema.name, &left_out), damaged))
}

#[cfg(test)]
mod tests;
