//! The engine: uploads chunks, dispatches the plan's jobs, folds segment partials into runs.

use std::collections::BTreeMap;

use isotick_kernels::{Engine, EngineError, EngineKind, Partials, Plan, Runs, Term};
use isotick_model::ValueColumn;
use isotick_shaders::layout::{ColumnPartial, ProductPartial, ReduceHeader, ReduceStatus};
use isotick_shaders::{COLUMN_REDUCE, PRODUCT_REDUCE};

use crate::adapters::{AdapterInfo, Choice};
use crate::device::{Device, Pool};
use crate::error::GpuError;
use crate::kernel::{Kernel, WORKGROUP_SIZE};
use crate::segments::{self, Chunk, ChunkLimits};
use crate::work::{self, Input, Job};

/// Rows of a chunk: few enough that one chunk's upload and dispatch stay short, enough to fill a
/// large GPU.
const CHUNK_ROWS_MAX: u64 = 4 << 20;
/// Bytes read back per chunk.
const CHUNK_READBACK_BYTES_MAX: u64 = 64 << 20;
/// Bytes between a job's status block and its partials in the staging buffer.
const STATUS_BYTES: u64 = 16;

const _: () = assert!(size_of::<ReduceStatus>() as u64 <= STATUS_BYTES);

/// Reduces runs on one adapter. Partials are the same words as any other engine's, whatever the
/// adapter. Work is bounded: at most two chunks are in flight.
pub struct GpuEngine {
    pub(crate) device: Device,
    kernels: Kernels,
    pub(crate) pool: Pool,
}

/// The permutations, by whether rows may be null.
struct Kernels {
    column: [Kernel; 2],
    product: [Kernel; 2],
}

/// A chunk on its way through the device.
struct InFlight {
    chunk: Chunk,
    submission: wgpu::SubmissionIndex,
    staging: wgpu::Buffer,
    buffers: Vec<wgpu::Buffer>,
}

impl GpuEngine {
    /// Opens an adapter, compiles every kernel and checks a known answer, so that the first
    /// reduction costs no more than the next. Takes tens to hundreds of milliseconds.
    ///
    /// # Errors
    /// No adapter of the choice, or one that lacks what is needed, cannot be opened or computes
    /// wrongly: the text says what to install or choose.
    pub fn open(choice: Choice) -> Result<Self, EngineError> {
        let mut engine = Self::compile(Device::open(&choice)?)?;
        engine.warm_up()?;
        Ok(engine)
    }

    /// The adapter it runs on.
    pub fn adapter(&self) -> &AdapterInfo {
        &self.device.info
    }

    pub(crate) fn compile(device: Device) -> Result<Self, GpuError> {
        device.begin()?;
        let permutations = |shader| [false, true].map(|null| Kernel::new(&device, shader, null));
        let kernels =
            Kernels { column: permutations(COLUMN_REDUCE), product: permutations(PRODUCT_REDUCE) };
        device.check()?;
        Ok(Self { device, kernels, pool: Pool::default() })
    }

    /// Runs every permutation once on rows with a known answer.
    pub(crate) fn warm_up(&mut self) -> Result<(), GpuError> {
        for known in crate::known::answers() {
            if self.reduce_runs(&known.plan, &known.runs)? != known.partials {
                return Err(GpuError::WrongAnswer { adapter: self.device.info.name.clone() });
            }
        }
        Ok(())
    }

    fn reduce_runs(&mut self, plan: &Plan, runs: &Runs) -> Result<Partials, GpuError> {
        self.device.begin()?;
        let jobs = work::jobs(plan);
        segments::check(runs)?;
        work::check_columns(&jobs, runs)?;

        let stride = plan.words();
        let mut partials = Partials { words: vec![0; runs.runs.len() * stride], stride };
        if let Some(offset) = plan.offset(Term::Rows) {
            for (words, run) in partials.words.chunks_exact_mut(stride).zip(&runs.runs) {
                words[offset] = u64::from(run.len);
            }
        }
        if jobs.is_empty() {
            return Ok(partials);
        }

        // While the device reduces one chunk, the next is uploaded and the one before folded.
        let mut in_flight = None;
        for chunk in segments::chunks(runs, self.chunk_limits(&jobs)) {
            let next = self.submit(&jobs, runs, chunk)?;
            if let Some(previous) = in_flight.replace(next) {
                self.fold(&jobs, runs, previous, &mut partials)?;
            }
        }
        if let Some(last) = in_flight {
            self.fold(&jobs, runs, last, &mut partials)?;
        }
        Ok(partials)
    }

