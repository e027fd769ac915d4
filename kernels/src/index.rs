//! Where a window's state stands: (key, window start) to slot.
//!
//! Windows that follow one another mostly belong to one key, so they share a block of
//! [`BLOCK_WINDOWS`]; each key's blocks are kept in the order of time, and the block that a key
//! used last is tried first. Any order of arrival costs a search in the key's blocks at most.
//! Batches that follow one another often have the same windows in the same order: those of the last
//! one are compared before anything is looked for.

use std::collections::BTreeMap;

use isotick_model::view::Tumbling;

const BLOCK_WINDOWS: usize = 16;

/// Keys whose blocks are [fetched](WindowIndex::fetch) at a time.
const FETCHED: usize = 32;

/// Windows of a batch that the next one is compared with: they are to stay in the cache.
const MET_MAX: usize = 4096;

/// No window here.
const NONE: u32 = u32::MAX;

/// Slots by key code and window start.
#[derive(Debug)]
pub(crate) struct WindowIndex {
    width_ns: i64,
    /// Starts are this far above multiples of the width.
    offset_ns: i64,
    keys: Vec<KeyBlocks>,
    /// The keys that have windows, and perhaps some that had.
    listed: Vec<u32>,
    blocks: Vec<Block>,
    free: Vec<u32>,
    len: usize,
    /// The start that was looked for last, and its place: most come again at once.
    last: (i64, (i64, usize)),
    met: Met,
}

/// Windows as they were asked for, the last ones over those of the batch before.
#[derive(Debug, Default)]
struct Met {
    windows: Vec<MetWindow>,
    /// Where the next one goes.
    next: usize,
}

#[derive(Debug)]
struct MetWindow {
    start: i64,
    key: u32,
    slot: u32,
}

impl Met {
    /// The slot of the next window, if the batch before had it in the same place.
    fn again(&mut self, key: u32, start: i64) -> Option<u32> {
        let met = self.windows.get(self.next)?;
        let is_same = (met.key, met.start) == (key, start);
        self.next += usize::from(is_same);
        is_same.then_some(met.slot)
    }

    fn put(&mut self, key: u32, start: i64, slot: u32) {
        let window = MetWindow { start, key, slot };
        match self.windows.get_mut(self.next) {
            Some(before) => *before = window,
            None if self.next < MET_MAX => self.windows.push(window),
            None => return,
        }
        self.next += 1;
    }
}

/// The blocks of one key, by their ordinal.
#[derive(Debug, Default)]
struct KeyBlocks {
    by_ordinal: BTreeMap<i64, u32>,
    /// The one used last.
    last: Option<(i64, u32)>,
    /// Whether the key is among those listed.
    listed: bool,
}

/// The slots of windows that follow one another: a cache line.
#[derive(Debug)]
#[repr(align(64))]
struct Block([u32; BLOCK_WINDOWS]);

impl Block {
    const EMPTY: Self = Self([NONE; BLOCK_WINDOWS]);

    fn is_empty(&self) -> bool {
        self.0.iter().all(|slot| *slot == NONE)
    }
}

impl WindowIndex {
    /// Nothing yet.
    pub(crate) fn new(window: Tumbling) -> Self {
        let Tumbling { width_ns, origin_ns } = window;
        let last = (0, place(0, width_ns));
        Self {
            last,
            width_ns,
            offset_ns: origin_ns.rem_euclid(width_ns),
            keys: Vec::new(),
            listed: Vec::new(),
            blocks: Vec::new(),
            free: Vec::new(),
            len: 0,
            met: Met::default(),
        }
    }

    /// A batch begins, whose windows may be those of the one before.
    pub(crate) fn begin_batch(&mut self) {
        self.met.next = 0;
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, key: u32, start: i64) -> Option<u32> {
        let (ordinal, place) = self.place(start);
        let key = self.keys.get(key as usize)?;
        let block = match key.last {
            Some((last, block)) if last == ordinal => block,
            _ => *key.by_ordinal.get(&ordinal)?,
        };
        Some(self.blocks[block as usize].0[place]).filter(|slot| *slot != NONE)
    }

    /// The slot of a window; what `new` gives for one that was not there.
    pub(crate) fn get_or_insert(&mut self, key: u32, start: i64, new: impl FnOnce() -> u32) -> u32 {
        if let Some(slot) = self.met.again(key, start) {
            return slot;
        }
        let slot = self.find_or_insert(key, start, new);
        self.met.put(key, start, slot);
        slot
    }

