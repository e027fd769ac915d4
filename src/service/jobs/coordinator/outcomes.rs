//! What follows from what scanning threads report.

use anyhow::Result;
use isotick_kernels::EngineKind;
use isotick_scheduler::lanes::{HeldFit, JobId, Verdict};

use super::{Coordinator, Done, REPLANS_MAX, Report, held_bytes};
use crate::service::jobs::job::Progress;
use crate::service::jobs::plan::Group;
use crate::service::jobs::record::{Id, ResultOf, State};
use crate::service::jobs::work::{PartDone, PlannedJob, Trouble};

impl Coordinator {
    pub(super) fn handle_report(&mut self, Report { slot, busy, on_core_ns, done }: Report) {
        let parts = std::mem::take(&mut self.under_way[slot]);
        let (now, busy_ns) = (self.now_ns(), busy.as_nanos() as u64);
        match done {
            Done::Planned(result) => {
                let number = parts[0].0;
                let id = self.numbers.get(&number).cloned();
                let again = self.settle(now, slot, number, busy_ns, result.as_ref().err());
                match (id, result) {
                    (None, _) => {}
                    (Some(id), Ok(planned)) => self.planned(&id, planned),
                    (Some(id), Err(trouble)) => self.troubled(&id, trouble, again),
                }
            }
            Done::Finished(result) => {
                let number = parts[0].0;
                let id = self.numbers.get(&number).cloned();
                let again = self.settle(now, slot, number, busy_ns, result.as_ref().err());
                match (id, result) {
                    (None, _) => {}
                    (Some(id), Ok(Some(results))) => self.finished(&id, results),
                    (Some(id), Ok(None)) => self.go_on_closing(&id),
                    (Some(id), Err(trouble)) => self.troubled(&id, trouble, again),
                }
            }
            Done::Parts(results) => {
                let busy = (busy_ns, on_core_ns);
                self.handle_parts(now, slot, busy, &parts, results);
            }
        }
        self.drain_events();
    }

    /// Tells the lanes how a dispatch of one job alone ended; whether it is tried again.
    fn settle(
        &mut self,
        now: u64,
        slot: usize,
        number: JobId,
        busy_ns: u64,
        trouble: Option<&Trouble>,
    ) -> bool {
        let again = match trouble {
            None => true,
            Some(trouble) => {
                let retryable = matches!(trouble, Trouble::Failed(_));
                let verdict = self.lanes.handle_failed(now, slot, number, retryable);
                matches!(verdict, Verdict::Retry { .. })
            }
        };
        self.lanes.handle_done(now, slot, busy_ns);
        again
    }

    fn handle_parts(
        &mut self,
        now: u64,
        slot: usize,
        busy: (u64, Option<u64>),
        parts: &[(JobId, u32)],
        results: Vec<Result<PartDone, Trouble>>,
    ) {
        let mut again = Vec::new();
        for ((number, _), result) in parts.iter().zip(&results) {
            if let Ok(done) = result {
                self.lanes.handle_own(slot, *number, done.own_ns);
            }
            let retry = result.as_ref().err().is_some_and(|trouble| {
                let retryable = matches!(trouble, Trouble::Failed(_));
                let verdict = self.lanes.handle_failed(now, slot, *number, retryable);
                matches!(verdict, Verdict::Retry { .. })
            });
            again.push(retry);
        }
        self.lanes.handle_done(now, slot, busy.0);
        self.learn(busy, parts, &results);
        for (((number, part), result), again) in parts.iter().zip(results).zip(again) {
            let Some(id) = self.numbers.get(number).cloned() else { continue };
            let Some(job) = self.jobs.get_mut(&id) else { continue };
            let Some(running) = job.running.clone() else { continue };
            match result {
                Ok(done) => {
                    let group = &running.groups[*part as usize];
                    job.parts.done += 1;
                    job.rows.done += group.rows_counted;
                    self.rows += group.rows_counted;
                    job.bytes.done += group.bytes_counted;
                    job.record.rows_read += done.rows_read;
                    job.record.rows_from_states += done.rows_from_states;
                    done.rows.iter().for_each(|&(kind, rows)| job.record.count_engine(kind, rows));
                    job.record.fallback = job.record.fallback.take().or(done.fallback);
                    let held = held_bytes(&running);
                    if self.lanes.handle_held_bytes(now, *number, held) == Some(HeldFit::Never) {
                        self.fail(
                            &id,
                            format!(
                                "the windows that several parts touch take {held} bytes: start the \
                                 service with a greater --scan-memory-max, or ask for fewer keys \
                                 or a shorter time"
                            ),
                        );
                    }
                }
                Err(trouble) => self.troubled(&id, trouble, again),
            }
        }
    }

