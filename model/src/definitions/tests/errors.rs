use super::*;

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
