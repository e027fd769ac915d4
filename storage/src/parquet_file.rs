//! Parquet files whose every read byte is checked: the manifest holds a checksum of the footer,
//! the footer those of the column chunks, and of descriptions that hold those of each page.

mod chunk;
mod columns;
mod decode;
mod encode;
mod footers;
mod inflate;
mod pages;
mod values;
mod write;

use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow_schema::SchemaRef;
use bytes::{Buf, Bytes, buf};
use isotick_model::{Codec, StreamSchema};
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::{Compression, Type, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    KeyValue, ParquetMetaData, ParquetMetaDataOptions, ParquetMetaDataReader,
    ParquetStatisticsPolicy, SortingColumn,
};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use parquet::file::reader::{ChunkReader, Length};

pub(crate) use self::chunk::{Column, Run};
pub(crate) use self::columns::{ColumnPages, ColumnValues, Integers, RowGroupPages, TextRuns};
#[cfg(test)]
pub(crate) use self::footers::forget as forget_footers;
use self::footers::{Footer, FooterName};
use self::pages::Place;
pub(crate) use self::values::{BigEndian, Codes, Gathered, Numbers, Wanted};
pub(crate) use self::write::{RowGroup, stage_columns};
use crate::error::{Error, Result};
use crate::manifest::StoredFile;
use crate::objects::{ObjectFile, Objects};

/// Metadata: the version of what this crate writes.
pub(crate) const FORMAT: &str = "isotick.format";
/// Metadata: CRC-32 of each column chunk, per row group, as JSON.
const CHUNK_CRC32: &str = "isotick.chunk_crc32";
/// Metadata: where each row group's pages are described, as JSON. Files of earlier releases lack it.
const PAGES: &str = "isotick.pages";
/// The version of the Parquet files' own form.
pub(crate) const FILE_FORMAT_VERSION: u32 = 1;

/// A metadata entry.
pub(crate) fn entry(key: impl Into<String>, value: impl Into<String>) -> KeyValue {
    KeyValue::new(key.into(), value.into())
}

/// How files of a stream are written whose first column is the time, then come its keys, by which
/// rows are sorted before the time.
pub(crate) fn sorted(schema: &StreamSchema, page_rows: usize) -> WriterPropertiesBuilder {
    let sorting = |column: usize| SortingColumn {
        column_idx: column as i32,
        descending: false,
        nulls_first: false,
    };
    let keys = 1..=schema.keys.len();
    WriterProperties::builder()
        .set_compression(match schema.codec {
            Codec::None => Compression::UNCOMPRESSED,
            Codec::Zstd => Compression::ZSTD(ZstdLevel::default()),
        })
        .set_data_page_row_count_limit(page_rows)
        .set_sorting_columns(Some(keys.chain([0]).map(sorting).collect()))
}

/// Begins a Parquet file, with the format version in its metadata.
pub(crate) fn writer<W: Write + Send>(
    path: &Path,
    file: W,
    schema: SchemaRef,
    properties: WriterPropertiesBuilder,
    mut metadata: Vec<KeyValue>,
) -> Result<ArrowWriter<W>> {
    metadata.push(entry(FORMAT, FILE_FORMAT_VERSION.to_string()));
    let properties = properties.set_key_value_metadata(Some(metadata)).build();
    let options =
        ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    ArrowWriter::try_new_with_options(file, schema, options).map_err(Error::parquet("write", path))
}

