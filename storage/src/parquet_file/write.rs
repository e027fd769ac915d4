//! Writing checked files.

use std::path::Path;
use std::sync::Arc;

use arrow_schema::SchemaRef;
use isotick_model::Codec;
use parquet::basic::Compression;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterPropertiesBuilder;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;

use super::chunk::{self, Column};
use super::pages::{self, Place};
use super::{CHUNK_CRC32, PAGES, entry, footer, writer};
use crate::disk::DiskFile;
use crate::error::{Error, Result};
use crate::files::NewFile;
use crate::manifest::StoredFile;
use crate::objects::{Objects, StagedObject, read_range};

/// A row group as columns of a file's schema.
pub(crate) struct RowGroup<'a> {
    pub rows: usize,
    pub columns: Vec<Column<'a>>,
}

/// Writes a checked file under a temporary name: a row group for each of `row_groups`, whose
/// columns `columns` gives. Of the properties, those of rows per page, compression and metadata count.
pub(crate) fn stage_columns<T>(
    objects: &Objects,
    relative: String,
    schema: SchemaRef,
    properties: WriterPropertiesBuilder,
    metadata: Vec<KeyValue>,
    row_groups: impl IntoIterator<Item = Result<T>>,
    columns: impl Fn(&T) -> RowGroup<'_>,
) -> Result<(StagedObject, StoredFile)> {
    let (staged, (rows, bytes, footer_crc32)) = objects.stage(&relative, |file, path| {
        let again = file.again();
        let writer = writer(path, file, schema, properties, metadata)?;
        let (file, _) = writer.into_serialized_writer().map_err(Error::parquet("write", path))?;
        let mut groups = RowGroups { path, again, file, crcs: Vec::new(), places: Vec::new() };
        let mut rows = 0;
        for group in row_groups {
            let group = group?;
            let group = columns(&group);
            rows += group.rows as u64;
            groups.write(&group)?;
        }
        let (bytes, footer_crc32) = groups.finish()?;
        Ok((rows, bytes, footer_crc32))
    })?;
    Ok((staged, StoredFile { path: relative, rows, bytes, footer_crc32 }))
}

/// A file that is written row group by row group.
struct RowGroups<'a> {
    path: &'a Path,
    /// The same file.
    again: Arc<dyn DiskFile>,
    file: SerializedFileWriter<&'a mut NewFile>,
    crcs: Vec<Vec<u32>>,
    places: Vec<Place>,
}

impl RowGroups<'_> {
    fn write(&mut self, columns: &RowGroup<'_>) -> Result<()> {
        let page_rows = self.file.properties().data_page_row_count_limit();
        let codec = match self.file.properties().compression(&ColumnPath::new(Vec::new())) {
            Compression::ZSTD(_) => Codec::Zstd,
            _ => Codec::None,
        };
        let descriptions = self.file.schema_descr().columns().to_vec();
        assert_eq!(columns.columns.len(), descriptions.len(), "a row group has every column");
        let mut group = self.file.next_row_group().map_err(Error::parquet("write", self.path))?;
        let (mut crcs, mut pages) = (Vec::new(), Vec::new());
        for (column, description) in columns.columns.iter().zip(descriptions) {
            let append = || {
                let chunk = chunk::encode(column, description, columns.rows, page_rows, codec)?;
                group.append_column(&chunk.bytes, chunk.close)?;
                crcs.push(crc32fast::hash(&chunk.bytes));
                pages.push(chunk.pages);
                Ok(())
            };
            append().map_err(Error::parquet("write", self.path))?;
        }
        group.close().map_err(Error::parquet("write", self.path))?;
        let described = pages::encode(&pages);
        let start = self.file.bytes_written() as u64;
        self.file.write_all(&described).map_err(Error::io("write", self.path))?;
        let crc32 = crc32fast::hash(&described);
        self.places.push(Place { start, len: described.len() as u32, crc32 });
        self.crcs.push(crcs);
        Ok(())
    }

    /// The file's length and its footer's checksum.
    fn finish(mut self) -> Result<(u64, u32)> {
        let text = |json: serde_json::Result<String>| json.expect("numbers are plain data");
        let crcs = entry(CHUNK_CRC32, text(serde_json::to_string(&self.crcs)));
        self.file.append_key_value_metadata(crcs);
        let places = entry(PAGES, text(serde_json::to_string(&self.places)));
        self.file.append_key_value_metadata(places);
        self.file.close().map_err(Error::parquet("write", self.path))?;
        let bytes = self.again.len().map_err(Error::io("read", self.path))?;
        let read = |start, len| read_range(&*self.again, self.path, start, len);
        let footer = footer(self.path, bytes, read)?;
        Ok((bytes, crc32fast::hash(&footer)))
    }
}
