mod errors;
mod evolving;

use crate::Key;
use proptest::prelude::*;

use super::template::{EXAMPLE, template_for};
use super::*;
use crate::expr::{Comparison, Expr};
use crate::quantile::Quantile;
use crate::schema::{Codec, Column, Inexact, Retention};
use crate::units::Scale;
use crate::view::{Aggregate, LatenessPolicy, OutputType, Tumbling};

fn parse(text: &str) -> Definitions {
    Definitions::parse(text, "isotick.toml").unwrap_or_else(|error| panic!("{error}"))
}

fn scale(digits: u8) -> Scale {
    Scale::new(digits).unwrap()
}

/// A stream and a view whose fields an error case adds to.
fn with_view(view: &str) -> String {
    format!(
        "[stream.trades]\ntime = \"ts\"\nkey = \"symbol\"\n\
         columns = {{ price = {{ scale = 4 }}, size = {{ scale = 0 }} }}\n\n\
         [view.bars]\nstream = \"trades\"\n{view}\n"
    )
}

const REST: &str = "window = { tumbling = \"1s\" }\naggregates = [\"count()\"]\n";

#[test]
fn the_example_resolves() {
    let definitions = parse(EXAMPLE);
    let trades = definitions.stream("trades").unwrap();
    assert_eq!(trades.keys, ["symbol"]);
    assert_eq!(trades.horizon_ns, Some(3_600_000_000_000));
    let names: Vec<_> = trades.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["price", "size", "side"], "columns keep the written order");
    assert_eq!((trades.columns[0].min, trades.columns[0].max), (0, i64::MAX));
    let bars = definitions.view("bars_1s").unwrap();
    assert_eq!(bars.filter, Some(Expr::Compare(1, Comparison::Gt, 0)));
    assert_eq!(bars.window, Tumbling { width_ns: 1_000_000_000, origin_ns: 0 });
    assert_eq!(bars.lateness.allowed_ns, 50_000_000);
    assert_eq!(bars.lateness.policy, LatenessPolicy::Correct);
    let price = OutputType::Scaled(scale(4));
    let expected = [
        ("open", Aggregate::First(0), price),
        ("high", Aggregate::Max(0), price),
        ("low", Aggregate::Min(0), price),
        ("close", Aggregate::Last(0), price),
        ("volume", Aggregate::Sum(1), OutputType::ScaledWide(scale(0))),
        ("vwap", Aggregate::Vwap { price: 0, size: 1 }, OutputType::Float),
        ("trades", Aggregate::Count, OutputType::Count),
    ];
    let found: Vec<_> =
        bars.aggregates.iter().map(|a| (a.name.as_str(), a.aggregate, a.output)).collect();
    assert_eq!(found, expected);
    assert_eq!(definitions.views_of("trades").count(), 2);
    assert_eq!(
        definitions.view("bars").unwrap_err().to_string(),
        "unknown view \"bars\"; there is bars_1s, bars_1m"
    );
}

#[test]
fn outputs_are_named_after_their_text() {
    let aggregates = r#"["count()", "count(size)", "sum(size)", "vwap(price,size)", "ohlc(price)",
        "p = ohlc(price)", "stddev( price )", "v = var(price)", "median(size)",
        "quantile(size, 0.5, 0.999)", "q = quantile(size, 0.90)", "t = quantile(price, .01, 1)",
        "m = median(size)", "approx_quantile(size, 0.5)", "a = approx_quantile(size, 0.5, 0.95)"]"#;
    let view = format!("window = {{ tumbling = \"1s\" }}\naggregates = {aggregates}");
    let definitions = parse(&with_view(&view));
    let names: Vec<_> = definitions.views[0].aggregates.iter().map(|a| a.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "count",
            "count_size",
            "sum_size",
            "vwap_price_size",
            "open",
            "high",
            "low",
            "close",
            "p_open",
            "p_high",
            "p_low",
            "p_close",
            "stddev_price",
            "v",
            "median_size",
            "size_p50",
            "size_p99_9",
            "q",
            "t_p1",
            "t_p100",
            "m",
            "approx_size_p50",
            "a_p50",
            "a_p95",
        ]
    );
    let of = |name: &str| {
        definitions.views[0].aggregates.iter().find(|other| other.name == name).unwrap()
    };
    let half = Quantile::parse("0.5").unwrap();
    assert_eq!(of("median_size").aggregate, Aggregate::Quantile { column: 1, q: half });
    assert_eq!(of("a_p50").aggregate, Aggregate::ApproxQuantile { column: 1, q: half });
    assert_eq!(of("t_p1").output, OutputType::Scaled(scale(4)));
    assert_eq!(of("a_p95").output, OutputType::Scaled(scale(0)));
}

