//! TOML values with their places in the file, so that every error shows its line.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{DefinitionError, DefinitionProblem};

/// The text that definitions are read from.
pub(super) struct Source<'a> {
    pub(super) file: &'a str,
    pub(super) text: &'a str,
}

impl Source<'_> {
    /// The error at a range of bytes; ranges over several lines are cut to the first.
    pub(super) fn error(
        &self,
        span: Range<usize>,
        problem: impl Into<DefinitionProblem>,
    ) -> DefinitionError {
        let start = self.text.floor_char_boundary(span.start);
        let line_start = self.text[..start].rfind('\n').map_or(0, |at| at + 1);
        let rest = &self.text[line_start..];
        let source_line = rest.lines().next().unwrap_or_default();
        let end = span.end.min(line_start + source_line.len());
        let end = self.text.floor_char_boundary(end).max(start);
        DefinitionError {
            file: self.file.into(),
            line: self.text[..line_start].matches('\n').count() + 1,
            column: self.text[line_start..start].chars().count() + 1,
            width: self.text[start..end].chars().count().max(1),
            source_line: source_line.into(),
            problem: Box::new(problem.into()),
        }
    }

    /// Where a byte of a string's content stands in the file: exactly, unless the string is
    /// written with escapes; then the whole string is meant.
    pub(super) fn inside(&self, value: &Spanned<&str>, offset: usize) -> Range<usize> {
        let (span, content) = (value.span(), *value.get_ref());
        let raw = &self.text[span.clone()];
        for quote in ["\"\"\"", "'''", "\"", "'"] {
            if raw.strip_prefix(quote).is_some_and(|rest| rest.strip_suffix(quote) == Some(content))
            {
                let start = span.start + quote.len() + offset;
                return start..start;
            }
        }
        span
    }
}

/// One table: what it is, for messages, and its fields.
pub(super) struct Fields<'a> {
    pub(super) source: &'a Source<'a>,
    /// Such as `the stream "trades"`.
    pub(super) place: String,
    /// Where the table's name stands.
    pub(super) span: Range<usize>,
    table: &'a DeTable<'a>,
}

impl<'a> Fields<'a> {
    /// Takes a table whose fields must be among `known`.
    pub(super) fn new(
        source: &'a Source<'a>,
        place: String,
        span: Range<usize>,
        table: &'a DeTable<'a>,
        known: &[&str],
    ) -> Result<Self, DefinitionError> {
        for (field, _) in in_order(table) {
            if !known.contains(&field.get_ref().as_ref()) {
                let problem = DefinitionProblem::UnknownField {
                    field: field.get_ref().to_string(),
                    place,
                    known: known.join(", "),
                };
                return Err(source.error(field.span(), problem));
            }
        }
        Ok(Self { source, place, span, table })
    }

    /// A field that may be absent.
    pub(super) fn get(&self, field: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table.get(field)
    }

    /// A field that must be there.
    pub(super) fn require(
        &self,
        field: &'static str,
        example: &'static str,
    ) -> Result<&'a Spanned<DeValue<'a>>, DefinitionError> {
        self.get(field).ok_or_else(|| {
            let problem =
                DefinitionProblem::MissingField { field, place: self.place.clone(), example };
            self.source.error(self.span.clone(), problem)
        })
    }

    /// A value's text.
    pub(super) fn string(
        &self,
        field: &str,
        value: &'a Spanned<DeValue<'a>>,
    ) -> Result<Spanned<&'a str>, DefinitionError> {
        match value.get_ref() {
            DeValue::String(text) => Ok(Spanned::new(value.span(), text.as_ref())),
            _ => Err(wrong_type(self.source, field, "a string", value)),
        }
    }

    /// A value that is a table with fields among `known`.
    pub(super) fn table(
        &self,
        field: &str,
        value: &'a Spanned<DeValue<'a>>,
        known: &[&str],
    ) -> Result<Fields<'a>, DefinitionError> {
        let table = table_of(self.source, field, value)?;
        let place = format!("`{field}` of {}", self.place);
        Fields::new(self.source, place, value.span(), table, known)
    }
}

/// A value that is a table.
pub(super) fn table_of<'a>(
    source: &Source<'_>,
    field: &str,
    value: &'a Spanned<DeValue<'a>>,
) -> Result<&'a DeTable<'a>, DefinitionError> {
    match value.get_ref() {
        DeValue::Table(table) => Ok(table),
        _ => Err(wrong_type(source, field, "a table", value)),
    }
}

pub(super) fn wrong_type(
    source: &Source<'_>,
    field: &str,
    expected: &'static str,
    value: &Spanned<DeValue<'_>>,
) -> DefinitionError {
    let found = value.get_ref().type_str();
    let problem = DefinitionProblem::WrongType { field: field.into(), expected, found };
    source.error(value.span(), problem)
}

/// A table's entries in the order of the file.
pub(super) fn in_order<'a>(
    table: &'a DeTable<'a>,
) -> Vec<(&'a Spanned<std::borrow::Cow<'a, str>>, &'a Spanned<DeValue<'a>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}
