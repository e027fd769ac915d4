//! What the jobs of a chunk read, encoded and on the device.

use std::collections::BTreeMap;

use isotick_kernels::Runs;
use isotick_model::ValueColumn;
use isotick_shaders::layout::ReduceHeader;

use crate::device::{Device, Pool};
use crate::kernel::{Kernels, Part, Permutation};
use crate::segments::Chunk;
use crate::variant::{Encoding, Variant};
use crate::work::{Input, Job};

/// A column of a chunk on the device.
#[derive(Clone)]
pub(crate) struct DeviceColumn {
    pub buffer: wgpu::Buffer,
    /// The base of its u32 deltas; `None` where it holds 64-bit values.
    pub base: Option<i64>,
}

impl DeviceColumn {
    /// Bytes of this many rows.
    pub fn bytes(&self, rows: usize) -> u64 {
        rows as u64 * if self.base.is_some() { 4 } else { 8 }
    }
}

/// What the jobs of a chunk read, on the device.
pub(crate) struct Inputs {
    rows: usize,
    segments: u32,
    header: wgpu::Buffer,
    segment_table: wgpu::Buffer,
    pub columns: BTreeMap<usize, DeviceColumn>,
    /// Validity words of the columns that a job reads together, where one of them has nulls.
    validity: BTreeMap<Vec<usize>, wgpu::Buffer>,
}

impl Inputs {
    pub fn upload(
        device: &Device,
        pool: &mut Pool,
        variant: Variant,
        jobs: &[Job],
        runs: &Runs,
        chunk: &Chunk,
    ) -> Self {
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
                    upload_column(device, pool, variant.encoding, &values[column], chunk)
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

    /// The bases of the columns of an input; 0 where a column holds 64-bit values.
    pub fn bases(&self, input: Input) -> [i64; 2] {
        let mut bases = input.columns().map(|c| self.columns[&c].base.unwrap_or(0));
        [bases.next().unwrap_or(0), bases.next().unwrap_or(0)]
    }

    pub fn dispatch(
        &self,
        device: &Device,
        kernels: &mut Kernels,
        variant: Variant,
        pass: &mut wgpu::ComputePass<'_>,
        input: Input,
        (partials, status): (Part<'_>, Part<'_>),
    ) {
        let validity = self.validity.get(&validity_key(input));
        let mut framed = input.columns().map(|c| self.columns[&c].base.is_some());
        let permutation = Permutation {
            variant,
            is_pair: matches!(input, Input::Pair(..)),
            framed: [framed.next().unwrap_or(false), framed.next().unwrap_or(false)],
            nullable: validity.is_some(),
        };
        let mut parts = vec![
            Part::front(&self.header, size_of::<ReduceHeader>() as u64),
            Part::front(&self.segment_table, u64::from(self.segments) * 8),
        ];
        parts.extend(input.columns().map(|c| {
            let column = &self.columns[&c];
            Part::front(&column.buffer, column.bytes(self.rows))
        }));
        // Without nulls the shader reads no validity; the binding must hold something.
        parts.push(match validity {
            Some(words) => Part::front(words, self.rows.div_ceil(32) as u64 * 4),
            None => Part::front(&self.segment_table, 4),
        });
        parts.extend([partials, status]);
        kernels.get(device, permutation).record(device, pass, &parts, self.segments);
    }

    /// What goes back to the pool when the chunk is done.
    pub fn into_buffers(self) -> Vec<wgpu::Buffer> {
        let mut buffers = vec![self.header, self.segment_table];
        buffers.extend(self.columns.into_values().map(|column| column.buffer));
        buffers.extend(self.validity.into_values());
        buffers
    }
}

fn upload_column(
    device: &Device,
    pool: &mut Pool,
    encoding: Encoding,
    column: &ValueColumn,
    chunk: &Chunk,
) -> DeviceColumn {
    let values = &column.values[chunk.rows.clone()];
    let base = match encoding {
        Encoding::Frame => frame_base(column, chunk),
        Encoding::Wide => None,
    };
    let buffer = match base {
        Some(base) => pool.upload_deltas(device, values, base),
        None => pool.upload(device, bytemuck::cast_slice(values), Pool::INPUT),
    };
    DeviceColumn { buffer, base }
}

/// The least value of a chunk's rows, where no value is 2^32 or more above it.
/// Null rows do not count: their deltas are never read.
pub(crate) fn frame_base(column: &ValueColumn, chunk: &Chunk) -> Option<i64> {
    let values = &column.values[chunk.rows.clone()];
    let nulls = column.nulls.as_ref().map(|nulls| nulls.slice(chunk.rows.start, values.len()));
    let (mut least, mut greatest) = (i64::MAX, i64::MIN);
    let mut widen = |value: i64| {
        least = least.min(value);
        greatest = greatest.max(value);
    };
    match nulls.filter(|nulls| nulls.null_count() > 0) {
        None => values.iter().for_each(|&value| widen(value)),
        Some(nulls) => nulls.valid_indices().for_each(|row| widen(values[row])),
    }
    if least > greatest {
        return Some(0);
    }
    (greatest.abs_diff(least) <= u64::from(u32::MAX)).then_some(least)
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
