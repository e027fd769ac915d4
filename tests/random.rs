//! Seeded random ticks and views, with the extremes that break implementations.
//!
//! A case is a function of its shape and seed alone. A seed that ever failed is added to
//! [`REGRESSIONS`] under a name that says what it showed.

use crate::oracle::{Arrival, Event, Filter, Op, Output, Tick, View, watermarks};

/// SplitMix64: the generator behind every case.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x9E37_79B9_7F4A_7C15)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform below `n`, which is at least 1. (The bias of the remainder does not matter here.)
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// An index below `n`.
    pub fn index(&mut self, n: usize) -> usize {
        self.below(n as u64) as usize
    }

    /// Up to `bits` random bits.
    pub fn bits(&mut self, bits: u32) -> u64 {
        self.next() >> (64 - bits)
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Within `low..=high`.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        let span = u64::try_from(i128::from(high) - i128::from(low)).expect("a 64-bit span");
        match span.checked_add(1) {
            Some(n) => low.wrapping_add(self.below(n).cast_signed()),
            None => self.next().cast_signed(),
        }
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.index(from.len())]
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.index(i + 1));
        }
    }
}

/// What a case stresses. Everything else is drawn freely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Nothing in particular.
    Mixed,
    /// Values at and next to the bounds of i64.
    Bounds,
    /// Most sizes are zero.
    ZeroSizes,
    /// Whole columns of nulls and single nulls.
    Nulls,
    /// Times before the epoch and around it.
    NegativeTimes,
    /// Every tick has a window of its own.
    OneTickPerWindow,
    /// One window holds everything.
    OneWindow,
    /// 80 % of the ticks are on one key.
    Skewed,
    /// Few distinct times: order hangs on publisher and sequence.
    Ties,
    /// Not in order at all.
    Disorder,
    /// Times next to the first and last nanosecond there is.
    EdgeOfTime,
    /// No tick, or one.
    Tiny,
}

impl Shape {
    pub const ALL: [Self; 12] = [
        Self::Mixed,
        Self::Bounds,
        Self::ZeroSizes,
        Self::Nulls,
        Self::NegativeTimes,
        Self::OneTickPerWindow,
        Self::OneWindow,
        Self::Skewed,
        Self::Ties,
        Self::Disorder,
        Self::EdgeOfTime,
        Self::Tiny,
    ];
}

/// Cases that once showed a fault.
pub const REGRESSIONS: &[(&str, Shape, u64)] = &[];

/// A value column of a case's stream.
#[derive(Clone, Debug)]
pub struct Column {
    pub name: &'static str,
    pub scale: u32,
    pub optional: bool,
    /// Declared bounds, scaled; they hold for the case's ticks.
    pub bounds: Option<(i64, i64)>,
}

/// Random ticks with a random view over them.
#[derive(Clone, Debug)]
pub struct Case {
    pub shape: Shape,
    pub seed: u64,
    /// The key columns' names.
    pub keys: Vec<&'static str>,
    pub columns: Vec<Column>,
    /// Ticks in arrival order.
    pub ticks: Vec<Tick>,
    /// The stream's log: the ticks in the same order, with publishers coming and going.
    pub events: Vec<Event>,
    pub view: View,
    /// The aggregates as written.
    pub aggregates: Vec<String>,
    /// What happens to late ticks: `correct`, `side` or `drop`.
    pub policy: &'static str,
}

