//! The fake's jobs: what was submitted is found again, everything takes three steps, and the
//! result is made of the windows that are kept.

use std::sync::Mutex;

use isotick_wire::{
    Code, Control, Format, JobId, JobRequest, Kind, Refusal, ResultView, arrow, message, windows,
};

use super::{Kept, Manners, say, schema};

/// Windows per message of a result.
const BATCH: usize = 4;

pub async fn answer(
    request: JobRequest,
    connection: &quinn::Connection,
    send: &mut quinn::SendStream,
    kept: &Mutex<Kept>,
    manners: &Manners,
) -> Option<()> {
    let at = match &request {
        JobRequest::Submit(submit) => {
            let mut kept = kept.lock().unwrap();
            let known = kept.jobs.iter().position(|job| job == submit);
            known.unwrap_or_else(|| {
                kept.jobs.push(submit.clone());
                kept.jobs.len() - 1
            })
        }
        JobRequest::List => {
            let jobs: Vec<_> = {
                let kept = kept.lock().unwrap();
                (0..kept.jobs.len()).rev().map(|at| job(&kept, at, 3)).collect()
            };
            say(send, Control::JobsReply(format!("{{\"jobs\":[{}]}}", jobs.join(",")))).await;
            return end(connection, send).await;
        }
        other => match place(kept, other.job()?) {
            Some(at) => at,
            None => {
                let text = format!("there is no job {}", other.job()?);
                say(send, Control::Refusal(Refusal::new(Code::UnknownJob, text))).await;
                return end(connection, send).await;
            }
        },
    };
    let tell = |step| Control::JobsReply(job(&kept.lock().unwrap(), at, step));
    match request {
        JobRequest::Submit(_) => say(send, tell(0)).await,
        JobRequest::Cancel(_) => {
            kept.lock().unwrap().cancelled.push(at);
            say(send, tell(0)).await;
        }
        JobRequest::Retry(_) => {
            kept.lock().unwrap().cancelled.retain(|other| *other != at);
            say(send, tell(0)).await;
        }
        JobRequest::Watch(_) => {
            for step in 0..=3 {
                say(send, tell(step)).await;
                if manners.cut_after == Some(step + 1) {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                    connection.close(9u32.into(), b"cut");
                    return None;
                }
            }
        }
        JobRequest::Fetch(fetch) => {
            say(send, tell(0)).await;
            let (views, all) = {
                let kept = kept.lock().unwrap();
                (kept.jobs[at].views.clone(), kept.windows.clone())
            };
            for (index, view) in (0..).zip(views) {
                say(send, Control::ResultView(ResultView { index, view, schema: schema() })).await;
                let mut sent = 0;
                for part in all.chunks(BATCH) {
                    sent += part.len() as u64;
                    let mut bytes = Vec::new();
                    match fetch.format {
                        Format::Windows => message::put(Kind::Windows, &mut bytes, |out| {
                            windows::encode(part, sent, 1, out)
                        }),
                        Format::Arrow => message::put(Kind::Arrow, &mut bytes, |out| {
                            arrow::encode_windows(part, sent, &schema(), out)
                        }),
                    }
                    .unwrap();
                    send.write_all(&bytes).await.ok()?;
                    if manners.cut_result {
                        return end(connection, send).await;
                    }
                }
            }
            say(send, tell(3)).await;
        }
        JobRequest::Show(_) | JobRequest::List => say(send, tell(3)).await,
    }
    end(connection, send).await
}

/// The service says nothing more.
async fn end(connection: &quinn::Connection, send: &mut quinn::SendStream) -> Option<()> {
    send.finish().ok()?;
    connection.closed().await;
    Some(())
}

fn place(kept: &Mutex<Kept>, id: &JobId) -> Option<usize> {
    let at = id.as_str().strip_prefix("job-")?.parse().ok()?;
    (at < kept.lock().unwrap().jobs.len()).then_some(at)
}

/// What is said of a job after so many of three steps.
fn job(kept: &Kept, at: usize, step: u64) -> String {
    let cancelled = kept.cancelled.contains(&at);
    let broken = kept.jobs[at].views.contains(&"broken".to_owned());
    let state = match step {
        _ if cancelled => "cancelled",
        0 => "queued",
        3 if broken => "failed",
        3 => "done",
        _ => "running",
    };
    let windows = kept.windows.len();
    let counted = if step == 3 { windows.to_string() } else { "null".to_owned() };
    let views = kept.jobs[at].views.iter().map(|view| {
        format!("{{\"view\":\"{view}\",\"windows\":{counted},\"hash\":\"{}\"}}", "ab".repeat(32))
    });
    let views = views.collect::<Vec<_>>().join(",");
    let error = if state == "failed" { "\"the file x.parquet is damaged\"" } else { "null" };
    format!(
        "{{\"id\":\"job-{at}\",\"state\":\"{state}\",\"owner\":\"me\",\"views\":[{views}],\
         \"rows\":{{\"done\":{step},\"total\":3}},\"remaining_seconds\":null,\"error\":{error},\
         \"of_a_later_version\":[1,2]}}"
    )
}
