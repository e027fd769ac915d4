use isotick_kernels::CpuEngine;
use isotick_model::definitions::Definitions;
use isotick_model::results::Value;
use isotick_model::ticks::ON_TIME;
use isotick_model::watermark::Watermark;
use isotick_model::{Key, PublisherId, Ticks, ValueColumn};

use super::*;

fn schema() -> StreamSchema {
    let text = "[stream.s]\ntime = \"ts\"\ncolumns = { price = { scale = 0 } }";
    Definitions::parse(text, "test").unwrap().stream("s").unwrap().clone()
}

/// A view that counts ticks and takes the last price in windows of 10 ns.
fn view(allowed: &str, policy: &str) -> LiveView {
    let text = format!(
        r#"
        [stream.s]
        time = "ts"
        columns = {{ price = {{ scale = 0 }} }}
        [view.v]
        stream = "s"
        window = {{ tumbling = "10ns" }}
        aggregates = ["count()", "last(price)"]
        lateness = {{ allowed = "{allowed}", policy = "{policy}" }}
        "#
    );
    let definitions = Definitions::parse(&text, "test").unwrap();
    let view = Arc::new(definitions.view("v").unwrap().clone());
    LiveView::new(view, definitions.stream("s").unwrap())
}

type Seen = (i64, u32, i128, i128);

/// One publisher's ticks at some times; the price of a tick is its sequence.
#[derive(Clone, Default)]
struct Feed {
    w: Watermark,
    sequence: u64,
}

impl Feed {
    fn next(&mut self, times: &[i64]) -> Ticks {
        let publisher = PublisherId::new("p").unwrap();
        let mut seen = vec![ON_TIME; times.len()];
        self.w.observe(&publisher, times, |row, met| seen[row] = met);
        let first = self.sequence;
        self.sequence += times.len() as u64;
        Ticks {
            ts_event: times.to_vec().into(),
            sequence: (first..self.sequence).collect(),
            publishers: vec![publisher],
            publisher: Vec::new().into(),
            keys: vec![Key::empty()].into(),
            key: vec![0; times.len()].into(),
            values: vec![ValueColumn {
                values: (first as i64..self.sequence as i64).collect(),
                nulls: None,
            }],
            seen: seen.iter().any(|&met| met != ON_TIME).then(|| seen.into()),
        }
    }

    /// Shows a view the next record. Gives what it published as `(window start, version, count,
    /// last price)`.
    fn show(&mut self, view: &mut LiveView, times: &[i64]) -> Vec<Seen> {
        let ticks = self.next(times);
        view.handle_ticks(&ticks, &mut CpuEngine).unwrap();
        view.handle_watermark(self.w.get());
        let published = std::iter::from_fn(|| view.poll_published()).flatten();
        let published = published.map(|Published { row, .. }| {
            let integer = |i: usize| match row.values[i] {
                Value::Integer(integer) => integer,
                value => panic!("{value:?}"),
            };
            (row.window_start, row.version, integer(0), integer(1))
        });
        published.collect()
    }
}

/// Shows records from the beginning.
fn run(view: &mut LiveView, records: &[&[i64]]) -> Vec<Vec<Seen>> {
    let mut feed = Feed::default();
    records.iter().map(|times| feed.show(view, times)).collect()
}

/// Records of random times, many of them late.
fn records(seed: u64) -> Vec<Vec<i64>> {
    let mut number = seed;
    let mut next = |below: u64| {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (number >> 33) % below
    };
    let mut clock = 0;
    let record = |_| {
        let rows = next(9);
        let time = |_| {
            clock += next(7).cast_signed();
            clock - if next(4) == 0 { next(60).cast_signed() } else { 0 }
        };
        (0..rows).map(time).collect()
    };
    (0..400).map(record).collect()
}

#[test]
fn a_window_closes_when_the_watermark_reaches_its_end() {
    let mut live = view("0ns", "correct");
    let published = run(&mut live, &[&[1, 5], &[9], &[10], &[3], &[25]]);
    assert_eq!(published, [vec![], vec![], vec![(0, 1, 3, 2)], vec![], vec![(10, 1, 1, 3)]]);
    assert_eq!(live.counters(), LiveCounters { ticks: 5, too_late: 1, windows: 2, corrections: 0 });
    let open: Vec<_> = live.open_rows().iter().map(|row| row.window_start).collect();
    assert_eq!(open, [20]);
}

#[test]
fn a_late_tick_within_the_allowance_makes_a_new_version() {
    let mut live = view("5ns", "correct");
    let published = run(&mut live, &[&[1, 12], &[9], &[2, 3], &[15], &[4]]);
    assert_eq!(
        published,
        [vec![(0, 1, 1, 0)], vec![(0, 2, 2, 2)], vec![(0, 3, 4, 2)], vec![], vec![]]
    );
    let counters = live.counters();
    assert_eq!((counters.too_late, counters.corrections), (1, 2));
}