impl Case {
    /// The case of a shape and seed, with up to `rows_max` ticks.
    pub fn new(shape: Shape, seed: u64, rows_max: usize) -> Self {
        let mut rng = Rng::new(seed.wrapping_mul(31).wrapping_add(shape as u64));
        let rng = &mut rng;
        let rows = match shape {
            Shape::Tiny => rng.index(2),
            _ => 1 + rng.index(rows_max),
        };
        let width = match shape {
            Shape::OneTickPerWindow => *rng.pick(&[1, 7, 1_000]),
            Shape::OneWindow => 1 << 62,
            _ => *rng.pick(&[1, 1_000, 999_999_937, 1_000_000_000, 60_000_000_000]),
        };
        let origin = match shape {
            Shape::OneWindow => -(1 << 61),
            _ => *rng.pick(&[0, 0, 1, -1, 1_700_000_000_123_456_789, -5_000_000_000_000_000_001]),
        };
        let lateness = *rng.pick(&[0, width / 2, 3 * width.min(1 << 40)]);
        let keys: Vec<_> = ["symbol", "venue"].into_iter().take(rng.index(3)).collect();
        let mut columns = columns(rng, shape);
        let mut ticks = times(rng, shape, rows, width, lateness)
            .into_iter()
            .map(|ts| Tick {
                ts,
                publisher: String::new(),
                sequence: 0,
                key: Vec::new(),
                values: Vec::new(),
                arrival: Arrival::NeverSeen,
            })
            .collect::<Vec<_>>();
        name_keys(rng, shape, &keys, &mut ticks);
        publish(rng, &mut ticks);
        for column in &mut columns {
            fill(rng, shape, column, &mut ticks);
        }
        let events = arrive(rng, &mut ticks);
        let allowed = *rng.pick(&[0, lateness / 3, 1_000_000_000]);
        let (aggregates, outputs) = aggregates(rng, &columns);
        let scales = columns.iter().map(|column| column.scale).collect();
        let mut view = View { width, origin, allowed, filter: None, scales, outputs };
        if rng.chance(60) && !ticks.is_empty() {
            view.filter = Some(filter(rng, &ticks, &columns, 3));
        }
        let policy = *rng.pick(&["correct", "side", "drop"]);
        Self { shape, seed, keys, columns, ticks, events, view, aggregates, policy }
    }

    /// What messages call it.
    pub fn name(&self) -> String {
        format!("Case::new(Shape::{:?}, {}), {} ticks", self.shape, self.seed, self.ticks.len())
    }
}

fn columns(rng: &mut Rng, shape: Shape) -> Vec<Column> {
    let names = ["price", "size", "side", "reading"];
    let scales: [&[u32]; 4] = [&[0, 2, 4, 8, 18], &[0, 0, 3, 8], &[0], &[0, 9, 18]];
    let optional = |rng: &mut Rng, name| {
        shape == Shape::Nulls || ["side", "reading"].contains(&name) || rng.chance(20)
    };
    let column = |(name, scales): (_, &[u32])| Column {
        name,
        scale: *rng.pick(scales),
        optional: optional(rng, name),
        bounds: None,
    };
    names.into_iter().zip(scales).map(column).collect()
}

/// Times in arrival order: ascending, but for steps back of at most `lateness`.
fn times(rng: &mut Rng, shape: Shape, rows: usize, width: i64, lateness: i64) -> Vec<i64> {
    if shape == Shape::EdgeOfTime {
        let near = |rng: &mut Rng| {
            let distance = rng.bits(33).cast_signed();
            if rng.chance(50) { i64::MIN + distance } else { i64::MAX - distance }
        };
        return (0..rows).map(|_| near(rng)).collect();
    }
    let step = match shape {
        Shape::OneTickPerWindow => width,
        Shape::OneWindow => 1_000,
        _ => (width / *rng.pick(&[1, 3, 50, 2_000])).max(1),
    };
    let base: i64 = match shape {
        Shape::NegativeTimes => *rng.pick(&[-step * rows as i64, -1_700_000_000_000_000_000]),
        _ => *rng.pick(&[0, 1_700_000_000_000_000_000, -40_000]),
    };
    let quantum = match shape {
        Shape::Ties => step * 97,
        Shape::OneTickPerWindow => 1,
        _ if rng.chance(30) => step * 4,
        _ => 1,
    };
    let mut times: Vec<(i64, i64)> = Vec::with_capacity(rows);
    let mut ts = base;
    for _ in 0..rows {
        ts += match shape {
            Shape::OneTickPerWindow => step,
            _ => rng.between(0, 2 * step),
        };
        let ts = ts.div_euclid(quantum) * quantum;
        times.push((ts.saturating_add(rng.between(0, lateness)), ts));
    }
    // Each tick travels for up to the lateness.
    times.sort_by_key(|(arrival, _)| *arrival);
    let mut times: Vec<i64> = times.into_iter().map(|(_, ts)| ts).collect();
    if shape == Shape::Disorder {
        rng.shuffle(&mut times);
    }
    times
}