    fn find_or_insert(&mut self, key: u32, start: i64, new: impl FnOnce() -> u32) -> u32 {
        if self.last.0 != start {
            self.last = (start, self.place(start));
        }
        let (ordinal, place) = self.last.1;
        if self.keys.len() <= key as usize {
            self.keys.resize_with(key as usize + 1, KeyBlocks::default);
        }
        let code = key;
        let key = &mut self.keys[code as usize];
        let block = match key.last {
            Some((last, block)) if last == ordinal => block,
            _ => {
                if !std::mem::replace(&mut key.listed, true) {
                    self.listed.push(code);
                }
                let (blocks, free) = (&mut self.blocks, &mut self.free);
                let block =
                    *key.by_ordinal.entry(ordinal).or_insert_with(|| empty_block(blocks, free));
                key.last = Some((ordinal, block));
                block
            }
        };
        let slot = &mut self.blocks[block as usize].0[place];
        if *slot == NONE {
            *slot = new();
            assert_ne!(*slot, NONE, "fewer than 2^32 windows are held");
            self.len += 1;
        }
        *slot
    }

    /// Forgets a window; its slot.
    pub(crate) fn remove(&mut self, key: u32, start: i64) -> Option<u32> {
        let (ordinal, place) = self.place(start);
        let key = self.keys.get_mut(key as usize)?;
        let number = *key.by_ordinal.get(&ordinal)?;
        let block = &mut self.blocks[number as usize];
        let slot = std::mem::replace(&mut block.0[place], NONE);
        if slot == NONE {
            return None;
        }
        self.met = Met::default();
        self.len -= 1;
        if block.is_empty() {
            key.by_ordinal.remove(&ordinal);
            key.last.take_if(|(last, _)| *last == ordinal);
            self.free.push(number);
        }
        Some(slot)
    }

    /// Forgets those windows for whose key and start `wanted` gives true, and hands each one's key,
    /// start and slot over: key by key in some order, by start.
    pub(crate) fn remove_where<F: FnMut(i64) -> bool>(
        &mut self,
        mut wanted: impl FnMut(u32) -> F,
        mut take: impl FnMut(u32, i64, u32),
    ) {
        self.met = Met::default();
        let listed = std::mem::take(&mut self.listed);
        for (at, &code) in listed.iter().enumerate() {
            if at.is_multiple_of(FETCHED) {
                self.fetch(&listed[at..listed.len().min(at + FETCHED)]);
            }
            let mut wanted = wanted(code);
            let mut key = std::mem::take(&mut self.keys[code as usize]);
            key.by_ordinal.retain(|&ordinal, &mut number| {
                let block = &mut self.blocks[number as usize];
                for (place, slot) in block.0.iter_mut().enumerate() {
                    let start = start_of(ordinal, place, self.width_ns, self.offset_ns);
                    if *slot != NONE && wanted(start) {
                        take(code, start, std::mem::replace(slot, NONE));
                        self.len -= 1;
                    }
                }
                let stays = !block.is_empty();
                if !stays {
                    self.free.push(number);
                }
                stays
            });
            key.last = None;
            key.listed = !key.by_ordinal.is_empty();
            if key.listed {
                self.listed.push(code);
            }
            self.keys[code as usize] = key;
        }
    }

    /// Brings the blocks of some keys into the cache, all at once: going from one to the next would
    /// wait for each.
    fn fetch(&self, keys: &[u32]) {
        let blocks = keys.iter().flat_map(|&key| self.keys[key as usize].by_ordinal.values());
        let sum = blocks.fold(0, |sum, &block| sum ^ self.blocks[block as usize].0[0]);
        std::hint::black_box(sum);
    }

    /// The windows of a key as (start, slot), by start.
    pub(crate) fn of_key(&self, key: u32) -> impl Iterator<Item = (i64, u32)> {
        let blocks = self.keys.get(key as usize).into_iter().flat_map(|key| &key.by_ordinal);
        blocks.flat_map(move |(&ordinal, &block)| {
            let slots = self.blocks[block as usize].0.into_iter().enumerate();
            slots.filter(|(_, slot)| *slot != NONE).map(move |(place, slot)| {
                (start_of(ordinal, place, self.width_ns, self.offset_ns), slot)
            })
        })
    }

    /// Every window as (key code, start, slot), by key code, then start.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, i64, u32)> {
        (0..self.keys.len() as u32)
            .flat_map(|key| self.of_key(key).map(move |(start, slot)| (key, start, slot)))
    }

    fn place(&self, start: i64) -> (i64, usize) {
        place(start, self.width_ns)
    }
}

/// A window's number is the floor of its start over the width: ascending with the start, and never
/// out of 64 bits. Its block's ordinal, and its place there.
fn place(start: i64, width_ns: i64) -> (i64, usize) {
    let number = start.div_euclid(width_ns);
    let size = BLOCK_WINDOWS as i64;
    (number.div_euclid(size), number.rem_euclid(size) as usize)
}

