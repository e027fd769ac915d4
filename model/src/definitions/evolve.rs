//! What may change in definitions while ticks are stored under them.

use super::canonical::{column_text, stream_table, view_table};
use super::{Definitions, canonical};
use crate::error::EvolutionError;
use crate::schema::{Column, StreamSchema};
use crate::units::format_scaled;
use crate::view::View;

pub(super) fn evolve(old: &Definitions, new: &Definitions) -> Result<Definitions, EvolutionError> {
    let mut streams = Vec::new();
    for stream in &old.streams {
        streams.push(match new.stream(&stream.name) {
            Ok(changed) => merge(stream, changed)?,
            Err(_) => stream.clone(),
        });
    }
    let added = new.streams.iter().filter(|stream| old.stream(&stream.name).is_err());
    streams.extend(added.cloned());
    let kept = old.views.iter().map(|view| match new.view(&view.name) {
        Ok(changed) => (changed, new),
        Err(_) => (view, old),
    });
    let added = new.views.iter().filter(|view| old.view(&view.name).is_err());
    let views = kept.chain(added.map(|view| (view, new)));
    let views: Vec<_> = views.map(|(view, of)| (view, schema_of(view, &of.streams))).collect();
    if views.iter().all(|(view, schema)| *schema == schema_of(view, &streams)) {
        let views = views.into_iter().map(|(view, _)| view.clone()).collect();
        return Ok(Definitions { streams, views });
    }
    // Views know columns by index, which the merge may have moved: they are written against the
    // schema they were made for and read against the merged one.
    let mut tables: Vec<_> = streams.iter().map(stream_table).collect();
    tables.extend(views.into_iter().map(|(view, schema)| view_table(view, schema)));
    let text = tables.join("\n");
    Ok(Definitions::parse(&text, "merged").expect("the canonical text of valid parts is valid"))
}

/// The schema that a view is over.
fn schema_of<'a>(view: &View, streams: &'a [StreamSchema]) -> &'a StreamSchema {
    let of_view = streams.iter().find(|stream| stream.name == view.stream);
    of_view.expect("a view's stream is defined with it")
}

fn merge(old: &StreamSchema, new: &StreamSchema) -> Result<StreamSchema, EvolutionError> {
    let stream = || old.name.clone();
    let changed = |what: String, old: String, new: String| {
        Err(EvolutionError::Changed { stream: stream(), what, old, new })
    };
    if old.time != new.time {
        let [old, new] = [old, new].map(|schema| canonical::string(&schema.time));
        return changed("the time column".into(), old, new);
    }
    if old.keys != new.keys {
        let [old, new] = [old, new].map(|schema| format!("[{}]", schema.keys.join(", ")));
        return changed("the key".into(), old, new);
    }
    if let Some(now) = &new.keys_allowed {
        let Some(before) = &old.keys_allowed else {
            let (before, now) = ("absent, for any key,", "a list");
            return changed("`keys_allowed`".into(), before.into(), now.into());
        };
        if let Some(gone) = before.sorted().into_iter().find(|key| !now.contains(key)) {
            let what = format!("the key \"{gone}\" of `keys_allowed`");
            return changed(what, "there".into(), "not".into());
        }
    }
    let mut columns = Vec::new();
    for column in &old.columns {
        let Some(index) = new.column(&column.name) else {
            let (column, old) = (column.name.clone(), column_text(column));
            return Err(EvolutionError::Removed { stream: stream(), column, old });
        };
        let now = &new.columns[index];
        if let Some((what, old, new)) = difference(column, now) {
            return changed(format!("the {what} of \"{}\"", column.name), old, new);
        }
        columns.push(now.clone());
    }
    for column in new.columns.iter().filter(|column| old.column(&column.name).is_none()) {
        if !column.optional {
            let (column, new) = (column.name.clone(), column_text(column));
            return Err(EvolutionError::Required { stream: stream(), column, new });
        }
        columns.push(column.clone());
    }
    Ok(StreamSchema { columns, ..new.clone() })
}

/// What of a column changed so that stored values would not fit: its name, old and new.
fn difference(old: &Column, new: &Column) -> Option<(&'static str, String, String)> {
    let bound = |column: &Column, bound: i64| format_scaled(bound.into(), column.scale);
    if old.scale != new.scale {
        let [old, new] = [old, new].map(|column| column.scale.digits().to_string());
        Some(("scale", old, new))
    } else if new.min > old.min {
        Some(("min", bound(old, old.min), bound(new, new.min)))
    } else if new.max < old.max {
        Some(("max", bound(old, old.max), bound(new, new.max)))
    } else if old.optional && !new.optional {
        Some(("`optional`", "true".into(), "false".into()))
    } else {
        None
    }
}
