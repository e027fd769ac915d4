//! Arrow arrays: times, key texts and scaled values, a column at a time.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type,
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, DictionaryArray, Int32Array};
use arrow_buffer::{ArrowNativeType, NullBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, TimeUnit as ArrowUnit};
use isotick_model::time::TimeUnit;
use isotick_model::units::format_scaled;
use isotick_model::{Column, Inexact, Key, RejectReason, Scale, ValueColumn};

use super::batch::{KeyTexts, Refusal, Refusals, TimeRange, shown};
use super::text;

const NS_PER_SECOND: i64 = 1_000_000_000;
const NS_PER_DAY: i64 = 86_400 * NS_PER_SECOND;

/// Whether a field of this type can be the event time.
pub(super) fn is_time(data_type: &DataType) -> bool {
    data_type.is_integer()
        || is_text(data_type)
        || matches!(
            data_type,
            DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 | DataType::Null
        )
        || matches!(data_type, DataType::Dictionary(_, value) if is_time(value))
}

/// Whether a field of this type can be a key column.
pub(super) fn is_key(data_type: &DataType) -> bool {
    data_type.is_integer()
        || is_text(data_type)
        || matches!(
            data_type,
            DataType::Boolean
                | DataType::Binary
                | DataType::LargeBinary
                | DataType::BinaryView
                | DataType::Null
        )
        || matches!(data_type, DataType::Dictionary(_, value) if is_key(value))
}

/// Whether a field of this type can be a value column.
pub(super) fn is_value(data_type: &DataType) -> bool {
    data_type.is_integer()
        || is_text(data_type)
        || matches!(
            data_type,
            DataType::Boolean
                | DataType::Float32
                | DataType::Float64
                | DataType::Decimal32(..)
                | DataType::Decimal64(..)
                | DataType::Decimal128(..)
                | DataType::Decimal256(..)
                | DataType::Null
        )
        || matches!(data_type, DataType::Dictionary(_, value) if is_value(value))
}

/// Whether a field of this type holds text.
pub(super) fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// Where a refusal goes and how it is called.
pub(super) struct Site<'a> {
    pub(super) refusals: &'a mut Refusals,
    pub(super) column: &'a str,
}

/// Runs `convert` over the rows that are not null; refused rows and nulls become 0.
fn convert(
    rows: usize,
    nulls: Option<&NullBuffer>,
    site: &mut Site,
    mut convert: impl FnMut(usize) -> Result<i64, Refusal>,
) -> ScalarBuffer<i64> {
    (0..rows)
        .map(|row| {
            if nulls.is_some_and(|nulls| nulls.is_null(row)) {
                return 0;
            }
            convert(row).unwrap_or_else(|refusal| {
                site.refusals.refuse(row, rows, site.column, refusal);
                0
            })
        })
        .collect()
}

fn refuse_nulls(
    nulls: Option<&NullBuffer>,
    rows: usize,
    site: &mut Site,
    refusal: (RejectReason, &str),
) {
    let Some(nulls) = nulls else { return };
    for row in (0..rows).filter(|&row| nulls.is_null(row)) {
        site.refusals.refuse(row, rows, site.column, (refusal.0, refusal.1.to_string()));
    }
}

