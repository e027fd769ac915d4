//! Why a GPU could not be opened or could not reduce.

use isotick_kernels::{EngineError, EngineKind};

use crate::variant::Variant;

/// Errors of this crate. [`EngineError`] carries their text to the caller.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// The machine offers no adapter at all.
    #[error(
        "this machine offers no {backends} adapter: install the GPU's driver, or for software \
         rendering `apt install mesa-vulkan-drivers libvulkan1`; or use `--engine cpu`"
    )]
    NoAdapter {
        /// The interfaces that were asked.
        backends: &'static str,
    },
    /// Adapters exist, but only software ones, and hardware was asked for.
    #[error(
        "only software adapters here ({found}), which are never chosen automatically: ask for one \
         by name, or use `--engine cpu`"
    )]
    OnlySoftware {
        /// Their names.
        found: String,
    },
    /// No adapter has the index or name asked for.
    #[error("no adapter {choice}; there are: {found} (see `isotick devices`)")]
    NoSuchAdapter {
        /// What was asked for.
        choice: String,
        /// Index and name of each adapter.
        found: String,
    },
    /// The adapter lacks what the kernels need.
    #[error("{adapter} lacks {lacking}: choose another adapter, or use `--engine cpu`")]
    Unsupported {
        /// The adapter.
        adapter: String,
        /// What it lacks.
        lacking: String,
    },
    /// A variant was asked for that the adapter cannot run.
    #[error("{adapter} cannot run {variant}: it lacks {lacking}; choose another variant")]
    Variant {
        /// The adapter.
        adapter: String,
        /// The variant.
        variant: Variant,
        /// What the adapter lacks.
        lacking: String,
    },
    /// The driver refused to open the device.
    #[error("{adapter} could not be opened: check its driver, or use `--engine cpu`")]
    Open {
        /// The adapter.
        adapter: String,
        /// The driver's answer.
        source: wgpu::RequestDeviceError,
    },
    /// A known sum came out wrong when the device was opened.
    #[error("{adapter} computes wrong sums ({variant}): update its driver, or use `--engine cpu`")]
    WrongAnswer {
        /// The adapter.
        adapter: String,
        /// The variant that did.
        variant: Variant,
    },
    /// The device is gone; this engine answers every further call with this error.
    #[error("{adapter} was lost ({message}): open the engine again, or use `--engine cpu`")]
    Lost {
        /// The adapter.
        adapter: String,
        /// What the driver said.
        message: String,
    },
    /// There was no memory on the device for this work, also without what stays there.
    #[error(
        "{adapter} is out of memory ({message}): end what else uses it, let less stay there \
         (`--device-memory-max`), or use `--engine cpu`"
    )]
    OutOfMemory {
        /// The adapter.
        adapter: String,
        /// What the driver said.
        message: String,
    },
    /// The driver reported another error (validation, internal) for this work.
    #[error("{adapter} failed ({message}): try again, or use `--engine cpu`")]
    Failed {
        /// The adapter.
        adapter: String,
        /// What the driver said.
        message: String,
    },
    /// Work did not end in time; the device counts as lost.
    #[error("{adapter} did not answer within {seconds} s: use `--engine cpu`")]
    TimedOut {
        /// The adapter.
        adapter: String,
        /// How long it was given.
        seconds: u64,
    },
    /// The status block does not account for every segment.
    #[error(
        "{adapter}: {kernel} reduced {done} of {segments} segments, {malformed} malformed: \
         use `--engine cpu` and report this"
    )]
    Unaccounted {
        /// The adapter.
        adapter: String,
        /// The shader.
        kernel: &'static str,
        /// Segments with a partial.
        done: u32,
        /// Segments found malformed.
        malformed: u32,
        /// Segments dispatched.
        segments: u32,
    },
    /// The status block of a partition does not account for every row.
    #[error(
        "{adapter}: {placed} rows were placed in {passes} passes over {rows}, {malformed} \
         malformed: use `--engine cpu` and report this"
    )]
    Unplaced {
        /// The adapter.
        adapter: String,
        /// Rows that got a place, summed over the passes.
        placed: u32,
        /// Passes.
        passes: u32,
        /// Rows whose group does not exist.
        malformed: u32,
        /// Rows to place.
        rows: u32,
    },
    /// Rows in any order were brought to an engine whose adapter cannot partition them.
    #[error("{adapter} cannot partition rows: {lacking}; bring them in runs")]
    Partition {
        /// The adapter.
        adapter: String,
        /// What it lacks.
        lacking: String,
    },
    /// Groups do not have the rows that they say.
    #[error("{rows} rows come in groups of {grouped} rows: the batch is not whole")]
    Groups {
        /// The ticks' rows.
        rows: usize,
        /// Rows that the groups say they have, or rows with a group.
        grouped: u64,
    },
    /// The plan reads a column that the ticks do not hold for every row.
    #[error("column {column} holds {held} of {rows} rows: read it before reducing")]
    Column {
        /// The column's index in the schema.
        column: usize,
        /// Its rows.
        held: usize,
        /// The ticks' rows.
        rows: usize,
    },
    /// A run is empty, overlaps the one before or ends beyond the rows.
    #[error("run {run} (row {start}, {len} rows) is empty, out of order or beyond {rows} rows")]
    Run {
        /// The run's index.
        run: usize,
        /// Its first row.
        start: u32,
        /// Its rows.
        len: u32,
        /// The ticks' rows.
        rows: usize,
    },
}

impl From<GpuError> for EngineError {
    fn from(error: GpuError) -> Self {
        let mut reason = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(inner) = source {
            reason = format!("{reason}: {inner}");
            source = inner.source();
        }
        Self { engine: EngineKind::Gpu, reason }
    }
}
