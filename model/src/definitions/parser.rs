//! From `isotick.toml` to resolved definitions.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fields::{Fields, Source, in_order, table_of, wrong_type};
use super::{Definitions, aggregates, canonical};
use crate::ByteSize;
use crate::error::{DefinitionError, DefinitionProblem};
use crate::expr::Expr;
use crate::key::{Key, KeySet};
use crate::schema::{Codec, Column, Inexact, Retention, StreamSchema};
use crate::ticks::RejectReason;
use crate::time::{parse_duration, parse_time};
use crate::units::{Scale, format_scaled};
use crate::view::{DefinitionHash, Lateness, LatenessPolicy, Tumbling, View};

pub(super) fn parse(text: &str, file: &str) -> Result<Definitions, DefinitionError> {
    let source = Source { file, text };
    let document = DeTable::parse(text).map_err(|error| {
        let message = error.message().replace('\n', ", ");
        source.error(error.span().unwrap_or(0..0), DefinitionProblem::Toml { message })
    })?;
    let place = "the file".into();
    let root = Fields::new(&source, place, 0..0, document.get_ref(), &["stream", "view"])?;
    let mut definitions = Definitions::default();
    if let Some(value) = root.get("stream") {
        for (name, value) in in_order(table_of(&source, "stream", value)?) {
            check_name(&source, "stream", name)?;
            let place = format!("the stream \"{}\"", name.get_ref());
            let table = table_of(&source, name.get_ref(), value)?;
            let known = [
                "time",
                "key",
                "keys_allowed",
                "columns",
                "inexact",
                "horizon",
                "retention",
                "codec",
            ];
            let fields = Fields::new(&source, place, name.span(), table, &known)?;
            definitions.streams.push(stream(name.get_ref(), &fields)?);
        }
    }
    if let Some(value) = root.get("view") {
        for (name, value) in in_order(table_of(&source, "view", value)?) {
            check_name(&source, "view", name)?;
            let place = format!("the view \"{}\"", name.get_ref());
            let table = table_of(&source, name.get_ref(), value)?;
            let known = ["stream", "where", "window", "aggregates", "lateness"];
            let fields = Fields::new(&source, place, name.span(), table, &known)?;
            let view = view(name.get_ref(), &fields, &definitions.streams)?;
            definitions.views.push(view);
        }
    }
    Ok(definitions)
}