/// Reads a stored file whole, its footer too, and checks every checksum.
///
/// # Errors
///
/// As [`Stored::open`] and [`Stored::read`].
pub(crate) fn check(objects: &Objects, file: &StoredFile) -> Result<()> {
    let opened = objects.open_all(&[file]).pop().expect("one file was to be opened")?;
    let stored = Stored::open_anew(opened, file)?;
    let metadata = stored.metadata();
    let rows: i64 = metadata.row_groups().iter().map(|group| group.num_rows()).sum();
    if u64::try_from(rows) != Ok(file.rows) {
        return Err(stored.damaged("it has another number of rows than the manifest says"));
    }
    for (number, group) in metadata.row_groups().iter().enumerate() {
        for column in 0..group.num_columns() {
            stored.chunks(number, &[column])?;
        }
        if let Some(place) = stored.footer.places.get(number) {
            let described = stored.file.read(place.start, place.len.into())?;
            if crc32fast::hash(&described) != place.crc32 {
                let what = format!("the checksum of row group {number}'s pages does not match");
                return Err(stored.damaged(&what));
            }
        }
    }
    Ok(())
}

/// A stored file, its footer read and checked.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    file: ObjectFile,
    footer: Arc<Footer>,
}

impl Stored {
    /// An opened file with its footer as the manifest describes it, which is read unless it was
    /// before and is still kept. `keep_open` takes a file handle as long as this lives.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] for a file of another length or with a damaged footer,
    /// [`Error::Newer`], [`Error::Io`] also for a missing one.
    pub fn open(mut opened: ObjectFile, file: &StoredFile, keep_open: bool) -> Result<Self> {
        let name = FooterName::new(opened.path(), file);
        let footer = match footers::kept(&name) {
            Some(footer) => footer,
            None => footers::keep(name, Footer::read(&opened, file)?),
        };
        opened.after_footer(keep_open);
        Ok(Self { file: opened, footer })
    }

    /// The same, where the footer is read in any case.
    fn open_anew(opened: ObjectFile, file: &StoredFile) -> Result<Self> {
        let footer = Arc::new(Footer::read(&opened, file)?);
        Ok(Self { file: opened, footer })
    }

    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The checksums of a row group's column chunks.
    pub fn crc32s(&self, row_group: usize) -> &[u32] {
        self.footer.crcs.get(row_group).map_or(&[], Vec::as_slice)
    }

    pub fn schema(&self) -> &SchemaRef {
        self.footer.metadata.schema()
    }

    pub fn metadata(&self) -> &Arc<ParquetMetaData> {
        self.footer.metadata.metadata()
    }

    /// Whether a column holds 64-bit integers, as themselves or as decimals or times.
    pub fn has_integers(&self, column: usize) -> bool {
        let schema = self.metadata().file_metadata().schema_descr();
        schema.column(column).physical_type() == Type::INT64
    }

    /// The value of a metadata entry.
    pub fn entry(&self, key: &str) -> Option<&str> {
        entry_of(self.metadata(), key)
    }

    pub fn damaged(&self, what: &str) -> Error {
        Error::Damaged { path: self.path().to_path_buf(), what: what.to_owned() }
    }

    /// Reads all columns of a row group, whatever their types, in batches.
    ///
    /// # Errors
    ///
    /// As [`chunks`](Self::chunks).
    pub fn batches(&self, row_group: usize, rows: usize) -> Result<ParquetRecordBatchReader> {
        let all: Vec<usize> = (0..self.schema().fields().len()).collect();
        let chunks = self.chunks(row_group, &all)?;
        let new = ParquetRecordBatchReaderBuilder::new_with_metadata;
        let builder = new(chunks, self.footer.metadata.clone()).with_row_groups(vec![row_group]);
        builder.with_batch_size(rows).build().map_err(Error::parquet("read", self.path()))
    }

    /// Reads some columns of a row group, given by their indices in ascending order, of all rows
    /// or those in ascending ranges: their chunks whole, or only the pages that have such rows, are
    /// read and checked.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] when a checksum of what is read does not match, [`Error::Io`].
    pub fn read(
        &self,
        row_group: usize,
        columns: &[usize],
        rows: Option<&[Range<usize>]>,
    ) -> Result<RowGroupPages> {
        let (chunks, pages) = match (rows, self.footer.places.get(row_group)) {
            (Some(rows), Some(place)) => {
                let (chunks, pages) = self.pages(row_group, columns, rows, *place)?;
                (chunks, Some(pages))
            }
            _ => (self.chunks(row_group, columns)?, None),
        };
        Ok(RowGroupPages {
            metadata: self.metadata().clone(),
            number: row_group,
            chunks: chunks.into(),
            pages,
            rows: rows.map(Into::into),
        })
    }

