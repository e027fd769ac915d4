//! Rollups being made: planned from one manifest, done beside everything else, and committed
//! against whatever manifest there is then.

use isotick_model::StreamSchema;

use super::{RollupBase, StatesFile, StoredStates, TICKS_PER_STATE_MIN, write};
use crate::error::{Error, Result};
use crate::files;
use crate::folder::DataFolder;
use crate::history::{self, ALL_TIME, Columns, Part};
use crate::manifest::{HistoryFile, Manifest, StoredFile};
use crate::retention::Dropped;
use crate::store::Store;

/// A history file whose states are to be stored.
#[derive(Clone, Debug)]
pub struct RollupWork {
    folder: DataFolder,
    schema: StreamSchema,
    base: RollupBase,
    file: HistoryFile,
    id: String,
    ticks_per_state: u64,
}

/// The states of a file, in place, which no manifest names yet. Dropping it removes them.
#[must_use = "nothing counts before it is committed"]
#[derive(Debug)]
pub struct Rolled {
    folder: DataFolder,
    stream: String,
    base: RollupBase,
    of: StoredFile,
    /// `None` where they are not worth a file.
    states: Option<StatesFile>,
    /// Whether the file is to go if this is dropped.
    is_loose: bool,
}

impl RollupWork {
    /// Stores states from another number of ticks for each on than [`TICKS_PER_STATE_MIN`].
    #[must_use]
    pub fn from_ticks_per_state(self, ticks_per_state: u64) -> Self {
        Self { ticks_per_state, ..self }
    }

    /// The stream.
    pub fn stream(&self) -> &str {
        &self.schema.name
    }

    /// What states are to be made.
    pub fn base(&self) -> &RollupBase {
        &self.base
    }

    /// The file of ticks, relative to the data folder.
    pub fn path(&self) -> &str {
        &self.file.file.path
    }

    /// How many ticks the file has.
    pub fn rows(&self) -> u64 {
        self.file.file.rows
    }

    /// The ticks: parts in the order of history, by key and time.
    ///
    /// # Errors
    ///
    /// As [`Snapshot::ticks`](crate::Snapshot::ticks).
    pub fn parts(&self, columns: &Columns) -> Result<Vec<Part>> {
        let all = Default::default();
        history::plan(&self.folder, &self.schema, [&self.file], columns, &ALL_TIME, &all)
    }

    /// Puts the states of all the file's ticks that pass the base's filter in place. They come in
    /// any number of batches, ascending by key and window over all of them. Where they turn out to
    /// be hardly fewer than the ticks, nothing is written.
    ///
    /// # Errors
    ///
    /// Those of the batches; [`Error::Io`], [`Error::Parquet`], [`Error::Object`]. Nothing is left
    /// then.
    pub fn write(&self, states: impl Iterator<Item = Result<StoredStates>>) -> Result<Rolled> {
        let mut count = 0_u64;
        let mut is_worth = true;
        let states = states.map(|batch| {
            let batch = batch?;
            count += batch.len() as u64;
            is_worth = count.saturating_mul(self.ticks_per_state) <= self.file.file.rows;
            if is_worth { Ok(batch) } else { Err(Error::Stopped) }
        });
        let has_some = |batch: &Result<StoredStates>| !batch.as_ref().is_ok_and(|of| of.is_empty());
        let mut states = states.filter(has_some).peekable();
        if states.peek().is_none() {
            // No tick passes: there is no file, and reading it would cost as good as nothing.
            return Ok(self.pass());
        }
        let stream = files::path_component(&self.schema.name);
        let folder = format!("rollup={stream}/{}", self.base.id(&self.schema.name));
        let relative = format!("{folder}/{}.parquet", self.id);
        let of = &self.file.file.path;
        let staged = write::stage(&self.folder, &self.schema, &self.base, relative, of, states);
        let (staged, file) = match staged {
            Err(Error::Stopped) if !is_worth => return Ok(self.pass()),
            staged => staged?,
        };
        let mut rolled = self.pass();
        (rolled.states, rolled.is_loose) = (Some(file), true);
        staged.put_in_place()?;
        let written = rolled.states.iter().map(|states| states.file.path.as_str());
        rolled.folder.objects().settle(written)?;
        Ok(rolled)
    }

