//! What clients ask of the jobs.

use std::sync::Arc;

use anyhow::{Context, Result};
use isotick_ingest::{Feed, JobOwner};
use isotick_model::LogPosition;
use isotick_model::view::View;
use isotick_storage::Manifest;
use isotick_wire::jobs;
use isotick_wire::{Code, Control, FetchResult, JobRequest, Refusal, SubmitJob};
use serde_json::{Value, json};

use super::coordinator::{Coordinator, why_none};
use super::fetch::{self, Fetch};
use super::job::{Job, Watcher};
use super::record::{Asked, AskedView, Engine, Id, Record, State, Truth, id_of};
use super::{Request, refusal};
use crate::service::now_ns;

impl Coordinator {
    pub(super) fn handle_request(&mut self, request: Request) {
        let Request { request, owner, feed, log_end, last_ticks } = request;
        let answered = match request {
            JobRequest::Submit(submit) => self
                .submit(&submit, &owner, log_end, last_ticks)
                .map(|json| Some((json, feed.clone()))),
            JobRequest::List => Ok(Some((self.list(&owner), feed.clone()))),
            JobRequest::Show(id) => self
                .known(id.as_str(), &owner)
                .map(|id| Some((self.json(&id, false), feed.clone()))),
            JobRequest::Cancel(id) => self.known(id.as_str(), &owner).map(|id| {
                self.cancel(&id, &owner);
                Some((self.json(&id, false), feed.clone()))
            }),
            JobRequest::Retry(id) => self.known(id.as_str(), &owner).and_then(|id| {
                self.retry(&id)?;
                Ok(Some((self.json(&id, false), feed.clone())))
            }),
            JobRequest::Watch(id) => self.known(id.as_str(), &owner).map(|id| {
                let job = self.jobs.get_mut(&id).expect("it is known");
                job.watchers.push(Watcher { feed: feed.clone(), told: None });
                self.tell_watchers(&id);
                None
            }),
            JobRequest::Fetch(asked) => self.known(asked.id.as_str(), &owner).map(|id| {
                self.fetch(&id, asked, feed.clone());
                None
            }),
        };
        match answered {
            Ok(None) => {}
            // A feed that was just opened has room for one message, unless its client is gone.
            Ok(Some((json, feed))) => {
                if feed.try_put_control(&Control::JobsReply(json.to_string())).is_ok() {
                    feed.finish();
                }
            }
            Err(refusal) => feed.refuse(refusal),
        }
    }

    /// The job of this name, where the asker may know of it.
    fn known(&self, id: &str, owner: &JobOwner) -> Result<Id, Refusal> {
        let id = Id(id.to_owned());
        let known = self.jobs.get(&id).filter(|job| job.record.is_of(&owner.name, owner.is_admin));
        known.map(|_| id.clone()).ok_or_else(|| {
            let text = format!("there is no job {id} of yours; `jobs list` names those there are");
            refusal(Code::UnknownJob, text)
        })
    }

    fn json(&self, id: &Id, cached: bool) -> Value {
        self.jobs[id].to_json(self.position(id), cached)
    }

    fn list(&self, owner: &JobOwner) -> Value {
        let mut mine: Vec<&Job> = self
            .jobs
            .values()
            .filter(|job| job.record.is_of(&owner.name, owner.is_admin))
            .collect();
        mine.sort_unstable_by_key(|job| std::cmp::Reverse(job.record.submitted_ns));
        let jobs = mine.iter().map(|job| job.to_json(self.position(&job.record.id), false));
        json!({ "jobs": jobs.collect::<Vec<_>>() })
    }

