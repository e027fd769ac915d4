//! What an IPC stream states about itself, checked before it is read.
//!
//! The reader takes stated offsets and lengths as they are and stops the program where they lie.
//! Here every message is walked through: types that are read, no compression, every buffer inside
//! its body and as long as its rows need, counts within bounds.

use std::collections::HashMap;

use arrow_ipc::{Endianness, Field, Message, MessageHeader, MetadataVersion, Precision, Type};

use crate::DecodeError;
use crate::frame::{CELLS_MAX, COLUMNS_MAX, ROWS_MAX};
use crate::pack::Cursor;

const CONTINUATION: u32 = u32::MAX;
const WHAT: &str = "an Arrow IPC stream";

/// How a column lies in a body: a buffer of validity, then these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// No buffer at all.
    Null,
    /// Values of so many bits.
    Fixed(usize),
    /// Offsets of so many bytes, then text.
    Text(usize),
}

/// Refuses what cannot be read safely.
pub(super) fn check(payload: &[u8]) -> Result<(), DecodeError> {
    let mut cursor = Cursor::new(payload);
    let mut stream: Option<Stream> = None;
    loop {
        if cursor.is_empty() {
            break;
        }
        if cursor.u32(WHAT)? != CONTINUATION {
            return Err(invalid("an Arrow IPC stream's message does not begin as one"));
        }
        let bytes = cursor.u32(WHAT)? as usize;
        if bytes == 0 {
            cursor.end()?;
            break;
        }
        let metadata = cursor.take(bytes, WHAT)?;
        let message = arrow_ipc::root_as_message(metadata)
            .map_err(|error| DecodeError::Arrow { reason: error.to_string() })?;
        if message.version() != MetadataVersion::V5 {
            return Err(invalid("an Arrow IPC stream's version (5 is read)"));
        }
        let body = usize::try_from(message.bodyLength()).map_err(|_| invalid(WHAT))?;
        cursor.take(body, WHAT)?;
        match &mut stream {
            None => stream = Some(Stream::begin(&message, body)?),
            Some(stream) => stream.message(&message, body)?,
        }
    }
    stream.map(|_| ()).ok_or(DecodeError::Truncated { what: WHAT })
}

struct Stream {
    /// Of a dictionary's column, its codes.
    columns: Vec<Layout>,
    /// The layout of each dictionary's values, and whether they have come.
    dictionaries: HashMap<i64, (Layout, bool)>,
    rows: usize,
    entries: usize,
}

impl Stream {
    fn begin(message: &Message<'_>, body: usize) -> Result<Self, DecodeError> {
        let schema = message
            .header_as_schema()
            .filter(|schema| body == 0 && schema.endianness() == Endianness::Little)
            .ok_or(invalid("an Arrow IPC stream without a little-endian schema"))?;
        let fields = schema.fields().ok_or(invalid("an Arrow schema without fields"))?;
        if fields.len() > COLUMNS_MAX {
            return Err(DecodeError::TooManyRows { rows: 0, columns: fields.len() });
        }
        let (mut columns, mut dictionaries) = (Vec::new(), HashMap::new());
        for field in fields {
            let layout = layout(&field)?;
            let column = match field.dictionary() {
                None => layout,
                Some(encoding) => {
                    let what = "an Arrow dictionary without the type of its codes";
                    let index = encoding.indexType().ok_or(invalid(what))?.bitWidth();
                    let Layout::Text(_) = layout else {
                        return Err(invalid("an Arrow dictionary of something else than text"));
                    };
                    if dictionaries.insert(encoding.id(), (layout, false)).is_some() {
                        return Err(invalid("an Arrow dictionary of two columns"));
                    }
                    integer(index)?
                }
            };
            columns.push(column);
        }
        Ok(Self { columns, dictionaries, rows: 0, entries: 0 })
    }

    fn message(&mut self, message: &Message<'_>, body: usize) -> Result<(), DecodeError> {
        let what = "an Arrow message that is neither dictionary nor record batch";
        match message.header_type() {
            MessageHeader::RecordBatch => {
                let batch = message.header_as_record_batch().ok_or(invalid(what))?;
                if self.dictionaries.values().any(|(_, come)| !come) {
                    return Err(invalid("an Arrow record batch before its dictionary"));
                }
                self.rows = bounded(self.rows, rows(&batch)?, self.columns.len())?;
                batch_fits(&batch, &self.columns, body)
            }
            MessageHeader::DictionaryBatch => {
                let dictionary = message.header_as_dictionary_batch().ok_or(invalid(what))?;
                let (layout, come) = self
                    .dictionaries
                    .get_mut(&dictionary.id())
                    .ok_or(invalid("an Arrow dictionary of no column"))?;
                if dictionary.isDelta() {
                    return Err(invalid("an Arrow dictionary's delta (send it whole)"));
                }
                let batch = dictionary.data().ok_or(invalid(what))?;
                self.entries = bounded(self.entries, rows(&batch)?, 1)?;
                *come = true;
                batch_fits(&batch, &[*layout], body)
            }
            _ => Err(invalid(what)),
        }
    }
}

fn invalid(what: &'static str) -> DecodeError {
    DecodeError::Invalid { what }
}