    /// Learns from a dispatch what rows take. What another program took of the core does not count,
    /// what a device took does.
    fn learn(
        &mut self,
        (busy_ns, on_core_ns): (u64, Option<u64>),
        parts: &[(JobId, u32)],
        results: &[Result<PartDone, Trouble>],
    ) {
        let (mut own_ns, mut rows_read) = (0, Some(0));
        let on_device = |result: &Result<PartDone, Trouble>| {
            let rows = result.iter().flat_map(|done| &done.rows);
            rows.into_iter().any(|(kind, rows)| *kind != EngineKind::Cpu && *rows > 0)
        };
        let counted = match on_core_ns {
            Some(ns) if !results.iter().any(on_device) => ns as f64 / busy_ns.max(1) as f64,
            _ => 1.0,
        };
        let counted = |ns: f64| (ns * counted.min(1.0)) as u64;
        for ((number, part), result) in parts.iter().zip(results) {
            let job = self.numbers.get(number).and_then(|id| self.jobs.get(id));
            let running = job.and_then(|job| job.running.as_ref());
            let (Some(job), Some(running), Ok(done)) = (job, running, result) else {
                rows_read = None;
                continue;
            };
            own_ns += done.own_ns;
            let group = &running.groups[*part as usize];
            // States are none, and of some keys only some rows are read.
            let is_whole = done.rows_reduced == group.rows;
            rows_read = rows_read.filter(|_| is_whole).map(|rows: u64| rows.max(group.rows));
            let of_views: u64 = done.views_ns.iter().sum();
            for (&ns, view) in done.views_ns.iter().zip(group.views.clone()) {
                // With what finishing the piece took.
                let ns = counted(ns as f64 * done.own_ns as f64 / of_views.max(1) as f64);
                self.learned.note_view(&job.record.asked, view, done.rows_reduced, ns);
            }
        }
        if let Some(rows) = rows_read {
            self.learned.note_reading(rows, counted(busy_ns.saturating_sub(own_ns) as f64));
        }
    }

    /// What the lanes say: that jobs were let in shows when something of them runs, and that they
    /// are done when what they were done with reports.
    pub(super) fn drain_events(&mut self) {
        while self.lanes.poll_event().is_some() {}
    }

    fn planned(&mut self, id: &Id, planned: PlannedJob) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        let PlannedJob { running, done, rows_read, rows_from_states, rows } = planned;
        let groups = &running.groups;
        let sum = |of: fn(&Group) -> u64| {
            let total = groups.iter().map(of).sum();
            let done = done.iter().filter_map(|part| groups.get(*part as usize)).map(of).sum();
            Progress { done, total }
        };
        job.parts = sum(|_| 1);
        job.rows = sum(|group| group.rows_counted);
        job.bytes = sum(|group| group.bytes_counted);
        job.rows_before = job.rows.done;
        job.fresh = None;
        job.record.rows_read = rows_read;
        job.record.rows_from_states = rows_from_states;
        job.record.engines.clear();
        rows.iter().for_each(|&(kind, rows)| job.record.count_engine(kind, rows));
        job.record.manifest_version = Some(running.frozen.version);
        job.record.log_end = Some(running.frozen.end);
        job.parts_finished = done;
        job.running = Some(running);
        for (fetch, feed) in std::mem::take(&mut job.fetches) {
            if fetch.partial {
                self.fetch(id, fetch, feed);
            } else if let Some(job) = self.jobs.get_mut(id) {
                job.fetches.push((fetch, feed));
            }
        }
        self.keep(id);
        self.go_on(id);
    }

    fn finished(&mut self, id: &Id, results: Vec<ResultOf>) {
        self.withdraw(id);
        let Some(job) = self.jobs.get_mut(id) else { return };
        job.record.result_bytes = self.store.result_bytes(id, results.len());
        job.record.results = results;
        self.end(id, State::Done, None);
        self.trim();
    }

    fn troubled(&mut self, id: &Id, trouble: Trouble, again: bool) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        match trouble {
            Trouble::Cancelled => {}
            Trouble::Gone(error) => {
                job.record.replans += 1;
                tracing::info!("job {id} begins anew: {error:#}");
                if job.record.replans > REPLANS_MAX {
                    return self.fail(id, format!("{error:#}"));
                }
                self.begin_anew(id);
            }
            Trouble::Failed(error) if again => {
                job.record.retries += 1;
                tracing::warn!("something of job {id} is tried again: {error:#}");
            }
            Trouble::Failed(error) | Trouble::Hopeless(error) => {
                self.fail(id, format!("{error:#}"));
            }
        }
    }
}
