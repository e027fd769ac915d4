//! Reading all of a log to say what it holds and what is wrong with it.

use std::path::{Path, PathBuf};

use isotick_model::LogPosition;

use super::disk::{self, Disk};
use super::recovery::{self, Cut};
use super::segment::{self, Format, Header, Walk};
use super::{LogRecord, codec};
use crate::error::{Error, Result};
use crate::folder::DataFolder;

/// What a log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogReport {
    /// The log's folder.
    pub folder: PathBuf,
    /// Its segments in order, up to the first that is damaged, with that one.
    pub segments: Vec<SegmentReport>,
    /// The position after the last record that can be read.
    pub end: LogPosition,
    /// What the next writer cuts off, because it was never durable.
    pub torn: Option<Cut>,
    /// The first damage, `None` when the log is whole.
    pub damage: Option<LogDamage>,
}

/// What a segment holds, up to its damage if it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentReport {
    /// The file.
    pub path: PathBuf,
    /// The version of its format; `None` when it was never started.
    pub version: Option<u32>,
    /// The position of its first record.
    pub first: LogPosition,
    /// The position after its last record.
    pub end: LogPosition,
    /// Ticks in its records.
    pub ticks: u64,
    /// Bytes of its frames, with header and gaps.
    pub used_bytes: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
}

/// Where a log stops being readable although it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDamage {
    /// The segment; where segments are missing, the one before.
    pub path: PathBuf,
    /// Where in it the record that is due should be, in bytes.
    pub offset: u64,
    /// The position of that record.
    pub position: LogPosition,
    /// What is wrong.
    pub what: String,
    /// Whole records that were found behind it, in this segment and the later ones.
    pub records_behind: u64,
    /// Ticks in these.
    pub ticks_behind: u64,
    /// Bytes of these.
    pub bytes_behind: u64,
    /// The position after the last of these; `position` when there is none.
    pub end_behind: LogPosition,
}

/// Reads every frame of a log. Needs no lock; beside a writer the end may be reported as torn.
/// Memory: a segment. What is before position `durable` is known to be durable from elsewhere.
///
/// # Errors
///
/// [`Error::Io`]. Damage is part of the report.
pub fn check(folder: &DataFolder, durable: LogPosition) -> Result<LogReport> {
    check_with(&**folder.disk(), &folder.log(), durable)
}

pub(super) fn check_with(
    disk: &dyn Disk,
    folder: &Path,
    durable: LogPosition,
) -> Result<LogReport> {
    let firsts = recovery::list(disk, folder)?;
    let mut report = LogReport {
        folder: folder.to_path_buf(),
        segments: Vec::new(),
        end: LogPosition(firsts.first().copied().unwrap_or(0)),
        torn: None,
        damage: None,
    };
    for (at, &first) in firsts.iter().enumerate() {
        let path = segment::path_of(folder, first);
        if let Some(damage) = &mut report.damage {
            // What can be found behind the damage is told, not kept.
            damage.add_behind(&read(disk, &path)?, first);
            continue;
        }
        let next = firsts.get(at + 1).copied();
        check_segment(
            &mut report,
            path,
            &read(disk, &segment::path_of(folder, first))?,
            first,
            next,
            durable,
        )?;
    }
    Ok(report)
}

fn read(disk: &dyn Disk, path: &Path) -> Result<Vec<u8>> {
    let file = disk.open_to_read(path).map_err(Error::io("open", path))?;
    disk::read_from(&*file, 0).map_err(Error::io("read", path))
}

/// Adds a segment to a report whose segments before it are whole. `next` is where the one after
/// it starts.
fn check_segment(
    report: &mut LogReport,
    path: PathBuf,
    bytes: &[u8],
    first: u64,
    next: Option<u64>,
    durable: LogPosition,
) -> Result<()> {
    let mut segment = SegmentReport {
        path: path.clone(),
        version: None,
        first: LogPosition(first),
        end: LogPosition(first),
        ticks: 0,
        used_bytes: 0,
        file_bytes: bytes.len() as u64,
    };
    let assumed = Format::V2 { first, prewritten: 0 };
    let (format, mut problem) = match segment::read_header(&path, bytes, first) {
        Ok(Header::Of(format)) => (Some(format), None),
        Ok(Header::NotStarted) if next.is_none() => (None, None),
        Ok(Header::NotStarted) => (None, Some("its header is missing")),
        Err(Error::LogCorrupt { what, .. }) => (None, Some(what)),
        Err(error) => return Err(error),
    };
    let mut walk = Walk::new(format.unwrap_or(assumed), bytes, first);
    let mut bad = None;
    while format.is_some() && next.is_none_or(|next| walk.position < next) {
        let offset = walk.offset;
        match walk.step() {
            Ok(whole) => match codec::decode(whole.payload) {
                Ok(record) => segment.ticks += ticks_of(&record),
                Err(codec::Malformed(what)) => {
                    (walk.offset, walk.position) = (offset, walk.position - 1);
                    problem = Some(what);
                    break;
                }
            },
            Err(what) => {
                bad = what;
                break;
            }
        }
    }
    segment.version = format.map(Format::version);
    segment.end = LogPosition(walk.position);
    segment.used_bytes = if format.is_some() { walk.offset as u64 } else { 0 };
    report.end = segment.end;
    if problem.is_none() {
        match next {
            Some(next) if walk.position < next => {
                let cut = walk.promised().map(|_| "a frame is cut short");
                problem = Some(bad.or(cut).unwrap_or("records are missing"));
            }
            Some(_) => {}
            None => match recovery::find_end(&path, first, bytes, durable.0) {
                Ok(end) if end.len < end.torn_end => {
                    let bytes = end.torn_end - end.len;
                    report.torn = Some(Cut { path: path.clone(), offset: end.len, bytes });
                }
                Ok(_) => {}
                Err(Error::LogCorrupt { what, .. }) => problem = Some(what),
                Err(error) => return Err(error),
            },
        }
    }
    if let Some(what) = problem {
        let mut damage = LogDamage {
            path,
            offset: segment.used_bytes,
            position: segment.end,
            what: what.to_owned(),
            records_behind: 0,
            ticks_behind: 0,
            bytes_behind: 0,
            end_behind: segment.end,
        };
        damage.add_frames(walk.format, bytes.get(walk.offset..).unwrap_or_default());
        report.damage = Some(damage);
    }
    report.segments.push(segment);
    Ok(())
}

pub(super) fn ticks_of(record: &LogRecord) -> u64 {
    match record {
        LogRecord::Ticks { ticks, .. } => ticks.len() as u64,
        _ => 0,
    }
}

impl LogDamage {
    fn add_behind(&mut self, bytes: &[u8], first: u64) {
        let format = match segment::read_header(Path::new(""), bytes, first) {
            Ok(Header::Of(format)) => format,
            _ => Format::V2 { first, prewritten: 0 },
        };
        self.add_frames(format, bytes.get(format.header_len()..).unwrap_or_default());
    }

    /// Counts the whole frames in some bytes of a segment.
    fn add_frames(&mut self, format: Format, bytes: &[u8]) {
        format.find_all(bytes, self.end_behind.0, |position, whole| {
            self.records_behind += 1;
            self.bytes_behind += whole.len as u64;
            self.ticks_behind += codec::decode(whole.payload).map_or(0, |record| ticks_of(&record));
            self.end_behind = LogPosition(position + 1);
        });
    }
}
