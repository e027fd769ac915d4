//! What a file holds, and a stream's definition that would fit it.

use std::collections::HashSet;
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;
use isotick_model::time::TimeUnit;
use isotick_model::{Column, Inexact, RejectReason, Scale, StreamSchema};
use parquet::file::statistics::Statistics;

use super::lines::{Line, Records};
use super::{Format, Source, SourceError, array, dbn_file, parquet_reader, text};

/// Rows that a description looks at: the whole of most files.
const ROWS_LOOKED_AT: usize = 1_000_000;
const BATCH_ROWS: usize = 65_536;
/// Values that need more decimals than this are taken for raw floats.
const SCALE_MAX: u8 = 12;
/// The scale suggested for raw floats, which are then rounded.
const SCALE_ROUNDED: u8 = 6;
/// A text field with no telling name is taken as the key up to this many distinct texts.
const KEYS_MAX: usize = 10_000;

const TIME_NAMES: [&str; 12] = [
    "ts_event",
    "ts",
    "time",
    "timestamp",
    "event_time",
    "event_ts",
    "datetime",
    "date_time",
    "date",
    "ts_recv",
    "recv_ts",
    "t",
];
const KEY_NAMES: [&str; 10] = [
    "symbol",
    "instrument",
    "ticker",
    "key",
    "series",
    "sensor",
    "instrument_id",
    "device",
    "device_id",
    "station",
];

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceSchema {
    /// The format.
    pub format: Format,
    /// Rows, where the file says so.
    pub rows: Option<u64>,
    /// The fields in file order.
    pub fields: Vec<SourceField>,
}

/// One field of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceField {
    /// Its name.
    pub name: String,
    /// Its type, as the file states it; `text` in a text file.
    pub data_type: String,
    /// The decimal digits of its values: a decimal's own, or the scale that the file's metadata
    /// state for its integers.
    ///
    /// Looked for in this order: `scale` in the field's own metadata; `<field>_scale` in the
    /// file's; then the file's `price_scale` for fields whose last word is a price's (`price`,
    /// `px`, `bid`, `ask`, `open`, `high`, `low`, `close`, `mid`, `last`, `vwap`), and
    /// `size_scale` for those whose last word is a size's (`size`, `qty`, `quantity`, `volume`).
    /// Where nothing is stated integers are taken at the declared scale.
    pub scale: Option<Scale>,
    /// Whether nulls (in text: empty fields) were met among the rows looked at, or are counted in
    /// the file's statistics.
    pub nulls: bool,
}

/// A stream's definition that fits a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    /// The definition. Bounds are left open.
    pub schema: StreamSchema,
    /// The unit of the time field's integers.
    pub time_unit: TimeUnit,
    /// Columns whose name differs from their field's, for [`SourceOptions::map`]
    /// (field names that cannot stand in a definition).
    ///
    /// [`SourceOptions::map`]: super::SourceOptions::map
    pub map: Vec<(String, String)>,
    /// Fields that were left out, and why.
    pub skipped: Vec<(String, String)>,
    /// Columns whose scale or nature was guessed, and how.
    pub notes: Vec<(String, String)>,
}

impl Source {
    /// What a file holds: its fields, their types and scales.
    ///
    /// # Errors
    ///
    /// When the file cannot be read as what it is.
    pub fn describe(path: impl AsRef<Path>) -> Result<SourceSchema, SourceError> {
        let (format, rows, profiles) = profile(path.as_ref())?;
        let fields = profiles
            .into_iter()
            .map(|profile| SourceField {
                scale: profile.own_scale(),
                nulls: profile.nulls,
                name: profile.name,
                data_type: profile.data_type,
            })
            .collect();
        Ok(SourceSchema { format, rows, fields })
    }

    /// A stream's definition that fits a file, from its types and up to a million of its rows:
    /// the time by type or name, the key by name or as the first text with few distinct values,
    /// every number as a value at the scale the file states or, for floats and text, the least
    /// that holds what was seen. Where that does not exist the definition rounds.
    ///
    /// # Errors
    ///
    /// When the file cannot be read as what it is, or nothing in it looks like a time.
    pub fn suggest(path: impl AsRef<Path>, stream: &str) -> Result<Suggestion, SourceError> {
        let path = path.as_ref();
        let (_, _, profiles) = profile(path)?;
        suggest(path, stream, &profiles)
    }
}

