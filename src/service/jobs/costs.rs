//! What reading rows and reducing them by each view has taken of a core, and how parts are cut by
//! that.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::record::{Asked, Engine};

/// What a dispatch is predicted to take at most, where it can be cut: whoever comes waits for one
/// to end.
pub const DISPATCH_NS: u64 = 10_000_000;
/// The same, of one job that reads several row groups by one: others may come along.
const GROUPED_NS: u64 = DISPATCH_NS / 4;
/// What a row is taken to need before anything was measured: to be read, and per view.
const READING_NS: f64 = 5.0;
const VIEW_NS: f64 = 15.0;
/// Row groups that are read by one dispatch, at most.
const GROUPED_MAX: usize = 4;
/// Rows after which what was learned before counts half.
const HALVED_AFTER: f64 = (1 << 20) as f64;
/// Fewer rows than these tell more of what every part needs than of what a row does.
const ROWS_MIN: u64 = 1 << 13;
/// Views of which it is kept, at most.
const VIEWS_MAX: usize = 4_096;

/// What was measured so far.
#[derive(Debug, Default)]
pub struct Learned {
    reading_ns: Option<f64>,
    /// By definition and engine.
    views: BTreeMap<(String, Engine), f64>,
}

/// What a row of a job takes, nanoseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Costs {
    pub reading_ns: f64,
    pub views_ns: Vec<f64>,
}

/// How a job is cut into parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// Row groups that are read together, at most.
    pub grouped: usize,
    /// Where each run of views ends that are reduced together: each row group is read for each.
    pub ends: Vec<usize>,
}

impl Learned {
    /// What the rows of a job are predicted to take.
    pub fn of(&self, asked: &Asked) -> Costs {
        let view_ns = |definition: &String| {
            let known = self.views.get(&(definition.clone(), asked.engine));
            known.copied().unwrap_or(VIEW_NS)
        };
        Costs {
            reading_ns: self.reading_ns(),
            views_ns: asked.views.iter().map(|view| view_ns(&view.definition)).collect(),
        }
    }

    /// What reading a row takes, nanoseconds.
    pub fn reading_ns(&self) -> f64 {
        self.reading_ns.unwrap_or(READING_NS)
    }

    /// So many rows were read in so long.
    pub fn note_reading(&mut self, rows: u64, ns: u64) {
        if rows >= ROWS_MIN {
            self.reading_ns = Some(nearer(self.reading_ns, rows, ns));
        }
    }

    /// So many rows were reduced by a view of a job in so long.
    pub fn note_view(&mut self, asked: &Asked, view: usize, rows: u64, ns: u64) {
        let key = (asked.views[view].definition.clone(), asked.engine);
        if rows >= ROWS_MIN && (self.views.contains_key(&key) || self.views.len() < VIEWS_MAX) {
            let before = self.views.get(&key).copied();
            self.views.insert(key, nearer(before, rows, ns));
        }
    }
}

/// How long this thread has run on a core, nanoseconds; `None` where the system does not say.
pub fn thread_cpu_ns() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok()
}

fn nearer(before: Option<f64>, rows: u64, ns: u64) -> f64 {
    let measured = ns as f64 / rows as f64;
    let weight = rows as f64 / (rows as f64 + HALVED_AFTER);
    before.map_or(measured, |before| before + (measured - before) * weight)
}

impl Costs {
    /// What so many rows are predicted to take, read once, with these views.
    pub fn predict_ns(&self, rows: u64, views: &Range<usize>) -> u64 {
        let of_views: f64 = self.views_ns[views.clone()].iter().sum();
        (rows as f64 * (self.reading_ns + of_views)) as u64
    }