    fn submit(
        &mut self,
        submit: &SubmitJob,
        owner: &JobOwner,
        log_end: LogPosition,
        last_ticks: Option<LogPosition>,
    ) -> Result<Value, Refusal> {
        let asked = self.asked(submit, owner)?;
        let unavailable = |error: anyhow::Error| refusal(Code::Unavailable, format!("{error:#}"));
        let frozen = self.freeze(&asked, Some(log_end)).map_err(unavailable)?;
        // What files hold already is told by their names.
        let last_record = last_ticks.filter(|last| last.0 >= frozen.covered).map(|last| last.0);
        // Without those of states, which say the same again.
        let files = frozen.files.files.iter().map(|file| file.file.path.as_str());
        let id = id_of(&asked, files, last_record).map_err(unavailable)?;
        if let Some(job) = self.jobs.get_mut(&id) {
            if !job.record.owners.contains(&owner.name) {
                job.record.owners.push(owner.name.clone());
            }
            match job.record.state {
                State::Done if asked.no_rollup => self.forget(&id),
                State::Done => {
                    self.keep(&id);
                    return Ok(self.json(&id, true));
                }
                State::Failed | State::Cancelled => {
                    self.retry(&id)?;
                    return Ok(self.json(&id, false));
                }
                _ => {
                    self.keep(&id);
                    return Ok(self.json(&id, false));
                }
            }
        }
        self.make_room()?;
        let record = Record {
            id: id.clone(),
            asked,
            definitions: self.definitions_text.clone(),
            owners: vec![owner.name.clone()],
            priority: submit.priority.get(),
            state: State::Queued,
            error: None,
            submitted_ns: now_ns(),
            finished_ns: None,
            kept_until_ns: None,
            results: Vec::new(),
            result_bytes: 0,
            engines: Default::default(),
            rows_read: 0,
            rows_from_states: 0,
            manifest_version: None,
            log_end: None,
            retries: 0,
            replans: 0,
            fallback: None,
            seconds: 0.0,
        };
        self.store.put(&record).map_err(unavailable)?;
        self.jobs.insert(id.clone(), Job::new(record, Some(frozen)));
        self.enter(&id);
        Ok(self.json(&id, false))
    }

    /// Looks over what is asked for.
    fn asked(&self, submit: &SubmitJob, owner: &JobOwner) -> Result<Asked, Refusal> {
        let views = submit.views.iter().map(|name| {
            let known = self.definitions.view(name).ok().filter(|_| owner.may_scan(name));
            known.ok_or_else(|| {
                let names = self.definitions.views.iter().map(|view| view.name.as_str());
                let names: Vec<_> = names.filter(|name| owner.may_scan(name)).collect();
                let text = format!("there is no view `{name}`; declared are: {}", names.join(", "));
                refusal(Code::UnknownView, text)
            })
        });
        let views = views.collect::<Result<Vec<&View>, _>>()?;
        let wrong = |text: String| refusal(Code::InvalidRequest, text);
        let first = views.first().ok_or_else(|| wrong("which view to scan?".into()))?;
        if let Some(other) = views.iter().find(|view| view.stream != first.stream) {
            return Err(wrong(format!(
                "{} is a view of stream {} and {} of {}: one scan reads one stream, so scan them \
                 apart",
                first.name, first.stream, other.name, other.stream
            )));
        }
        if let (Some(from), Some(to)) = (submit.from_ns, submit.to_ns)
            && from >= to
        {
            return Err(wrong("`from` is not before `to`: no window can lie between them".into()));
        }
        let schema = self.definitions.stream(&first.stream).map_err(|e| wrong(e.to_string()))?;
        let keys: Vec<Vec<String>> = submit.keys.iter().map(|key| key.components()).collect();
        if let Some(key) = keys.iter().find(|key| key.len() != schema.keys.len()) {
            return Err(wrong(format!(
                "key {}: the stream's key has {} columns",
                key.join(","),
                schema.keys.len()
            )));
        }
        let view = |view: &&View| AskedView {
            view: view.name.clone(),
            definition: view.definition.0.clone(),
        };
        Ok(Asked {
            stream: first.stream.clone(),
            views: views.iter().map(view).collect(),
            from_ns: submit.from_ns,
            to_ns: submit.to_ns,
            keys,
            truth: match submit.truth {
                jobs::Truth::Now => Truth::Now,
                jobs::Truth::Seen => Truth::Seen,
                jobs::Truth::Late => Truth::Late,
            },
            engine: match submit.engine {
                jobs::Engine::Auto => Engine::Auto,
                jobs::Engine::Cpu => Engine::Cpu,
                jobs::Engine::Gpu => Engine::Gpu,
            },
            no_rollup: submit.no_rollup,
        })
    }

    /// Throws the oldest finished jobs away where there are too many to keep.
    fn make_room(&mut self) -> Result<(), Refusal> {
        while self.jobs.len() >= self.jobs_max {
            let over = self.jobs.values().filter(|job| job.is_over());
            let oldest = over.min_by_key(|job| job.record.finished_ns);
            let Some(id) = oldest.map(|job| job.record.id.clone()) else {
                let text = format!("{} jobs wait already: try again later", self.jobs.len());
                return Err(refusal(Code::Busy, text));
            };
            self.forget(&id);
        }
        Ok(())
    }

    /// Throws the oldest results away where all of them take too much; the newest stays.
    pub(super) fn trim(&mut self) {
        let bytes =
            |jobs: &Self| -> u64 { jobs.jobs.values().map(|job| job.record.result_bytes).sum() };
        while bytes(self) > self.results_max {
            let mut done: Vec<(Option<i64>, &Id)> = self
                .jobs
                .iter()
                .filter(|(_, job)| job.record.result_bytes > 0)
                .map(|(id, job)| (job.record.finished_ns, id))
                .collect();
            done.sort_unstable();
            let [(_, oldest), _, ..] = &done[..] else { return };
            let oldest = (*oldest).clone();
            self.forget(&oldest);
        }
    }

