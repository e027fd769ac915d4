//! What a job reads, part by part.

use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use isotick_kernels::Base;
use isotick_model::{LogPosition, Ticks};
use isotick_scheduler::{Extent, Place, Scan};
use isotick_storage::history::Part;
use isotick_storage::{Frozen, Snapshot, StatesPart};

use super::costs::Cut;
use super::record::Id;
use crate::rollups::Stored;
use crate::scanning;

/// What one dispatch reads.
#[derive(Clone, Debug)]
pub struct Group {
    pub reads: Reads,
    /// The number of what is read, among all that the job reads.
    pub place: usize,
    /// Those of the job's views that are computed.
    pub views: Range<usize>,
    /// The same number: the same place in the same file, and ticks of it.
    pub source: u64,
    /// Ticks, or states.
    pub rows: u64,
    /// Stored bytes of the columns that are read.
    pub bytes: u64,
    /// What of these counts as done when it is: all views' come to one reading.
    pub rows_counted: u64,
    pub bytes_counted: u64,
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
    fn of_ticks(
        parts: Vec<Part>,
        cut: &Cut,
        place: usize,
        views: Range<usize>,
        views_of_all: usize,
    ) -> Self {
        let rows = parts.iter().map(|part| part.rows() as u64).sum::<u64>();
        let bytes = parts.iter().map(Part::bytes).sum::<u64>();
        let source = hash_of(source(&parts[0], cut.grouped));
        // What all views' groups count comes to what is there.
        let counted = |all: u64| {
            let up_to =
                |view: usize| (u128::from(all) * view as u128 / views_of_all.max(1) as u128) as u64;
            up_to(views.end) - up_to(views.start)
        };
        let (rows_counted, bytes_counted) = (counted(rows), counted(bytes));
        let reads = Reads::Ticks(parts);
        Self { reads, place, views, source, rows, bytes, rows_counted, bytes_counted }
    }

    /// States are read for one job alone, under a number that no other has.
    fn of_states(
        part: StatesPart,
        base: Arc<Base>,
        id: &Id,
        place: usize,
        views: Range<usize>,
    ) -> Self {
        let source = hash_of((id, part.path(), part.row_group()));
        let (rows, bytes) = (part.rows() as u64, part.bytes());
        Self {
            reads: Reads::States(part, base),
            place,
            views,
            source,
            rows,
            bytes,
            rows_counted: rows,
            bytes_counted: bytes,
        }
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

/// Where the ticks of parts of one file lie.
fn extent(parts: &[Part]) -> Extent {
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

/// Parts of one source can be read by one dispatch.
fn source(part: &Part, grouped: usize) -> (&Path, usize, usize) {
    (part.path(), part.row_group() / grouped, grouped)
}

fn hash_of(value: impl Hash) -> u64 {
    let mut hasher = rustc_hash::FxHasher::default();
    value.hash(&mut hasher);
    hasher.finish()
}

/// What a scan reads of what was noted: the same in the same order whenever it is asked with the
/// same cut. Gives where the ticks of each place lie as well.
pub fn groups(
    snapshot: &Snapshot,
    scan: &Scan,
    stored: Stored,
    id: &Id,
    cut: impl FnOnce(u64) -> Cut,
) -> Result<(Vec<Group>, Vec<Place>, Cut)> {
    let planned = scanning::stored_parts(snapshot, scan, stored)?;
    let rows_max = planned.ticks.iter().map(Part::rows).max().unwrap_or(0);
    let cut = cut(rows_max as u64);
    let all = 0..scan.views.len();
    let (mut groups, mut places) = (Vec::new(), Vec::new());
    for (part, base) in planned.states {
        let extent = Some(Extent { times: part.times(), keys: part.keys() });
        places.push(Place { extent, sequence: None });
        groups.push(Group::of_states(part, base, id, places.len() - 1, all.clone()));
    }
    let mut of_ticks = Vec::<(u32, Vec<Part>)>::new();
    for (file, part) in scanning::by_file(planned.ticks) {
        match of_ticks.last_mut() {
            Some((_, group)) if source(&group[0], cut.grouped) == source(&part, cut.grouped) => {
                group.push(part);
            }
            _ => of_ticks.push((file, vec![part])),
        }
    }
    for (file, parts) in of_ticks {
        places.push(Place { extent: Some(extent(&parts)), sequence: Some(file) });
        for views in cut.runs() {
            groups.push(Group::of_ticks(parts.clone(), &cut, places.len() - 1, views, all.len()));
        }
    }
    Ok((groups, places, cut))
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
