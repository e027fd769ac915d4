//! Arrow IPC streams, as publishers of any language send them.

use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, BooleanArray, Decimal128Array, DictionaryArray, Float64Array, Int64Array,
    LargeStringArray, RecordBatch, StringArray, TimestampNanosecondArray,
};
use isotick_wire::arrow::{encode_batches, read_batches};
use isotick_wire::frame::{CELLS_MAX, ROWS_MAX};

use crate::{Bound, Target};

/// Whatever a stream says of itself, it is read within bounds, written and read again the same.
pub(super) const ARROW: Target = Target {
    name: "arrow",
    run: |bytes| {
        let Ok(batches) = read_batches(bytes) else { return };
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let columns = batches.first().map_or(0, RecordBatch::num_columns);
        assert!(rows <= ROWS_MAX && rows * columns <= CELLS_MAX);
        // Debug output looks at every value.
        let said = format!("{batches:?}");
        if !batches.is_empty() {
            let again = read_batches(&encode_batches(&batches)).expect("it was just written");
            assert_eq!(format!("{again:?}"), said);
        }
    },
    corpus: || [0, 1, 9, 100].map(|rows| encode_batches(&[batch(rows), batch(rows)])).to_vec(),
    bound: Bound { bytes: 4 << 20, per_byte: 1024 },
};

fn batch(rows: i64) -> RecordBatch {
    let symbols: DictionaryArray<Int32Type> =
        (0..rows).map(|n| (n % 5 > 0).then(|| ["A", "B", "C"][n as usize % 3])).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("ts", Arc::new(TimestampNanosecondArray::from_iter_values(0..rows))),
        ("symbol", Arc::new(symbols)),
        ("name", Arc::new(StringArray::from_iter_values((0..rows).map(|n| format!("n{n}"))))),
        (
            "long",
            Arc::new((0..rows).map(|n| (n % 3 > 0).then_some("x")).collect::<LargeStringArray>()),
        ),
        (
            "price",
            Arc::new((0..rows).map(|n| (n % 2 > 0).then_some(n as f64)).collect::<Float64Array>()),
        ),
        ("size", Arc::new(Int64Array::from_iter_values(0..rows))),
        ("wide", Arc::new(Decimal128Array::from_iter_values((0..rows).map(i128::from)))),
        (
            "flag",
            Arc::new((0..rows).map(|n| (n % 7 > 0).then_some(n % 2 > 0)).collect::<BooleanArray>()),
        ),
    ];
    let columns = columns.into_iter().map(|(name, array)| (name, array, true));
    RecordBatch::try_from_iter_with_nullable(columns).expect("columns of one length")
}
