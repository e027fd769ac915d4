//! Tests that need an adapter. Without one they print that they are ignored, unless
//! `ISOTICK_REQUIRE_GPU=1` is set: then they fail. `ISOTICK_ADAPTER` chooses one by index or name.

mod column_reduce;
mod dispatch;
pub(crate) mod engine;
mod product_reduce;
pub(crate) mod random;

use std::io::Write as _;

use crate::adapters::Choice;
use crate::device::Device;
use crate::engine::GpuEngine;
use crate::error::GpuError;

/// A device, or `None` (said on stderr) where the machine has no adapter.
pub(crate) fn device() -> Option<Device> {
    match Device::open(&choice()) {
        Ok(device) => Some(device),
        Err(error @ GpuError::NoAdapter { .. }) => ignore(&error),
        Err(error) => panic!("{error}"),
    }
}

/// The adapter that the environment names, else any.
#[allow(clippy::disallowed_methods, reason = "a test's switch, not a setting")]
pub(crate) fn choice() -> Choice {
    Choice::of_environment(|name| std::env::var_os(name))
}

/// A device of every adapter that can be opened, or of the one that the environment names; none
/// (said on stderr) where there is none.
pub(crate) fn devices() -> Vec<Device> {
    if choice() != Choice::Any {
        return device().into_iter().collect();
    }
    let adapters = crate::devices();
    let usable = adapters.iter().filter(|adapter| adapter.usage != crate::AdapterUsage::Never);
    let open =
        |index| Device::open(&Choice::Index(index)).unwrap_or_else(|error| panic!("{error}"));
    let devices: Vec<_> = usable.map(|adapter| open(adapter.index)).collect();
    if devices.is_empty() { device().into_iter().collect() } else { devices }
}

/// An engine, or `None` (said on stderr) where the machine has no adapter.
pub(crate) fn engine() -> Option<GpuEngine> {
    let mut engine = GpuEngine::compile(device()?).unwrap_or_else(|error| panic!("{error}"));
    engine.warm_up().unwrap_or_else(|error| panic!("{error}"));
    Some(engine)
}

#[allow(clippy::disallowed_methods, reason = "a test's switch, not a setting")]
fn ignore(error: &GpuError) -> Option<Device> {
    let required = std::env::var("ISOTICK_REQUIRE_GPU").is_ok_and(|value| value == "1");
    assert!(!required, "ISOTICK_REQUIRE_GPU=1, but {error}");
    // Not a print macro: the harness would swallow it where the test passes.
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    _ = writeln!(std::io::stderr(), "ignored: {test}: {error}");
    None
}
