//! How a client's command ends before its work does, and takes leave of the service.

use std::time::Duration;

/// Time for the last packets of connections that were let go of. A service that does not hear them
/// takes its client for silent, and waits for it until it gives up.
const FAREWELL: Duration = Duration::from_millis(20);

/// Runs something until it is done, or the process is told to end: then the exit code that says so.
pub async fn until_told<T>(work: impl Future<Output = T>) -> Result<T, u8> {
    tokio::select! {
        done = work => Ok(done),
        code = told_to_end() => Err(code),
    }
}

/// Waits for an interrupt or SIGTERM; gives back the exit code by which shells know either.
pub async fn told_to_end() -> u8 {
    const INTERRUPTED: u8 = 130;
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminated) = signal(SignalKind::terminate()) {
            return tokio::select! {
                _ = terminated.recv() => 143,
                _ = tokio::signal::ctrl_c() => INTERRUPTED,
            };
        }
    }
    let _ = tokio::signal::ctrl_c().await;
    INTERRUPTED
}

/// Lets connections that were dropped say goodbye. To be awaited on the runtime that drives them,
/// before it ends.
pub async fn say_goodbye() {
    tokio::time::sleep(FAREWELL).await;
}
