//! Tick frames, and the packed columns in them.

use isotick_model::Ticks;
use isotick_wire::frame::{CELLS_MAX, Decoder, Encoder, ROWS_MAX};
use isotick_wire::{Frame, fuzzing};

use crate::rows::{publisher, rejected, ticks};
use crate::{Bound, Numbers, Target};

/// Two bytes for the number of values, then a packed column.
pub(super) const COLUMN: Target = Target {
    name: "column",
    run: |bytes| {
        let Some((rows, column)) = bytes.split_first_chunk() else { return };
        let rows = usize::from(u16::from_le_bytes(*rows));
        let Ok((values, _)) = fuzzing::read_column(column, rows) else { return };
        assert_eq!(values.len(), rows);
        let packed = fuzzing::put_column(&values);
        let (back, left) = fuzzing::read_column(&packed, rows).expect("what was packed unpacks");
        assert_eq!((&back, left), (&values, 0));
    },
    corpus: || {
        let mut numbers = Numbers::new(1);
        let mut inputs = Vec::new();
        for rows in [0, 1, 2, 255, 256, 257, 700] {
            for width in [0, 1, 7, 31, 56, 57, 63, 64] {
                let mask = if width == 64 { u64::MAX } else { (1 << width) - 1 };
                let values: Vec<i64> = (0..rows).map(|_| (numbers.any() & mask) as i64).collect();
                let steady: Vec<i64> = (0..rows).map(|row| row * 3 + 5).collect();
                for values in [values, steady] {
                    let head = (rows as u16).to_le_bytes();
                    inputs.push([&head[..], &fuzzing::put_column(&values)].concat());
                }
            }
        }
        inputs
    },
    bound: Bound { bytes: 3 << 20, per_byte: 16 },
};

/// A frame's payload, as it is and under the checksum it should have.
pub(super) const FRAME: Target = Target {
    name: "frame",
    run: |bytes| {
        let columns = columns_in(bytes);
        let mut decoder = Decoder::default();
        let _ = decoder.decode(bytes, &publisher(), columns);
        let Ok(frame) = decoder.decode(&sealed(bytes), &publisher(), columns) else { return };
        let rows = frame.ticks.len() + frame.rejected.len();
        assert!(rows <= ROWS_MAX && rows * (columns + 3) <= CELLS_MAX);
        assert_whole(&frame.ticks, columns);
    },
    corpus: || {
        let mut numbers = Numbers::new(2);
        let cases =
            [(1, 0, 0), (3, 0, 1), (10, 2, 2), (300, 0, 2), (257, 40, 3), (0, 5, 1), (0, 0, 0)];
        let mut inputs: Vec<_> = cases
            .into_iter()
            .map(|(rows, wrong, columns)| frame_bytes(rows, wrong, columns, 0, &mut numbers))
            .collect();
        inputs.iter_mut().for_each(|input| input.truncate(input.len() - 4));
        inputs.push(flat(65_536, 29));
        inputs
    },
    // Values, and what a key costs: its own entry and that in the decoder's memory.
    bound: Bound { bytes: CELLS_MAX * 8 + (64 << 10), per_byte: 128 },
};

/// What was read is written to bytes that are read as the same.
pub(super) const FRAME_AGAIN: Target = Target {
    name: "frame_again",
    run: |bytes| {
        let columns = columns_in(bytes);
        let mut decoder = Decoder::default();
        let frame = decoder.decode(&sealed(bytes), &publisher(), columns);
        let Ok(Frame { ticks, rejected }) = &frame else { return };
        let mut again = Vec::new();
        // Long keys may need more room than a message has.
        if Encoder::default().encode(ticks, 0..ticks.len(), rejected, &mut again).is_ok() {
            let back = decoder.decode(&again, &publisher(), columns).expect("it was just written");
            assert_same(&back.ticks, ticks);
            assert_eq!(&back.rejected, rejected);
        }
    },
    corpus: FRAME.corpus,
    // Two frames are held at once to compare them; the decoder remembers keys.
    bound: Bound { bytes: 2 * (CELLS_MAX * 8) + (4 << 20), per_byte: 320 },
};

fn columns_in(bytes: &[u8]) -> usize {
    bytes.get(2..4).map_or(0, |c| usize::from(u16::from_le_bytes([c[0], c[1]])))
}

/// The payload of a valid frame.
pub(super) fn frame_bytes(
    rows: usize,
    wrong: usize,
    columns: usize,
    first: u64,
    numbers: &mut Numbers,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let ticks = ticks(rows, columns, first, numbers);
    let rejected = rejected(wrong, first + rows as u64, numbers);
    Encoder::default().encode(&ticks, 0..rows, &rejected, &mut bytes).expect("it fits");
    bytes
}

/// The most a frame may hold in the fewest bytes: every block is of width 0. Without a checksum.
fn flat(rows: u32, columns: u16) -> Vec<u8> {
    let mut bytes = vec![1, 0];
    bytes.extend_from_slice(&columns.to_le_bytes());
    [rows, 0, 1].iter().for_each(|count| bytes.extend_from_slice(&count.to_le_bytes()));
    bytes.extend_from_slice(&[0, 0]);
    let blocks = rows.div_ceil(256) as usize;
    for column in 0..3 + columns {
        if column >= 3 {
            bytes.push(0);
        }
        (0..blocks).for_each(|_| bytes.extend_from_slice(&[0, 0]));
    }
    bytes
}

/// The bytes with their checksum behind them.
pub(super) fn sealed(body: &[u8]) -> Vec<u8> {
    let mut sealed = body.to_vec();
    sealed.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    sealed
}

/// Every column has a value per row, every code stands for a key, and a null's value is 0.
pub(super) fn assert_whole(ticks: &Ticks, columns: usize) {
    let rows = ticks.len();
    assert_eq!([ticks.sequence.len(), ticks.key.len()], [rows; 2]);
    assert_eq!(ticks.values.len(), columns);
    assert!(ticks.key.iter().all(|&code| (code as usize) < ticks.keys.len()));
    for column in &ticks.values {
        assert_eq!(column.values.len(), rows);
        let nulls = column.nulls.iter().flat_map(|nulls| nulls.iter().zip(&column.values));
        assert!(nulls.into_iter().all(|(valid, &value)| valid || value == 0));
    }
}

pub(super) fn assert_same(a: &Ticks, b: &Ticks) {
    assert_eq!((&a.ts_event, &a.sequence), (&b.ts_event, &b.sequence));
    assert!((0..a.len()).all(|row| a.key_of(row) == b.key_of(row)));
    for (a, b) in a.values.iter().zip(&b.values) {
        assert_eq!((&a.values, &a.nulls), (&b.values, &b.nulls));
    }
}
