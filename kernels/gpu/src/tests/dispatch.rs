//! One dispatch of one shader over bare buffers, its output poisoned and guarded.

use bytemuck::Pod;
use isotick_shaders::Shader;
use isotick_shaders::layout::{ReduceHeader, ReduceStatus, Segment};

use super::random::Random;
use crate::device::{Device, Pool};
use crate::kernel::{Kernel, WORKGROUP_SIZE};
use crate::segments::SEGMENT_ROWS_MAX;

/// What outputs hold before the dispatch, and the guard after it.
pub(crate) const POISON: u32 = 0xDEAD_BEEF;

/// Rows, segments over them, and which rows are valid (`None`: all, and not asked).
pub(crate) struct Case {
    pub columns: Vec<Vec<i64>>,
    pub valid: Option<Vec<bool>>,
    pub segments: Vec<Segment>,
}

impl Case {
    pub fn is_valid(&self, row: usize) -> bool {
        self.valid.as_ref().is_none_or(|valid| valid[row])
    }

    /// The rows of a segment.
    pub fn rows(&self, segment: usize) -> std::ops::Range<usize> {
        let Segment { start_row, len_rows } = self.segments[segment];
        start_row as usize..(start_row + len_rows) as usize
    }
}

/// Runs the shader; the partials must be as many as the segments, and nothing past them touched.
pub(crate) fn dispatch<P: Pod>(
    device: &Device,
    kernels: &[Kernel; 2],
    case: &Case,
) -> (Vec<P>, ReduceStatus) {
    device.begin().unwrap();
    let mut pool = Pool::default();
    let rows = case.columns[0].len();
    let segments = case.segments.len();
    let header = ReduceHeader { segment_count: segments as u32, row_count: rows as u32 };
    let header = pool.upload(device, bytemuck::bytes_of(&header), Pool::HEADER);

    // A row of padding: a binding is never empty, and reads past the rows find poison.
    let mut table: Vec<u32> = bytemuck::cast_slice(&case.segments).to_vec();
    table.extend([POISON; 2]);
    let table = (pool.upload(device, bytemuck::cast_slice(&table), Pool::INPUT), table.len());
    let mut columns = Vec::new();
    for column in &case.columns {
        let mut words: Vec<u32> = bytemuck::cast_slice(column).to_vec();
        words.extend([POISON; 2]);
        let buffer = pool.upload(device, bytemuck::cast_slice(&words), Pool::INPUT);
        columns.push((buffer, words.len()));
    }
    let mut words = vec![0_u32; rows.div_ceil(32) + 1];
    for row in (0..rows).filter(|&row| case.is_valid(row)) {
        words[row / 32] |= 1 << (row % 32);
    }
    if case.valid.is_none() {
        words.fill(0);
    }
    let validity = (pool.upload(device, bytemuck::cast_slice(&words), Pool::INPUT), words.len());

    let partial_words = size_of::<P>() / 4;
    // A guard word, and room for one partial in any case: a binding is never empty.
    let output_words = (segments * partial_words + 1).max(partial_words);
    let poison = vec![POISON; output_words];
    let output = pool.upload(device, bytemuck::cast_slice(&poison), Pool::OUTPUT);
    let status = pool.upload(device, bytemuck::bytes_of(&ReduceStatus::default()), Pool::OUTPUT);
    let status_bytes = size_of::<ReduceStatus>() as u64;

    let mut buffers = vec![(&header, size_of::<ReduceHeader>() as u64)];
    buffers.extend(
        [&table].into_iter().chain(&columns).chain([&validity]).map(|(b, n)| (b, *n as u64 * 4)),
    );
    buffers.extend([(&output, output_words as u64 * 4), (&status, status_bytes)]);

    let mut encoder = device.device.create_command_encoder(&Default::default());
    let kernel = &kernels[usize::from(case.valid.is_some())];
    kernel.record(device, &mut encoder, &buffers, segments as u32);
    let total = output_words as u64 * 4 + status_bytes;
    let staging = pool.take(device, total, Pool::STAGING);
    encoder.copy_buffer_to_buffer(&status, 0, &staging, 0, status_bytes);
    encoder.copy_buffer_to_buffer(&output, 0, &staging, status_bytes, total - status_bytes);
    let submission = device.submit(encoder, &staging, total).unwrap();
    device.wait(submission).unwrap();

    let view = staging.get_mapped_range(..total).unwrap();
    let (status, output) = view.split_at(status_bytes as usize);
    let words: &[u32] = bytemuck::cast_slice(output);
    let (partials, guard) = words.split_at(segments * partial_words);
    assert!(guard.iter().all(|&word| word == POISON), "the guard after {segments} partials");
    (bytemuck::cast_slice(partials).to_vec(), bytemuck::pod_read_unaligned(status))
}

