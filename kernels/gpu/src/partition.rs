//! Brings rows into the order of their slots on the device: stable counting sorts, one for every 8
//! bits of a slot, then columns and validity gathered into that order.

use std::collections::HashMap;

use isotick_shaders::layout::{GatherHeader, PartitionHeader, PartitionStatus};
use isotick_shaders::{
    DIGIT_BITS, ENDS_REDUCE, ENDS_REDUCE_GROUP, GATHER_COLUMN, GATHER_VALIDITY, PARTITION_COUNT,
    PARTITION_LANES, PARTITION_SCAN, PARTITION_SCATTER, Shader, flags, overrides,
};

use crate::adapters::AdapterInfo;
use crate::device::{Device, Pool};
use crate::error::GpuError;
use crate::inputs::DeviceColumn;
use crate::kernel::{Part, Pipeline, reduction_constants};
use crate::variant::Shape;

/// Rounds of a tile: enough rows that its 256 counters are few beside them, few enough that a
/// batch fills a large GPU.
const TILE_ROUNDS: u32 = 8;
/// Rows of a tile.
const TILE_ROWS: u32 = TILE_ROUNDS * PARTITION_LANES;
/// Values of a digit.
const DIGITS: u32 = 1 << DIGIT_BITS;
/// Workgroup memory of the largest kernel.
const WORKGROUP_BYTES: u32 = 10 << 10;

/// What the adapter lacks to partition, for people; `None` where it can.
pub(crate) fn lacking(adapter: &AdapterInfo) -> Option<String> {
    let limits = &adapter.limits;
    if limits.workgroup_invocations < PARTITION_LANES {
        return Some(format!("workgroups of {PARTITION_LANES} invocations"));
    }
    (limits.workgroup_memory_bytes < WORKGROUP_BYTES)
        .then(|| format!("{} KiB of workgroup memory", WORKGROUP_BYTES >> 10))
}

/// The most rows that can be brought into order at once.
pub(crate) fn rows_max(adapter: &AdapterInfo) -> u64 {
    // A gather has the most workgroups.
    u64::from(adapter.limits.workgroups_per_dimension) * u64::from(PARTITION_LANES)
}

/// The kernels of a partition, compiled when they are first asked for.
#[derive(Default)]
pub(crate) struct Kernels {
    pipelines: HashMap<Step, Pipeline>,
}

/// One kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    Count,
    Scan,
    Scatter { first_pass: bool },
    GatherColumn { framed: bool },
    GatherValidity,
    Ends(EndsKernel),
}

/// What tells the kernels that find ends apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct EndsKernel {
    pub shape: Shape,
    /// Whether keys order the rows; else their numbers do.
    pub ordered: bool,
    /// Whether rows may be null.
    pub nullable: bool,
}

impl Step {
    /// Every kernel.
    #[cfg(test)]
    pub fn all() -> Vec<Self> {
        let mut all = vec![Self::Count, Self::Scan, Self::GatherValidity];
        for on in [false, true] {
            all.extend([Self::Scatter { first_pass: on }, Self::GatherColumn { framed: on }]);
            for ordered in [false, true] {
                let ends = |shape| Self::Ends(EndsKernel { shape, ordered, nullable: on });
                all.extend([Shape::Invocation, Shape::Workgroup].map(ends));
            }
        }
        all
    }