/// Event times. Integers count `unit`s; a timestamp knows its own unit, and without a zone it is
/// UTC. Null times and times outside `range` are refused.
pub(super) fn times(
    array: &ArrayRef,
    unit: TimeUnit,
    range: TimeRange,
    mut site: Site,
) -> Result<ScalarBuffer<i64>, ArrowError> {
    let (array, nulls) = decoded(array)?;
    let rows = array.len();
    let nulls = nulls.as_ref();
    let site = &mut site;
    let counts = |unit, values: &dyn Fn(usize) -> i128, site: &mut Site| {
        convert(rows, nulls, site, |row| {
            let count = values(row);
            i64::try_from(count)
                .map_err(|_| RejectReason::TimeOutOfRange)
                .and_then(|count| TimeUnit::to_ns(unit, count))
                .map_err(|reason| {
                    (reason, format!("{count} {unit} does not fit 64-bit nanoseconds"))
                })
        })
    };
    macro_rules! counts {
        ($type:ty, $unit:expr) => {{
            let values = array.as_primitive::<$type>().values();
            counts($unit, &|row| i128::from(values[row]), site)
        }};
    }
    let times = match array.data_type() {
        DataType::Int64 if unit == TimeUnit::Nanoseconds => {
            zeroed(array.as_primitive::<Int64Type>().values(), nulls)
        }
        DataType::Timestamp(ArrowUnit::Nanosecond, _) => {
            zeroed(array.as_primitive::<TimestampNanosecondType>().values(), nulls)
        }
        DataType::Int8 => counts!(Int8Type, unit),
        DataType::Int16 => counts!(Int16Type, unit),
        DataType::Int32 => counts!(Int32Type, unit),
        DataType::Int64 => counts!(Int64Type, unit),
        DataType::UInt8 => counts!(UInt8Type, unit),
        DataType::UInt16 => counts!(UInt16Type, unit),
        DataType::UInt32 => counts!(UInt32Type, unit),
        DataType::UInt64 => counts!(UInt64Type, unit),
        DataType::Timestamp(ArrowUnit::Second, _) => {
            counts!(TimestampSecondType, TimeUnit::Seconds)
        }
        DataType::Timestamp(ArrowUnit::Millisecond, _) => {
            counts!(TimestampMillisecondType, TimeUnit::Milliseconds)
        }
        DataType::Timestamp(ArrowUnit::Microsecond, _) => {
            counts!(TimestampMicrosecondType, TimeUnit::Microseconds)
        }
        DataType::Date64 => counts!(Date64Type, TimeUnit::Milliseconds),
        DataType::Date32 => {
            let days = array.as_primitive::<Date32Type>().values();
            convert(rows, nulls, site, |row| {
                i64::from(days[row]).checked_mul(NS_PER_DAY).ok_or_else(|| {
                    let text = format!("day {} does not fit 64-bit nanoseconds", days[row]);
                    (RejectReason::TimeOutOfRange, text)
                })
            })
        }
        DataType::Null => vec![0; rows].into(),
        _ => {
            let texts = texts(&array)?;
            convert(rows, nulls, site, |row| text::time(texts.value(row).as_bytes(), unit))
        }
    };
    refuse_nulls(nulls, rows, site, (RejectReason::NullTime, "the time is null"));
    if outside(&times, range.min, range.max) {
        for row in 0..rows {
            if !range.holds(times[row]) && !nulls.is_some_and(|n| n.is_null(row)) {
                site.refusals.refuse(row, rows, site.column, TimeRange::refusal(times[row]));
            }
        }
    }
    Ok(times)
}

/// Refuses the times whose nanoseconds do not lie in their second: they have wrapped around.
pub(super) fn refuse_wrapped(nanoseconds: &ArrayRef, seconds: &ArrayRef, site: Site) {
    let (Some(nanoseconds), Some(seconds)) = (
        nanoseconds.as_primitive_opt::<TimestampNanosecondType>(),
        seconds.as_primitive_opt::<TimestampSecondType>(),
    ) else {
        return;
    };
    let rows = nanoseconds.len();
    for (row, (ns, s)) in nanoseconds.iter().zip(seconds).enumerate() {
        if let (Some(ns), Some(s)) = (ns, s)
            && ns.div_euclid(NS_PER_SECOND) != s
        {
            let text = format!("{s} s does not fit 64-bit nanoseconds");
            site.refusals.refuse(row, rows, site.column, (RejectReason::TimeOutOfRange, text));
        }
    }
}

