//! Which of the file's fields feeds which declared column, and at what scale its integers are.

use std::collections::HashMap;
use std::path::Path;

use isotick_model::{Scale, StreamSchema};

use super::SourceError;

/// The file's fields, by index, behind the declared columns.
#[derive(Clone, Debug)]
pub(super) struct Bindings {
    pub(super) time: usize,
    pub(super) keys: Vec<usize>,
    /// Per value column; `None` for an optional one that the file does not have.
    pub(super) values: Vec<Option<usize>>,
}

impl Bindings {
    pub(super) fn new(
        path: &Path,
        schema: &StreamSchema,
        map: &[(String, String)],
        fields: &[String],
    ) -> Result<Self, SourceError> {
        let renamed = renamed(schema, map)?;
        let find = |column: &str, required: bool| {
            let field = renamed.get(column).copied();
            let wanted = field.unwrap_or(column);
            let mut places = fields.iter().enumerate().filter(|(_, name)| *name == wanted);
            match (places.next(), places.next()) {
                (Some((index, _)), None) => Ok(Some(index)),
                (Some(_), Some(_)) => {
                    Err(SourceError::RepeatedField { path: path.into(), field: wanted.into() })
                }
                // A field that the user named must be there, also for an optional column.
                (None, _) if !required && field.is_none() => Ok(None),
                (None, _) => Err(SourceError::MissingField {
                    path: path.into(),
                    column: column.into(),
                    field: wanted.into(),
                    fields: fields.to_vec(),
                }),
            }
        };
        let required = |column: &str| {
            find(column, true).map(|field| field.expect("a missing required field is an error"))
        };
        Ok(Self {
            time: required(&schema.time)?,
            keys: schema.keys.iter().map(|key| required(key)).collect::<Result<_, _>>()?,
            values: schema
                .columns
                .iter()
                .map(|column| find(&column.name, !column.optional))
                .collect::<Result<_, _>>()?,
        })
    }
}

fn renamed<'a>(
    schema: &StreamSchema,
    map: &'a [(String, String)],
) -> Result<HashMap<&'a str, &'a str>, SourceError> {
    let mut renamed = HashMap::new();
    for (column, field) in map {
        let declared = *column == schema.time
            || schema.key(column).is_some()
            || schema.column(column).is_some();
        if !declared {
            let values = schema.columns.iter().map(|column| &column.name);
            return Err(SourceError::MapUnknown {
                column: column.clone(),
                field: field.clone(),
                stream: schema.name.clone(),
                columns: [&schema.time]
                    .into_iter()
                    .chain(&schema.keys)
                    .chain(values)
                    .cloned()
                    .collect(),
            });
        }
        if renamed.insert(column.as_str(), field.as_str()).is_some() {
            return Err(SourceError::MapRepeated { column: column.clone() });
        }
    }
    Ok(renamed)
}

/// The words that make a field a price or a size where the file states a scale for all of them.
const PRICE_WORDS: [&str; 11] =
    ["price", "px", "bid", "ask", "open", "high", "low", "close", "mid", "last", "vwap"];
const SIZE_WORDS: [&str; 4] = ["size", "qty", "quantity", "volume"];

/// The scale at which the file's metadata say the integers of a field are, if they do.
///
/// Looked up in this order: `scale` in the field's own metadata; `<field>_scale` in the file's;
/// then the file's `price_scale` for fields whose last word is a price's (`price`, `bid`, `open`,
/// …), `size_scale` for those whose last word is a size's.
pub(super) fn stated_scale(
    path: &Path,
    field: &str,
    field_metadata: &HashMap<String, String>,
    file_metadata: &HashMap<String, String>,
) -> Result<Option<Scale>, SourceError> {
    let kind = match last_word(field) {
        word if PRICE_WORDS.contains(&word.as_str()) || word.ends_with("price") => {
            Some("price_scale")
        }
        word if SIZE_WORDS.contains(&word.as_str())
            || word.ends_with("size")
            || word.ends_with("qty") =>
        {
            Some("size_scale")
        }
        _ => None,
    };
    let text = field_metadata
        .get("scale")
        .or_else(|| file_metadata.get(&format!("{field}_scale")))
        .or_else(|| file_metadata.get(kind?));
    let Some(text) = text else { return Ok(None) };
    let scale = text.trim().parse().ok().and_then(Scale::new);
    scale.map(Some).ok_or_else(|| SourceError::BadScale {
        path: path.into(),
        field: field.into(),
        text: text.clone(),
    })
}

fn last_word(field: &str) -> String {
    field.rsplit(['_', '.', '-', ' ']).next().unwrap_or(field).to_lowercase()
}
