//! The one text of definitions, and the hash over it.

use super::{Definitions, aggregates};
use crate::ByteSize;
use crate::key::Key;
use crate::schema::{Codec, Column, Inexact, Retention, StreamSchema};
use crate::time::{format_duration, format_rfc3339};
use crate::units::format_scaled;
use crate::view::{DefinitionHash, LatenessPolicy, View};

pub(super) fn text(definitions: &Definitions) -> String {
    let mut tables: Vec<_> = definitions.streams.iter().map(stream_table).collect();
    for view in &definitions.views {
        let schema = definitions.streams.iter().find(|stream| stream.name == view.stream);
        tables.push(view_table(view, schema.expect("a view's stream is among the definitions")));
    }
    tables.join("\n")
}

/// `[stream.name]` with every field.
pub(super) fn stream_table(schema: &StreamSchema) -> String {
    let name = key(&schema.name);
    let fields = stream_fields(schema) + &keys_allowed(schema) + &storage(schema);
    let columns = column_fields(&schema.columns.iter().collect::<Vec<_>>());
    format!("[stream.{name}]\n{fields}\n[stream.{name}.columns]\n{columns}")
}

/// `[view.name]` with every field.
pub(super) fn view_table(view: &View, schema: &StreamSchema) -> String {
    format!("[view.{}]\n{}", key(&view.name), view_fields(view, schema))
}

/// BLAKE3 over what decides a view's results: the view without its name, and its stream. Of the
/// stream's columns an optional one that the view does not read is left out, so that adding one
/// leaves the definitions of existing views, and the results kept under them, as they are.
pub(super) fn hash(schema: &StreamSchema, view: &View) -> DefinitionHash {
    let read = view.columns();
    let columns: Vec<_> = (schema.columns.iter().enumerate())
        .filter(|(index, column)| !column.optional || read.contains(index))
        .map(|(_, column)| column)
        .collect();
    let text = format!(
        "isotick definition 1\n{}{}{}",
        stream_fields(schema),
        column_fields(&columns),
        view_fields(view, schema)
    );
    DefinitionHash(blake3::hash(text.as_bytes()).to_hex().to_string())
}

fn stream_fields(schema: &StreamSchema) -> String {
    let keys: Vec<_> = schema.keys.iter().map(|name| string(name)).collect();
    let inexact = match schema.inexact {
        Inexact::Reject => "reject",
        Inexact::Round => "round",
    };
    let horizon = schema.horizon_ns.map_or("none".into(), format_duration);
    format!(
        "time = {}\nkey = [{}]\ninexact = \"{inexact}\"\nhorizon = \"{horizon}\"\n",
        string(&schema.time),
        keys.join(", ")
    )
}

/// The closed set of keys, in the order of their bytes. It is no part of the hash: it decides which
/// rows become ticks, not what a view makes of them, and so it may grow.
pub(super) fn keys_allowed(schema: &StreamSchema) -> String {
    let Some(keys) = &schema.keys_allowed else { return String::new() };
    let one = |key: &Key| {
        let texts: Vec<_> = key.components().iter().map(|text| string(text)).collect();
        match schema.keys.len() {
            1 => texts.concat(),
            _ => format!("[{}]", texts.join(", ")),
        }
    };
    let keys: Vec<_> = keys.sorted().into_iter().map(one).collect();
    format!("keys_allowed = [{}]\n", keys.join(", "))
}

/// What of the history is kept and how; it is no part of the hash.
pub(super) fn storage(schema: &StreamSchema) -> String {
    let codec = match schema.codec {
        Codec::None => "",
        Codec::Zstd => "codec = \"zstd\"\n",
    };
    let Retention { age_ns, bytes } = schema.retention;
    let age = age_ns.map(|age_ns| format!("age = \"{}\"", format_duration(age_ns)));
    let size = bytes.map(|bytes| format!("size = \"{}\"", ByteSize(bytes)));
    match age.into_iter().chain(size).collect::<Vec<_>>() {
        fields if fields.is_empty() => codec.to_owned(),
        fields => format!("retention = {{ {} }}\n{codec}", fields.join(", ")),
    }
}

fn column_fields(columns: &[&Column]) -> String {
    columns
        .iter()
        .map(|column| format!("{} = {}\n", key(&column.name), column_text(column)))
        .collect()
}

/// A column's declaration: `{ scale = 4, min = "0.0000" }`; bounds at the ends of 64 bits are
/// left out.
pub(super) fn column_text(column: &Column) -> String {
    let mut text = format!("{{ scale = {}", column.scale.digits());
    for (name, bound, absent) in [("min", column.min, i64::MIN), ("max", column.max, i64::MAX)] {
        if bound != absent {
            text += &format!(", {name} = \"{}\"", format_scaled(bound.into(), column.scale));
        }
    }
    if column.optional {
        text += ", optional = true";
    }
    text + " }"
}

fn view_fields(view: &View, schema: &StreamSchema) -> String {
    let filter = view
        .filter
        .as_ref()
        .map_or(String::new(), |filter| format!("where = {}\n", string(&filter.to_text(schema))));
    let aggregates: String = (view.aggregates.iter())
        .map(|named| format!("    {},\n", string(&aggregates::text(named, schema))))
        .collect();
    let policy = match view.lateness.policy {
        LatenessPolicy::Correct => "correct",
        LatenessPolicy::Side => "side",
        LatenessPolicy::Drop => "drop",
    };
    format!(
        "stream = {}\n{filter}window = {{ tumbling = \"{}\", origin = \"{}\" }}\n\
         aggregates = [\n{aggregates}]\nlateness = {{ allowed = \"{}\", policy = \"{policy}\" }}\n",
        string(&view.stream),
        format_duration(view.window.width_ns),
        format_rfc3339(view.window.origin_ns),
        format_duration(view.lateness.allowed_ns),
    )
}

/// A TOML key, quoted unless it is bare.
pub(super) fn key(name: &str) -> String {
    let bare = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if bare { name.into() } else { string(name) }
}

/// A TOML string on one line.
pub(super) fn string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted += &format!("\\u{:04X}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}