/// What was seen of a field.
struct Profile {
    name: String,
    data_type: String,
    /// The type in a Parquet file; `None` in a text file.
    arrow: Option<DataType>,
    stated: Option<Scale>,
    nulls: bool,
    /// Values that were not null.
    seen: usize,
    /// The least scale that holds every number seen; above [`SCALE_MAX`] when none does.
    digits: u8,
    magnitude: f64,
    numbers: bool,
    /// The least and the greatest number seen, cut to whole ones.
    span: (i64, i64),
    times: bool,
    distinct: HashSet<String>,
}

impl Profile {
    fn new(name: String, arrow: Option<DataType>, stated: Option<Scale>) -> Self {
        Self {
            name,
            data_type: arrow.as_ref().map_or_else(|| "text".into(), DataType::to_string),
            arrow,
            stated,
            nulls: false,
            seen: 0,
            digits: 0,
            magnitude: 0.0,
            numbers: true,
            span: (i64::MAX, i64::MIN),
            times: true,
            distinct: HashSet::new(),
        }
    }

    fn own_scale(&self) -> Option<Scale> {
        match self.arrow {
            Some(
                DataType::Decimal32(_, scale)
                | DataType::Decimal64(_, scale)
                | DataType::Decimal128(_, scale)
                | DataType::Decimal256(_, scale),
            ) => u8::try_from(scale).ok().and_then(Scale::new),
            _ => self.stated,
        }
    }

    fn is_text(&self) -> bool {
        match &self.arrow {
            None => true,
            Some(DataType::Dictionary(_, value)) => array::is_text(value),
            Some(data_type) => array::is_text(data_type),
        }
    }

    fn look(&mut self, array: &ArrayRef) {
        self.nulls |= array.logical_null_count() > 0;
        self.seen += array.len() - array.logical_null_count();
        match array.data_type() {
            DataType::Float64 => {
                for x in array.as_primitive::<Float64Type>().iter().flatten() {
                    self.look_at_float(x, |scale| scale.from_f64(x, Inexact::Reject));
                }
            }
            DataType::Float32 => {
                for x in array.as_primitive::<Float32Type>().iter().flatten() {
                    self.look_at_float(x.into(), |scale| scale.from_f32(x, Inexact::Reject));
                }
            }
            data_type if data_type.is_integer() => {
                let Ok(array) = arrow_cast::cast(array, &DataType::Int64) else { return };
                for value in array.as_primitive::<Int64Type>().iter().flatten() {
                    self.look_at_integer(value);
                }
            }
            _ if self.is_text() => {
                let Ok(array) = arrow_cast::cast(array, &DataType::Utf8) else { return };
                for text in array.as_string::<i32>().iter().flatten() {
                    self.look_at_text(text);
                }
            }
            _ => {}
        }
    }

    fn look_at_float(&mut self, x: f64, at: impl Fn(Scale) -> Result<i64, RejectReason>) {
        if x.is_finite() {
            self.magnitude = self.magnitude.max(x.abs());
            self.raise(at);
        }
    }

    fn look_at_integer(&mut self, value: i64) {
        self.span = (self.span.0.min(value), self.span.1.max(value));
    }

    fn look_at_text(&mut self, text: &str) {
        if self.distinct.len() <= KEYS_MAX && !self.distinct.contains(text) {
            self.distinct.insert(text.to_string());
        }
        let text = text.trim();
        if let Ok(value) = text.parse() {
            self.look_at_integer(value);
            self.magnitude = self.magnitude.max((value as f64).abs());
            return;
        }
        // Looked at only as long as every value before was one.
        self.times = self.times && text::time(text.as_bytes(), TimeUnit::Seconds).is_ok();
        let number = text.parse::<f64>();
        self.numbers = self.numbers && number.is_ok();
        if let Ok(x) = number
            && self.numbers
            && x.is_finite()
        {
            self.look_at_integer(x as i64);
            self.magnitude = self.magnitude.max(x.abs());
            self.raise(|scale| scale.parse_decimal(text));
        }
    }

    /// Raises the scale until it holds a value.
    fn raise(&mut self, at: impl Fn(Scale) -> Result<i64, RejectReason>) {
        while let Some(scale) = Scale::new(self.digits).filter(|_| self.digits <= SCALE_MAX)
            && at(scale) == Err(RejectReason::Inexact)
        {
            self.digits += 1;
        }
    }

