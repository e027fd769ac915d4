//! Comparing two results window by window.

use std::cmp::Ordering;

use isotick_model::results::{ResultSchema, WindowRow};
use isotick_model::time;

use crate::output::value_text;

/// A window that two results do not agree on.
pub struct Difference<'a> {
    /// On the left, if it is there.
    pub left: Option<&'a WindowRow>,
    /// On the right, if it is there.
    pub right: Option<&'a WindowRow>,
}

/// The differences of two results, both sorted by (key, window start). Versions do not count;
/// values are compared bit by bit.
pub fn differences<'a>(left: &'a [WindowRow], right: &'a [WindowRow]) -> Vec<Difference<'a>> {
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    let mut found = Vec::new();
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return found,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(l), Some(r)) => (&l.key, l.window_start).cmp(&(&r.key, r.window_start)),
        };
        let pair = Difference {
            left: if order.is_le() { left.next() } else { None },
            right: if order.is_ge() { right.next() } else { None },
        };
        if !pair.agrees() {
            found.push(pair);
        }
    }
}

impl Difference<'_> {
    fn agrees(&self) -> bool {
        let (Some(left), Some(right)) = (self.left, self.right) else { return false };
        left.window_end == right.window_end
            && left.values.len() == right.values.len()
            && left.values.iter().zip(&right.values).all(|(l, r)| same_bits(*l, *r))
    }

    /// The window, then each aggregate that differs with both values, as lines of text.
    pub fn describe(&self, schema: &ResultSchema, names: [&str; 2]) -> String {
        let Some(row) = self.left.or(self.right) else { return String::new() };
        let mut text = format!("{} {}\n", row.key, time::format_rfc3339(row.window_start));
        for (column, (name, output)) in schema.columns.iter().enumerate() {
            let value = |row: Option<&WindowRow>| match row {
                Some(row) => match value_text(row.values[column], *output) {
                    text if text.is_empty() => "null".into(),
                    text => text,
                },
                None => "(no window)".to_owned(),
            };
            let (left, right) = (value(self.left), value(self.right));
            if left != right {
                let [first, second] = names;
                text += &format!("  {name:<16} {first} {left:>24}   {second} {right:>24}\n");
            }
        }
        text
    }
}

fn same_bits(left: isotick_model::results::Value, right: isotick_model::results::Value) -> bool {
    use isotick_model::results::Value::Float;
    match (left, right) {
        (Float(left), Float(right)) => left.to_bits() == right.to_bits(),
        (left, right) => left == right,
    }
}