/// One value column at its declared scale. `stated` is the scale of the file's integers where
/// the file says one. Nulls are refused unless the column is optional, values outside the bounds
/// always.
pub(super) fn values(
    array: &ArrayRef,
    column: &Column,
    stated: Option<Scale>,
    inexact: Inexact,
    refusals: &mut Refusals,
) -> Result<ValueColumn, ArrowError> {
    let (array, nulls) = decoded(array)?;
    let (rows, nulls) = (array.len(), nulls.as_ref());
    let site = &mut Site { refusals, column: &column.name };
    let from = i32::from(stated.unwrap_or(column.scale).digits());
    let scale = column.scale;
    let rescale = |value: i128, from: i32| {
        scale.rescale(value, from).map_err(|reason| {
            let shown = Scale::new(from.clamp(0, 18) as u8)
                .filter(|shown| i32::from(shown.digits()) == from)
                .map_or_else(|| format!("{value}e{}", -from), |shown| format_scaled(value, shown));
            (reason, refusal_of(reason, shown, column))
        })
    };
    macro_rules! integers {
        ($type:ty) => {{
            let values = array.as_primitive::<$type>().values();
            convert(rows, nulls, site, |row| rescale(i128::from(values[row]), from))
        }};
    }
    macro_rules! decimals {
        ($type:ty, $scale:expr) => {{
            let values = array.as_primitive::<$type>().values();
            convert(rows, nulls, site, |row| rescale(i128::from(values[row]), i32::from(*$scale)))
        }};
    }
    macro_rules! floats {
        ($type:ty, $convert:ident) => {{
            let values = array.as_primitive::<$type>().values();
            convert(rows, nulls, site, |row| {
                scale
                    .$convert(values[row], inexact)
                    .map_err(|reason| (reason, refusal_of(reason, values[row], column)))
            })
        }};
    }
    let values: ScalarBuffer<i64> = match array.data_type() {
        DataType::Int64 if from == i32::from(scale.digits()) => {
            zeroed(array.as_primitive::<Int64Type>().values(), nulls)
        }
        DataType::Int8 => integers!(Int8Type),
        DataType::Int16 => integers!(Int16Type),
        DataType::Int32 if from == i32::from(scale.digits()) => {
            let values = array.as_primitive::<Int32Type>().values();
            zeroed(&values.iter().map(|&value| i64::from(value)).collect(), nulls)
        }
        DataType::Int32 => integers!(Int32Type),
        DataType::Int64 => integers!(Int64Type),
        DataType::UInt8 => integers!(UInt8Type),
        DataType::UInt16 => integers!(UInt16Type),
        DataType::UInt32 => integers!(UInt32Type),
        DataType::UInt64 => integers!(UInt64Type),
        DataType::Boolean => {
            let values = array.as_boolean().values();
            let one = rescale(1, 0).expect("1 has 64 bits at every scale");
            let flags: ScalarBuffer<i64> =
                values.iter().map(|flag| i64::from(flag) * one).collect();
            zeroed(&flags, nulls)
        }
        DataType::Decimal32(_, own) if i32::from(*own) == i32::from(scale.digits()) => {
            let values = array.as_primitive::<Decimal32Type>().values();
            zeroed(&values.iter().map(|&value| i64::from(value)).collect(), nulls)
        }
        DataType::Decimal64(_, own) if i32::from(*own) == i32::from(scale.digits()) => {
            zeroed(array.as_primitive::<Decimal64Type>().values(), nulls)
        }
        DataType::Decimal32(_, own) => decimals!(Decimal32Type, own),
        DataType::Decimal64(_, own) => decimals!(Decimal64Type, own),
        DataType::Decimal128(_, own) => decimals!(Decimal128Type, own),
        DataType::Decimal256(_, own) => {
            let values = array.as_primitive::<Decimal256Type>();
            // Text carries what 128 bits cannot.
            convert(rows, nulls, site, |row| match values.value(row).to_i128() {
                Some(value) => rescale(value, i32::from(*own)),
                None => {
                    text::value(values.value_as_string(row).as_bytes(), column, Inexact::Reject)
                }
            })
        }
        DataType::Float32 => floats!(Float32Type, from_f32),
        DataType::Float64 => floats!(Float64Type, from_f64),
        DataType::Null => vec![0; rows].into(),
        _ => {
            let texts = texts(&array)?;
            convert(rows, nulls, site, |row| {
                text::value(texts.value(row).as_bytes(), column, inexact)
            })
        }
    };
    if !column.optional {
        refuse_nulls(nulls, rows, site, (RejectReason::NullValue, NULL_VALUE));
    }
    if outside(&values, column.min, column.max) {
        for row in (0..rows).filter(|&row| !nulls.is_some_and(|nulls| nulls.is_null(row))) {
            if let Err(refusal) = in_bounds(values[row], column) {
                site.refusals.refuse(row, rows, site.column, refusal);
            }
        }
    }
    Ok(ValueColumn { values, nulls: nulls.cloned() })
}

