//! What a seed decides: the machine, who submits what, and how all of it goes wrong.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::lanes::{JobSpec, LanesConfig, LiveLoad, OverloadConfig, PartCost, Priority};

/// A small generator with a fixed stream per seed (SplitMix64).
#[derive(Debug)]
pub(super) struct Random(pub u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// From `least` to `most`.
    pub(super) fn within(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    /// So many times in a thousand.
    pub(super) fn happens(&mut self, permille: u64) -> bool {
        self.below(1_000) < permille
    }

    pub(super) fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

pub(super) const OWNERS: [&str; 4] = ["ann", "bob", "eve", "joe"];

/// How predictions and truth differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Misprediction {
    None,
    /// By a factor from 0.1 to 10.
    Any,
    /// By a factor of the owner's own.
    ByOwner([u64; 4]),
}

/// What does not change while a seed runs.
#[derive(Debug)]
pub(super) struct World {
    pub config: LanesConfig,
    pub device_bytes_max: u64,
    pub device_wait_ns_max: u64,
    owners: u64,
    misprediction: Misprediction,
    part_ns_max: u64,
    part_bytes_max: u64,
    held_bytes_max: u64,
    parts_max: u64,
    sources: u64,
    levels: u64,
    pub failing_permille: u64,
    /// Between submissions, cancellations and so on, on average; `None` for never.
    pub submit_gap_ns: u64,
    pub flood: u64,
    pub cancel_gap_ns: Option<u64>,
    pub restart_gap_ns: Option<u64>,
    pub held_gap_ns: Option<u64>,
    pub load_gap_ns: Option<u64>,
    pub live_gap_ns: Option<u64>,
    pub lose_gap_ns: Option<u64>,
    /// Of dispatches, those that use the device.
    pub device_permille: u64,
    pub is_silent: bool,
    /// No submissions from then on.
    pub until_ns: u64,
}

impl World {
    pub(super) fn new(random: &mut Random) -> Self {
        // Shares and turns matter where there is always more to do, and little else happens.
        let is_saturated = random.happens(350);
        let part_ns_max = random.of(&[1_000, 20_000, 20_000]);
        let slots = random.within(1, 6);
        let part_bytes_max = if is_saturated { 5 } else { random.of(&[5, 20, 20, 600]) };
        let misprediction = match random.below(4) {
            0 if !is_saturated => Misprediction::Any,
            0 | 1 => Misprediction::ByOwner([(); 4].map(|()| random.of(&[100, 300, 1_000, 4_000]))),
            _ => Misprediction::None,
        };
        let weights: BTreeMap<Arc<str>, u32> = match random.below(3) {
            0 => [(Arc::from("ann"), 3), (Arc::from("bob"), 2)].into(),
            _ => BTreeMap::new(),
        };
        let overload = OverloadConfig {
            high: LiveLoad { lag_ns: 1_000, queue_permille: 500 },
            low: LiveLoad { lag_ns: 100, queue_permille: 100 },
            up_after_ns: random.within(1, 5_000),
            down_after_ns: random.within(1, 20_000),
            report_ns_max: random.within(1_000, 50_000),
        };
        let config = LanesConfig {
            slots: slots as usize,
            host_bytes_max: 1_000,
            jobs_running_max: random.of(if is_saturated { &[5, 12] } else { &[1, 2, 5, 12] }),
            queue_max: random.of(&[2, 10, 40]),
            attempts_max: random.within(1, 4) as u32,
            backoff_ns: random.within(0, 5_000),
            backoff_ns_max: random.within(5_000, 30_000),
            credit_ns: random.within(0, 2) * part_ns_max,
            ageing_ns: random.within(1, 4) * 5 * part_ns_max,
            shared_max: random.of(&[1, 2, 4]),
            dispatch_ns_max: random.of(&[1, 4, u64::MAX / part_ns_max]) * part_ns_max,
            passes_max: random.within(0, 6) as u32,
            weights,
            overload,
        };
        // What the workers do in the time of one submission is about what it brings.
        let parts_max = random.of(&[3, 12, 12, 40]);
        let work_ns = part_ns_max * parts_max / 4 / slots;
        let load = random.of(if is_saturated { &[2, 3] } else { &[5, 10, 20] });
        let submit_gap_ns = (work_ns * load / 10).max(1);
        let mut gap = |permille: u64, times| {
            let gap_ns = submit_gap_ns * times;
            random.happens(if is_saturated { permille / 5 } else { permille }).then_some(gap_ns)
        };
        let cancel_gap_ns = gap(600, 4);
        let restart_gap_ns = gap(300, 12);
        let held_gap_ns = gap(250, 4);
        let load_gap_ns = gap(400, 3);
        let live_gap_ns = gap(500, 1);
        let lose_gap_ns = gap(300, 10);
        Self {
            config,
            device_bytes_max: random.of(&[0, 1_000, 1_000]),
            device_wait_ns_max: random.of(&[200, 1_000]),
            owners: random.within(1, 4),
            misprediction,
            part_ns_max,
            part_bytes_max,
            held_bytes_max: random.of(if is_saturated { &[0, 50] } else { &[0, 50, 300, 900] }),
            parts_max,
            sources: random.of(&[10, 1 << 40]),
            levels: random.of(&[1, 2, 10]),
            failing_permille: random.of(&[0, 50, 200]),
            submit_gap_ns,
            flood: random.of(&[1, 1, 5, 30]),
            cancel_gap_ns,
            restart_gap_ns,
            held_gap_ns,
            load_gap_ns,
            live_gap_ns,
            lose_gap_ns,
            device_permille: random.of(&[0, 300, 900]),
            is_silent: random.happens(200),
            until_ns: submit_gap_ns * random.of(if is_saturated { &[60] } else { &[10, 30, 60] }),
        }
    }

    /// A job of anybody.
    pub(super) fn job(&self, random: &mut Random) -> JobSpec {
        let owner = OWNERS[random.below(self.owners) as usize];
        let level = 9 - random.below(self.levels) as u8;
        let count = random.within(1, self.parts_max);
        let part = |random: &mut Random| PartCost {
            predicted_ns: random.within(self.part_ns_max / 10, self.part_ns_max),
            host_bytes: random.within(0, self.part_bytes_max),
            source: random.below(self.sources),
        };
        let finished = match random.below(10) {
            0 => (0..random.within(0, count + 1)).map(|_| random.below(count + 2) as u32).collect(),
            _ => Vec::new(),
        };
        let closing = random.happens(400).then(|| part(random));
        JobSpec {
            closing,
            owner: Arc::from(owner),
            priority: Priority::new(level).expect("levels are 0 to 9"),
            held_bytes: random.within(0, self.held_bytes_max),
            parts: (0..count).map(|_| part(random)).collect(),
            parts_finished: finished,
        }
    }

    /// What something takes that was predicted to take so long.
    pub(super) fn actual_ns(&self, random: &mut Random, owner: &str, predicted_ns: u64) -> u64 {
        let permille = match self.misprediction {
            Misprediction::None => 1_000,
            Misprediction::Any => random.of(&[100, 500, 1_000, 2_000, 10_000]),
            Misprediction::ByOwner(of) => {
                let place = OWNERS.iter().position(|known| *known == owner);
                place.map_or(1_000, |place| of[place])
            }
        };
        (predicted_ns * permille / 1_000).max(1)
    }

    /// A time around the average.
    pub(super) fn around(&self, random: &mut Random, gap_ns: u64) -> u64 {
        random.within(1, 2 * gap_ns)
    }

    /// The ratio of the greatest weight to the least.
    pub(super) fn weights_ratio(&self) -> u64 {
        self.config.weights.values().max().map_or(1, |weight| u64::from(*weight))
    }

    pub(super) fn weight(&self, owner: &str) -> u64 {
        self.config.weights.get(owner).map_or(1, |weight| u64::from(*weight))
    }

    pub(super) fn owners(&self) -> &'static [&'static str] {
        &OWNERS[..self.owners as usize]
    }
}
