//! The real files: what their fields are and which view is computed over each.

use crate::oracle::{Output, View};

/// A file with the definitions under which it is read.
pub struct Given {
    /// Below the folder of real files.
    pub file: &'static str,
    /// Key columns and the fields they are taken from.
    pub keys: &'static [(&'static str, &'static str)],
    pub columns: &'static [Column],
    /// What to do with floats that are not exact: round, or reject the row.
    pub round: bool,
    /// The filter as text and as code.
    pub filter: Option<&'static str>,
    pub passes: fn(&[Option<i64>]) -> bool,
    /// The window as text, and in nanoseconds.
    pub window: &'static str,
    pub width: i64,
    pub origin: i64,
    pub aggregates: &'static [&'static str],
}

/// A value column.
pub struct Column {
    pub name: &'static str,
    pub field: &'static str,
    /// The declared scale.
    pub scale: u32,
    /// The scale of the file's integers, where its metadata state one.
    pub stated: Option<u32>,
    pub optional: bool,
}

const fn column(name: &'static str, field: &'static str, scale: u32) -> Column {
    Column { name, field, scale, stated: None, optional: false }
}

const fn stated(name: &'static str, scale: u32, stated: u32) -> Column {
    Column { name, field: name, scale, stated: Some(stated), optional: false }
}

const fn optional(column: Column) -> Column {
    Column { optional: true, ..column }
}

const SYMBOL: &[(&str, &str)] = &[("symbol", "symbol")];
const MINUTE: i64 = 60_000_000_000;

const TRADES: &[&str] = &[
    "ohlc(price)",
    "volume = sum(size)",
    "vwap = vwap(price, size)",
    "trades = count()",
    "mean(price)",
    "stddev(price)",
    "var(size)",
    "median(price)",
    "m = median(size)",
];

const BARS: &[&str] = &[
    "first(open)",
    "high = max(high)",
    "low = min(low)",
    "last(close)",
    "sum(volume)",
    "vwap(close, volume)",
    "count()",
    "stddev(close)",
    "median(volume)",
];

const BAR_COLUMNS: &[Column] = &[
    stated("open", 4, 4),
    stated("high", 4, 4),
    stated("low", 4, 4),
    stated("close", 4, 4),
    column("volume", "volume", 0),
];

const QUOTE_BARS: &[&str] =
    &["b = ohlc(bid_close)", "a = ohlc(ask_close)", "mean(bid_size)", "count()"];

/// What most files have in common.
const COMMON: Given = Given {
    file: "",
    keys: SYMBOL,
    columns: &[],
    round: false,
    filter: None,
    passes: |_| true,
    window: "1m",
    width: MINUTE,
    origin: 0,
    aggregates: TRADES,
};

