//! Interners: keys and publishers as dense codes, which mean something beside their table only.

use std::hash::Hash;

use isotick_model::{Key, PublisherId};
use rustc_hash::FxHashMap;

/// Keys by dense codes.
pub type KeyTable = Table<Key>;

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
        assert_ne!(code, u32::MAX, "the table of codes is full");
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
