use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use isotick_kernels::CpuEngine;
use isotick_model::definitions::Definitions;
use isotick_model::results::{Value, WindowRow};
use isotick_scheduler::LiveView;

use super::reference::Reference;
use super::ticks::{Load, due};
use super::{factors, own_definitions};
use crate::cli::{Cli, Command, LiveBenchArgs, OtherBench};

const TICKS: usize = 30_000;
const PER_SECOND: u64 = 10_000;

fn arguments(more: &str) -> LiveBenchArgs {
    let words = format!("isotick bench live {more}");
    let cli = Cli::try_parse_from(words.split_whitespace()).expect("a right command line");
    let Command::Bench(bench) = cli.command else { panic!("not a bench") };
    let Some(OtherBench::Live(args)) = bench.other else { panic!("not the live one") };
    *args
}

fn market() -> (Definitions, Load) {
    let definitions = Definitions::parse(&own_definitions(&arguments("")), "its own").unwrap();
    let schema = definitions.stream("trades").unwrap();
    let end = 1_050_000_000;
    let load = Load::market(7, crate::market::SYMBOLS, TICKS, PER_SECOND, end, schema).unwrap();
    (definitions, load)
}

/// What the product publishes, record by record.
fn published(definitions: &Definitions, load: &Load) -> Vec<WindowRow> {
    let view = definitions.view("bars").unwrap();
    let mut live = LiveView::new(Arc::new(view.clone()), definitions.stream("trades").unwrap());
    let mut rows = Vec::new();
    let mut watermark = i64::MIN;
    for part in load.whole(1_000) {
        live.handle_ticks(&part.ticks, &mut CpuEngine).unwrap();
        watermark = part.ticks.ts_event.iter().fold(watermark, |most, &ts| most.max(ts));
        live.handle_watermark(Some(watermark));
        let published = std::iter::from_fn(|| live.poll_published()).flatten();
        rows.extend(published.map(|published| published.row));
    }
    rows
}

#[test]
fn the_reference_agrees_with_the_product_and_finds_every_planted_difference() {
    let (definitions, load) = market();
    let view = definitions.view("bars").unwrap();
    let schema = definitions.stream("trades").unwrap();
    let reference = Reference::of(view, &load, factors(schema));
    let rows = published(&definitions, &load);
    assert!(reference.len() > 1_000, "{}", reference.len());
    let compared = reference.compare(&rows);
    assert!(compared.right() && compared.unchecked.is_empty(), "{compared:?}");
    for column in 0..view.aggregates.len() {
        let mut planted = rows.clone();
        let value = &mut planted[column * 7].values[column];
        *value = match *value {
            Value::Integer(value) => Value::Integer(value + 1),
            Value::Float(value) => Value::Float(value.next_up()),
            Value::Null => Value::Integer(0),
        };
        let compared = reference.compare(&planted);
        assert_eq!((compared.missing, compared.wrong), (0, 1), "{compared:?}");
    }
    let compared = reference.compare(&rows[3..]);
    assert_eq!((compared.missing, compared.wrong), (3, 0), "{compared:?}");
    let mut moved = rows;
    moved[0].window_start += 1;
    let compared = reference.compare(&moved);
    assert_eq!((compared.missing, compared.wrong), (1, 1), "{compared:?}");
}

#[test]
fn parts_hold_every_tick_once_in_order_and_no_later_than_a_step_after_it_is_due() {
    let (_, load) = market();
    let step = Duration::from_millis(1);
    for (parts, paced) in [(load.whole(512), false), (load.paced(PER_SECOND, step, 4), true)] {
        let mut next = 0;
        for part in &parts {
            let rows = part.ticks.len();
            assert!(rows > 0 && rows <= if paced { 4 } else { 512 });
            let from = next as usize;
            for row in 0..rows {
                assert_eq!(part.ticks.sequence[row], next);
                next += 1;
            }
            assert_eq!(part.due.is_some(), paced);
            if let Some(at) = part.due {
                assert_eq!(at, due(next as usize - 1, PER_SECOND));
                assert!(at < due(from, PER_SECOND) + step);
            }
            let mut used = part.ticks.key.to_vec();
            used.sort_unstable();
            used.dedup();
            assert_eq!(used.len(), part.ticks.keys.len());
        }
        assert_eq!(next as usize, load.rows());
    }
}

#[test]
fn event_time_reaches_a_time_with_the_first_tick_at_or_past_it() {
    let (_, load) = market();
    let least = load.least();
    for ts in [least, least + 1, least + 1_500_000_000, load.greatest()] {
        let place = load.reaches(ts);
        let times: Vec<i64> =
            load.batches().iter().flat_map(|batch| batch.ts_event.iter().copied()).collect();
        assert!(times[place] >= ts && times[..place].iter().all(|&before| before < ts));
    }
}

#[test]
fn a_rate_may_be_none_and_what_follows_the_dashes_goes_to_the_service() {
    let args = arguments("--rate none --quick -- --engine cpu");
    assert_eq!(args.serve, ["--engine", "cpu"]);
    assert!(args.quick && args.rate == [crate::cli::PacedRate::None]);
}