/// Streams and views name folders.
fn check_name(
    source: &Source<'_>,
    what: &'static str,
    name: &Spanned<std::borrow::Cow<'_, str>>,
) -> Result<(), DefinitionError> {
    let text = name.get_ref();
    let fits = (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
        && !text.starts_with(['-', '.']);
    match fits {
        true => Ok(()),
        false => {
            let problem = DefinitionProblem::Name { what, name: text.escape_debug().to_string() };
            Err(source.error(name.span(), problem))
        }
    }
}

fn stream(name: &str, fields: &Fields<'_>) -> Result<StreamSchema, DefinitionError> {
    let mut names = Names { source: fields.source, taken: Vec::new() };
    let time = fields.require("time", "`time = \"ts\"`, the column of event times")?;
    let time = fields.string("time", time)?;
    names.take(time.get_ref(), time.span(), "time column")?;
    let keys = match fields.get("key") {
        None => Vec::new(),
        Some(value) => match value.get_ref() {
            DeValue::Array(items) => {
                items.iter().map(|item| fields.string("key", item)).collect::<Result<_, _>>()?
            }
            DeValue::String(_) => vec![fields.string("key", value)?],
            _ => {
                let expected = "a column's name or a list of names";
                return Err(wrong_type(fields.source, "key", expected, value));
            }
        },
    };
    for key in &keys {
        names.take(key.get_ref(), key.span(), "key column")?;
    }
    let keys_allowed = match fields.get("keys_allowed") {
        None => None,
        Some(value) => Some(keys_allowed(fields, keys.len(), value)?),
    };
    let mut columns = Vec::new();
    if let Some(value) = fields.get("columns") {
        for (name, value) in in_order(table_of(fields.source, "columns", value)?) {
            names.take(name.get_ref(), name.span(), "value column")?;
            columns.push(column(name, value, fields.source)?);
        }
    }
    let inexact = match fields.get("inexact") {
        None => Inexact::default(),
        Some(value) => {
            let choices = [("reject", Inexact::Reject), ("round", Inexact::Round)];
            choice(fields, "inexact", value, "reject, round", &choices)?
        }
    };
    let horizon_ns = match fields.get("horizon") {
        None => Some(StreamSchema::HORIZON_NS_DEFAULT),
        Some(value) => match *fields.string("horizon", value)?.get_ref() {
            "none" => None,
            _ => Some(duration(fields, "horizon", value)?),
        },
    };
    let retention = match fields.get("retention") {
        None => Retention::default(),
        Some(value) => retention(&fields.table("retention", value, &["age", "size"])?)?,
    };
    let codec = match fields.get("codec") {
        None => Codec::default(),
        Some(value) => {
            let choices = [("none", Codec::None), ("zstd", Codec::Zstd)];
            choice(fields, "codec", value, "none, zstd", &choices)?
        }
    };
    Ok(StreamSchema {
        name: name.into(),
        time: (*time.get_ref()).into(),
        keys: keys.iter().map(|key| (*key.get_ref()).into()).collect(),
        keys_allowed,
        columns,
        inexact,
        horizon_ns,
        retention,
        codec,
    })
}

fn retention(fields: &Fields<'_>) -> Result<Retention, DefinitionError> {
    let age_ns = fields.get("age").map(|value| duration(fields, "age", value)).transpose()?;
    let bytes = |value| {
        let text = fields.string("size", value)?;
        let size: Result<ByteSize, String> = text.get_ref().parse();
        size.map(|ByteSize(bytes)| bytes)
            .map_err(|what| fields.source.error(value.span(), DefinitionProblem::Size { what }))
    };
    Ok(Retention { age_ns, bytes: fields.get("size").map(bytes).transpose()? })
}

/// A list of keys: texts for one key column, lists of as many texts as there are for several.
fn keys_allowed(
    fields: &Fields<'_>,
    columns: usize,
    value: &Spanned<DeValue<'_>>,
) -> Result<KeySet, DefinitionError> {
    let source = fields.source;
    let wrong = |reason: &'static str, value: &Spanned<DeValue<'_>>| {
        source.error(value.span(), DefinitionProblem::KeysAllowed { reason })
    };
    let DeValue::Array(items) = value.get_ref() else {
        return Err(wrong_type(source, "keys_allowed", "a list of keys", value));
    };
    if columns == 0 {
        return Err(wrong("names keys, but the stream has no `key`: add it", value));
    }
    if items.is_empty() {
        return Err(wrong("is empty and would reject every tick: leave it out", value));
    }
    let key = |item: &Spanned<DeValue<'_>>| {
        let texts = match item.get_ref() {
            DeValue::String(text) if columns == 1 => vec![text.to_string()],
            DeValue::Array(parts) if parts.len() == columns => {
                let text = |part: &Spanned<DeValue<'_>>| match part.get_ref() {
                    DeValue::String(text) => Ok(text.to_string()),
                    _ => Err(wrong_type(source, "keys_allowed", "texts, or lists of texts", part)),
                };
                parts.iter().map(text).collect::<Result<Vec<_>, _>>()?
            }
            _ => {
                let reason = match columns {
                    1 => "has an element that is no text: one key column takes texts",
                    _ => "has an element that is no list of one text for each key column",
                };
                return Err(wrong(reason, item));
            }
        };
        let key = Key::from_components(texts);
        match key.as_bytes().len() <= Key::LEN_MAX {
            true => Ok(key),
            false => Err(wrong("has a key that is longer than keys may be", item)),
        }
    };
    items.iter().map(key).collect()
}

/// The column names of a stream, each with what it names.
struct Names<'a> {
    source: &'a Source<'a>,
    taken: Vec<(String, &'static str)>,
}

