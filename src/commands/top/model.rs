//! What `top` shows, taken out of a status. What a service does not say is left out.

use isotick_client::JobStatus;
use serde_json::Value;

/// A status, as far as it is shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    pub uptime_s: u64,
    pub engine: String,
    /// What does not work.
    pub troubles: Vec<String>,
    pub connections: u64,
    pub sessions: u64,
    pub subscribers: u64,
    /// Rows between decoding and the views, in bytes.
    pub in_flight_bytes: u64,
    pub streams: Vec<Stream>,
    pub views: Vec<View>,
    pub stages: Vec<Stage>,
    pub log: Log,
    pub lanes: Option<Lanes>,
    pub jobs: Option<Jobs>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stream {
    pub name: String,
    pub ticks_per_s: u64,
    pub accepted: u64,
    pub late: u64,
    pub rejected: u64,
    pub missing: u64,
    pub publishers: usize,
    /// How far the watermark is behind the clock.
    pub lag_s: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    pub name: String,
    pub windows: u64,
    pub corrections: u64,
    pub open: u64,
    pub too_late: u64,
    pub subscribers: u64,
    /// Windows and corrections a second since the status before.
    pub per_s: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stage {
    pub name: String,
    pub count: u64,
    pub p50_ns: u64,
    pub p99_ns: u64,
    pub max_ns: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Log {
    pub records: u64,
    pub durable: u64,
    /// Records that history covers: what is behind the last flush.
    pub in_history: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lanes {
    /// What is done against overload.
    pub step: String,
    pub slots: u64,
    pub busy: u64,
    pub queued: Option<u64>,
    pub host_bytes: u64,
    pub host_bytes_max: u64,
    pub device_bytes: u64,
    pub device_bytes_max: u64,
    /// Counters with their names, those that are there.
    pub counts: Vec<(&'static str, u64)>,
    pub owners: Vec<Owner>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Owner {
    pub name: String,
    /// 0 to 1.
    pub share: f64,
    pub busy_s: f64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Jobs {
    pub running: u64,
    pub queued: u64,
    pub done: u64,
    pub failed: u64,
    pub cancelled: u64,
    /// Those that are not over first, else as the service tells them.
    pub list: Vec<JobStatus>,
}

impl Model {
    /// Takes a status apart. `now_ns` is the clock, nanoseconds UTC.
    pub fn of(status: &Value, now_ns: i64) -> Self {
        let troubles = ["failure", "engine_failure"].into_iter().filter_map(|cause| {
            let reason = status[cause].as_str()?;
            Some(format!("{}: {reason}", cause.replace('_', " ")))
        });
        let compaction = status["compaction"]["failure"].as_str();
        let log_fault = status["log"]["last_fault"].as_str();
        let troubles = troubles
            .chain(compaction.map(|reason| format!("compaction failed: {reason}")))
            .chain(log_fault.map(|reason| format!("the log met a fault: {reason}")));
        let views: Vec<_> = entries(&status["views"]).map(View::of).collect();
        Self {
            uptime_s: count(&status["uptime_s"]),
            engine: text(&status["engine"]),
            troubles: troubles.collect(),
            connections: count(&status["edge"]["connections_open"]),
            sessions: count(&status["edge"]["sessions_open"]),
            subscribers: views.iter().map(|view| view.subscribers).sum(),
            in_flight_bytes: count(&status["in_flight_bytes"]),
            streams: entries(&status["streams"])
                .map(|(name, stream)| Stream::of(name, stream, now_ns))
                .collect(),
            views,
            stages: entries(&status["stages"]).map(Stage::of).collect(),
            log: Log {
                records: count(&status["log"]["records"]),
                durable: count(&status["log"]["durable_records"]),
                in_history: count(&status["log"]["records_in_history"]),
            },
            lanes: status["lanes"].is_object().then(|| Lanes::of(&status["lanes"])),
            jobs: status["jobs"].is_object().then(|| Jobs::of(&status["jobs"])),
        }
    }

    /// With rates since an earlier status of the same service.
    pub fn since(mut self, before: &Self, seconds: f64) -> Self {
        // A service that started anew counts from 0 again.
        if self.uptime_s < before.uptime_s || seconds <= 0.0 {
            return self;
        }
        for view in &mut self.views {
            let earlier = before.views.iter().find(|earlier| earlier.name == view.name);
            let all = |view: &View| view.windows.saturating_add(view.corrections);
            view.per_s = earlier
                .and_then(|earlier| all(view).checked_sub(all(earlier)))
                .map(|more| more as f64 / seconds);
        }
        self
    }
}

impl Stream {
    fn of(name: &str, stream: &Value, now_ns: i64) -> Self {
        let lag = stream["watermark_ns"].as_i64().map(|watermark| now_ns.saturating_sub(watermark));
        Self {
            name: name.to_owned(),
            ticks_per_s: count(&stream["ticks_per_s"]),
            accepted: count(&stream["accepted"]),
            late: count(&stream["late"]),
            rejected: entries(&stream["rejected"]).map(|(_, rows)| count(rows)).sum(),
            missing: count(&stream["missing"]),
            publishers: stream["publishers"].as_array().map_or(0, |all| {
                all.iter().filter(|publisher| publisher["active"] == true).count()
            }),
            lag_s: lag.map(|lag| lag as f64 / 1e9),
        }
    }
}

impl View {
    fn of((name, view): (&str, &Value)) -> Self {
        Self {
            name: name.to_owned(),
            windows: count(&view["windows"]),
            corrections: count(&view["corrections"]),
            open: count(&view["open"]),
            too_late: count(&view["too_late"]),
            subscribers: count(&view["subscribers"]),
            per_s: None,
        }
    }
}

impl Stage {
    fn of((name, stage): (&str, &Value)) -> Self {
        Self {
            name: name.to_owned(),
            count: count(&stage["count"]),
            p50_ns: count(&stage["p50_ns"]),
            p99_ns: count(&stage["p99_ns"]),
            max_ns: count(&stage["max_ns"]),
        }
    }
}

impl Lanes {
    fn of(lanes: &Value) -> Self {
        let counts = [
            ("dispatches", "dispatches"),
            ("shared_reads", "shared reads"),
            ("retries", "retries"),
            ("refused", "refused"),
        ];
        let counts =
            counts.into_iter().filter_map(|(field, name)| Some((name, lanes[field].as_u64()?)));
        let owner = |owner: &Value| Owner {
            name: text(&owner["owner"]),
            share: owner["share"].as_f64().unwrap_or(0.0),
            busy_s: owner["busy_seconds"].as_f64().unwrap_or(0.0),
        };
        Self {
            step: lanes["step"].as_str().unwrap_or("none").to_owned(),
            slots: count(&lanes["slots"]),
            busy: count(&lanes["busy"]),
            queued: lanes["queued"].as_u64(),
            host_bytes: count(&lanes["host_bytes"]),
            host_bytes_max: count(&lanes["host_bytes_max"]),
            device_bytes: count(&lanes["device_bytes"]),
            device_bytes_max: count(&lanes["device_bytes_max"]),
            counts: counts.collect(),
            owners: lanes["owners"].as_array().into_iter().flatten().map(owner).collect(),
        }
    }
}

impl Jobs {
    fn of(jobs: &Value) -> Self {
        let list = jobs["list"].as_array().into_iter().flatten();
        let mut list: Vec<_> =
            list.filter_map(|job| JobStatus::parse(&job.to_string()).ok()).collect();
        // Stable: among themselves they stay as told.
        list.sort_by_key(|job| job.state.is_over());
        Self {
            running: count(&jobs["running"]),
            queued: count(&jobs["queued"]),
            done: count(&jobs["done"]),
            failed: count(&jobs["failed"]),
            cancelled: count(&jobs["cancelled"]),
            list,
        }
    }
}

fn entries(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// Names come from clients too: nothing of them may move the cursor.
fn text(value: &Value) -> String {
    value.as_str().unwrap_or("unknown").to_owned()
}