    /// Reads a whole text column of a row group.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read), and [`Error::Damaged`] for what its pages cannot hold.
    pub fn texts(&self, row_group: usize, column: usize) -> Result<TextRuns> {
        let pages = self.read(row_group, &[column], None)?;
        pages.texts(column).map_err(|error| self.damaged(&error.to_string()))
    }

    /// Reads whole column chunks of a row group and checks them.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    fn chunks(&self, row_group: usize, columns: &[usize]) -> Result<Chunks> {
        let group = self.metadata().row_group(row_group);
        let place = |column: &usize| {
            let (start, len) = group.column(*column).byte_range();
            start..start + len
        };
        let places: Vec<_> = columns.iter().map(place).collect();
        let mut chunks = Vec::new();
        self.file.read_each(&places, &mut |number, bytes| {
            let column = columns[number];
            let crc = self.footer.crcs.get(row_group).and_then(|crcs| crcs.get(column));
            if crc != Some(&crc32fast::hash(&bytes)) {
                return Err(self.damaged_column(row_group, column));
            }
            chunks.push((places[number].start, bytes));
            Ok(())
        })?;
        Ok(Chunks::new(chunks))
    }

    /// Reads the pages of some columns that have some of the rows, checks them, and says where all
    /// pages of all columns are.
    fn pages(
        &self,
        row_group: usize,
        columns: &[usize],
        rows: &[Range<usize>],
        place: Place,
    ) -> Result<(Chunks, Vec<pages::ColumnPages>)> {
        let group = self.metadata().row_group(row_group);
        let described = self.file.read(place.start, place.len.into())?;
        let pages = pages::decode(&described).filter(|pages| {
            crc32fast::hash(&described) == place.crc32 && pages.len() == group.num_columns()
        });
        let pages = pages.ok_or_else(|| {
            self.damaged(&format!("the checksum of row group {row_group}'s pages does not match"))
        })?;
        // Adjacent pages are read as one: their column, their place, and each with its checksum.
        let mut wanted = Vec::new();
        for &column in columns {
            let (start, _) = group.column(column).byte_range();
            let pages = pages[column].of_rows(rows);
            for adjacent in pages.chunk_by(|(a, _), (b, _)| a.end == b.start) {
                let (first, last) = (&adjacent[0].0, &adjacent[adjacent.len() - 1].0);
                wanted.push((column, start + first.start..start + last.end, adjacent.to_vec()));
            }
        }
        let places: Vec<_> = wanted.iter().map(|(_, place, _)| place.clone()).collect();
        let mut chunks = Vec::new();
        self.file.read_each(&places, &mut |number, bytes| {
            let (column, place, pages) = &wanted[number];
            let first = pages[0].0.start;
            for (page, crc32) in pages {
                let page = (page.start - first) as usize..(page.end - first) as usize;
                if crc32fast::hash(&bytes[page]) != *crc32 {
                    return Err(self.damaged_column(row_group, *column));
                }
            }
            chunks.push((place.start, bytes));
            Ok(())
        })?;
        Ok((Chunks::new(chunks), pages))
    }

    fn damaged_column(&self, row_group: usize, column: usize) -> Error {
        let name = self.schema().field(column).name();
        self.damaged(&format!(
            "the checksum of column {name} in row group {row_group} does not match"
        ))
    }
}