fn name_keys(rng: &mut Rng, shape: Shape, names: &[&str], ticks: &mut [Tick]) {
    let traps = ["", "a", "a\0", "a\0b", "ab", "B", "é", "\u{10FFFF}", "a b,\"c\""];
    let distinct = *rng.pick(&[1, 2, traps.len(), 60]);
    let texts = |rng: &mut Rng| match rng.index(distinct) {
        i if i < traps.len() => traps[i].to_string(),
        i => format!("SYM{i}"),
    };
    for tick in ticks {
        tick.key = match shape {
            Shape::Skewed if rng.chance(80) => names.iter().map(|_| "a".to_string()).collect(),
            _ => names.iter().map(|_| texts(rng)).collect(),
        };
    }
}

/// Publishers with sequences: gaps, neighbours that swapped places, huge ordinals.
fn publish(rng: &mut Rng, ticks: &mut [Tick]) {
    let names = ["b", "a", "B", "ab", "é"];
    let publishers = 1 + rng.index(names.len());
    let first = if rng.chance(20) { (1 << 63) - 20 } else { 0 };
    let mut next = vec![first; publishers];
    for tick in ticks.iter_mut() {
        let p = rng.index(publishers);
        tick.publisher = names[p].into();
        tick.sequence = next[p];
        next[p] += if rng.chance(5) { 1 + rng.below(9) } else { 1 };
    }
    if rng.chance(50) {
        for i in 1..ticks.len() {
            if ticks[i].publisher == ticks[i - 1].publisher && rng.chance(20) {
                let earlier = ticks[i - 1].sequence;
                ticks[i - 1].sequence = std::mem::replace(&mut ticks[i].sequence, earlier);
            }
        }
    }
}

fn fill(rng: &mut Rng, shape: Shape, column: &mut Column, ticks: &mut [Tick]) {
    let nulls = match (column.optional, shape) {
        (false, _) => 0,
        (true, Shape::Nulls) => *rng.pick(&[30, 95, 100]),
        (true, _) => *rng.pick(&[0, 10, 50]),
    };
    let bounds = [i64::MIN, i64::MIN + 1, i64::MAX, i64::MAX - 1, 0, -1, 1];
    let edges = [1 << 31, (1 << 31) - 1, 1 << 32, (1 << 32) - 1, -(1 << 32), (1 << 53) + 1];
    let one_bound = *rng.pick(&bounds);
    let kind = match (shape, column.name) {
        (Shape::Bounds, _) => *rng.pick(&[0, 1, 2]),
        (_, "side") => 3,
        (Shape::ZeroSizes, "size") => 4,
        (_, "size") => *rng.pick(&[4, 5, 5]),
        _ => *rng.pick(&[2, 6, 6, 7, 8]),
    };
    let mut walk = rng.between(1_000, 5_000_000);
    for tick in ticks.iter_mut() {
        let value = match kind {
            0 => *rng.pick(&bounds),
            1 => one_bound,
            2 if rng.chance(50) => *rng.pick(&edges),
            2 => rng.next().cast_signed(),
            3 => rng.between(-1, 1),
            4 if rng.chance(90) => 0,
            4 | 5 => rng.between(0, 1_000),
            6 => {
                walk += rng.between(-25, 25);
                walk
            }
            // A span of 32 bits far from zero.
            7 => -4_000_000_000_000_000_000 + rng.bits(32).cast_signed(),
            _ => rng.between(-1_000_000_000_000, 1_000_000_000_000),
        };
        tick.values.push((!rng.chance(nulls)).then_some(value));
    }
    let index = ticks.first().map_or(0, |tick| tick.values.len() - 1);
    let values = || ticks.iter().filter_map(|tick| tick.values[index]);
    if let Some((min, max)) = values().min().zip(values().max()).filter(|_| rng.chance(50)) {
        column.bounds = Some((min, max));
    }
}

/// The log of the stream: some ticks are imported and never pass it, publishers join early, go
/// idle and come back.
fn arrive(rng: &mut Rng, ticks: &mut [Tick]) -> Vec<Event> {
    let imported = *rng.pick(&[0, 0, 25, 100]);
    let mut names: Vec<_> = ticks.iter().map(|tick| tick.publisher.clone()).collect();
    names.sort();
    names.dedup();
    let mut events = Vec::new();
    let mut places = Vec::new();
    for name in &names {
        if rng.chance(60) {
            events.push(Event::Join(name.clone()));
        }
    }
    for (row, tick) in ticks.iter().enumerate() {
        if rng.chance(imported) {
            continue;
        }
        if rng.chance(1) {
            let event = if rng.chance(50) { Event::Idle } else { Event::Join };
            events.push(event(rng.pick(&names).clone()));
        }
        places.push((row, events.len()));
        events.push(Event::Tick(tick.publisher.clone(), tick.ts));
    }
    let w = watermarks(&events);
    for (row, event) in places {
        ticks[row].arrival = Arrival::At(w[event]);
    }
    events
}

