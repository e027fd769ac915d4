//! The watermark: how far event time has come, as a function of the log alone.

use std::collections::BTreeMap;

use crate::PublisherId;

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

    /// The greatest `ts_event` of a publisher, active or not; `None` before its first tick.
    pub fn greatest(&self, publisher: &PublisherId) -> Option<i64> {
        self.active.get(publisher).or_else(|| self.idle.get(publisher)).copied().flatten()
    }

    /// W where it was, before publishers are [put back](Self::restore).
    pub fn at(w: Option<i64>) -> Self {
        Self { w, ..Self::default() }
    }

    /// Puts a publisher back as it was: active or not, with its greatest `ts_event`. W stays.
    pub fn restore(&mut self, publisher: PublisherId, is_active: bool, greatest: Option<i64>) {
        let publishers = if is_active { &mut self.active } else { &mut self.idle };
        publishers.insert(publisher, greatest);
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

    /// A run of ticks of one publisher, in log order. Calls `late` for each that is behind W at
    /// its arrival, with its place in the run and that W. A publisher that was not active joins by
    /// this.
    pub fn observe(
        &mut self,
        publisher: &PublisherId,
        ts_event: &[i64],
        mut late: impl FnMut(usize, i64),
    ) {
        self.join(publisher);
        let others = self.least_except(publisher);
        let slot = self.active.get_mut(publisher).expect("the publisher joined above");
        if ts_event.is_empty() {
            return;
        }
        // No tick is behind the least time, so that it can stand for no W and no greatest time.
        let mut w = self.w.unwrap_or(i64::MIN);
        let mut greatest = slot.unwrap_or(i64::MIN);
        let limit = match others {
            Least::NoOther => i64::MAX,
            Least::At(others) => others,
            Least::Silent => w,
        };
        for (row, &ts) in ts_event.iter().enumerate() {
            if ts < w {
                late(row, w);
            }
            greatest = greatest.max(ts);
            w = w.max(greatest.min(limit));
        }
        *slot = Some(greatest);
        if !matches!(others, Least::Silent) {
            self.w = Some(w);
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
    use crate::ticks::ON_TIME;

    fn publisher(name: &str) -> PublisherId {
        PublisherId::new(name).unwrap()
    }

    fn observe(w: &mut Watermark, name: &str, ts: &[i64]) -> Vec<i64> {
        let mut seen = vec![ON_TIME; ts.len()];
        w.observe(&publisher(name), ts, |row, at| seen[row] = at);
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

    /// Tick by tick as it is defined, with extremes and publishers coming and going.
    #[test]
    fn a_run_is_its_ticks_one_by_one() {
        let names = ["a", "b", "c"];
        let mut number = 7_u64;
        let mut next = |below: u64| {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (number >> 33) % below
        };
        for _ in 0..300 {
            let mut w = Watermark::default();
            let mut plain: BTreeMap<&str, (bool, Option<i64>)> = BTreeMap::new();
            let mut plain_w: Option<i64> = None;
            for _ in 0..next(12) {
                let name = names[next(3) as usize];
                match next(4) {
                    0 => {
                        w.join(&publisher(name));
                        plain.entry(name).or_default().0 = true;
                    }
                    1 => {
                        w.idle(&publisher(name));
                        if plain.get(name).is_some_and(|known| known.0) {
                            plain.entry(name).or_default().0 = false;
                            let active = plain.values().filter(|known| known.0);
                            plain_w = plain_w.max(active.map(|known| known.1).min().flatten());
                        }
                    }
                    _ => {
                        let time = |draw: u64| match draw {
                            0 => i64::MIN,
                            1 => i64::MAX,
                            draw => draw as i64,
                        };
                        let ts: Vec<i64> = (0..next(6)).map(|_| time(next(30))).collect();
                        let found = observe(&mut w, name, &ts);
                        let mut expected = Vec::new();
                        plain.entry(name).or_default().0 = true;
                        for ts in ts {
                            let late = plain_w.filter(|&w| ts < w);
                            expected.push(late.unwrap_or(ON_TIME));
                            let known = plain.entry(name).or_default();
                            known.1 = known.1.max(Some(ts));
                            let active = plain.values().filter(|known| known.0);
                            plain_w = plain_w.max(active.map(|known| known.1).min().flatten());
                        }
                        assert_eq!(found, expected);
                    }
                }
                assert_eq!(w.get(), plain_w);
            }
        }
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
