//! Window batches.

use isotick_model::Key;
use isotick_model::results::{Value, WindowRow};
use isotick_wire::windows::{ROWS_MAX, VALUES_MAX, decode, encode};
use isotick_wire::{PublishedWindow, VersionReason};

use super::frame::sealed;
use crate::{Bound, Numbers, Target};

/// A batch's payload, as it is and under the checksum it should have.
pub(super) const WINDOWS: Target = Target {
    name: "windows",
    run: |bytes| {
        let columns = bytes.get(2..4).map_or(0, |c| usize::from(u16::from_le_bytes([c[0], c[1]])));
        let _ = decode(bytes, columns);
        let Ok(batch) = decode(&sealed(bytes), columns) else { return };
        assert!(batch.windows.len() <= ROWS_MAX && batch.windows.len() * columns <= VALUES_MAX);
        assert!(batch.windows.iter().all(|window| window.row.values.len() == columns));
        let mut again = Vec::new();
        if encode(&batch.windows, batch.next_cursor, columns, &mut again).is_ok() {
            assert_eq!(decode(&again, columns).expect("it was just written"), batch);
        }
    },
    corpus: || {
        let mut numbers = Numbers::new(3);
        let cases = [(0, 0), (1, 0), (1, 3), (20, 3), (200, 6)];
        let batch = |(rows, columns): (usize, usize)| {
            let windows: Vec<_> = (0..rows).map(|row| window(row, columns, &mut numbers)).collect();
            let mut bytes = Vec::new();
            encode(&windows, 77, columns, &mut bytes).expect("it fits");
            bytes.truncate(bytes.len() - 4);
            bytes
        };
        cases.map(batch).to_vec()
    },
    // A window takes at least 5 bytes, a value 1; in memory some hundred and 32.
    bound: Bound { bytes: 64 << 10, per_byte: 192 },
};

fn window(row: usize, columns: usize, numbers: &mut Numbers) -> PublishedWindow {
    let value = |column: usize| match column % 3 {
        0 => Value::Integer(i128::from(numbers.any() as i64) << numbers.below(60)),
        1 => Value::Float(numbers.below(1000) as f64 / 7.0),
        _ => Value::Null,
    };
    let start = row as i64 * 1_000;
    PublishedWindow {
        row: WindowRow {
            key: Key::from_components([["A", "B", ""][row % 3]]),
            window_start: start,
            window_end: start + 1_000,
            version: 1 + row as u32 % 3,
            values: (0..columns).map(value).collect(),
        },
        reason: VersionReason::Closed,
    }
}
