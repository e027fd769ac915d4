//! What the jobs of a chunk read, encoded and on the device.

use std::collections::BTreeMap;

use isotick_model::{Ticks, ValueColumn};
use isotick_shaders::layout::ReduceHeader;

use crate::device::{Device, Pool};
use crate::kernel::{Kernels, Part, Permutation};
use crate::resident::{BatchId, Item, Resident, What};
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
    pub rows: usize,
    pub segments: u32,
    pub header: wgpu::Buffer,
    pub segment_table: wgpu::Buffer,
    pub columns: BTreeMap<usize, DeviceColumn>,
    /// Validity words of the columns that a job reads together, where one of them has nulls.
    pub validity: BTreeMap<Vec<usize>, wgpu::Buffer>,
    /// The buffers that are the pool's.
    pub pooled: Vec<wgpu::Buffer>,
}

/// Where inputs come from and go to.
pub(crate) struct Uploader<'a> {
    pub device: &'a Device,
    pub pool: &'a mut Pool,
    /// What stays on the device, and the batch that is reduced, where it may stay.
    pub resident: Option<(&'a mut Resident, BatchId)>,
    pooled: Vec<wgpu::Buffer>,
}

impl<'a> Uploader<'a> {
    pub fn new(
        device: &'a Device,
        pool: &'a mut Pool,
        resident: Option<(&'a mut Resident, BatchId)>,
    ) -> Self {
        Self { device, pool, resident, pooled: Vec::new() }
    }

    /// Uploads what the jobs read of a chunk, but for what is there.
    pub fn upload(
        mut self,
        variant: Variant,
        jobs: &[Job],
        ticks: &Ticks,
        chunk: &Chunk,
    ) -> Inputs {
        let (rows, segments) = (chunk.rows.len(), chunk.segments.len() as u32);
        let (header, segment_table) = self.segments(chunk);
        let (mut columns, mut validity) = (BTreeMap::new(), BTreeMap::new());
        let values = &ticks.values;
        for job in jobs {
            for column in job.input.columns() {
                columns.entry(column).or_insert_with(|| {
                    self.column(variant.encoding, column, &values[column], chunk)
                });
            }
            let key = validity_key(job.input);
            if !validity.contains_key(&key)
                && let Some(words) = self.validity(&key, values, chunk)
            {
                validity.insert(key, words);
            }
        }
        let pooled = self.pooled;
        Inputs { rows, segments, header, segment_table, columns, validity, pooled }
    }

    /// Uploads words that do not stay.
    pub fn words(&mut self, words: &[u32]) -> wgpu::Buffer {
        let bytes: &[u8] = bytemuck::cast_slice(words);
        let buffer = self.buffer(false, bytes.len() as u64, Pool::INPUT);
        self.pool.write(self.device, &buffer, bytes);
        buffer
    }

    /// The buffers that are the pool's.
    pub fn into_pooled(self) -> Vec<wgpu::Buffer> {
        self.pooled
    }

    /// The header and the table of segments.
    pub fn segments(&mut self, chunk: &Chunk) -> (wgpu::Buffer, wgpu::Buffer) {
        let first = chunk.segments.first().map_or(0, |segment| segment.start_row);
        let what = What::Segments { block: chunk.rows.start, first };
        if let Some(Item::Segments { header, table, segments }) = self.held(&what)
            && segments == chunk.segments
        {
            return (header, table);
        }
        let (rows, segments) = (chunk.rows.len() as u32, chunk.segments.len() as u32);
        let header = ReduceHeader { segment_count: segments, row_count: rows };
        let header_bytes: &[u8] = bytemuck::bytes_of(&header);
        let table_bytes: &[u8] = bytemuck::cast_slice(&chunk.segments);
        // The host keeps the segments too, to compare them.
        let together = (header_bytes.len() + 2 * table_bytes.len()) as u64;
        let stays = self.make_room(together);
        let header = self.buffer(stays, header_bytes.len() as u64, Pool::HEADER);
        self.pool.write(self.device, &header, header_bytes);
        let table = self.buffer(stays, table_bytes.len() as u64, Pool::INPUT);
        self.pool.write(self.device, &table, table_bytes);
        let (h, t, segments) = (header.clone(), table.clone(), chunk.segments.clone());
        self.keep(stays, what, Item::Segments { header: h, table: t, segments }, together);
        (header, table)
    }

    /// A column of the chunk's rows.
    pub fn column(
        &mut self,
        encoding: Encoding,
        column: usize,
        values: &ValueColumn,
        chunk: &Chunk,
    ) -> DeviceColumn {
        let what = What::Column { block: chunk.rows.start, column };
        if let Some(Item::Column(held)) = self.held(&what) {
            return held;
        }
        let base = match encoding {
            Encoding::Frame => frame_base(values, chunk),
            Encoding::Wide => None,
        };
        let values = &values.values[chunk.rows.clone()];
        let bytes = values.len() as u64 * if base.is_some() { 4 } else { 8 };
        let stays = self.make_room(bytes);
        let buffer = self.buffer(stays, bytes, Pool::INPUT);
        match base {
            Some(base) => self.pool.write_deltas(self.device, &buffer, values, base),
            None => self.pool.write(self.device, &buffer, bytemuck::cast_slice(values)),
        }
        let column = DeviceColumn { buffer, base };
        self.keep(stays, what, Item::Column(column.clone()), bytes);
        column
    }

    /// One bit per row of the chunk, set where every column has a value; `None` where all have.
    pub fn validity(
        &mut self,
        key: &[usize],
        values: &[ValueColumn],
        chunk: &Chunk,
    ) -> Option<wgpu::Buffer> {
        let what = What::Validity { block: chunk.rows.start, columns: key.to_vec() };
        if let Some(Item::Validity(held)) = self.held(&what) {
            return Some(held);
        }
        let words = validity_words(key.iter().map(|&column| &values[column]), chunk)?;
        let words: &[u8] = bytemuck::cast_slice(&words);
        let stays = self.make_room(words.len() as u64);
        let buffer = self.buffer(stays, words.len() as u64, Pool::INPUT);
        self.pool.write(self.device, &buffer, words);
        self.keep(stays, what, Item::Validity(buffer.clone()), words.len() as u64);
        Some(buffer)
    }

    fn held(&mut self, what: &What) -> Option<Item> {
        let (resident, id) = self.resident.as_mut()?;
        resident.get(*id, what)
    }

    fn make_room(&mut self, bytes: u64) -> bool {
        self.resident.as_mut().is_some_and(|(resident, id)| resident.make_room(*id, bytes))
    }

    fn buffer(&mut self, stays: bool, bytes: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        if stays {
            return self.pool.apart(self.device, bytes, usage);
        }
        let buffer = self.pool.take(self.device, bytes, usage);
        self.pooled.push(buffer.clone());
        buffer
    }

    fn keep(&mut self, stays: bool, what: What, item: Item, bytes: u64) {
        if let Some((resident, id)) = self.resident.as_mut().filter(|_| stays) {
            resident.put(*id, what, item, bytes);
        }
    }
}

impl Inputs {
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
        let mut parts = Vec::from(self.segment_parts());
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

    /// The parts of a segment table that every reduction binds first.
    pub fn segment_parts(&self) -> [Part<'_>; 2] {
        [
            Part::front(&self.header, size_of::<ReduceHeader>() as u64),
            Part::front(&self.segment_table, u64::from(self.segments) * 8),
        ]
    }

    /// What goes back to the pool when the chunk is done.
    pub fn into_buffers(self) -> Vec<wgpu::Buffer> {
        self.pooled
    }
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

pub(crate) fn validity_key(input: Input) -> Vec<usize> {
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
