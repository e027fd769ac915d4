//! The border to decoders of others, which may panic on bytes that are no file at all.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static CATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Runs a decoder; its panic, if it does.
pub(crate) fn catch<T>(decode: impl FnOnce() -> T) -> std::thread::Result<T> {
    let before = CATCHING.replace(true);
    let decoded = catch_unwind(AssertUnwindSafe(decode));
    CATCHING.set(before);
    decoded
}

/// Whether a panic of this thread would become an error that names the file: for panic hooks, which
/// then have nothing to say.
pub fn panics_become_errors() -> bool {
    CATCHING.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_caught_and_no_other_is_spoken_for() {
        assert!(!panics_become_errors());
        assert_eq!(catch(|| (panics_become_errors(), 7)).unwrap(), (true, 7));
        let nested = catch(|| {
            assert!(catch(|| panic!("inside")).is_err());
            panics_become_errors()
        });
        assert!(nested.unwrap(), "the outer one still stands");
        assert!(!panics_become_errors());
    }
}
