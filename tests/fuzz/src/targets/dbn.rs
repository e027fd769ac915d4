//! DBN files.

use isotick_storage::source::fuzzing;

use crate::{Bound, Numbers, Target};

/// A file that is not compressed.
pub(super) const DBN: Target = Target {
    name: "dbn",
    run: |bytes| match fuzzing::dbn(bytes) {
        // No row takes less than a header.
        Ok(rows) => assert!(rows <= bytes.len() as u64 / 16),
        Err(error) => assert!(!error.to_string().is_empty()),
    },
    corpus: files,
    // The shortest records become rows of a book of ten levels; the shortest symbols, texts.
    bound: Bound { bytes: 4 << 20, per_byte: 640 },
};

fn files() -> Vec<Vec<u8>> {
    let mut numbers = Numbers::new(12);
    let mut files = Vec::new();
    // Of schema, type and length: trades, one and ten levels, bars, and what the records say.
    let kinds = [(4, 0x00, 48), (1, 0x01, 80), (2, 0x0A, 368), (6, 0x21, 56), (0xFFFF, 0x00, 48)];
    for version in 1..=3 {
        for (schema, kind, len) in kinds {
            let mut bytes = metadata(version, schema);
            bytes.extend(record(0x16, if version == 1 { 80 } else { 176 }, &mut numbers));
            for _ in 0..20 {
                bytes.extend(record(kind, len, &mut numbers));
            }
            files.push(bytes);
        }
    }
    files
}

fn metadata(version: u8, schema: u16) -> Vec<u8> {
    let symbol_len = if version == 1 { 22 } else { 71 };
    let name = |text: &str, len: usize| {
        let mut name = text.as_bytes().to_vec();
        name.resize(len, 0);
        name
    };
    let mut body = name("TEST", 16);
    body.extend(schema.to_le_bytes());
    body.extend([0; 24]);
    body.extend(vec![0; if version == 1 { 8 } else { 0 }]);
    body.extend([1, 0, 0]);
    if version > 1 {
        body.extend((symbol_len as u16).to_le_bytes());
    }
    body.resize(100, 0);
    for count in [0_u32, 0, 0, 0, 2] {
        body.extend(count.to_le_bytes());
    }
    for (symbol, instrument) in [("A", "1"), ("B", "2")] {
        body.extend(name(symbol, symbol_len));
        for number in [1_u32, 19_700_101, 20_991_231] {
            body.extend(number.to_le_bytes());
        }
        body.extend(name(instrument, symbol_len));
    }
    [b"DBN".as_slice(), &[version], &(body.len() as u32).to_le_bytes(), &body].concat()
}

fn record(kind: u8, len: usize, numbers: &mut Numbers) -> Vec<u8> {
    let mut record = vec![(len / 4) as u8, kind, 1, 0];
    record.extend((numbers.below(3) as u32).to_le_bytes());
    record.extend(numbers.any().to_le_bytes());
    record.resize_with(len, || numbers.below(256) as u8);
    record
}