    /// The scale for a value column, and whether it holds every value exactly; `None` when the
    /// field holds no numbers.
    fn value_scale(&self) -> Option<(Scale, bool)> {
        let exact = |digits| Scale::new(digits).map(|scale| (scale, true));
        let guessed = |limit: f64| match Scale::new(self.digits) {
            Some(scale)
                if self.digits <= SCALE_MAX && self.magnitude * scale.factor() as f64 <= limit =>
            {
                Some((scale, true))
            }
            _ => Scale::new(SCALE_ROUNDED).map(|scale| (scale, false)),
        };
        match self.arrow.as_ref() {
            Some(DataType::Float64) => guessed((1_u64 << 53) as f64),
            Some(DataType::Float32) => guessed((1_u64 << 24) as f64),
            Some(DataType::Boolean) => exact(0),
            Some(
                DataType::Decimal32(_, scale)
                | DataType::Decimal64(_, scale)
                | DataType::Decimal128(_, scale)
                | DataType::Decimal256(_, scale),
            ) => exact((*scale).clamp(0, Scale::MAX as i8) as u8),
            Some(data_type) if data_type.is_integer() => {
                exact(self.stated.map_or(0, Scale::digits))
            }
            _ if self.is_text() && self.numbers && self.seen > 0 => guessed(i64::MAX as f64),
            _ => None,
        }
    }

    fn is_time_type(&self) -> bool {
        matches!(self.arrow, Some(DataType::Timestamp(..) | DataType::Date32 | DataType::Date64))
    }

    /// Whether the field could be the time if its name says so.
    fn may_be_time(&self) -> bool {
        match &self.arrow {
            Some(data_type) if data_type.is_integer() => true,
            _ => self.is_text() && self.times && self.seen > 0,
        }
    }

    /// Whether the field is text whose values are dates or times, and not numbers.
    fn is_time_text(&self) -> bool {
        self.is_text() && self.times && !self.numbers && self.seen > 0
    }

    /// The unit in which all numbers lie between 1990 and 2100; nanoseconds when none does.
    fn time_unit(&self) -> TimeUnit {
        const SPAN_S: std::ops::Range<i64> = 631_152_000..4_102_444_800;
        let units = [
            TimeUnit::Nanoseconds,
            TimeUnit::Microseconds,
            TimeUnit::Milliseconds,
            TimeUnit::Seconds,
        ];
        let fits = |unit: &TimeUnit| {
            let per_second = 1_000_000_000 / unit.ns();
            let (min, max) = self.span;
            SPAN_S.contains(&(min / per_second)) && SPAN_S.contains(&(max / per_second))
        };
        units.into_iter().find(fits).unwrap_or_default()
    }
}

fn profile(path: &Path) -> Result<(Format, Option<u64>, Vec<Profile>), SourceError> {
    let format = Format::of(path)?;
    match format {
        Format::Parquet => {
            profile_parquet(path).map(|(rows, profiles)| (format, Some(rows), profiles))
        }
        Format::Csv | Format::Tsv => Ok((format, None, profile_text(path, format)?)),
        Format::Dbn => Ok((format, None, profile_dbn(path)?)),
    }
}

fn profile_parquet(path: &Path) -> Result<(u64, Vec<Profile>), SourceError> {
    let (file, metadata) = parquet_reader::load(path)?;
    let fields = metadata.schema().fields();
    let mut profiles = Vec::new();
    for (index, field) in fields.iter().enumerate() {
        let stated = parquet_reader::scale_of(path, &metadata, index)?;
        profiles.push(Profile::new(field.name().clone(), Some(field.data_type().clone()), stated));
    }
    // Types that no column can take are not decoded.
    let looked_at: Vec<usize> = (0..fields.len())
        .filter(|&index| {
            let data_type = fields[index].data_type();
            array::is_value(data_type) || array::is_time(data_type) || array::is_key(data_type)
        })
        .collect();
    let mut left = ROWS_LOOKED_AT;
    for group in 0..metadata.metadata().num_row_groups() {
        if left == 0 || looked_at.is_empty() {
            break;
        }
        let mut reader = parquet_reader::group_reader(
            path,
            &file,
            &metadata,
            group,
            &looked_at,
            BATCH_ROWS,
            0..parquet_reader::group_rows(&metadata, group) as usize,
        )?;
        while left > 0
            && let Some(batch) = parquet_reader::next_of(path, &mut reader)?
        {
            left = left.saturating_sub(batch.num_rows());
            for (&index, array) in looked_at.iter().zip(batch.columns()) {
                profiles[index].look(array);
            }
        }
    }
    let descriptor = metadata.parquet_schema();
    for group in metadata.metadata().row_groups() {
        for (leaf, column) in group.columns().iter().enumerate() {
            let nulls = column.statistics().and_then(Statistics::null_count_opt);
            profiles[descriptor.get_column_root_idx(leaf)].nulls |=
                nulls.is_some_and(|nulls| nulls > 0);
        }
    }
    Ok((parquet_reader::rows_of(&metadata), profiles))
}

