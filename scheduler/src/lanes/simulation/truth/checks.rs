//! What must hold at any time, and when nothing more starts.

use super::{Phase, TrueJob, Truth};
use crate::lanes::simulation::world::World;
use crate::lanes::{JobState, Lanes, LanesStatus, Step};

impl Truth {
    /// What must hold when nothing more starts.
    pub(in crate::lanes::simulation) fn check(&mut self, world: &World, lanes: &Lanes) {
        let status = lanes.status();
        self.check_status(world, lanes, &status);
        let now_ns = self.now_ns;
        for flight in self.flights.iter().flatten() {
            self.longest_ns = self.longest_ns.max(now_ns - flight.started_ns);
        }
        self.note_pairs(world);

        let is_paused = self.step != Step::Normal;
        let is_tight = self.is_tight(world);
        let largest = self.jobs.values().filter(|job| job.phase == Phase::Running);
        let largest = largest.map(TrueJob::largest_part).max().unwrap_or(0);
        let is_over = self.held() + largest > world.config.host_bytes_max;
        for job in self.jobs.values_mut() {
            job.was_tight |= is_tight;
            if is_paused || is_over || job.ready == 0 {
                job.waiting_since_ns = now_ns;
            }
        }
        self.is_excused = is_paused || is_over;
        for (_, job) in self.ready() {
            let (waited_ns, max_ns) =
                (now_ns - job.waiting_since_ns, self.wait_ns_max(world, job.was_tight));
            assert!(waited_ns <= max_ns, "{:?} starves: {waited_ns} of {max_ns} ns", job.id);
        }

        // Nothing stands still that could go on.
        let is_free = self.flights.iter().any(Option::is_none);
        let has_ready = self.ready().next().is_some();
        let has_finished = self.jobs.values().any(|job| job.phase == Phase::Finished);
        let is_idle = self.flights.iter().all(Option::is_none);
        if !is_paused && is_free && has_ready {
            assert!(is_tight, "a worker is free, a part is ready, and all of it fits");
            assert!(!is_idle || has_finished, "nothing is under way, and nothing starts");
        }
        let timeout = lanes.poll_timeout();
        assert!(timeout.is_none_or(|timeout| timeout > now_ns), "{timeout:?} has passed");
        if let Some((at_ns, ..)) = self.backing_off.first() {
            assert!(timeout.is_some_and(|timeout| timeout <= *at_ns), "a retry is lost");
        }
        assert!(!is_paused || timeout.is_some(), "the batch lane is paused for ever");
        if self.jobs.values().all(|job| job.phase == Phase::Queued) {
            assert!(self.jobs.is_empty(), "jobs are queued, and none runs");
        }
    }

    /// What must hold at any time.
    pub(in crate::lanes::simulation) fn check_status(
        &mut self,
        world: &World,
        lanes: &Lanes,
        status: &LanesStatus,
    ) {
        assert_eq!((status.held_bytes, status.reading_bytes), (self.held(), self.reading()));
        assert_eq!(status.slots_busy, self.flights.iter().flatten().count());
        assert_eq!(status.step, self.step);
        assert_eq!(status.jobs.len(), self.jobs.len());
        let flying_ns: u64 = self.flights.iter().flatten().map(|flight| flight.predicted_ns).sum();
        let (charged_ns, done_ns) = (status.counters.charged_ns, self.busy_ns + flying_ns);
        assert_eq!(charged_ns, done_ns, "what is charged is not what is done");
        let mut positions = Vec::new();
        let mut before: Vec<(&TrueJob, usize)> = Vec::new();
        for (job, said) in self.jobs.values().zip(&status.jobs) {
            let parts = || job.parts.iter();
            let differs_ns = said.attained_ns.abs_diff(job.received_ns);
            assert!(
                differs_ns <= job.about,
                "{:?} was charged {} ns for {}",
                job.id,
                said.attained_ns,
                job.received_ns
            );
            if job.phase != Phase::Ended {
                let done = parts().filter(|part| part.counted > 0).count();
                assert_eq!(said.parts_done as usize, done);
                assert_eq!(said.parts_backing_off, parts().filter(|p| p.backs_off).count());
                assert_eq!(said.parts_running as usize, parts().filter(|p| p.is_flying).count());
            }
            match (job.phase, said.state) {
                (Phase::Queued, JobState::Queued { position }) => {
                    assert_eq!(lanes.position(job.id), Some(position));
                    positions.push(position);
                    for (earlier, place) in &before {
                        let is_of_owner = earlier.spec.owner == job.spec.owner;
                        let is_first = earlier.spec.priority >= job.spec.priority;
                        assert!(!(is_of_owner && is_first) || *place < position);
                    }
                    before.push((job, position));
                }
                (Phase::Running, JobState::Running)
                | (Phase::Finished, JobState::Finished)
                | (Phase::Ended, JobState::Ending) => {}
                differs => panic!("{:?}: {differs:?}", job.id),
            }
        }
        positions.sort_unstable();
        assert!(positions.iter().copied().eq(0..positions.len()), "{positions:?}");
        assert!(positions.len() == status.queued);
        self.is_disturbed = false;
        for (job, said) in self.jobs.values_mut().zip(&status.jobs) {
            job.position = match said.state {
                JobState::Queued { position } => Some(position),
                _ => None,
            };
            let max = world.config.passes_max;
            assert!(job.passes <= max, "{:?} was passed {} times of {max}", job.id, job.passes);
        }
    }
}
