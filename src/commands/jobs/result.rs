//! A job's windows, received, checked against the job's hash, and written.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use isotick_client::jobs::JobView;
use isotick_client::{JobResult, JobStatus, ResultItem};
use isotick_kernels::{EncodedRows, ResultHasher};
use isotick_model::Key;
use isotick_model::results::{ResultSchema, WindowRow};
use serde_json::{Value, json};

use crate::commands::scan::output::{Output, Target};

/// One view's windows on their way.
struct Receiving {
    view: String,
    columns: usize,
    output: Output,
    hasher: ResultHasher,
    last: Option<(Key, i64)>,
}

impl Receiving {
    fn open(target: &Target<'_>, view: String, schema: ResultSchema) -> Result<Self> {
        let (columns, hasher) = (schema.columns.len(), ResultHasher::new(&schema));
        Ok(Self { output: target.open(&view, schema)?, view, columns, hasher, last: None })
    }

    fn take(&mut self, rows: &[WindowRow]) -> Result<()> {
        for row in rows {
            let ordered = match &self.last {
                None => true,
                Some((key, start)) => (key, *start) < (&row.key, row.window_start),
            };
            ensure!(
                ordered,
                "the service sent windows of {} out of order: fetch the result again",
                self.view
            );
            match &mut self.last {
                Some((key, start)) if *key == row.key => *start = row.window_start,
                last => *last = Some((row.key.clone(), row.window_start)),
            }
        }
        self.hasher.push(&EncodedRows::of(self.columns, rows));
        self.output.write(rows)
    }

    fn close(self, job: &JobStatus, index: usize) -> Result<()> {
        self.output.close()?;
        let hash = self.hasher.finish().to_string();
        match job.views.get(index).and_then(|view| view.hash.as_deref()) {
            Some(expected) if expected != hash => bail!(
                "the windows of {} that arrived have the hash {hash}, the job's is {expected}: what \
                 was written is not the job's result; fetch it again",
                self.view
            ),
            _ => Ok(()),
        }
    }
}

/// Writes a whole result, view by view, and checks that it has the job's hashes.
pub async fn receive(mut result: JobResult, target: &Target<'_>) -> Result<JobStatus> {
    let mut finished: Vec<Receiving> = Vec::new();
    while let Some(item) = result.next().await? {
        match item {
            ResultItem::View { index, view, schema } => {
                ensure!(
                    index == finished.len(),
                    "the service sent the views out of order: fetch the result again"
                );
                if let Some(before) = finished.last_mut() {
                    // So that a reader of the output has it whole before the next begins.
                    let output = std::mem::replace(&mut before.output, Output::Nowhere);
                    output.close()?;
                }
                finished.push(Receiving::open(target, view, schema)?);
            }
            ResultItem::Windows(rows) => {
                finished.last_mut().context("windows of no view")?.take(&rows)?;
            }
            ResultItem::Arrow(_) => bail!("the service sent Arrow where windows were asked for"),
        }
    }
    let job = result.job().clone();
    for (index, receiving) in finished.into_iter().enumerate() {
        receiving.close(&job, index)?;
    }
    Ok(job)
}

/// Writes windows as they come, in any order.
pub async fn receive_partial(mut result: JobResult, target: &Target<'_>) -> Result<JobStatus> {
    let mut outputs: Vec<Option<Output>> = Vec::new();
    let mut current = 0;
    while let Some(item) = result.next().await? {
        match item {
            ResultItem::View { index, view, schema } => {
                // A view's place is below the number of views of the job, as far as that is known.
                ensure!(index < result.job().views.len().max(1), "a view that the job has not");
                if outputs.len() <= index {
                    outputs.resize_with(index + 1, || None);
                }
                if outputs[index].is_none() {
                    outputs[index] = Some(target.open(&view, schema)?);
                }
                current = index;
            }
            ResultItem::Windows(rows) => {
                let output = outputs.get_mut(current).and_then(Option::as_mut);
                let output = output.context("windows of no view")?;
                output.write(&rows)?;
                output.flush()?;
            }
            ResultItem::Arrow(_) => bail!("the service sent Arrow where windows were asked for"),
        }
    }
    outputs.into_iter().flatten().try_for_each(Output::close)?;
    Ok(result.job().clone())
}

/// Says what the scan came to: hashes where asked for, then a line for each view, or JSON.
pub fn report(job: &JobStatus, target: &Target<'_>, stats: bool, took: Option<Duration>) {
    let said: Value = serde_json::from_str(job.json()).unwrap_or_default();
    let rows_read = said["rows_read"].as_u64().unwrap_or(job.rows.done);
    let seconds = job.seconds.unwrap_or(0.0);
    for view in &job.views {
        if let Some(hash) = &view.hash {
            target.tell_hash(&view.view, hash);
        }
    }
    if stats {
        let of = |(index, view): (usize, &JobView)| {
            json!({
                "job": job.id.as_str(),
                "view": view.view,
                "rows_read": rows_read,
                "rows_from_states": said["rows_from_states"],
                "rows_by_engine": (job.views.len() == 1).then_some(&job.engines),
                "rows_of_all_views_by_engine": job.engines,
                "too_late": said["views"][index]["too_late"],
                "unrepresentable": said["views"][index]["unrepresentable"],
                "windows": view.windows,
                "seconds": seconds,
                "rows_per_s": (rows_read as f64 / seconds.max(1e-9)) as u64,
                "hash": view.hash,
                "cached": job.cached,
                "query_seconds": took.map(|took| took.as_secs_f64()),
            })
        };
        let mut all: Vec<_> = job.views.iter().enumerate().map(of).collect();
        match all.len() {
            1 => eprintln!("{}", all.remove(0)),
            _ => eprintln!("{}", Value::from(all)),
        }
        return;
    }
    let engines: Vec<_> =
        job.engines.iter().map(|(engine, rows)| format!("{engine} {rows}")).collect();
    let engines = if engines.is_empty() { "none".to_owned() } else { engines.join(", ") };
    let how = match job.cached {
        true => format!("an earlier scan's, job {}", job.id),
        false => format!("job {}", job.id),
    };
    let windows =
        |view: &JobView| view.windows.map_or_else(|| "?".into(), |windows| windows.to_string());
    match job.views.as_slice() {
        [view] => eprintln!(
            "{} windows from {rows_read} ticks read in {seconds:.3} s; ticks in windows by engine: \
             {engines} ({how})",
            windows(view)
        ),
        views => {
            for view in views {
                eprintln!("{}: {} windows", view.view, windows(view));
            }
            // A tick counts once for each view that it is in.
            eprintln!(
                "{rows_read} ticks read in {seconds:.3} s; ticks in windows of all views by engine: \
                 {engines} ({how})"
            );
        }
    }
}