pub(crate) fn kernels(device: &Device, shader: Shader) -> [Kernel; 2] {
    let kernels = [false, true].map(|nullable| Kernel::new(device, shader, nullable));
    device.check().unwrap();
    kernels
}

/// Numbers of segments around the workgroup size's edges.
pub(crate) fn segment_counts() -> Vec<usize> {
    let w = WORKGROUP_SIZE as usize;
    vec![0, 1, w - 1, w, w + 1, 3 * w - 1, 3 * w, 3 * w + 1]
}

/// Cases over `columns` columns: every edge of segment counts and lengths, skewed lengths,
/// extremes everywhere, all null, none null.
pub(crate) fn cases(columns: usize, seed: u64) -> Vec<Case> {
    let mut random = Random(seed);
    let mut cases = Vec::new();
    let bound = SEGMENT_ROWS_MAX as usize;
    for count in segment_counts() {
        for shape in 0..4 {
            let lens = lengths(&mut random, count, shape, bound);
            let rows = lens.iter().sum();
            let values = |random: &mut Random| match shape {
                0 => [i64::MIN, i64::MAX][random.below(2) as usize],
                _ => random.value(),
            };
            let columns =
                (0..columns).map(|_| (0..rows).map(|_| values(&mut random)).collect()).collect();
            let valid = [None, Some(0), Some(1), Some(90)][random.below(4) as usize];
            cases.push(case(columns, valid, &lens, &mut random));
        }
    }
    for value in [i64::MIN, i64::MAX, -1, 0] {
        for valid in [None, Some(0), Some(100)] {
            let columns = vec![vec![value; bound * 2]; columns];
            cases.push(case(columns, valid, &[bound, bound], &mut random));
        }
    }
    cases
}

/// Segment lengths: at the bound's edges, random, one giant among ones, all ones.
fn lengths(random: &mut Random, count: usize, shape: usize, bound: usize) -> Vec<usize> {
    let edges = [1, 2, 31, 32, 33, 63, 64, 65, bound - 1, bound];
    let mut lens: Vec<usize> = (0..count)
        .map(|_| match shape {
            0 => edges[random.below(edges.len() as u64) as usize],
            1 => 1 + random.below(bound as u64) as usize,
            _ => 1,
        })
        .collect();
    if shape == 2 && count > 0 {
        lens[random.below(count as u64) as usize] = bound;
    }
    lens
}

fn case(
    columns: Vec<Vec<i64>>,
    valid_percent: Option<u64>,
    lens: &[usize],
    random: &mut Random,
) -> Case {
    let mut start = 0;
    let segments = lens
        .iter()
        .map(|&len| {
            let segment = Segment { start_row: start, len_rows: len as u32 };
            start += len as u32;
            segment
        })
        .collect();
    let valid = valid_percent
        .map(|percent| columns[0].iter().map(|_| random.below(100) < percent).collect());
    Case { columns, valid, segments }
}

/// Segments that must be refused, among sound ones: empty, too long, past the end, wrapping.
pub(crate) fn malformed_case(columns: usize) -> (Case, Vec<usize>) {
    let rows = SEGMENT_ROWS_MAX + 8;
    let segment = |start_row, len_rows| Segment { start_row, len_rows };
    let segments = vec![
        segment(0, 1),
        segment(3, 0),
        segment(0, SEGMENT_ROWS_MAX + 1),
        segment(rows - 2, 3),
        segment(u32::MAX, 2),
        segment(rows + 1, 1),
        segment(rows - 3, 3),
    ];
    let columns = vec![vec![7; rows as usize]; columns];
    (Case { columns, valid: None, segments }, vec![0, 6])
}
