use super::*;
use crate::testing::*;
use proptest::prelude::*;

fn any_comparison() -> impl Strategy<Value = Comparison> {
    use Comparison::*;
    prop_oneof![Just(Eq), Just(Ne), Just(Lt), Just(Le), Just(Gt), Just(Ge)]
}

fn any_literal() -> impl Strategy<Value = i128> {
    prop_oneof![
        -4_i128..5,
        any::<i64>().prop_map(i128::from),
        Just(i64::MAX.into()),
        Just(i64::MIN.into()),
        Just(i128::from(i64::MAX) + 1),
        Just(i128::from(i64::MIN) - 1),
        Just(i128::MAX),
        Just(i128::MIN),
    ]
}

fn any_expr() -> impl Strategy<Value = Expr> {
    let column = 0_usize..2;
    let text = || prop_oneof![Just(""), Just("A"), Just("AB")].prop_map(str::to_owned);
    let leaf = prop_oneof![
        (column.clone(), any_comparison(), any_literal())
            .prop_map(|(column, comparison, literal)| Expr::Compare(column, comparison, literal)),
        (0_u8..=18, any_comparison(), 0_u8..=18)
            .prop_map(|(a, comparison, b)| Expr::CompareColumns((0, a), comparison, (1, b))),
        (any_comparison(), any_literal())
            .prop_map(|(comparison, literal)| Expr::CompareTime(comparison, literal)),
        (any_comparison(), text())
            .prop_map(|(comparison, text)| Expr::CompareKey(0, comparison, text)),
        (column.clone(), proptest::collection::btree_set(-4_i64..5, 0..4))
            .prop_map(|(column, set)| Expr::In(column, set.into_iter().collect())),
        proptest::collection::btree_set(text(), 0..3)
            .prop_map(|set| Expr::KeyIn(0, set.into_iter().collect())),
        (column.clone(), any::<bool>()).prop_map(|(column, wanted)| Expr::IsNull(column, wanted)),
        (proptest::option::of(column), any::<bool>())
            .prop_map(|(column, value)| Expr::Constant(column, value)),
    ];
    leaf.prop_recursive(4, 16, 2, |inner| {
        let pair = (inner.clone(), inner.clone());
        prop_oneof![
            pair.clone().prop_map(|(a, b)| Expr::And(a.into(), b.into())),
            pair.prop_map(|(a, b)| Expr::Or(a.into(), b.into())),
            inner.prop_map(|a| Expr::Not(a.into())),
        ]
    })
}

/// One row, `None` for null: the truth tables as they stand in the books.
fn naive(expr: &Expr, row: &Row) -> Option<bool> {
    let wide = |column: usize| row.values[column].map(i128::from);
    match expr {
        Expr::And(a, b) => match (naive(a, row), naive(b, row)) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        },
        Expr::Or(a, b) => match (naive(a, row), naive(b, row)) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        },
        Expr::Not(a) => naive(a, row).map(|value| !value),
        Expr::Compare(column, comparison, literal) => {
            wide(*column).map(|value| comparison.holds(value.cmp(literal)))
        }
        Expr::CompareColumns((a, a_digits), comparison, (b, b_digits)) => {
            let left = wide(*a)? * 10_i128.pow((*a_digits).into());
            let right = wide(*b)? * 10_i128.pow((*b_digits).into());
            Some(comparison.holds(left.cmp(&right)))
        }
        Expr::CompareTime(comparison, literal) => {
            Some(comparison.holds(i128::from(row.ts).cmp(literal)))
        }
        Expr::CompareKey(_, comparison, text) => {
            Some(comparison.holds(KEYS[row.key].as_bytes().cmp(text.as_bytes())))
        }
        Expr::In(column, set) => row.values[*column].map(|value| set.contains(&value)),
        Expr::KeyIn(_, set) => Some(set.iter().any(|text| text == KEYS[row.key])),
        Expr::IsNull(column, wanted) => Some(row.values[*column].is_none() == *wanted),
        Expr::Constant(Some(column), value) => row.values[*column].map(|_| *value),
        Expr::Constant(None, value) => Some(*value),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn rows_pass_as_one_by_one(expr in any_expr(), rows in any_rows(150)) {
        let passing: Vec<bool> = passing(&expr, &ticks_of(&rows)).iter().collect();
        let expected: Vec<bool> = rows.iter().map(|row| naive(&expr, row) == Some(true)).collect();
        prop_assert_eq!(passing, expected);
    }
}

#[test]
fn columns_are_those_read() {
    let compare = |column| Box::new(Expr::Compare(column, Comparison::Gt, 0));
    let expr =
        Expr::Not(Box::new(Expr::And(compare(3), Box::new(Expr::Or(compare(1), compare(3))))));
    assert_eq!(columns(&expr), [1, 3]);
    assert_eq!(columns(&Expr::CompareTime(Comparison::Gt, 0)), [0_usize; 0]);
}

#[test]
#[should_panic(expected = "value column 1 of a filter was not read")]
fn an_absent_column_is_a_bug() {
    let rows = [Row { ts: 0, publisher: 0, sequence: 0, key: 0, values: vec![None; 2], seen: 0 }];
    let mut ticks = ticks_of(&rows);
    ticks.values[1] = ValueColumn::absent();
    passing(&Expr::Compare(1, Comparison::Gt, 0), &ticks);
}
