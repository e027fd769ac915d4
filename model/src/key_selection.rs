//! Which keys a computation can need: what readers may leave unread.

use std::collections::BTreeSet;
use std::ops::Bound;

use crate::Key;
use crate::expr::{Comparison, Expr};

/// Per key column, the texts that rows which count can have; `None` where it can be any. Rows
/// outside cannot count, rows inside need not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySelection(Vec<Option<BTreeSet<String>>>);

impl KeySelection {
    /// What some keys, or any where there are none, and a filter leave of `columns` key columns.
    pub fn new(columns: usize, keys: &[Key], filter: Option<&Expr>) -> Self {
        let mut texts: Vec<_> =
            (0..columns).map(|column| filter.and_then(|filter| texts_of(filter, column))).collect();
        if !keys.is_empty() {
            for (column, texts) in texts.iter_mut().enumerate() {
                let named = keys.iter().map(|key| key.components()[column].clone()).collect();
                *texts = both(texts.take(), Some(named));
            }
        }
        Self(texts)
    }

    /// What either leaves, of as many key columns.
    pub fn or(self, other: Self) -> Self {
        let either = |(a, b): (Option<BTreeSet<String>>, Option<_>)| {
            a.zip(b).map(|(mut a, mut b)| {
                a.append(&mut b);
                a
            })
        };
        Self(self.0.into_iter().zip(other.0).map(either).collect())
    }

    /// Whether every key can count.
    pub fn is_all(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// The texts that a key column can have, `None` for any.
    pub fn texts(&self, column: usize) -> Option<&BTreeSet<String>> {
        self.0.get(column)?.as_ref()
    }

    /// Whether a text between these, by bytes, can count.
    pub fn meets(&self, column: usize, least: &str, greatest: &str) -> bool {
        self.texts(column).is_none_or(|texts| {
            let range = (Bound::Included(least), Bound::Included(greatest));
            least <= greatest && texts.range::<str, _>(range).next().is_some()
        })
    }
}

/// The texts of one key column for which a filter can be true; `None` for any.
fn texts_of(filter: &Expr, column: usize) -> Option<BTreeSet<String>> {
    match filter {
        Expr::And(a, b) => both(texts_of(a, column), texts_of(b, column)),
        Expr::Or(a, b) => {
            let (mut a, b) = (texts_of(a, column)?, texts_of(b, column)?);
            a.extend(b);
            Some(a)
        }
        Expr::CompareKey(of, Comparison::Eq, text) if *of == column => {
            Some(BTreeSet::from([text.clone()]))
        }
        Expr::KeyIn(of, texts) if *of == column => Some(texts.iter().cloned().collect()),
        _ => None,
    }
}

fn both(a: Option<BTreeSet<String>>, b: Option<BTreeSet<String>>) -> Option<BTreeSet<String>> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.intersection(&b).cloned().collect()),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definitions::Definitions;

    fn selection(filter: &str, keys: &[&str]) -> Option<Vec<String>> {
        let text = "[stream.t]\ntime = \"ts\"\nkey = \"symbol\"\ncolumns = { n = { scale = 0 } }\n";
        let definitions = Definitions::parse(text, "test").unwrap();
        let filter = Expr::parse(filter, definitions.stream("t").unwrap()).unwrap();
        let keys: Vec<Key> = keys.iter().map(|key| Key::from_components([key])).collect();
        let selection = KeySelection::new(1, &keys, Some(&filter));
        assert_eq!(selection.is_all(), selection.texts(0).is_none());
        selection.texts(0).map(|texts| texts.iter().cloned().collect())
    }

    #[test]
    fn only_what_a_filter_cannot_do_without_is_selected() {
        let some = |texts: &[&str]| Some(texts.iter().map(|text| (*text).to_owned()).collect());
        assert_eq!(selection("symbol = 'A'", &[]), some(&["A"]));
        assert_eq!(selection("n > 5 and symbol in ('B', 'A')", &[]), some(&["A", "B"]));
        assert_eq!(selection("symbol = 'A' or symbol = 'C'", &[]), some(&["A", "C"]));
        assert_eq!(selection("symbol = 'A' and symbol in ('B', 'C')", &[]), some(&[]));
        assert_eq!(selection("symbol = 'A' or n > 5", &[]), None);
        assert_eq!(selection("not symbol = 'A'", &[]), None);
        assert_eq!(selection("symbol != 'A'", &[]), None);
        assert_eq!(selection("n > 5", &["A", "B"]), some(&["A", "B"]));
        assert_eq!(selection("symbol in ('C', 'B')", &["A", "B"]), some(&["B"]));
    }

    #[test]
    fn ranges_meet_a_selection_where_a_text_of_it_lies_inside() {
        let keys = ["B", "D"].map(|key| Key::from_components([key]));
        let selection = KeySelection::new(1, &keys, None);
        for (least, greatest, meets) in [
            ("A", "A", false),
            ("A", "B", true),
            ("C", "C", false),
            ("D", "Z", true),
            ("E", "Z", false),
        ] {
            assert_eq!(selection.meets(0, least, greatest), meets, "{least}..={greatest}");
        }
        assert!(KeySelection::default().meets(0, "X", "Y"));
    }
}
