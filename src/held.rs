//! Which rows of a publisher a data folder holds, and with what content.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use isotick_ingest::sequencer::content_hashes;
use isotick_model::{LogPosition, PublisherId, StreamSchema, Ticks};
use isotick_storage::{ALL_TIME, Columns, LogReader, LogRecord, Snapshot};

/// The publishers of a folder, known without reading its history.
pub struct Known {
    snapshot: Option<Snapshot>,
    /// The publishers of the log's ticks, by stream.
    logged: BTreeMap<String, BTreeSet<PublisherId>>,
}

/// The ticks of one publisher of one stream, by sequence, each with a hash of its content.
#[derive(Default)]
pub struct Held(Vec<(u64, u64)>);

impl Known {
    /// Reads the log for its publishers. Without a folder nobody is known.
    pub fn of(snapshot: Option<Snapshot>) -> Result<Self> {
        let mut logged = BTreeMap::<String, BTreeSet<PublisherId>>::new();
        if let Some(snapshot) = &snapshot {
            for record in LogReader::from(snapshot.folder(), LogPosition(0))? {
                if let (_, LogRecord::Ticks { stream, ticks, .. }) = record? {
                    let publishers = logged.entry(stream).or_default();
                    publishers.extend(ticks.publishers.into_iter().take(1));
                }
            }
        }
        Ok(Self { snapshot, logged })
    }

    /// What the folder holds of a publisher; reads history only for one that it knows.
    pub fn held(&self, schema: &StreamSchema, publisher: &PublisherId) -> Result<Held> {
        let Some(snapshot) = &self.snapshot else { return Ok(Held::default()) };
        let imported = snapshot.manifest().imported(&schema.name, publisher.as_str()).is_some();
        let logged = self.logged.get(&schema.name);
        if !imported && !logged.is_some_and(|publishers| publishers.contains(publisher)) {
            return Ok(Held::default());
        }
        let mut held = Held::default();
        for part in snapshot.ticks(schema, &Columns::all(schema), ALL_TIME)? {
            for ticks in part.read()? {
                held.add(&ticks?, publisher);
            }
        }
        for ticks in snapshot.tail(&schema.name)? {
            held.add(&ticks, publisher);
        }
        held.0.sort_unstable();
        Ok(held)
    }
}

impl Held {
    fn add(&mut self, ticks: &Ticks, publisher: &PublisherId) {
        if !ticks.publishers.contains(publisher) {
            return;
        }
        let hashes = content_hashes(ticks);
        let rows = (0..ticks.len()).filter(|&row| ticks.publisher_of(row) == publisher);
        self.0.extend(rows.map(|row| (ticks.sequence[row], hashes[row])));
    }

    /// The content hash of a row that is held.
    pub fn content(&self, sequence: u64) -> Option<u64> {
        let at = self.0.binary_search_by_key(&sequence, |(held, _)| *held).ok()?;
        Some(self.0[at].1)
    }
}
