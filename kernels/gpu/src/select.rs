//! Which variant reduces a batch: the only place that decides.

use std::collections::BTreeMap;

use crate::adapters::AdapterInfo;
use crate::variant::{Shape, Variant};

/// The lengths of run that variants are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RunClass {
    /// Up to 32 rows.
    Short,
    /// 33 to 1,024 rows.
    Medium,
    /// More.
    Long,
}

impl RunClass {
    /// Every class, shortest first.
    pub const ALL: [Self; 3] = [Self::Short, Self::Medium, Self::Long];

    /// The class of a run of this many rows.
    pub const fn of(rows: u32) -> Self {
        match rows {
            0..=32 => Self::Short,
            33..=1024 => Self::Medium,
            _ => Self::Long,
        }
    }
}

/// What is known of the variants on an adapter, and the choice that follows.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// Predicted cost of each variant that may be chosen, nanoseconds per row, by class; `None`
    /// where it is not known, and the variant then not chosen.
    pub ns_per_row: BTreeMap<Variant, [Option<f64>; 3]>,
    /// The variant that is used whatever the cost.
    pub forced: Option<Variant>,
    /// What bringing rows in any order into runs adds on the device, nanoseconds per row; `None`
    /// where it was not measured.
    pub partition_ns_per_row: Option<f64>,
}

impl Selection {
    /// What is assumed of an adapter that was not measured: hardware reduces all but short runs by
    /// workgroups, because an invocation per segment reads with a stride; software has nothing to
    /// gain from that.
    pub fn of_kind(adapter: &AdapterInfo) -> Self {
        let group = Variant { shape: Shape::Workgroup, ..Variant::BASE };
        let mut ns_per_row = BTreeMap::from([(Variant::BASE, [Some(1.0); 3])]);
        if !adapter.is_software() && group.lacking(adapter).is_none() {
            ns_per_row.insert(group, [2.0, 0.5, 0.5].map(Some));
        }
        Self { ns_per_row, forced: None, partition_ns_per_row: None }
    }

    /// The variant of least predicted cost over the rows of these runs, the first in the order of
    /// variants where several are. Results do not depend on it. Given are the runs' lengths.
    pub fn choose(&self, lengths: impl IntoIterator<Item = u32>) -> Variant {
        let mut rows = [0_u64; 3];
        for len in lengths {
            rows[RunClass::of(len) as usize] += u64::from(len);
        }
        self.cheapest(rows.map(|rows| rows as f64))
    }

    /// The variant for runs of one class.
    pub fn of_class(&self, class: RunClass) -> Variant {
        let mut rows = [0.0; 3];
        rows[class as usize] = 1.0;
        self.cheapest(rows)
    }

    /// The variants that batches of one class get: what is worth warming up.
    pub fn chosen(&self) -> Vec<Variant> {
        let mut chosen = RunClass::ALL.map(|class| self.of_class(class)).to_vec();
        chosen.sort_unstable();
        chosen.dedup();
        chosen
    }

    /// The least cost known for runs of a class.
    pub(crate) fn best(&self, class: RunClass) -> Option<f64> {
        let costs = self.ns_per_row.values().filter_map(|ns| ns[class as usize]);
        costs.min_by(f64::total_cmp)
    }

    fn cheapest(&self, rows: [f64; 3]) -> Variant {
        let cost = |ns: &[Option<f64>; 3]| {
            // Classes without rows cost nothing, known or not.
            let classes = ns.iter().zip(rows).filter(|(_, rows)| *rows > 0.0);
            classes.map(|(ns, rows)| ns.map_or(f64::INFINITY, |ns| ns * rows)).sum::<f64>()
        };
        let least = self.ns_per_row.iter().min_by(|(_, a), (_, b)| cost(a).total_cmp(&cost(b)));
        self.forced.or(least.map(|(variant, _)| *variant)).unwrap_or(Variant::BASE)
    }
}

#[cfg(test)]
#[path = "tests/select.rs"]
mod tests;
