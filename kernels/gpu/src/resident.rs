//! Batches that stay on the device between reductions, within a number of bytes.

use std::collections::HashMap;

use isotick_kernels::Holding;
use isotick_shaders::layout::Segment;

use crate::adapters::AdapterInfo;
use crate::inputs::DeviceColumn;

/// Stands for the rows of a batch: the caller's promise that the same id means the same ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BatchId(pub u64);

/// How many bytes may stay by default. Adapters do not say how much memory they have; the largest
/// buffer is what comes nearest.
pub(crate) fn bytes_max(adapter: &AdapterInfo) -> u64 {
    const LEAST: u64 = 256 << 20;
    const MOST: u64 = 16 << 30;
    match adapter.is_software() {
        true => LEAST,
        false => (adapter.limits.buffer_bytes / 4).clamp(LEAST, MOST),
    }
}

/// A part of a batch. Blocks are named by their first row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum What {
    Column { block: usize, column: usize },
    Validity { block: usize, columns: Vec<usize> },
    Segments { block: usize, first: u32 },
}

/// A part on the device.
#[derive(Clone)]
pub(crate) enum Item {
    Column(DeviceColumn),
    Validity(wgpu::Buffer),
    /// With what the host compares its segments with.
    Segments {
        header: wgpu::Buffer,
        table: wgpu::Buffer,
        segments: Vec<Segment>,
    },
}

/// The batches that stay. Never more than `bytes_max`; buffers that a dispatch still reads are
/// freed by the driver when it is done.
pub(crate) struct Resident {
    batches: HashMap<BatchId, Batch>,
    /// Counts uses; the least recently used batch has the least number.
    uses: u64,
    /// But for what is counted elsewhere: the batches, and the bytes that were brought.
    stats: Holding,
}

struct Batch {
    used: u64,
    rows: usize,
    items: HashMap<What, (Item, u64)>,
}

impl Batch {
    fn bytes(&self) -> u64 {
        self.items.values().map(|(_, bytes)| bytes).sum()
    }
}

impl Resident {
    pub fn new(bytes_max: u64) -> Self {
        let stats = Holding { bytes_max, ..Holding::default() };
        Self { batches: HashMap::new(), uses: 0, stats }
    }

    /// What is held, after so many bytes were brought to the device.
    pub fn holding(&self, uploaded_bytes: u64) -> Holding {
        Holding { batches: self.batches.len(), uploaded_bytes, ..self.stats }
    }

    /// Marks a batch as used. One of another number of rows under its id is forgotten.
    pub fn start(&mut self, id: BatchId, rows: usize) {
        if self.batches.get(&id).is_some_and(|batch| batch.rows != rows) {
            self.evict(id);
        }
        // Batches of which nothing fitted.
        self.batches.retain(|_, batch| !batch.items.is_empty());
        self.uses += 1;
        let new = || Batch { used: 0, rows, items: HashMap::new() };
        self.batches.entry(id).or_insert_with(new).used = self.uses;
    }

    pub fn get(&mut self, id: BatchId, what: &What) -> Option<Item> {
        let item = self.batches.get(&id)?.items.get(what).map(|(item, _)| item.clone());
        match item {
            Some(_) => self.stats.hits += 1,
            None => self.stats.misses += 1,
        }
        item
    }

    /// Makes room for bytes of a batch, at the cost of other batches only. Whether there is room.
    pub fn make_room(&mut self, id: BatchId, bytes: u64) -> bool {
        let own = self.batches.get(&id).map_or(0, Batch::bytes);
        if own.saturating_add(bytes) > self.stats.bytes_max {
            return false;
        }
        while self.stats.bytes + bytes > self.stats.bytes_max {
            let others = self.batches.iter().filter(|(other, _)| **other != id);
            let Some((&oldest, _)) = others.min_by_key(|(_, batch)| batch.used) else {
                return false;
            };
            self.evict(oldest);
            self.stats.evictions += 1;
        }
        true
    }

    /// Keeps a part for which there is room, in place of one of the same name.
    pub fn put(&mut self, id: BatchId, what: What, item: Item, bytes: u64) {
        let Some(batch) = self.batches.get_mut(&id) else { return };
        let replaced = batch.items.insert(what, (item, bytes));
        self.stats.bytes += bytes;
        self.stats.bytes -= replaced.map_or(0, |(_, bytes)| bytes);
    }

    pub fn evict(&mut self, id: BatchId) {
        if let Some(batch) = self.batches.remove(&id) {
            self.stats.bytes -= batch.bytes();
        }
    }

    pub fn clear(&mut self) {
        self.batches.clear();
        self.stats.bytes = 0;
    }

    /// Forgets everything where the device has no memory for it. From now on half as much stays.
    /// Whether anything was there.
    pub fn make_way(&mut self) -> bool {
        let held = self.stats.bytes;
        self.clear();
        if held > 0 {
            self.stats.bytes_max = held / 2;
        }
        held > 0
    }
}

#[cfg(test)]
#[path = "tests/resident.rs"]
mod tests;