    /// Throws a job away that is over.
    fn forget(&mut self, id: &Id) {
        self.store.remove(id);
        self.jobs.remove(id);
    }

    /// One of its owners does not want a job any more; when none is left, it ends.
    fn cancel(&mut self, id: &Id, owner: &JobOwner) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        if job.is_over() {
            return;
        }
        let others = job.record.owners.iter().any(|of| *of != owner.name);
        if others && job.record.owners.contains(&owner.name) && !owner.is_admin {
            job.record.owners.retain(|of| *of != owner.name);
            return self.keep(id);
        }
        self.withdraw(id);
        self.end(id, State::Cancelled, None);
    }

    /// Goes on with a job that failed, from the pieces that it has; begins a cancelled one anew.
    fn retry(&mut self, id: &Id) -> Result<(), Refusal> {
        let Some(job) = self.jobs.get_mut(id) else { return Ok(()) };
        match job.record.state {
            State::Failed | State::Cancelled => {}
            State::Done => {
                let text = format!("job {id} is done: its result can be fetched");
                return Err(refusal(Code::InvalidRequest, text));
            }
            _ => return Ok(()),
        }
        let was_cancelled = job.record.state == State::Cancelled;
        job.record.state = State::Queued;
        job.record.error = None;
        job.record.finished_ns = None;
        job.record.kept_until_ns = None;
        job.record.replans = 0;
        self.keep(id);
        match was_cancelled {
            true => self.begin_anew(id),
            false => self.enter(id),
        }
        Ok(())
    }

    /// Sends a job's windows, or keeps the wish until there are some.
    pub(super) fn fetch(&mut self, id: &Id, asked: FetchResult, feed: Arc<Feed>) {
        let Some(job) = self.jobs.get(id) else { return };
        let json = self.json(id, false).to_string();
        let record = job.record.clone();
        let paths = (0..record.asked.views.len()).map(|view| self.store.result(id, view)).collect();
        let running = job.running.clone();
        let fetch = Fetch { record, feed: feed.clone(), format: asked.format };
        let started = match (job.record.state, running) {
            (State::Done, _) => {
                if feed.try_put_control(&Control::JobsReply(json.clone())).is_err() {
                    return;
                }
                fetch::spawn(move || fetch.whole(paths, json))
            }
            (state, _) if state.is_over() => return feed.refuse(why_none(&job.record)),
            (_, Some(running)) if asked.partial => {
                if feed.try_put_control(&Control::JobsReply(json)).is_err() {
                    return;
                }
                fetch::spawn(move || fetch.partial(&running))
            }
            _ => {
                // Where it stands now; its windows when there are some.
                if feed.try_put_control(&Control::JobsReply(json)).is_ok() {
                    let job = self.jobs.get_mut(id).expect("it is there");
                    job.fetches.push((asked, feed));
                }
                return;
            }
        };
        if let Err(error) = started {
            feed.refuse(refusal(Code::Busy, format!("{error:#}: try again later")));
        }
    }

    /// Tells those who watch a job where it stands, if that is new.
    pub(super) fn tell_watchers(&mut self, id: &Id) {
        let Some(job) = self.jobs.get(id) else { return };
        let text = self.json(id, false).to_string();
        let is_over = job.is_over();
        let Some(job) = self.jobs.get_mut(id) else { return };
        job.watchers.retain_mut(|watcher| {
            if watcher.told.as_ref() != Some(&text) {
                match watcher.feed.try_put_control(&Control::JobsReply(text.clone())) {
                    Ok(true) => watcher.told = Some(text.clone()),
                    // A slow client is told what is new when it has read what it has.
                    Ok(false) => return true,
                    Err(_) => return false,
                }
            }
            if is_over {
                watcher.feed.finish();
            }
            !is_over
        });
        job.fetches.retain(|(_, feed)| !feed.is_closed());
    }

    /// The views that are asked for.
    pub(super) fn views_of(&self, asked: &Asked) -> Result<Vec<&View>> {
        let view = |of: &AskedView| self.definitions.view(&of.view).context("it is unknown");
        asked.views.iter().map(view).collect()
    }

    /// The manifest, where no commit was made since the start.
    pub(super) fn read_manifest(&self) -> isotick_storage::Result<Arc<Manifest>> {
        Ok(Arc::new(Manifest::read(&self.folder)?))
    }
}
