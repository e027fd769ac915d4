//! The bounded way from the ingest threads to the service.
//!
//! Rows in memory are charged to one [`Budget`] from the moment they are decoded until the
//! service lets their [`Permit`] go. When it is spent, ingest threads keep the frame in hand, read
//! nothing more from that stream, and QUIC's flow control stops the publisher.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::edge::Mailbox;
use crate::input::Input;

/// The least that a frame is charged, so that a budget bounds the number of frames too.
const FRAME_BYTES_MIN: usize = 2 << 10;

/// Opens the way: rows of at most `bytes_max` are in memory at a time, or one frame of any size.
pub fn intake(bytes_max: usize) -> (Intake, Inputs) {
    let budget = Arc::new(Budget {
        bytes_max,
        held: AtomicUsize::new(0),
        is_waited_for: AtomicBool::new(false),
        waiting: Mutex::default(),
    });
    let queue = Arc::<Queue>::default();
    (Intake { queue: queue.clone(), budget }, Inputs { queue })
}

/// The ingest threads' end.
#[derive(Clone, Debug)]
pub struct Intake {
    queue: Arc<Queue>,
    budget: Arc<Budget>,
}

/// The service's end: one consumer. Dropping it ends every session.
#[derive(Debug)]
pub struct Inputs {
    queue: Arc<Queue>,
}

/// Wakes the consumer without an input.
#[derive(Clone, Debug)]
pub struct Notifier(Arc<Queue>);

/// Rows in memory. Dropping it gives their bytes back.
#[derive(Debug)]
pub struct Permit {
    budget: Arc<Budget>,
    bytes: usize,
}

#[derive(Debug)]
struct Budget {
    bytes_max: usize,
    held: AtomicUsize,
    is_waited_for: AtomicBool,
    waiting: Mutex<Vec<Arc<Mailbox>>>,
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    ready: Condvar,
}

#[derive(Debug, Default)]
struct State {
    inputs: Vec<Input>,
    is_notified: bool,
    /// The consumer is gone.
    is_closed: bool,
    /// The edge is gone.
    is_ended: bool,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Intake {
    /// Hands an input over; false when the service is gone. Never waits: what a frame takes is
    /// bounded by its permit, other inputs by the number of sessions.
    pub(crate) fn push(&self, input: Input) -> bool {
        let mut state = self.queue.state();
        if state.is_closed {
            // Its reply takes other locks.
            drop(state);
            return false;
        }
        state.inputs.push(input);
        let first = state.inputs.len() == 1;
        drop(state);
        if first {
            self.queue.ready.notify_one();
        }
        true
    }

    /// Charges rows that are about to be handed over. When there is no room, the mailbox's thread
    /// is woken once there is some.
    pub(crate) fn reserve(&self, bytes: usize, mailbox: &Arc<Mailbox>) -> Option<Permit> {
        let bytes = bytes.max(FRAME_BYTES_MIN);
        let budget = &self.budget;
        if !budget.charge(bytes) {
            let mut waiting = budget.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if !waiting.iter().any(|known| Arc::ptr_eq(known, mailbox)) {
                waiting.push(mailbox.clone());
            }
            budget.is_waited_for.store(true, Ordering::SeqCst);
            drop(waiting);
            // What was given back meanwhile woke nobody.
            if !budget.charge(bytes) {
                return None;
            }
        }
        Some(Permit { budget: budget.clone(), bytes })
    }

    /// Bytes of rows in memory now.
    pub fn held_bytes(&self) -> usize {
        self.budget.held.load(Ordering::Relaxed)
    }

    /// No input will come any more.
    pub(crate) fn end(&self) {
        self.queue.state().is_ended = true;
        self.queue.ready.notify_one();
    }
}

impl Inputs {
    /// Waits until something came, somebody notified, or the time is over; then appends everything
    /// that came, in order. False when nothing will come any more.
    pub fn take(&mut self, into: &mut Vec<Input>, timeout: Duration) -> bool {
        let state = self.queue.state();
        let idle =
            |state: &mut State| state.inputs.is_empty() && !state.is_notified && !state.is_ended;
        let waited = self.queue.ready.wait_timeout_while(state, timeout, idle);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.is_notified = false;
        let open = !state.is_ended || !state.inputs.is_empty();
        if into.is_empty() {
            std::mem::swap(into, &mut state.inputs);
        } else {
            into.append(&mut state.inputs);
        }
        open
    }

