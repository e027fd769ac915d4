//! The watermark: how far event time has come, as a function of the log alone.

use std::collections::BTreeMap;

use crate::PublisherId;
use crate::ticks::ON_TIME;

/// W of one stream: the least, over active publishers, of their greatest `ts_event`; never moving
/// back. A publisher that joined and has sent nothing yet holds W where it is. One that left or
/// went idle no longer counts; with no active publisher W stays.
///
/// Sans-IO: call [`join`](Self::join), [`observe`](Self::observe) and [`idle`](Self::idle) in log
/// order, tick by tick.
#[derive(Clone, Debug, Default)]
pub struct Watermark {
    /// Active publishers and their greatest `ts_event`, `None` before the first tick.
    active: BTreeMap<PublisherId, Option<i64>>,
    /// The greatest `ts_event` of publishers that are idle now, for when they come back.
    idle: BTreeMap<PublisherId, Option<i64>>,
    w: Option<i64>,
}

impl Watermark {
    /// W, `None` before every active publisher has sent.
    pub fn get(&self) -> Option<i64> {
        self.w
    }

    /// The active publishers.
    pub fn active(&self) -> impl Iterator<Item = &PublisherId> {
        self.active.keys()
    }

    /// A publisher becomes active, or is active again.
    pub fn join(&mut self, publisher: &PublisherId) {
        if !self.active.contains_key(publisher) {
            let greatest = self.idle.remove(publisher).flatten();
            self.active.insert(publisher.clone(), greatest);
        }
    }

    /// A publisher leaves, finishes or goes idle: it holds W no longer.
    pub fn idle(&mut self, publisher: &PublisherId) {
        if let Some(greatest) = self.active.remove(publisher) {
            self.idle.insert(publisher.clone(), greatest);
            self.advance();
        }
    }

    /// A run of ticks of one publisher, in log order. Calls `seen` for each with how it met the
    /// watermark: [`ON_TIME`], or W at its arrival when it is late. A publisher that was not
    /// active joins by this.
    pub fn observe(
        &mut self,
        publisher: &PublisherId,
        ts_event: &[i64],
        mut seen: impl FnMut(i64),
    ) {
        self.join(publisher);
        let others = self.least_except(publisher);
        let slot = self.active.get_mut(publisher).expect("the publisher joined above");
        for &ts in ts_event {
            seen(match self.w {
                Some(w) if ts < w => w,
                _ => ON_TIME,
            });
            let greatest = slot.map_or(ts, |greatest| greatest.max(ts));
            *slot = Some(greatest);
            let least = match others {
                Least::NoOther => Some(greatest),
                Least::Silent => None,
                Least::At(others) => Some(others.min(greatest)),
            };
            self.w = self.w.max(least);
        }
    }

    fn advance(&mut self) {
        let least = self.active.values().copied().min().flatten();
        self.w = self.w.max(least);
    }

    fn least_except(&self, publisher: &PublisherId) -> Least {
        let others = self.active.iter().filter(|(other, _)| *other != publisher);
        match others.map(|(_, greatest)| *greatest).min() {
            None => Least::NoOther,
            Some(None) => Least::Silent,
            Some(Some(least)) => Least::At(least),
        }
    }
}

/// The least greatest `ts_event` of the other active publishers.
#[derive(Clone, Copy)]
enum Least {
    NoOther,
    Silent,
    At(i64),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publisher(name: &str) -> PublisherId {
        PublisherId::new(name).unwrap()
    }

    fn observe(w: &mut Watermark, name: &str, ts: &[i64]) -> Vec<i64> {
        let mut seen = Vec::new();
        w.observe(&publisher(name), ts, |s| seen.push(s));
        seen
    }

    #[test]
    fn follows_the_slowest_active_publisher_and_never_moves_back() {
        let mut w = Watermark::default();
        assert_eq!(observe(&mut w, "a", &[5, 9, 7]), [ON_TIME, ON_TIME, 9]);
        w.join(&publisher("b"));
        assert_eq!(observe(&mut w, "a", &[20]), [ON_TIME]);
        assert_eq!(w.get(), Some(9), "b has sent nothing and holds W");
        assert_eq!(observe(&mut w, "b", &[3, 12]), [9, ON_TIME]);
        assert_eq!(w.get(), Some(12));
        w.idle(&publisher("b"));
        assert_eq!(w.get(), Some(20));
        w.idle(&publisher("a"));
        assert_eq!(w.get(), Some(20), "finishing does not push W to infinity");
        assert_eq!(observe(&mut w, "b", &[13]), [20]);
        assert_eq!(w.get(), Some(20));
    }

    #[test]
    fn cuts_do_not_matter() {
        let ts: Vec<i64> = (0..200).map(|i| i * 7919 % 211 - 100).collect();
        let whole = observe(&mut Watermark::default(), "a", &ts);
        for cut in [1, 2, 7, 199] {
            let mut w = Watermark::default();
            let pieces: Vec<_> = ts.chunks(cut).flat_map(|c| observe(&mut w, "a", c)).collect();
            assert_eq!(pieces, whole);
        }
    }
}
