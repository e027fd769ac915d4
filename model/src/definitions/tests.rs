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

/// Every error: a configuration, and the message it makes.
#[test]
fn errors_point_at_the_line_and_say_what_to_do() {
    let stream = |fields: &str| format!("[stream.s]\ntime = \"ts\"\n{fields}");
    let columns = |columns: &str| stream(&format!("columns = {{ {columns} }}"));
    let window = |window: &str| with_view(&format!("{window}\naggregates = [\"count()\"]"));
    let aggregates =
        |list: &str| with_view(&format!("window = {{ tumbling = \"1s\" }}\naggregates = {list}"));
    let filter = |text: &str| with_view(&format!("where = {text}\n{REST}"));
    let cases = [
        ("[stream.s\n".into(), "isotick.toml:1:10: unclosed table, expected `]`"),
        ("[stream.s]\ntime = \"a\"\ntime = \"b\"\n".into(), "isotick.toml:3:1: duplicate key"),
        (
            "streams = 1".into(),
            "isotick.toml:1:1: unknown field `streams` in the file; the fields are stream, view",
        ),
        (
            stream("keys = \"a\""),
            "isotick.toml:3:1: unknown field `keys` in the stream \"s\"; the fields are time, key, keys_allowed, columns, inexact, horizon, retention, codec",
        ),
        (
            "[stream.s]\n".into(),
            "isotick.toml:1:9: the stream \"s\" has no `time`: add `time = \"ts\"`, the column of event times",
        ),
        (
            "[stream.\"a/b\"]\n".into(),
            "isotick.toml:1:9: `a/b` cannot name a stream: names are 1 to 64 letters, digits, `_`, `-` or `.`, and start with a letter, a digit or `_`",
        ),
        (
            "[view.\"\"]\n".into(),
            "isotick.toml:1:7: `` cannot name a view: names are 1 to 64 letters, digits, `_`, `-` or `.`, and start with a letter, a digit or `_`",
        ),
        (
            stream("key = 5"),
            "isotick.toml:3:7: `key` is a column's name or a list of names, here stands a TOML integer",
        ),
        (
            stream("key = [\"a\", \"a\"]"),
            "isotick.toml:3:13: the name \"a\" is taken: it is the key column and the key column; rename one of them",
        ),
        (
            stream("key = \"ts\""),
            "isotick.toml:3:7: the name \"ts\" is taken: it is the time column and the key column; rename one of them",
        ),
        (
            stream("key = \"\""),
            "isotick.toml:3:7: `` cannot name a column: names are 1 to 256 bytes without control characters",
        ),
        (
            stream("key = \"p\"\ncolumns = { p = { scale = 0 } }"),
            "isotick.toml:4:13: the name \"p\" is taken: it is the key column and the value column; rename one of them",
        ),
        (
            stream("inexact = \"maybe\""),
            "isotick.toml:3:11: `inexact` is one of reject, round; `maybe` is none of them",
        ),
        (
            stream("horizon = \"-1s\""),
            "isotick.toml:3:11: `-1s` is negative: durations start at 0s",
        ),
        (
            stream("retention = { size = \"1GB\" }"),
            "isotick.toml:3:22: `1GB` is no size: write 65536, 64KiB, 512MiB or 1GiB",
        ),
        (
            stream("retention = { days = 5 }"),
            "isotick.toml:3:15: unknown field `days` in `retention` of the stream \"s\"; the fields are age, size",
        ),
        (
            stream("horizon = 5"),
            "isotick.toml:3:11: `horizon` is a string, here stands a TOML integer",
        ),
        (columns("p = 4"), "isotick.toml:3:17: `p` is a table, here stands a TOML integer"),
        (
            columns("p = { }"),
            "isotick.toml:3:13: the column \"p\" has no `scale`: add `scale = 4`, the digits after the point",
        ),
        (
            columns("p = { scale = 19 }"),
            "isotick.toml:3:27: scale 19 is impossible: a scale is a whole number of digits from 0 to 18",
        ),
        (
            columns("p = { scale = -1 }"),
            "isotick.toml:3:27: scale -1 is impossible: a scale is a whole number of digits from 0 to 18",
        ),
        (
            columns("p = { scale = 1.5 }"),
            "isotick.toml:3:27: `scale` is a whole number from 0 to 18, here stands a TOML float",
        ),
        (
            columns("p = { scale = 2, minimum = 0 }"),
            "isotick.toml:3:30: unknown field `minimum` in the column \"p\"; the fields are scale, min, max, optional",
        ),
        (
            columns("p = { scale = 2, min = 0.001 }"),
            "isotick.toml:3:36: `min` is 0.001, which has more digits after the point than scale 2: raise the scale or round it",
        ),
        (
            columns("p = { scale = 18, max = 10 }"),
            "isotick.toml:3:37: `max` is 10, which does not fit 64 bits at scale 18: leave `max` out or lower the scale",
        ),
        (
            columns("p = { scale = 2, max = \"lots\" }"),
            "isotick.toml:3:36: `max` is lots, which is no decimal number",
        ),
        (
            columns("p = { scale = 2, min = nan }"),
            "isotick.toml:3:36: `min` is nan, which is no decimal number",
        ),
        (
            columns("p = { scale = 1, min = 2, max = 1 }"),
            "isotick.toml:3:36: `min` 2.0 is above `max` 1.0: exchange them",
        ),
        (
            columns("p = { scale = 1, optional = 1 }"),
            "isotick.toml:3:41: `optional` is true or false, here stands a TOML integer",
        ),
        (
            "[view.v]\nstream = \"t\"\n".into(),
            "isotick.toml:2:10: unknown stream \"t\"; there is none",
        ),
        (
            with_view(REST).replace("stream = \"trades\"", "stream = \"trade\""),
            "isotick.toml:7:10: unknown stream \"trade\"; there is trades",
        ),
        (
            with_view(""),
            "isotick.toml:6:7: the view \"bars\" has no `window`: add `window = { tumbling = \"1s\" }`",
        ),
        (
            window("window = \"1s\""),
            "isotick.toml:8:10: `window` is a table, here stands a TOML string",
        ),
        (
            window("window = { sliding = \"1s\" }"),
            "isotick.toml:8:12: unknown field `sliding` in `window` of the view \"bars\"; the fields are tumbling, origin",
        ),
        (
            window("window = { tumbling = \"0s\" }"),
            "isotick.toml:8:23: a window of 0s holds nothing: its width is at least 1ns",
        ),
        (
            window("window = { tumbling = \"1.5s\" }"),
            "isotick.toml:8:23: `1.5s` is no duration: write whole numbers with units (w d h m s ms us ns), such as 1s, 50ms or 1h30m",
        ),
        (
            window("window = { tumbling = 1 }"),
            "isotick.toml:8:23: `tumbling` is a duration in quotes, such as \"1s\" or \"50ms\", here stands a TOML integer",
        ),
        (
            window("window = { tumbling = \"1s\", origin = \"noon\" }"),
            "isotick.toml:8:38: `noon` is no time: write RFC 3339 (2024-01-02T09:30:00Z), a date (2024-01-02) or nanoseconds since 1970 (1704187800000000000)",
        ),
        (
            window("window = { tumbling = \"1s\" }\nlateness = { allowed = \"-1s\" }"),
            "isotick.toml:9:24: `-1s` is negative: durations start at 0s",
        ),
        (
            window("window = { tumbling = \"1s\" }\nlateness = { policy = \"ignore\" }"),
            "isotick.toml:9:23: `policy` is one of correct, side, drop; `ignore` is none of them",
        ),
        (
            aggregates("[]"),
            "isotick.toml:9:14: the view \"bars\" has no aggregates: add some, such as \"count()\"",
        ),
        (
            aggregates("\"count()\""),
            "isotick.toml:9:14: `aggregates` is a list of strings, here stands a TOML string",
        ),
        (
            aggregates("[\"ohlc(prise)\"]"),
            "isotick.toml:9:21: unknown column \"prise\"; the stream has price, size",
        ),
        (
            aggregates("[\"mode(price)\"]"),
            "isotick.toml:9:16: unknown aggregate `mode`; there are count, sum, min, max, first, last, ohlc(price), mean, var, stddev, vwap(price, size), notional(price, size), median, quantile(size, 0.5, 0.99), approx_quantile(size, 0.5, 0.99)",
        ),
        (
            aggregates("[\"vwap(price)\"]"),
            "isotick.toml:9:16: `vwap` takes two columns, here are 1: write vwap(price, size)",
        ),
        (
            aggregates("[\"sum()\"]"),
            "isotick.toml:9:16: `sum` takes one column, here are 0: write sum(size)",
        ),
        (
            aggregates("[\"quantile()\"]"),
            "isotick.toml:9:16: `quantile` takes a column, then one quantile or more, here are 0: write quantile(size, 0.5, 0.99)",
        ),
        (
            aggregates("[\"notional(price, size)\"]"),
            "isotick.toml:9:16: `notional` is exact in 38 digits, which is certain only within bounds: give price and size a `min` and a `max`, as in `price = { scale = 4, min = 0, max = \"1000000\" }`, so that 10^12 times the largest product stays below 10^38",
        ),
        (
            aggregates("[\"notional(price)\"]"),
            "isotick.toml:9:16: `notional` takes two columns, here are 1: write notional(price, size)",
        ),
        (
            aggregates("[\"approx_quantile(size)\"]"),
            "isotick.toml:9:16: `approx_quantile` takes a column, then one quantile or more, here are 1: write approx_quantile(size, 0.5, 0.99)",
        ),
        (aggregates("[\"quantile(0.5)\"]"), "isotick.toml:9:25: expected a column, found `0.5`"),
        (
            aggregates("[\"quantile(size, price)\"]"),
            "isotick.toml:9:31: expected a quantile such as 0.99, found `price`",
        ),
        (
            aggregates("[\"quantile(size, 0.5, 0)\"]"),
            "isotick.toml:9:36: `0` is no quantile: write a decimal above 0 and at most 1, such as 0.5 for the median or 0.99",
        ),
        (
            aggregates("[\"quantile(size, 99)\"]"),
            "isotick.toml:9:31: `99` is no quantile: write a decimal above 0 and at most 1, such as 0.5 for the median or 0.99",
        ),
        (
            aggregates("[\"quantile(size, 0.9999999999)\"]"),
            "isotick.toml:9:31: the quantile `0.9999999999` has more than 9 digits after the point: round it",
        ),
        (
            aggregates("[\"quantile(size, 0.5, .50)\"]"),
            "isotick.toml:9:36: the quantile 0.5 stands twice in `quantile`: leave one out",
        ),
        (
            aggregates("[\"median(size, 0.5)\"]"),
            "isotick.toml:9:29: expected a column, found `0.5`",
        ),
        (
            aggregates("[\"quantile(symbol, 0.5)\"]"),
            "isotick.toml:9:25: `quantile` needs a value column, \"symbol\" is a key column; the value columns are price, size",
        ),
        (
            aggregates("[\"quantile(size, 0.5)\", \"quantile(size, 0.9, 0.5)\"]"),
            "isotick.toml:9:38: the output \"size_p50\" clashes with another output: name this aggregate, as in \"my = quantile(size, 0.9, 0.5)\"",
        ),
        (
            aggregates("[\"min(symbol)\"]"),
            "isotick.toml:9:20: `min` needs a value column, \"symbol\" is a key column; the value columns are price, size",
        ),
        (
            aggregates("[\"n = max(ts)\"]"),
            "isotick.toml:9:24: `max` needs a value column, \"ts\" is a time column; the value columns are price, size",
        ),
        (aggregates("[\"sum(size\"]"), "isotick.toml:9:24: expected `,` or `)`, found the end"),
        (aggregates("[\"sum size\"]"), "isotick.toml:9:20: expected `(`, found `size`"),
        (
            aggregates("[\"sum(size) / 2\"]"),
            "isotick.toml:9:26: `/` has no meaning here; names with such characters stand between backticks",
        ),
        (
            aggregates("[\"\"]"),
            "isotick.toml:9:16: expected an aggregate such as `sum(size)`, found the end",
        ),
        (
            aggregates("[\"``= sum(size)\"]"),
            "isotick.toml:9:16: `` cannot name a column: names are 1 to 256 bytes without control characters",
        ),
        (
            aggregates("[\"count()\", \"count()\"]"),
            "isotick.toml:9:26: the output \"count\" clashes with another output: name this aggregate, as in \"my = count()\"",
        ),
        (
            aggregates("[\"symbol = sum(size)\"]"),
            "isotick.toml:9:15: the output \"symbol\" clashes with a key column: name this aggregate, as in \"symbol2 = sum(size)\"",
        ),
        (
            aggregates("[\"version = count()\"]"),
            "isotick.toml:9:15: the output \"version\" clashes with a column that every result has: name this aggregate, as in \"version2 = count()\"",
        ),
        (
            filter("\"prise > 1\""),
            "isotick.toml:8:10: unknown column \"prise\"; the stream has price, size, symbol (key), ts (time)",
        ),
        (
            filter("\"size > 0 and symbol = 5\""),
            "isotick.toml:8:32: the key column \"symbol\" is text: write it in quotes, '5'",
        ),
        (
            filter("\"size > 0 \\u0061nd price\""),
            "isotick.toml:8:9: expected a comparison (= != < <= > >=), `in`, `not in` or `is null`, found the end",
        ),
    ];
    for (text, expected) in cases {
        let error = Definitions::parse(&text, "isotick.toml").unwrap_err().to_string();
        assert_eq!(error.lines().next().unwrap(), expected, "{text}");
    }
}

