//! Commented configurations for `isotick init`.

use super::canonical::{column_text, key, keys_allowed, storage, string};
use crate::expr::lexer::quote_name;
use crate::schema::{Inexact, StreamSchema};
use crate::time::format_duration;

/// The built-in example: a stream of trades, with one-second and one-minute bars.
pub const EXAMPLE: &str = r#"# What ticks look like (streams) and what is computed from them (views). The same views run live
# (`isotick serve`) and over stored or foreign files (`isotick scan`), with the same results.

[stream.trades]
time = "ts"        # the event time: integer nanoseconds UTC, a timestamp, or RFC 3339 text
key = "symbol"     # one series per symbol; a list for several columns; leave it out for one series
horizon = "1h"     # ticks further ahead of the service's clock are rejected; "none" for no limit
# keys_allowed = ["AAPL", "MSFT"]  # any other key is rejected; the list may grow later
# codec = "zstd"  # history takes less space and more time to read; default: "none"
# retention = { age = "90d", size = "100GiB" }  # older days of history go; default: all is kept
inexact = "reject" # a float that is no exact decimal at its column's scale: "reject" or "round"

# Values are whole numbers of 10^-scale: at scale 4, 101.25 is kept as 1012500, exactly.
# `min` and `max` reject what lies outside; `optional = true` allows nulls.
[stream.trades.columns]
price = { scale = 4, min = 0 }
size = { scale = 0, min = 0 }
side = { scale = 0, optional = true }

[view.bars_1s]
stream = "trades"
where = "size > 0" # = != < <= > >=, and, or, not, in (..), is null; text in quotes: symbol = 'A'
window = { tumbling = "1s" } # any width: "250ms", "5m", "1h30m"; `origin` moves the boundaries
aggregates = [
    "ohlc(price)", # open, high, low, close
    "volume = sum(size)",
    "vwap = vwap(price, size)",
    "trades = count()",
] # also: min, max, first, last, mean, var, stddev, count(column), median, quantile(size, 0.5, 0.99)
# Ticks up to 50 ms late still change their window and publish it anew ("correct"). Others: "side"
# and "drop" publish each window once and set later ticks aside, or only count them.
lateness = { allowed = "50ms", policy = "correct" }

[view.bars_1m]
stream = "trades"
where = "size > 0"
window = { tumbling = "1m" }
aggregates = ["ohlc(price)", "volume = sum(size)", "vwap = vwap(price, size)", "trades = count()"]
lateness = { allowed = "50ms" }
"#;

/// Names under which sizes of trades go.
const SIZES: [&str; 5] = ["size", "qty", "quantity", "volume", "amount"];

/// How many columns without a known meaning get aggregates.
const COLUMNS_MAX: usize = 4;

/// A commented configuration for a stream, e.g. one whose schema was read off a file: the stream,
/// and views over one second and one minute that fit its columns.
pub fn template_for(stream: &StreamSchema) -> String {
    let name = key(&stream.name);
    let mut text = format!(
        "# What ticks look like (streams) and what is computed from them (views).\n\n\
         [stream.{name}]\ntime = {} # the event time\n",
        string(&stream.time)
    );
    let keys: Vec<_> = stream.keys.iter().map(|key| string(key)).collect();
    text += &match keys.as_slice() {
        [] => {
            "# key = \"symbol\" # a text column; without one the stream is a single series\n".into()
        }
        [key] => format!("key = {key} # one series per value\n"),
        keys => format!("key = [{}] # one series per combination\n", keys.join(", ")),
    };
    text += &keys_allowed(stream);
    text += &storage(stream);
    let (inexact, other) = match stream.inexact {
        Inexact::Reject => ("reject", "\"round\" takes the nearest decimal instead"),
        Inexact::Round => ("round", "\"reject\" takes exact decimals only"),
    };
    text += &format!("inexact = \"{inexact}\" # floats that are no exact decimal; {other}\n");
    let horizon = stream.horizon_ns.map_or("none".into(), format_duration);
    text += &format!(
        "horizon = \"{horizon}\" # ticks further ahead of the service's clock are rejected\n\n\
         # Values are whole numbers of 10^-scale. `min` and `max` reject what lies outside;\n\
         # `optional = true` allows nulls.\n[stream.{name}.columns]\n"
    );
    for column in &stream.columns {
        text += &format!("{} = {}\n", key(&column.name), column_text(column));
    }
    let aggregates: String =
        aggregates(stream).iter().map(|text| format!("    {},\n", string(text))).collect();
    for (suffix, width) in [("1s", "1s"), ("1m", "1m")] {
        text += &format!(
            "\n[view.bars_{suffix}]\nstream = {}\nwindow = {{ tumbling = \"{width}\" }}\n\
             aggregates = [\n{aggregates}]\n\
             lateness = {{ allowed = \"0s\", policy = \"correct\" }} # late ticks: correct, side or drop\n",
            string(&stream.name)
        );
    }
    text
}

/// Texts of aggregates that fit the columns, their outputs clear of each other and of the keys.
fn aggregates(stream: &StreamSchema) -> Vec<String> {
    let mut outputs = Outputs { stream, taken: Vec::new(), texts: Vec::new() };
    let size = SIZES.iter().find(|size| stream.column(size).is_some());
    match (stream.column("price").is_some(), size) {
        (true, size) => {
            outputs.ohlc();
            if let Some(size) = size {
                outputs.add("volume", &format!("sum({size})"));
                outputs.add("vwap", &format!("vwap(price, {size})"));
            } else {
                outputs.add("mean_price", "mean(price)");
            }
        }
        (false, _) => {
            for column in stream.columns.iter().take(COLUMNS_MAX) {
                for function in ["min", "max", "mean", "last"] {
                    let call = format!("{function}({})", quote_name(&column.name));
                    outputs.add(&format!("{function}_{}", column.name), &call);
                }
            }
        }
    }
    outputs.add("count", "count()");
    outputs.texts
}

struct Outputs<'a> {
    stream: &'a StreamSchema,
    taken: Vec<String>,
    texts: Vec<String>,
}

impl Outputs<'_> {
    fn is_free(&self, name: &str) -> bool {
        !self.taken.iter().chain(&self.stream.keys).any(|taken| taken == name)
    }

    fn add(&mut self, name: &str, call: &str) {
        let mut free = name.to_string();
        while !self.is_free(&free) {
            free.push('_');
        }
        self.texts.push(format!("{} = {call}", quote_name(&free)));
        self.taken.push(free);
    }

    fn ohlc(&mut self) {
        let parts = ["open", "high", "low", "close"];
        if parts.iter().all(|part| self.is_free(part)) {
            self.taken.extend(parts.map(String::from));
            self.texts.push("ohlc(price)".into());
        } else {
            for (part, function) in parts.into_iter().zip(["first", "max", "min", "last"]) {
                self.add(part, &format!("{function}(price)"));
            }
        }
    }
}