/// Aggregates as text, with the output columns they must give.
fn aggregates(rng: &mut Rng, columns: &[Column]) -> (Vec<String>, Vec<(String, Output)>) {
    type OfColumn = fn(usize) -> Output;
    let one: [(&str, OfColumn); 10] = [
        ("count", Output::CountOf),
        ("sum", Output::Sum),
        ("min", Output::Min),
        ("max", Output::Max),
        ("first", Output::First),
        ("last", Output::Last),
        ("mean", Output::Mean),
        ("var", Output::Var),
        ("stddev", Output::Stddev),
        ("ohlc", Output::First),
    ];
    let (mut written, mut outputs) = (Vec::new(), Vec::<(String, Output)>::new());
    let density = *rng.pick(&[15, 40, 100]);
    let mut put = |text: String, parts: Vec<(String, Output)>| {
        if parts.iter().all(|(name, _)| outputs.iter().all(|(other, _)| other != name)) {
            written.push(text);
            outputs.extend(parts);
        }
    };
    put("count()".into(), vec![("count".into(), Output::Count)]);
    for (c, column) in columns.iter().enumerate() {
        for (function, output) in one {
            if !rng.chance(density) {
                continue;
            }
            let (call, named) = (format!("{function}({})", column.name), rng.chance(40));
            let name = format!("{function}_{}", column.name);
            if function == "ohlc" {
                let prefix = if named { format!("{}_", column.name) } else { String::new() };
                let parts = [
                    ("open", Output::First(c)),
                    ("high", Output::Max(c)),
                    ("low", Output::Min(c)),
                    ("close", Output::Last(c)),
                ];
                let parts = parts.map(|(part, output)| (format!("{prefix}{part}"), output));
                let text = if named { format!("{} = {call}", column.name) } else { call };
                put(text, parts.to_vec());
            } else if named {
                put(format!("my_{name} = {call}"), vec![(format!("my_{name}"), output(c))]);
            } else {
                put(call, vec![(name, output(c))]);
            }
        }
    }
    for (c, column) in columns.iter().enumerate() {
        for approximate in [false, true] {
            if rng.chance(density) {
                let (text, parts) = quantiles(rng, column.name, c, approximate);
                put(text, parts);
            }
        }
        if rng.chance(density / 2) {
            let name = format!("median_{}", column.name);
            put(format!("median({})", column.name), vec![(name, Output::Quantile(c, 500_000_000))]);
        }
    }
    for (p, s) in [(0, 1), (3, 1), (1, 1)] {
        if rng.chance(density) {
            let (price, size) = (columns[p].name, columns[s].name);
            let name = format!("vwap_{price}_{size}");
            put(format!("vwap({price}, {size})"), vec![(name, Output::Vwap(p, s))]);
        }
        if rng.chance(density) && fits_notional(&columns[p], &columns[s]) {
            let (price, size) = (columns[p].name, columns[s].name);
            let name = format!("notional_{price}_{size}");
            put(format!("notional({price}, {size})"), vec![(name, Output::Notional(p, s))]);
        }
    }
    (written, outputs)
}

/// Whether `notional` of these columns is exact whatever comes: 2^40 of the largest products in 38
/// digits.
fn fits_notional(price: &Column, size: &Column) -> bool {
    let magnitude = |column: &Column| {
        let (min, max) = column.bounds.unwrap_or((i64::MIN, i64::MAX));
        i128::from(min).abs().max(i128::from(max).abs())
    };
    let sum = (magnitude(price) * magnitude(size)).checked_mul(1 << 40);
    let both_optional = price.optional && size.optional && price.name != size.name;
    price.scale + size.scale <= 18 && !both_optional && sum.is_some_and(|sum| sum < 10_i128.pow(38))
}