pub const GIVEN: &[Given] = &[
    Given {
        file: "ticks/lean_us_trades_spy.parquet",
        columns: &[stated("price", 4, 4), column("size", "size", 0)],
        ..COMMON
    },
    Given {
        file: "ticks/lean_us_trades_bac.parquet",
        // Other names: the fields are mapped.
        keys: &[("instrument", "symbol")],
        columns: &[column("price", "price", 4), column("size", "size", 0)],
        filter: Some("size >= 100 and not price > 13.99"),
        passes: |v| v[1] >= Some(100) && v[0] <= Some(139_900),
        window: "1s",
        width: 1_000_000_000,
        ..COMMON
    },
    Given {
        file: "ticks/lean_comex_gc_trades.parquet",
        // Declared finer than the file states: its integers are brought to the declared scale.
        columns: &[stated("price", 6, 4), column("size", "size", 0)],
        filter: Some("size > 0 or price < 1320"),
        passes: |v| v[1] > Some(0) || v[0] < Some(1_320_000_000),
        ..COMMON
    },
    Given {
        file: "ticks/binance_btc_spot_coinm_trades.parquet",
        columns: &[stated("price", 8, 8), stated("size", 8, 8)],
        window: "1s",
        width: 1_000_000_000,
        ..COMMON
    },
    Given {
        file: "ticks/binance_btc_spot_coinm_arrival.parquet",
        keys: &[("symbol", "symbol"), ("kind", "kind")],
        columns: &[
            optional(stated("price", 8, 8)),
            optional(stated("size", 8, 8)),
            optional(stated("bid", 8, 8)),
            optional(stated("ask", 8, 8)),
        ],
        window: "250ms",
        width: 250_000_000,
        origin: 1_723_161_254_000_000_001,
        aggregates: &[
            "ohlc(price)",
            "vwap(price, size)",
            "count(price)",
            "count()",
            "first(bid)",
            "last(ask)",
            "stddev(ask)",
        ],
        ..COMMON
    },
    Given {
        file: "ticks/lean_oanda_quotes_eurusd.parquet",
        columns: &[stated("bid", 5, 5), stated("ask", 5, 5)],
        filter: Some("ask > bid"),
        passes: |v| v[1] > v[0],
        window: "5m",
        width: 5 * MINUTE,
        origin: 7,
        aggregates: &["b = ohlc(bid)", "a = ohlc(ask)", "mean(bid)", "var(ask)", "count()"],
        ..COMMON
    },
    Given {
        file: "ticks/lean_us_quotes_bac.parquet",
        columns: &[
            stated("bid", 4, 4),
            column("bid_size", "bid_size", 0),
            stated("ask", 4, 4),
            column("ask_size", "ask_size", 0),
        ],
        filter: Some("bid != 0"),
        passes: |v| v[0] != Some(0),
        aggregates: &["ohlc(bid)", "vwap(bid, bid_size)", "max(ask)", "sum(bid_size)", "count()"],
        ..COMMON
    },
    Given {
        file: "bars/lean_oanda_minute_quote_eurusd.parquet",
        columns: &[
            column("bid_close", "bid_close", 5),
            column("ask_close", "ask_close", 5),
            column("bid_size", "bid_size", 0),
        ],
        window: "1h",
        width: 60 * MINUTE,
        aggregates: QUOTE_BARS,
        ..COMMON
    },
    Given {
        file: "bars/lean_us_minute_quote_bac.parquet",
        columns: &[
            column("bid_close", "bid_close", 4),
            column("ask_close", "ask_close", 4),
            column("bid_size", "bid_size", 0),
        ],
        window: "1d",
        width: 1440 * MINUTE,
        aggregates: QUOTE_BARS,
        ..COMMON
    },
    Given {
        file: "bars/lean_us_minute_trade_bac.parquet",
        columns: BAR_COLUMNS,
        window: "15m",
        width: 15 * MINUTE,
        aggregates: BARS,
        ..COMMON
    },
    Given {
        file: "bars/lean_us_minute_trade_spy.parquet",
        columns: BAR_COLUMNS,
        window: "15m",
        width: 15 * MINUTE,
        aggregates: BARS,
        ..COMMON
    },
    Given {
        file: "bars/lean_us_second_trade_bac.parquet",
        // One series.
        keys: &[],
        columns: BAR_COLUMNS,
        window: "1h",
        width: 60 * MINUTE,
        aggregates: BARS,
        ..COMMON
    },
    Given {
        file: "sensors/nab_a.parquet",
        keys: &[("series", "symbol")],
        columns: &[column("reading", "value", 6)],
        // Inexact readings are rejected.
        window: "1h",
        width: 60 * MINUTE,
        aggregates: &["ohlc(reading)", "mean(reading)", "stddev(reading)", "count()"],
        ..COMMON
    },
    Given {
        file: "sensors/nyc_airport_weather.parquet",
        columns: &[
            optional(column("temp", "temp", 2)),
            optional(column("wind_dir", "wind_dir", 0)),
            optional(column("gust", "wind_gust", 5)),
            optional(column("pressure", "pressure", 1)),
        ],
        round: true,
        filter: Some("not (gust > 30 or pressure < 1000)"),
        passes: |v| {
            // Three-valued: known to be neither gusty nor low.
            v[2].is_some_and(|gust| gust <= 3_000_000) && v[3].is_some_and(|hpa| hpa >= 10_000)
        },
        window: "1d",
        width: 1440 * MINUTE,
        aggregates: &["ohlc(temp)", "mean(gust)", "var(pressure)", "count(wind_dir)", "count()"],
        ..COMMON
    },
    Given {
        file: "sensors/px4_flight_a.parquet",
        columns: &[column("value", "value", 9)],
        round: true,
        window: "1s",
        width: 1_000_000_000,
        aggregates: &["ohlc(value)", "sum(value)", "mean(value)", "count()"],
        ..COMMON
    },
    Given {
        file: "sensors/usgs_earthquakes_week.parquet",
        columns: &[optional(column("mag", "mag", 2)), optional(column("depth", "depth_km", 3))],
        window: "1h",
        width: 60 * MINUTE,
        aggregates: &["max(mag)", "first(mag)", "last(mag)", "stddev(depth)", "count()"],
        ..COMMON
    },
];

