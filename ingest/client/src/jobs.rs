//! Scans that the service makes: submitting, watching, and reading their windows.

mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Buf, Bytes};
use isotick_model::results::{ResultSchema, WindowRow};
use isotick_wire::{
    Control, DecodeError, FetchResult, Format, JobId, JobRequest, Kind, ResultView, Role,
    SubmitJob, windows,
};

pub use isotick_wire::jobs::{Engine, Priority, Truth};
pub use status::{JobState, JobStatus, JobView, Progress};

use crate::connect::{Inbox, Link, Options, Peer};
use crate::error::ClientError;
use crate::reconnect::{Backoff, Reconnect};
use crate::subscriber::ask;

/// The jobs of a service. Every call is a connection of its own.
#[derive(Clone, Debug)]
pub struct Jobs {
    address: String,
    options: Options,
}

impl Jobs {
    /// Of the service at `HOST:PORT`. Connects when something is asked.
    pub fn at(address: impl Into<String>, options: &Options) -> Self {
        Self { address: address.into(), options: options.clone() }
    }

    /// Has a scan made. The same submission is the same job, whether it is still under way or done:
    /// after a lost connection this may be called again.
    ///
    /// # Errors
    ///
    /// The service is not reachable, or refuses: unknown view, no right to scan it, views of
    /// several streams, a queue that is full.
    pub async fn submit(&self, what: &SubmitJob) -> Result<JobStatus, ClientError> {
        self.ask(JobRequest::Submit(what.clone())).await
    }

    /// The jobs that one may see, newest first.
    ///
    /// # Errors
    ///
    /// The service is not reachable, or refuses.
    pub async fn list(&self) -> Result<Vec<JobStatus>, ClientError> {
        let (answer, link) =
            ask(&self.address, Role::Jobs(JobRequest::List), &self.options).await?;
        match answer {
            Control::JobsReply(json) => {
                JobStatus::parse_list(&json).map_err(|source| link.recv.protocol(source))
            }
            _ => Err(link.recv.unexpected()),
        }
    }

    /// Where a job stands now.
    ///
    /// # Errors
    ///
    /// The service is not reachable, or has no such job for who asks.
    pub async fn show(&self, id: &JobId) -> Result<JobStatus, ClientError> {
        self.ask(JobRequest::Show(id.clone())).await
    }

    /// Ends a job.
    ///
    /// # Errors
    ///
    /// As [`show`](Self::show), and for a job that is over already.
    pub async fn cancel(&self, id: &JobId) -> Result<JobStatus, ClientError> {
        self.ask(JobRequest::Cancel(id.clone())).await
    }

    /// Tries the failed parts of a failed job again, or a cancelled job.
    ///
    /// # Errors
    ///
    /// As [`show`](Self::show), and for a job that is neither.
    pub async fn retry(&self, id: &JobId) -> Result<JobStatus, ClientError> {
        self.ask(JobRequest::Retry(id.clone())).await
    }

    /// Follows a job.
    ///
    /// # Errors
    ///
    /// As [`show`](Self::show).
    pub async fn watch(&self, id: &JobId) -> Result<JobWatch, ClientError> {
        let (link, job) = self.open(JobRequest::Watch(id.clone())).await?;
        Ok(JobWatch { link, next: Some(job) })
    }

    /// Reads a job's windows, waiting until there are some.
    ///
    /// # Errors
    ///
    /// As [`show`](Self::show); for a job without a result, and for one whose result is no longer
    /// kept.
    pub async fn fetch(&self, what: FetchResult) -> Result<JobResult, ClientError> {
        self.fetch_through(what, Reconnect::never()).await
    }

