//! What a job reads, part by part.

use std::hash::{Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use isotick_kernels::Base;
use isotick_model::{LogPosition, Ticks};
use isotick_scheduler::{Extent, Scan};
use isotick_storage::history::Part;
use isotick_storage::{Frozen, Snapshot, StatesPart};

use super::record::Id;
use crate::rollups::Stored;
use crate::scanning;

/// Row groups that are read by one dispatch for one view, at most: about 10 ms of one core. For
/// more views they are fewer.
const GROUPED: usize = 4;

/// What one dispatch reads.
#[derive(Clone, Debug)]
pub struct Group {
    pub reads: Reads,
    /// The same number: the same place in the same file, and ticks of it.
    pub source: u64,
    /// Ticks, or states.
    pub rows: u64,
    /// Stored bytes of the columns that are read.
    pub bytes: u64,
}

/// From where.
#[derive(Clone, Debug)]
pub enum Reads {
    /// Row groups of one file that stand side by side.
    Ticks(Vec<Part>),
    /// States that stand for ticks.
    States(StatesPart, Arc<Base>),
}

impl Group {
    fn of_ticks(parts: Vec<Part>, grouped: usize) -> Self {
        let rows = parts.iter().map(|part| part.rows() as u64).sum();
        let bytes = parts.iter().map(Part::bytes).sum();
        let source = hash_of(place(&parts[0], grouped));
        Self { reads: Reads::Ticks(parts), source, rows, bytes }
    }

    /// States are read for one job alone, under a number that no other has.
    fn of_states(part: StatesPart, base: Arc<Base>, id: &Id) -> Self {
        let source = hash_of((id, part.path(), part.row_group()));
        let (rows, bytes) = (part.rows() as u64, part.bytes());
        Self { reads: Reads::States(part, base), source, rows, bytes }
    }

    /// Where its ticks lie.
    pub fn extent(&self) -> Extent {
        let parts = match &self.reads {
            Reads::Ticks(parts) => parts,
            Reads::States(part, _) => return Extent { times: part.times(), keys: part.keys() },
        };
        let extents = parts.iter().map(|part| Extent { times: part.times(), keys: part.keys() });
        let hull = extents.reduce(|a, b| Extent {
            times: *a.times.start().min(b.times.start())..=*a.times.end().max(b.times.end()),
            keys: a
                .keys
                .zip(b.keys)
                .map(|(a, b)| a.start().min(b.start()).clone()..=a.end().max(b.end()).clone()),
        });
        hull.expect("a group has a part")
    }

    /// What is read, in a way that is the same in every process.
    fn name(&self, hasher: &mut blake3::Hasher) {
        let mut name = |kind: u8, path: &Path, row_group: usize| {
            hasher.update(&[kind]);
            hasher.update(&(row_group as u64).to_le_bytes());
            hasher.update(path.to_string_lossy().as_bytes());
        };
        match &self.reads {
            Reads::Ticks(parts) => {
                parts.iter().for_each(|part| name(1, part.path(), part.row_group()));
            }
            Reads::States(part, _) => name(2, part.path(), part.row_group()),
        }
        hasher.update(&[0]);
    }
}

/// Parts of one place can be read by one dispatch.
fn place(part: &Part, grouped: usize) -> (&Path, usize, usize) {
    (part.path(), part.row_group() / grouped, grouped)
}

fn hash_of(value: impl Hash) -> u64 {
    let mut hasher = rustc_hash::FxHasher::default();
    value.hash(&mut hasher);
    hasher.finish()
}

/// What a scan reads of what was noted: the same in the same order whenever it is asked.
pub fn groups(snapshot: &Snapshot, scan: &Scan, stored: Stored, id: &Id) -> Result<Vec<Group>> {
    let planned = scanning::stored_parts(snapshot, scan, stored)?;
    let states = planned.states.into_iter();
    let mut groups: Vec<Group> =
        states.map(|(part, base)| Group::of_states(part, base, id)).collect();
    let grouped = (GROUPED / scan.views.len().max(1)).max(1);
    let mut of_ticks = Vec::<Vec<Part>>::new();
    for part in planned.ticks {
        match of_ticks.last_mut() {
            Some(group) if place(&group[0], grouped) == place(&part, grouped) => group.push(part),
            _ => of_ticks.push(vec![part]),
        }
    }
    groups.extend(of_ticks.into_iter().map(|parts| Group::of_ticks(parts, grouped)));
    Ok(groups)
}

/// Tells groups from others, in any process.
pub fn digest(groups: &[Group]) -> String {
    let mut hasher = blake3::Hasher::new();
    groups.iter().for_each(|group| group.name(&mut hasher));
    hasher.finalize().to_hex().to_string()
}

/// Between which times ticks lie, nanoseconds UTC, both ends inclusive; `None` for no ticks.
pub type Times = Option<(i64, i64)>;

/// What only the log holds, and between which times it lies.
pub fn tail(snapshot: &Snapshot, frozen: &Frozen) -> Result<(Vec<Ticks>, Times)> {
    let ticks = snapshot.tail_before(&frozen.stream, LogPosition(frozen.end))?;
    let times = || ticks.iter().flat_map(|batch| batch.ts_event.iter().copied());
    let times = times().min().zip(times().max());
    Ok((ticks, times))
}
