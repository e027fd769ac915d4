//! An opened device: what goes wrong on it becomes an error, and its buffers are pooled.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wgpu::BufferUsages;

use crate::adapters::{AdapterInfo, Choice, choose};
use crate::error::GpuError;

/// How long one chunk may take. Chunks are bounded, so that even slow software adapters need
/// seconds; a device that takes longer hangs.
const ANSWER_SECONDS_MAX: u64 = 120;
/// It is waited for in pieces: where the process itself stood still, as in a machine that is paused,
/// that is counted once, and the device may still answer.
const WAITS: u64 = 2;

/// A device, its queue and what the driver reported.
pub(crate) struct Device {
    /// The adapter.
    pub info: AdapterInfo,
    /// The device.
    pub device: wgpu::Device,
    /// Its queue.
    pub queue: wgpu::Queue,
    faults: Arc<Mutex<Faults>>,
}

/// What the driver's callbacks reported.
#[derive(Default)]
struct Faults {
    /// Why the device is gone.
    lost: Option<String>,
    /// The first error of the work since the last [`Device::begin`].
    failed: Option<Failure>,
}

/// An error that the device outlives.
#[derive(Clone)]
struct Failure {
    is_memory: bool,
    message: String,
}

impl Failure {
    fn new(message: impl ToString) -> Self {
        Self { is_memory: false, message: message.to_string() }
    }

    fn into_error(self, adapter: String) -> GpuError {
        let Self { is_memory, message } = self;
        match is_memory {
            true => GpuError::OutOfMemory { adapter, message },
            false => GpuError::Failed { adapter, message },
        }
    }
}

impl Faults {
    fn is_clear(&self) -> bool {
        self.lost.is_none() && self.failed.is_none()
    }
}

