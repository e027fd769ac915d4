//! Batches of which few rows have a wanted key: only those rows are decoded, or at least no others
//! converted.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BooleanArray, StringArray};
use arrow_buffer::BooleanBuffer;
use isotick_model::{Key, KeySelection};

use super::array::TextCodes;

/// Keys of more columns are not looked at.
const KEY_COLUMNS_MAX: usize = 8;

/// Picks the wanted rows of a batch that was read whole, whose key columns these are: which they
/// are, and their keys. `None` where most are wanted, or it cannot be told.
pub(super) fn pick(
    texts: &mut WantedTexts,
    keys: &[&ArrayRef],
    wanted: &KeySelection,
) -> Option<(BooleanArray, Vec<TextCodes>)> {
    let keys: Vec<_> = keys.iter().map(|array| TextCodes::of(array)).collect::<Option<_>>()?;
    let mask = texts.passing(&keys, wanted)?;
    if 2 * mask.count_set_bits() > mask.len() {
        return None;
    }
    let mut codes = vec![Vec::new(); keys.len()];
    texts.gather(&keys, &mask.set_indices_u32().collect::<Vec<_>>(), &mut codes);
    Some((BooleanArray::new(mask, None), texts.columns(codes)))
}

/// What of the key columns' dictionaries is wanted, for as long as batches share them.
#[derive(Default)]
pub(super) struct WantedTexts {
    columns: Vec<Option<KnownTexts>>,
}

impl WantedTexts {
    /// The rows with a wanted key. `None` where a row or an entry may have none, or there is no key column,
    /// or there are many.
    pub(super) fn passing(
        &mut self,
        keys: &[TextCodes],
        wanted: &KeySelection,
    ) -> Option<BooleanBuffer> {
        if keys.len() > KEY_COLUMNS_MAX || keys.iter().any(|column| column.nulls.is_some()) {
            return None;
        }
        self.columns.resize_with(keys.len(), || None);
        let mut masks = Vec::new();
        for (number, (column, known)) in keys.iter().zip(&mut self.columns).enumerate() {
            if !known.as_ref().is_some_and(|known| Arc::ptr_eq(&known.values, &column.texts)) {
                *known = KnownTexts::of(&column.texts, wanted.texts(number));
            }
            masks.push(known.as_ref()?.passing(&column.codes));
        }
        masks.into_iter().reduce(|all, passing| &all & &passing)
    }

    /// Appends the codes of these rows, per column over its wanted texts.
    pub(super) fn gather(&self, keys: &[TextCodes], rows: &[u32], codes: &mut [Vec<i32>]) {
        for ((known, column), codes) in self.columns.iter().flatten().zip(keys).zip(codes) {
            let code = |row: &u32| known.places[column.codes[*row as usize] as usize];
            codes.extend(rows.iter().map(code));
        }
    }

    /// Such codes with their texts.
    pub(super) fn columns(&self, codes: Vec<Vec<i32>>) -> Vec<TextCodes> {
        let columns = self.columns.iter().flatten().zip(codes);
        let column = |(known, codes): (&KnownTexts, Vec<i32>)| TextCodes {
            texts: Arc::clone(&known.texts),
            codes: codes.into(),
            nulls: None,
        };
        columns.map(column).collect()
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
    /// `None` where the entries are not texts that can all be keys.
    fn of(values: &ArrayRef, texts: Option<&BTreeSet<String>>) -> Option<Self> {
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

    /// The rows that are wanted.
    fn passing(&self, codes: &[i32]) -> BooleanBuffer {
        BooleanBuffer::collect_bool(codes.len(), |row| self.wanted[codes[row] as usize])
    }
}