/// What to say of a null in a column that is not optional.
pub(super) const NULL_VALUE: &str = "the value is null and the column is not optional";

fn refusal_of(reason: RejectReason, value: impl std::fmt::Display, column: &Column) -> String {
    let digits = column.scale.digits();
    match reason {
        RejectReason::Inexact => format!("{value} is not exactly a value of {digits} decimals"),
        RejectReason::NotFinite => format!("{value} is not finite"),
        _ => text::out_of_range(value, column),
    }
}

/// Refuses a value outside the column's bounds.
pub(super) fn in_bounds(value: i64, column: &Column) -> Result<i64, Refusal> {
    if (column.min..=column.max).contains(&value) {
        return Ok(value);
    }
    let shown = |value: i64| format_scaled(i128::from(value), column.scale);
    let (side, bound) = match value < column.min {
        true => ("below min", column.min),
        false => ("above max", column.max),
    };
    let text = format!("{} is {side} = {}", shown(value), shown(bound));
    Err((RejectReason::OutOfBounds, text))
}

/// Whether some value lies outside the range. Without a branch per row, so that it vectorises.
fn outside(values: &[i64], min: i64, max: i64) -> bool {
    (min, max) != (i64::MIN, i64::MAX)
        && values.iter().fold(false, |any, &value| any | (value < min) | (value > max))
}

/// The same buffer, or a copy with zeros where there are nulls.
fn zeroed(values: &ScalarBuffer<i64>, nulls: Option<&NullBuffer>) -> ScalarBuffer<i64> {
    match nulls {
        None => values.clone(),
        Some(nulls) => {
            values.iter().zip(nulls).map(|(&value, valid)| value * i64::from(valid)).collect()
        }
    }
}

/// An array without dictionary, and its nulls; `None` where there is none.
fn decoded(array: &ArrayRef) -> Result<(ArrayRef, Option<NullBuffer>), ArrowError> {
    let array = match array.data_type() {
        DataType::Dictionary(_, value) => arrow_cast::cast(array, value)?,
        _ => Arc::clone(array),
    };
    let nulls = array.logical_nulls().filter(|nulls| nulls.null_count() > 0);
    Ok((array, nulls))
}

fn texts(array: &ArrayRef) -> Result<arrow_array::StringArray, ArrowError> {
    Ok(arrow_cast::cast(array, &DataType::Utf8)?.as_string::<i32>().clone())
}

/// Texts, and which of them each row has.
pub(super) struct TextCodes {
    pub(super) texts: ArrayRef,
    /// Those of rows that are not null are places among the texts.
    pub(super) codes: ScalarBuffer<i32>,
    pub(super) nulls: Option<NullBuffer>,
}

