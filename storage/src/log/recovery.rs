//! Finding the end of a log when it is opened for appending.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use isotick_model::LogPosition;

use super::commits::TAIL;
use super::disk::{self, Disk, DiskFile};
use super::segment::{self, BLOCK, Format, Header, Walk};
use super::state::{self, Current, Pending, SPARE, State, UNFINISHED};
use crate::error::{Error, Result};

/// What opening the log found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The position of the next record.
    pub next: LogPosition,
    /// What was cut off the end, `None` when the log ended with a whole frame.
    pub cut: Option<Cut>,
}

/// A torn end that was cut off: what was being written when the process or machine stopped, and
/// what had not reached the disk in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The segment.
    pub path: PathBuf,
    /// Where the whole frames end.
    pub offset: u64,
    /// Bytes removed, up to the last that are known to be of this log.
    pub bytes: u64,
}

/// Where a segment's whole frames end.
pub(super) struct End {
    /// The position after the last of them.
    pub next: u64,
    /// Where the last of them ends; 0 when the segment was never started.
    pub len: u64,
    /// How far what was torn reaches; `len` when nothing was.
    pub torn_end: u64,
    /// From here on frames may not be durable.
    unsure: u64,
    format: Option<Format>,
}

/// Finds where the whole frames of the last segment end. Frames before position `durable` are known
/// to be durable, whatever the frames themselves say: where few were written before the first sync
/// ended, none behind a damaged one says so.
///
/// # Errors
///
/// [`Error::LogCorrupt`] when a frame that was durable cannot be read.
pub(super) fn find_end(path: &Path, first: u64, bytes: &[u8], durable: u64) -> Result<End> {
    let corrupt = |offset: usize, what| {
        Err(Error::LogCorrupt { path: path.to_path_buf(), offset: offset as u64, what })
    };
    let format = match segment::read_header(path, bytes, first)? {
        Header::Of(format) => format,
        Header::NotStarted => {
            let format = Format::V2 { first, prewritten: 0 };
            let survey = Walk::new(format, bytes, first).survey();
            if survey.durable.max(durable) > first {
                return corrupt(0, "its header is missing");
            }
            let torn_end = match survey.frames {
                0 if bytes.len() < BLOCK => bytes.len(),
                0 => 0,
                _ => survey.end,
            };
            let torn_end = torn_end as u64;
            return Ok(End { next: first, len: 0, torn_end, unsure: 0, format: None });
        }
    };
    let mut walk = Walk::new(format, bytes, first);
    let mut offsets = Vec::new();
    let bad = loop {
        let offset = walk.offset;
        match walk.step() {
            Ok(_) => offsets.push(offset),
            Err(bad) => break bad,
        }
    };
    let survey = walk.survey();
    if survey.durable.max(durable) > walk.position {
        return corrupt(walk.offset, bad.unwrap_or("a frame is missing"));
    }
    let mut torn_end = walk.promised().unwrap_or(walk.offset);
    if survey.frames > 0 {
        torn_end = torn_end.max(survey.end);
    }
    // A file that grew as it was written has nothing older behind its end.
    if bytes.len() as u64 > format.prewritten() {
        torn_end = torn_end.max(bytes.len());
    }
    let unsure = match (format, (walk.durable - first) as usize) {
        // With the first frame the header is unsure as well.
        (Format::V1, _) | (_, 0) => 0,
        (_, known) => offsets.get(known).copied().unwrap_or(walk.offset) as u64,
    };
    Ok(End {
        next: walk.position,
        len: walk.offset as u64,
        torn_end: torn_end as u64,
        unsure,
        format: Some(format),
    })
}

/// The frames that a process left in its tail files and that the segment starting at `first` does
/// not have, from `next` on; and the position after the last of them.
fn tail_frames(
    disk: &dyn Disk,
    folder: &Path,
    names: &[String],
    first: u64,
    next: u64,
) -> Result<(Vec<u8>, u64)> {
    let mut found: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    for name in names.iter().filter(|name| name.starts_with(TAIL)) {
        let path = folder.join(name);
        let file = disk.open(&path, false).map_err(Error::io("open", &path))?;
        let bytes = disk::read_from(&*file, 0).map_err(Error::io("read", &path))?;
        let mut walk = Walk::of_tail(&bytes, first);
        loop {
            let (offset, position) = (walk.offset, walk.position);
            if walk.step().is_err() {
                break;
            }
            found.insert(position, bytes[offset..walk.offset].to_vec());
        }
    }
    let (mut frames, mut end) = (Vec::new(), next);
    while let Some(frame) = found.get(&end) {
        frames.extend_from_slice(frame);
        end += 1;
    }
    Ok((frames, end))
}