    /// Lets others wake [`take`](Self::take).
    pub fn notifier(&self) -> Notifier {
        Notifier(self.queue.clone())
    }
}

impl Drop for Inputs {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        state.is_closed = true;
        let unheard = std::mem::take(&mut state.inputs);
        // Their replies tell the sessions that nobody listens, which takes other locks.
        drop(state);
        drop(unheard);
    }
}

impl Notifier {
    /// Wakes the consumer.
    pub fn notify(&self) {
        self.0.state().is_notified = true;
        self.0.ready.notify_one();
    }
}

impl Budget {
    fn charge(&self, bytes: usize) -> bool {
        let charged = self.held.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |held| {
            (held == 0 || held + bytes <= self.bytes_max).then(|| held + bytes)
        });
        charged.is_ok()
    }
}

impl Permit {
    /// A permit of a budget of its own, for tests of what comes after the edge.
    pub fn unbounded() -> Self {
        let (intake, _) = intake(usize::MAX);
        intake.budget.charge(FRAME_BYTES_MIN);
        Self { budget: intake.budget, bytes: FRAME_BYTES_MIN }
    }

    /// Another one of the same budget, for the same tests.
    pub fn unbounded_beside(&self) -> Self {
        self.budget.charge(FRAME_BYTES_MIN);
        Self { budget: self.budget.clone(), bytes: FRAME_BYTES_MIN }
    }

    /// One permit for the rows of both.
    ///
    /// # Panics
    ///
    /// When they are of different budgets.
    pub fn join(&mut self, mut other: Self) {
        assert!(Arc::ptr_eq(&self.budget, &other.budget), "the permits are of one budget");
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let budget = &self.budget;
        let held = budget.held.fetch_sub(self.bytes, Ordering::SeqCst) - self.bytes;
        // Not for every frame: a thread that is woken should find work for a while.
        let roomy = held <= budget.bytes_max / 4 * 3;
        if roomy && budget.is_waited_for.swap(false, Ordering::SeqCst) {
            let mut waiting = budget.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.drain(..).for_each(|mailbox| mailbox.post_room());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::mailbox;

    #[test]
    fn the_budget_bounds_what_is_in_memory_and_wakes_who_waits() {
        let (intake, _inputs) = intake(10 * FRAME_BYTES_MIN);
        let (mailbox, _wake) = mailbox().unwrap();
        let first = intake.reserve(8 * FRAME_BYTES_MIN, &mailbox).unwrap();
        let second = intake.reserve(1, &mailbox).unwrap();
        assert!(intake.reserve(2 * FRAME_BYTES_MIN, &mailbox).is_none());
        assert!(!mailbox.take().room);
        drop(second);
        assert!(!mailbox.take().room, "still nearly full");
        drop(first);
        assert!(mailbox.take().room);
        assert_eq!(intake.held_bytes(), 0);
        // One frame of any size gets through alone.
        let large = intake.reserve(100 * FRAME_BYTES_MIN, &mailbox).unwrap();
        assert!(intake.reserve(1, &mailbox).is_none());
        drop(large);
    }

    #[test]
    fn the_consumer_takes_everything_and_learns_of_the_end() {
        let (intake, mut inputs) = intake(1);
        let session = crate::input::SessionId(1);
        assert!(intake.push(Input::Left { session }));
        let mut taken = Vec::new();
        assert!(inputs.take(&mut taken, Duration::ZERO));
        assert_eq!(taken.len(), 1);
        inputs.notifier().notify();
        taken.clear();
        assert!(inputs.take(&mut taken, Duration::from_secs(60)) && taken.is_empty());
        intake.end();
        assert!(!inputs.take(&mut taken, Duration::from_secs(60)));
        drop(inputs);
        assert!(!intake.push(Input::Left { session }));
    }
}
