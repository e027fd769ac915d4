//! How long this machine stands still by itself: what no program on it can be faster than.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Pauses from here on are counted: what a latency of some hundred microseconds would show.
const FROM: Duration = Duration::from_micros(500);

/// Pauses of threads that want to run all the time, one on each core.
///
/// On a virtual machine these are the moments in which its host runs something else, or provides
/// memory; on any machine those in which the kernel works for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stalls {
    cores: u32,
    watched: Duration,
    count: u32,
    /// Of all cores together.
    stood: Duration,
    longest: Duration,
}

impl Stalls {
    /// Watches every core that this process may use for so long.
    pub fn watch(span: Duration) -> Self {
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        let of_core = |core| {
            core_affinity::set_for_current(core);
            let end = Instant::now() + span;
            let readings = std::iter::repeat_with(Instant::now);
            Self::between(readings.take_while(|now| *now < end))
        };
        let each = std::thread::scope(|scope| {
            let threads: Vec<_> =
                cores.into_iter().map(|core| scope.spawn(move || of_core(core))).collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).collect::<Vec<_>>()
        });
        each.into_iter().fold(Self { watched: span, ..Self::default() }, |all, one| Self {
            cores: all.cores + one.cores,
            watched: span,
            count: all.count + one.count,
            stood: all.stood + one.stood,
            longest: all.longest.max(one.longest),
        })
    }

    /// What one core's readings of the clock, one right after another, show.
    fn between(mut readings: impl Iterator<Item = Instant>) -> Self {
        let mut stalls = Self { cores: 1, ..Self::default() };
        let Some(mut before) = readings.next() else { return stalls };
        for now in readings {
            let pause = now - before;
            if pause >= FROM {
                stalls.count += 1;
                stalls.stood += pause;
                stalls.longest = stalls.longest.max(pause);
            }
            before = now;
        }
        stalls
    }

    /// The share of a core's time.
    fn share(&self) -> f64 {
        self.stood.as_secs_f64() / (self.watched.as_secs_f64() * f64::from(self.cores)).max(1e-9)
    }

    /// One line for whoever reads latencies below it.
    pub fn describe(&self) -> String {
        if self.count == 0 {
            return format!("no core stood still for {FROM:?} within {:.1?}", self.watched);
        }
        format!(
            "a core stands still for {:.2} % of the time by itself, in pauses above {FROM:?}: {:.0} \
             a second, the longest {:.1?} ({} cores watched for {:.1?} with nothing to do)",
            self.share() * 100.0,
            f64::from(self.count) / (self.watched.as_secs_f64() * f64::from(self.cores)).max(1e-9),
            self.longest,
            self.cores,
            self.watched,
        )
    }

    pub fn to_json(&self) -> Value {
        json!({
            "cores": self.cores,
            "watched_s": self.watched.as_secs_f64(),
            "count": self.count,
            "share": self.share(),
            "longest_ns": self.longest.as_nanos() as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pauses_that_a_latency_would_show_are_counted() {
        let start = Instant::now();
        let readings = [0, 100, 700, 1_199, 4_199, 4_200].map(Duration::from_micros);
        let stalls = Stalls::between(readings.iter().map(|after| start + *after));
        let ms = |micros| Duration::from_micros(micros);
        let expected = Stalls {
            cores: 1,
            count: 2,
            stood: ms(3_600),
            longest: ms(3_000),
            ..Stalls::default()
        };
        assert_eq!(stalls, expected);
        let watched = Stalls { watched: Duration::from_millis(360), ..stalls };
        assert!((watched.share() - 0.01).abs() < 1e-9);
    }

    #[test]
    fn every_core_is_watched() {
        let stalls = Stalls::watch(Duration::from_millis(20));
        let cores = core_affinity::get_core_ids().unwrap_or_default().len();
        assert_eq!(stalls.cores as usize, cores);
        assert!(stalls.share() <= 1.0, "{stalls:?}");
    }
}
