//! Row groups of history that are read once: decoded in memory, their columns on the device that
//! reduces them. Files of history never change, so that what was read stays true.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use isotick_kernels::Holding;
use isotick_model::Ticks;
use isotick_scheduler::{self as scheduler, Extent, Scan};
use isotick_storage::Snapshot;
use isotick_storage::history::{Part, PartName, RowsName};
use serde_json::{Value, json};

use crate::cli::EngineChoice;
use crate::device::Devices;
use crate::rollups::Stored;
use crate::scanning;

/// The row groups of one device. Never more bytes in memory than `bytes_max`; those that were not
/// wanted for longest make room.
pub struct RowGroups {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: HashMap<RowsName, Held>,
    /// By where its times lie in memory: the number and the rows. Each is held by itself.
    by_times: HashMap<usize, (u64, usize)>,
    /// Counts uses; what was not used for longest has the least number.
    uses: u64,
    next: u64,
    status: Status,
    /// The numbers of those that went, until the device has heard of it.
    gone: Vec<u64>,
}

struct Held {
    /// What was read of the rows.
    name: PartName,
    number: u64,
    ticks: Ticks,
    bytes: u64,
    used: u64,
}

/// What is held, and how often that helped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Row groups in memory.
    pub row_groups: usize,
    /// Their bytes there.
    pub bytes: u64,
    /// The most bytes that there may be.
    pub bytes_max: u64,
    /// Row groups that were there when they were wanted.
    pub hits: u64,
    /// Row groups that had to be read.
    pub misses: u64,
    /// Row groups that made room for others.
    pub evictions: u64,
    /// Stored bytes that were read, of the columns that were wanted.
    pub bytes_read: u64,
    /// Stored bytes that were not read again.
    pub bytes_spared: u64,
}

/// Batches of a part.
pub type Batches = Box<dyn Iterator<Item = isotick_storage::Result<Ticks>>>;

impl RowGroups {
    pub fn new(bytes_max: u64) -> Self {
        let status = Status { bytes_max, ..Status::default() };
        Self { state: Mutex::new(State { status, ..State::default() }) }
    }

    /// What [`Part::read`] gives, or more of the same rows: from memory where it is held, else from
    /// the file, and held from now on. A row group of which rows are left out is read as ever, and
    /// so is one that is too large to be held.
    ///
    /// # Errors
    /// Those of [`Part::read`].
    pub fn read(&self, part: &Part) -> isotick_storage::Result<Batches> {
        let stored = part.bytes();
        let Some(name) = part.name() else {
            self.state().status.bytes_read += stored;
            return Ok(Box::new(part.read()?));
        };
        let wanted = self.state().get(&name, stored);
        let (part, name) = match wanted {
            Wanted::Held(ticks) => return Ok(Box::new(std::iter::once(Ok(ticks)))),
            Wanted::Nothing => (part.clone(), name),
            // What is held stays so, with what is wanted now.
            Wanted::Other(held) => {
                let wide = part.widened(&held);
                let name = wide.name().unwrap_or(name);
                (wide, name)
            }
        };
        self.state().status.bytes_read += part.bytes();
        // Not while it is locked: others that want the same read it too, and the first one is held.
        let batches = part.read()?.collect::<isotick_storage::Result<Vec<_>>>()?;
        if batches.is_empty() {
            return Ok(Box::new(std::iter::empty()));
        }
        let ticks = Ticks::concat(&batches);
        drop(batches);
        let ticks = self.state().put(name, ticks);
        Ok(Box::new(std::iter::once(Ok(ticks))))
    }

    /// The number of the row group that these are the ticks of: all of them, in its order.
    pub fn number_of(&self, ticks: &Ticks) -> Option<u64> {
        let known = self.state().by_times.get(&(ticks.ts_event.as_ptr() as usize)).copied();
        // A batch of fewer rows may begin where a row group does.
        known.filter(|(_, rows)| *rows == ticks.len()).map(|(number, _)| number)
    }

    /// The numbers of row groups that are not held any more, each told once.
    pub fn take_gone(&self) -> Vec<u64> {
        std::mem::take(&mut self.state().gone)
    }

    /// Holds nothing any more.
    pub fn clear(&self) {
        let mut state = self.state();
        let numbers: Vec<u64> = state.held.drain().map(|(_, held)| held.number).collect();
        state.by_times.clear();
        state.gone.extend(numbers);
        state.status.bytes = 0;
    }

    /// Holds nothing any more, and nothing that is read from now on.
    pub fn close(&self) {
        self.state().status.bytes_max = 0;
        self.clear();
    }