/// Opens a log's folder for appending: removes what was left unfinished, cuts a torn end off the
/// last segment, and makes what stays durable. Earlier segments were synced before the next was
/// begun; they are checked when they are read. `durable` as for [`find_end`].
pub(super) fn recover(
    disk: &dyn Disk,
    folder: &Path,
    durable: u64,
) -> Result<(State, Option<Cut>)> {
    let names = disk.list(folder).map_err(Error::io("read", folder))?;
    let remove = |is_left: fn(&str) -> bool| {
        names.iter().filter(|name| is_left(name)).try_for_each(|name| {
            let path = folder.join(name);
            disk.remove(&path).map_err(Error::io("remove", &path))
        })
    };
    // Spares too: after a power failure one may be a segment that lost its name.
    remove(|name| name.ends_with(UNFINISHED) || name.starts_with(SPARE))?;
    let recovered = recover_segments(disk, folder, &names, durable)?;
    remove(|name| name.starts_with(TAIL))?;
    // What is removed must not come back beside what is written next.
    disk.sync_folder(folder).map_err(Error::io("sync", folder))?;
    Ok(recovered)
}

fn recover_segments(
    disk: &dyn Disk,
    folder: &Path,
    names: &[String],
    durable: u64,
) -> Result<(State, Option<Cut>)> {
    let mut firsts: VecDeque<u64> = segment::firsts_in(names).collect();
    let Some(&first) = firsts.back() else {
        let current = new_segment(disk, folder, 0)?;
        firsts.push_back(0);
        return Ok((State::new(current, 0, firsts), None));
    };
    let path = segment::path_of(folder, first);
    let file = disk.open(&path, false).map_err(Error::io("open", &path))?;
    let bytes = disk::read_from(&*file, 0).map_err(Error::io("read", &path))?;
    let end = find_end(&path, first, &bytes, durable)?;
    let (tail, next) = match end.format {
        // Frames of the tail have the seed of a segment of this version.
        Some(Format::V1) => (Vec::new(), end.next),
        _ => tail_frames(disk, folder, names, first, end.next)?,
    };
    // Where the tail has what was torn, nothing is missing.
    let cut = (end.len < end.torn_end && tail.is_empty()).then(|| Cut {
        path: path.clone(),
        offset: end.len,
        bytes: end.torn_end - end.len,
    });
    let has_tails = names.iter().any(|name| name.starts_with(TAIL));
    let current = match end.format {
        // Writes that the process before had under way may still reach this file: what is kept of
        // it they do not change, and what follows goes elsewhere.
        Some(Format::V2 { .. }) if has_tails => {
            let kept = End { torn_end: end.len, ..end };
            make_durable(&*file, &path, &bytes, &kept)?;
            if end.next > first {
                firsts.push_back(end.next);
            }
            let pending = Pending { frames: tail, first: end.next, end: next };
            let mut pending = Some(pending).filter(|_| next > end.next).into_iter().collect();
            state::begin(disk, folder, None, end.next, Some(&mut pending))?
        }
        Some(Format::V2 { .. }) => {
            make_durable(&*file, &path, &bytes, &end)?;
            Current { file, path, first, len: end.len, is_named: true }
        }
        // Frames of this version do not go into a segment of an earlier one.
        Some(Format::V1) if end.next > first => {
            make_durable(&*file, &path, &bytes, &end)?;
            firsts.push_back(end.next);
            new_segment(disk, folder, end.next)?
        }
        _ => {
            let pending = (next > first).then_some(Pending { frames: tail, first, end: next });
            state::begin(disk, folder, None, first, Some(&mut pending.into_iter().collect()))?
        }
    };
    Ok((State::new(current, next, firsts), cut))
}

fn new_segment(disk: &dyn Disk, folder: &Path, first: u64) -> Result<Current> {
    state::begin(disk, folder, None, first, Some(&mut VecDeque::new()))
}

/// What recovery keeps counts as durable from here on. It may sit in memory only, after a sync
/// that failed even in pages that will not be written any more: so it is written once more.
fn make_durable(file: &dyn DiskFile, path: &Path, bytes: &[u8], end: &End) -> Result<()> {
    if end.len < end.torn_end {
        file.set_len(end.len).map_err(Error::io("truncate", path))?;
    }
    // A file may end inside the block of its header.
    let unsure = &bytes[end.unsure as usize..bytes.len().min(end.len as usize)];
    file.write_at(end.unsure, unsure).map_err(Error::io("write", path))?;
    file.sync().map_err(Error::io("sync", path))
}

/// The segment files of a folder, by first position.
pub(super) fn list(disk: &dyn Disk, folder: &Path) -> Result<Vec<u64>> {
    let names = disk.list(folder).map_err(Error::io("read", folder))?;
    Ok(segment::firsts_in(&names).collect())
}

/// A segment's bytes from an offset on; `None` when there is no such segment any more.
pub(super) fn open(disk: &dyn Disk, path: &Path) -> Result<Option<Arc<dyn DiskFile>>> {
    match disk.open_to_read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        file => file.map(Some).map_err(Error::io("open", path)),
    }
}
