//! The `isotick` program: parse, run, map the outcome to an exit code.

use std::process::ExitCode;

/// Batches of columns come and go by the megabyte on every thread: this allocator keeps their pages.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod processor;

fn main() -> ExitCode {
    if let Some(message) = processor::missing() {
        eprintln!("{message}");
        return ExitCode::FAILURE;
    }
    quiet_device_selection();
    keep_free_memory();
    isotick::run()
}

/// Free memory goes back to the system after ten seconds, not after one: a scan takes what it lets
/// go again and again, and the system clears each page that it gives. Of scans that went on for
/// some seconds that was up to 7 % of the work. `MIMALLOC_PURGE_DELAY` in the environment, in milliseconds, decides
/// otherwise.
#[allow(unsafe_code, reason = "the allocator's options have no safe setter")]
fn keep_free_memory() {
    /// `mi_option_purge_delay` of mimalloc 3, which the binding does not name.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    // SAFETY: both calls take any number of an option; what is no option is ignored.
    unsafe {
        // Any other value than the default was set by the user, or is of some other option.
        if libmimalloc_sys::mi_option_get(PURGE_DELAY) == 1000 {
            libmimalloc_sys::mi_option_set(PURGE_DELAY, 10_000);
        }
    }
}

/// Mesa's device-selection layer writes to standard error where no desktop session is set up; we
/// choose adapters ourselves and need it not.
#[allow(unsafe_code, reason = "the environment has no safe setter")]
fn quiet_device_selection() {
    // SAFETY: nothing else reads or writes the environment meanwhile: this is the first thing
    // `main` does, and no thread has been started.
    unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
}