    fn shader(self) -> &'static Shader {
        match self {
            Self::Count => &PARTITION_COUNT,
            Self::Scan => &PARTITION_SCAN,
            Self::Scatter { .. } => &PARTITION_SCATTER,
            Self::GatherColumn { .. } => &GATHER_COLUMN,
            Self::GatherValidity => &GATHER_VALIDITY,
            Self::Ends(EndsKernel { shape: Shape::Invocation, .. }) => &ENDS_REDUCE,
            Self::Ends(EndsKernel { shape: Shape::Workgroup, .. }) => &ENDS_REDUCE_GROUP,
        }
    }

    /// The WGSL source.
    pub fn source(self) -> &'static str {
        let framed = matches!(self, Self::GatherColumn { framed: true });
        self.shader().permutation(if framed { &[flags::FRAME] } else { &[] }).source
    }

    /// Compiles it from its source, or from one that a test has spoiled.
    fn compile(self, device: &Device, source: &str) -> Pipeline {
        let constants = match self {
            Self::Count | Self::Scan => vec![(overrides::TILE_ROUNDS, f64::from(TILE_ROUNDS))],
            Self::Scatter { first_pass } => vec![
                (overrides::TILE_ROUNDS, f64::from(TILE_ROUNDS)),
                (overrides::FIRST_PASS, f64::from(u8::from(first_pass))),
            ],
            Self::GatherColumn { .. } | Self::GatherValidity => vec![],
            Self::Ends(EndsKernel { shape, ordered, nullable }) => {
                let mut constants = Vec::from(reduction_constants(shape));
                constants.push((overrides::NULLABLE, f64::from(u8::from(nullable))));
                constants.push((overrides::ORDERED, f64::from(u8::from(ordered))));
                constants
            }
        };
        Pipeline::new(device, self.shader(), source, &constants)
    }
}

impl Kernels {
    pub fn get(&mut self, device: &Device, step: Step) -> &Pipeline {
        self.pipelines.entry(step).or_insert_with(|| step.compile(device, step.source()))
    }

    /// Puts a kernel of another source in place.
    #[cfg(test)]
    pub fn replace(&mut self, device: &Device, step: Step, source: &str) {
        self.pipelines.insert(step, step.compile(device, source));
    }
}

/// A partition that is recorded.
pub(crate) struct Permutation {
    /// The row of each place.
    rows: wgpu::Buffer,
    row_count: u32,
    passes: u32,
    /// Holds a [`PartitionStatus`].
    pub status: wgpu::Buffer,
    gather_header: wgpu::Buffer,
    /// The buffers that are the pool's.
    pub pooled: Vec<wgpu::Buffer>,
}

/// What a partition must account for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    rows: u32,
    passes: u32,
}

/// Where kernels are recorded.
pub(crate) struct Recorder<'a, 'p> {
    pub device: &'a Device,
    pub pool: &'a mut Pool,
    pub kernels: &'a mut Kernels,
    pub pass: &'a mut wgpu::ComputePass<'p>,
}

impl Permutation {
    /// Records the sort of rows by their slots, a u32 below `slot_count` each.
    pub fn record(
        recorder: &mut Recorder<'_, '_>,
        slots: &wgpu::Buffer,
        row_count: u32,
        slot_count: u32,
    ) -> Self {
        let mut pooled = Vec::new();
        let mut take = |recorder: &mut Recorder<'_, '_>, bytes: u64, usage| {
            let buffer = recorder.pool.take(recorder.device, bytes, usage);
            pooled.push(buffer.clone());
            buffer
        };
        let bytes = u64::from(row_count) * 4;
        let tile_count = row_count.div_ceil(TILE_ROWS);
        let counts_bytes = u64::from(DIGITS) * u64::from(tile_count) * 4;
        let counts = take(recorder, counts_bytes, Pool::OUTPUT);
        let totals = take(recorder, u64::from(DIGITS) * 4, Pool::OUTPUT);
        let status = take(recorder, size_of::<PartitionStatus>() as u64, Pool::OUTPUT);
        let zero = PartitionStatus::default();
        recorder.pool.write(recorder.device, &status, bytemuck::bytes_of(&zero));
        let gather_header = take(recorder, size_of::<GatherHeader>() as u64, Pool::HEADER);
        let content = GatherHeader { row_count };
        recorder.pool.write(recorder.device, &gather_header, bytemuck::bytes_of(&content));

        let bits = u32::BITS - slot_count.saturating_sub(1).leading_zeros();
        let passes = bits.div_ceil(DIGIT_BITS).max(1);
        let mut pair = || [(); 2].map(|()| take(recorder, bytes, Pool::OUTPUT));
        // Passes write into one of two pairs and read the other; the first one reads no rows.
        let first = pair();
        let second = if passes > 1 { pair() } else { first.clone() };
        let [mut to, mut other] = [first, second];
        let mut from = [slots.clone(), slots.clone()];
        for pass in 0..passes {
            let header = take(recorder, size_of::<PartitionHeader>() as u64, Pool::HEADER);
            let digit_shift = pass * DIGIT_BITS;
            let content = PartitionHeader { row_count, slot_count, tile_count, digit_shift };
            recorder.pool.write(recorder.device, &header, bytemuck::bytes_of(&content));
            let header = || Part::front(&header, size_of::<PartitionHeader>() as u64);
            let counts = || Part::front(&counts, counts_bytes);
            let totals = || Part::front(&totals, u64::from(DIGITS) * 4);
            let status = || Part::front(&status, size_of::<PartitionStatus>() as u64);
            let [slots, rows] = from.each_ref().map(|buffer| Part::front(buffer, bytes));
            recorder.dispatch(Step::Count, &[header(), slots, counts(), status()], tile_count);
            recorder.dispatch(Step::Scan, &[header(), counts(), totals()], DIGITS);
            let slots = Part::front(&from[0], bytes);
            let [to_slots, to_rows] = to.each_ref().map(|buffer| Part::front(buffer, bytes));
            let parts = [header(), slots, rows, counts(), totals(), to_slots, to_rows, status()];
            recorder.dispatch(Step::Scatter { first_pass: pass == 0 }, &parts, tile_count);
            from = to.clone();
            std::mem::swap(&mut to, &mut other);
        }
        let [_, rows] = from;
        Self { rows, row_count, passes, status, gather_header, pooled }
    }

