//! What is known of a job, as it is stored and told.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use isotick_kernels::EngineKind;
use isotick_model::definitions::Definitions;
use isotick_model::results::ResultSchema;
use isotick_model::view::View;
use isotick_model::{Key, StreamSchema};
use isotick_scheduler::{Scan, ScanView};
use serde::{Deserialize, Serialize};

use crate::cli::{EngineChoice, TruthChoice};
use crate::scanning;

/// A job's name: 16 hexadecimal digits that follow from what was asked for and what it is asked of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Id(pub String);

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The stream of all views.
    pub stream: String,
    /// The views and the hashes of their definitions.
    pub views: Vec<AskedView>,
    /// Windows that start at or after this, nanoseconds UTC.
    pub from_ns: Option<i64>,
    /// Windows that start before this, nanoseconds UTC.
    pub to_ns: Option<i64>,
    /// Only these keys, by their components; empty for all.
    pub keys: Vec<Vec<String>>,
    pub truth: Truth,
    pub engine: Engine,
    /// Ticks are read, whatever states and earlier results there are.
    pub no_rollup: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedView {
    pub view: String,
    pub definition: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Truth {
    #[default]
    Now,
    Seen,
    Late,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    #[default]
    Auto,
    Cpu,
    Gpu,
}

impl From<Engine> for EngineChoice {
    fn from(engine: Engine) -> Self {
        match engine {
            Engine::Auto => Self::Auto,
            Engine::Cpu => Self::Cpu,
            Engine::Gpu => Self::Gpu,
        }
    }
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Waits to be let in.
    Queued,
    /// What it reads is being looked up.
    Planning,
    Running,
    /// Its pieces are brought together.
    Finishing,
    Done,
    Failed,
    Cancelled,
}

impl State {
    pub fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Planning => "planning",
            Self::Running => "running",
            Self::Finishing => "finishing",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What came out for one view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultOf {
    pub view: String,
    pub definition: String,
    pub windows: u64,
    pub hash: String,
    /// Ticks that the truth left out.
    pub too_late: u64,
    /// Ticks in no window that 64-bit nanoseconds can hold.
    pub unrepresentable: u64,
}

/// Everything about a job that outlives the process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub id: Id,
    pub asked: Asked,
    /// The definitions that it was asked under, TOML.
    pub definitions: String,
    /// Who asked; the first one's share it runs on.
    pub owners: Vec<String>,
    pub priority: u8,
    pub state: State,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    pub submitted_ns: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_ns: Option<i64>,
    /// When the result is thrown away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_until_ns: Option<i64>,
    #[serde(default)]
    pub results: Vec<ResultOf>,
    /// What the result takes on disk.
    #[serde(default)]
    pub result_bytes: u64,
    /// Rows in windows, by the engine that reduced them.
    #[serde(default)]
    pub engines: BTreeMap<String, u64>,
    #[serde(default)]
    pub rows_read: u64,
    /// Ticks that were taken from stored states instead.
    #[serde(default)]
    pub rows_from_states: u64,
    /// The manifest's version that it read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest_version: Option<u64>,
    /// The first log position behind what it read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_end: Option<u64>,
    /// Times that something of it was tried again after a failure.
    #[serde(default)]
    pub retries: u64,
    /// Times that it began anew because what it read had been merged away.
    #[serde(default)]
    pub replans: u32,
    /// An engine's failure, after which the CPU's went on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
    /// From being let in to the end.
    #[serde(default)]
    pub seconds: f64,
}

impl Record {
    /// Whether someone may see and change it.
    pub fn is_of(&self, owner: &str, is_admin: bool) -> bool {
        is_admin || self.owners.iter().any(|of| of == owner)
    }

    /// The views and the schema of their stream, as they were defined when it was asked.
    pub fn views(&self) -> Result<(Vec<Arc<View>>, Arc<StreamSchema>)> {
        let definitions = Definitions::parse(&self.definitions, "the job's definitions")?;
        let view = |asked: &AskedView| -> Result<Arc<View>> {
            let view = definitions.view(&asked.view)?;
            ensure!(view.definition.0 == asked.definition, "view {} was redefined", asked.view);
            Ok(Arc::new(view.clone()))
        };
        let views = self.asked.views.iter().map(view).collect::<Result<_>>()?;
        Ok((views, Arc::new(definitions.stream(&self.asked.stream)?.clone())))
    }

    /// The scan that it is.
    pub fn scan(&self) -> Result<Scan> {
        let (views, schema) = self.views()?;
        let truth = match self.asked.truth {
            Truth::Now => TruthChoice::Now,
            Truth::Seen => TruthChoice::Seen,
            Truth::Late => TruthChoice::Late,
        };
        let views = views.into_iter();
        Ok(Scan {
            views: views
                .map(|view| ScanView { truth: scanning::truth(truth, &view), view })
                .collect(),
            schema,
            from_ns: self.asked.from_ns,
            to_ns: self.asked.to_ns,
            keys: self.asked.keys.iter().map(Key::from_components).collect(),
        })
    }

    /// The columns of each view's windows.
    pub fn schemas(&self) -> Result<Vec<ResultSchema>> {
        Ok(self.views()?.0.iter().map(|view| ResultSchema::of(view)).collect())
    }

    pub fn count_engine(&mut self, kind: EngineKind, rows: u64) {
        *self.engines.entry(kind.to_string()).or_default() += rows;
    }
}

/// The name that follows from what is asked, and of what: the paths of the files that a stream has
/// in the range, and the last record behind them that is of the stream.
pub fn id_of<'a>(
    asked: &Asked,
    files: impl Iterator<Item = &'a str>,
    last_record: Option<u64>,
) -> Result<Id> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&serde_json::to_vec(asked).context("what is asked is plain data")?);
    for path in files {
        hasher.update(&(path.len() as u64).to_le_bytes());
        hasher.update(path.as_bytes());
    }
    hasher.update(&last_record.map_or(0, |position| position + 1).to_le_bytes());
    Ok(Id(hasher.finalize().to_hex()[..16].to_owned()))
}
