//! A case ready to be compared: its ticks as the product's, in any order and cut, and the verdict.

use isotick_kernels::windows::Windows;
use isotick_model::Ticks;
use isotick_model::results::WindowRow;

use crate::canonical;
use crate::oracle::{self, Truth};
use crate::product::{Product, batch, cut, seen_by_watermark};
use crate::random::{Case, REGRESSIONS, Rng, Shape};

const ROWS_MAX: usize = 1_500;
const ROWS_LONG: usize = 40_000;

/// A case with everything that a comparison needs.
pub struct Subject {
    pub case: Case,
    pub product: Product,
    /// Each tick's `seen` value.
    pub seen: Vec<i64>,
    pub rng: Rng,
}

impl Subject {
    pub fn new(shape: Shape, seed: u64, rows_max: usize) -> Self {
        let case = Case::new(shape, seed, rows_max);
        let product = Product::of(&case);
        let seen = seen_by_watermark(&case);
        Self { case, product, seen, rng: Rng::new(seed ^ 0xABCD) }
    }

    /// The named regressions, every shape with `seeds` seeds, and a few cases that are long
    /// enough for more than one block or segment of an engine.
    pub fn all(seeds: u64) -> impl Iterator<Item = Self> {
        let named = REGRESSIONS.iter().map(|(_, shape, seed)| (*shape, *seed, ROWS_MAX));
        let drawn = Shape::ALL
            .into_iter()
            .flat_map(move |shape| (0..seeds).map(move |seed| (shape, seed, ROWS_MAX)));
        let long =
            [Shape::OneWindow, Shape::Skewed, Shape::Bounds].map(|shape| (shape, 1_000, ROWS_LONG));
        named
            .chain(drawn)
            .chain(long)
            .map(|(shape, seed, rows_max)| Self::new(shape, seed, rows_max))
    }

    pub fn rows(&self) -> Vec<usize> {
        (0..self.case.ticks.len()).collect()
    }

    /// The rows as history stores them: by key, then canonically.
    pub fn sorted_rows(&self) -> Vec<usize> {
        let (mut rows, ticks) = (self.rows(), &self.case.ticks);
        rows.sort_by(|&a, &b| {
            let (a, b) = (&ticks[a], &ticks[b]);
            a.key.cmp(&b.key).then_with(|| oracle::canonical(a, b))
        });
        rows
    }

    pub fn batch(&mut self, rows: &[usize]) -> Ticks {
        batch(&self.case, &self.seen, rows, &mut self.rng)
    }

    pub fn cut(&mut self, rows: &[usize], batches_max: usize) -> Vec<Ticks> {
        let pieces = cut(rows, batches_max, &mut self.rng);
        pieces.iter().map(|piece| self.batch(piece)).collect()
    }

    pub fn expected(&self, truth: Truth) -> Vec<oracle::Window> {
        oracle::windows(&self.case.view, &self.case.ticks, truth)
    }

    /// Values and hash, or a message that says how to get here again.
    pub fn check(&self, truth: Truth, how: &str, expected: &[oracle::Window], windows: &Windows) {
        self.check_rows(&format!("{truth:?}, {how}"), expected, &windows.rows());
    }

    /// The same for rows in canonical order.
    pub fn check_rows(&self, how: &str, expected: &[oracle::Window], rows: &[WindowRow]) {
        let name = self.case.name();
        let got = self.product.plain(rows);
        if let Some(difference) = oracle::differences(&self.case.view, expected, &got) {
            panic!("{name}, {how}: {difference}{:#?}", self.case.view);
        }
        let hash = self.product.hash(rows);
        let wanted = canonical::hash(&self.case.keys, &self.case.view, expected);
        assert_eq!(hash, wanted, "{name}, {how}: equal values, another hash");
    }
}