    fn chunk_limits(&self, jobs: &[Job]) -> ChunkLimits {
        let limits = &self.device.info.limits;
        let binding = limits.storage_binding_bytes.min(limits.buffer_bytes);
        let largest = jobs.iter().map(|job| job.input.partial_bytes()).max().unwrap_or(1);
        let together: u64 = jobs.iter().map(|job| job.input.partial_bytes()).sum();
        let invocations = u64::from(limits.workgroups_per_dimension) * u64::from(WORKGROUP_SIZE);
        let segments_max = invocations
            .min(binding / largest)
            .min((CHUNK_READBACK_BYTES_MAX / together.max(1)).max(1));
        ChunkLimits {
            // Both fit 32 bits: they are at most CHUNK_ROWS_MAX and CHUNK_READBACK_BYTES_MAX.
            rows_max: (binding / 8).min(CHUNK_ROWS_MAX) as u32,
            segments_max: segments_max as u32,
        }
    }

    /// Uploads what the jobs read of a chunk and dispatches them.
    fn submit(&mut self, jobs: &[Job], runs: &Runs, chunk: Chunk) -> Result<InFlight, GpuError> {
        let (device, pool) = (&self.device, &mut self.pool);
        let mut inputs = Inputs::upload(device, pool, jobs, runs, &chunk);
        let staging_bytes = staging_bytes(jobs, &chunk);
        let staging = pool.take(device, staging_bytes, Pool::STAGING);

        let mut encoder = device.device.create_command_encoder(&Default::default());
        let mut outputs = Vec::new();
        let mut offset = 0;
        for job in jobs {
            let bytes = job_bytes(job.input, &chunk);
            let status = pool.take(device, STATUS_BYTES, Pool::OUTPUT);
            let partials = pool.take(device, bytes, Pool::OUTPUT);
            encoder.clear_buffer(&status, 0, Some(STATUS_BYTES));
            inputs.dispatch(device, &self.kernels, &mut encoder, job.input, (&partials, &status));
            encoder.copy_buffer_to_buffer(&status, 0, &staging, offset, STATUS_BYTES);
            encoder.copy_buffer_to_buffer(&partials, 0, &staging, offset + STATUS_BYTES, bytes);
            offset += STATUS_BYTES + bytes;
            outputs.extend([status, partials]);
        }
        let submission = device.submit(encoder, &staging, staging_bytes)?;
        let mut buffers = inputs.into_buffers();
        buffers.extend(outputs);
        Ok(InFlight { chunk, submission, staging, buffers })
    }

    /// Waits for a chunk and adds its segments' partials to their runs.
    fn fold(
        &mut self,
        jobs: &[Job],
        runs: &Runs,
        done: InFlight,
        partials: &mut Partials,
    ) -> Result<(), GpuError> {
        let InFlight { chunk, submission, staging, buffers } = done;
        self.device.wait(submission)?;
        let view = staging.get_mapped_range(..staging_bytes(jobs, &chunk)).map_err(|error| {
            GpuError::Failed { adapter: self.device.info.name.clone(), message: error.to_string() }
        })?;
        let mut rest: &[u8] = &view;
        for job in jobs {
            let (status, after) = rest.split_at(STATUS_BYTES as usize);
            let (segments, after) = after.split_at(job_bytes(job.input, &chunk) as usize);
            rest = after;
            self.check_status(job.input, status, &chunk)?;
            match job.input {
                Input::Column(_) => {
                    let segments: &[ColumnPartial] = bytemuck::cast_slice(segments);
                    for (&run, segment) in chunk.run_of.iter().zip(segments) {
                        let words = run_words(partials, run);
                        work::add_column(words, &job.terms, segment, runs, chunk.rows.start);
                    }
                }
                Input::Pair(..) => {
                    let segments: &[ProductPartial] = bytemuck::cast_slice(segments);
                    for (&run, segment) in chunk.run_of.iter().zip(segments) {
                        let words = run_words(partials, run);
                        work::add_product(words, &job.terms, segment);
                    }
                }
            }
        }
        drop(view);
        staging.unmap();
        self.pool.give_back(buffers);
        self.pool.give_back([staging]);
        Ok(())
    }

    fn check_status(&self, input: Input, status: &[u8], chunk: &Chunk) -> Result<(), GpuError> {
        let status: ReduceStatus =
            bytemuck::pod_read_unaligned(&status[..size_of::<ReduceStatus>()]);
        let segments = chunk.segments.len() as u32;
        if status.segments_done == segments && status.segments_malformed == 0 {
            return Ok(());
        }
        Err(GpuError::Unaccounted {
            adapter: self.device.info.name.clone(),
            kernel: self.kernels.of(input, false).shader.name,
            done: status.segments_done,
            malformed: status.segments_malformed,
            segments,
        })
    }
}

impl Engine for GpuEngine {
    fn kind(&self) -> EngineKind {
        EngineKind::Gpu
    }

    fn describe(&self) -> String {
        let AdapterInfo { name, backend, driver, .. } = &self.device.info;
        format!("{name} ({backend}, {driver})")
    }

    /// After a lost device every call fails; other errors concern this call only.
    fn reduce(&mut self, plan: &Plan, runs: &Runs) -> Result<Partials, EngineError> {
        Ok(self.reduce_runs(plan, runs)?)
    }
}