impl TextCodes {
    /// `None` where the array is no dictionary, or a broken one.
    pub(super) fn of(array: &ArrayRef) -> Option<Self> {
        let dictionary = array.as_dictionary_opt::<Int32Type>()?;
        let (texts, codes) = (dictionary.values(), dictionary.keys().values());
        let greatest = codes.iter().fold(0, |most, code| code.cast_unsigned().max(most));
        let (texts, nulls) = (Arc::clone(texts), dictionary.nulls().cloned());
        let good = codes.is_empty() || (greatest as usize) < texts.len();
        good.then(|| Self { texts, codes: codes.clone(), nulls })
    }

    /// The same as an array.
    pub(super) fn array(&self) -> Result<ArrayRef, ArrowError> {
        let codes = Int32Array::new(self.codes.clone(), self.nulls.clone());
        Ok(Arc::new(DictionaryArray::try_new(codes, Arc::clone(&self.texts))?))
    }
}

/// A dictionary whose entries are keys as they stand: texts, each once, none null or too long.
pub(super) struct KeyDictionary {
    values: ArrayRef,
    keys: Arc<[Key]>,
}

/// Rows for each key of a dictionary, at least, of a batch that takes all of it: looking which keys
/// have rows would cost more than those that have none.
const ROWS_PER_KEY: usize = 16;

impl KeyDictionary {
    /// The key behind each code, where the texts are keys and at most as many as there are rows.
    pub(super) fn of(column: &TextCodes) -> Option<Self> {
        let texts = column.texts.as_string_opt::<i32>()?;
        if texts.len() > column.codes.len() || texts.null_count() > 0 {
            return None;
        }
        let keys: Arc<[Key]> = texts.iter().map(Key::from_components).collect();
        let distinct: HashSet<&Key> = keys.iter().collect();
        let usable = distinct.len() == keys.len()
            && keys.iter().all(|key| key.as_bytes().len() <= Key::LEN_MAX);
        usable.then(|| Self { values: Arc::clone(&column.texts), keys })
    }

    /// The codes and keys of a column with the same texts; `None` where it has others, or nulls. Keys
    /// that no row has are left out, or stay where they may and rows are many.
    pub(super) fn apply(
        &self,
        column: &TextCodes,
        may_stay: bool,
    ) -> Option<(ScalarBuffer<u32>, Arc<[Key]>)> {
        if !Arc::ptr_eq(&self.values, &column.texts) || column.nulls.is_some() {
            return None;
        }
        let codes = column.codes.inner().clone();
        let codes: ScalarBuffer<u32> = ScalarBuffer::new(codes, 0, column.codes.len());
        if may_stay && codes.len() >= ROWS_PER_KEY * self.keys.len() {
            let greatest = codes.iter().fold(0, |greatest, &code| greatest.max(code));
            return ((greatest as usize) < self.keys.len())
                .then(|| (codes, Arc::clone(&self.keys)));
        }
        let mut used = vec![false; self.keys.len()];
        for &code in codes.iter() {
            *used.get_mut(code as usize)? = true;
        }
        if used.iter().all(|&used| used) {
            return Some((codes, Arc::clone(&self.keys)));
        }
        let mut keys = Vec::new();
        let places: Vec<u32> = used
            .iter()
            .zip(self.keys.iter())
            .map(|(&used, key)| {
                let place = keys.len() as u32;
                keys.extend(used.then(|| key.clone()));
                place
            })
            .collect();
        Some((codes.iter().map(|&code| places[code as usize]).collect(), keys.into()))
    }
}

