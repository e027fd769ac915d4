//! Ticks to make valid inputs of.

use isotick_model::{Key, PublisherId, RejectReason, Rejected, Ticks, ValueColumn};

use crate::Numbers;

pub(crate) fn publisher() -> PublisherId {
    PublisherId::new("p").expect("a name")
}

/// Rows of up to six keys with nulls, steady and wild columns; sequences from `first` on.
pub(crate) fn ticks(rows: usize, columns: usize, first: u64, numbers: &mut Numbers) -> Ticks {
    let keys = ["AAPL", "MSFT", "", "Ж", "\0", "a longer name of a key"];
    let mut column = |column: usize| {
        let value = |row: usize, numbers: &mut Numbers| match column % 3 {
            0 => 10_000 + numbers.below(500) as i64,
            1 => row as i64,
            _ => numbers.any() as i64,
        };
        let values: Vec<i64> = (0..rows).map(|row| value(row, numbers)).collect();
        let some_null = column % 2 == 1 && rows > 0;
        let nulls = some_null.then(|| (0..rows).map(|_| numbers.below(4) > 0).collect());
        ValueColumn { values: values.into(), nulls }
    };
    let values = (0..columns).map(&mut column).collect();
    Ticks {
        ts_event: (0..rows).map(|row| 1_000 * row as i64 + numbers.below(900) as i64).collect(),
        sequence: (first..first + rows as u64).collect(),
        publishers: vec![publisher()],
        publisher: Vec::new().into(),
        keys: keys.map(|key| Key::from_components([key])).to_vec().into(),
        key: (0..rows).map(|_| numbers.below(keys.len()) as u32).collect(),
        values,
        seen: None,
    }
}

pub(crate) fn rejected(rows: usize, first: u64, numbers: &mut Numbers) -> Vec<Rejected> {
    let reasons = RejectReason::ALL;
    let row = |sequence| Rejected { sequence, reason: reasons[numbers.below(reasons.len())] };
    (first..first + rows as u64).map(row).collect()
}
