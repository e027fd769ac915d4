//! Keys: the series a tick belongs to.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

/// The values of a stream's key columns, as bytes whose order is the order of the tuples.
///
/// Each component is its UTF-8 text with every `00` byte written as `00 FF`, ended by `00 00`.
/// A stream without key columns has the empty key. These bytes go to disk, to the wire and into
/// result hashes; dense codes never do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<[u8]>);

impl Key {
    /// The longest key, in encoded bytes.
    pub const LEN_MAX: usize = 4096;

    /// The key of a stream that has no key columns.
    pub fn empty() -> Self {
        Self(Arc::from([].as_slice()))
    }

    /// Encodes the components, in the order of the stream's key columns.
    pub fn from_components<S: AsRef<str>>(components: impl IntoIterator<Item = S>) -> Self {
        let mut bytes = Vec::new();
        for component in components {
            let text = component.as_ref().as_bytes();
            bytes.reserve(text.len() + 2);
            for (number, part) in text.split(|&byte| byte == 0).enumerate() {
                if number > 0 {
                    bytes.extend_from_slice(&[0, 0xFF]);
                }
                bytes.extend_from_slice(part);
            }
            bytes.extend_from_slice(&[0, 0]);
        }
        Self(bytes.into())
    }

    /// Takes encoded bytes, e.g. from the wire. `None` when they are no encoding of text
    /// components or longer than [`Self::LEN_MAX`].
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        (bytes.len() <= Self::LEN_MAX && decode(bytes).is_some()).then(|| Self(bytes.into()))
    }

    /// The encoded bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The components' texts, in the order of the stream's key columns.
    pub fn components(&self) -> Vec<String> {
        decode(&self.0).expect("a key's bytes were checked when it was made")
    }
}

/// The keys that a stream allows, when it names them. Cloning is cheap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySet(Arc<HashSet<Key>>);

impl KeySet {
    /// Whether the key is one of them.
    pub fn contains(&self, key: &Key) -> bool {
        self.0.contains(key)
    }

    /// Whether no key is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys in the order of their bytes.
    pub fn sorted(&self) -> Vec<&Key> {
        let mut keys: Vec<_> = self.0.iter().collect();
        keys.sort_unstable();
        keys
    }
}

impl FromIterator<Key> for KeySet {
    fn from_iter<I: IntoIterator<Item = Key>>(keys: I) -> Self {
        Self(Arc::new(keys.into_iter().collect()))
    }
}

/// The components joined by `,`: for messages only.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.components().join(","))
    }
}

fn decode(bytes: &[u8]) -> Option<Vec<String>> {
    let mut components = Vec::new();
    let mut component = Vec::new();
    let mut rest = bytes.iter();
    while let Some(&byte) = rest.next() {
        if byte != 0 {
            component.push(byte);
            continue;
        }
        match rest.next()? {
            0xFF => component.push(0),
            0 => components.push(String::from_utf8(std::mem::take(&mut component)).ok()?),
            _ => return None,
        }
    }
    component.is_empty().then_some(components)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_order_as_tuples_do() {
        let tuples = [
            vec!["", ""],
            vec!["", "a"],
            vec!["\0", ""],
            vec!["a", "z"],
            vec!["a\0", "a"],
            vec!["a\0b", "a"],
            vec!["aa", ""],
        ];
        let keys: Vec<_> = tuples.iter().map(Key::from_components).collect();
        assert!(keys.is_sorted());
        for (tuple, key) in tuples.iter().zip(&keys) {
            assert_eq!(key.components(), *tuple);
            assert_eq!(Key::from_bytes(key.as_bytes()).as_ref(), Some(key));
        }
    }

    #[test]
    fn broken_bytes_are_refused() {
        for bytes in [&b"a"[..], b"a\0", b"\0\x01", b"\xff\0\0"] {
            assert_eq!(Key::from_bytes(bytes), None);
        }
        assert_eq!(Key::from_bytes(b""), Some(Key::empty()));
    }
}
