//! How the system backs this process's memory.

/// Asks for ordinary pages from here on, so that no thread of the live path waits for a huge one.
///
/// Ticks that stay until they are in history take fresh memory all the time. A huge page of it is
/// cleared at the first touch, in the thread that touches it: 5 ms were measured on a virtual
/// machine, some twice a second at 100,000 ticks/s, which is what the 99th percentile of the
/// latency then was; with ordinary pages the same clearing is spread over many touches. Scans of 20
/// million ticks were no slower with them. Where the system has no such switch all stays as it is.
pub fn use_ordinary_pages() {
    huge_pages(false);
}

/// Asks for pages that suit a scan of so many stored bytes: huge ones spare a large scan a tenth of
/// its work, but a small one would have more of them cleared than it needs memory. On a virtual
/// machine whose host had to provide the memory, that made 50 ms of 3.
pub fn suit(stored_bytes: u64) {
    const LARGE_BYTES: u64 = 16 << 20;
    huge_pages(stored_bytes >= LARGE_BYTES);
}

fn huge_pages(wanted: bool) {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(!wanted) {
        tracing::debug!("huge pages stay as the system gives them: {error}");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = wanted;
}
