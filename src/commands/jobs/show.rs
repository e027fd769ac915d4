//! Jobs as text.

use std::fmt::Write as _;

use isotick_client::jobs::JobView;
use isotick_client::{JobState, JobStatus};

use crate::commands::numbers::{aligned, grouped, magnitude, seconds, share};

/// Where a job stands, in a few words.
pub fn standing(job: &JobStatus) -> String {
    match (job.state, job.position) {
        (JobState::Queued, Some(0)) => "queued, next".into(),
        (JobState::Queued, Some(before)) => format!("queued, {before} before it"),
        (JobState::Failed, _) => match &job.error {
            Some(error) => format!("failed: {error}"),
            None => "failed".into(),
        },
        (JobState::Done, _) if job.cached => "done: an earlier scan had the result".into(),
        (state, _) => state.name().into(),
    }
}

/// How far a job is, in a line.
pub fn line(job: &JobStatus) -> String {
    let mut text = standing(job);
    if job.rows.total > 0 {
        let _ = write!(text, "  {}/{} rows", grouped(job.rows.done), grouped(job.rows.total));
    }
    if job.parts.total > 0 {
        let _ = write!(text, "  {}/{} parts", job.parts.done, job.parts.total);
    }
    if !job.state.is_over() {
        if let Some(rate) = job.rows_per_s.filter(|rate| *rate > 0.0) {
            let _ = write!(text, "  {} rows/s", magnitude(rate));
        }
        if let Some(left) = job.remaining_seconds {
            let _ = write!(text, "  {} left", seconds(left));
        }
    }
    text
}

/// What a job that is done came to: a line for each view.
pub fn outcome(job: &JobStatus) -> String {
    let view = |view: &JobView| {
        let windows = view.windows.map_or_else(|| "?".into(), grouped);
        format!("{}: {windows} windows, hash {}", view.view, view.hash.as_deref().unwrap_or("?"))
    };
    job.views.iter().map(view).collect::<Vec<_>>().join("\n")
}

/// Jobs as aligned columns.
pub fn table(jobs: &[JobStatus]) -> String {
    let header = ["id", "state", "owner", "views", "rows", "rate", "left", "submitted"];
    let cells = |job: &JobStatus| {
        let state = match (job.state, job.position) {
            (JobState::Queued, Some(position)) => format!("queued ({position})"),
            (state, _) => state.name().into(),
        };
        let running = !job.state.is_over();
        let rate = job.rows_per_s.filter(|rate| running && *rate > 0.0);
        let views: Vec<_> = job.views.iter().map(|view| view.view.as_str()).collect();
        [
            job.id.to_string(),
            state,
            owners(job),
            views.join(" "),
            match job.state {
                // Of jobs before a restart the service knows no more.
                JobState::Done => "100 %".into(),
                _ => share(job.rows.done, job.rows.total),
            },
            rate.map_or_else(String::new, |rate| format!("{}/s", magnitude(rate))),
            job.remaining_seconds.filter(|_| running).map_or_else(String::new, seconds),
            job.submitted.as_deref().map_or_else(String::new, to_the_second),
        ]
    };
    let lines: Vec<_> =
        std::iter::once(header.map(str::to_owned)).chain(jobs.iter().map(cells)).collect();
    aligned(&lines, &[4, 5, 6])
}

/// Everything about a job.
pub fn whole(job: &JobStatus) -> String {
    let value: serde_json::Value = serde_json::from_str(job.json()).unwrap_or_default();
    let given = |name: &str| value.get(name).filter(|value| !value.is_null());
    let mut text = format!("job {}: {}\n", job.id, line(job));
    let mut add = |name: &str, what: String| {
        if !what.is_empty() {
            let _ = writeln!(text, "  {name:<10} {what}");
        }
    };
    for view in &job.views {
        let definition = view.definition.as_deref().unwrap_or_default();
        add("view", format!("{} {definition}", view.view));
    }
    if job.state == JobState::Done {
        for line in outcome(job).lines() {
            add("result", line.to_owned());
        }
    }
    add("owner", owners(job));
    let range = match (&job.from, &job.to) {
        (None, None) => String::new(),
        (from, to) => {
            let open = "…".to_owned();
            format!("{} to {}", from.as_ref().unwrap_or(&open), to.as_ref().unwrap_or(&open))
        }
    };
    add("range", range);
    for name in ["keys", "truth", "engine", "priority", "attempts", "retries", "replans"] {
        let plain = |value: &serde_json::Value| match value {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Array(all) if all.is_empty() => String::new(),
            other => other.to_string(),
        };
        add(name, given(name).map(plain).unwrap_or_default());
    }
    let engines = job.engines.iter().map(|(engine, rows)| format!("{engine} {}", grouped(*rows)));
    add("engines", engines.collect::<Vec<_>>().join(", "));
    for (name, what) in [
        ("history", given("manifest_version").map(|version| format!("manifest {version}"))),
        ("kernels", given("kernels").and_then(|hash| hash.as_str()).map(str::to_owned)),
        ("submitted", job.submitted.clone()),
        ("finished", job.finished.clone()),
        ("kept until", job.kept_until.clone()),
        ("took", job.seconds.filter(|seconds| *seconds > 0.0).map(seconds)),
    ] {
        add(name, what.unwrap_or_default());
    }
    text
}

fn owners(job: &JobStatus) -> String {
    match job.owners.is_empty() {
        true => job.owner.clone().unwrap_or_default(),
        false => job.owners.join(" "),
    }
}

/// A time without what comes after its seconds.
fn to_the_second(time: &str) -> String {
    match time.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => time.to_owned(),
    }
}

#[cfg(test)]
mod tests;