    /// Records the gather of a column into this order.
    pub fn gather_column(
        &mut self,
        recorder: &mut Recorder<'_, '_>,
        column: &DeviceColumn,
    ) -> DeviceColumn {
        let bytes = column.bytes(self.row_count as usize);
        let gathered = recorder.pool.take(recorder.device, bytes, Pool::OUTPUT);
        let parts = [
            Part::front(&self.gather_header, size_of::<GatherHeader>() as u64),
            self.part(),
            Part::front(&column.buffer, bytes),
            Part::front(&gathered, bytes),
        ];
        let step = Step::GatherColumn { framed: column.base.is_some() };
        recorder.dispatch(step, &parts, self.row_count.div_ceil(PARTITION_LANES));
        self.pooled.push(gathered.clone());
        DeviceColumn { buffer: gathered, base: column.base }
    }

    /// Records the gather of validity words into this order.
    pub fn gather_validity(
        &mut self,
        recorder: &mut Recorder<'_, '_>,
        validity: &wgpu::Buffer,
    ) -> wgpu::Buffer {
        let words = self.row_count.div_ceil(32);
        let bytes = u64::from(words) * 4;
        let gathered = recorder.pool.take(recorder.device, bytes, Pool::OUTPUT);
        let parts = [
            Part::front(&self.gather_header, size_of::<GatherHeader>() as u64),
            self.part(),
            Part::front(validity, bytes),
            Part::front(&gathered, bytes),
        ];
        recorder.dispatch(Step::GatherValidity, &parts, words.div_ceil(PARTITION_LANES));
        self.pooled.push(gathered.clone());
        gathered
    }

    /// The rows, to be bound.
    pub fn part(&self) -> Part<'_> {
        Part::front(&self.rows, u64::from(self.row_count) * 4)
    }

    /// What the status must account for.
    pub fn expected(&self) -> Expected {
        Expected { rows: self.row_count, passes: self.passes }
    }
}

impl Expected {
    /// That the status accounts for every row in every pass.
    pub fn check(&self, adapter: &str, status: PartitionStatus) -> Result<(), GpuError> {
        let &Self { rows, passes } = self;
        let PartitionStatus { rows_placed: placed, rows_malformed: malformed } = status;
        if u64::from(placed) == u64::from(rows) * u64::from(passes) && malformed == 0 {
            return Ok(());
        }
        Err(GpuError::Unplaced { adapter: adapter.to_owned(), placed, passes, malformed, rows })
    }
}

impl Recorder<'_, '_> {
    /// Records a dispatch of some workgroups.
    pub fn dispatch(&mut self, step: Step, parts: &[Part<'_>], workgroups: u32) {
        let pipeline = self.kernels.get(self.device, step);
        pipeline.record(self.device, self.pass, parts, workgroups);
    }
}

#[cfg(test)]
#[path = "tests/partition.rs"]
mod tests;