/// However a quantile is written, it is one definition.
#[test]
fn a_quantile_has_one_text() {
    let of = |aggregate: &str| {
        let view = format!("window = {{ tumbling = \"1s\" }}\naggregates = [\"{aggregate}\"]");
        parse(&with_view(&view))
    };
    let median = of("x = median(size)");
    assert!(median.to_toml().contains("\"x = quantile(size, 0.5)\""), "{}", median.to_toml());
    for same in ["x = quantile(size, 0.50)", "x = quantile( size,5e-1 )"] {
        assert_eq!(of(same), median, "{same}");
        assert_eq!(of(same).to_toml(), median.to_toml());
    }
    for other in ["x = quantile(size, 0.500000001)", "x = approx_quantile(size, 0.5)"] {
        assert_ne!(of(other).views[0].definition, median.views[0].definition, "{other}");
    }
    assert_eq!(of("quantile(size, 0.5, 0.9)").to_toml(), {
        let view = "window = { tumbling = \"1s\" }\n\
                    aggregates = [\"quantile(size, 0.5)\", \"quantile(size, 0.9)\"]";
        parse(&with_view(view)).to_toml()
    });
}

#[test]
fn canonical_text_reads_back() {
    let awkward = r#"
        [stream."a.b"]
        time = "event time"
        key = ["a\"b", "tab's `key`"]
        inexact = "round"
        horizon = "none"
        [stream."a.b".columns]
        "bid px" = { scale = 18, min = -9.223372036854775808, max = "9.223372036854775807" }
        "in" = { scale = 2, min = -1.25, max = 1_000, optional = true }
        [stream.plain]
        time = "ts"
        [view.v]
        stream = "a.b"
        where = '''`bid px` > 1.5 and (`in` is null or not `in` in (1, 2.5, 0.001))
            or `tab's ``key```= "it's"'''
        window = { tumbling = "1h30m", origin = 1969-12-31T23:00:00.5+01:00 }
        aggregates = ["`my name` = sum(`in`)", 'vwap(`bid px`, `in`)', "median(`in`)",
            "quantile(`bid px`, 0.5, 0.123456789, 1.0)", "`my q` = approx_quantile(`in`, 1e-9)"]
        lateness = { policy = "side", allowed = "1d" }
        [view.n]
        stream = "plain"
        window = { tumbling = "1ns", origin = "2024-01-02" }
        aggregates = ["count()"]
    "#;
    for text in [EXAMPLE, awkward] {
        let definitions = parse(text);
        let canonical = definitions.to_toml();
        assert_eq!(parse(&canonical), definitions);
        assert_eq!(parse(&canonical).to_toml(), canonical);
    }
    let definitions = parse(awkward);
    assert_eq!(definitions.streams[0].columns[0].min, i64::MIN);
    assert_eq!(definitions.streams[0].columns[1].max, 100_000);
    assert_eq!(definitions.views[0].window.origin_ns, -7_199_500_000_000);
    assert_eq!(definitions.views[0].aggregates[1].name, "vwap_bid px_in");
}

#[test]
fn the_hash_covers_what_decides_results_and_nothing_else() {
    let hash = |text: &str| {
        let definitions = parse(text);
        assert_eq!(definitions.views[0].definition.0.len(), 64);
        definitions.views[0].definition.clone()
    };
    let base = with_view(REST);
    let same = [
        base.replace("view.bars", "view.other"),
        base.replace(
            "size = { scale = 0 }",
            "size = { scale = 0 }, x = { scale = 1, optional = true }",
        ),
        base.replace("count()", "count = count()"),
        base.replace("1s", "1000ms"),
        base.clone() + "\n[stream.quotes]\ntime = \"ts\"\n",
    ];
    for text in same {
        assert_eq!(hash(&text), hash(&base), "{text}");
    }
    let different = [
        base.replace("scale = 4", "scale = 5"),
        base.replace("scale = 4", "scale = 4, min = 0"),
        base.replace("\"ts\"", "\"time\""),
        base.replace("key = \"symbol\"\n", ""),
        base.replace("trades", "deals"),
        base.replace("1s", "2s"),
        base.replace("\"1s\"", "\"1s\", origin = \"1970-01-01T00:00:00.5Z\""),
        base.replace("count()", "n = count()"),
        base.replace("count()", "count = count(size)"),
        base.replace("window", "where = \"size > 0\"\nwindow"),
        base.replace("window", "lateness = { allowed = \"1ns\" }\nwindow"),
        base.replace("window", "lateness = { policy = \"drop\" }\nwindow"),
        base.replace("time =", "inexact = \"round\"\ntime ="),
        base.replace("time =", "horizon = \"none\"\ntime ="),
    ];
    for text in different {
        assert_ne!(hash(&text), hash(&base), "{text}");
    }
}

fn stream(keys: &[&str], columns: &[&str]) -> StreamSchema {
    let columns = columns.iter().map(|name| Column {
        name: (*name).into(),
        scale: scale(2),
        min: i64::MIN,
        max: i64::MAX,
        optional: false,
    });
    StreamSchema {
        name: "data".into(),
        time: "ts".into(),
        keys: keys.iter().map(|key| (*key).into()).collect(),
        columns: columns.collect(),
        inexact: Inexact::Round,
        keys_allowed: None,
        horizon_ns: None,
        retention: Default::default(),
        codec: Default::default(),
    }
}

