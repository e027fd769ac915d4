//! Identities: who published a tick, and where the log put it.

use std::fmt;
use std::sync::Arc;

/// A publisher's name: text, compared by bytes. It is the second part of a tick's identity
/// `(ts_event, publisher, sequence)`. For a file it defaults to the hash of the file's content.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublisherId(Arc<str>);

impl PublisherId {
    /// The longest publisher name, in bytes.
    pub const LEN_MAX: usize = 256;

    /// Names a publisher. Names longer than [`Self::LEN_MAX`] and empty ones are refused with
    /// `None`.
    pub fn new(name: &str) -> Option<Self> {
        (!name.is_empty() && name.len() <= Self::LEN_MAX).then(|| Self(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PublisherId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The ordinal of a record in a data folder's log, from 0. It totally orders every input of the
/// live path: ticks, publishers coming and going, declarations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPosition(pub u64);

impl LogPosition {
    /// The position after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