fn bounded(before: usize, rows: usize, columns: usize) -> Result<usize, DecodeError> {
    let rows = before.saturating_add(rows);
    match rows <= ROWS_MAX && rows * columns <= CELLS_MAX {
        true => Ok(rows),
        false => Err(DecodeError::TooManyRows { rows, columns }),
    }
}

fn rows(batch: &arrow_ipc::RecordBatch<'_>) -> Result<usize, DecodeError> {
    usize::try_from(batch.length()).map_err(|_| invalid("an Arrow record batch's rows"))
}

/// Whether every buffer lies in the body and is as long as its rows need.
fn batch_fits(
    batch: &arrow_ipc::RecordBatch<'_>,
    layouts: &[Layout],
    body: usize,
) -> Result<(), DecodeError> {
    let wrong = || invalid("an Arrow record batch's description of its buffers");
    if batch.compression().is_some() {
        return Err(invalid("a compressed Arrow record batch (send it uncompressed)"));
    }
    if batch.variadicBufferCounts().is_some_and(|counts| !counts.is_empty()) {
        return Err(wrong());
    }
    let rows = rows(batch)?;
    let (nodes, buffers) = (batch.nodes(), batch.buffers());
    if nodes.map_or(0, |nodes| nodes.len()) != layouts.len() {
        return Err(wrong());
    }
    let mut sizes = Vec::new();
    for buffer in buffers.iter().flat_map(|buffers| buffers.iter()) {
        let offset = usize::try_from(buffer.offset()).map_err(|_| wrong())?;
        let bytes = usize::try_from(buffer.length()).map_err(|_| wrong())?;
        if offset % 8 != 0 || offset.checked_add(bytes).is_none_or(|end| end > body) {
            return Err(wrong());
        }
        sizes.push(bytes);
    }
    let mut sizes = sizes.into_iter();
    for (node, layout) in nodes.iter().flat_map(|nodes| nodes.iter()).zip(layouts) {
        let nulls = usize::try_from(node.null_count()).map_err(|_| wrong())?;
        if usize::try_from(node.length()) != Ok(rows) || nulls > rows {
            return Err(wrong());
        }
        if *layout == Layout::Null {
            continue;
        }
        // Of whole values, as many as are needed at least.
        let mut next = |needed: usize, width: usize| match sizes.next() {
            Some(bytes) if bytes >= needed && bytes % width == 0 => Ok(()),
            _ => Err(wrong()),
        };
        next(if nulls > 0 { rows.div_ceil(8) } else { 0 }, 1)?;
        match layout {
            Layout::Null => (),
            Layout::Fixed(bits) => next((rows * bits).div_ceil(8), bits.div_ceil(8))?,
            Layout::Text(width) => {
                // Without rows the offsets may be left out.
                next(if rows > 0 { (rows + 1) * width } else { 0 }, *width)?;
                next(0, 1)?;
            }
        }
    }
    match sizes.next() {
        None => Ok(()),
        Some(_) => Err(wrong()),
    }
}

/// How a field's values lie in a body; of a dictionary, the values of the dictionary.
fn layout(field: &Field<'_>) -> Result<Layout, DecodeError> {
    let unread =
        || invalid("an Arrow column's type (flat columns and dictionaries of text are read)");
    if field.children().is_some_and(|children| !children.is_empty()) {
        return Err(unread());
    }
    match field.type_type() {
        Type::Null => Ok(Layout::Null),
        Type::Bool => Ok(Layout::Fixed(1)),
        Type::Utf8 => Ok(Layout::Text(4)),
        Type::LargeUtf8 => Ok(Layout::Text(8)),
        Type::Int => integer(field.type_as_int().ok_or_else(unread)?.bitWidth()),
        Type::FloatingPoint => {
            match field.type_as_floating_point().ok_or_else(unread)?.precision() {
                Precision::SINGLE => Ok(Layout::Fixed(32)),
                Precision::DOUBLE => Ok(Layout::Fixed(64)),
                _ => Err(unread()),
            }
        }
        Type::Decimal => {
            let decimal = field.type_as_decimal().ok_or_else(unread)?;
            let bits = decimal.bitWidth();
            let digits = match bits {
                32 => 9,
                64 => 18,
                128 => 38,
                256 => 76,
                _ => return Err(unread()),
            };
            let fits = (1..=digits).contains(&decimal.precision())
                && (-digits..=decimal.precision()).contains(&decimal.scale());
            fits.then_some(Layout::Fixed(bits as usize)).ok_or_else(unread)
        }
        Type::Date => match field.type_as_date().ok_or_else(unread)?.unit() {
            arrow_ipc::DateUnit::DAY => Ok(Layout::Fixed(32)),
            arrow_ipc::DateUnit::MILLISECOND => Ok(Layout::Fixed(64)),
            _ => Err(unread()),
        },
        Type::Timestamp => {
            let unit = field.type_as_timestamp().ok_or_else(unread)?.unit();
            (0..=3).contains(&unit.0).then_some(Layout::Fixed(64)).ok_or_else(unread)
        }
        _ => Err(unread()),
    }
}

fn integer(bits: i32) -> Result<Layout, DecodeError> {
    match bits {
        8 | 16 | 32 | 64 => Ok(Layout::Fixed(bits as usize)),
        _ => Err(invalid("an Arrow integer's width")),
    }
}
