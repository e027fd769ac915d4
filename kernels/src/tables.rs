//! Interners: keys and publishers as dense codes, which mean something beside their table only.

use std::hash::Hash;
use std::sync::Arc;

use isotick_model::{Key, PublisherId};
use rustc_hash::FxHashMap;

/// Keys by dense codes. Batches that share their keys look each of them up once.
#[derive(Clone, Debug, Default)]
pub struct KeyTable {
    table: Table<Key>,
    /// The keys of the last batch.
    batch: Arc<[Key]>,
    /// Their codes; [`UNKNOWN`] of those that nobody asked for.
    codes: Vec<u32>,
}

/// No code.
const UNKNOWN: u32 = u32::MAX;

/// The keys of a batch, by their places in it.
pub(crate) struct BatchKeys<'a> {
    table: &'a mut Table<Key>,
    keys: &'a [Key],
    codes: &'a mut [u32],
}

impl KeyTable {
    /// The code of a key, a new one at first sight.
    ///
    /// # Panics
    /// When 2^32 − 1 keys are in use.
    pub fn intern(&mut self, key: &Key) -> u32 {
        self.table.intern(key)
    }

    /// The keys of a batch.
    pub(crate) fn of_batch(&mut self, keys: &Arc<[Key]>) -> BatchKeys<'_> {
        if !Arc::ptr_eq(&self.batch, keys) {
            self.batch = Arc::clone(keys);
            self.codes.clear();
            self.codes.resize(keys.len(), UNKNOWN);
        }
        BatchKeys { table: &mut self.table, keys: &self.batch, codes: &mut self.codes }
    }

    /// The key of a code.
    ///
    /// # Panics
    /// When the code is not of this table.
    pub fn get(&self, code: u32) -> &Key {
        self.table.get(code)
    }

    /// The keys in the order of their codes.
    pub fn values(&self) -> &[Key] {
        self.table.values()
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether nothing was interned yet.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }
}

impl BatchKeys<'_> {
    /// The code of the key at a place, a new one at first sight.
    pub fn code(&mut self, place: usize) -> u32 {
        if self.codes[place] == UNKNOWN {
            self.codes[place] = self.table.intern(&self.keys[place]);
        }
        self.codes[place]
    }
}

/// Publishers by dense codes. First and last states hold these codes and are compared by the
/// names behind them.
pub type PublisherTable = Table<PublisherId>;

/// Values by dense codes from 0, in the order of first sight. It only grows: a code stays valid
/// as long as its table. Codes say nothing about order and never reach results or hashes; they are
/// saved with their table only.
#[derive(Clone, Debug)]
pub struct Table<T> {
    values: Vec<T>,
    codes: FxHashMap<T, u32>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { values: Vec::new(), codes: FxHashMap::default() }
    }
}

impl<T: Clone + Eq + Hash> Table<T> {
    /// The code of a value, a new one at first sight.
    ///
    /// # Panics
    /// When 2^32 − 1 values are in use.
    pub fn intern(&mut self, value: &T) -> u32 {
        if let Some(&code) = self.codes.get(value) {
            return code;
        }
        let code = u32::try_from(self.values.len()).expect("fewer than 2^32 values are interned");
        assert_ne!(code, UNKNOWN, "the table of codes is full");
        self.values.push(value.clone());
        self.codes.insert(value.clone(), code);
        code
    }

    /// The code of a value that was interned.
    pub fn code(&self, value: &T) -> Option<u32> {
        self.codes.get(value).copied()
    }

    /// The value of a code.
    ///
    /// # Panics
    /// When the code is not of this table.
    pub fn get(&self, code: u32) -> &T {
        &self.values[code as usize]
    }

    /// The values in the order of their codes.
    pub fn values(&self) -> &[T] {
        &self.values
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether nothing was interned yet.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}
