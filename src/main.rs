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
    isotick::run()
}

/// Mesa's device-selection layer writes to standard error where no desktop session is set up; we
/// choose adapters ourselves and need it not.
#[allow(unsafe_code, reason = "the environment has no safe setter")]
fn quiet_device_selection() {
    // SAFETY: nothing else reads or writes the environment meanwhile: this is the first thing
    // `main` does, and no thread has been started.
    unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
}
