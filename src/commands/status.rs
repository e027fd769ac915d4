//! `isotick status`: how a running service stands.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use isotick_ingest::Stage;
use serde_json::Value;

use crate::cli::StatusArgs;

pub fn run(args: StatusArgs) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let options = args.service.connect.options()?;
    let json = runtime.block_on(isotick_client::status(&args.service.at, &options))?;
    let status: Value = serde_json::from_str(&json).context("the service's status is no JSON")?;
    if args.json {
        println!("{status}");
    } else {
        print(&status);
    }
    Ok(ExitCode::SUCCESS)
}

fn print(status: &Value) {
    println!("up {} s, engine {}", status["uptime_s"], text(&status["engine"]));
    for cause in ["failure", "engine_failure"] {
        if let Some(reason) = status[cause].as_str() {
            println!("{cause}: {reason}");
        }
    }
    for (name, stream) in entries(&status["streams"]) {
        println!(
            "\nstream {name}: {} ticks/s, watermark {}",
            stream["ticks_per_s"],
            text(&stream["watermark"])
        );
        println!(
            "  {:<20} {:>12} {:>9} {:>9} {:>11} {:>8} {:>8} {:>7} {:>12} {:>12}  rejected",
            "publisher",
            "accepted",
            "late",
            "duplicate",
            "conflicting",
            "missing",
            "lost",
            "active",
            "written",
            "durable"
        );
        for publisher in stream["publishers"].as_array().into_iter().flatten() {
            let rejected = entries(&publisher["rejected"]);
            let rejected: Vec<_> =
                rejected.map(|(reason, rows)| format!("{reason} {rows}")).collect();
            let name: String = text(&publisher["publisher"]).chars().take(20).collect();
            println!(
                "  {:<20} {:>12} {:>9} {:>9} {:>11} {:>8} {:>8} {:>7} {:>12} {:>12}  {}",
                name,
                publisher["accepted"].to_string(),
                publisher["late"].to_string(),
                publisher["duplicate"].to_string(),
                publisher["conflicting"].to_string(),
                publisher["missing"].to_string(),
                publisher["lost"].to_string(),
                publisher["active"].to_string(),
                publisher["written_through"].to_string(),
                publisher["durable_through"].to_string(),
                if rejected.is_empty() { "none".to_owned() } else { rejected.join(", ") },
            );
        }
    }
    println!();
    for (name, view) in entries(&status["views"]) {
        println!(
            "view {name}: {} windows, {} corrections, {} open, {} ticks, {} too late ({}), {} subscribers",
            view["windows"],
            view["corrections"],
            view["open"],
            view["ticks"],
            view["too_late"],
            text(&view["too_late_are"]),
            view["subscribers"]
        );
    }
    for (name, history) in entries(&status["history"]) {
        println!(
            "history of {name}: {} ticks, {} bytes in {} files",
            history["rows"], history["bytes"], history["files"]
        );
        if let Some(before) = history["dropped_before"].as_str() {
            println!("  dropped before {before}: {} since the start", history["dropped_rows"]);
        }
    }
    let merges = &status["compaction"];
    println!("compaction: {} merges, {} ticks", merges["merges"], merges["merged_rows"]);
    if let Some(reason) = merges["failure"].as_str() {
        println!("  failed: {reason}");
    }
    println!("ingest: {}, {} bytes in flight", text(&status["ingest"]), status["in_flight_bytes"]);
    for stage in Stage::ALL {
        let times = &status["stages"][stage.name()];
        let time = |name: &str| {
            let took = Duration::from_nanos(times[name].as_u64().unwrap_or(0));
            format!("{took:.1?}")
        };
        println!(
            "  {:<8} {:>10} times, p50 {:>8}, p99 {:>8}, max {:>8}",
            stage.name(),
            times["count"].to_string(),
            time("p50_ns"),
            time("p99_ns"),
            time("max_ns"),
        );
    }
    for part in ["log", "edge", "deadletters", "lanes", "jobs"] {
        println!("{part}: {}", counters(&status[part]));
    }
    for device in status["lanes"]["devices"].as_array().into_iter().flatten() {
        println!("{}", device_line(device));
    }
}

/// What became of a device that scans or live windows use.
fn device_line(device: &Value) -> String {
    let state = if device["is_lost"] == true { "lost" } else { "open" };
    let failures = match device["failure"].as_str() {
        Some(last) => format!(", {} failures, the last: {last}", device["failures"]),
        None => String::new(),
    };
    format!("device {}: {state}{failures}", text(&device["description"]))
}

/// What is not nothing, by name; of the rest, how many there are.
fn counters(part: &Value) -> String {
    let all = entries(part).filter(|(_, value)| !value.is_array() && !value.is_null());
    let (zero, other): (Vec<_>, Vec<_>) = all.partition(|(_, value)| value.as_f64() == Some(0.0));
    let shown = other.into_iter().map(|(name, value)| match value.as_str() {
        Some(text) => format!("{name} {text}"),
        None => format!("{name} {value}"),
    });
    let rest = (!zero.is_empty()).then(|| format!("{} at 0", zero.len()));
    shown.chain(rest).collect::<Vec<_>>().join(", ")
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| "none".to_owned(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn counters_name_what_happened_and_count_what_did_not() {
        let part = json!({
            "batches": [1, 2], "fault": null, "io": "page cache", "lost": 0, "ns": 0.0, "taken": 2,
        });
        assert_eq!(counters(&part), "io page cache, taken 2, 2 at 0");
        assert_eq!(counters(&json!({"lost": 0})), "1 at 0");
        assert_eq!(counters(&json!({"taken": 1})), "taken 1");
    }

    #[test]
    fn a_lost_device_says_so_and_why() {
        let open =
            json!({"description": "a GPU", "is_lost": false, "failures": 0, "failure": null});
        assert_eq!(device_line(&open), "device a GPU: open");
        let lost =
            json!({"description": "a GPU", "is_lost": true, "failures": 2, "failure": "gone"});
        assert_eq!(device_line(&lost), "device a GPU: lost, 2 failures, the last: gone");
    }
}