    /// Notes that the states of this file are not worth storing, or cannot stand for its ticks.
    pub fn pass(&self) -> Rolled {
        Rolled {
            folder: self.folder.clone(),
            stream: self.schema.name.clone(),
            base: self.base.clone(),
            of: self.file.file.clone(),
            states: None,
            is_loose: false,
        }
    }
}

impl Rolled {
    /// The file of states; `None` where they are not worth one.
    pub fn states(&self) -> Option<&StatesFile> {
        self.states.as_ref()
    }

    /// Ends as a process does that is killed.
    #[cfg(test)]
    pub(crate) fn abandon(mut self) {
        self.is_loose = false;
    }
}

impl Drop for Rolled {
    fn drop(&mut self) {
        if let Some(states) = self.states.as_ref().filter(|_| self.is_loose) {
            self.folder.objects().try_to_remove(std::slice::from_ref(&states.file.path));
        }
    }
}

impl Manifest {
    /// The history files of a stream for which nothing is known of the states of a base.
    pub fn without_rollup(
        &self,
        stream: &str,
        base: &RollupBase,
    ) -> impl Iterator<Item = &HistoryFile> {
        let id = base.id(stream);
        let files = self.streams.get(stream).into_iter().flat_map(|stream| &stream.files);
        files.filter(move |file| !file.rollups.contains_key(&id))
    }
}

impl Store {
    /// The states to be made of a stream's next file that has none of this base and is wanted;
    /// `None` when there is none left. Until it is committed or dropped, the same file is planned
    /// again where it is not left out.
    pub fn plan_rollup(
        &mut self,
        schema: &StreamSchema,
        base: &RollupBase,
        wanted: impl Fn(&HistoryFile) -> bool,
    ) -> Option<RollupWork> {
        let manifest = self.manifest().clone();
        let mut files = manifest.without_rollup(&schema.name, base);
        let file = files.find(|file| wanted(file))?.clone();
        let (folder, schema) = (self.folder().clone(), schema.clone());
        let (base, id) = (base.clone(), self.rollup_id());
        let ticks_per_state = TICKS_PER_STATE_MIN;
        Some(RollupWork { folder, schema, base, file, id, ticks_per_state })
    }

    /// Makes states count whose files of ticks still do: one commit. Those of files that are gone
    /// meanwhile are removed. Gives how many of them count.
    ///
    /// # Errors
    ///
    /// As [`Commit::finish`](crate::Commit::finish).
    pub fn commit_rolled(&mut self, rolled: Vec<Rolled>) -> Result<usize> {
        let mut commit = self.begin();
        let mut counted = 0;
        for mut rolled in rolled {
            let Some(stream) = commit.next.streams.get_mut(&rolled.stream) else { continue };
            let id = rolled.base.id(&rolled.stream);
            let file = stream.files.iter_mut().find(|file| file.file == rolled.of);
            let Some(file) = file.filter(|file| !file.rollups.contains_key(&id)) else { continue };
            let states = rolled.states.clone();
            commit.written.extend(states.iter().map(|states| states.file.path.clone()));
            file.rollups.insert(id.clone(), states);
            stream.bases.insert(id, rolled.base.clone());
            // From here on it is the commit's.
            rolled.is_loose = false;
            counted += 1;
        }
        if counted > 0 {
            commit.finish()?;
        }
        Ok(counted)
    }

    /// Takes the states of some bases of a stream, by their names there, out of use: one commit,
    /// none where there are none. Files that come later get none of them.
    ///
    /// # Errors
    ///
    /// As [`Commit::finish`](crate::Commit::finish).
    pub fn drop_rollups(&mut self, stream: &str, bases: &[String]) -> Result<Dropped> {
        let mut commit = self.begin();
        let Some(of_stream) = commit.next.streams.get_mut(stream) else {
            return Ok(Dropped::default());
        };
        let known = of_stream.bases.len();
        of_stream.bases.retain(|id, _| !bases.contains(id));
        if of_stream.bases.len() == known {
            return Ok(Dropped::default());
        }
        let mut gone = Vec::new();
        for file in &mut of_stream.files {
            for id in bases {
                gone.extend(file.rollups.remove(id).flatten());
            }
        }
        commit.retire(gone.iter().map(|states| states.file.path.clone()));
        commit.finish()?;
        let sum = |of: fn(&StatesFile) -> u64| gone.iter().map(of).sum();
        let (rows, bytes) = (sum(|states| states.file.rows), sum(|states| states.file.bytes));
        Ok(Dropped { files: gone.len() as u64, rows, bytes })
    }
}
