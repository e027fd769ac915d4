//! Where jobs are kept: a folder each below `jobs` in the data folder.
//!
//! | file | holds |
//! |---|---|
//! | `job.json` | the [`Record`] |
//! | `plan.json` | what it reads, once that is known |
//! | `pieces` | what its parts gave, until it is done |
//! | `result-N.parquet` | the windows of its Nth view, once it is done |

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};

use anyhow::{Context, Result};
use isotick_storage::Frozen;
use serde::{Deserialize, Serialize};

use super::costs::Cut;
use super::record::{Id, Record};

const FOLDER: &str = "jobs";
const RECORD: &str = "job.json";
const PLAN: &str = "plan.json";
const PIECES: &str = "pieces";
/// What is thrown away begins so.
const GONE: &str = ".gone-";

/// What a job reads, so that a restart finds the same parts in the same order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub frozen: Frozen,
    /// Tells the parts: what came of one is known by its place among them.
    pub parts: String,
    /// Between which times the ticks lie that only the log held, where there were any: their piece
    /// comes first, under the number behind those of the parts.
    pub tail: Option<(i64, i64)>,
    /// How it is cut into parts; older versions did not say.
    #[serde(default)]
    pub cut: Option<Cut>,
}

/// The folders of all jobs.
#[derive(Clone, Debug)]
pub struct JobStore {
    root: PathBuf,
    /// Takes what is thrown away.
    reaper: Sender<PathBuf>,
    /// Numbers that.
    gone: Arc<AtomicU64>,
}

/// Throws files and folders away until nobody sends any more, a little at a time: the kernel does
/// not let other threads run while it gives back the pages of a large file.
pub fn reap(gone: &Receiver<PathBuf>) {
    while let Ok(path) = gone.recv() {
        let files = fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path());
        files.for_each(|file| shrink(&file));
        shrink(&path);
        let _ = fs::remove_dir(&path);
    }
}

fn shrink(path: &Path) {
    const STEP: u64 = 1 << 20;
    if let Ok(file) = fs::OpenOptions::new().write(true).open(path) {
        let mut len = file.metadata().map_or(0, |file| file.len());
        while len > STEP && file.set_len(len - STEP).is_ok() {
            len -= STEP;
        }
    }
    let _ = fs::remove_file(path);
}

impl JobStore {
    /// Below a data folder; made when the first job comes. What is thrown away goes to the
    /// [reaper](reap).
    pub fn new(data: &Path, reaper: Sender<PathBuf>) -> Self {
        Self { root: data.join(FOLDER), reaper, gone: Arc::default() }
    }

    /// Takes a file or folder out of use at once.
    fn discard(&self, path: &Path) {
        let number = self.gone.fetch_add(1, Ordering::Relaxed);
        let gone = self.root.join(format!("{GONE}{number}"));
        if fs::rename(path, &gone).is_ok() {
            let _ = self.reaper.send(gone);
        }
    }

    /// All jobs, in no order; those whose record cannot be read are named and left where they are.
    pub fn load(&self, mut told: impl FnMut(String)) -> Result<Vec<Record>> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(|| format!("cannot read {}", self.root.display()))?,
        };
        let mut records = Vec::new();
        for entry in entries {
            let folder = entry.with_context(|| format!("cannot read {}", self.root.display()))?;
            if folder.file_name().to_string_lossy().starts_with(GONE) {
                // Killed before it was thrown away.
                let _ =
                    fs::remove_dir_all(folder.path()).or_else(|_| fs::remove_file(folder.path()));
                continue;
            }
            let path = folder.path().join(RECORD);
            let read = fs::read(&path).map_err(anyhow::Error::from);
            let record =
                read.and_then(|text| serde_json::from_slice::<Record>(&text).map_err(Into::into));
            match record {
                Ok(record) if *record.id.0 == *folder.file_name() => records.push(record),
                Ok(_) => told(format!("{} is of another job: it is left alone", path.display())),
                // Killed between making the folder and its record: nobody was told of the job.
                Err(error) if is_missing(&error) => {
                    let _ = fs::remove_dir_all(folder.path());
                }
                Err(error) => told(format!("the job in {} is left alone: {error}", path.display())),
            }
        }
        Ok(records)
    }

    /// Keeps a record as it is now.
    pub fn put(&self, record: &Record) -> Result<()> {
        let folder = self.folder(&record.id);
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        write(&folder.join(RECORD), record)
    }

    /// Keeps what a job reads: from here on it goes on where it was.
    pub fn put_plan(&self, id: &Id, plan: &Plan) -> Result<()> {
        write(&self.folder(id).join(PLAN), plan)
    }

    /// What a job reads, where that is known.
    pub fn plan(&self, id: &Id) -> Result<Option<Plan>> {
        let path = self.folder(id).join(PLAN);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            text => text.with_context(|| format!("cannot read {}", path.display()))?,
        };
        let plan = serde_json::from_slice(&text);
        Ok(Some(plan.with_context(|| format!("{} is damaged", path.display()))?))
    }

    /// Where a job's pieces are.
    pub fn pieces(&self, id: &Id) -> PathBuf {
        self.folder(id).join(PIECES)
    }

    /// Where the result of a job's view is.
    pub fn result(&self, id: &Id, view: usize) -> PathBuf {
        self.folder(id).join(format!("result-{view}.parquet"))
    }

    /// What the results of so many views take on disk.
    pub fn result_bytes(&self, id: &Id, views: usize) -> u64 {
        let bytes = |view| fs::metadata(self.result(id, view)).map_or(0, |file| file.len());
        (0..views).map(bytes).sum()
    }

    /// Throws away what a job has of its way; its record and its results stay.
    pub fn clear(&self, id: &Id) {
        let _ = fs::remove_file(self.folder(id).join(PLAN));
        self.discard(&self.pieces(id));
    }

    /// Throws a job away.
    pub fn remove(&self, id: &Id) {
        self.discard(&self.folder(id));
    }

    fn folder(&self, id: &Id) -> PathBuf {
        self.root.join(&id.0)
    }
}

fn is_missing(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == ErrorKind::NotFound)
}

/// Replaces a file as a whole. Not synced: a job that a power failure takes is asked for again.
fn write(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_vec_pretty(value).context("a record is plain data")?;
    let new = path.with_extension("new");
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, path))
        .with_context(|| format!("cannot write {}", path.display()))
}
