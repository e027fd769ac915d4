//! How long a client may take for what it has begun.

use std::time::{Duration, Instant};

/// The clock of a hello, or of the message in hand. It stands still while the service itself does
/// not read: then the client is not the slow one.
#[derive(Debug, Default)]
pub(super) struct Clock {
    running: Option<Running>,
    held_since: Option<Instant>,
}

#[derive(Debug)]
struct Running {
    first_byte: Instant,
    deadline: Instant,
}

impl Clock {
    /// One that runs.
    pub(super) fn started(now: Instant, patience: Duration) -> Self {
        let mut clock = Self::default();
        clock.start(now, patience);
        clock
    }

    /// Something begins now and may take so long; what ran before is forgotten.
    pub(super) fn start(&mut self, now: Instant, patience: Duration) {
        self.running = Some(Running { first_byte: now, deadline: now + patience });
        self.held_since = self.held_since.map(|_| now);
    }

    /// Nothing is waited for.
    pub(super) fn stop(&mut self) {
        self.running = None;
    }

    /// When what is in hand began.
    pub(super) fn first_byte(&self) -> Option<Instant> {
        self.running.as_ref().map(|running| running.first_byte)
    }

    /// Stands still from now on, or goes on with the time that was left.
    pub(super) fn hold(&mut self, is_held: bool, now: Instant) {
        match (is_held, self.held_since) {
            (true, None) => self.held_since = Some(now),
            (false, Some(since)) => {
                self.held_since = None;
                if let Some(running) = &mut self.running {
                    running.deadline += now.saturating_duration_since(since);
                }
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    /// When the time is over; `None` while it stands still or nothing is waited for.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.held_since {
            Some(_) => None,
            None => self.running.as_ref().map(|running| running.deadline),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Duration = Duration::from_secs(10);

    #[test]
    fn the_time_in_which_nothing_is_read_does_not_count() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut clock = Clock::started(start, TEN);
        assert_eq!((clock.deadline(), clock.first_byte()), (Some(at(10)), Some(start)));
        clock.hold(true, at(4));
        clock.hold(true, at(9));
        assert_eq!(clock.deadline(), None);
        clock.hold(false, at(100));
        clock.hold(false, at(105));
        assert_eq!((clock.deadline(), clock.first_byte()), (Some(at(106)), Some(start)));
        // What begins while nothing is read has all of its time left afterwards.
        clock.hold(true, at(110));
        clock.start(at(120), TEN);
        clock.hold(false, at(121));
        assert_eq!(clock.deadline(), Some(at(131)));
        clock.stop();
        clock.hold(true, at(140));
        clock.hold(false, at(150));
        assert_eq!((clock.deadline(), clock.first_byte()), (None, None));
    }
}
