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
    /// Where its ticks lie.
    pub place: Place,
    /// Reads it.
    pub read: Read,
}

/// Where the ticks of a part lie among those of others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// `None` where nothing is known of them.
    pub extent: Option<Extent>,
    /// The number of the sequence that it is a piece of, e.g. of its file: its batches, one behind
    /// the other, are sorted by key, then time, and so are the sequence's parts in some order.
    pub sequence: Option<u32>,
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
        Self { place: Place { extent, sequence: None }, read: Read::Ticks(Box::new(read)) }
    }

    /// The same, as a piece of the [sequence](Place::sequence) of this number.
    pub fn in_sequence(self, number: u32) -> Self {
        let sequence = Some(number);
        Self { place: Place { sequence, ..self.place }, ..self }
    }

    /// States of ticks that lie there.
    pub fn states(
        extent: Option<Extent>,
        base: Arc<Base>,
        read: impl FnOnce(&mut StatesSink<'_>) -> Result<(), ScanError> + Send + 'static,
    ) -> Self {
        Self { place: Place { extent, sequence: None }, read: Read::States(base, Box::new(read)) }
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
    /// Per part.
    sequences: Vec<Option<u32>>,
    /// Per part, by their places in `extents`; `None` where windows cannot be told apart by part.
    of: Option<Vec<Vec<u32>>>,
}

/// Pairs of parts that share times, at most: beyond that, looking for those that share keys as well
/// would take longer than it saves.
const PAIRS_MAX: usize = 1 << 22;

impl Neighbours {
    /// Of parts that lie there.
    pub(crate) fn new(places: &[Place], window: Tumbling) -> Self {
        let known: Option<Vec<Extent>> = places.iter().map(|place| place.extent.clone()).collect();
        let (extents, of) = match known {
            Some(extents) => {
                let of = pairs(&extents, window);
                (extents, of)
            }
            None => (Vec::new(), None),
        };
        let sequences = places.iter().map(|place| place.sequence).collect();
        Self { window, extents, sequences, of }
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
    pub(crate) fn times(&self, part: usize) -> impl Fn(&Key) -> Vec<RangeInclusive<i64>> {
        self.times_of(part, |_| true)
    }

    /// The same of windows that are neither the first nor the last in the part: of its sequence no
    /// other part has ticks in those. `None` where the part is of no sequence, or windows cannot be
    /// told apart by part.
    pub(crate) fn times_of_inner(
        &self,
        part: usize,
    ) -> Option<impl Fn(&Key) -> Vec<RangeInclusive<i64>>> {
        let own = self.sequences[part]?;
        self.are_known()
            .then(|| self.times_of(part, move |other| self.sequences[other] != Some(own)))
    }

    fn times_of(
        &self,
        part: usize,
        counts: impl Fn(usize) -> bool,
    ) -> impl Fn(&Key) -> Vec<RangeInclusive<i64>> {
        let others = &self.of.as_ref().expect("windows are told apart by part")[part];
        let own = &self.extents[part];
        let others = others.iter().map(|&other| other as usize).filter(|&other| counts(other));
        let others = others.map(|other| &self.extents[other]);
        let (of_some_keys, of_all): (Vec<&Extent>, Vec<_>) =
            others.partition(|other| other.keys.is_some());
        let touched = touched(own, self.window);
        let before = touched.start().checked_sub(1).map(|last| i64::MIN..=last);
        let after = touched.end().checked_add(1).map(|first| first..=i64::MAX);
        let of_all = of_all.into_iter().map(|other| other.times.clone());
        let of_all = merged(of_all.chain(before).chain(after).collect());
        move |key| {
            if !own.has_key(key) {
                return vec![i64::MIN..=i64::MAX];
            }
            let others = of_some_keys.iter().filter(|other| other.has_key(key));
            of_all.iter().cloned().chain(others.map(|other| other.times.clone())).collect()
        }
    }
}

/// For each of some times, whether the windows that it lies in hold none of the others.
pub fn apart(times: &[RangeInclusive<i64>], windows: &[Tumbling]) -> Vec<bool> {
    let follows = |last: i64, first: i64| {
        windows.iter().all(|window| {
            let starts = window.start_of(last).zip(window.start_of(first));
            starts.is_some_and(|(last, first)| last < first)
        })
    };
    let mut by_start: Vec<usize> = (0..times.len()).collect();
    by_start.sort_by_key(|&at| *times[at].start());
    let mut apart = vec![true; times.len()];
    // Of those before, the one that ends last.
    let mut before: Option<usize> = None;
    for at in by_start {
        if let Some(before) = before.filter(|&of| !follows(*times[of].end(), *times[at].start())) {
            (apart[before], apart[at]) = (false, false);
        }
        before = before.filter(|&of| times[of].end() > times[at].end()).or(Some(at));
    }
    apart
}

/// The same times in the fewest ranges.
fn merged(mut ranges: Vec<RangeInclusive<i64>>) -> Vec<RangeInclusive<i64>> {
    ranges.sort_unstable_by_key(|range| *range.start());
    let mut merged: Vec<RangeInclusive<i64>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if *range.start() <= last.end().saturating_add(1) => {
                *last = *last.start()..=*last.end().max(range.end());
            }
            _ => merged.push(range),
        }
    }
    merged
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
        fn times_are_apart_where_no_window_is_shared(
            times in proptest::collection::vec((-60_i64..60, 0_i64..25), 0..9),
            widths in proptest::collection::vec((1_i64..20, -5_i64..5), 1..3),
        ) {
            let times: Vec<_> = times.into_iter().map(|(first, len)| first..=first + len).collect();
            let window = |(width_ns, origin_ns)| Tumbling { width_ns, origin_ns };
            let windows: Vec<_> = widths.into_iter().map(window).collect();
            let touched = |times: &RangeInclusive<i64>, window: &Tumbling| {
                window.start_of(*times.start()).unwrap()..=window.start_of(*times.end()).unwrap()
            };
            let share = |a: &RangeInclusive<i64>, b: &RangeInclusive<i64>| {
                windows.iter().any(|window| {
                    let (a, b) = (touched(a, window), touched(b, window));
                    a.start() <= b.end() && b.start() <= a.end()
                })
            };
            let alone = |at: usize| {
                times.iter().enumerate().all(|(other, of)| other == at || !share(of, &times[at]))
            };
            let expected: Vec<bool> = (0..times.len()).map(alone).collect();
            prop_assert_eq!(apart(&times, &windows), expected);
        }

        #[test]
        fn of_its_own_sequence_no_part_reaches_an_inner_window(
            extents in proptest::collection::vec((any_extent(), 0_u32..3), 1..12),
            width_ns in 1_i64..20,
        ) {
            let window = Tumbling { width_ns, origin_ns: 3 };
            let (extents, sequences): (Vec<_>, Vec<_>) = extents.into_iter().unzip();
            let neighbours = |of: &[Extent], sequences: &[u32]| {
                let place = |(extent, sequence): (&Extent, &u32)| Place {
                    extent: Some(extent.clone()),
                    sequence: Some(*sequence),
                };
                let places: Vec<_> = of.iter().zip(sequences).map(place).collect();
                Neighbours::new(&places, window)
            };
            let all = neighbours(&extents, &sequences);
            for part in 0..extents.len() {
                // As if it were the only part of its sequence.
                let others = |other: &usize| *other == part || sequences[*other] != sequences[part];
                let left: Vec<usize> = (0..extents.len()).filter(others).collect();
                let some: Vec<_> = left.iter().map(|&other| extents[other].clone()).collect();
                let alone = neighbours(&some, &vec![0; some.len()]);
                let place = left.iter().position(|&other| other == part).unwrap();
                for key in (0..8).map(key) {
                    let mut inner = all.times_of_inner(part).unwrap()(&key);
                    let mut expected = alone.times(place)(&key);
                    let by_ends = |times: &RangeInclusive<i64>| (*times.start(), *times.end());
                    inner.sort_by_key(by_ends);
                    expected.sort_by_key(by_ends);
                    prop_assert_eq!(inner, expected);
                }
            }
        }

        #[test]
        fn only_windows_that_no_other_part_touches_are_its_own(
            extents in proptest::collection::vec(any_extent(), 1..12),
            width_ns in 1_i64..20,
        ) {
            let window = Tumbling { width_ns, origin_ns: 3 };
            let place = |extent: &Extent| Place { extent: Some(extent.clone()), sequence: None };
            let neighbours =
                Neighbours::new(&extents.iter().map(place).collect::<Vec<_>>(), window);
            prop_assert!(neighbours.times_of_inner(0).is_none(), "it is of no sequence");
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
                    let times = neighbours.times(part)(&key);
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
        let places = [
            Place { extent: Some(extent), sequence: Some(0) },
            Place { extent: None, sequence: Some(0) },
        ];
        let neighbours = Neighbours::new(&places, window);
        assert!(neighbours.times_of_inner(0).is_none());
        assert!(!neighbours.are_known());
    }

    #[test]
    fn times_that_lie_in_no_window_are_apart_from_none() {
        let window = [Tumbling { width_ns: 10, origin_ns: 3 }];
        let times = [i64::MIN..=i64::MIN, 0..=1, 20..=21];
        assert_eq!(apart(&times, &window), [false, false, true]);
    }
}