impl Device {
    /// Opens the adapter that is chosen, with the limits and the optional features that it offers.
    pub fn open(choice: &Choice) -> Result<Self, GpuError> {
        let (adapter, info) = choose(choice)?;
        let request = adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("isotick"),
            required_features: info.offered,
            required_limits: adapter.limits(),
            experimental_features: wgpu::ExperimentalFeatures::disabled(),
            memory_hints: wgpu::MemoryHints::Performance,
            trace: wgpu::Trace::Off,
        });
        let (device, queue) = pollster::block_on(request)
            .map_err(|source| GpuError::Open { adapter: info.name.clone(), source })?;

        let faults = Arc::new(Mutex::new(Faults::default()));
        let shared = Arc::clone(&faults);
        device.set_device_lost_callback(move |reason, message| {
            lock(&shared).lost.get_or_insert(format!("{reason:?}: {message}"));
        });
        // The engine owns its device, so that this handler sees every error of its work, from
        // whichever thread; nothing else is needed, and nothing panics.
        let shared = Arc::clone(&faults);
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            let is_memory = matches!(error, wgpu::Error::OutOfMemory { .. });
            let failure = Failure { is_memory, message: error.to_string() };
            lock(&shared).failed.get_or_insert(failure);
        }));
        Ok(Self { info, device, queue, faults })
    }

    /// Starts a piece of work: forgets errors of work that was given up.
    pub fn begin(&self) -> Result<(), GpuError> {
        lock(&self.faults).failed = None;
        self.check()
    }

    /// Whether the driver said that the device is gone, or it stopped answering.
    pub fn is_lost(&self) -> bool {
        lock(&self.faults).lost.is_some()
    }

    /// As if the driver had found no memory.
    #[cfg(test)]
    pub fn run_out_of_memory(&self) {
        let failure = Failure { is_memory: true, ..Failure::new("planted") };
        lock(&self.faults).failed.get_or_insert(failure);
    }

    /// What the driver reported since [`Self::begin`].
    pub fn check(&self) -> Result<(), GpuError> {
        if lock(&self.faults).is_clear() {
            return Ok(());
        }
        // That the device is lost is said only when nothing is under way any more, and work on a
        // lost device fails first for reasons that hide it. What failed also leaves its memory.
        self.drain();
        let faults = lock(&self.faults);
        let adapter = self.info.name.clone();
        match (&faults.lost, &faults.failed) {
            (Some(message), _) => Err(GpuError::Lost { adapter, message: message.clone() }),
            (None, Some(failure)) => Err(failure.clone().into_error(adapter)),
            (None, None) => Ok(()),
        }
    }

    /// Submits commands and asks for `staging` to be mapped when they are done.
    pub fn submit(
        &self,
        encoder: wgpu::CommandEncoder,
        staging: &wgpu::Buffer,
        bytes: u64,
    ) -> Result<wgpu::SubmissionIndex, GpuError> {
        let index = self.queue.submit([encoder.finish()]);
        let shared = Arc::clone(&self.faults);
        staging.map_async(wgpu::MapMode::Read, ..bytes, move |result| {
            if let Err(error) = result {
                lock(&shared).failed.get_or_insert(Failure::new(error));
            }
        });
        self.check()?;
        Ok(index)
    }

    /// Waits for a submission; afterwards its staging buffer is mapped.
    pub fn wait(&self, index: wgpu::SubmissionIndex) -> Result<(), GpuError> {
        let wait = || {
            self.poll(wgpu::PollType::Wait {
                submission_index: Some(index.clone()),
                timeout: Some(Duration::from_secs(ANSWER_SECONDS_MAX / WAITS)),
            })
        };
        let is_late =
            |polled: &Result<_, Lost>| matches!(polled, Ok(Err(wgpu::PollError::Timeout)));
        let mut polled = wait();
        for _ in 1..WAITS {
            if is_late(&polled) {
                polled = wait();
            }
        }
        match polled {
            Ok(Ok(_)) => self.check(),
            Ok(Err(wgpu::PollError::Timeout)) => {
                let error = GpuError::TimedOut {
                    adapter: self.info.name.clone(),
                    seconds: ANSWER_SECONDS_MAX,
                };
                lock(&self.faults).lost.get_or_insert("it stopped answering".into());
                Err(error)
            }
            Ok(Err(error)) => {
                self.check()?;
                Err(GpuError::Failed {
                    adapter: self.info.name.clone(),
                    message: error.to_string(),
                })
            }
            Err(Lost) => {
                lock(&self.faults).lost.get_or_insert("lost while it was waited for".into());
                self.check()
            }
        }
    }

    /// Waits until nothing is under way.
    fn drain(&self) {
        let timeout = Some(Duration::from_secs(ANSWER_SECONDS_MAX));
        let polled = self.poll(wgpu::PollType::Wait { submission_index: None, timeout });
        if matches!(polled, Err(Lost)) {
            lock(&self.faults).lost.get_or_insert("lost while it was waited for".into());
        }
    }

    /// wgpu panics where the driver reports a lost device while polling. Nothing of ours is
    /// touched inside, and a lost device is not used again.
    fn poll(
        &self,
        poll: wgpu::PollType,
    ) -> Result<Result<wgpu::PollStatus, wgpu::PollError>, Lost> {
        catch_unwind(AssertUnwindSafe(|| self.device.poll(poll))).map_err(|_| Lost)
    }
}

/// Polling found the device lost.
struct Lost;

/// Callbacks only store text: a poisoned lock still holds a whole value.
fn lock(faults: &Mutex<Faults>) -> MutexGuard<'_, Faults> {
    faults.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Buffers that wait to be used again. It holds what the largest reduction so far needed.
#[derive(Default)]
pub(crate) struct Pool {
    pub free: Vec<wgpu::Buffer>,
    /// Bytes that the host has written so far.
    pub uploaded_bytes: u64,
    /// Planted: how many new buffers there are before memory runs out, once.
    #[cfg(test)]
    pub buffers_left: Option<usize>,
}

