use serde_json::{Value, json};

use super::*;

/// 2024-01-02T00:00:00Z.
const NOW_NS: i64 = 1_704_153_600_000_000_000;
const HEADING: Heading<'_> = Heading { address: "127.0.0.1:7400", lost: None };
const ALL: Size = Size { width: 132, height: 1_000 };

fn status() -> Value {
    let job = |id: &str, state: &str, done: u64| {
        json!({
            "id": id, "state": state, "owner": "quant", "views": [{"view": "bars_1m"}],
            "rows": {"done": done, "total": 4_000_000}, "rows_per_s": 2_500_000,
            "remaining_seconds": 1.2, "error": (state == "failed").then_some("no disk"),
        })
    };
    let mut queued = job("q1", "queued", 0);
    queued["position"] = 2.into();
    json!({
        "uptime_s": 7_300, "engine": "cpu", "failure": null, "in_flight_bytes": 3_355_443,
        "edge": {"connections_open": 12, "sessions_open": 14},
        "streams": {"trades": {
            "ticks_per_s": 99_800, "watermark_ns": NOW_NS - 120_000_000, "accepted": 1_234_567,
            "late": 12, "rejected": {"null_time": 3, "inexact": 4}, "missing": 0,
            "publishers": [{"active": true}, {"active": false}, {"active": true}],
        }},
        "views": {"bars": {
            "windows": 1_000, "corrections": 7, "open": 50, "too_late": 1, "subscribers": 2,
        }},
        "stages": {"kernel": {"count": 2_000, "p50_ns": 95_000, "p99_ns": 1_200_000, "max_ns": 25_000_000}},
        "log": {"records": 2_000, "durable_records": 1_990, "records_in_history": 2_000},
        "lanes": {
            "step": "batch_paused", "slots": 2, "busy": 1, "queued": 3, "host_bytes": 536_870_912u64,
            "host_bytes_max": 1u64 << 30, "device_bytes": 0, "device_bytes_max": 0,
            "dispatches": 12_000, "shared_reads": 3,
            "owners": [{"owner": "quant", "share": 0.5, "busy_seconds": 12.5}],
        },
        "jobs": {
            "running": 1, "queued": 1, "done": 1, "failed": 1,
            "list": [job("d1", "done", 4_000_000), queued, job("f1", "failed", 5), job("r1", "running", 1_000_000)],
        },
    })
}

fn text(lines: &[Line]) -> String {
    lines.iter().map(|line| line.text() + "\n").collect()
}

#[test]
fn everything_has_its_place() {
    let model = Model::of(&status(), NOW_NS);
    assert_eq!(
        text(&frame(&HEADING, Some(&model), ALL)),
        "\
isotick 127.0.0.1:7400  up 2.0 h  engine cpu  100 k ticks/s  12 connections  14 sessions  2 subscribers  3.2 MiB in flight

stream  ticks/s     lag   accepted  late  rejected  missing  publishers
trades    100 k  120 ms  1,234,567    12         7        0           2

view  windows  windows/s  corrections  open  too late  subscribers
bars    1,000                       7    50         1            2

stage   times    p50     p99    max
kernel  2,000  95 µs  1.2 ms  25 ms

log  2,000 records, durable all but 10, in history all
lanes  step batch_paused   1/2 slots busy, 3 waiting
  host   [##########----------]  512 MiB of 1.0 GiB
  12,000 dispatches, 3 shared reads
  quant                  50 % of what scans get, 12.5 s so far

jobs  1 running, 1 queued, 1 done, 1 failed, 0 cancelled
id  state                owner  views     done  rows/s   left
q1  queued, 2 before it  quant  bars_1m    0 %   2.5 M  1.2 s
r1  running              quant  bars_1m   25 %   2.5 M  1.2 s
d1  done                 quant  bars_1m  100 %
f1  failed: no disk      quant  bars_1m    0 %
"
    );
}

#[test]
fn rates_are_since_the_status_before() {
    let before = Model::of(&status(), NOW_NS);
    let mut later = status();
    later["views"]["bars"]["windows"] = 1_500.into();
    later["uptime_s"] = 7_302.into();
    let model = Model::of(&later, NOW_NS).since(&before, 2.0);
    assert_eq!(model.views[0].per_s, Some(250.0));
    assert!(text(&frame(&HEADING, Some(&model), ALL)).contains("        250            7"));
    // A service that began anew has none.
    later["uptime_s"] = 1.into();
    assert_eq!(Model::of(&later, NOW_NS).since(&before, 2.0).views[0].per_s, None);
}

#[test]
fn what_is_absent_is_left_out() {
    let model = Model::of(&json!({}), NOW_NS);
    let shown = text(&frame(&HEADING, Some(&model), ALL));
    for absent in ["stream", "view ", "stage", "lanes", "jobs"] {
        assert!(!shown.contains(absent), "{absent}: {shown}");
    }
    assert_eq!(frame(&HEADING, None, ALL)[1].text(), "connecting");
    for odd in
        [json!(null), json!([1]), json!({"streams": 1, "jobs": {"list": [1, {}]}, "lanes": {}})]
    {
        let model = Model::of(&odd, NOW_NS);
        assert!(!frame(&HEADING, Some(&model), ALL).is_empty());
    }
}

#[test]
fn trouble_is_told_first() {
    let mut status = status();
    status["failure"] = "the disk is full".into();
    let model = Model::of(&status, NOW_NS);
    let lost = Heading { lost: Some("the connection was lost"), ..HEADING };
    let lines = frame(&lost, Some(&model), ALL);
    assert_eq!(lines[1], Line::of(Style::Bad, "the connection was lost; trying again").cut(132));
    assert_eq!(lines[2], Line::of(Style::Bad, "failure: the disk is full").cut(132));
}

#[test]
fn a_frame_fits_every_screen() {
    let mut status = status();
    let many: Vec<_> = (0..40).map(|n| json!({"id": format!("j{n}"), "state": "queued"})).collect();
    status["jobs"]["list"] = many.into();
    let model = Model::of(&status, NOW_NS);
    for height in 0..70 {
        for width in [0, 1, 7, 40, 120, 300] {
            let lines = frame(&HEADING, Some(&model), Size { width, height });
            assert!(lines.len() <= height);
            for line in &lines {
                let cells: usize = line.0.iter().map(|(_, text)| text.chars().count()).sum();
                assert!(cells <= width, "{cells} of {width}: {line:?}");
            }
        }
    }
    let lines = frame(&HEADING, Some(&model), Size { width: 120, height: 25 });
    assert_eq!(lines.len(), 25, "the screen is used");
    let shown = lines
        .iter()
        .filter(|line| line.text().starts_with('j') && line.text().contains("queued"))
        .count();
    assert!(
        lines[24].text().starts_with(&format!("… and {} more", 41 - shown)),
        "{}",
        text(&lines)
    );
}

#[test]
fn names_from_clients_move_no_cursor() {
    let mut status = status();
    status["jobs"]["list"][0]["owner"] = "\u{1b}[2Jevil\n".into();
    status["failure"] = "a\rb".into();
    let model = Model::of(&status, NOW_NS);
    let lines = frame(&HEADING, Some(&model), ALL);
    let clean = |line: &Line| line.0.iter().all(|(_, text)| !text.contains(char::is_control));
    assert!(lines.iter().all(clean));
    assert!(text(&lines).contains("evil"));
}
