//! The engine: uploads chunks, dispatches the plan's jobs, folds segment partials into runs.

use isotick_kernels::{
    Engine, EngineError, EngineKind, Groups, Holding, Partials, Plan, Runs, Term,
};
use isotick_shaders::layout::{ColumnPartial, ProductPartial, ReduceStatus};

use crate::adapters::{AdapterInfo, Choice};
use crate::calibrate::{self, Calibrate, Calibration, Origin, Refused};
use crate::device::{Device, Pool};
use crate::error::GpuError;
use crate::inputs::Uploader;
use crate::kernel::{Kernels, Part};
use crate::partition;
use crate::resident::{self, BatchId, Resident};
use crate::segments::{self, Chunk, ChunkLimits};
use crate::select::{RunClass, Selection};
use crate::timing::{self, Bandwidth, Stamps, Timing};
use crate::variant::{Encoding, Variant};
use crate::work::{self, Input, Job};

/// Rows of a chunk: few enough that one chunk's upload and dispatch stay short, enough to fill a
/// large GPU.
const CHUNK_ROWS_MAX: u64 = 4 << 20;
/// Segments of a chunk: bounds what each job reads back to 12 MiB.
const CHUNK_SEGMENTS_MAX: u64 = 256 << 10;
/// Bytes between a job's status block and its partials in the staging buffer.
pub(crate) const STATUS_BYTES: u64 = 16;

const _: () = assert!(size_of::<ReduceStatus>() as u64 <= STATUS_BYTES);

/// Reduces runs on one adapter. Partials are the same words as any other engine's, whatever the
/// adapter. Work is bounded: at most two chunks are in flight.
pub struct GpuEngine {
    pub(crate) device: Device,
    pub(crate) kernels: Kernels,
    pub(crate) partition: partition::Kernels,
    pub(crate) pool: Pool,
    pub(crate) selection: Selection,
    pub(crate) resident: Resident,
    /// Of the last reduction, where it is asked for.
    pub(crate) timing: Option<Timing>,
    origin: Origin,
    refused: Refused,
    /// Why rows are not partitioned here, though the adapter could.
    partition_refused: Option<String>,
    pub(crate) partitioned_rows: u64,
}

/// How to open an engine.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The adapter.
    pub choice: Choice,
    /// Whether variants are measured.
    pub calibrate: Calibrate,
    /// Bytes of columns that may stay on the device; by default a quarter of the largest buffer
    /// that the adapter allows, 256 MiB to 16 GiB, and 256 MiB on software.
    pub resident_bytes_max: Option<u64>,
}

/// A chunk on its way through the device.
struct InFlight {
    chunk: Chunk,
    submission: wgpu::SubmissionIndex,
    staging: wgpu::Buffer,
    /// Of each job, what its columns' values are counted from.
    bases: Vec<[i64; 2]>,
    buffers: Vec<wgpu::Buffer>,
    stamps: Option<Stamps>,
}

impl GpuEngine {
    /// Opens an adapter, compiles every kernel and checks a known answer, so that the first
    /// reduction costs no more than the next. Takes tens to hundreds of milliseconds.
    ///
    /// # Errors
    /// No adapter of the choice, or one that lacks what is needed, cannot be opened or computes
    /// wrongly: the text says what to install or choose.
    pub fn open(choice: Choice) -> Result<Self, EngineError> {
        Self::open_with(Settings { choice, ..Settings::default() })
    }

