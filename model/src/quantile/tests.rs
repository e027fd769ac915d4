use num_bigint::BigUint;
use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Quantile {
    Quantile::parse(text).unwrap_or_else(|problem| panic!("{text}: {problem:?}"))
}

#[test]
fn texts_of_one_number_are_one_quantile() {
    for (texts, billionths, label) in [
        (
            &["0.5", ".5", "0.50", "0.5000000000000", "5e-1", "+0.5", "50E-2"][..],
            500_000_000,
            "p50",
        ),
        (&["0.999"], 999_000_000, "p99_9"),
        (&["0.05"], 50_000_000, "p5"),
        (&["1", "1.0", "10e-1", "1.000000000000"], WHOLE, "p100"),
        (&["0.000000001", "1e-9"], 1, "p0_0000001"),
        (&["0.999999999"], 999_999_999, "p99_9999999"),
        (&["0.010500000"], 10_500_000, "p1_05"),
    ] {
        for text in texts {
            let q = parse(text);
            assert_eq!((q.billionths(), q.label().as_str()), (billionths, label), "{text}");
            assert_eq!(parse(&q.to_string()), q);
        }
    }
    assert_eq!(Quantile::MEDIAN.to_string(), "0.5");
    assert_eq!(parse("1.0").to_string(), "1");
}

#[test]
fn other_texts_are_refused_with_the_reason() {
    for text in ["0", "-0", "0.0", "-0.5", "1.1", "1.000000001", "2", "99", "1e1", "1e999999"] {
        assert_eq!(Quantile::parse(text), Err(QuantileProblem::Range), "{text}");
    }
    for text in ["0.0000000001", "0.9999999999", "0.1234567891", "1e-10", "1e-99999999999"] {
        assert_eq!(Quantile::parse(text), Err(QuantileProblem::Digits), "{text}");
    }
    for text in ["", ".", "p50", "0.5x", "0,5", "nan", "50%"] {
        assert_eq!(Quantile::parse(text), Err(QuantileProblem::NoNumber), "{text}");
    }
    assert_eq!(Quantile::from_billionths(0), None);
    assert_eq!(Quantile::from_billionths(WHOLE + 1), None);
}

#[test]
fn ranks_at_the_edges() {
    for (text, n, rank) in [
        ("0.5", 0, 0),
        ("0.5", 1, 1),
        ("0.5", 2, 1),
        ("0.5", 3, 2),
        ("0.000000001", 1, 1),
        ("0.000000001", 1_000_000_000, 1),
        ("0.000000001", 1_000_000_001, 2),
        ("0.999999999", 999_999_999, 999_999_999),
        ("1", u64::MAX, u64::MAX),
        ("0.1", 10, 1),
        // Products that come out above the whole number when computed in binary64 (0.07 · 100),
        // or beside it.
        ("0.07", 100, 7),
        ("0.3", 10, 3),
        ("0.7", 10, 7),
        ("0.29", 100, 29),
    ] {
        assert_eq!(parse(text).rank(n), rank, "{text} of {n}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_rank_is_the_least_that_reaches_q(billionths in 1..=WHOLE, n: u64, shift in 0_u32..64) {
        let (q, n) = (Quantile::from_billionths(billionths).unwrap(), n >> shift);
        let rank = q.rank(n);
        let (wanted, whole) = (BigUint::from(n) * billionths, BigUint::from(WHOLE));
        prop_assert!(&whole * rank >= wanted);
        prop_assert!(rank <= n && (rank == 0) == (n == 0));
        prop_assert!(rank == 0 || &whole * (rank - 1) < wanted);
    }

    #[test]
    fn quantiles_read_back(billionths in 1..=WHOLE) {
        let q = Quantile::from_billionths(billionths).unwrap();
        prop_assert_eq!(Quantile::parse(&q.to_string()), Ok(q));
        let percent = q.label()[1..].replace('_', ".");
        prop_assert_eq!(Quantile::parse(&format!("{percent}e-2")), Ok(q));
    }
}