#[test]
fn templates_fit_their_streams() {
    let names = |schema: &StreamSchema| {
        let definitions = parse(&template_for(schema));
        assert_eq!(definitions.streams, std::slice::from_ref(schema));
        assert_eq!(definitions.views.len(), 2);
        let outputs = definitions.views[0].aggregates.iter().map(|a| a.name.clone());
        outputs.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        names(&stream(&["symbol"], &["price", "size"])),
        "open high low close volume vwap count"
    );
    assert_eq!(
        names(&stream(&["symbol"], &["qty", "price"])),
        "open high low close volume vwap count"
    );
    assert_eq!(names(&stream(&[], &["price"])), "open high low close mean_price count");
    assert_eq!(
        names(&stream(&["open", "count"], &["price"])),
        "open_ high low close mean_price count_"
    );
    assert_eq!(
        names(&stream(&["a", "b"], &["bid px", "in"])),
        "min_bid px max_bid px mean_bid px last_bid px min_in max_in mean_in last_in count"
    );
    assert_eq!(names(&stream(&[], &[])), "count");
}

fn name() -> impl Strategy<Value = String> {
    "[a-z \"'`\\\\=.é]{1,6}"
}

#[test]
fn a_notional_is_exact_whatever_comes() {
    let definitions = |price: &str, size: &str| {
        let text =
            with_view("window = { tumbling = \"1s\" }\naggregates = [\"notional(price, size)\"]");
        let text = text.replace("{ scale = 4 }", price).replace("{ scale = 0 }", size);
        Definitions::parse(&text, "x")
    };
    let bounded =
        definitions("{ scale = 4, min = 0, max = 100 }", "{ scale = 3, min = -9, max = 9 }");
    let bounded = bounded.unwrap();
    let notional = &bounded.views[0].aggregates[0];
    assert_eq!(notional.name, "notional_price_size");
    assert_eq!(notional.aggregate, Aggregate::Notional { price: 0, size: 1 });
    assert_eq!(notional.output, OutputType::ScaledWide(scale(7)));
    assert_eq!(parse(&bounded.to_toml()).views, bounded.views);
    // 2^40 · a · b against 10^38, from both sides: 10^38 / 2^40 is 9.0949470177292823…·10^25.
    let size = |max: u64| format!("{{ scale = 0, min = 0, max = {max} }}");
    let price = "{ scale = 0, min = 0, max = 10000000000 }";
    assert!(definitions(price, &size(9_094_947_017_729_282)).is_ok());
    assert!(definitions(price, &size(9_094_947_017_729_283)).is_err());
    let optional = "{ scale = 0, min = 0, max = 9, optional = true }";
    assert!(definitions(optional, &size(9)).is_ok());
    let error = definitions(optional, optional).unwrap_err().to_string();
    assert!(error.contains("take `optional` off one"), "{error}");
    let deep = "{ scale = 12, min = 0, max = 9 }";
    assert!(definitions(deep, deep).unwrap_err().to_string().contains("18 digits"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    /// Names, bounds and texts of any kind survive the canonical text.
    #[test]
    fn any_stream_reads_back(
        names in prop::collection::btree_set(name(), 4),
        digits in 0..=Scale::MAX,
        bounds: (i64, i64),
        optional: bool,
        horizon in prop::option::of(0..i64::MAX),
        age in prop::option::of(0..i64::MAX),
        size in prop::option::of(0..u64::MAX),
        allowed in prop::option::of(prop::collection::vec("\\PC{0,4}", 1..4)),
        key_text in "\\PC{0,6}",
        literal: i64,
    ) {
        let names: Vec<_> = names.into_iter().collect();
        let column = |name: &String, optional| Column {
            name: name.clone(),
            scale: scale(digits),
            min: bounds.0.min(bounds.1),
            max: bounds.0.max(bounds.1),
            optional,
        };
        let schema = StreamSchema {
            name: "s".into(),
            time: names[0].clone(),
            keys: vec![names[1].clone()],
            columns: vec![column(&names[2], optional), column(&names[3], !optional)],
            inexact: Inexact::Reject,
            keys_allowed: allowed.map(|texts| {
                texts.iter().map(|text| Key::from_components([text])).collect()
            }),
            horizon_ns: horizon,
            retention: Retention { age_ns: age, bytes: size },
            codec: if optional { Codec::Zstd } else { Codec::None },
        };
        let mut definitions = parse(&template_for(&schema));
        prop_assert_eq!(&definitions.streams, &[schema]);
        definitions.views[0].filter = Some(Expr::And(
            Box::new(Expr::CompareKey(0, Comparison::Ne, key_text)),
            Box::new(Expr::Compare(1, Comparison::Ge, literal.into())),
        ));
        let read = parse(&definitions.to_toml());
        prop_assert_eq!(&read.streams, &definitions.streams);
        prop_assert_eq!(&read.views[0].filter, &definitions.views[0].filter);
        prop_assert_eq!(&read.views[1], &definitions.views[1]);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,60}") {
        let _ = Definitions::parse(&text, "x");
        let _ = Definitions::parse(&with_view(&format!("where = \"{text}\"")), "x");
    }
}
