//! Jobs: what a client asks of the scans that the service makes, and which windows are a result's.

use std::fmt;

use isotick_model::Key;
use isotick_model::results::ResultSchema;

use crate::DecodeError;
use crate::control::{Format, column_from_proto, column_to_proto};
use crate::proto::{self, jobs::Request as ProtoRequest};

/// The most views of one job.
pub const VIEWS_MAX: usize = 64;
/// The longest name of a view, in bytes.
pub const VIEW_NAME_BYTES_MAX: usize = 1_024;
/// The most keys that one job selects.
pub const KEYS_MAX: usize = 65_536;

/// The name that the service has given a job.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(String);

impl JobId {
    /// The longest id, in bytes.
    pub const LEN_MAX: usize = 64;

    /// `None` unless it is 1 to 64 ASCII letters, digits, `-` and `_`.
    pub fn new(text: impl Into<String>) -> Option<Self> {
        let text = text.into();
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let valid = (1..=Self::LEN_MAX).contains(&text.len()) && text.bytes().all(fits);
        valid.then_some(Self(text))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is asked of the service's jobs, each answered on a session of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobRequest {
    /// To make a scan: answered with the job, which is the same for the same submission.
    Submit(SubmitJob),
    /// All jobs that the client may see.
    List,
    /// Where a job stands now.
    Show(JobId),
    /// Where a job stands, now and whenever that changes, until it is over.
    Watch(JobId),
    /// To end a job.
    Cancel(JobId),
    /// To try the failed parts of a failed job again, or a cancelled job.
    Retry(JobId),
    /// A job's windows.
    Fetch(FetchResult),
}

/// A scan to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubmitJob {
    /// The views, all of one stream; 1 to [`VIEWS_MAX`].
    pub views: Vec<String>,
    /// Only windows that start at or after this time, nanoseconds UTC.
    pub from_ns: Option<i64>,
    /// Only windows that start before this time, nanoseconds UTC.
    pub to_ns: Option<i64>,
    /// Only these keys; empty for all.
    pub keys: Vec<Key>,
    /// Which ticks count.
    pub truth: Truth,
    /// How early it is begun, compared with the owner's other jobs.
    pub priority: Priority,
    /// What computes.
    pub engine: Engine,
    /// Reads ticks even where stored states would do.
    pub no_rollup: bool,
}

impl SubmitJob {
    /// A scan of these views: all keys, all time, as known now.
    pub fn new<S: Into<String>>(views: impl IntoIterator<Item = S>) -> Self {
        Self { views: views.into_iter().map(Into::into).collect(), ..Self::default() }
    }
}

/// From 0 (last) to 9 (first).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u8);

impl Priority {
    /// The greatest.
    pub const MAX: u8 = 9;

    /// `None` above [`Self::MAX`].
    pub fn new(priority: u8) -> Option<Self> {
        (priority <= Self::MAX).then_some(Self(priority))
    }

    /// 0 to 9.
    pub fn get(self) -> u8 {
        self.0
    }
}

impl Default for Priority {
    /// In the middle: 5.
    fn default() -> Self {
        Self(5)
    }
}

/// Which ticks count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Truth {
    /// All, however late.
    #[default]
    Now,
    /// What live could know under the view's lateness.
    Seen,
    /// What came too late for live.
    Late,
}

/// What computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Engine {
    /// Whatever is predicted to be faster.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU, or an error.
    Gpu,
}

/// A job's windows, asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchResult {
    /// The job.
    pub id: JobId,
    /// As the parts of the scan finish, each window once, in no promised order; otherwise all in
    /// their order when the job is done.
    pub partial: bool,
    /// How they are sent.
    pub format: Format,
}

/// Whose windows follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResultView {
    /// The view's place in the submission, from 0.
    pub index: u32,
    /// Its name.
    pub view: String,
    /// The columns of its windows.
    pub schema: ResultSchema,
}

impl JobRequest {
    pub(crate) fn to_proto(&self) -> proto::Jobs {
        let id = |id: &JobId| id.to_string();
        let request = match self {
            Self::Submit(submit) => ProtoRequest::Submit(submit.to_proto()),
            Self::List => ProtoRequest::List(proto::ListJobs {}),
            Self::Show(job) => ProtoRequest::Show(proto::ShowJob { id: id(job) }),
            Self::Watch(job) => ProtoRequest::Watch(proto::WatchJob { id: id(job) }),
            Self::Cancel(job) => ProtoRequest::Cancel(proto::CancelJob { id: id(job) }),
            Self::Retry(job) => ProtoRequest::Retry(proto::RetryJob { id: id(job) }),
            Self::Fetch(fetch) => ProtoRequest::Fetch(proto::FetchResult {
                id: id(&fetch.id),
                partial: fetch.partial,
                format: fetch.format.number(),
            }),
        };
        proto::Jobs { request: Some(request) }
    }

