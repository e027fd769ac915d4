//! The results of one input whose parts were taken in apart: windows of all parts in canonical
//! order, finished block by block.

use std::ops::Range;

use isotick_model::Key;
use isotick_model::results::WindowRow;

use crate::hash::{EncodedRows, encode_rows};
use crate::multiset::Multiset;
use crate::states;
use crate::tables::PublisherTable;
use crate::windows::Windows;

/// Rows of a block, about.
const BLOCK_ROWS: usize = 4096;

/// Windows whose states are fetched at a time.
const FETCHED: usize = 16;

/// Windows of one view, over all parts of an input. Which rows went into which part does not
/// matter to what comes out.
#[derive(Debug)]
pub struct Results {
    parts: Vec<Windows>,
    publishers: PublisherTable,
    /// Per part, the code in `publishers` of each of its publishers.
    recodes: Vec<Vec<u32>>,
    /// In the order of their bytes.
    keys: Vec<Key>,
    /// By key, then start.
    places: Vec<Place>,
    blocks: Vec<Range<usize>>,
    windows: usize,
}

/// The state of a window in one part.
#[derive(Clone, Copy, Debug)]
struct Place {
    start: i64,
    /// In [`Results::keys`].
    key: u32,
    part: u32,
    slot: u32,
}

impl Place {
    fn is_of_window(self, other: Self) -> bool {
        (self.key, self.start) == (other.key, other.start)
    }
}

impl Results {
    /// The results of these parts.
    ///
    /// # Panics
    /// When there is no part, or two are of different views.
    pub fn of(parts: Vec<Windows>) -> Self {
        let view = &parts.first().expect("a result has a part").view().definition;
        let same = parts.iter().all(|part| part.view().definition == *view);
        assert!(same, "the parts of a result are of one view");
        let mut publishers = PublisherTable::default();
        let recodes = parts.iter().map(|part| {
            part.publishers().values().iter().map(|name| publishers.intern(name)).collect()
        });
        let recodes = recodes.collect();
        let mut codes: Vec<(&Key, u32, u32)> = Vec::new();
        for (number, part) in parts.iter().enumerate() {
            let keys = part.keys().values().iter().enumerate();
            codes.extend(keys.map(|(code, key)| (key, number as u32, code as u32)));
        }
        codes.sort_unstable();
        let (mut keys, mut places) = (Vec::new(), Vec::new());
        for of_key in codes.chunk_by(|a, b| a.0 == b.0) {
            let key = keys.len() as u32;
            keys.push(of_key[0].0.clone());
            let first = places.len();
            for &(_, part, code) in of_key {
                let windows = parts[part as usize].of_key(code);
                places.extend(windows.map(|(start, slot)| Place { start, key, part, slot }));
            }
            if of_key.len() > 1 {
                // A few ascending pieces one after another.
                places[first..].sort_by_key(|place| place.start);
            }
        }
        let mut results =
            Self { parts, publishers, recodes, keys, places, blocks: Vec::new(), windows: 0 };
        results.cut();
        results
    }

    /// Cuts the places into blocks, between windows.
    fn cut(&mut self) {
        let mut start = 0;
        let mut rows = 0;
        for (at, place) in self.places.iter().enumerate() {
            if at > 0 && place.is_of_window(self.places[at - 1]) {
                continue;
            }
            if rows == BLOCK_ROWS {
                self.blocks.push(start..at);
                (start, rows) = (at, 0);
            }
            rows += 1;
            self.windows += 1;
        }
        if rows > 0 {
            self.blocks.push(start..self.places.len());
        }
    }

    /// How many windows there are.
    pub fn len(&self) -> usize {
        self.windows
    }

    /// Whether there is no window.
    pub fn is_empty(&self) -> bool {
        self.windows == 0
    }

    /// How many blocks the windows are in.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// The windows of a block, finished and encoded. Blocks follow one another in canonical
    /// order: by key bytes, then start.
    ///
    /// # Panics
    /// When there is no such block.
    pub fn block(&self, block: usize) -> EncodedRows {
        let places = &self.places[self.blocks[block].clone()];
        let mut rows = Vec::with_capacity(BLOCK_ROWS);
        let mut whole = Vec::new();
        let (mut at, mut fetched) = (0, 0);
        for of_window in places.chunk_by(|a, b| a.is_of_window(*b)) {
            at += of_window.len();
            if at > fetched {
                let ahead = places.len().min(at + FETCHED);
                self.fetch(&places[fetched..ahead]);
                fetched = ahead;
            }
            rows.push(match of_window {
                [place] => self.row(of_window, self.parts[place.part as usize].state(place.slot)),
                several => {
                    self.combine(several, &mut whole);
                    self.row(several, &whole)
                }
            });
        }
        encode_rows(rows)
    }

    /// Brings the states of the next windows into the cache, all at once: they lie in the order in
    /// which the windows were met, far from each other, and finishing them one by one would wait
    /// for each.
    fn fetch(&self, places: &[Place]) {
        let mut sum = 0;
        for place in places {
            let state = self.parts[place.part as usize].state(place.slot);
            for word in state.iter().step_by(8) {
                sum ^= word;
            }
        }
        std::hint::black_box(sum);
    }

    /// All windows in canonical order.
    pub fn rows(&self) -> Vec<WindowRow> {
        (0..self.blocks()).flat_map(|block| self.block(block).into_rows()).collect()
    }

    fn combine(&self, places: &[Place], into: &mut Vec<u64>) {
        let plan = self.parts[0].plan();
        into.clear();
        into.resize(plan.words(), 0);
        let mut words = Vec::new();
        for place in places {
            words.clear();
            words.extend(self.parts[place.part as usize].state(place.slot));
            states::recode_publishers(plan, &mut words, &self.recodes[place.part as usize]);
            states::combine(plan, into, &words, &self.publishers);
        }
    }

    /// The row of one window's places and their combined state.
    fn row(&self, places: &[Place], state: &[u64]) -> WindowRow {
        let key = self.keys[places[0].key as usize].clone();
        let multisets = |place: &Place| self.parts[place.part as usize].multisets(place.slot);
        let parts: Vec<&[Multiset]> = match self.parts[0].plan().values() {
            [] => Vec::new(),
            _ => places.iter().map(multisets).collect(),
        };
        self.parts[0].lowered(key, places[0].start, state, &parts)
    }

    /// Rows that entered windows.
    pub fn passed(&self) -> u64 {
        self.parts.iter().map(Windows::passed).sum()
    }

    /// Rows that passed the filter, whose window is not representable.
    pub fn unrepresentable(&self) -> u64 {
        self.parts.iter().map(Windows::unrepresentable).sum()
    }

    /// Rows that the truth left out.
    pub fn too_late(&self) -> u64 {
        self.parts.iter().map(Windows::too_late).sum()
    }
}
