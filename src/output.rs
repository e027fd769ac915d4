//! Windows as text: tables, CSV and JSON lines.

use std::io::{self, Write};

use isotick_model::results::{ResultSchema, Value, WindowRow};
use isotick_model::view::OutputType;
use isotick_model::{Scale, time, units};

use crate::cli::TimeFormat;

/// The form of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextFormat {
    /// Aligned columns.
    Table,
    /// A header and comma-separated values.
    Csv,
    /// One JSON object a line; integers and decimals are written as exact JSON numbers.
    Json,
}

/// Writes windows: key columns, `window_start`, `window_end`, `version` (live only), aggregates.
pub struct RowWriter<W> {
    out: W,
    format: TextFormat,
    time: TimeFormat,
    schema: ResultSchema,
    versions: bool,
    /// Column widths so far, for tables.
    widths: Vec<usize>,
    header_written: bool,
}

impl<W: Write> RowWriter<W> {
    /// A writer of rows with this schema; `versions` for live windows.
    pub fn new(
        out: W,
        format: TextFormat,
        time: TimeFormat,
        schema: ResultSchema,
        versions: bool,
    ) -> Self {
        Self { out, format, time, schema, versions, widths: Vec::new(), header_written: false }
    }

    /// Writes rows, after the header if this is the first call.
    pub fn write(&mut self, rows: &[WindowRow]) -> io::Result<()> {
        match self.format {
            TextFormat::Table => self.write_table(rows),
            TextFormat::Csv => self.write_csv(rows),
            TextFormat::Json => self.write_json(rows),
        }
    }

    /// Ends the output; a result without rows still gets its header.
    pub fn finish(mut self) -> io::Result<W> {
        self.write(&[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    /// Makes what was written visible.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn names(&self) -> Vec<String> {
        let version = self.versions.then_some("version");
        let fixed = ["window_start", "window_end"].into_iter().chain(version).map(str::to_owned);
        let aggregates = self.schema.columns.iter().map(|(name, _)| name.clone());
        self.schema.keys.iter().cloned().chain(fixed).chain(aggregates).collect()
    }

    /// The fields of a row as text, nulls empty, in the order of the names.
    fn fields(&self, row: &WindowRow) -> Vec<String> {
        let mut fields = row.key.components();
        fields.push(self.time_text(row.window_start));
        fields.push(self.time_text(row.window_end));
        if self.versions {
            fields.push(row.version.to_string());
        }
        let types = self.schema.columns.iter().map(|(_, output)| *output);
        fields
            .extend(row.values.iter().zip(types).map(|(value, output)| value_text(*value, output)));
        fields
    }

    fn time_text(&self, ns: i64) -> String {
        match self.time {
            TimeFormat::Rfc3339 => time::format_rfc3339(ns),
            TimeFormat::Ns => ns.to_string(),
        }
    }

    fn write_table(&mut self, rows: &[WindowRow]) -> io::Result<()> {
        let names = self.names();
        let lines: Vec<_> = rows.iter().map(|row| self.fields(row)).collect();
        self.widths.resize(names.len(), 0);
        for (column, width) in self.widths.iter_mut().enumerate() {
            let fields = lines.iter().map(|line| line[column].chars().count());
            *width = fields.max().unwrap_or(0).max(names[column].len()).max(*width);
        }
        let header = (!std::mem::replace(&mut self.header_written, true)).then_some(&names);
        for line in header.into_iter().chain(&lines) {
            let mut text = String::new();
            for (column, field) in line.iter().enumerate() {
                let width = self.widths[column];
                match column < self.schema.keys.len() {
                    true => text += &format!("{field:<width$}  "),
                    false => text += &format!("{field:>width$}  "),
                }
            }
            writeln!(self.out, "{}", text.trim_end())?;
        }
        Ok(())
    }

    fn write_csv(&mut self, rows: &[WindowRow]) -> io::Result<()> {
        let header = (!std::mem::replace(&mut self.header_written, true)).then(|| self.names());
        let lines: Vec<_> = rows.iter().map(|row| self.fields(row)).collect();
        let mut csv = csv::Writer::from_writer(&mut self.out);
        for line in header.iter().chain(&lines) {
            csv.write_record(line).map_err(io_error)?;
        }
        csv.flush()
    }

    fn write_json(&mut self, rows: &[WindowRow]) -> io::Result<()> {
        let names = self.names();
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let texts = self.schema.keys.len();
        for row in rows {
            let fields = self.fields(row);
            let mut separator = '{';
            for (column, (name, field)) in names.iter().zip(&fields).enumerate() {
                let is_time = (texts..texts + 2).contains(&column);
                let value = match () {
                    () if column < texts => quoted(field),
                    () if is_time && self.time == TimeFormat::Rfc3339 => quoted(field),
                    () if field.is_empty() => "null".to_owned(),
                    () => field.clone(),
                };
                write!(self.out, "{separator}{}:{value}", quoted(name))?;
                separator = ',';
            }
            self.out.write_all(b"}\n")?;
        }
        Ok(())
    }
}

/// The write error behind a CSV error, its kind kept.
fn io_error(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        kind => io::Error::other(format!("{kind:?}")),
    }
}

/// A value as text: exact decimals at the column's scale, quotients as the shortest decimal that
/// round-trips, null as nothing.
pub fn value_text(value: Value, output: OutputType) -> String {
    let scale = match output {
        OutputType::Scaled(scale) | OutputType::ScaledWide(scale) => scale,
        OutputType::Count | OutputType::Float => Scale::default(),
    };
    match value {
        Value::Null => String::new(),
        Value::Integer(integer) => units::format_scaled(integer, scale),
        Value::Float(float) => units::format_f64(float),
    }
}