    /// The same, but a connection that is lost after the first answer is tried again as `reconnect`
    /// says, and the windows go on where they were: each comes once. They are sent anew from the
    /// beginning and passed over here. A partial result, whose windows come in no order, ends with
    /// its connection.
    ///
    /// # Errors
    ///
    /// As [`fetch`](Self::fetch).
    pub async fn fetch_through(
        &self,
        what: FetchResult,
        reconnect: Reconnect,
    ) -> Result<JobResult, ClientError> {
        let (link, job) = self.open_result(&what).await?;
        let jobs = self.clone();
        Ok(JobResult {
            again: (!what.partial).then(|| (jobs, what, Backoff::new(reconnect))),
            link,
            job,
            view: None,
            received: BTreeMap::new(),
            given: BTreeMap::new(),
            told: BTreeSet::new(),
        })
    }

    async fn open_result(&self, what: &FetchResult) -> Result<(Link, JobStatus), ClientError> {
        let role = Role::Jobs(JobRequest::Fetch(what.clone()));
        let mut link = Link::open(&self.address, role, &self.options).await?;
        // However long the job takes.
        let message = link.recv.message().await?;
        let job = job_in(link.recv.control(&message)?, &link.recv)?;
        Ok((link, job))
    }

    /// Waits until a job is done. `progress` hears of every step; a connection that is lost after
    /// the first is tried again as `reconnect` says.
    ///
    /// # Errors
    ///
    /// [`ClientError::JobEnded`] when it failed or was cancelled; as [`show`](Self::show).
    pub async fn wait(
        &self,
        id: &JobId,
        reconnect: Reconnect,
        mut progress: impl FnMut(&JobStatus),
    ) -> Result<JobStatus, ClientError> {
        let (mut backoff, began) = (Backoff::new(reconnect), AtomicBool::new(false));
        let mut step = |job: &JobStatus| {
            began.store(true, Ordering::Relaxed);
            progress(job);
        };
        loop {
            match self.follow(id, &mut backoff, &mut step).await {
                Ok(job) => return job.succeeded(),
                Err(error) if !began.load(Ordering::Relaxed) => return Err(error),
                Err(error) => backoff.wait(error).await?,
            }
        }
    }

    /// Has a scan made and waits until it is done. A connection that is lost after the submission
    /// is tried again as `reconnect` says: the job goes on meanwhile.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit) and [`wait`](Self::wait).
    pub async fn run(
        &self,
        what: &SubmitJob,
        reconnect: Reconnect,
        mut progress: impl FnMut(&JobStatus),
    ) -> Result<JobStatus, ClientError> {
        let (mut backoff, began) = (Backoff::new(reconnect), AtomicBool::new(false));
        let mut step = |job: &JobStatus| {
            began.store(true, Ordering::Relaxed);
            progress(job);
        };
        loop {
            match self.run_once(what, &mut backoff, &mut step).await {
                Err(error) if began.load(Ordering::Relaxed) => backoff.wait(error).await?,
                done => return done,
            }
        }
    }

    /// Has a scan made, waits until it is done as [`run`](Self::run) does, and reads its windows as
    /// [`fetch_through`](Self::fetch_through) does.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run) and [`fetch`](Self::fetch).
    pub async fn scan(
        &self,
        what: &SubmitJob,
        format: Format,
        reconnect: Reconnect,
        progress: impl FnMut(&JobStatus),
    ) -> Result<JobResult, ClientError> {
        let job = self.run(what, reconnect.clone(), progress).await?;
        self.fetch_through(FetchResult { id: job.id, partial: false, format }, reconnect).await
    }

    async fn run_once(
        &self,
        what: &SubmitJob,
        backoff: &mut Backoff,
        progress: &mut impl FnMut(&JobStatus),
    ) -> Result<JobStatus, ClientError> {
        let (link, mut job) = self.open(JobRequest::Submit(what.clone())).await?;
        drop(link);
        backoff.progress();
        progress(&job);
        if !job.state.is_over() {
            job = self.follow(&job.id, backoff, progress).await?;
        }
        job.succeeded()
    }

    /// One connection's watching, to the end of the job.
    async fn follow(
        &self,
        id: &JobId,
        backoff: &mut Backoff,
        progress: &mut impl FnMut(&JobStatus),
    ) -> Result<JobStatus, ClientError> {
        let mut watch = self.watch(id).await?;
        loop {
            let Some(job) = watch.next().await? else {
                return Err(watch.link.recv.lost("the service closed the stream"));
            };
            backoff.progress();
            progress(&job);
            if job.state.is_over() {
                return Ok(job);
            }
        }
    }