    pub fn status(&self) -> Status {
        let state = self.state();
        Status { row_groups: state.held.len(), ..state.status }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What there is of rows that are wanted.
enum Wanted {
    Held(Ticks),
    /// Other columns of them.
    Other(PartName),
    Nothing,
}

impl State {
    fn get(&mut self, name: &PartName, stored: u64) -> Wanted {
        self.uses += 1;
        match self.held.get_mut(name.rows()) {
            Some(held) if held.name.covers(name) => {
                held.used = self.uses;
                self.status.hits += 1;
                self.status.bytes_spared += stored;
                Wanted::Held(held.ticks.clone())
            }
            other => {
                self.status.misses += 1;
                other.map_or(Wanted::Nothing, |held| Wanted::Other(held.name.clone()))
            }
        }
    }

    /// Holds ticks where they fit. Gives those that are held already, or these.
    fn put(&mut self, name: PartName, ticks: Ticks) -> Ticks {
        match self.held.get(name.rows()) {
            Some(held) if held.name.covers(&name) => return held.ticks.clone(),
            Some(_) => self.remove(name.rows()),
            None => {}
        }
        let bytes = bytes_of(&ticks);
        if bytes > self.status.bytes_max {
            return ticks;
        }
        while self.status.bytes + bytes > self.status.bytes_max {
            let oldest = self.held.iter().min_by_key(|(_, held)| held.used);
            let Some(oldest) = oldest.map(|(rows, _)| rows.clone()) else { break };
            self.remove(&oldest);
            self.status.evictions += 1;
        }
        let number = self.next;
        self.next += 1;
        self.status.bytes += bytes;
        self.by_times.insert(ticks.ts_event.as_ptr() as usize, (number, ticks.len()));
        let held = Held { number, ticks: ticks.clone(), bytes, used: self.uses, name };
        self.held.insert(held.name.rows().clone(), held);
        ticks
    }

    fn remove(&mut self, rows: &RowsName) {
        let Some(held) = self.held.remove(rows) else { return };
        self.status.bytes -= held.bytes;
        self.by_times.remove(&(held.ticks.ts_event.as_ptr() as usize));
        self.gone.push(held.number);
    }
}

/// Parts of a scan over a folder's ticks whose row groups are held for a device.
///
/// # Errors
/// Those of planning.
pub fn parts(
    devices: &Arc<Devices>,
    choice: EngineChoice,
    snapshot: &Snapshot,
    scan: &Scan,
) -> Result<Vec<scheduler::Part>> {
    let stored = scanning::stored_parts(snapshot, scan, Stored::Ticks)?.ticks;
    let part = |(file, stored): (u32, Part)| {
        let extent = Some(Extent { times: stored.times(), keys: stored.keys() });
        let devices = devices.clone();
        scheduler::Part::ticks(extent, move |sink| {
            let batches = devices.read(&stored, [choice]).map_err(scanning::read_failed)?;
            for ticks in batches {
                sink(ticks.map_err(scanning::read_failed)?)?;
            }
            Ok(())
        })
        .in_sequence(file)
    };
    Ok(scanning::by_file(stored).map(part).collect())
}

/// What stays of history for one device, for the service's status.
pub fn to_json((device, memory): &(Holding, Status)) -> Value {
    json!({
        "device_bytes": device.bytes,
        "device_bytes_max": device.bytes_max,
        "device_hits": device.hits,
        "device_misses": device.misses,
        "device_evictions": device.evictions,
        "uploaded_bytes": device.uploaded_bytes,
        "row_groups": memory.row_groups,
        "bytes": memory.bytes,
        "bytes_max": memory.bytes_max,
        "hits": memory.hits,
        "misses": memory.misses,
        "evictions": memory.evictions,
        "bytes_read": memory.bytes_read,
        "bytes_spared": memory.bytes_spared,
    })
}

/// Bytes of ticks in memory, but for the texts of keys and publishers.
fn bytes_of(ticks: &Ticks) -> u64 {
    let columns = ticks.values.iter().map(|column| {
        let nulls = column.nulls.as_ref().map_or(0, |nulls| nulls.len().div_ceil(8));
        column.values.len() * size_of::<i64>() + nulls
    });
    let seen = ticks.seen.as_ref().map_or(0, |seen| seen.len() * size_of::<i64>());
    let rows = ticks.len() * (size_of::<i64>() + size_of::<u64>() + size_of::<u32>())
        + ticks.publisher.len() * size_of::<u32>();
    (columns.sum::<usize>() + seen + rows) as u64
}

#[cfg(test)]
mod tests;