fn profile_dbn(path: &Path) -> Result<Vec<Profile>, SourceError> {
    let described = dbn_file::Described::of(path)?;
    let fields = described.fields().into_iter();
    let new = |(name, data_type, stated)| Profile::new(name, Some(data_type), stated);
    let mut profiles: Vec<_> = fields.map(new).collect();
    described.look(path, ROWS_LOOKED_AT, |columns| {
        for (profile, column) in profiles.iter_mut().zip(columns) {
            profile.look(column);
        }
    })?;
    Ok(profiles)
}

fn profile_text(path: &Path, format: Format) -> Result<Vec<Profile>, SourceError> {
    let mut records = Records::open(path, format, Default::default())?;
    let names = records.header(path)?;
    let mut profiles: Vec<Profile> =
        names.into_iter().map(|name| Profile::new(name, None, None)).collect();
    for _ in 0..ROWS_LOOKED_AT {
        let Some(line) = records.next(path)? else { break };
        if !matches!(line, Line::Fields) || records.len() != profiles.len() {
            continue;
        }
        for (at, profile) in profiles.iter_mut().enumerate() {
            match String::from_utf8_lossy(records.field(at)) {
                text if text.trim().is_empty() => profile.nulls = true,
                text => {
                    profile.seen += 1;
                    profile.look_at_text(&text);
                }
            }
        }
    }
    Ok(profiles)
}

fn suggest(path: &Path, stream: &str, profiles: &[Profile]) -> Result<Suggestion, SourceError> {
    let named = |names: &[&str], fits: &dyn Fn(&Profile) -> bool| {
        names.iter().find_map(|name| {
            profiles
                .iter()
                .position(|profile| profile.name.eq_ignore_ascii_case(name) && fits(profile))
        })
    };
    let first = |fits: &dyn Fn(&Profile) -> bool| profiles.iter().position(fits);
    let time = named(&TIME_NAMES, &Profile::is_time_type)
        .or_else(|| first(&Profile::is_time_type))
        .or_else(|| named(&TIME_NAMES, &Profile::may_be_time))
        .or_else(|| first(&Profile::is_time_text))
        .ok_or_else(|| SourceError::NoTime {
            path: path.into(),
            fields: profiles.iter().map(|profile| profile.name.clone()).collect(),
        })?;
    let keys = |profile: &Profile| profile.is_text() && !profile.is_time_text() && profile.seen > 0;
    let key = named(&KEY_NAMES, &keys).or_else(|| {
        first(&|profile| {
            keys(profile)
                && profile.value_scale().is_none()
                && !profile.nulls
                && profile.distinct.len() <= KEYS_MAX.min(profile.seen / 2)
        })
    });
    let mut suggestion = Suggestion {
        schema: StreamSchema {
            name: stream.into(),
            time: String::new(),
            keys: Vec::new(),
            columns: Vec::new(),
            inexact: Inexact::Reject,
            keys_allowed: None,
            horizon_ns: Some(StreamSchema::HORIZON_NS_DEFAULT),
            retention: Default::default(),
            codec: Default::default(),
        },
        time_unit: profiles[time].time_unit(),
        map: Vec::new(),
        skipped: Vec::new(),
        notes: Vec::new(),
    };
    let mut taken = HashSet::new();
    for (index, profile) in profiles.iter().enumerate() {
        let value = profile.value_scale();
        if index != time && Some(index) != key && value.is_none() {
            let why = match profile.is_text() {
                true => "text that is neither key nor number".to_string(),
                false => format!("type {} is not read", profile.data_type),
            };
            suggestion.skipped.push((profile.name.clone(), why));
            continue;
        }
        let name = column_name(&profile.name, &mut taken);
        if name != profile.name {
            suggestion.map.push((name.clone(), profile.name.clone()));
        }
        if index == time {
            suggestion.schema.time = name;
        } else if Some(index) == key {
            suggestion.schema.keys.push(name);
        } else if let Some((scale, exact)) = value {
            if !exact {
                suggestion.schema.inexact = Inexact::Round;
                let note = format!(
                    "no scale up to {SCALE_MAX} holds every value exactly, so values are rounded \
                     to {SCALE_ROUNDED} decimals"
                );
                suggestion.notes.push((name.clone(), note));
            }
            suggestion.schema.columns.push(Column {
                name,
                scale,
                min: i64::MIN,
                max: i64::MAX,
                optional: profile.nulls,
            });
        }
    }
    Ok(suggestion)
}

/// A name that can stand in a definition: letters, digits and underscores, no digit first.
fn column_name(field: &str, taken: &mut HashSet<String>) -> String {
    let mut name: String = field
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' })
        .collect();
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, '_');
    }
    while !taken.insert(name.clone()) {
        name.push('_');
    }
    name
}
