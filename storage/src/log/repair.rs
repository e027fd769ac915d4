//! Making a damaged log one that can be opened again, at the least loss.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use isotick_model::LogPosition;

use super::check::{LogDamage, LogReport};
use super::disk::{self, Disk, Files};
use super::recovery;
use super::segment::{self, Format, Header};
use super::state::{self, Pending};
use crate::error::{Error, Result};
use crate::folder::DataFolder;

/// What is put aside is named like the file it comes from, with this behind it.
const ASIDE: &str = ".cut";

/// What a repair does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogRepair {
    /// The damage lies before the first record that a start needs: nothing is lost. What is
    /// before that position is put aside.
    Forget {
        /// The position.
        before: LogPosition,
    },
    /// The log ends at the damage; what is behind it is put aside and lost to the log.
    Cut,
}

/// Says what a repair would do. `needed` is the first record that a start has to read, `covered`
/// the first that history does not hold.
///
/// # Errors
///
/// [`Error::LogBeyondRepair`] when a start needs records that only this log had and history has
/// records after them.
pub fn plan(damage: &LogDamage, needed: LogPosition, covered: LogPosition) -> Result<LogRepair> {
    if damage.position < needed {
        return Ok(LogRepair::Forget { before: needed });
    }
    if damage.position < covered {
        let (path, position) = (damage.path.clone(), damage.position.0);
        return Err(Error::LogBeyondRepair { path, position, covered: covered.0 });
    }
    Ok(LogRepair::Cut)
}

/// Repairs a log as planned. Returns the files in which what was put aside is kept. Interrupted,
/// it leaves a log that is still damaged, and all its bytes; it can be asked again.
///
/// # Errors
///
/// [`Error::Io`]; [`Error::LogCorrupt`] when what a start needs is damaged as well.
///
/// # Panics
///
/// If the folder was opened for reading.
pub fn repair(folder: &DataFolder, report: &LogReport, repair: &LogRepair) -> Result<Vec<PathBuf>> {
    folder.assert_writer();
    let Some(damage) = &report.damage else { return Ok(Vec::new()) };
    match repair {
        LogRepair::Forget { before } => forget(&Files, &folder.log(), before.0),
        LogRepair::Cut => cut(&Files, &folder.log(), damage),
    }
}

/// Gives a file a name that is none of a segment.
fn put_aside(disk: &dyn Disk, path: &Path) -> Result<PathBuf> {
    let aside = aside(disk, path)?;
    disk.rename(path, &aside).map_err(Error::io("rename", path))?;
    Ok(aside)
}

/// An unused name beside a file.
fn aside(disk: &dyn Disk, path: &Path) -> Result<PathBuf> {
    let folder = path.parent().expect("a segment is in a folder");
    let names = disk.list(folder).map_err(Error::io("read", folder))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned() + ASIDE;
    let numbered = (1..).map(|number| format!("{name}.{number}"));
    let unused = std::iter::once(name.clone()).chain(numbered).find(|name| !names.contains(name));
    Ok(folder.join(unused.expect("there are more numbers than files")))
}

fn sync_folder(disk: &dyn Disk, folder: &Path) -> Result<()> {
    disk.sync_folder(folder).map_err(Error::io("sync", folder))
}

fn cut(disk: &dyn Disk, folder: &Path, damage: &LogDamage) -> Result<Vec<PathBuf>> {
    let mut kept = Vec::new();
    let firsts = recovery::list(disk, folder)?;
    let damaged = firsts.iter().position(|&first| segment::path_of(folder, first) == damage.path);
    let damaged = damaged.expect("the damaged segment is one of the log's");
    // From the last on, so that the log has no other gap meanwhile.
    for &first in firsts[damaged + 1..].iter().rev() {
        kept.push(put_aside(disk, &segment::path_of(folder, first))?);
    }
    let path = &damage.path;
    if damage.offset == 0 {
        kept.push(put_aside(disk, path)?);
    } else {
        let file = disk.open(path, false).map_err(Error::io("open", path))?;
        let bytes = disk::read_from(&*file, damage.offset).map_err(Error::io("read", path))?;
        let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        if used > 0 {
            let aside = aside(disk, path)?;
            let copy = disk.open(&aside, true).map_err(Error::io("create", &aside))?;
            copy.write_at(0, &bytes[..used]).map_err(Error::io("write", &aside))?;
            copy.sync().map_err(Error::io("sync", &aside))?;
            sync_folder(disk, folder)?;
            kept.push(aside);
        }
        file.set_len(damage.offset).map_err(Error::io("truncate", path))?;
        file.sync().map_err(Error::io("sync", path))?;
    }
    sync_folder(disk, folder)?;
    if damage.offset == 0 {
        // The log goes on at this position, whatever is before it.
        state::begin(disk, folder, None, damage.position.0, Some(&mut VecDeque::new()))?;
    }
    Ok(kept)
}

/// Puts aside what is before a position. A segment that holds records from there on as well is
/// written again without those before.
fn forget(disk: &dyn Disk, folder: &Path, before: u64) -> Result<Vec<PathBuf>> {
    let firsts = recovery::list(disk, folder)?;
    let mut kept = Vec::new();
    let holder = firsts.iter().rposition(|&first| first <= before).unwrap_or(0);
    let first = firsts[holder];
    if first < before {
        let path = segment::path_of(folder, first);
        let file = disk.open(&path, false).map_err(Error::io("open", &path))?;
        let bytes = disk::read_from(&*file, 0).map_err(Error::io("read", &path))?;
        let mut pending = frames_from(&path, &bytes, first, before, firsts.get(holder + 1))?;
        state::begin(disk, folder, None, before, Some(&mut pending))?;
        kept.push(put_aside(disk, &path)?);
    }
    for &first in &firsts[..holder] {
        kept.push(put_aside(disk, &segment::path_of(folder, first))?);
    }
    sync_folder(disk, folder)?;
    Ok(kept)
}

/// The frames of a segment from a position on, as they go into a new one. All must be there up to
/// `end`, the position at which the next segment starts, or else to the last that was durable.
fn frames_from(
    path: &Path,
    bytes: &[u8],
    first: u64,
    from: u64,
    end: Option<&u64>,
) -> Result<VecDeque<Pending>> {
    let format = match segment::read_header(path, bytes, first) {
        Ok(Header::Of(format)) => format,
        _ => Format::V2 { first, prewritten: 0 },
    };
    let start = format.header_len();
    let (mut frames, mut durable, mut due) = (Vec::new(), from, from);
    format.find_all(bytes.get(start..).unwrap_or_default(), first, |position, whole| {
        durable = durable.max(whole.durable);
        if position == due {
            let at = segment::begin_frame(&mut frames);
            frames.extend_from_slice(whole.payload);
            segment::end_frame(&mut frames, at).expect("it was in a frame");
            due += 1;
        }
    });
    if due < end.copied().unwrap_or(durable) {
        let what = "a record that a start needs is damaged as well";
        return Err(Error::LogCorrupt { path: path.to_path_buf(), offset: start as u64, what });
    }
    segment::seal(&mut frames, from, from, Some(from));
    let mut pending = VecDeque::new();
    if due > from {
        pending.push_back(Pending { frames, first: from, end: due });
    }
    Ok(pending)
}