impl Pool {
    /// Read by shaders, written by the host.
    pub const INPUT: BufferUsages = BufferUsages::STORAGE.union(BufferUsages::COPY_DST);
    /// The uniform header.
    pub const HEADER: BufferUsages = BufferUsages::UNIFORM.union(BufferUsages::COPY_DST);
    /// Written by shaders, copied out.
    pub const OUTPUT: BufferUsages =
        BufferUsages::STORAGE.union(BufferUsages::COPY_SRC).union(BufferUsages::COPY_DST);
    /// Read by the host.
    pub const STAGING: BufferUsages = BufferUsages::MAP_READ.union(BufferUsages::COPY_DST);

    /// A buffer of this usage of at least `bytes`; its content is arbitrary.
    pub fn take(&mut self, device: &Device, bytes: u64, usage: BufferUsages) -> wgpu::Buffer {
        let smallest = self
            .free
            .iter()
            .enumerate()
            .filter(|(_, buffer)| buffer.usage() == usage && buffer.size() >= bytes)
            .min_by_key(|(_, buffer)| buffer.size());
        if let Some((index, _)) = smallest {
            return self.free.swap_remove(index);
        }
        // Powers of two, so that sizes that differ a little share buffers.
        self.create(device, None, bytes.max(256).next_power_of_two(), usage)
    }

    /// A buffer of just this size that never comes to the pool.
    pub fn apart(&mut self, device: &Device, bytes: u64, usage: BufferUsages) -> wgpu::Buffer {
        self.create(device, Some("resident"), bytes.next_multiple_of(4), usage)
    }

    fn create(
        &mut self,
        device: &Device,
        label: Option<&str>,
        size: u64,
        usage: BufferUsages,
    ) -> wgpu::Buffer {
        #[cfg(test)]
        if let Some(left) = self.buffers_left.take() {
            match left.checked_sub(1) {
                Some(fewer) => self.buffers_left = Some(fewer),
                None => device.run_out_of_memory(),
            }
        }
        let descriptor = wgpu::BufferDescriptor { label, size, usage, mapped_at_creation: false };
        device.device.create_buffer(&descriptor)
    }

    /// Takes a buffer and fills its front. `data` is a multiple of 4 bytes long.
    #[cfg(test)]
    pub fn upload(&mut self, device: &Device, data: &[u8], usage: BufferUsages) -> wgpu::Buffer {
        let buffer = self.take(device, data.len() as u64, usage);
        self.write(device, &buffer, data);
        buffer
    }

    /// Fills the front of a buffer. `data` is a multiple of 4 bytes long.
    pub fn write(&mut self, device: &Device, buffer: &wgpu::Buffer, data: &[u8]) {
        self.uploaded_bytes += data.len() as u64;
        device.queue.write_buffer(buffer, 0, data);
    }

    /// Fills the front of a buffer with u32 deltas from a base, without a copy in between. Values
    /// that differ by more than 32 bits are cut: they must be null.
    pub fn write_deltas(
        &mut self,
        device: &Device,
        buffer: &wgpu::Buffer,
        values: &[i64],
        base: i64,
    ) {
        let bytes = values.len() as u64 * 4;
        self.uploaded_bytes += bytes;
        let deltas = values.iter().map(|value| (value.wrapping_sub(base) as u32).to_le_bytes());
        let size = wgpu::BufferSize::new(bytes);
        // Without a view the device is lost or out of memory, and has said so.
        if let Some(mut view) =
            size.and_then(|size| device.queue.write_buffer_with(buffer, 0, size))
        {
            view.slice(..).into_chunks::<4>().0.write_iter(deltas);
        }
    }

    /// Gives buffers back, unmapped, once the device is done with them.
    pub fn give_back(&mut self, buffers: impl IntoIterator<Item = wgpu::Buffer>) {
        self.free.extend(buffers);
    }
}