impl Names<'_> {
    fn take(
        &mut self,
        name: &str,
        span: Range<usize>,
        what: &'static str,
    ) -> Result<(), DefinitionError> {
        if !is_column_name(name) {
            let name = name.escape_debug().to_string();
            return Err(self.source.error(span, DefinitionProblem::ColumnName { name }));
        }
        if let Some((name, first)) = self.taken.iter().find(|(taken, _)| taken == name) {
            let (name, first) = (name.clone(), *first);
            let problem = DefinitionProblem::ColumnClash { name, first, second: what };
            return Err(self.source.error(span, problem));
        }
        self.taken.push((name.into(), what));
        Ok(())
    }
}

/// Whether a column, of a stream or of results, can have this name.
pub(super) fn is_column_name(name: &str) -> bool {
    (1..=256).contains(&name.len()) && !name.contains(char::is_control)
}

fn column(
    name: &Spanned<std::borrow::Cow<'_, str>>,
    value: &Spanned<DeValue<'_>>,
    source: &Source<'_>,
) -> Result<Column, DefinitionError> {
    let place = format!("the column \"{}\"", name.get_ref());
    let table = table_of(source, name.get_ref(), value)?;
    let known = ["scale", "min", "max", "optional"];
    let fields = Fields::new(source, place, name.span(), table, &known)?;
    let scale = fields.require("scale", "`scale = 4`, the digits after the point")?;
    let scale = match scale.get_ref() {
        DeValue::Integer(digits) => {
            let parsed = u8::from_str_radix(digits.as_str(), digits.radix());
            parsed.ok().and_then(Scale::new).ok_or_else(|| {
                let found = digits.to_string();
                source.error(scale.span(), DefinitionProblem::Scale { found })
            })?
        }
        _ => return Err(wrong_type(source, "scale", "a whole number from 0 to 18", scale)),
    };
    let bound = |bound: &'static str, absent: i64| match fields.get(bound) {
        None => Ok(absent),
        Some(value) => parse_bound(source, bound, value, scale),
    };
    let (min, max) = (bound("min", i64::MIN)?, bound("max", i64::MAX)?);
    if min > max {
        let [min, max] = [min, max].map(|bound| format_scaled(bound.into(), scale));
        let span = fields.get("min").or(fields.get("max")).map_or(name.span(), Spanned::span);
        return Err(source.error(span, DefinitionProblem::MinAboveMax { min, max }));
    }
    let optional = match fields.get("optional") {
        None => false,
        Some(value) => match value.get_ref() {
            DeValue::Boolean(optional) => *optional,
            _ => return Err(wrong_type(source, "optional", "true or false", value)),
        },
    };
    Ok(Column { name: name.get_ref().to_string(), scale, min, max, optional })
}

/// A bound: a TOML number or a string, as written and not scaled.
fn parse_bound(
    source: &Source<'_>,
    bound: &'static str,
    value: &Spanned<DeValue<'_>>,
    scale: Scale,
) -> Result<i64, DefinitionError> {
    let text = match value.get_ref() {
        DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
        DeValue::Float(number) => number.as_str(),
        DeValue::String(text) => text,
        _ => return Err(wrong_type(source, bound, "a decimal number", value)),
    };
    scale.parse_decimal(text).map_err(|reason| {
        let digits = scale.digits();
        let reason = match reason {
            RejectReason::Inexact => {
                format!("which has more digits after the point than scale {digits}: raise the scale or round it")
            }
            RejectReason::OutOfBounds => {
                format!("which does not fit 64 bits at scale {digits}: leave `{bound}` out or lower the scale")
            }
            _ => "which is no decimal number".into(),
        };
        let problem = DefinitionProblem::Bound { bound, text: text.into(), reason };
        source.error(value.span(), problem)
    })
}

