//! Cases as a definitions file.

use std::fmt::Write;

use isotick_model::StreamSchema;
use isotick_model::definitions::Definitions;
use isotick_model::view::View;

use crate::oracle::{Decimal, Filter};
use crate::random::Case;

/// The names in every case's definitions.
pub const STREAM: &str = "ticks";
pub const VIEW: &str = "windows";
pub const TIME: &str = "ts";

/// The definitions of a case.
pub fn definitions(case: &Case) -> String {
    let mut text = format!("[stream.{STREAM}]\ntime = \"{TIME}\"\n");
    match case.keys.as_slice() {
        [] => {}
        [key] => writeln!(text, "key = \"{key}\"").expect("text grows"),
        keys => writeln!(text, "key = {keys:?}").expect("text grows"),
    }
    for column in &case.columns {
        write!(text, "columns.{} = {{ scale = {}", column.name, column.scale).expect("text grows");
        if let Some((min, max)) = column.bounds {
            let bound =
                |digits: i64| quoted(&Decimal { digits: digits.into(), scale: column.scale });
            write!(text, ", min = {}, max = {}", bound(min), bound(max)).expect("text grows");
        }
        let optional = if column.optional { ", optional = true" } else { "" };
        writeln!(text, "{optional} }}").expect("text grows");
    }
    let view = &case.view;
    write!(text, "\n[view.{VIEW}]\nstream = \"{STREAM}\"\n").expect("text grows");
    if let Some(filter) = &view.filter {
        writeln!(text, "where = {}", quoted(&condition(case, filter))).expect("text grows");
    }
    let origin =
        if view.origin == 0 { String::new() } else { format!(", origin = \"{}\"", view.origin) };
    let width = duration(view.width);
    writeln!(text, "window = {{ tumbling = \"{width}\"{origin} }}").expect("text grows");
    let aggregates: Vec<_> = case.aggregates.iter().map(quoted).collect();
    writeln!(text, "aggregates = [{}]", aggregates.join(", ")).expect("text grows");
    let allowed = duration(view.allowed);
    writeln!(text, "lateness = {{ allowed = \"{allowed}\", policy = {:?} }}", case.policy)
        .expect("text grows");
    text
}

/// The stream and view of a case's definitions, as the product reads them.
pub fn read(text: &str) -> Result<(StreamSchema, View), Box<dyn std::error::Error>> {
    let definitions = Definitions::parse(text, "case.toml")?;
    let again = Definitions::parse(&definitions.to_toml(), "remembered.toml")?;
    assert_eq!(again, definitions, "what a folder remembers is what was declared");
    Ok((definitions.stream(STREAM)?.clone(), definitions.view(VIEW)?.clone()))
}

/// A filter, every part in parentheses.
fn condition(case: &Case, filter: &Filter) -> String {
    let column = |c: &usize| case.columns[*c].name;
    let list = |items: Vec<String>| items.join(", ");
    match filter {
        Filter::And(a, b) => format!("({} and {})", condition(case, a), condition(case, b)),
        Filter::Or(a, b) => format!("({} or {})", condition(case, a), condition(case, b)),
        Filter::Not(a) => format!("not ({})", condition(case, a)),
        Filter::Value(c, op, literal) => format!("{} {} {literal}", column(c), op.text()),
        Filter::Columns(a, op, b) => format!("{} {} {}", column(a), op.text(), column(b)),
        Filter::Time(op, ts) => format!("{TIME} {} {ts}", op.text()),
        Filter::Key(k, op, text) => format!("{} {} {}", case.keys[*k], op.text(), literal(text)),
        Filter::In(c, literals) => {
            let literals = literals.iter().map(ToString::to_string).collect();
            format!("{} in ({})", column(c), list(literals))
        }
        Filter::KeyIn(k, texts) => {
            let texts = texts.iter().map(|text| literal(text)).collect();
            format!("{} in ({})", case.keys[*k], list(texts))
        }
        Filter::IsNull(c) => format!("{} is null", column(c)),
    }
}

/// Text in a filter.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A TOML string.
fn quoted(text: &impl ToString) -> String {
    let escape = |c: char| match c {
        '"' | '\\' => format!("\\{c}"),
        c if c.is_control() => format!("\\u{:04X}", u32::from(c)),
        c => c.to_string(),
    };
    format!("\"{}\"", text.to_string().chars().map(escape).collect::<String>())
}

/// In the greatest unit that divides it.
fn duration(ns: i64) -> String {
    let units = [("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 1_000_000_000)];
    let small = [("ms", 1_000_000), ("us", 1_000), ("ns", 1)];
    let unit = units.into_iter().chain(small).find(|(_, unit)| ns % unit == 0 && ns > 0);
    unit.map_or("0s".into(), |(name, unit)| format!("{}{name}", ns / unit))
}