    async fn ask(&self, request: JobRequest) -> Result<JobStatus, ClientError> {
        let (answer, link) = ask(&self.address, Role::Jobs(request), &self.options).await?;
        job_in(answer, &link.recv)
    }

    async fn open(&self, request: JobRequest) -> Result<(Link, JobStatus), ClientError> {
        let mut link = Link::open(&self.address, Role::Jobs(request), &self.options).await?;
        let answer = link.recv.answer(self.options.timeout).await?;
        let job = job_in(answer, &link.recv)?;
        Ok((link, job))
    }
}

fn job_in(answer: Control, inbox: &Inbox) -> Result<JobStatus, ClientError> {
    match answer {
        Control::JobsReply(json) => {
            JobStatus::parse(&json).map_err(|source| inbox.protocol(source))
        }
        _ => Err(inbox.unexpected()),
    }
}

/// A job, followed. Dropping it ends the watching, not the job.
pub struct JobWatch {
    link: Link,
    next: Option<JobStatus>,
}

impl JobWatch {
    /// Where the job stands: at once, then whenever it got on; `None` after the step that ended
    /// it. Giving up waiting loses nothing.
    ///
    /// # Errors
    ///
    /// The connection broke or the service stops; the job goes on.
    pub async fn next(&mut self) -> Result<Option<JobStatus>, ClientError> {
        if let Some(job) = self.next.take() {
            return Ok(Some(job));
        }
        let inbox = &mut self.link.recv;
        let Some(message) = inbox.message_or_end().await? else { return Ok(None) };
        match message.kind {
            Kind::Control => job_in(inbox.control(&message)?, inbox).map(Some),
            _ => Err(inbox.unexpected()),
        }
    }

    /// Who answered; its notice is for the user.
    pub fn peer(&self) -> &Peer {
        &self.link.peer
    }
}

/// The windows of a job, as they arrive.
pub struct JobResult {
    /// What is asked again where, once the connection is lost.
    again: Option<(Jobs, FetchResult, Backoff)>,
    link: Link,
    job: JobStatus,
    view: Option<ResultView>,
    /// Windows that came over this connection, by the view's place.
    received: BTreeMap<u32, u64>,
    /// Windows that were given on, over all connections, and views.
    given: BTreeMap<u32, u64>,
    told: BTreeSet<u32>,
}

/// A piece of a result.
#[derive(Clone, Debug, PartialEq)]
pub enum ResultItem {
    /// The windows that follow are of this view.
    View {
        /// Its place in the submission, from 0.
        index: usize,
        /// Its name.
        view: String,
        /// The columns of its windows.
        schema: ResultSchema,
    },
    /// Windows, where [`Format::Windows`] was asked for.
    Windows(Vec<WindowRow>),
    /// Windows as the bytes of one Arrow IPC stream, where [`Format::Arrow`] was asked for.
    Arrow(Bytes),
}

impl JobResult {
    /// The next piece: a view, then its windows; `None` when the result is whole. For a whole
    /// result in its order views come as submitted, and their windows by key, then start; for a
    /// partial one a view may come several times. Giving up waiting loses nothing.
    ///
    /// # Errors
    ///
    /// The connection broke or the service stops, and nothing else is known of what is missing;
    /// [`ClientError::JobEnded`] when the job failed meanwhile; [`ClientError::Lost`] when the job
    /// was made anew with another result while the connection was lost.
    pub async fn next(&mut self) -> Result<Option<ResultItem>, ClientError> {
        loop {
            let mut error = match self.next_here().await {
                Err(error) => error,
                item => return item,
            };
            let Some((jobs, what, backoff)) = &mut self.again else { return Err(error) };
            let (link, job) = loop {
                backoff.wait(error).await?;
                match jobs.open_result(what).await {
                    Ok(opened) => break opened,
                    Err(another) => error = another,
                }
            };
            let hashes = |job: &JobStatus| -> Vec<_> {
                job.views.iter().map(|view| view.hash.clone()).collect()
            };
            let is_same = hashes(&job) == hashes(&self.job);
            (self.link, self.job, self.view) = (link, job, None);
            self.received.clear();
            if !is_same {
                self.again = None;
                let what = "the job has another result than before: fetch it from its beginning";
                return Err(self.link.recv.lost(what));
            }
        }
    }