/// One to three quantiles of a column, in one of the ways to write and name them.
fn quantiles(
    rng: &mut Rng,
    column: &str,
    c: usize,
    approximate: bool,
) -> (String, Vec<(String, Output)>) {
    // As written, the part of the name, billionths.
    let all = [
        ("0.5", "p50", 500_000_000),
        ("0.99", "p99", 990_000_000),
        ("0.9990", "p99_9", 999_000_000),
        ("1", "p100", 1_000_000_000),
        (".25", "p25", 250_000_000),
        ("1e-9", "p0_0000001", 1),
        ("0.333333333", "p33_3333333", 333_333_333),
        ("0.07", "p7", 70_000_000),
    ];
    let mut chosen = all.to_vec();
    rng.shuffle(&mut chosen);
    chosen.truncate(1 + rng.index(3));
    let (function, prefix): (_, &str) =
        if approximate { ("approx_quantile", "approx_") } else { ("quantile", "") };
    let written: Vec<_> = chosen.iter().map(|(text, ..)| *text).collect();
    let call = format!("{function}({column}, {})", written.join(", "));
    let named = rng.chance(40).then(|| format!("my_{function}_{column}"));
    let parts = chosen.iter().map(|&(_, label, billionths)| {
        let name = match &named {
            Some(name) if chosen.len() == 1 => name.clone(),
            Some(name) => format!("{name}_{label}"),
            None => format!("{prefix}{column}_{label}"),
        };
        let output = if approximate { Output::ApproxQuantile } else { Output::Quantile };
        (name, output(c, billionths))
    });
    let parts = parts.collect();
    (named.map_or(call.clone(), |name| format!("{name} = {call}")), parts)
}

/// A filter whose literals stand near the ticks' own values.
fn filter(rng: &mut Rng, ticks: &[Tick], columns: &[Column], depth: u32) -> Filter {
    const OPS: [Op; 6] = [Op::Eq, Op::Ne, Op::Lt, Op::Le, Op::Gt, Op::Ge];
    if depth > 0 && rng.chance(60) {
        let a = Box::new(filter(rng, ticks, columns, depth - 1));
        return match rng.below(5) {
            0 => Filter::Not(a),
            1 | 2 => Filter::And(a, Box::new(filter(rng, ticks, columns, depth - 1))),
            _ => Filter::Or(a, Box::new(filter(rng, ticks, columns, depth - 1))),
        };
    }
    let op = *rng.pick(&OPS);
    let tick = ticks[rng.index(ticks.len())].clone();
    let c = rng.index(columns.len());
    let literal = |rng: &mut Rng| decimal_near(rng, ticks, columns, c);
    match rng.below(8) {
        0..=2 => Filter::Value(c, op, literal(rng)),
        3 => Filter::Columns(c, op, rng.index(columns.len())),
        4 => Filter::In(c, (0..1 + rng.below(4)).map(|_| literal(rng)).collect()),
        5 if !tick.key.is_empty() => {
            let k = rng.index(tick.key.len());
            Filter::Key(k, op, tick.key[k].clone())
        }
        6 if !tick.key.is_empty() => {
            let k = rng.index(tick.key.len());
            let texts = (0..1 + rng.below(3)).map(|_| rng.pick(ticks).key[k].clone());
            Filter::KeyIn(k, texts.collect())
        }
        7 => Filter::IsNull(c),
        _ => Filter::Time(op, tick.ts.saturating_add(rng.between(-2, 2))),
    }
}

/// A tick's value as a decimal: itself, off by one, with digits below the column's scale, or
/// outside what the column can hold.
fn decimal_near(
    rng: &mut Rng,
    ticks: &[Tick],
    columns: &[Column],
    c: usize,
) -> crate::oracle::Decimal {
    let value = i128::from(rng.pick(ticks).values[c].unwrap_or(0));
    let scale = columns[c].scale;
    let (digits, scale) = match rng.below(5) {
        0 | 1 => (value, scale),
        2 => (value + i128::from(rng.between(-1, 1)), scale),
        3 => (value * 10 + i128::from(rng.between(-9, 9)), scale + 1),
        _ => (value * 1_000, scale),
    };
    crate::oracle::Decimal { digits, scale }
}

