use proptest::prelude::*;

use super::*;

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<i128>().prop_map(Value::Integer),
        any::<i64>().prop_map(|value| Value::Integer(value.into())),
        prop::num::f64::NORMAL.prop_map(Value::Float),
        Just(Value::Float(0.0)),
    ]
}

fn window(columns: usize) -> impl Strategy<Value = PublishedWindow> {
    let reason = prop::sample::select(vec![
        VersionReason::Closed,
        VersionReason::Late,
        VersionReason::Reconciled,
    ]);
    let key = prop::sample::select(vec!["", "A", "B\0", "ЖЖ"]);
    (key, any::<i64>(), any::<i64>(), any::<u32>(), prop::collection::vec(value(), columns), reason)
        .prop_map(|(key, window_start, window_end, version, values, reason)| PublishedWindow {
            row: WindowRow {
                key: Key::from_components([key]),
                window_start,
                window_end,
                version,
                values,
            },
            reason,
        })
}

proptest! {
    #[test]
    fn batches_come_back(windows in prop::collection::vec(window(3), 0..50)) {
        let mut bytes = Vec::new();
        encode(&windows, 7, 3, &mut bytes).unwrap();
        let batch = WindowBatch { windows, next_cursor: 7 };
        prop_assert_eq!(decode(&bytes, 3).unwrap(), batch);
    }

    #[test]
    fn changed_and_cut_bytes_are_refused(
        windows in prop::collection::vec(window(2), 1..20),
        at in any::<prop::sample::Index>(),
        bit in 0..8u32,
    ) {
        let mut bytes = Vec::new();
        encode(&windows, 7, 2, &mut bytes).unwrap();
        let at = at.index(bytes.len());
        prop_assert!(decode(&bytes[..at], 2).is_err());
        bytes[at] ^= 1 << bit;
        prop_assert!(decode(&bytes, 2).is_err());
    }

    #[test]
    fn valid_checksums_over_garbage_never_panic(
        windows in prop::collection::vec(window(2), 0..20),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = Vec::new();
        encode(&windows, 7, 2, &mut bytes).unwrap();
        let body = bytes.len() - 4;
        for (at, to) in changes {
            bytes[at.index(body)] = to;
        }
        let checksum = crc32fast::hash(&bytes[..body]);
        bytes[body..].copy_from_slice(&checksum.to_le_bytes());
        let _ = decode(&bytes, 2);
    }
}

#[test]
fn too_many_windows_are_refused_by_both_sides() {
    let row = WindowRow {
        key: Key::empty(),
        window_start: 0,
        window_end: 1,
        version: 1,
        values: Vec::new(),
    };
    let windows = vec![PublishedWindow { row, reason: VersionReason::Closed }; ROWS_MAX + 1];
    let mut bytes = Vec::new();
    assert!(matches!(encode(&windows, 7, 0, &mut bytes), Err(EncodeError::TooLarge { .. })));
    assert!(bytes.is_empty());
    encode(&windows[1..], 7, 0, &mut bytes).unwrap();
    assert_eq!(decode(&bytes, 0).unwrap().windows.len(), ROWS_MAX);
}
