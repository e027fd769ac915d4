//! Batches of which few rows have a wanted key: only those rows are decoded, or at least no others
//! converted.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{Array, ArrayRef, BooleanArray, DictionaryArray, Int32Array, StringArray};
use arrow_buffer::BooleanBuffer;
use isotick_model::{Key, KeySelection};

/// Keys of more columns are not looked at.
const KEY_COLUMNS_MAX: usize = 8;

/// Picks the wanted rows of a batch that was read whole, whose key columns these are: which they
/// are, and their keys. `None` where most are wanted, or it cannot be told.
pub(super) fn pick(
    texts: &mut WantedTexts,
    keys: &[&ArrayRef],
    wanted: &KeySelection,
) -> Option<(BooleanArray, Vec<ArrayRef>)> {
    let mask = texts.passing(keys, wanted)?;
    if 2 * mask.count_set_bits() > mask.len() {
        return None;
    }
    let mut codes = vec![Vec::new(); keys.len()];
    texts.gather(keys, &mask, &mut codes);
    Some((BooleanArray::new(mask, None), texts.arrays(codes)))
}

/// What of the key columns' dictionaries is wanted, for as long as batches share them.
#[derive(Default)]
pub(super) struct WantedTexts {
    columns: Vec<Option<KnownTexts>>,
}

impl WantedTexts {
    /// The rows with a wanted key. `None` where a column is no dictionary of keys, or there is none, or
    /// there are many.
    pub(super) fn passing(
        &mut self,
        keys: &[&ArrayRef],
        wanted: &KeySelection,
    ) -> Option<BooleanBuffer> {
        if keys.len() > KEY_COLUMNS_MAX {
            return None;
        }
        self.columns.resize_with(keys.len(), || None);
        let mut masks = Vec::new();
        for (number, (array, known)) in keys.iter().zip(&mut self.columns).enumerate() {
            if !known.as_ref().is_some_and(|known| known.is_of(array)) {
                *known = KnownTexts::of(array, wanted.texts(number));
            }
            masks.push(known.as_ref()?.passing(array)?);
        }
        masks.into_iter().reduce(|all, passing| &all & &passing)
    }

    /// Appends the codes of these rows, per column over its wanted texts.
    pub(super) fn gather(&self, keys: &[&ArrayRef], rows: &BooleanBuffer, codes: &mut [Vec<i32>]) {
        for ((known, array), codes) in self.columns.iter().flatten().zip(keys).zip(codes) {
            known.gather(array, rows, codes);
        }
    }

    /// Such codes as arrays.
    pub(super) fn arrays(&self, codes: Vec<Vec<i32>>) -> Vec<ArrayRef> {
        let columns = self.columns.iter().flatten().zip(codes);
        columns.map(|(known, codes)| known.array(codes)).collect()
    }
}

/// Which entries of a dictionary are wanted.
struct KnownTexts {
    values: ArrayRef,
    wanted: Vec<bool>,
    /// The place of each wanted entry among the wanted ones.
    places: Vec<i32>,
    /// The wanted ones.
    texts: ArrayRef,
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
        let wanted: Vec<bool> = entries.iter().flatten().map(is_wanted).collect();
        // A dictionary's entries are numbered in 32 bits.
        let place = |next: &mut i32, &wanted: &bool| {
            let place = *next;
            *next += i32::from(wanted);
            Some(place)
        };
        let places = wanted.iter().scan(0, place).collect();
        let texts = entries.iter().flatten().zip(&wanted);
        let texts = texts.filter_map(|(text, wanted)| wanted.then_some(text));
        let texts = Arc::new(StringArray::from_iter_values(texts));
        Some(Self { values: values.clone(), wanted, places, texts })
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
        let greatest = codes.iter().fold(0, |most, code| code.cast_unsigned().max(most));
        if greatest as usize >= self.wanted.len() {
            return None;
        }
        Some(BooleanBuffer::collect_bool(codes.len(), |row| self.wanted[codes[row] as usize]))
    }

    /// Appends the wanted rows' places among the wanted entries. Every code is in the dictionary.
    fn gather(&self, array: &ArrayRef, rows: &BooleanBuffer, places: &mut Vec<i32>) {
        let codes = array.as_dictionary::<Int32Type>().keys().values();
        places.extend(rows.set_indices().map(|row| self.places[codes[row] as usize]));
    }

    /// An array of such places, over the wanted entries.
    fn array(&self, places: Vec<i32>) -> ArrayRef {
        Arc::new(DictionaryArray::new(Int32Array::from(places), Arc::clone(&self.texts)))
    }
}
