//! How lanes, jobs and devices are shown: to watchers, and in the status.

use std::sync::Arc;
use std::time::Instant;

use isotick_scheduler::lanes::Step;
use serde_json::{Value, json};

use super::{Coordinator, SHOW, SHOWN, TELL};
use crate::device::Shown;
use crate::resident;
use crate::service::jobs::job::Job;
use crate::service::jobs::record::{Id, State};

impl Coordinator {
    /// Tells watchers what changed, and shows it all to whoever asks for the status.
    pub(super) fn tell(&mut self, now: bool) {
        if now || self.told.elapsed() >= TELL {
            self.told = Instant::now();
            let watched: Vec<Id> = self
                .jobs
                .iter()
                .filter(|(_, job)| !job.watchers.is_empty())
                .map(|(id, _)| id.clone())
                .collect();
            watched.iter().for_each(|id| self.tell_watchers(id));
        }
        if self.shown.elapsed() >= SHOW {
            self.show();
        }
    }

    pub(super) fn show(&mut self) {
        self.shown = Instant::now();
        let count = |state: &dyn Fn(State) -> bool| {
            self.jobs.values().filter(|job| state(job.record.state)).count()
        };
        let counts = json!({
            "queued": count(&|state| state == State::Queued),
            "running": count(&|state| !state.is_over() && state != State::Queued),
            "done": count(&|state| state == State::Done),
            "failed": count(&|state| state == State::Failed),
            "cancelled": count(&|state| state == State::Cancelled),
        });
        let mut newest: Vec<&Job> = self.jobs.values().collect();
        newest.sort_unstable_by_key(|job| std::cmp::Reverse(job.record.submitted_ns));
        newest.truncate(SHOWN);
        let ids: Vec<Id> = newest.into_iter().map(|job| job.record.id.clone()).collect();
        let list = ids.iter().map(|id| self.shown_of(id)).collect();
        self.share().set_status(self.lanes_json(), counts, list);
    }

    /// A job as the status shows it: one that is over does not change.
    fn shown_of(&mut self, id: &Id) -> Arc<Value> {
        let position = self.position(id);
        let job = self.jobs.get_mut(id).expect("it is there");
        if let Some(shown) = job.shown.as_ref().filter(|_| job.is_over()) {
            return shown.clone();
        }
        let shown = Arc::new(job.to_json(position, false));
        job.shown = job.is_over().then(|| shown.clone());
        shown
    }

    fn lanes_json(&self) -> Value {
        let status = self.lanes.status();
        let step = match status.step {
            Step::Normal => "none",
            Step::BatchPaused => "batch_paused",
            Step::LargerBatches => "larger_batches",
            Step::Backpressure => "backpressure",
        };
        let owners = status.owners.iter().map(|owner| {
            json!({
                "owner": &*owner.owner,
                "share": owner.share_permille as f64 / 1000.0,
                "busy_seconds": owner.attained_ns as f64 / 1e9,
            })
        });
        json!({
            "step": step,
            "slots": status.slots,
            "busy": status.slots_busy,
            "queued": status.queued,
            "host_bytes": status.held_bytes + status.reading_bytes,
            "host_bytes_max": status.host_bytes_max,
            "devices": self.devices.status().iter().map(device_json).collect::<Vec<_>>(),
            "resident": self.devices.resident().iter().map(resident::to_json).collect::<Vec<_>>(),
            "dispatches": status.counters.dispatches,
            "shared_reads": status.counters.parts_shared,
            "retries": status.counters.retries,
            "refused": status.counters.jobs_refused,
            "cancelled": status.counters.jobs_cancelled,
            "steps": status.counters.steps,
            "rows": self.rows,
            "reading_ns": self.learned.reading_ns(),
            "owners": owners.collect::<Vec<_>>(),
        })
    }
}

fn device_json(shown: &Shown) -> Value {
    let device = &shown.lane;
    json!({
        "description": shown.description,
        "is_lost": shown.is_lost,
        "failures": shown.failures.count,
        "failure": shown.failures.last,
        "has_live": device.has_live,
        "has_batch": device.has_batch,
        "live_waiting": device.live_waiting,
        "batch_waiting": device.batch_waiting,
        "dispatch_bytes": device.dispatch_bytes,
        "live_grants": device.live_grants,
        "batch_grants": device.batch_grants,
        "live_behind_batch_ns_max": device.live_behind_batch_ns_max,
    })
}