impl Given {
    pub fn key_names(&self) -> Vec<&'static str> {
        self.keys.iter().map(|(column, _)| *column).collect()
    }

    /// `column=field` for those that differ.
    pub fn map(&self) -> Vec<String> {
        let columns = self.columns.iter().map(|column| (column.name, column.field));
        let pairs = self.keys.iter().copied().chain(columns);
        pairs.filter(|(c, field)| c != field).map(|(c, field)| format!("{c}={field}")).collect()
    }

    /// The definitions file: stream `ticks`, view `bars`.
    pub fn definitions(&self) -> String {
        let mut text = "[stream.ticks]\ntime = \"ts\"\n".to_string();
        if !self.keys.is_empty() {
            text += &format!("key = {:?}\n", self.key_names());
        }
        if self.round {
            text += "inexact = \"round\"\n";
        }
        text += "\n[stream.ticks.columns]\n";
        for column in self.columns {
            let optional = if column.optional { ", optional = true" } else { "" };
            text += &format!("{} = {{ scale = {}{optional} }}\n", column.name, column.scale);
        }
        text += "\n[view.bars]\nstream = \"ticks\"\n";
        if let Some(filter) = self.filter {
            text += &format!("where = {filter:?}\n");
        }
        text +=
            &format!("window = {{ tumbling = {:?}, origin = \"{}\" }}\n", self.window, self.origin);
        text + &format!("aggregates = {:?}\n", self.aggregates)
    }

    /// The view as the oracle's plain data; its filter is `passes`.
    pub fn view(&self) -> View {
        View {
            width: self.width,
            origin: self.origin,
            allowed: 0,
            filter: None,
            scales: self.columns.iter().map(|column| column.scale).collect(),
            outputs: self.aggregates.iter().flat_map(|text| self.outputs(text)).collect(),
        }
    }

    /// The output columns of an aggregate as written: `[name =] function(column, …)`.
    fn outputs(&self, text: &str) -> Vec<(String, Output)> {
        let (name, call) = match text.split_once(" = ") {
            Some((name, call)) => (Some(name), call),
            None => (None, text),
        };
        let (function, rest) = call.split_once('(').expect("a call");
        let arguments = rest.trim_end_matches(')');
        let columns: Vec<usize> = arguments
            .split(", ")
            .filter(|argument| !argument.is_empty())
            .map(|argument| {
                let at = self.columns.iter().position(|column| column.name == argument);
                at.unwrap_or_else(|| panic!("{}: no column {argument}", self.file))
            })
            .collect();
        let output = match (function, columns.as_slice()) {
            ("count", []) => Output::Count,
            ("count", [c]) => Output::CountOf(*c),
            ("sum", [c]) => Output::Sum(*c),
            ("min", [c]) => Output::Min(*c),
            ("max", [c]) => Output::Max(*c),
            ("first", [c]) => Output::First(*c),
            ("last", [c]) => Output::Last(*c),
            ("mean", [c]) => Output::Mean(*c),
            ("var", [c]) => Output::Var(*c),
            ("stddev", [c]) => Output::Stddev(*c),
            ("median", [c]) => Output::Quantile(*c, 500_000_000),
            ("vwap", [p, s]) => Output::Vwap(*p, *s),
            ("notional", [p, s]) => Output::Notional(*p, *s),
            ("ohlc", [c]) => {
                let prefix = name.map_or(String::new(), |name| format!("{name}_"));
                return vec![
                    (format!("{prefix}open"), Output::First(*c)),
                    (format!("{prefix}high"), Output::Max(*c)),
                    (format!("{prefix}low"), Output::Min(*c)),
                    (format!("{prefix}close"), Output::Last(*c)),
                ];
            }
            _ => panic!("{text} is no aggregate"),
        };
        let words = [function].into_iter().chain(arguments.split(", ")).filter(|w| !w.is_empty());
        let unnamed = words.collect::<Vec<_>>().join("_");
        vec![(name.map_or(unnamed, str::to_string), output)]
    }
}
