//! Which rows of a publisher a data folder holds, and with what content.

use std::collections::BTreeSet;

use anyhow::Result;
use isotick_ingest::sequencer::content_hashes;
use isotick_model::{LogPosition, PublisherId, StreamSchema, Ticks};
use isotick_storage::{ALL_TIME, Columns, LogReader, LogRecord, Snapshot};

/// The publishers of a folder, known without reading its history.
pub struct Known {
    snapshot: Option<Snapshot>,
    /// Stream and publisher of every record in the log.
    logged: BTreeSet<(String, PublisherId)>,
}

/// The ticks of one publisher of one stream, by sequence, each with a hash of its content.
#[derive(Default)]
pub struct Held(Vec<(u64, u64)>);

impl Known {
    /// Reads the log for its publishers. Without a folder nobody is known.
    pub fn of(snapshot: Option<Snapshot>) -> Result<Self> {
        let mut logged = BTreeSet::new();
        if let Some(snapshot) = &snapshot {
            for record in LogReader::from(snapshot.folder(), LogPosition(0))? {
                if let (_, LogRecord::Ticks { stream, ticks, .. }) = record? {
                    let publisher = &ticks.publishers[0];
                    if !logged.iter().any(|(s, p)| *s == stream && p == publisher) {
                        logged.insert((stream, publisher.clone()));
                    }
                }
            }
        }
        Ok(Self { snapshot, logged })
    }

    /// The rows of a file that was imported whole under the hash of its content, with nothing
    /// rejected: its rows need no second look.
    pub fn whole(
        &self,
        stream: &str,
        publisher: &PublisherId,
        content: &PublisherId,
    ) -> Option<u64> {
        let imported = self.snapshot.as_ref()?.manifest().imported(stream, publisher.as_str())?;
        (publisher == content && imported.rejected.is_empty()).then_some(imported.rows)
    }

    /// What the folder holds of a publisher; reads history only for one that it knows.
    pub fn held(&self, schema: &StreamSchema, publisher: &PublisherId) -> Result<Held> {
        let Some(snapshot) = &self.snapshot else { return Ok(Held::default()) };
        let imported = snapshot.manifest().imported(&schema.name, publisher.as_str()).is_some();
        if !imported && !self.logged.contains(&(schema.name.clone(), publisher.clone())) {
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