/// The cases hold what their shapes promise; a suite over empty cases would pass too.
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::oracle::{Truth, windows};

    fn cases(shape: Shape) -> Vec<Case> {
        (0..12).map(|seed| Case::new(shape, seed, 1_500)).collect()
    }

    fn share(ticks: &[Tick], holds: impl Fn(&Tick) -> bool) -> usize {
        100 * ticks.iter().filter(|tick| holds(tick)).count() / ticks.len().max(1)
    }

    #[test]
    fn shapes_hold_their_extremes() {
        let bounds = cases(Shape::Bounds);
        let values: BTreeSet<_> =
            bounds.iter().flat_map(|c| &c.ticks).flat_map(|t| &t.values).flatten().collect();
        assert!(values.contains(&i64::MIN) && values.contains(&i64::MAX));
        let zero = |c: &Case| share(&c.ticks, |t| matches!(t.values[1], Some(0) | None));
        assert!(cases(Shape::ZeroSizes).iter().filter(|c| zero(c) > 75).count() >= 6);
        assert!(
            cases(Shape::Nulls).iter().all(|c| share(&c.ticks, |t| t.values.contains(&None)) > 0)
        );
        assert!(cases(Shape::NegativeTimes).iter().all(|c| share(&c.ticks, |t| t.ts < 0) > 30));
        let most = |c: &Case| {
            let mut counts: BTreeMap<_, usize> = BTreeMap::new();
            c.ticks.iter().for_each(|t| *counts.entry(&t.key).or_default() += 1);
            100 * counts.values().max().unwrap_or(&0) / c.ticks.len()
        };
        let long = |c: &&Case| c.ticks.len() > 100;
        assert!(cases(Shape::Skewed).iter().filter(long).all(|c| most(c) > 60));
        let times = |c: &Case| c.ticks.iter().map(|t| t.ts).collect::<BTreeSet<_>>().len();
        assert!(cases(Shape::Ties).iter().filter(long).all(|c| times(c) * 4 < c.ticks.len()));
        let unfiltered = |shape| {
            cases(shape).into_iter().map(|mut case| {
                case.view.filter = None;
                (windows(&case.view, &case.ticks, Truth::Now).len(), case)
            })
        };
        assert!(unfiltered(Shape::OneTickPerWindow).all(|(windows, c)| windows == c.ticks.len()));
        let keys = |c: &Case| c.ticks.iter().map(|t| &t.key).collect::<BTreeSet<_>>().len();
        assert!(unfiltered(Shape::OneWindow).all(|(windows, c)| windows == keys(&c)));
    }

    #[test]
    fn cases_are_of_many_kinds() {
        let all: Vec<_> = Shape::ALL.into_iter().flat_map(cases).collect();
        let count = |holds: &dyn Fn(&Case) -> bool| all.iter().filter(|case| holds(case)).count();
        let tenth = all.len() / 10;
        let results = |case: &Case, truth| windows(&case.view, &case.ticks, truth);
        assert!(count(&|case| results(case, Truth::Now).len() > 1) > 5 * tenth, "windows");
        let differ = |case: &Case| results(case, Truth::Now) != results(case, Truth::Seen);
        assert!(count(&differ) > 2 * tenth, "now and seen differ");
        let notional = |case: &Case| {
            let mut outputs = case.view.outputs.iter();
            outputs.any(|(_, output)| matches!(output, Output::Notional(..)))
        };
        assert!(count(&notional) > tenth / 2, "notionals");
        let too_late = |case: &Case| {
            let mut live = case.clone();
            live.ticks.retain(|tick| tick.arrival != Arrival::NeverSeen);
            differ(&live)
        };
        assert!(count(&too_late) > tenth, "ticks come too late");
        let part_passes = |case: &Case| {
            let open = View { filter: None, ..case.view.clone() };
            let (some, all) = (results(case, Truth::Now), windows(&open, &case.ticks, Truth::Now));
            !some.is_empty() && some != all
        };
        assert!(count(&part_passes) > tenth, "filters let a part through");
        let null = |case: &Case| crate::oracle::dump(&results(case, Truth::Now)).contains("null");
        assert!(count(&null) > 2 * tenth, "null results");
        let kinds: BTreeSet<_> = all
            .iter()
            .flat_map(|case| &case.view.outputs)
            .map(|(_, output)| std::mem::discriminant(output))
            .map(|kind| format!("{kind:?}"))
            .collect();
        assert_eq!(kinds.len(), 14, "every aggregate occurs");
        for policy in ["correct", "side", "drop"] {
            assert!(count(&|case| case.policy == policy) > tenth, "{policy}");
        }
    }
}
