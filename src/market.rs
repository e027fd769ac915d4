//! The built-in market: deterministic ticks for the demo, benches and tests.

use std::sync::Arc;

use isotick_model::{Key, PublisherId, Ticks, ValueColumn};

/// Symbols in the market.
pub const SYMBOLS: usize = 1_000;
/// The first tick's time: 2024-01-02T14:30:00Z.
pub const START_NS: i64 = 1_704_205_800_000_000_000;
/// Mean distance between ticks: 5,000 a second.
pub const GAP_NS_MEAN: u64 = 200_000;
/// How far, at most, a tick out of order lies behind the clock.
pub const DISORDER_NS_MAX: u64 = 50_000_000;

/// How the activity of symbols differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skew {
    /// Every symbol alike.
    Uniform,
    /// The n-th one an n-th as often as the first.
    Zipf,
}

/// Trades of [`SYMBOLS`] symbols with Zipf activity, prices that walk on a grid of one cent, sizes
/// with a long tail, and one tick in a hundred out of order by up to [`DISORDER_NS_MAX`].
///
/// Shape: columns `price` (scale 4), `size` (scale 0) and `side` (scale 0: 1 buy, −1 sell, null
/// for one in sixteen). The same seed gives the same ticks on any machine, whatever the batch
/// sizes asked for: integer arithmetic only.
pub struct Market {
    random: SplitMix,
    /// Cumulative integer Zipf weights.
    activity: Vec<u64>,
    keys: Arc<[Key]>,
    prices: Vec<i64>,
    publisher: PublisherId,
    clock_ns: i64,
    gap_ns_mean: u64,
    sequence: u64,
}

impl Market {
    /// A market from its seed, at its first tick.
    pub fn new(seed: u64) -> Self {
        Self::of(seed, SYMBOLS, Skew::Zipf)
    }

    /// A market of another size, or with another activity.
    ///
    /// # Panics
    /// When it has no symbol.
    pub fn of(seed: u64, symbols: usize, skew: Skew) -> Self {
        assert!(symbols > 0, "a market has symbols");
        let mut random = SplitMix(seed);
        let activity = (1..=symbols as u64)
            .scan(0, |sum, rank| {
                *sum += match skew {
                    Skew::Uniform => 1_000_000,
                    Skew::Zipf => 1_000_000_000_000 / rank,
                };
                Some(*sum)
            })
            .collect();
        let prices = (0..symbols).map(|_| (500 + random.below(49_500)) as i64 * 100).collect();
        Self {
            activity,
            keys: (0..symbols).map(|i| Key::from_components([format!("SYM{i:03}")])).collect(),
            prices,
            publisher: PublisherId::new(&format!("market-{seed}")).expect("a short name"),
            clock_ns: START_NS,
            gap_ns_mean: GAP_NS_MEAN,
            sequence: 0,
            random,
        }
    }

    /// The same market at another mean distance between ticks, at least 1 ns.
    pub fn with_gap(self, gap_ns_mean: u64) -> Self {
        Self { gap_ns_mean: gap_ns_mean.max(1), ..self }
    }

    /// Who publishes these ticks.
    pub fn publisher(&self) -> &PublisherId {
        &self.publisher
    }

    /// The next `rows` ticks in order of arrival.
    pub fn next_ticks(&mut self, rows: usize) -> Ticks {
        let mut ts_event = Vec::with_capacity(rows);
        let mut key = Vec::with_capacity(rows);
        let (mut prices, mut sizes, mut sides) =
            (Vec::with_capacity(rows), Vec::with_capacity(rows), Vec::with_capacity(rows));
        let mut side_known = Vec::with_capacity(rows);
        for _ in 0..rows {
            self.clock_ns += self.random.below(2 * self.gap_ns_mean) as i64;
            let behind = match self.random.below(100) {
                0 => 1 + self.random.below(DISORDER_NS_MAX) as i64,
                _ => 0,
            };
            ts_event.push(self.clock_ns - behind);
            let draw = self.random.below(self.activity[self.activity.len() - 1]);
            let symbol = self.activity.partition_point(|&sum| sum <= draw);
            key.push(symbol as u32);
            let step = (self.random.below(3) as i64 - 1) * 100;
            self.prices[symbol] = (self.prices[symbol] + step).max(100);
            prices.push(self.prices[symbol]);
            let lots = 1 << self.random.below(8);
            sizes.push(1 + self.random.below(100 * lots) as i64);
            let side = self.random.below(16);
            side_known.push(side != 0);
            sides.push(if side == 0 { 0 } else { 1 - 2 * (side as i64 % 2) });
        }
        let first = self.sequence;
        self.sequence += rows as u64;
        let column = |values: Vec<i64>| ValueColumn { values: values.into(), nulls: None };
        Ticks {
            ts_event: ts_event.into(),
            sequence: (first..self.sequence).collect(),
            publishers: vec![self.publisher.clone()],
            publisher: Vec::new().into(),
            keys: Arc::clone(&self.keys),
            key: key.into(),
            values: vec![
                column(prices),
                column(sizes),
                ValueColumn { nulls: Some(side_known.into()), ..column(sides) },
            ],
            seen: None,
        }
    }
}

/// Steele, Lea and Flood's SplitMix64 generator.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`, by the high word of the product; the bias is below 2^-32 here.
    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}
