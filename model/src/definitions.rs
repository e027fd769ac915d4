//! The definitions of streams and views, as written in `isotick.toml`.
//!
//! ```toml
//! [stream.trades]
//! time    = "ts"
//! key     = "symbol"
//! columns = { price = { scale = 4, min = 0 }, size = { scale = 0 } }
//!
//! [view.bars_1s]
//! stream     = "trades"
//! where      = "size > 0"
//! window     = { tumbling = "1s" }
//! aggregates = ["ohlc(price)", "volume = sum(size)", "count()"]
//! lateness   = { allowed = "50ms", policy = "correct" }
//! ```

use crate::error::{DefinitionError, EvolutionError, UnknownName};
use crate::schema::StreamSchema;
use crate::view::View;

mod aggregates;
mod canonical;
mod evolve;
mod fields;
mod parser;
pub mod template;

/// Streams and the views over them, with every name resolved, in the order written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Definitions {
    /// The streams; names are unique.
    pub streams: Vec<StreamSchema>,
    /// The views; names are unique, each one's stream is among [`Self::streams`].
    pub views: Vec<View>,
}

impl Definitions {
    /// Reads definitions. `file` is only used to name the place of an error.
    ///
    /// # Errors
    ///
    /// The first problem found, with its line and the remedy.
    pub fn parse(text: &str, file: &str) -> Result<Self, DefinitionError> {
        parser::parse(text, file)
    }

    /// The canonical text: what a data folder remembers. [`parse`](Self::parse) of it is `self`.
    pub fn to_toml(&self) -> String {
        canonical::text(self)
    }

    /// The stream of this name.
    ///
    /// # Errors
    ///
    /// An [`UnknownName`] that lists the streams there are.
    pub fn stream(&self, name: &str) -> Result<&StreamSchema, UnknownName> {
        let names = self.streams.iter().map(|stream| stream.name.as_str());
        let found = self.streams.iter().find(|stream| stream.name == name);
        found.ok_or_else(|| unknown("stream", name, names))
    }

    /// The view of this name.
    ///
    /// # Errors
    ///
    /// An [`UnknownName`] that lists the views there are.
    pub fn view(&self, name: &str) -> Result<&View, UnknownName> {
        let names = self.views.iter().map(|view| view.name.as_str());
        let found = self.views.iter().find(|view| view.name == name);
        found.ok_or_else(|| unknown("view", name, names))
    }

    /// The views over a stream.
    pub fn views_of(&self, stream: &str) -> impl Iterator<Item = &View> {
        self.views.iter().filter(move |view| view.stream == stream)
    }

    /// What holds when `new` is declared to a data folder that remembers `old`: all streams and
    /// views of both. Stored columns keep their order, new ones follow. A view of `new` takes the
    /// place of an old one of its name; unless both are equal it has another
    /// [`DefinitionHash`](crate::view::DefinitionHash), so results stay apart.
    ///
    /// Bounds may widen, the closed set of keys may grow or be opened, columns may become optional,
    /// horizon and `inexact` may change.
    ///
    /// # Errors
    ///
    /// A changed time column, key or scale, a narrowed bound or set of keys, a column that is gone, is no longer
    /// optional, or is new and not optional.
    pub fn evolve(old: &Self, new: &Self) -> Result<Self, EvolutionError> {
        evolve::evolve(old, new)
    }
}

fn unknown<'a>(
    what: &'static str,
    name: &str,
    names: impl Iterator<Item = &'a str>,
) -> UnknownName {
    let existing = names.collect::<Vec<_>>().join(", ");
    let existing = match existing.is_empty() {
        true => format!("no {what} is defined: add one to isotick.toml"),
        false => format!("there is {existing}"),
    };
    UnknownName { what, name: name.into(), existing }
}

#[cfg(test)]
mod tests;