#[test]
fn errors_show_the_line_with_a_caret() {
    let text = with_view("window = { tumbling = \"1s\" }\n\taggregates = [\"é = sum(prise)\"]");
    let error = Definitions::parse(&text, "x/isotick.toml").unwrap_err();
    assert_eq!(
        error.to_string(),
        "x/isotick.toml:9:25: unknown column \"prise\"; the stream has price, size\n  \
           |\n\
         9 | \taggregates = [\"é = sum(prise)\"]\n  \
           | \t                       ^"
    );
}

#[test]
fn definitions_evolve() {
    let old = parse(&with_view(REST));
    let same = Definitions::evolve(&old, &old).unwrap();
    assert_eq!(same, old);

    let new = parse(
        "[stream.quotes]\ntime = \"ts\"\n\
         [stream.trades]\ntime = \"ts\"\nkey = \"symbol\"\n[stream.trades.columns]\n\
         side = { scale = 0, optional = true }\nsize = { scale = 0 }\nprice = { scale = 4 }\n\
         [view.more]\nstream = \"trades\"\nwhere = \"side = 1\"\n\
         window = { tumbling = \"1m\" }\naggregates = [\"sum(size)\"]\n",
    );
    let merged = Definitions::evolve(&old, &new).unwrap();
    let names: Vec<_> = merged.streams.iter().map(|stream| stream.name.as_str()).collect();
    assert_eq!(names, ["trades", "quotes"]);
    let columns: Vec<_> = merged.streams[0].columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(columns, ["price", "size", "side"], "stored columns keep their order");
    assert_eq!(merged.views[0], old.views[0], "an added optional column changes no old view");
    let more = merged.view("more").unwrap();
    assert_eq!(more.filter, Some(Expr::Compare(2, Comparison::Eq, 1)));
    assert_eq!(more.aggregates[0].aggregate, Aggregate::Sum(1));
    assert_eq!(Definitions::evolve(&merged, &new).unwrap(), merged);
    assert_eq!(parse(&merged.to_toml()), merged);

    let changed = parse(&with_view(&REST.replace("1s", "2s")));
    let merged = Definitions::evolve(&old, &changed).unwrap();
    assert_eq!(merged, changed);
    assert_ne!(merged.views[0].definition, old.views[0].definition);

    let text = with_view("").split("[view").next().unwrap().to_string();
    let bounded = text.replace("scale = 4", "scale = 4, min = 0, max = 5, optional = true");
    for (old, new, message) in [
        (
            &text,
            text.replace("scale = 4", "scale = 5"),
            "stream \"trades\": the scale of \"price\" was 4 and is 5 now, but stored ticks keep the old one: restore it, or declare a new stream beside the old one",
        ),
        (
            &text,
            text.replace("\"symbol\"", "[\"symbol\", \"venue\"]"),
            "stream \"trades\": the key was [symbol] and is [symbol, venue] now, but stored ticks keep the old one: restore it, or declare a new stream beside the old one",
        ),
        (
            &text,
            text.replace("\"ts\"", "\"time\""),
            "stream \"trades\": the time column was \"ts\" and is \"time\" now, but stored ticks keep the old one: restore it, or declare a new stream beside the old one",
        ),
        (
            &text,
            text.replace(", size = { scale = 0 }", ""),
            "stream \"trades\": the column \"size\" ({ scale = 0 }) is missing now, but stored ticks have it: restore it",
        ),
        (
            &text,
            text.replace("price =", "x = { scale = 1 }, price ="),
            "stream \"trades\": the new column \"x\" ({ scale = 1 }) is not optional, but stored ticks have no value for it: add `optional = true`",
        ),
        (
            &bounded,
            bounded.replace("min = 0", "min = 1"),
            "stream \"trades\": the min of \"price\" was 0.0000 and is 1.0000 now, but stored ticks keep the old one: restore it, or declare a new stream beside the old one",
        ),
        (
            &bounded,
            bounded.replace("max = 5", "max = 4"),
            "stream \"trades\": the max of \"price\" was 5.0000 and is 4.0000 now, but stored ticks keep the old one: restore it, or declare a new stream beside the old one",
        ),
        (
            &bounded,
            bounded.replace(", optional = true", ""),
            "stream \"trades\": the `optional` of \"price\" was true and is false now, but stored ticks keep the old one: restore it, or declare a new stream beside the old one",
        ),
    ] {
        let error = Definitions::evolve(&parse(old), &parse(&new)).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
    let widened = bounded.replace("min = 0, max = 5", "min = -1, max = 6");
    assert_eq!(Definitions::evolve(&parse(&bounded), &parse(&widened)), Ok(parse(&widened)));
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
fn a_closed_set_of_keys_is_read_written_and_grows() {
    let with = |key: &str, allowed: &str| {
        format!(
            "[stream.s]\ntime = \"ts\"\n{key}\n{allowed}\ncolumns = {{ a = {{ scale = 0 }} }}\n\
             [view.v]\nstream = \"s\"\nwindow = {{ tumbling = \"1s\" }}\naggregates = [\"count()\"]\n"
        )
    };
    let one = |allowed: &str| Definitions::parse(&with("key = \"k\"", allowed), "x");
    let open = one("").unwrap();
    assert_eq!(open.streams[0].keys_allowed, None);
    let two = one("keys_allowed = [\"B\", \"A\"]").unwrap();
    let keys = |texts: &[&str]| texts.iter().map(|text| Key::from_components([text])).collect();
    assert_eq!(two.streams[0].keys_allowed, Some(keys(&["A", "B"])));
    assert_eq!(parse(&two.to_toml()), two);
    assert_eq!(two.views[0].definition, open.views[0].definition, "no part of the hash");
    let pairs = with("key = [\"k\", \"l\"]", "keys_allowed = [[\"A\", \"x\"], [\"A\", \"y\"]]");
    let pairs = Definitions::parse(&pairs, "x").unwrap();
    let allowed = pairs.streams[0].keys_allowed.as_ref().unwrap();
    assert!(allowed.contains(&Key::from_components(["A", "y"])));
    assert!(!allowed.contains(&Key::from_components(["y", "A"])));
    assert_eq!(parse(&pairs.to_toml()), pairs);

    let three = one("keys_allowed = [\"A\", \"B\", \"C\"]").unwrap();
    assert_eq!(Definitions::evolve(&two, &three).unwrap(), three);
    assert_eq!(Definitions::evolve(&two, &open).unwrap(), open);
    let shrunk = Definitions::evolve(&three, &two).unwrap_err().to_string();
    assert!(shrunk.contains("the key \"C\" of `keys_allowed` was there"), "{shrunk}");
    let closed = Definitions::evolve(&open, &two).unwrap_err().to_string();
    assert!(closed.contains("`keys_allowed` was absent"), "{closed}");

    for (key, allowed, message) in [
        ("key = \"k\"", "keys_allowed = \"A\"".to_owned(), "is a list of keys"),
        ("key = \"k\"", "keys_allowed = []".into(), "is empty"),
        ("key = \"k\"", "keys_allowed = [1]".into(), "is no text"),
        ("key = [\"k\", \"l\"]", "keys_allowed = [\"A\"]".into(), "no list of one text"),
        ("key = [\"k\", \"l\"]", "keys_allowed = [[\"A\"]]".into(), "no list of one text"),
        ("", "keys_allowed = [\"A\"]".into(), "has no `key`"),
        ("key = \"k\"", format!("keys_allowed = [\"{}\"]", "k".repeat(5_000)), "longer"),
    ] {
        let error = Definitions::parse(&with(key, &allowed), "x").unwrap_err().to_string();
        assert!(error.contains("keys_allowed") && error.contains(message), "{error}");
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