#[test]
fn drop_and_side_publish_once_after_the_allowance() {
    for policy in ["drop", "side"] {
        let mut live = view("5ns", policy);
        let published = run(&mut live, &[&[1, 12], &[9], &[15], &[4]]);
        assert_eq!(published, [vec![], vec![], vec![(0, 1, 2, 2)], vec![]], "{policy}");
        assert_eq!(live.counters().too_late, 1);
    }
}

#[test]
fn a_tick_that_closes_its_own_record_s_window_counts_the_late_one_behind_it_out() {
    let mut live = view("0ns", "correct");
    assert_eq!(run(&mut live, &[&[1, 10, 2]]), [vec![(0, 1, 1, 0)]]);
    assert_eq!(live.counters().too_late, 1);
}

/// Against a plain model, over records of random times: windows come, close, change and go, and
/// others take their places.
#[test]
fn windows_that_take_the_places_of_others_have_lives_of_their_own() {
    for policy in ["correct", "side"] {
        for allowed in [0_i64, 7, 40] {
            let mut live = view(&format!("{allowed}ns"), policy);
            let records = records(11 + allowed.cast_unsigned());
            let slices: Vec<&[i64]> = records.iter().map(Vec::as_slice).collect();
            let mut found = run(&mut live, &slices);
            found.iter_mut().for_each(|published| published.sort_unstable());
            // By start: ticks, the greatest (time, sequence), versions so far, whether changed.
            let mut windows: BTreeMap<i64, (i128, (i64, i128), u32, bool)> = BTreeMap::new();
            let (mut w, mut sequence) = (i64::MIN, 0_i128);
            for (record, found) in records.iter().zip(found) {
                for &ts in record {
                    let start = ts.div_euclid(10) * 10;
                    if ts >= w || start + 10 + allowed > w {
                        let window = windows.entry(start).or_insert((0, (ts, sequence), 0, false));
                        window.0 += 1;
                        window.1 = window.1.max((ts, sequence));
                        window.3 = true;
                    }
                    w = w.max(ts);
                    sequence += 1;
                }
                let mut expected = Vec::new();
                for (&start, window) in &mut windows {
                    let (count, (_, last), version, changed) = *window;
                    let due = start + 10 + if policy == "correct" { 0 } else { allowed };
                    if (version > 0 && changed) || (version == 0 && due <= w) {
                        window.2 += 1;
                        expected.push((start, window.2, count, last));
                    }
                    window.3 = false;
                }
                assert_eq!(found, expected, "{policy} {allowed}");
            }
        }
    }
}

#[test]
fn a_view_that_was_saved_goes_on_as_if_nothing_had_happened() {
    for (policy, allowed) in [("correct", 0), ("correct", 40), ("side", 7), ("drop", 40)] {
        let records = records(5);
        for cut in [0, 1, 57, 200, 399] {
            let new = || view(&format!("{allowed}ns"), policy);
            let (mut whole, mut before, mut feed) = (new(), new(), Feed::default());
            let mut restored = None;
            let mut rest = feed.clone();
            for (number, times) in records.iter().enumerate() {
                let expected = feed.clone().show(&mut whole, times);
                if number == cut {
                    let saved = before.save();
                    let (view, schema) = (before.view().clone(), schema());
                    let back = LiveView::restore(view, &schema, saved.clone()).unwrap();
                    assert_eq!(back.save(), saved);
                    assert_eq!(back.open_windows(), before.open_windows());
                    restored = Some(back);
                    rest = feed.clone();
                }
                let found = match &mut restored {
                    Some(restored) => rest.show(restored, times),
                    None => feed.clone().show(&mut before, times),
                };
                assert_eq!(found, expected, "{policy} {allowed} cut at {cut}, record {number}");
                feed.next(times);
            }
            assert_eq!(restored.map(|view| view.counters()), Some(whole.counters()));
        }
    }
}

#[test]
fn a_view_that_comes_later_holds_what_is_not_closed_yet() {
    for (policy, allowed) in [("correct", 0), ("correct", 40), ("side", 7), ("drop", 40)] {
        let records = records(23);
        for cut in [1, 120, 333] {
            let mut whole = view(&format!("{allowed}ns"), policy);
            let (mut feed, mut earlier) = (Feed::default(), Vec::new());
            for times in &records[..cut] {
                earlier.push(feed.clone().next(times));
                feed.show(&mut whole, times);
            }
            let (view, schema) = (whole.view().clone(), schema());
            let mut later = LiveView::declared_at(view, &schema, feed.w.get());
            for ticks in &earlier {
                later.handle_ticks(ticks, &mut CpuEngine).unwrap();
            }
            assert_eq!(later.open_windows(), whole.open_windows());
            let from = later.from().unwrap_or(i64::MIN);
            for times in &records[cut..] {
                let mut expected = feed.clone().show(&mut whole, times);
                expected.retain(|window| window.0 >= from);
                assert_eq!(feed.show(&mut later, times), expected, "{policy} {allowed} {cut}");
            }
        }
    }
}
