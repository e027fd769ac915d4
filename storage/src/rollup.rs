//! Rollups: the exact states of a history file's ticks by key and window, kept beside the file. A
//! scan whose windows are made of theirs reads them in place of the ticks.
//!
//! A rollup stands for the ticks of one file, which never changes. It is named in the file's own
//! entry of the manifest, so it goes in the commit in which the file goes. What states mean, and
//! which of them can stand for a view, is not known here: they are words.

mod read;
#[cfg(test)]
pub(crate) mod tests;
mod work;
mod write;

use isotick_model::{Key, PublisherId};
use serde::{Deserialize, Serialize};

use crate::manifest::StoredFile;

pub use self::read::{StatesPart, StatesReader};
pub(crate) use self::read::{Wanted, check, plan};
pub use self::work::{Rolled, RollupWork};

/// A history file has at least so many ticks for each of its states, or they are not stored: they
/// would take more room and longer to read than they spare.
pub const TICKS_PER_STATE_MIN: u64 = 4;

/// What states are of. Equal ones of the same stream are of the same thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollupBase {
    /// Which ticks, as the filter's canonical text; `None` for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// The width of windows in nanoseconds.
    pub width_ns: i64,
    /// Where one starts, nanoseconds UTC: at or after the epoch, less than a width from it.
    pub origin_ns: i64,
    /// What a state is made of. The first is one word: the number of ticks.
    pub terms: Vec<RollupTerm>,
}

/// A part of a state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollupTerm {
    /// What it is, e.g. `sum`.
    pub of: String,
    /// The names of the columns that it is of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// How many words it takes.
    pub words: usize,
    /// Which of them is the code of a publisher; where there is none, all words are 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publisher: Option<usize>,
}

/// A file of states.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatesFile {
    /// The file.
    #[serde(flatten)]
    pub file: StoredFile,
    /// How many ticks are in its states.
    pub ticks: u64,
}

/// States as plain data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredStates {
    /// Keys.
    pub keys: Vec<Key>,
    /// Publishers: words say which one by its place.
    pub publishers: Vec<PublisherId>,
    /// Per state: the key's place in `keys`.
    pub key: Vec<u32>,
    /// Per state: its window's start, nanoseconds UTC.
    pub start: Vec<i64>,
    /// The words of the states, one state after another.
    pub words: Vec<u64>,
}

impl RollupBase {
    /// Words of a state.
    pub fn words(&self) -> usize {
        self.terms.iter().map(|term| term.words).sum()
    }

    /// The name of what the states are of, among those of a stream: 32 hexadecimal digits.
    pub fn id(&self, stream: &str) -> String {
        let text = serde_json::to_string(&(stream, self)).expect("a base is plain data");
        blake3::hash(text.as_bytes()).to_hex()[..32].to_owned()
    }

    /// Per word, whether it is the code of a publisher, and the first word of its term.
    fn word_kinds(&self) -> Vec<(bool, usize)> {
        let mut kinds = Vec::with_capacity(self.words());
        for term in &self.terms {
            let first = kinds.len();
            kinds.extend((0..term.words).map(|word| (term.publisher == Some(word), first)));
        }
        kinds
    }

    /// The names of the columns of words.
    fn word_names(&self) -> Vec<String> {
        let mut names = Vec::with_capacity(self.words());
        for term in &self.terms {
            let name = format!("{}({})", term.of, term.columns.join(","));
            match term.words {
                1 => names.push(name),
                words => names.extend((0..words).map(|word| format!("{name}.{word}"))),
            }
        }
        names
    }
}

impl StoredStates {
    /// How many states there are.
    pub fn len(&self) -> usize {
        self.start.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.start.is_empty()
    }
}
