//! The GPU, where this machine has one.

use std::sync::OnceLock;

use isotick_gpu::{AdapterUsage, Choice, GpuEngine};

/// An engine on any adapter, also a software one, or on the one that `ISOTICK_ADAPTER` names by
/// its index or name. Without one: nothing after a line that says why, or with
/// `ISOTICK_REQUIRE_GPU=1` a failure.
pub fn engine() -> Option<GpuEngine> {
    match GpuEngine::open(Choice::of_environment(setting)) {
        Ok(engine) => Some(engine),
        Err(why) => {
            let required = setting("ISOTICK_REQUIRE_GPU").is_some_and(|value| value == "1");
            assert!(!required, "ISOTICK_REQUIRE_GPU=1, but there is no Vulkan adapter: {why}");
            println!("ignored: no Vulkan adapter: {why}");
            None
        }
    }
}

/// An engine on every adapter that can be used, or on the one that is chosen; none, as [`engine`] says it, where there is none.
pub fn engines() -> Vec<GpuEngine> {
    if Choice::of_environment(setting) != Choice::Any {
        return engine().into_iter().collect();
    }
    let adapters = isotick_gpu::devices();
    let usable = adapters.iter().filter(|adapter| adapter.usage != AdapterUsage::Never);
    let open = |index| GpuEngine::open(Choice::Index(index)).expect("a usable adapter opens");
    let engines: Vec<_> = usable.map(|adapter| open(adapter.index)).collect();
    if engines.is_empty() { engine().into_iter().collect() } else { engines }
}

/// Whether there is an adapter; asked once.
pub fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| engine().is_some())
}

/// A setting of the tests, from the environment.
#[allow(clippy::disallowed_methods)] // the product takes settings in `src/` only; tests have no other
pub fn setting(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name)
}
