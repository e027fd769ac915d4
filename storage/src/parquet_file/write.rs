//! Writing checked files.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::Path;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterPropertiesBuilder;
use parquet::file::writer::SerializedFileWriter;

use super::chunk::{self, Column};
use super::pages::{self, ColumnPages, Page, Place};
use super::{CHUNK_CRC32, PAGES, entry, footer, read_range, writer};
use crate::error::{Error, Result};
use crate::files::Staged;
use crate::manifest::StoredFile;

/// Writes a checked file of record batches under a temporary name.
pub(crate) fn stage(
    root: &Path,
    relative: String,
    schema: SchemaRef,
    properties: WriterPropertiesBuilder,
    metadata: Vec<KeyValue>,
    batches: impl IntoIterator<Item = Result<RecordBatch>>,
) -> Result<(Staged, StoredFile)> {
    stage_with(root, relative, schema, properties, metadata, |groups| {
        let mut rows = 0;
        for batch in batches {
            let batch = batch?;
            rows += batch.num_rows() as u64;
            groups.write(&batch)?;
        }
        Ok(rows)
    })
}

/// A row group as columns of a file's schema.
pub(crate) struct RowGroup<'a> {
    pub rows: usize,
    pub columns: Vec<Column<'a>>,
}

/// Writes a checked file of columns under a temporary name: a row group for each of `groups`,
/// whose columns `columns` gives. What the properties say of encodings has no effect.
pub(crate) fn stage_columns<T>(
    root: &Path,
    relative: String,
    schema: SchemaRef,
    properties: WriterPropertiesBuilder,
    metadata: Vec<KeyValue>,
    row_groups: impl IntoIterator<Item = Result<T>>,
    columns: impl Fn(&T) -> RowGroup<'_>,
) -> Result<(Staged, StoredFile)> {
    stage_with(root, relative, schema, properties, metadata, |groups| {
        let mut rows = 0;
        for group in row_groups {
            let group = group?;
            let group = columns(&group);
            rows += group.rows as u64;
            groups.write_columns(&group)?;
        }
        Ok(rows)
    })
}

fn stage_with(
    root: &Path,
    relative: String,
    schema: SchemaRef,
    properties: WriterPropertiesBuilder,
    metadata: Vec<KeyValue>,
    write: impl FnOnce(&mut RowGroups<'_>) -> Result<u64>,
) -> Result<(Staged, StoredFile)> {
    let path = root.join(&relative);
    let (staged, (rows, bytes, footer_crc32)) = Staged::write(&path, |file| {
        let again = file.try_clone().map_err(Error::io("read", &path))?;
        let writer = writer(&path, file, schema.clone(), properties, metadata)?;
        let parts = writer.into_serialized_writer().map_err(Error::parquet("write", &path))?;
        let mut groups = RowGroups {
            path: &path,
            schema,
            again,
            file: parts.0,
            factory: parts.1,
            columns: Vec::new(),
            rows: 0,
            crcs: Vec::new(),
            places: Vec::new(),
        };
        let rows = write(&mut groups)?;
        let (bytes, footer_crc32) = groups.finish()?;
        Ok((rows, bytes, footer_crc32))
    })?;
    Ok((staged, StoredFile { path: relative, rows, bytes, footer_crc32 }))
}

/// A file that is written row group by row group. One of record batches is read back for its
/// checksums.
struct RowGroups<'a> {
    path: &'a Path,
    schema: SchemaRef,
    /// The same file.
    again: File,
    file: SerializedFileWriter<&'a mut File>,
    factory: ArrowRowGroupWriterFactory,
    /// The columns of the row group that is being filled, and its rows.
    columns: Vec<ArrowColumnWriter>,
    rows: usize,
    crcs: Vec<Vec<u32>>,
    places: Vec<Place>,
}

