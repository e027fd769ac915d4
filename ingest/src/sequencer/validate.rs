//! The edge's own checks of a block against its schema, column by column.

use isotick_model::schema::StreamSchema;
use isotick_model::view::Tumbling;
use isotick_model::{Key, RejectReason, Ticks};

/// The times that fit a window of every view, both ends inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimeRange {
    first: i64,
    last: i64,
}

impl TimeRange {
    pub(super) fn of(windows: &[Tumbling]) -> Self {
        let all = Self { first: i64::MIN, last: i64::MAX };
        windows.iter().fold(all, |range, window| {
            // A window is representable iff start ≥ i64::MIN and end ≤ i64::MAX.
            let (width, origin) = (i128::from(window.width_ns), i128::from(window.origin_ns));
            let (least, greatest) = (i128::from(i64::MIN), i128::from(i64::MAX));
            let first = origin - (origin - least).div_euclid(width) * width;
            let last = origin + (greatest - origin).div_euclid(width) * width - 1;
            let within = |time: i128| time.clamp(least, greatest) as i64;
            Self { first: range.first.max(within(first)), last: range.last.min(within(last)) }
        })
    }
}

/// The reason behind a code of [`rows`].
pub(super) fn reason(code: u8) -> Option<RejectReason> {
    if code == 0 { None } else { RejectReason::from_code(code) }
}

/// Per row the reason to reject it, 0 for none; `None` when every row is valid.
pub(super) fn rows(
    schema: &StreamSchema,
    times: TimeRange,
    ticks: &Ticks,
    ts_recv_ns: i64,
) -> Option<Vec<u8>> {
    let mut reasons = Reasons { codes: Vec::new(), rows: ticks.len() };
    let latest = schema.horizon_ns.map_or(i64::MAX, |horizon| ts_recv_ns.saturating_add(horizon));
    let (first, last) = (times.first, times.last);
    if !all_within(&ticks.ts_event, first, last.min(latest)) {
        reasons.where_(RejectReason::TimeOutOfRange, || {
            ticks.ts_event.iter().map(move |&ts| ts < first || ts > last)
        });
        reasons
            .where_(RejectReason::BeyondHorizon, || ticks.ts_event.iter().map(|&ts| ts > latest));
    }
    let strange: Vec<bool> =
        ticks.keys.iter().map(|key| components(key) != schema.keys.len()).collect();
    if strange.contains(&true) {
        let strange = &strange;
        reasons
            .where_(RejectReason::Malformed, || ticks.key.iter().map(|&key| strange[key as usize]));
    }
    if let Some(allowed) = &schema.keys_allowed {
        let unknown: Vec<bool> = ticks.keys.iter().map(|key| !allowed.contains(key)).collect();
        if unknown.contains(&true) {
            let unknown = &unknown;
            let of_rows = || ticks.key.iter().map(|&key| unknown[key as usize]);
            reasons.where_(RejectReason::UnknownKey, of_rows);
        }
    }
    for (column, declared) in ticks.values.iter().zip(&schema.columns) {
        let nulls = column.nulls.as_ref().filter(|nulls| nulls.null_count() > 0);
        if let Some(nulls) = nulls.filter(|_| !declared.optional) {
            reasons.where_(RejectReason::NullValue, || nulls.iter().map(|valid| !valid));
        }
        if all_within(&column.values, declared.min, declared.max) {
            continue;
        }
        let outside = |value: i64| value < declared.min || value > declared.max;
        match nulls {
            None => reasons.where_(RejectReason::OutOfBounds, || {
                column.values.iter().map(|&value| outside(value))
            }),
            Some(nulls) => reasons.where_(RejectReason::OutOfBounds, || {
                column.values.iter().zip(nulls).map(|(&value, valid)| valid && outside(value))
            }),
        }
    }
    (!reasons.codes.is_empty()).then_some(reasons.codes)
}

/// Whether all values lie within the bounds, both inclusive.
fn all_within(values: &[i64], min: i64, max: i64) -> bool {
    // Without an early exit, so that the loop is vectorised: values outside are rare.
    let within = |all, &value| all & (value >= min) & (value <= max);
    (min == i64::MIN && max == i64::MAX) || values.iter().fold(true, within)
}

/// A key's components: each ends in `00 00`, and a `00` byte within one is followed by `FF`.
fn components(key: &Key) -> usize {
    let mut bytes = key.as_bytes().iter();
    let mut components = 0;
    while let Some(byte) = bytes.next() {
        if *byte == 0 && bytes.next() == Some(&0) {
            components += 1;
        }
    }
    components
}

struct Reasons {
    /// Empty while every row is valid.
    codes: Vec<u8>,
    rows: usize,
}

impl Reasons {
    /// Rejects rows that have no reason yet. `bad` is asked twice only when a row is bad.
    fn where_<I: Iterator<Item = bool>>(&mut self, reason: RejectReason, bad: impl Fn() -> I) {
        // Without an early exit, so that the loop is vectorised: bad rows are rare.
        if !bad().fold(false, |any, bad| any | bad) {
            return;
        }
        self.codes.resize(self.rows, 0);
        for (code, bad) in self.codes.iter_mut().zip(bad()) {
            if bad && *code == 0 {
                *code = reason as u8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_counted_as_the_model_does() {
        for components_of in [&[][..], &[""], &["a"], &["\0", ""], &["\0\0", "b\0", "\u{ff}"]] {
            let key = Key::from_components(components_of);
            assert_eq!(components(&key), key.components().len());
        }
    }

    #[test]
    fn times_fit_a_window_exactly_when_the_model_says_so() {
        let windows = [(1, 0), (7, 3), (1_000, -5), (i64::MAX, 0), (i64::MAX, 17), (3, i64::MIN)];
        for (width_ns, origin_ns) in windows {
            let window = Tumbling { width_ns, origin_ns };
            let range = TimeRange::of(&[window]);
            let edges = [i64::MIN, range.first, 0, range.last, i64::MAX];
            for ts in
                edges.into_iter().flat_map(|ts| (-2..=2).filter_map(move |d| ts.checked_add(d)))
            {
                let inside = ts >= range.first && ts <= range.last;
                assert_eq!(inside, window.start_of(ts).is_some(), "{window:?} {ts}");
            }
        }
    }
}