    /// The next piece of this connection that was not given on before.
    async fn next_here(&mut self) -> Result<Option<ResultItem>, ClientError> {
        loop {
            let inbox = &mut self.link.recv;
            let Some(message) = inbox.message_or_end().await? else { return self.end() };
            if message.kind == Kind::Control {
                match inbox.control(&message)? {
                    Control::ResultView(view) => {
                        let ResultView { index, view: name, schema } = view.clone();
                        self.view = Some(view);
                        self.received.entry(index).or_default();
                        self.given.entry(index).or_default();
                        if self.again.is_some() && !self.told.insert(index) {
                            continue;
                        }
                        return Ok(Some(ResultItem::View {
                            index: index as usize,
                            view: name,
                            schema,
                        }));
                    }
                    other => self.job = job_in(other, inbox)?,
                }
                continue;
            }
            let Some(view) = &self.view else { return Err(inbox.unexpected()) };
            let received = self.received.entry(view.index).or_default();
            let given = self.given.entry(view.index).or_default();
            let mut payload = message.payload;
            let item = match message.kind {
                Kind::Windows => {
                    let batch = windows::decode(&payload, view.schema.columns.len())
                        .map_err(|source| inbox.protocol(source))?;
                    if batch.next_cursor != *received + batch.windows.len() as u64 {
                        return Err(inbox.unexpected());
                    }
                    let before = std::mem::replace(received, batch.next_cursor);
                    if *received <= *given {
                        continue;
                    }
                    // Less than there are: the batch ends behind what was given.
                    let known = given.saturating_sub(before) as usize;
                    *given = *received;
                    let rows = batch.windows.into_iter().skip(known).map(|window| window.row);
                    ResultItem::Windows(rows.collect())
                }
                Kind::Arrow => {
                    if payload.len() < 8 {
                        let what = "the cursor of an Arrow message";
                        return Err(inbox.protocol(DecodeError::Truncated { what }));
                    }
                    let next = payload.get_u64_le();
                    if next < *received {
                        return Err(inbox.unexpected());
                    }
                    let before = std::mem::replace(received, next);
                    if before < *given {
                        if *received <= *given {
                            continue;
                        }
                        self.again = None;
                        return Err(inbox.lost("the result comes in other pieces than before"));
                    }
                    *given = *received;
                    ResultItem::Arrow(payload)
                }
                Kind::Control | Kind::Ticks => return Err(inbox.unexpected()),
            };
            return Ok(Some(item));
        }
    }

    /// The service has said everything: it must be everything that there is.
    fn end(&self) -> Result<Option<ResultItem>, ClientError> {
        let job = self.job.clone().succeeded()?;
        let lacks = |(index, view): (u32, &JobView)| {
            view.windows.is_some_and(|all| self.received.get(&index).copied() != Some(all))
        };
        let missing = job.state != JobState::Done || (0..).zip(&job.views).any(lacks);
        match missing {
            true => Err(self.link.recv.lost("the result ended before it was whole")),
            false => Ok(None),
        }
    }

    /// The job as it was last told: when [`next`](Self::next) has given `None`, with the windows
    /// and the hash of each view.
    pub fn job(&self) -> &JobStatus {
        &self.job
    }

    /// Who answered; its notice is for the user.
    pub fn peer(&self) -> &Peer {
        &self.link.peer
    }
}

impl Drop for JobResult {
    fn drop(&mut self) {
        self.link.connection.close(0u32.into(), b"read");
    }
}

#[cfg(test)]
mod tests;
