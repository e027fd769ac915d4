//! `isotick rollup`: the exact states of views, kept beside the history.

use std::collections::{BTreeMap, VecDeque};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use isotick_model::StreamSchema;
use isotick_storage::{DataFolder, Opening, RollupBase, RollupWork, Store};
use serde_json::json;

use crate::cli::RollupArgs;
use crate::service::now_ns;
use crate::{definitions, progress, rollups};

/// Files whose states are committed together: a kill loses the work on so many.
const COMMITTED_AT_ONCE: usize = 8;

/// The states of one stream that are asked for, by name.
type Bases = BTreeMap<String, RollupBase>;

pub fn run(args: RollupArgs) -> Result<ExitCode> {
    // Nothing is made where there is no data folder.
    let text = DataFolder::open_reader(&args.data)?.definitions()?;
    let text = text.with_context(|| {
        format!("{} remembers no definitions: nothing was stored in it yet", args.data.display())
    })?;
    let definitions = definitions::for_reading(&args.definitions, &text, &args.views)?;
    let mut asked: BTreeMap<String, Bases> = BTreeMap::new();
    for name in &args.views {
        let view = definitions.view(name)?;
        let Some(base) = rollups::stored_base(view, definitions.stream(&view.stream)?) else {
            bail!(
                "{name} has quantiles, which need every value: there are no states of fixed size \
                 to keep, and scans of it read ticks"
            );
        };
        asked.entry(view.stream.clone()).or_default().insert(base.id(&view.stream), base);
    }
    let opening = Opening { command: "isotick rollup", store: None, now_ns: now_ns() };
    let mut store = Store::open_with(&args.data, opening)?;
    if let Some(notice) = store.leftovers_notice() {
        eprintln!("{notice}");
    }
    if args.views.is_empty() {
        let streams = store.manifest().streams.iter();
        asked = streams.map(|(name, known)| (name.clone(), known.bases.clone())).collect();
        if asked.values().all(BTreeMap::is_empty) {
            bail!(
                "no states are kept in {}: name the views whose states to keep, as in `isotick \
                 rollup bars_1m --data {}`",
                args.data.display(),
                args.data.display()
            );
        }
    }
    let mut reports = Vec::new();
    for (stream, bases) in &asked {
        if !store.manifest().streams.contains_key(stream) {
            bail!("there is no history of stream {stream} in {}", args.data.display());
        }
        if args.drop {
            let ids: Vec<String> = bases.keys().cloned().collect();
            let dropped = store.drop_rollups(stream, &ids)?;
            reports.push(json!({
                "stream": stream, "dropped_files": dropped.files, "dropped_states": dropped.rows,
                "dropped_bytes": dropped.bytes,
            }));
            if !args.json {
                let (files, bytes) = (dropped.files, dropped.bytes);
                println!("{stream}: {files} files of states dropped, {bytes} bytes");
            }
            continue;
        }
        let schema = definitions.stream(stream)?;
        for (id, base) in bases {
            let made = roll_up(&mut store, schema, base, &args)?;
            let kept = Kept::of(&store, stream, id);
            if !args.json {
                println!("{stream}: {}: {kept}; {made}", rollups::describe(base));
            }
            reports.push(json!({
                "stream": stream, "base": id, "window_ns": base.width_ns, "filter": base.filter,
                "words": base.words(), "read_ticks": made.ticks, "read_files": made.files,
                "seconds": made.seconds, "kept": kept.to_json(),
            }));
        }
    }
    if args.json {
        println!("{}", json!({ "rollups": reports, "leftovers": store.leftovers() }));
    }
    Ok(ExitCode::SUCCESS)
}

/// What was done.
#[derive(Default)]
struct Made {
    files: u64,
    ticks: u64,
    seconds: f64,
}

impl std::fmt::Display for Made {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { files, ticks, seconds } = self;
        match files {
            0 => write!(f, "nothing was missing"),
            _ => {
                let rate = (*ticks as f64 / seconds.max(1e-9)) as u64;
                write!(f, "read {ticks} ticks of {files} files in {seconds:.2} s, {rate} ticks/s")
            }
        }
    }
}