/// The way back: exact modulo 2^64, and a start is a 64-bit integer.
fn start_of(ordinal: i64, place: usize, width_ns: i64, offset_ns: i64) -> i64 {
    let number = ordinal.wrapping_mul(BLOCK_WINDOWS as i64).wrapping_add(place as i64);
    number.wrapping_mul(width_ns).wrapping_add(offset_ns)
}

fn empty_block(blocks: &mut Vec<Block>, free: &mut Vec<u32>) -> u32 {
    match free.pop() {
        Some(block) => {
            blocks[block as usize] = Block::EMPTY;
            block
        }
        None => {
            blocks.push(Block::EMPTY);
            u32::try_from(blocks.len() - 1).expect("blocks are fewer than windows")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn does_what_a_map_does(
            steps in proptest::collection::vec((0_u32..3, -40_i64..40, 0_u8..9), 0..300),
            window in prop_oneof![
                Just(Tumbling { width_ns: 7, origin_ns: 3 }),
                Just(Tumbling { width_ns: 1, origin_ns: i64::MAX }),
                Just(Tumbling { width_ns: 1, origin_ns: i64::MIN }),
                Just(Tumbling { width_ns: i64::MAX / 64, origin_ns: 0 }),
            ],
        ) {
            let mut index = WindowIndex::new(window);
            let mut map = BTreeMap::new();
            for (slot, (key, at, remove)) in steps.into_iter().enumerate() {
                let ts = if window.width_ns > 1000 { at * (i64::MAX / 41) } else { at };
                let Some(start) = window.start_of(ts) else { continue };
                if remove == 8 {
                    let wanted = |key: u32, start: i64| (i64::from(key) ^ start) & 1 == 0;
                    let mut taken = Vec::new();
                    index.remove_where(
                        |key| move |start| wanted(key, start),
                        |key, start, slot| taken.push(((key, start), slot)),
                    );
                    taken.sort_unstable();
                    let expected = map.extract_if(.., |(key, start), _| wanted(*key, *start));
                    prop_assert_eq!(taken, expected.collect::<Vec<_>>());
                } else if remove > 3 {
                    prop_assert_eq!(index.remove(key, start), map.remove(&(key, start)));
                } else {
                    let slot = slot as u32;
                    let expected = *map.entry((key, start)).or_insert(slot);
                    prop_assert_eq!(index.get_or_insert(key, start, || slot), expected);
                }
                prop_assert_eq!(index.get(key, start), map.get(&(key, start)).copied());
                prop_assert_eq!(index.len(), map.len());
            }
            let all: Vec<_> =
                index.iter().map(|(key, start, slot)| ((key, start), slot)).collect();
            prop_assert_eq!(all, map.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn batches_with_much_the_same_windows_find_each(
            mut batch in proptest::collection::vec((0_u32..3, -40_i64..40), 1..40),
            changes in proptest::collection::vec((0_usize..40, 0_u32..3, -40_i64..40, 0..4), 0..20),
        ) {
            let mut index = WindowIndex::new(Tumbling { width_ns: 1, origin_ns: 0 });
            let (mut map, mut slots) = (BTreeMap::new(), 0_u32..);
            for (place, key, start, change) in changes {
                index.begin_batch();
                let place = place % batch.len();
                let window = &mut batch[place];
                match change {
                    0 => *window = (key, start),
                    1 => prop_assert_eq!(index.remove(window.0, window.1), map.remove(window)),
                    2 => {
                        index.remove_where(|_| |start: i64| start < 0, |_, _, _| ());
                        map.retain(|(_, start), _| *start >= 0);
                    }
                    _ => {}
                }
                for &(key, start) in &batch {
                    let slot = slots.next().unwrap();
                    let expected = *map.entry((key, start)).or_insert(slot);
                    prop_assert_eq!(index.get_or_insert(key, start, || slot), expected);
                }
                prop_assert_eq!(index.len(), map.len());
            }
        }
    }

    #[test]
    fn of_large_batches_the_first_windows_are_compared() {
        let mut index = WindowIndex::new(Tumbling { width_ns: 1, origin_ns: 0 });
        for _ in 0..3 {
            index.begin_batch();
            for slot in 0..2 * MET_MAX as u32 {
                assert_eq!(index.get_or_insert(slot % 7, i64::from(slot), || slot), slot);
            }
            assert_eq!((index.met.next, index.met.windows.len()), (MET_MAX, MET_MAX));
        }
    }
}
