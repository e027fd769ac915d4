//! The types in which a Parquet file's fields are read.

use std::path::Path;
use std::sync::Arc;

use arrow_schema::{
    DECIMAL32_MAX_PRECISION, DECIMAL64_MAX_PRECISION, DataType, Field, Schema, TimeUnit,
};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::basic::Type as PhysicalType;

use super::parquet_reader::guard;
use super::proven::leaf_of;
use super::{Plan, SourceError, array};

/// Refuses fields of types that cannot become their columns.
pub(super) fn check_types(plan: &Plan, schema: &Schema) -> Result<(), SourceError> {
    let check = |field: usize, fits: fn(&DataType) -> bool, kind: &str, column: &str| {
        let field = schema.field(field);
        match fits(field.data_type()) {
            true => Ok(()),
            false => Err(SourceError::Unsupported {
                path: plan.path.clone(),
                field: field.name().clone(),
                data_type: field.data_type().to_string(),
                purpose: format!("the {kind} column {column:?}"),
            }),
        }
    };
    check(plan.bindings.time, array::is_time, "time", &plan.schema.time)?;
    for (&field, column) in plan.bindings.keys.iter().zip(&plan.schema.keys) {
        check(field, array::is_key, "key", column)?;
    }
    for (field, column) in plan.bindings.values.iter().zip(&plan.schema.columns) {
        if let Some(field) = *field {
            check(field, array::is_value, "value", &column.name)?;
        }
    }
    Ok(())
}

/// A reading of the file in which an INT96 time comes in seconds; `None` where it is another type.
pub(super) fn int96_seconds(
    path: &Path,
    plan: &Plan,
    metadata: &ArrowReaderMetadata,
) -> Result<Option<ArrowReaderMetadata>, SourceError> {
    let parquet = metadata.parquet_schema();
    let int96 = (0..parquet.num_columns()).any(|leaf| {
        parquet.get_column_root_idx(leaf) == plan.bindings.time
            && parquet.column(leaf).physical_type() == PhysicalType::INT96
    });
    if !int96 {
        return Ok(None);
    }
    let schema = metadata.schema();
    let mut fields = schema.fields().to_vec();
    let time = &mut fields[plan.bindings.time];
    *time =
        Arc::new(Field::clone(time).with_data_type(DataType::Timestamp(TimeUnit::Second, None)));
    let supplied = Schema::new_with_metadata(fields, schema.metadata().clone());
    guard(path, || {
        let options = ArrowReaderOptions::new().with_schema(Arc::new(supplied));
        ArrowReaderMetadata::try_new(Arc::clone(metadata.metadata()), options).map(Some)
    })
}

/// Asks for what a file has in the form that costs least. Text keys come as dictionaries, which is
/// how most files store them: then each distinct text is looked at once a batch. Decimals come in as
/// many bits as they need.
pub(super) fn with_cheap_types(
    path: &Path,
    plan: &Plan,
    metadata: ArrowReaderMetadata,
) -> Result<ArrowReaderMetadata, SourceError> {
    let (schema, parquet) = (metadata.schema(), metadata.parquet_schema());
    let dictionary = |value| DataType::Dictionary(Box::new(DataType::Int32), Box::new(value));
    let fields = schema.fields().iter().enumerate().map(|(index, field)| {
        let shared = plan.bindings.time == index || plan.bindings.values.contains(&Some(index));
        let data_type = match field.data_type() {
            DataType::Decimal128(precision, scale) => {
                let column = leaf_of(&metadata, index).map(|leaf| parquet.column(leaf));
                let stored = column.map(|column| (column.physical_type(), column.type_length()));
                match stored {
                    Some((PhysicalType::INT32, _)) if *precision <= DECIMAL32_MAX_PRECISION => {
                        DataType::Decimal32(*precision, *scale)
                    }
                    Some(
                        (PhysicalType::INT64, _) | (PhysicalType::FIXED_LEN_BYTE_ARRAY, 1..=8),
                    ) if *precision <= DECIMAL64_MAX_PRECISION => {
                        DataType::Decimal64(*precision, *scale)
                    }
                    _ => return Arc::clone(field),
                }
            }
            _ if shared || !plan.bindings.keys.contains(&index) => return Arc::clone(field),
            data_type if array::is_text(data_type) => dictionary(DataType::Utf8),
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
                dictionary(DataType::Binary)
            }
            _ => return Arc::clone(field),
        };
        Arc::new(Field::clone(field).with_data_type(data_type))
    });
    let supplied = Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone());
    guard(path, || {
        let options = ArrowReaderOptions::new().with_schema(Arc::new(supplied));
        let parquet = Arc::clone(metadata.metadata());
        // A reader that cannot give dictionaries gives the text itself.
        Ok(ArrowReaderMetadata::try_new(parquet, options).unwrap_or(metadata))
    })
}