fn view(
    name: &str,
    fields: &Fields<'_>,
    streams: &[StreamSchema],
) -> Result<View, DefinitionError> {
    let source = fields.source;
    let stream = fields.require("stream", "`stream = \"…\"`, the stream it reads")?;
    let stream = fields.string("stream", stream)?;
    let Some(schema) = streams.iter().find(|schema| schema.name == *stream.get_ref()) else {
        let names: Vec<_> = streams.iter().map(|schema| schema.name.as_str()).collect();
        let existing = if names.is_empty() { "none".into() } else { names.join(", ") };
        let name = (*stream.get_ref()).into();
        let problem = DefinitionProblem::UnknownStream { name, existing };
        return Err(source.error(stream.span(), problem));
    };
    let filter = match fields.get("where") {
        None => None,
        Some(value) => {
            let text = fields.string("where", value)?;
            let expr = Expr::parse(text.get_ref(), schema)
                .map_err(|error| source.error(source.inside(&text, error.offset), error.problem))?;
            Some(expr)
        }
    };
    let lateness = match fields.get("lateness") {
        None => Lateness::default(),
        Some(value) => lateness(&fields.table("lateness", value, &["allowed", "policy"])?)?,
    };
    let mut view = View {
        name: name.into(),
        stream: schema.name.clone(),
        keys: schema.keys.clone(),
        filter,
        window: window(fields)?,
        aggregates: aggregates::parse(fields, schema)?,
        lateness,
        definition: DefinitionHash(String::new()),
    };
    view.definition = canonical::hash(schema, &view);
    Ok(view)
}

fn window(fields: &Fields<'_>) -> Result<Tumbling, DefinitionError> {
    let value = fields.require("window", "`window = { tumbling = \"1s\" }`")?;
    let window = fields.table("window", value, &["tumbling", "origin"])?;
    let width = window.require("tumbling", "`tumbling = \"1s\"`, the windows' width")?;
    let width_ns = duration(&window, "tumbling", width)?;
    if width_ns == 0 {
        let found = (*window.string("tumbling", width)?.get_ref()).into();
        return Err(fields.source.error(width.span(), DefinitionProblem::Width { found }));
    }
    let origin_ns = match window.get("origin") {
        None => 0,
        Some(value) => {
            let text = match value.get_ref() {
                DeValue::String(text) => text.to_string(),
                DeValue::Datetime(datetime) => datetime.to_string(),
                _ => return Err(wrong_type(fields.source, "origin", "an RFC 3339 time", value)),
            };
            parse_time(&text).map_err(|error| fields.source.error(value.span(), error))?
        }
    };
    Ok(Tumbling { width_ns, origin_ns })
}

fn lateness(fields: &Fields<'_>) -> Result<Lateness, DefinitionError> {
    let allowed_ns = match fields.get("allowed") {
        None => 0,
        Some(value) => duration(fields, "allowed", value)?,
    };
    let policy = match fields.get("policy") {
        None => LatenessPolicy::default(),
        Some(value) => {
            let choices = [
                ("correct", LatenessPolicy::Correct),
                ("side", LatenessPolicy::Side),
                ("drop", LatenessPolicy::Drop),
            ];
            choice(fields, "policy", value, "correct, side, drop", &choices)?
        }
    };
    Ok(Lateness { allowed_ns, policy })
}

fn duration<'a>(
    fields: &Fields<'a>,
    field: &str,
    value: &'a Spanned<DeValue<'a>>,
) -> Result<i64, DefinitionError> {
    let text = match value.get_ref() {
        DeValue::String(text) => text,
        _ => {
            let expected = "a duration in quotes, such as \"1s\" or \"50ms\"";
            return Err(wrong_type(fields.source, field, expected, value));
        }
    };
    parse_duration(text).map_err(|error| fields.source.error(value.span(), error))
}

fn choice<'a, T: Copy>(
    fields: &Fields<'a>,
    field: &'static str,
    value: &'a Spanned<DeValue<'a>>,
    known: &'static str,
    choices: &[(&str, T)],
) -> Result<T, DefinitionError> {
    let text = fields.string(field, value)?;
    let found = choices.iter().find(|(name, _)| name == text.get_ref());
    found.map(|(_, choice)| *choice).ok_or_else(|| {
        let found = (*text.get_ref()).into();
        fields.source.error(value.span(), DefinitionProblem::Choice { field, found, known })
    })
}