    /// How to cut a job over row groups of so many rows at most: into runs of views that take about
    /// alike, each as long as a dispatch may be, or of one view.
    pub fn cut(&self, group_rows: u64) -> Cut {
        let views = self.views_ns.len();
        let rows = group_rows.max(1) as f64;
        let whole_ns = self.predict_ns(group_rows, &(0..views)).max(1);
        if whole_ns <= DISPATCH_NS || views == 0 {
            let grouped = (GROUPED_NS / whole_ns).clamp(1, GROUPED_MAX as u64) as usize;
            return Cut { grouped, ends: vec![views] };
        }
        let of_views: f64 = self.views_ns.iter().sum();
        // Reading is paid for by each run. Where it leaves nothing, one view each has to do.
        let left_ns = DISPATCH_NS as f64 / rows - self.reading_ns;
        let runs = (of_views / left_ns.max(1e-9)).ceil().clamp(1.0, views as f64);
        let (mut ends, mut sum) = (Vec::new(), 0.0);
        for (end, ns) in (1..).zip(&self.views_ns) {
            sum += ns;
            if sum >= of_views / runs * (1.0 - 1e-6) && end < views {
                ends.push(end);
                sum = 0.0;
            }
        }
        ends.push(views);
        Cut { grouped: 1, ends }
    }
}

impl Cut {
    /// How jobs were cut that do not say so.
    pub fn of_old(views: usize) -> Self {
        Self { grouped: (GROUPED_MAX / views.max(1)).max(1), ends: vec![views] }
    }

    /// The runs of views.
    pub fn runs(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| start..end)
    }

    /// Whether it is one for so many views.
    pub fn is_of(&self, views: usize) -> bool {
        self.grouped > 0
            && self.ends.last() == Some(&views)
            && (views == 0 || self.runs().all(|run| run.start < run.end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(reading_ns: f64, views_ns: Vec<f64>) -> Cut {
        let costs = Costs { reading_ns, views_ns };
        let cut = costs.cut(131_072);
        assert!(cut.is_of(costs.views_ns.len()), "{cut:?}");
        for run in cut.runs().filter(|run| run.len() > 1) {
            let ns = costs.predict_ns(131_072, &run);
            // Views are not divided: a run may be longer by one of them.
            let one = costs.views_ns.iter().copied().fold(0.0, f64::max) * 131_072.0;
            assert!(ns as f64 <= DISPATCH_NS as f64 + one, "{run:?} takes {ns} ns");
        }
        cut
    }

    #[test]
    fn light_jobs_read_several_row_groups_and_heavy_ones_some_views_at_a_time() {
        assert_eq!(cut(1.0, vec![2.0]), Cut { grouped: 4, ends: vec![1] });
        assert_eq!(cut(1.0, vec![5.0]), Cut { grouped: 3, ends: vec![1] });
        assert_eq!(cut(5.0, vec![30.0]), Cut { grouped: 1, ends: vec![1] });
        assert_eq!(cut(5.0, vec![5.0; 10]), Cut { grouped: 1, ends: vec![10] });
        assert_eq!(cut(4.0, vec![5.0; 30]), Cut { grouped: 1, ends: vec![10, 20, 30] });
        assert_eq!(cut(4.0, vec![200.0; 3]), Cut { grouped: 1, ends: vec![1, 2, 3] });
        assert_eq!(cut(200.0, vec![1.0; 3]), Cut { grouped: 1, ends: vec![1, 2, 3] });
        assert_eq!(cut(4.0, vec![200.0, 1.0, 1.0]).ends, [1, 3]);
        assert_eq!(cut(4.0, Vec::new()).runs().count(), 1);
        for views in 1..40 {
            cut(1.0, (0..views).map(|view| f64::from(view * 7 % 50)).collect());
        }
    }

    #[test]
    fn what_is_measured_is_learned_and_few_rows_are_not() {
        let mut learned = Learned::default();
        learned.note_reading(100, 100_000);
        assert_eq!(learned.reading_ns, None);
        learned.note_reading(1 << 20, 5 << 20);
        learned.note_reading(1 << 20, 3 << 20);
        assert_eq!(learned.reading_ns, Some(4.0));
    }
}
