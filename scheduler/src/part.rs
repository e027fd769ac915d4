//! The parts of a scan's input, and which windows only one of them can touch.

use std::ops::RangeInclusive;
use std::sync::Arc;

use isotick_kernels::{Base, SavedWindows};
use isotick_model::view::Tumbling;
use isotick_model::{Key, Ticks};

use crate::scan::ScanError;

/// Takes a batch of ticks from a part.
pub type TickSink<'a> = dyn FnMut(Ticks) -> Result<(), ScanError> + 'a;

/// Takes states from a part.
pub type StatesSink<'a> = dyn FnMut(SavedWindows) -> Result<(), ScanError> + 'a;

/// Reads a part's ticks into a sink.
pub type ReadTicks = Box<dyn FnOnce(&mut TickSink<'_>) -> Result<(), ScanError> + Send>;
/// Reads a part's states into a sink.
pub type ReadStates = Box<dyn FnOnce(&mut StatesSink<'_>) -> Result<(), ScanError> + Send>;

/// How a part is read.
pub enum Read {
    /// Ticks.
    Ticks(ReadTicks),
    /// States that stand for its ticks, of a base that covers every view of the scan.
    States(Arc<Base>, ReadStates),
}

/// A piece of the input that one thread reads into a sink, e.g. a row group. Parts may be read in
/// any order.
pub struct Part {
    /// Where its ticks lie; `None` where nothing is known of them.
    pub extent: Option<Extent>,
    /// Reads it.
    pub read: Read,
}

/// Bounds on the ticks of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The times that `ts_event` lies in, nanoseconds UTC.
    pub times: RangeInclusive<i64>,
    /// The keys they belong to, where known.
    pub keys: Option<RangeInclusive<Key>>,
}

impl Extent {
    fn has_key(&self, key: &Key) -> bool {
        self.keys.as_ref().is_none_or(|keys| keys.contains(key))
    }

    fn shares_keys(&self, other: &Self) -> bool {
        match (&self.keys, &other.keys) {
            (Some(a), Some(b)) => a.start() <= b.end() && b.start() <= a.end(),
            _ => true,
        }
    }
}

impl Part {
    /// A part of whose ticks nothing is known.
    pub fn anywhere(
        read: impl FnOnce(&mut TickSink<'_>) -> Result<(), ScanError> + Send + 'static,
    ) -> Self {
        Self::ticks(None, read)
    }

    /// A batch.
    pub fn of(ticks: Ticks) -> Self {
        let times = ticks.ts_event.iter();
        let times = times.clone().min().zip(times.max());
        let extent =
            times.map(|(&least, &greatest)| Extent { times: least..=greatest, keys: None });
        Self::ticks(extent, |sink| sink(ticks))
    }

    /// Ticks that lie there.
    pub fn ticks(
        extent: Option<Extent>,
        read: impl FnOnce(&mut TickSink<'_>) -> Result<(), ScanError> + Send + 'static,
    ) -> Self {
        Self { extent, read: Read::Ticks(Box::new(read)) }
    }

    /// States of ticks that lie there.
    pub fn states(
        extent: Option<Extent>,
        base: Arc<Base>,
        read: impl FnOnce(&mut StatesSink<'_>) -> Result<(), ScanError> + Send + 'static,
    ) -> Self {
        Self { extent, read: Read::States(base, Box::new(read)) }
    }

    /// Whether states stand for its ticks.
    pub fn is_of_states(&self) -> bool {
        matches!(self.read, Read::States(..))
    }
}

/// For each part, what others may have ticks in the same windows.
pub(crate) struct Neighbours {
    window: Tumbling,
    extents: Vec<Extent>,
    /// Per part, by their places in `extents`; `None` where windows cannot be told apart by part.
    of: Option<Vec<Vec<u32>>>,
}

/// Pairs of parts that share times, at most: beyond that, looking for those that share keys as well
/// would take longer than it saves.
const PAIRS_MAX: usize = 1 << 22;

impl Neighbours {
    /// Of parts that have these extents.
    pub(crate) fn new(extents: Vec<Option<Extent>>, window: Tumbling) -> Self {
        let known: Option<Vec<Extent>> = extents.into_iter().collect();
        let (extents, of) = match known {
            Some(extents) => {
                let of = pairs(&extents, window);
                (extents, of)
            }
            None => (Vec::new(), None),
        };
        Self { window, extents, of }
    }

    /// Whether windows can be told apart by part.
    pub(crate) fn are_known(&self) -> bool {
        self.of.is_some()
    }

    /// The times of a key outside of which windows can only have ticks of this part: those of
    /// other parts, and all that lie in no window of this one.
    ///
    /// # Panics
    /// When windows cannot be told apart by part.
    pub(crate) fn times(&self, part: usize, key: &Key) -> Vec<RangeInclusive<i64>> {
        let others = &self.of.as_ref().expect("windows are told apart by part")[part];
        let own = &self.extents[part];
        if !own.has_key(key) {
            return vec![i64::MIN..=i64::MAX];
        }
        let others = others.iter().map(|&other| &self.extents[other as usize]);
        let touched = touched(own, self.window);
        let before = touched.start().checked_sub(1).map(|last| i64::MIN..=last);
        let after = touched.end().checked_add(1).map(|first| first..=i64::MAX);
        let others = others.filter(|other| other.has_key(key)).map(|other| other.times.clone());
        others.chain(before).chain(after).collect()
    }
}

/// The times of all windows that a part may touch.
fn touched(extent: &Extent, window: Tumbling) -> RangeInclusive<i64> {
    let last = window.start_of(*extent.times.end());
    let first = window.start_of(*extent.times.start()).unwrap_or(i64::MIN);
    first..=last.map_or(i64::MAX, |start| window.end_of(start) - 1)
}

/// Per part the others with ticks in the same windows, perhaps.
fn pairs(extents: &[Extent], window: Tumbling) -> Option<Vec<Vec<u32>>> {
    let touched: Vec<_> = extents.iter().map(|extent| touched(extent, window)).collect();
    let mut by_start: Vec<u32> = (0..extents.len() as u32).collect();
    by_start.sort_by_key(|&part| *touched[part as usize].start());
    let mut of = vec![Vec::new(); extents.len()];
    let mut looked_at = 0;
    for (at, &part) in by_start.iter().enumerate() {
        for &other in &by_start[at + 1..] {
            if touched[other as usize].start() > touched[part as usize].end() {
                break;
            }
            looked_at += 1;
            if looked_at > PAIRS_MAX {
                return None;
            }
            if extents[part as usize].shares_keys(&extents[other as usize]) {
                of[part as usize].push(other);
                of[other as usize].push(part);
            }
        }
    }
    Some(of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(code: u8) -> Key {
        Key::from_components([char::from(b'a' + code).to_string()])
    }

    fn any_extent() -> impl Strategy<Value = Extent> {
        let keys = proptest::option::of((0_u8..5, 0_u8..3));
        (-60_i64..60, 0_i64..30, keys).prop_map(|(least, len, keys)| Extent {
            times: least..=least + len,
            keys: keys.map(|(least, len)| key(least)..=key(least + len)),
        })
    }

    proptest! {
        #[test]
        fn only_windows_that_no_other_part_touches_are_its_own(
            extents in proptest::collection::vec(any_extent(), 1..12),
            width_ns in 1_i64..20,
        ) {
            let window = Tumbling { width_ns, origin_ns: 3 };
            let known = extents.iter().cloned().map(Some).collect();
            let neighbours = Neighbours::new(known, window);
            for (part, extent) in extents.iter().enumerate() {
                for (ts, key) in (-70..100).flat_map(|ts| (0..8).map(move |code| (ts, key(code)))) {
                    let start = window.start_of(ts).unwrap();
                    let end = start + width_ns;
                    let touches = |e: &Extent| {
                        e.has_key(&key) && *e.times.start() < end && start <= *e.times.end()
                    };
                    let mut others = extents.iter().enumerate();
                    let only = touches(extent)
                        && !others.any(|(other, e)| other != part && touches(e));
                    // As the windows of a part are finished.
                    let times = neighbours.times(part, &key);
                    let reached =
                        times.iter().any(|times| *times.start() < end && start <= *times.end());
                    prop_assert_eq!(only, !reached);
                }
            }
        }
    }

    #[test]
    fn one_part_of_which_nothing_is_known_may_touch_all() {
        let extent = Extent { times: 0..=1, keys: None };
        let window = Tumbling { width_ns: 1, origin_ns: 0 };
        let neighbours = Neighbours::new(vec![Some(extent), None], window);
        assert!(!neighbours.are_known());
    }
}
