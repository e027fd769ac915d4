use isotick_kernels::CpuEngine;
use isotick_model::definitions::Definitions;
use isotick_model::results::Value;
use isotick_model::ticks::ON_TIME;
use isotick_model::watermark::Watermark;
use isotick_model::{Key, PublisherId, Ticks, ValueColumn};

use super::*;

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

/// Feeds records of times, one publisher; the price of a tick is its sequence. Gives, per record,
/// what was published as `(window start, version, count, last price)`.
fn run(view: &mut LiveView, records: &[&[i64]]) -> Vec<Vec<(i64, u32, i128, i128)>> {
    let publisher = PublisherId::new("p").unwrap();
    let (mut w, mut sequence) = (Watermark::default(), 0);
    let feed = |times: &&[i64]| {
        let mut seen = vec![ON_TIME; times.len()];
        w.observe(&publisher, times, |row, met| seen[row] = met);
        let first = sequence;
        sequence += times.len() as u64;
        let ticks = Ticks {
            ts_event: times.to_vec().into(),
            sequence: (first..sequence).collect(),
            publishers: vec![publisher.clone()],
            publisher: Vec::new().into(),
            keys: vec![Key::empty()],
            key: vec![0; times.len()].into(),
            values: vec![ValueColumn {
                values: (first as i64..sequence as i64).collect(),
                nulls: None,
            }],
            seen: seen.iter().any(|&met| met != ON_TIME).then(|| seen.into()),
        };
        view.handle_ticks(&ticks, &mut CpuEngine).unwrap();
        view.handle_watermark(w.get());
        let published = view.poll_published().into_iter().map(|Published { row, .. }| {
            let integer = |i: usize| match row.values[i] {
                Value::Integer(integer) => integer,
                value => panic!("{value:?}"),
            };
            (row.window_start, row.version, integer(0), integer(1))
        });
        published.collect()
    };
    records.iter().map(feed).collect()
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
