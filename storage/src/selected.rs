//! Row groups of which few rows have a wanted key: only those rows are decoded.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow_buffer::BooleanBuffer;
use isotick_model::{Key, KeySelection};
use parquet::arrow::arrow_reader::RowSelection;

/// A row group is read whole when more than one row in so many is wanted, unless those rows stand
/// together.
const WHOLE_FROM: usize = 64;
/// Rows stand together when runs of wanted and unwanted ones have so many on average.
const TOGETHER_ROWS: usize = 1024;

/// Keys of more columns are not looked at.
const KEY_COLUMNS_MAX: usize = 8;

/// The wanted rows of a row group.
pub(crate) struct Selected {
    pub(crate) selection: RowSelection,
    /// Their places in the row group, ascending.
    pub(crate) rows: Vec<u32>,
}

/// Finds the wanted rows by the key columns alone: `batches` are those of a row group, with the
/// stream's key columns at these places. `None` where the row group is better read whole, or must
/// be: some key may be no key.
pub(crate) fn select<E>(
    batches: impl Iterator<Item = Result<RecordBatch, E>>,
    columns: &[usize],
    wanted: &KeySelection,
) -> Result<Option<Selected>, E> {
    if columns.len() > KEY_COLUMNS_MAX {
        return Ok(None);
    }
    let (mut masks, mut rows, mut all) = (Vec::new(), Vec::new(), 0);
    let mut known: Vec<Option<KnownTexts>> = columns.iter().map(|_| None).collect();
    for batch in batches {
        let batch = batch?;
        let mut mask = BooleanBuffer::new_set(batch.num_rows());
        for (number, (&column, known)) in columns.iter().zip(&mut known).enumerate() {
            let array = batch.column(column);
            if !known.as_ref().is_some_and(|known| known.is_of(array)) {
                *known = KnownTexts::of(array, wanted.texts(number));
            }
            let Some(passing) = known.as_ref().and_then(|known| known.passing(array)) else {
                return Ok(None);
            };
            mask = &mask & &passing;
        }
        rows.extend(mask.set_indices().map(|row| (all + row) as u32));
        all += batch.num_rows();
        masks.push(BooleanArray::new(mask, None));
    }
    if u32::try_from(all).is_err() {
        return Ok(None);
    }
    let selection = RowSelection::from_filters(&masks);
    // Sorted by key, wanted rows stand together, and passing over the others costs nothing.
    let few = rows.len() * WHOLE_FROM <= all;
    let together = rows.len() < all && selection.iter().count() * TOGETHER_ROWS <= all;
    Ok((few || together).then_some(Selected { selection, rows }))
}

/// Which entries of a dictionary are wanted.
struct KnownTexts {
    values: ArrayRef,
    wanted: Vec<bool>,
}

impl KnownTexts {
    /// `None` where the array is no dictionary of texts that can all be keys.
    fn of(array: &ArrayRef, texts: Option<&BTreeSet<String>>) -> Option<Self> {
        let values = array.as_dictionary_opt::<Int32Type>()?.values();
        let entries = values.as_string_opt::<i32>()?;
        // Encoded, a text takes at most twice its bytes and two more.
        let short = |text: &str| text.len() <= Key::LEN_MAX / (2 * KEY_COLUMNS_MAX) - 2;
        if entries.null_count() > 0 || !entries.iter().flatten().all(short) {
            return None;
        }
        let is_wanted = |text: &str| texts.is_none_or(|texts| texts.contains(text));
        let wanted = entries.iter().flatten().map(is_wanted).collect();
        Some(Self { values: values.clone(), wanted })
    }

    fn is_of(&self, array: &ArrayRef) -> bool {
        array
            .as_dictionary_opt::<Int32Type>()
            .is_some_and(|dictionary| Arc::ptr_eq(dictionary.values(), &self.values))
    }

    /// The rows that are wanted; `None` where one is null or outside the dictionary.
    fn passing(&self, array: &ArrayRef) -> Option<BooleanBuffer> {
        if array.null_count() > 0 {
            return None;
        }
        let codes = array.as_dictionary_opt::<Int32Type>()?.keys().values();
        let mut inside = true;
        let passing = BooleanBuffer::collect_bool(codes.len(), |row| {
            let wanted = self.wanted.get(codes[row] as usize);
            inside &= wanted.is_some();
            wanted == Some(&true)
        });
        inside.then_some(passing)
    }
}
