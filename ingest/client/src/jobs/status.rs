//! A job as the service tells of it.

use std::collections::BTreeMap;

use isotick_wire::{DecodeError, JobId};
use serde::{Deserialize, Deserializer};

use crate::error::ClientError;

/// Where a job stands. What an older or newer service does not say is `None`, empty or 0.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct JobStatus {
    /// Its name with the service.
    #[serde(deserialize_with = "id")]
    pub id: JobId,
    /// How far it is.
    pub state: JobState,
    /// Whose it is.
    #[serde(default)]
    pub owner: Option<String>,
    /// All who submitted the same.
    #[serde(default, deserialize_with = "or_default")]
    pub owners: Vec<String>,
    /// What is computed, in the order submitted.
    #[serde(default, deserialize_with = "or_default")]
    pub views: Vec<JobView>,
    /// Only windows that start at or after this time, RFC 3339.
    #[serde(default)]
    pub from: Option<String>,
    /// Only windows that start before this time, RFC 3339.
    #[serde(default)]
    pub to: Option<String>,
    /// 0 to 9.
    #[serde(default)]
    pub priority: Option<u8>,
    /// Jobs before it in the queue, while it is queued.
    #[serde(default)]
    pub position: Option<u64>,
    /// The pieces that the scan is cut into.
    #[serde(default, deserialize_with = "or_default")]
    pub parts: Progress,
    /// Ticks read.
    #[serde(default, deserialize_with = "or_default")]
    pub rows: Progress,
    /// Bytes read.
    #[serde(default, deserialize_with = "or_default")]
    pub bytes: Progress,
    /// Ticks per second.
    #[serde(default)]
    pub rows_per_s: Option<f64>,
    /// Since it was begun.
    #[serde(default)]
    pub seconds: Option<f64>,
    /// Until it is done, as far as that can be known.
    #[serde(default)]
    pub remaining_seconds: Option<f64>,
    /// How often it was tried.
    #[serde(default)]
    pub attempts: Option<u64>,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<String>,
    /// When it was submitted, RFC 3339.
    #[serde(default)]
    pub submitted: Option<String>,
    /// When it was over, RFC 3339.
    #[serde(default)]
    pub finished: Option<String>,
    /// Until when its result is kept, RFC 3339.
    #[serde(default)]
    pub kept_until: Option<String>,
    /// Rows by engine.
    #[serde(default, deserialize_with = "or_default")]
    pub engines: BTreeMap<String, u64>,
    /// Whether a kept result answered.
    #[serde(default, deserialize_with = "or_default")]
    pub cached: bool,
    #[serde(skip)]
    json: String,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum JobState {
    /// Others come first.
    Queued,
    /// What is to be read is found out.
    Planning,
    /// It reads and computes.
    Running,
    /// The result is put together.
    Finishing,
    /// The result is there.
    Done,
    /// It did not work.
    Failed,
    /// Somebody ended it.
    Cancelled,
    /// A state of a later version.
    #[serde(other)]
    Unknown,
}

impl JobState {
    /// Whether nothing more happens by itself.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }

    /// Its name in output and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Planning => "planning",
            Self::Running => "running",
            Self::Finishing => "finishing",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Unknown => "unknown",
        }
    }
}

/// One view of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct JobView {
    /// Its name.
    pub view: String,
    /// The hash of its definition.
    pub definition: Option<String>,
    /// Windows of the result, when it is there.
    pub windows: Option<u64>,
    /// The hash of the result, 64 hex digits, when it is there.
    pub hash: Option<String>,
}

/// How much of something is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// So much.
    pub done: u64,
    /// Of so much; 0 while that is not known.
    pub total: u64,
}

impl JobStatus {
    /// Reads one job.
    ///
    /// # Errors
    ///
    /// Text that is no job.
    pub fn parse(json: &str) -> Result<Self, DecodeError> {
        let value = serde_json::from_str(json).map_err(|_| NO_JOB)?;
        Self::of(value)
    }

    /// Reads a list of jobs.
    ///
    /// # Errors
    ///
    /// Text that is no list of jobs.
    pub fn parse_list(json: &str) -> Result<Vec<Self>, DecodeError> {
        #[derive(Deserialize)]
        struct List {
            jobs: Vec<serde_json::Value>,
        }
        let list: List = serde_json::from_str(json).map_err(|_| NO_JOB)?;
        list.jobs.into_iter().map(Self::of).collect()
    }

    fn of(value: serde_json::Value) -> Result<Self, DecodeError> {
        let json = value.to_string();
        let job: Self = serde_json::from_value(value).map_err(|_| NO_JOB)?;
        Ok(Self { json, ..job })
    }

    /// The JSON object as the service said it, with the fields that are not known here.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// The job, if it did not end without a result.
    ///
    /// # Errors
    ///
    /// [`ClientError::JobEnded`].
    pub fn succeeded(self) -> Result<Self, ClientError> {
        let how = match self.state {
            JobState::Failed => {
                format!(
                    "failed: {}",
                    self.error.as_deref().unwrap_or("the service does not say why")
                )
            }
            JobState::Cancelled => "was cancelled".to_owned(),
            _ => return Ok(self),
        };
        Err(ClientError::JobEnded { id: self.id, how })
    }
}

const NO_JOB: DecodeError = DecodeError::Invalid { what: "what it says of a job" };

fn id<'de, D: Deserializer<'de>>(from: D) -> Result<JobId, D::Error> {
    let text = String::deserialize(from)?;
    JobId::new(text).ok_or_else(|| serde::de::Error::custom("no job's id"))
}

/// Null is the same as nothing.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}
