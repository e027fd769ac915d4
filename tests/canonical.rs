//! The canonical encoding of a result and its hash, written down a second time.

use crate::oracle::{Cell, Output, View, Window};

/// The hash that a result of these windows must have, 64 lowercase hex digits.
pub fn hash(keys: &[&str], view: &View, windows: &[Window]) -> String {
    let mut bytes = b"isotick.result.1".to_vec();
    put_len(&mut bytes, keys.len());
    keys.iter().for_each(|name| put_bytes(&mut bytes, name.as_bytes()));
    put_len(&mut bytes, view.outputs.len());
    for (name, output) in &view.outputs {
        put_bytes(&mut bytes, name.as_bytes());
        bytes.extend(type_bytes(view, *output));
    }
    for window in windows {
        bytes.push(1);
        put_bytes(&mut bytes, &key_bytes(&window.key));
        bytes.extend(window.start.to_le_bytes());
        bytes.extend(window.end.to_le_bytes());
        for cell in &window.cells {
            match cell {
                Cell::Null => bytes.push(0),
                Cell::Integer(value) => {
                    bytes.push(1);
                    let value = i128::try_from(value).expect("an output fits 128 bits");
                    bytes.extend(value.to_le_bytes());
                }
                Cell::Float(value) => {
                    bytes.push(2);
                    bytes.extend(value.to_bits().to_le_bytes());
                }
            }
        }
    }
    bytes.push(0);
    bytes.extend((windows.len() as u64).to_le_bytes());
    blake3::hash(&bytes).to_string()
}

/// An output column's type: counts 0, values at a scale 1, sums at a scale 2, quotients 3.
fn type_bytes(view: &View, output: Output) -> [u8; 2] {
    let scale = |c: usize| u8::try_from(view.scales[c]).expect("scales end at 18");
    match output {
        Output::Count | Output::CountOf(_) => [0, 0],
        Output::Min(c) | Output::Max(c) | Output::First(c) | Output::Last(c) => [1, scale(c)],
        Output::Quantile(c, _) | Output::ApproxQuantile(c, _) => [1, scale(c)],
        Output::Sum(c) => [2, scale(c)],
        Output::Notional(a, b) => [2, scale(a) + scale(b)],
        Output::Mean(_) | Output::Var(_) | Output::Stddev(_) | Output::Vwap(..) => [3, 0],
    }
}

/// Texts ended by two zero bytes, a zero byte inside as 00 FF.
fn key_bytes(components: &[String]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for text in components {
        let parts: Vec<&[u8]> = text.as_bytes().split(|byte| *byte == 0).collect();
        bytes.extend(parts.join(&[0, 0xFF][..]));
        bytes.extend([0, 0]);
    }
    bytes
}

fn put_len(bytes: &mut Vec<u8>, len: usize) {
    bytes.extend(u32::try_from(len).expect("lengths fit 32 bits").to_le_bytes());
}

fn put_bytes(bytes: &mut Vec<u8>, field: &[u8]) {
    put_len(bytes, field.len());
    bytes.extend(field);
}
