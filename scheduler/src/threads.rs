//! Threads that stay from one scan to the next.
//!
//! Each thread takes its memory from a region of its own, so new threads would touch new memory,
//! which the system clears page by page: of a short scan most of its time.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use rayon_core::{Scope, ThreadPool, ThreadPoolBuilder};

/// Those that nobody has now.
static IDLE: Mutex<Vec<ThreadPool>> = Mutex::new(Vec::new());
/// As many as are kept; scans that run at once beyond that start threads of their own.
const IDLE_MAX: usize = 4;

/// Some threads, for as long as this is held.
pub(crate) struct Threads(Option<ThreadPool>);

impl Threads {
    /// So many.
    ///
    /// # Panics
    /// When the system gives no more threads.
    pub(crate) fn take(count: NonZeroUsize) -> Self {
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        let suits = |pool: &ThreadPool| pool.current_num_threads() == count.get();
        if let Some(place) = idle.iter().position(suits) {
            return Self(Some(idle.swap_remove(place)));
        }
        let name = |number| format!("scanning-{number}");
        let pool = ThreadPoolBuilder::new().num_threads(count.get()).thread_name(name).build();
        Self(Some(pool.expect("the system starts threads")))
    }

    /// Calls `body` in this thread, and what it spawns in those: all at once, where it is not more
    /// than there are. Returns when everything has; a panic goes on here.
    pub(crate) fn scope<'a, T>(&self, body: impl FnOnce(&Scope<'a>) -> T) -> T {
        self.0.as_ref().expect("they are held until the end").in_place_scope(body)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        idle.extend(self.0.take());
        if idle.len() > IDLE_MAX {
            idle.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Barrier;
    use std::thread::ThreadId;

    use super::*;

    fn ids(count: usize) -> HashSet<ThreadId> {
        let (barrier, ids) = (Barrier::new(count), Mutex::new(HashSet::new()));
        Threads::take(NonZeroUsize::new(count).unwrap()).scope(|scope| {
            for _ in 0..count {
                scope.spawn(|_| {
                    // Hangs unless all run at once.
                    barrier.wait();
                    ids.lock().unwrap().insert(std::thread::current().id());
                });
            }
        });
        ids.into_inner().unwrap()
    }

    #[test]
    fn all_run_at_once_and_stay() {
        // No other test asks for so many.
        let first = ids(7);
        assert_eq!(first.len(), 7);
        assert_eq!(ids(7), first);
    }

    #[test]
    fn nobody_shares_them() {
        let count = NonZeroUsize::new(6).unwrap();
        let (first, second) = (Threads::take(count), Threads::take(count));
        // Hangs unless all of both run at once.
        let barrier = Barrier::new(12);
        let wait = |_: &Scope<'_>| {
            barrier.wait();
        };
        first.scope(|scope| {
            (0..6).for_each(|_| scope.spawn(wait));
            second.scope(|scope| (0..6).for_each(|_| scope.spawn(wait)));
        });
    }

    #[test]
    fn a_panic_goes_on() {
        let threads = Threads::take(NonZeroUsize::MIN);
        let panics = || threads.scope(|scope| scope.spawn(|_| panic!("as planned")));
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
        let mut done = false;
        threads.scope(|scope| scope.spawn(|_| done = true));
        assert!(done, "they can be used again");
    }
}
