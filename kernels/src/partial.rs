//! Partials: exact states in fixed words, the one format both engines write.

/// One partial per run, each [`Plan::words`](crate::Plan::words) long, in run order. What the
/// words hold is said at [`Term`](crate::Term).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partials {
    /// The words of all partials, one after another.
    pub words: Vec<u64>,
    /// Words per partial.
    pub stride: usize,
}
