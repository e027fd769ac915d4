//! When a lost connection is tried again.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::ClientError;

/// Told of an error that may pass, and how long until the next try.
pub type Notice = Arc<dyn Fn(&ClientError, Duration) + Send + Sync>;

/// How often and how long to try again after an error that may pass.
#[derive(Clone)]
pub struct Reconnect {
    /// The wait before the first try; each next one doubles it.
    pub wait_first: Duration,
    /// The longest wait.
    pub wait_most: Duration,
    /// Time without any progress after which the last error is final; `None` to go on for ever.
    pub give_up_after: Option<Duration>,
    /// Called before each wait.
    pub notice: Option<Notice>,
}

impl Default for Reconnect {
    /// 50 ms to 5 s apart, for ever.
    fn default() -> Self {
        Self {
            wait_first: Duration::from_millis(50),
            wait_most: Duration::from_secs(5),
            give_up_after: None,
            notice: None,
        }
    }
}

impl Reconnect {
    /// Every error is final.
    pub fn never() -> Self {
        Self { give_up_after: Some(Duration::ZERO), ..Self::default() }
    }

    /// The same, with `notice` called before each wait.
    pub fn with_notice(
        mut self,
        notice: impl Fn(&ClientError, Duration) + Send + Sync + 'static,
    ) -> Self {
        self.notice = Some(Arc::new(notice));
        self
    }
}

impl fmt::Debug for Reconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconnect")
            .field("wait_first", &self.wait_first)
            .field("wait_most", &self.wait_most)
            .field("give_up_after", &self.give_up_after)
            .finish_non_exhaustive()
    }
}

/// The tries since something last went well.
#[derive(Debug)]
pub(crate) struct Backoff {
    how: Reconnect,
    wait: Duration,
    progress: Instant,
}

impl Backoff {
    pub(crate) fn new(how: Reconnect) -> Self {
        Self { wait: how.wait_first, how, progress: Instant::now() }
    }

    /// Something went well: the next error begins anew.
    pub(crate) fn progress(&mut self) {
        self.wait = self.how.wait_first;
        self.progress = Instant::now();
    }

    /// Waits until it is time to try again.
    ///
    /// # Errors
    ///
    /// The same error, when trying again does not help or has been done for long enough.
    pub(crate) async fn wait(&mut self, error: ClientError) -> Result<(), ClientError> {
        let over = self.how.give_up_after.is_some_and(|most| self.progress.elapsed() >= most);
        if !error.is_retryable() || over {
            return Err(error);
        }
        if let Some(notice) = &self.how.notice {
            notice(&error, self.wait);
        }
        tokio::time::sleep(self.wait).await;
        self.wait = (self.wait * 2).min(self.how.wait_most);
        Ok(())
    }
}
