//! What a Parquet file's statistics prove of all its rows.

use arrow_schema::{DataType, TimeUnit};
use isotick_model::{Column, Scale};
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::file::statistics::Statistics;

use super::Plan;

/// The first leaf column of a field.
pub(super) fn leaf_of(metadata: &ArrowReaderMetadata, field: usize) -> Option<usize> {
    let parquet = metadata.parquet_schema();
    (0..parquet.num_columns()).find(|&leaf| parquet.get_column_root_idx(leaf) == field)
}

/// Whether the file's statistics prove that every row has a time that is good, and not after
/// `latest_ns`.
pub(super) fn times_are_good(plan: &Plan, metadata: &ArrowReaderMetadata, latest_ns: i64) -> bool {
    let parquet = metadata.parquet_schema();
    let field = plan.bindings.time;
    let nanoseconds = match metadata.schema().field(field).data_type() {
        DataType::Timestamp(TimeUnit::Nanosecond, _) => true,
        DataType::Int64 => plan.time_unit == isotick_model::time::TimeUnit::Nanoseconds,
        _ => false,
    };
    let (true, Some(leaf)) = (nanoseconds, leaf_of(metadata, field)) else { return false };
    let required = parquet.column(leaf).max_def_level() == 0;
    metadata.metadata().row_groups().iter().all(|group| {
        let statistics = group.column(leaf).statistics();
        let no_nulls = required || statistics.and_then(Statistics::null_count_opt) == Some(0);
        let span = match statistics {
            Some(Statistics::Int64(span)) => span.min_opt().copied().zip(span.max_opt().copied()),
            _ => None,
        };
        let good = |(least, greatest): (i64, i64)| {
            plan.range.holds(least) && plan.range.holds(greatest) && greatest <= latest_ns
        };
        no_nulls && span.is_some_and(good)
    })
}

/// Whether the file's statistics prove that every row has an acceptable value in this column.
pub(super) fn rejects_nothing(
    metadata: &ArrowReaderMetadata,
    field: usize,
    column: &Column,
    stated: Option<Scale>,
) -> bool {
    let parquet = metadata.parquet_schema();
    let data_type = metadata.schema().field(field).data_type();
    let is_of_scale = match data_type {
        DataType::Int32 | DataType::Int64 => stated.is_none_or(|stated| stated == column.scale),
        DataType::Decimal32(_, own) | DataType::Decimal64(_, own) => {
            i32::from(*own) == i32::from(column.scale.digits())
        }
        _ => false,
    };
    if !is_of_scale {
        return false;
    }
    let mut leaves =
        (0..parquet.num_columns()).filter(|&leaf| parquet.get_column_root_idx(leaf) == field);
    let (Some(leaf), None) = (leaves.next(), leaves.next()) else { return false };
    let required = parquet.column(leaf).max_def_level() == 0;
    let unbounded = (column.min, column.max) == (i64::MIN, i64::MAX);
    metadata.metadata().row_groups().iter().all(|group| {
        let statistics = group.column(leaf).statistics();
        let no_nulls = column.optional
            || required
            || statistics.and_then(Statistics::null_count_opt) == Some(0);
        let span = match statistics {
            Some(Statistics::Int64(span)) => span.min_opt().copied().zip(span.max_opt().copied()),
            Some(Statistics::Int32(span)) => span
                .min_opt()
                .zip(span.max_opt())
                .map(|(&min, &max)| (i64::from(min), i64::from(max))),
            _ => None,
        };
        let inside = span.is_some_and(|(min, max)| column.min <= min && max <= column.max);
        no_nulls && (unbounded || inside)
    })
}
