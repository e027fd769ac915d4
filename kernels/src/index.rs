//! Where a window's state stands: (key, window start) to slot.
//!
//! Windows that follow one another mostly belong to one key, so they share a block of
//! [`BLOCK_WINDOWS`]; a hash map holds the blocks, and the block that a key used last is tried
//! before it. Any order of arrival costs the same.

use isotick_model::view::Tumbling;
use rustc_hash::FxHashMap;

const BLOCK_WINDOWS: usize = 16;

/// No window here.
const NONE: u32 = u32::MAX;

/// Slots by key code and window start.
#[derive(Debug)]
pub(crate) struct WindowIndex {
    window: Tumbling,
    by_block: FxHashMap<BlockId, u32>,
    blocks: Vec<Block>,
    free: Vec<u32>,
    /// Per key code, the block that was used last.
    last: Vec<Option<(BlockId, u32)>>,
    len: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct BlockId {
    key: u32,
    ordinal: i64,
}

#[derive(Debug)]
struct Block {
    slots: [u32; BLOCK_WINDOWS],
    used: u32,
}

impl WindowIndex {
    /// Nothing yet.
    pub(crate) fn new(window: Tumbling) -> Self {
        Self {
            window,
            by_block: FxHashMap::default(),
            blocks: Vec::new(),
            free: Vec::new(),
            last: Vec::new(),
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, key: u32, start: i64) -> Option<u32> {
        let (id, place) = self.place(key, start);
        let block = &self.blocks[*self.by_block.get(&id)? as usize];
        Some(block.slots[place]).filter(|slot| *slot != NONE)
    }

    /// The slot of a window; what `new` gives for one that was not there.
    pub(crate) fn get_or_insert(&mut self, key: u32, start: i64, new: impl FnOnce() -> u32) -> u32 {
        let (id, place) = self.place(key, start);
        if self.last.len() <= key as usize {
            self.last.resize(key as usize + 1, None);
        }
        let block = match self.last[key as usize] {
            Some((last, block)) if last == id => block,
            _ => {
                let block = *self.by_block.entry(id).or_insert_with(|| {
                    let empty = Block { slots: [NONE; BLOCK_WINDOWS], used: 0 };
                    match self.free.pop() {
                        Some(block) => {
                            self.blocks[block as usize] = empty;
                            block
                        }
                        None => {
                            self.blocks.push(empty);
                            u32::try_from(self.blocks.len() - 1)
                                .expect("blocks are fewer than windows")
                        }
                    }
                });
                self.last[key as usize] = Some((id, block));
                block
            }
        };
        let block = &mut self.blocks[block as usize];
        if block.slots[place] == NONE {
            let slot = new();
            assert_ne!(slot, NONE, "fewer than 2^32 windows are held");
            block.slots[place] = slot;
            block.used += 1;
            self.len += 1;
        }
        block.slots[place]
    }

    /// Forgets a window; its slot.
    pub(crate) fn remove(&mut self, key: u32, start: i64) -> Option<u32> {
        let (id, place) = self.place(key, start);
        let number = *self.by_block.get(&id)?;
        let block = &mut self.blocks[number as usize];
        let slot = std::mem::replace(&mut block.slots[place], NONE);
        if slot == NONE {
            return None;
        }
        self.len -= 1;
        block.used -= 1;
        if block.used == 0 {
            self.by_block.remove(&id);
            self.free.push(number);
            let last = &mut self.last[key as usize];
            if last.is_some_and(|(last, _)| last == id) {
                *last = None;
            }
        }
        Some(slot)
    }

    /// Every window as (key code, start, slot), in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, i64, u32)> {
        self.by_block.iter().flat_map(move |(&id, &block)| {
            let slots = self.blocks[block as usize].slots.into_iter().enumerate();
            slots
                .filter(|(_, slot)| *slot != NONE)
                .map(move |(place, slot)| (id.key, self.start(id, place), slot))
        })
    }

    /// Windows are numbered from the origin. There are fewer than 2^64 of them, so that numbers
    /// modulo 2^64 stay apart.
    fn place(&self, key: u32, start: i64) -> (BlockId, usize) {
        let Tumbling { width_ns, origin_ns } = self.window;
        let number = match start.checked_sub(origin_ns) {
            Some(distance) => distance / width_ns,
            None => ((i128::from(start) - i128::from(origin_ns)) / i128::from(width_ns)) as i64,
        };
        let ordinal = number.div_euclid(BLOCK_WINDOWS as i64);
        (BlockId { key, ordinal }, number.rem_euclid(BLOCK_WINDOWS as i64) as usize)
    }

    /// The way back: exact modulo 2^64, and a start is a 64-bit integer.
    fn start(&self, id: BlockId, place: usize) -> i64 {
        let number = id.ordinal * BLOCK_WINDOWS as i64 + place as i64;
        self.window.origin_ns.wrapping_add(number.wrapping_mul(self.window.width_ns))
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
            steps in proptest::collection::vec((0_u32..3, -40_i64..40, any::<bool>()), 0..300),
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
                if remove {
                    prop_assert_eq!(index.remove(key, start), map.remove(&(key, start)));
                } else {
                    let slot = slot as u32;
                    let expected = *map.entry((key, start)).or_insert(slot);
                    prop_assert_eq!(index.get_or_insert(key, start, || slot), expected);
                }
                prop_assert_eq!(index.get(key, start), map.get(&(key, start)).copied());
                prop_assert_eq!(index.len(), map.len());
            }
            let all: BTreeMap<_, _> =
                index.iter().map(|(key, start, slot)| ((key, start), slot)).collect();
            prop_assert_eq!(all, map);
        }
    }
}