    pub(crate) fn from_proto(jobs: proto::Jobs) -> Result<Self, DecodeError> {
        let id = |text: String| JobId::new(text).ok_or(DecodeError::Invalid { what: "a job's id" });
        let request = jobs.request.ok_or(DecodeError::Invalid { what: "an empty job request" })?;
        Ok(match request {
            ProtoRequest::Submit(submit) => Self::Submit(SubmitJob::from_proto(submit)?),
            ProtoRequest::List(proto::ListJobs {}) => Self::List,
            ProtoRequest::Show(show) => Self::Show(id(show.id)?),
            ProtoRequest::Watch(watch) => Self::Watch(id(watch.id)?),
            ProtoRequest::Cancel(cancel) => Self::Cancel(id(cancel.id)?),
            ProtoRequest::Retry(retry) => Self::Retry(id(retry.id)?),
            ProtoRequest::Fetch(fetch) => Self::Fetch(FetchResult {
                id: id(fetch.id)?,
                partial: fetch.partial,
                format: Format::from_number(fetch.format)?,
            }),
        })
    }

    /// The job that it is about, where there is one already.
    pub fn job(&self) -> Option<&JobId> {
        match self {
            Self::Submit(_) | Self::List => None,
            Self::Show(id) | Self::Watch(id) | Self::Cancel(id) | Self::Retry(id) => Some(id),
            Self::Fetch(fetch) => Some(&fetch.id),
        }
    }
}

impl SubmitJob {
    fn to_proto(&self) -> proto::SubmitJob {
        let truth = match self.truth {
            Truth::Now => proto::Truth::Now,
            Truth::Seen => proto::Truth::Seen,
            Truth::Late => proto::Truth::Late,
        };
        let engine = match self.engine {
            Engine::Auto => proto::Engine::Auto,
            Engine::Cpu => proto::Engine::Cpu,
            Engine::Gpu => proto::Engine::Gpu,
        };
        let key = |key: &Key| proto::ScanKey { components: key.components() };
        proto::SubmitJob {
            views: self.views.clone(),
            from_ns: self.from_ns,
            to_ns: self.to_ns,
            keys: self.keys.iter().map(key).collect(),
            truth: truth as i32,
            priority: Some(self.priority.get().into()),
            engine: engine as i32,
            no_rollup: self.no_rollup,
        }
    }

    fn from_proto(submit: proto::SubmitJob) -> Result<Self, DecodeError> {
        let invalid = |what| DecodeError::Invalid { what };
        if !(1..=VIEWS_MAX).contains(&submit.views.len()) {
            return Err(invalid("the number of a job's views, 1 to 64"));
        }
        let fits = |name: &String| (1..=VIEW_NAME_BYTES_MAX).contains(&name.len());
        if !submit.views.iter().all(fits) {
            return Err(invalid("the name of a job's view"));
        }
        if submit.keys.len() > KEYS_MAX {
            return Err(invalid("the number of a job's keys, at most 65,536"));
        }
        let key = |key: proto::ScanKey| {
            let key = Key::from_components(key.components);
            (key.as_bytes().len() <= Key::LEN_MAX).then_some(key)
        };
        let keys = submit.keys.into_iter().map(key).collect::<Option<_>>();
        let truth = match proto::Truth::try_from(submit.truth) {
            Ok(proto::Truth::Now) => Truth::Now,
            Ok(proto::Truth::Seen) => Truth::Seen,
            Ok(proto::Truth::Late) => Truth::Late,
            Err(_) => return Err(invalid("a job's truth")),
        };
        let engine = match proto::Engine::try_from(submit.engine) {
            Ok(proto::Engine::Auto) => Engine::Auto,
            Ok(proto::Engine::Cpu) => Engine::Cpu,
            Ok(proto::Engine::Gpu) => Engine::Gpu,
            Err(_) => return Err(invalid("a job's engine")),
        };
        let priority = match submit.priority {
            None => Some(Priority::default()),
            Some(priority) => u8::try_from(priority).ok().and_then(Priority::new),
        };
        Ok(Self {
            views: submit.views,
            from_ns: submit.from_ns,
            to_ns: submit.to_ns,
            keys: keys.ok_or(invalid("a job's key, of at most 4,096 bytes"))?,
            truth,
            priority: priority.ok_or(invalid("a job's priority, 0 to 9"))?,
            engine,
            no_rollup: submit.no_rollup,
        })
    }
}

impl ResultView {
    pub(crate) fn to_proto(&self) -> proto::ResultView {
        proto::ResultView {
            index: self.index,
            view: self.view.clone(),
            keys: self.schema.keys.clone(),
            columns: self.schema.columns.iter().map(column_to_proto).collect(),
        }
    }

    pub(crate) fn from_proto(view: proto::ResultView) -> Result<Self, DecodeError> {
        let columns = view.columns.into_iter().map(column_from_proto).collect::<Result<_, _>>()?;
        let schema = ResultSchema { keys: view.keys, columns };
        Ok(Self { index: view.index, view: view.view, schema })
    }
}

#[cfg(test)]
mod tests;
