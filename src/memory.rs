//! How the system backs this process's memory.

/// Asks for ordinary pages from here on, so that no thread of the live path waits for a huge one.
///
/// Ticks that stay until they are in history take fresh memory all the time. A huge page of it is
/// cleared at the first touch, in the thread that touches it: 5 ms were measured on a virtual
/// machine, some twice a second at 100,000 ticks/s, which is what the 99th percentile of the
/// latency then was; with ordinary pages the same clearing is spread over many touches. Scans of 20
/// million ticks were no slower with them. Where the system has no such switch all stays as it is.
pub fn use_ordinary_pages() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!("huge pages stay as the system gives them: {error}");
    }
}