impl RowGroups<'_> {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let rows_max = self.file.properties().max_row_group_row_count().unwrap_or(usize::MAX);
        let mut written = 0;
        while written < batch.num_rows() {
            if self.rows == 0 {
                let group = self.crcs.len();
                let columns = self.factory.create_column_writers(group);
                self.columns = columns.map_err(self.failed())?;
            }
            let rows = (batch.num_rows() - written).min(rows_max - self.rows);
            let slice = batch.slice(written, rows);
            let mut columns = self.columns.iter_mut();
            for (field, array) in self.schema.fields().iter().zip(slice.columns()) {
                // Of fields without parts each is one column.
                for leaf in
                    compute_leaves(field, array).map_err(Error::parquet("write", self.path))?
                {
                    let column = columns.next().expect("each column has a writer");
                    column.write(&leaf).map_err(Error::parquet("write", self.path))?;
                }
            }
            self.rows += rows;
            written += rows;
            if self.rows == rows_max {
                self.end_group()?;
            }
        }
        Ok(())
    }

    fn failed(&self) -> impl FnOnce(ParquetError) -> Error {
        Error::parquet("write", self.path)
    }

    fn end_group(&mut self) -> Result<()> {
        let mut pages = Vec::new();
        let mut group = self.file.next_row_group().map_err(Error::parquet("write", self.path))?;
        for column in self.columns.drain(..) {
            let append = || {
                let chunk = column.close()?;
                // The sizes and rows of its pages; offsets are those in the file to come.
                let index = chunk.close().offset_index.clone();
                chunk.append_to_row_group(&mut group)?;
                Ok(index.map_or_else(Vec::new, |index| index.page_locations().clone()))
            };
            pages.push(append().map_err(Error::parquet("write", self.path))?);
        }
        let group = group.close().map_err(Error::parquet("write", self.path))?;
        self.file.flush().map_err(Error::io("write", self.path))?;
        let (mut crcs, mut columns) = (Vec::new(), Vec::new());
        for (column, pages) in group.columns().iter().zip(pages) {
            let (start, len) = column.byte_range();
            let bytes = read_range(&self.again, self.path, start, len)?;
            crcs.push(crc32fast::hash(&bytes));
            let data = pages.iter().map(|page| page.compressed_page_size as usize).sum::<usize>();
            let (dictionary, mut data) = bytes.split_at(bytes.len() - data);
            let page = |bytes: &[u8], rows| Page {
                bytes: bytes.len() as u32,
                rows,
                crc32: crc32fast::hash(bytes),
            };
            let ends = pages.iter().skip(1).map(|page| page.first_row_index);
            let ends = ends.chain([self.rows as i64]);
            let mut of_column = ColumnPages {
                dictionary: (!dictionary.is_empty()).then(|| page(dictionary, 0)),
                data: Vec::new(),
            };
            for (location, end) in pages.iter().zip(ends) {
                let (bytes, rest) = data.split_at(location.compressed_page_size as usize);
                of_column.data.push(page(bytes, (end - location.first_row_index) as u32));
                data = rest;
            }
            columns.push(of_column);
        }
        self.describe(crcs, &columns)?;
        self.rows = 0;
        Ok(())
    }

    /// A whole row group.
    fn write_columns(&mut self, columns: &RowGroup<'_>) -> Result<()> {
        assert_eq!(self.rows, 0, "a file is written from batches or from columns");
        let page_rows = self.file.properties().data_page_row_count_limit();
        let descriptions = self.file.schema_descr().columns().to_vec();
        let mut group = self.file.next_row_group().map_err(Error::parquet("write", self.path))?;
        let (mut crcs, mut pages) = (Vec::new(), Vec::new());
        assert_eq!(columns.columns.len(), descriptions.len(), "a group has every column");
        for (column, description) in columns.columns.iter().zip(descriptions) {
            let append = || {
                let chunk = chunk::encode(column, description, columns.rows, page_rows)?;
                group.append_column(&chunk.bytes, chunk.close)?;
                crcs.push(crc32fast::hash(&chunk.bytes));
                pages.push(chunk.pages);
                Ok(())
            };
            append().map_err(Error::parquet("write", self.path))?;
        }
        group.close().map_err(Error::parquet("write", self.path))?;
        self.describe(crcs, &pages)
    }

    /// Puts the description of a row group's pages behind it.
    fn describe(&mut self, crcs: Vec<u32>, columns: &[ColumnPages]) -> Result<()> {
        let described = pages::encode(columns);
        let start = self.file.bytes_written() as u64;
        self.file.write_all(&described).map_err(Error::io("write", self.path))?;
        let crc32 = crc32fast::hash(&described);
        self.places.push(Place { start, len: described.len() as u32, crc32 });
        self.crcs.push(crcs);
        Ok(())
    }

    /// The file's length and its footer's checksum.
    fn finish(mut self) -> Result<(u64, u32)> {
        if self.rows > 0 {
            self.end_group()?;
        }
        // The handles share one position: back to where the writer goes on.
        self.again.seek(SeekFrom::End(0)).map_err(Error::io("write", self.path))?;
        let text = |json: serde_json::Result<String>| json.expect("numbers are plain data");
        let crcs = entry(CHUNK_CRC32, text(serde_json::to_string(&self.crcs)));
        self.file.append_key_value_metadata(crcs);
        let places = entry(PAGES, text(serde_json::to_string(&self.places)));
        self.file.append_key_value_metadata(places);
        self.file.close().map_err(Error::parquet("write", self.path))?;
        let bytes = self.again.seek(SeekFrom::End(0)).map_err(Error::io("read", self.path))?;
        let footer = footer(&self.again, self.path, bytes)?;
        Ok((bytes, crc32fast::hash(&footer)))
    }
}