impl Kernels {
    fn of(&self, input: Input, nullable: bool) -> &Kernel {
        match input {
            Input::Column(_) => &self.column[usize::from(nullable)],
            Input::Pair(..) => &self.product[usize::from(nullable)],
        }
    }
}

/// What the jobs of a chunk read, on the device.
struct Inputs {
    rows: usize,
    segments: u32,
    header: wgpu::Buffer,
    segment_table: wgpu::Buffer,
    columns: BTreeMap<usize, wgpu::Buffer>,
    /// Validity words of the columns that a job reads together, where one of them has nulls.
    validity: BTreeMap<Vec<usize>, wgpu::Buffer>,
}

impl Inputs {
    fn upload(device: &Device, pool: &mut Pool, jobs: &[Job], runs: &Runs, chunk: &Chunk) -> Self {
        let (rows, segments) = (chunk.rows.len(), chunk.segments.len() as u32);
        let header = ReduceHeader { segment_count: segments, row_count: rows as u32 };
        let mut inputs = Self {
            rows,
            segments,
            header: pool.upload(device, bytemuck::bytes_of(&header), Pool::HEADER),
            segment_table: pool.upload(device, bytemuck::cast_slice(&chunk.segments), Pool::INPUT),
            columns: BTreeMap::new(),
            validity: BTreeMap::new(),
        };
        let values = &runs.ticks.values;
        for job in jobs {
            for column in job.input.columns() {
                inputs.columns.entry(column).or_insert_with(|| {
                    let slice = &values[column].values[chunk.rows.clone()];
                    pool.upload(device, bytemuck::cast_slice(slice), Pool::INPUT)
                });
            }
            let key = validity_key(job.input);
            if inputs.validity.contains_key(&key) {
                continue;
            }
            let together = key.iter().map(|&column| &values[column]);
            if let Some(words) = validity_words(together, chunk) {
                let words = pool.upload(device, bytemuck::cast_slice(&words), Pool::INPUT);
                inputs.validity.insert(key, words);
            }
        }
        inputs
    }

    fn dispatch(
        &mut self,
        device: &Device,
        kernels: &Kernels,
        encoder: &mut wgpu::CommandEncoder,
        input: Input,
        (partials, status): (&wgpu::Buffer, &wgpu::Buffer),
    ) {
        let validity = self.validity.get(&validity_key(input));
        let kernel = kernels.of(input, validity.is_some());
        let mut buffers = vec![
            (&self.header, size_of::<ReduceHeader>() as u64),
            (&self.segment_table, u64::from(self.segments) * 8),
        ];
        buffers.extend(input.columns().map(|c| (&self.columns[&c], self.rows as u64 * 8)));
        // Without nulls the shader reads no validity; the binding must hold something.
        buffers.push(match validity {
            Some(words) => (words, self.rows.div_ceil(32) as u64 * 4),
            None => (&self.segment_table, 4),
        });
        buffers.push((partials, u64::from(self.segments) * input.partial_bytes()));
        buffers.push((status, size_of::<ReduceStatus>() as u64));
        kernel.record(device, encoder, &buffers, self.segments);
    }

    fn into_buffers(self) -> Vec<wgpu::Buffer> {
        let mut buffers = vec![self.header, self.segment_table];
        buffers.extend(self.columns.into_values());
        buffers.extend(self.validity.into_values());
        buffers
    }
}

fn validity_key(input: Input) -> Vec<usize> {
    let mut columns: Vec<_> = input.columns().collect();
    columns.sort_unstable();
    columns.dedup();
    columns
}

/// One bit per row of the chunk, set where every column has a value; `None` where all have.
fn validity_words<'a>(
    columns: impl Iterator<Item = &'a ValueColumn>,
    chunk: &Chunk,
) -> Option<Vec<u32>> {
    let (start, rows) = (chunk.rows.start, chunk.rows.len());
    let mut words: Option<Vec<u32>> = None;
    for nulls in columns.filter_map(|column| column.nulls.as_ref()) {
        let nulls = nulls.slice(start, rows);
        if nulls.null_count() == 0 {
            continue;
        }
        let bits = nulls.inner().bit_chunks();
        let halves = bits.iter_padded().flat_map(|bits| [bits as u32, (bits >> 32) as u32]);
        let halves = halves.take(rows.div_ceil(32));
        match &mut words {
            None => words = Some(halves.collect()),
            Some(words) => words.iter_mut().zip(halves).for_each(|(word, bits)| *word &= bits),
        }
    }
    words
}

fn job_bytes(input: Input, chunk: &Chunk) -> u64 {
    input.partial_bytes() * chunk.segments.len() as u64
}

fn staging_bytes(jobs: &[Job], chunk: &Chunk) -> u64 {
    jobs.iter().map(|job| STATUS_BYTES + job_bytes(job.input, chunk)).sum()
}

fn run_words(partials: &mut Partials, run: u32) -> &mut [u64] {
    &mut partials.words[run as usize * partials.stride..][..partials.stride]
}
