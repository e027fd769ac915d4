//! What a job reads, part by part.

use std::hash::{Hash, Hasher};

use anyhow::Result;
use isotick_model::{LogPosition, Ticks};
use isotick_scheduler::{Extent, Scan};
use isotick_storage::history::Part;
use isotick_storage::{Frozen, Snapshot};

use crate::scanning;

/// Row groups that are read by one dispatch, at most: about 10 ms of one core.
const GROUPED: usize = 4;

/// Parts that one dispatch reads: row groups of one file that stand side by side.
#[derive(Clone, Debug)]
pub struct Group {
    pub parts: Vec<Part>,
    /// The same number: the same place in the same file.
    pub source: u64,
    pub rows: u64,
    /// Stored bytes of the columns that are read.
    pub bytes: u64,
}

impl Group {
    fn of(parts: Vec<Part>) -> Self {
        let rows = parts.iter().map(|part| part.rows() as u64).sum();
        let bytes = parts.iter().map(Part::bytes).sum();
        let mut hasher = rustc_hash::FxHasher::default();
        place(&parts[0]).hash(&mut hasher);
        Self { parts, source: hasher.finish(), rows, bytes }
    }

    /// Where its ticks lie.
    pub fn extent(&self) -> Extent {
        let extents =
            self.parts.iter().map(|part| Extent { times: part.times(), keys: part.keys() });
        let hull = extents.reduce(|a, b| Extent {
            times: *a.times.start().min(b.times.start())..=*a.times.end().max(b.times.end()),
            keys: a
                .keys
                .zip(b.keys)
                .map(|(a, b)| a.start().min(b.start()).clone()..=a.end().max(b.end()).clone()),
        });
        hull.expect("a group has a part")
    }
}

/// Parts of one place can be read by one dispatch.
fn place(part: &Part) -> (&std::path::Path, usize) {
    (part.path(), part.row_group() / GROUPED)
}

/// The parts of a scan over what was noted, the same ones in the same order whenever it is asked.
pub fn groups(snapshot: &Snapshot, scan: &Scan) -> Result<Vec<Group>> {
    let (columns, keys) = (scanning::columns_of(scan), scan.key_selection());
    let parts = snapshot.ticks_of(&scan.schema, &columns, scanning::times(scan), &keys)?;
    let mut groups = Vec::<Vec<Part>>::new();
    for part in parts {
        match groups.last_mut() {
            Some(group) if place(&group[0]) == place(&part) => group.push(part),
            _ => groups.push(vec![part]),
        }
    }
    Ok(groups.into_iter().map(Group::of).collect())
}

/// What only the log holds, and between which times it lies.
pub fn tail(snapshot: &Snapshot, frozen: &Frozen) -> Result<(Vec<Ticks>, Option<(i64, i64)>)> {
    let ticks = snapshot.tail_before(&frozen.stream, LogPosition(frozen.end))?;
    let times = || ticks.iter().flat_map(|batch| batch.ts_event.iter().copied());
    let times = times().min().zip(times().max());
    Ok((ticks, times))
}