/// What is kept of one base.
#[derive(Default)]
struct Kept {
    states: u64,
    bytes: u64,
    /// Ticks that the states stand for, and the bytes of their files.
    ticks: u64,
    of_bytes: u64,
    files: u64,
    /// Files without states, and their ticks.
    without: u64,
    ticks_without: u64,
}

impl Kept {
    fn of(store: &Store, stream: &str, id: &str) -> Self {
        let files = store.manifest().streams.get(stream).into_iter().flat_map(|known| &known.files);
        files.fold(Self::default(), |mut sum, file| {
            match file.rollups.get(id).and_then(Option::as_ref) {
                Some(states) => {
                    sum.files += 1;
                    sum.states += states.file.rows;
                    sum.bytes += states.file.bytes;
                    sum.ticks += states.ticks;
                    sum.of_bytes += file.file.bytes;
                }
                None => {
                    sum.without += 1;
                    sum.ticks_without += file.file.rows;
                }
            }
            sum
        })
    }

    fn to_json(&self) -> serde_json::Value {
        json!({
            "files": self.files, "states": self.states, "bytes": self.bytes, "ticks": self.ticks,
            "bytes_of_ticks": self.of_bytes, "files_without": self.without,
            "ticks_without": self.ticks_without,
        })
    }
}

impl std::fmt::Display for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let share = 100.0 * self.bytes as f64 / self.of_bytes.max(1) as f64;
        write!(
            f,
            "{} states of {} ticks in {} files, {} bytes ({share:.1} % of the ticks')",
            self.states, self.ticks, self.files, self.bytes
        )?;
        match self.without {
            0 => Ok(()),
            files => write!(
                f,
                "; {files} files have none: there would be hardly fewer than ticks, or no tick counts"
            ),
        }
    }
}

/// Makes what is missing, on all threads, and commits it some files at a time.
fn roll_up(
    store: &mut Store,
    schema: &StreamSchema,
    base: &RollupBase,
    args: &RollupArgs,
) -> Result<Made> {
    let started = Instant::now();
    let mut works = VecDeque::new();
    let missing: Vec<String> = {
        let manifest = store.manifest();
        let files = manifest.without_rollup(&schema.name, base);
        files.map(|file| file.file.path.clone()).collect()
    };
    for path in &missing {
        works.extend(store.plan_rollup(schema, base, |file| file.file.path == *path));
    }
    let ticks = works.iter().map(RollupWork::rows).sum();
    let threads = args.threads.or_else(|| std::thread::available_parallelism().ok());
    let threads = threads.map_or(1, std::num::NonZeroUsize::get).min(works.len().max(1));
    let bar = progress::bar(&format!("rolling up {}", schema.name), Some(ticks), "rows");
    let queue = Mutex::new(works);
    let (sender, receiver) = mpsc::sync_channel(COMMITTED_AT_ONCE);
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let work = |sender: mpsc::SyncSender<_>| {
        while let Some(work) = next() {
            let rolled = rollups::reduce(&work, schema, &mut |rows| {
                bar.inc(rows);
                Ok(())
            });
            if sender.send(rolled).is_err() {
                return;
            }
        }
    };
    std::thread::scope(|scope| -> Result<()> {
        for _ in 0..threads {
            let sender = sender.clone();
            scope.spawn(|| work(sender));
        }
        drop(sender);
        let mut done = Vec::new();
        for rolled in receiver {
            done.push(rolled?);
            if done.len() >= COMMITTED_AT_ONCE {
                store.commit_rolled(std::mem::take(&mut done))?;
            }
        }
        store.commit_rolled(done)?;
        Ok(())
    })?;
    bar.finish_and_clear();
    Ok(Made { files: missing.len() as u64, ticks, seconds: started.elapsed().as_secs_f64() })
}