    /// The same with everything that can be chosen. The first opening with
    /// [`Calibrate::Cached`] takes up to a third of a second longer, a second on software.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(settings: Settings) -> Result<Self, EngineError> {
        let mut engine = Self::compile(Device::open(&settings.choice)?)?;
        if let Some(bytes) = settings.resident_bytes_max {
            engine.resident = Resident::new(bytes);
        }
        engine.calibrate(&settings.calibrate)?;
        engine.warm_up()?;
        Ok(engine)
    }

    /// What is known of the variants here, and which are used.
    pub fn calibration(&self) -> Calibration {
        let mut skipped = self.skipped();
        skipped.extend(self.refused.iter().cloned());
        Calibration {
            origin: self.origin,
            ns_per_row: self.selection.ns_per_row.clone(),
            partition_ns_per_row: self.selection.partition_ns_per_row,
            skipped,
            chosen: RunClass::ALL.map(|class| self.selection.of_class(class)),
        }
    }

    /// Finds out which variants are best.
    fn calibrate(&mut self, how: &Calibrate) -> Result<(), GpuError> {
        let file = match how {
            Calibrate::Off => return Ok(()),
            Calibrate::Always => None,
            Calibrate::Cached(folder) => {
                Some(calibrate::file(folder, &calibrate::identity(&self.device.info)))
            }
        };
        if let Some(mut selection) = file.as_deref().and_then(calibrate::read) {
            let info = &self.device.info;
            selection.ns_per_row.retain(|variant, _| variant.lacking(info).is_none());
            (self.selection, self.origin) = (selection, Origin::Cached);
            return Ok(());
        }
        (self.selection, self.refused) = calibrate::measure(self)?;
        self.origin = Origin::Measured;
        if let Some(file) = file {
            calibrate::write(&file, &self.device.info, &self.selection);
        }
        Ok(())
    }

    /// The adapter it runs on.
    pub fn adapter(&self) -> &AdapterInfo {
        &self.device.info
    }

    /// Reduces as [`Engine::reduce`] does, and keeps the columns of the batch on the device, in
    /// their compact form, so that reducing it again uploads nothing. `id` stands for the rows: the
    /// same id must come with the same ticks, while plan and runs may differ. Batches that were
    /// not reduced for longest make room; what does not fit is uploaded as ever.
    ///
    /// # Errors
    /// As [`Engine::reduce`]; after one, nothing stays on the device.
    pub fn reduce_resident(
        &mut self,
        id: BatchId,
        plan: &Plan,
        runs: &Runs,
    ) -> Result<Partials, EngineError> {
        let chosen = self.selection.choose(run_lengths(runs));
        // What stays is read often and costs its bytes: always the compact form.
        let variant = Variant { encoding: Encoding::Frame, ..chosen };
        Ok(self.reduce_batch(variant, plan, runs, Some(id))?)
    }

    /// Takes a batch off the device.
    pub fn evict(&mut self, id: BatchId) {
        self.resident.evict(id);
    }

    /// What stays on the device, and how often that helped.
    pub fn resident(&self) -> Holding {
        self.resident.holding(self.pool.uploaded_bytes)
    }

    /// Takes the time of the reductions from here on, or no longer. That costs each chunk another
    /// submission. Whether this adapter can.
    pub fn take_time(&mut self, on: bool) -> bool {
        let can = self.device.info.has(wgpu::Features::TIMESTAMP_QUERY);
        self.timing = (on && can).then(Timing::default);
        can
    }

    /// The device's time of the last reduction; `None` unless [`Self::take_time`] asked for it.
    pub fn last_timing(&self) -> Option<Timing> {
        self.timing
    }

    /// Measures how fast this device copies, takes and gives back bytes. Takes some hundred
    /// milliseconds and up to 512 MiB on the device, for as long.
    ///
    /// # Errors
    /// The device fails or is lost.
    pub fn measure_bandwidth(&mut self) -> Result<Bandwidth, EngineError> {
        Ok(timing::measure_bandwidth(&self.device)?)
    }

    /// Loses the device, as a driver does that resets it. Every further call fails. For drills of
    /// what follows from that.
    pub fn lose_device(&mut self) {
        self.device.device.destroy();
    }

    /// Rows that were partitioned on the device since it was opened.
    pub fn partitioned_rows(&self) -> u64 {
        self.partitioned_rows
    }

    /// The variants that this adapter can run, in the order of [`Variant::all`].
    pub fn variants(&self) -> Vec<Variant> {
        Variant::all().filter(|variant| variant.lacking(&self.device.info).is_none()).collect()
    }

    /// The variants that this adapter cannot run, each with what it lacks.
    pub fn skipped(&self) -> Vec<(Variant, String)> {
        Variant::all()
            .filter_map(|variant| Some((variant, variant.lacking(&self.device.info)?)))
            .collect()
    }

    /// Uses one variant for everything, or with `None` again the one that is thought best. The
    /// partials are the same either way.
    ///
    /// # Errors
    /// The adapter lacks what the variant needs; nothing is changed then.
    pub fn force(&mut self, variant: Option<Variant>) -> Result<(), EngineError> {
        if let Some(variant) = variant
            && let Some(lacking) = variant.lacking(&self.device.info)
        {
            let adapter = self.device.info.name.clone();
            return Err(GpuError::Variant { adapter, variant, lacking }.into());
        }
        self.selection.forced = variant;
        Ok(())
    }

    pub(crate) fn compile(device: Device) -> Result<Self, GpuError> {
        let selection = Selection::of_kind(&device.info);
        let resident = Resident::new(resident::bytes_max(&device.info));
        Ok(Self {
            device,
            kernels: Kernels::default(),
            partition: partition::Kernels::default(),
            pool: Pool::default(),
            selection,
            resident,
            timing: None,
            origin: Origin::Assumed,
            refused: Refused::default(),
            partition_refused: None,
            partitioned_rows: 0,
        })
    }

    /// Runs the chosen variants once on rows with a known answer, through every kernel that they
    /// may need.
    pub(crate) fn warm_up(&mut self) -> Result<(), GpuError> {
        loop {
            let mut faults = 0;
            for variant in self.selection.chosen() {
                match self.check_known(variant) {
                    // The others may do: this one is not used, and the choice made again.
                    Err(GpuError::WrongAnswer { .. }) if variant != Variant::BASE => {
                        self.selection.ns_per_row.remove(&variant);
                        self.refused.push((variant, "it computes wrong sums here".into()));
                        faults += 1;
                    }
                    checked => checked?,
                }
            }
            if faults == 0 {
                return self.warm_up_partition();
            }
        }
    }

    /// Partitions rows with a known answer. An adapter that places them wrongly takes runs only.
    fn warm_up_partition(&mut self) -> Result<(), GpuError> {
        if self.partition_lacking().is_some() {
            return Ok(());
        }
        for variant in self.selection.chosen() {
            for (plan, groups, partials) in crate::known::grouped() {
                match self.reduce_groups_by(variant, &plan, &groups) {
                    Ok(found) if found == partials => {}
                    Ok(_) | Err(GpuError::Unplaced { .. } | GpuError::Unaccounted { .. }) => {
                        self.partition_refused = Some("it places rows wrongly here".into());
                        return Ok(());
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Checks that a variant computes what is known.
    pub(crate) fn check_known(&mut self, variant: Variant) -> Result<(), GpuError> {
        for known in crate::known::answers() {
            if self.reduce_runs(variant, &known.plan, &known.runs)? != known.partials {
                let adapter = self.device.info.name.clone();
                return Err(GpuError::WrongAnswer { adapter, variant });
            }
        }
        Ok(())
    }

    pub(crate) fn reduce_runs(
        &mut self,
        variant: Variant,
        plan: &Plan,
        runs: &Runs,
    ) -> Result<Partials, GpuError> {
        self.reduce_batch(variant, plan, runs, None)
    }

    fn reduce_batch(
        &mut self,
        variant: Variant,
        plan: &Plan,
        runs: &Runs,
        id: Option<BatchId>,
    ) -> Result<Partials, GpuError> {
        let mut id = id;
        self.guarded(|engine| engine.reduce_chunks(variant, plan, runs, id.take()))
    }

    /// What an error leaves in an unknown state is given up: what is free and what stays on the
    /// device, so that the next call starts with all its memory. Where memory ran out beside what
    /// stayed, the work is done once more, and must keep nothing then.
    pub(crate) fn guarded(
        &mut self,
        mut work: impl FnMut(&mut Self) -> Result<Partials, GpuError>,
    ) -> Result<Partials, GpuError> {
        let mut result = work(self);
        if matches!(result, Err(GpuError::OutOfMemory { .. })) && self.resident.make_way() {
            self.pool.free.clear();
            result = work(self);
        }
        if result.is_err() {
            self.pool.free.clear();
            self.resident.clear();
        }
        result
    }

    /// Starts a reduction.
    pub(crate) fn begin(&mut self) -> Result<(), GpuError> {
        self.device.begin()?;
        if let Some(timing) = &mut self.timing {
            *timing = Timing::default();
        }
        Ok(())
    }

    /// Why this adapter does not partition rows, for people; `None` where it does.
    pub fn partition_lacking(&self) -> Option<String> {
        self.partition_refused.clone().or_else(|| partition::lacking(&self.device.info))
    }

    fn reduce_chunks(
        &mut self,
        variant: Variant,
        plan: &Plan,
        runs: &Runs,
        id: Option<BatchId>,
    ) -> Result<Partials, GpuError> {
        self.begin()?;
        if let Some(id) = id {
            self.resident.start(id, runs.ticks.len());
        }
        let jobs = work::jobs(plan);
        segments::check(runs)?;
        work::check_columns(&jobs, &runs.ticks)?;

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
        for chunk in segments::chunks(runs, self.chunk_limits(variant, id.is_some())) {
            let next = self.submit(variant, &jobs, runs, id, chunk)?;
            if let Some(previous) = in_flight.replace(next) {
                self.fold(&jobs, runs, previous, &mut partials)?;
            }
        }
        if let Some(last) = in_flight {
            self.fold(&jobs, runs, last, &mut partials)?;
        }
        Ok(partials)
    }

    pub(crate) fn chunk_limits(&self, variant: Variant, blocks: bool) -> ChunkLimits {
        let limits = &self.device.info.limits;
        let binding = limits.storage_binding_bytes.min(limits.buffer_bytes);
        let dispatched = u64::from(limits.workgroups_per_dimension)
            * u64::from(variant.shape.segments_per_workgroup());
        let segments_max =
            dispatched.min(binding / Input::PARTIAL_BYTES_MAX).min(CHUNK_SEGMENTS_MAX);
        ChunkLimits {
            segment_rows_max: variant.shape.segment_rows_max(),
            // Both fit 32 bits: they are at most CHUNK_ROWS_MAX and CHUNK_SEGMENTS_MAX.
            rows_max: (binding / 8).min(CHUNK_ROWS_MAX) as u32,
            segments_max: segments_max as u32,
            blocks,
        }
    }

    /// Uploads what the jobs read of a chunk and dispatches them.
    fn submit(
        &mut self,
        variant: Variant,
        jobs: &[Job],
        runs: &Runs,
        id: Option<BatchId>,
        chunk: Chunk,
    ) -> Result<InFlight, GpuError> {
        let (device, pool) = (&self.device, &mut self.pool);
        let stamps = self.timing.is_some().then(|| Stamps::begin(device)).flatten();
        let resident = id.map(|id| (&mut self.resident, id));
        let inputs =
            Uploader::new(device, pool, resident).upload(variant, jobs, &runs.ticks, &chunk);
        let segments = chunk.segments.len() as u64;
        let staging_bytes = staging_bytes(jobs, &chunk);
        let staging = pool.take(device, staging_bytes, Pool::STAGING);

        let mut outputs = Vec::new();
        let mut encoder = device.device.create_command_encoder(&Default::default());
        for job in jobs {
            let partials = pool.take(device, job.input.partial_bytes() * segments, Pool::OUTPUT);
            let status = pool.take(device, STATUS_BYTES, Pool::OUTPUT);
            encoder.clear_buffer(&status, 0, Some(STATUS_BYTES));
            outputs.push((partials, status));
        }
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
            label: Some("reduce"),
            timestamp_writes: stamps.as_ref().map(Stamps::around_compute),
        });
        for (job, (partials, status)) in jobs.iter().zip(&outputs) {
            let partials = Part::front(partials, job.input.partial_bytes() * segments);
            let status = Part::front(status, size_of::<ReduceStatus>() as u64);
            let outputs = (partials, status);
            inputs.dispatch(device, &mut self.kernels, variant, &mut pass, job.input, outputs);
        }
        drop(pass);
        let mut offset = 0;
        for (job, (partials, status)) in jobs.iter().zip(&outputs) {
            let bytes = job_bytes(job.input, &chunk);
            encoder.copy_buffer_to_buffer(status, 0, &staging, offset, STATUS_BYTES);
            encoder.copy_buffer_to_buffer(partials, 0, &staging, offset + STATUS_BYTES, bytes);
            offset += STATUS_BYTES + bytes;
        }
        if let Some(stamps) = &stamps {
            stamps.end(&mut encoder);
        }
        let submission = device.submit(encoder, &staging, staging_bytes)?;
        let bases = jobs.iter().map(|job| inputs.bases(job.input)).collect();
        let mut buffers = inputs.into_buffers();
        buffers.extend(outputs.into_iter().flat_map(|(partials, status)| [partials, status]));
        Ok(InFlight { chunk, submission, staging, bases, buffers, stamps })
    }

    /// Waits for a chunk and adds its segments' partials to their runs.
    fn fold(
        &mut self,
        jobs: &[Job],
        runs: &Runs,
        done: InFlight,
        partials: &mut Partials,
    ) -> Result<(), GpuError> {
        let InFlight { chunk, submission, staging, bases, buffers, stamps } = done;
        self.device.wait(submission)?;
        if let (Some(stamps), Some(timing)) = (stamps, &mut self.timing) {
            timing.add(stamps.read(&self.device)?);
        }
        let view = staging.get_mapped_range(..staging_bytes(jobs, &chunk)).map_err(|error| {
            GpuError::Failed { adapter: self.device.info.name.clone(), message: error.to_string() }
        })?;
        let mut rest: &[u8] = &view;
        for (job, bases) in jobs.iter().zip(bases) {
            let (status, after) = rest.split_at(STATUS_BYTES as usize);
            let (segments, after) = after.split_at(job_bytes(job.input, &chunk) as usize);
            rest = after;
            let kernel = Variant::BASE.shader(job.input).name;
            self.check_status(kernel, status, chunk.segments.len())?;
            match job.input {
                Input::Column(_) => {
                    let segments: &[ColumnPartial] = bytemuck::cast_slice(segments);
                    for (&run, segment) in chunk.run_of.iter().zip(segments) {
                        let words = run_words(partials, run);
                        let start_row = chunk.rows.start;
                        let end_words =
                            |column, row: u32| runs.end_words(column, start_row + row as usize);
                        work::add_column(words, &job.terms, segment, bases[0], end_words);
                    }
                }
                Input::Pair(..) => {
                    let segments: &[ProductPartial] = bytemuck::cast_slice(segments);
                    for (&run, segment) in chunk.run_of.iter().zip(segments) {
                        let words = run_words(partials, run);
                        work::add_product(words, job, segment, bases);
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

    /// That a kernel's status block accounts for every segment.
    pub(crate) fn check_status(
        &self,
        kernel: &'static str,
        status: &[u8],
        segments: usize,
    ) -> Result<(), GpuError> {
        let status: ReduceStatus =
            bytemuck::pod_read_unaligned(&status[..size_of::<ReduceStatus>()]);
        let segments = segments as u32;
        if status.segments_done == segments && status.segments_malformed == 0 {
            return Ok(());
        }
        Err(GpuError::Unaccounted {
            adapter: self.device.info.name.clone(),
            kernel,
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
        let variant = self.selection.choose(run_lengths(runs));
        Ok(self.reduce_runs(variant, plan, runs)?)
    }

    fn reduce_held(
        &mut self,
        number: u64,
        plan: &Plan,
        runs: &Runs,
    ) -> Result<Partials, EngineError> {
        self.reduce_resident(BatchId(number), plan, runs)
    }

    fn release(&mut self, number: u64) {
        self.evict(BatchId(number));
    }

    fn holding(&self) -> Option<Holding> {
        Some(self.resident())
    }

    fn is_lost(&self) -> bool {
        self.device.is_lost()
    }

    fn takes_groups(&self) -> bool {
        self.partition_lacking().is_none()
    }

    fn groups_ns_per_row(&self) -> Option<f64> {
        self.selection.partition_ns_per_row.filter(|_| self.takes_groups())
    }

    fn reduce_groups(&mut self, plan: &Plan, groups: &Groups) -> Result<Partials, EngineError> {
        let lengths = groups.groups.iter().map(|group| group.rows);
        let variant = self.selection.choose(lengths);
        Ok(self.reduce_groups_by(variant, plan, groups)?)
    }
}

fn run_lengths(runs: &Runs) -> impl Iterator<Item = u32> {
    runs.runs.iter().map(|run| run.len)
}

fn job_bytes(input: Input, chunk: &Chunk) -> u64 {
    input.partial_bytes() * chunk.segments.len() as u64
}

fn staging_bytes(jobs: &[Job], chunk: &Chunk) -> u64 {
    jobs.iter().map(|job| STATUS_BYTES + job_bytes(job.input, chunk)).sum()
}

/// The words of a run or group.
pub(crate) fn run_words(partials: &mut Partials, run: u32) -> &mut [u64] {
    &mut partials.words[run as usize * partials.stride..][..partials.stride]
}
