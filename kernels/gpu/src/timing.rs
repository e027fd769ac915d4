//! How long the device takes, by its own clock, and how fast it moves bytes.

use std::time::Instant;

use wgpu::BufferUsages;

use crate::adapters::AdapterInfo;
use crate::device::Device;
use crate::error::GpuError;

/// The device's time of one reduction, nanoseconds, summed over its chunks. Chunks overlap with the
/// host's work, so that the sum may exceed the time that passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// From the start of a chunk's upload to its first kernel; what the host does in between
    /// (encoding, copying) is in it.
    pub upload_ns: u64,
    /// The kernels.
    pub compute_ns: u64,
    /// From the last kernel until the partials stand where the host reads them.
    pub readback_ns: u64,
    /// Chunks.
    pub chunks: u64,
}

impl Timing {
    pub(crate) fn add(&mut self, other: Self) {
        self.upload_ns += other.upload_ns;
        self.compute_ns += other.compute_ns;
        self.readback_ns += other.readback_ns;
        self.chunks += other.chunks;
    }
}

/// The points of a chunk's way that are stamped.
const STAMPS: u32 = 4;
const STAMP_BYTES: u64 = STAMPS as u64 * 8;

/// The stamps of one chunk: upload, kernels, their end, end.
pub(crate) struct Stamps {
    set: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    staging: wgpu::Buffer,
}

impl Stamps {
    /// Stamps the start of a chunk's upload: to be called before anything is written for it.
    /// `None` where the adapter has no stamps.
    pub fn begin(device: &Device) -> Option<Self> {
        if !device.info.has(wgpu::Features::TIMESTAMP_QUERY) {
            return None;
        }
        let buffer = |usage| {
            device.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("stamps"),
                size: STAMP_BYTES,
                usage,
                mapped_at_creation: false,
            })
        };
        let stamps = Self {
            set: device.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("stamps"),
                ty: wgpu::QueryType::Timestamp,
                count: STAMPS,
            }),
            resolved: buffer(BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC),
            staging: buffer(BufferUsages::MAP_READ | BufferUsages::COPY_DST),
        };
        // What is written for the chunk goes to the device with the next submission, after this.
        let mut encoder = device.device.create_command_encoder(&Default::default());
        stamps.mark(&mut encoder, 0);
        device.queue.submit([encoder.finish()]);
        Some(stamps)
    }

    pub fn around_compute(&self) -> wgpu::ComputePassTimestampWrites<'_> {
        wgpu::ComputePassTimestampWrites {
            query_set: &self.set,
            beginning_of_pass_write_index: Some(1),
            end_of_pass_write_index: Some(2),
        }
    }

    /// Stamps the end and makes all stamps readable.
    pub fn end(&self, encoder: &mut wgpu::CommandEncoder) {
        self.mark(encoder, 3);
        encoder.resolve_query_set(&self.set, 0..STAMPS, &self.resolved, 0);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.staging, 0, STAMP_BYTES);
    }

    /// The times between the stamps of a chunk that is done.
    pub fn read(&self, device: &Device) -> Result<Timing, GpuError> {
        let bytes = read_back(device, &self.staging, STAMP_BYTES)?;
        let ticks: Vec<u64> = bytes
            .chunks_exact(8)
            .map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap_or_default()))
            .collect();
        let period = f64::from(device.queue.get_timestamp_period());
        let ns = |from: usize| (ticks[from + 1].saturating_sub(ticks[from]) as f64 * period) as u64;
        Ok(Timing { upload_ns: ns(0), compute_ns: ns(1), readback_ns: ns(2), chunks: 1 })
    }

    /// An empty pass stamps where stamps outside of passes are not offered.
    fn mark(&self, encoder: &mut wgpu::CommandEncoder, index: u32) {
        encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
            label: Some("stamp"),
            timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                query_set: &self.set,
                beginning_of_pass_write_index: Some(index),
                end_of_pass_write_index: None,
            }),
        });
    }
}

/// What a device moves, bytes per second, each the median of several runs by the host's clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bandwidth {
    /// From buffer to buffer on the device; each byte counts once, though it is read and written.
    pub copy_bytes_per_s: f64,
    /// From the host to the device.
    pub upload_bytes_per_s: f64,
    /// From the device to the host.
    pub readback_bytes_per_s: f64,
}

const RUNS: usize = 5;
/// Copies of one submission, so that its fixed cost does not count.
const COPIES: u32 = 8;

pub(crate) fn measure_bandwidth(device: &Device) -> Result<Bandwidth, GpuError> {
    device.begin()?;
    let bytes = bandwidth_bytes(&device.info);
    let buffer = |usage| {
        device.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("bandwidth"),
            size: bytes,
            usage,
            mapped_at_creation: false,
        })
    };
    let from = buffer(BufferUsages::COPY_SRC | BufferUsages::COPY_DST);
    let to = buffer(BufferUsages::COPY_SRC | BufferUsages::COPY_DST);
    let staging = buffer(BufferUsages::MAP_READ | BufferUsages::COPY_DST);
    let data = vec![0x5A_u8; bytes as usize];
    device.check()?;

    let wait = |encoder: wgpu::CommandEncoder| {
        let index = device.queue.submit([encoder.finish()]);
        device.wait(index)
    };
    let encoder = || device.device.create_command_encoder(&Default::default());
    let upload = median(bytes, || {
        device.queue.write_buffer(&from, 0, &data);
        wait(encoder())
    })?;
    let copy = median(bytes * u64::from(COPIES), || {
        let mut encoder = encoder();
        for _ in 0..COPIES {
            encoder.copy_buffer_to_buffer(&from, 0, &to, 0, bytes);
        }
        wait(encoder)
    })?;
    let readback = median(bytes, || {
        let mut encoder = encoder();
        encoder.copy_buffer_to_buffer(&to, 0, &staging, 0, bytes);
        wait(encoder)?;
        let read = read_back(device, &staging, bytes)?;
        std::hint::black_box(read.last());
        Ok(())
    })?;
    Ok(Bandwidth {
        copy_bytes_per_s: copy,
        upload_bytes_per_s: upload,
        readback_bytes_per_s: readback,
    })
}

/// Enough that the caches of a large GPU do not serve it.
fn bandwidth_bytes(adapter: &AdapterInfo) -> u64 {
    let wanted: u64 = if adapter.is_software() { 16 << 20 } else { 128 << 20 };
    wanted.min(adapter.limits.buffer_bytes) & !3
}

/// Bytes per second: the median of several runs after one that does not count.
fn median(bytes: u64, mut run: impl FnMut() -> Result<(), GpuError>) -> Result<f64, GpuError> {
    run()?;
    let mut seconds = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let begin = Instant::now();
        run()?;
        seconds.push(begin.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(bytes as f64 / seconds[RUNS / 2].max(1e-9))
}

/// The front of a buffer that the device is done with.
fn read_back(device: &Device, staging: &wgpu::Buffer, bytes: u64) -> Result<Vec<u8>, GpuError> {
    let encoder = device.device.create_command_encoder(&Default::default());
    let submission = device.submit(encoder, staging, bytes)?;
    device.wait(submission)?;
    let view = staging.get_mapped_range(..bytes).map_err(|error| GpuError::Failed {
        adapter: device.info.name.clone(),
        message: error.to_string(),
    })?;
    let read = view.to_vec();
    drop(view);
    staging.unmap();
    Ok(read)
}

#[cfg(test)]
#[path = "tests/timing.rs"]
mod tests;