impl Footer {
    /// Reads and checks the footer of a file.
    fn read(opened: &ObjectFile, file: &StoredFile) -> Result<Self> {
        let path = opened.path();
        let footer = footer(path, file.bytes, |start, len| opened.read(start, len))?;
        if crc32fast::hash(&footer) != file.footer_crc32 {
            let what = "its footer's checksum does not match".to_owned();
            return Err(Error::Damaged { path: path.to_path_buf(), what });
        }
        Self::parse(path, &footer)
    }

    /// Takes apart what the manifest's checksum has confirmed.
    fn parse(path: &Path, footer: &[u8]) -> Result<Self> {
        let damaged =
            |what: &str| Error::Damaged { path: path.to_path_buf(), what: what.to_owned() };
        let unread = ParquetMetaDataOptions::new()
            .with_encoding_stats_policy(ParquetStatisticsPolicy::SkipAll)
            .with_size_stats_policy(ParquetStatisticsPolicy::SkipAll);
        let content = &footer[..footer.len() - 8];
        let metadata = ParquetMetaDataReader::decode_metadata_with_options(content, Some(&unread))
            .map_err(Error::parquet("read", path))?;
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let metadata = ArrowReaderMetadata::try_new(metadata.into(), options)
            .map_err(Error::parquet("read", path))?;
        let entry = |key| entry_of(metadata.metadata(), key);
        match entry(FORMAT).and_then(|version| version.parse().ok()) {
            Some(found) if found > FILE_FORMAT_VERSION => {
                let supported = FILE_FORMAT_VERSION;
                return Err(Error::Newer { path: path.to_path_buf(), found, supported });
            }
            Some(_) => {}
            None => return Err(damaged("it names no format version")),
        }
        let crcs = entry(CHUNK_CRC32).and_then(|text| serde_json::from_str(text).ok());
        let places = entry(PAGES).and_then(|text| serde_json::from_str(text).ok());
        let crcs = crcs.ok_or_else(|| damaged("it has no checksums"))?;
        Ok(Self { crcs, places: places.unwrap_or_default(), metadata })
    }
}

/// The value of a metadata entry.
fn entry_of<'a>(metadata: &'a ParquetMetaData, key: &str) -> Option<&'a str> {
    let entries = metadata.file_metadata().key_value_metadata()?;
    entries.iter().find(|entry| entry.key == key)?.value.as_deref()
}

/// Column chunks in memory, by their place in the file.
pub(crate) struct Chunks {
    chunks: Vec<(u64, Bytes)>,
}

impl Chunks {
    pub fn new(chunks: Vec<(u64, Bytes)>) -> Self {
        Self { chunks }
    }

    fn from(&self, start: u64) -> Result<Bytes, ParquetError> {
        let inside = self.chunks.iter().find_map(|(first, bytes)| {
            let skipped = start.checked_sub(*first)?;
            (skipped < bytes.len() as u64).then(|| bytes.slice(skipped as usize..))
        });
        inside.ok_or_else(|| ParquetError::General(format!("no column chunk at byte {start}")))
    }
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.chunks.iter().map(|(start, bytes)| start + bytes.len() as u64).max().unwrap_or(0)
    }
}

impl ChunkReader for Chunks {
    type T = buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(self.from(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let bytes = self.from(start)?;
        match length <= bytes.len() {
            true => Ok(bytes.slice(..length)),
            false => {
                Err(ParquetError::General(format!("a column chunk ends before {length} bytes")))
            }
        }
    }
}

/// The footer of a file of this length, with its own length and magic.
fn footer(path: &Path, length: u64, read: impl Fn(u64, u64) -> Result<Bytes>) -> Result<Bytes> {
    let damaged = || Error::Damaged { path: path.to_path_buf(), what: "it has no footer".into() };
    let end = length.checked_sub(8).ok_or_else(damaged)?;
    let tail = read(end, 8)?;
    let (size, magic) = tail.split_at(4);
    let size = u64::from(u32::from_le_bytes(size.try_into().expect("four bytes")));
    if magic != b"PAR1" || size > end {
        return Err(damaged());
    }
    read(end - size, size + 8)
}