/// The texts of a key column. Integers are their decimal text, booleans `true` and `false`.
/// Null keys and bytes that are not UTF-8 are refused.
pub(super) fn key_texts(array: &ArrayRef, mut site: Site) -> Result<KeyTexts, ArrowError> {
    let site = &mut site;
    match array.data_type() {
        DataType::Dictionary(_, value) => {
            let array = arrow_cast::cast(
                array,
                &DataType::Dictionary(Box::new(DataType::Int32), value.clone()),
            )?;
            let dictionary = array.as_dictionary::<Int32Type>();
            let texts = Texts::new(dictionary.values())?;
            let nulls = dictionary.keys().nulls();
            let indices = dictionary.keys().values();
            let mut coder = Coder::new(&texts, texts.len());
            let codes =
                code_rows(array.len(), nulls, site, |row| coder.code(indices[row].as_usize()));
            Ok(KeyTexts { codes, texts: coder.texts })
        }
        _ => {
            let texts = Texts::new(array)?;
            let mut coder = Coder::new(&texts, 0);
            let codes = code_rows(array.len(), None, site, |row| coder.code_of_text(row));
            Ok(KeyTexts { codes, texts: coder.texts })
        }
    }
}

fn code_rows(
    rows: usize,
    nulls: Option<&NullBuffer>,
    site: &mut Site,
    mut code: impl FnMut(usize) -> Result<u32, Refusal>,
) -> Vec<u32> {
    (0..rows)
        .map(|row| {
            let code = match nulls.is_some_and(|nulls| nulls.is_null(row)) {
                true => Err(null_key()),
                false => code(row),
            };
            code.unwrap_or_else(|refusal| {
                site.refusals.refuse(row, rows, site.column, refusal);
                0
            })
        })
        .collect()
}

pub(super) fn null_key() -> Refusal {
    (RejectReason::NullKey, "the key is null".to_string())
}

/// An array seen as text.
enum Texts {
    Text(arrow_array::StringArray),
    Bytes(arrow_array::BinaryArray),
}

impl Texts {
    fn new(array: &ArrayRef) -> Result<Self, ArrowError> {
        Ok(match array.data_type() {
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
                let bytes = arrow_cast::cast(array, &DataType::Binary)?;
                Self::Bytes(bytes.as_binary::<i32>().clone())
            }
            _ => Self::Text(texts(array)?),
        })
    }

    fn len(&self) -> usize {
        match self {
            Self::Text(array) => array.len(),
            Self::Bytes(array) => array.len(),
        }
    }

    fn get(&self, row: usize) -> Result<&str, Refusal> {
        match self {
            Self::Text(array) if array.is_valid(row) => Ok(array.value(row)),
            Self::Bytes(array) if array.is_valid(row) => {
                std::str::from_utf8(array.value(row)).map_err(|_| not_text(array.value(row)))
            }
            _ => Err(null_key()),
        }
    }
}

pub(super) fn not_text(bytes: &[u8]) -> Refusal {
    let text = format!("{} is not UTF-8 text", shown(&String::from_utf8_lossy(bytes)));
    (RejectReason::Malformed, text)
}

/// Gives each text that is met a code.
struct Coder<'a> {
    source: &'a Texts,
    known: HashMap<&'a str, u32>,
    texts: Vec<String>,
    /// The code of a dictionary's entry once it was met, [`UNKNOWN`] before.
    by_index: Vec<u32>,
    last: Option<(&'a str, u32)>,
}

const UNKNOWN: u32 = u32::MAX;

impl<'a> Coder<'a> {
    fn new(source: &'a Texts, dictionary_len: usize) -> Self {
        Self {
            source,
            known: HashMap::new(),
            texts: Vec::new(),
            by_index: vec![UNKNOWN; dictionary_len],
            last: None,
        }
    }

    fn code(&mut self, index: usize) -> Result<u32, Refusal> {
        if self.by_index[index] == UNKNOWN {
            self.by_index[index] = self.code_of_text(index)?;
        }
        Ok(self.by_index[index])
    }

    fn code_of_text(&mut self, row: usize) -> Result<u32, Refusal> {
        let text = self.source.get(row)?;
        if let Some((last, code)) = self.last
            && last == text
        {
            return Ok(code);
        }
        let texts = &mut self.texts;
        let code = *self.known.entry(text).or_insert_with(|| {
            texts.push(text.to_string());
            texts.len() as u32 - 1
        });
        self.last = Some((text, code));
        Ok(code)
    }
}
