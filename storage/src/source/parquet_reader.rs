//! What is asked of the general reader of Parquet, behind a border where its panics are errors.

use std::any::Any;
use std::fs::File;
use std::ops::Range;
use std::path::Path;

use arrow_array::RecordBatch;
use isotick_model::Scale;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;

use super::caught;
use super::fields::stated_scale;
use super::pieces::Pieces;
use super::{SourceError, open, read_error};

/// Runs the Parquet reader. It returns errors for damaged files, but arithmetic on bytes that are
/// no file at all can still panic inside; at this border that becomes an error as well.
pub(super) fn guard<T>(
    path: &Path,
    read: impl FnOnce() -> Result<T, ParquetError>,
) -> Result<T, SourceError> {
    match caught::catch(read) {
        Ok(result) => result.map_err(|source| SourceError::Parquet { path: path.into(), source }),
        Err(panic) => Err(SourceError::Damaged { path: path.into(), message: message(&*panic) }),
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic".into())
}

/// Opens a file and reads its metadata.
pub(super) fn load(path: &Path) -> Result<(File, ArrowReaderMetadata), SourceError> {
    let file = open(path)?;
    if file.metadata().map_err(read_error(path))?.is_dir() {
        return Err(read_error(path)(std::io::ErrorKind::IsADirectory.into()));
    }
    let metadata = guard(path, || ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()))?;
    // Rows are counted in 64 bits from here on, and a row group's in the machine's own.
    let rows = metadata.metadata().row_groups().iter().try_fold(0_u64, |sum, group| {
        let rows = usize::try_from(group.num_rows()).ok()?;
        sum.checked_add(rows as u64)
    });
    if rows.is_none() {
        let message = "its row groups state numbers of rows that no file holds".to_owned();
        return Err(SourceError::Damaged { path: path.into(), message });
    }
    Ok((file, metadata))
}

pub(super) fn field_names(metadata: &ArrowReaderMetadata) -> Vec<String> {
    metadata.schema().fields().iter().map(|field| field.name().clone()).collect()
}

/// The scale that the file's metadata state for a field's integers.
pub(super) fn scale_of(
    path: &Path,
    metadata: &ArrowReaderMetadata,
    field: usize,
) -> Result<Option<Scale>, SourceError> {
    let field = metadata.schema().field(field);
    if !field.data_type().is_integer() {
        return Ok(None);
    }
    stated_scale(path, field.name(), field.metadata(), metadata.schema().metadata())
}

/// Decodes some rows of one row group, given columns only.
pub(super) fn group_reader(
    path: &Path,
    file: &File,
    metadata: &ArrowReaderMetadata,
    group: usize,
    fields: &[usize],
    batch_rows: usize,
    rows: Range<usize>,
) -> Result<ParquetRecordBatchReader, SourceError> {
    let mask = ProjectionMask::roots(metadata.parquet_schema(), fields.iter().copied());
    let pieces = guard(path, || Pieces::new(file, metadata.metadata(), group, &mask))?;
    guard(path, || {
        ParquetRecordBatchReaderBuilder::new_with_metadata(pieces, metadata.clone())
            .with_row_groups(vec![group])
            .with_projection(mask)
            .with_batch_size(batch_rows)
            .with_offset(rows.start)
            .with_limit(rows.len())
            .build()
    })
}

/// The next rows of a reader.
pub(super) fn next_of(
    path: &Path,
    reader: &mut ParquetRecordBatchReader,
) -> Result<Option<RecordBatch>, SourceError> {
    guard(path, || reader.next().transpose().map_err(ParquetError::from))
}

/// The rows that a file states.
pub(super) fn rows_of(metadata: &ArrowReaderMetadata) -> u64 {
    (0..metadata.metadata().num_row_groups()).map(|group| group_rows(metadata, group)).sum()
}

/// The rows that it states of a row group.
pub(super) fn group_rows(metadata: &ArrowReaderMetadata, group: usize) -> u64 {
    // `load` has refused those below 0.
    metadata.metadata().row_group(group).num_rows().cast_unsigned()
}
