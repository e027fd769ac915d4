//! Rows in any order: partitioned on the device, then reduced as runs are.
//!
//! Sums and extremes are those of gathered columns, by the kernels that reduce runs. First and last
//! values follow the canonical order, which rows here do not stand in: the device finds the ends of
//! each segment by a key of each row, and the host compares the ends of a group's segments.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Range;

use isotick_kernels::{Groups, Partials, Plan, Term};
use isotick_shaders::layout::{
    ColumnPartial, EndsPartial, PartitionStatus, ProductPartial, ReduceStatus, Segment,
};

use crate::device::Pool;
use crate::engine::{GpuEngine, STATUS_BYTES, run_words};
use crate::error::GpuError;
use crate::inputs::{DeviceColumn, Inputs, Uploader, validity_key};
use crate::kernel::Part;
use crate::partition::{self, EndsKernel, Expected, Permutation, Recorder, Step};
use crate::segments::Chunk;
use crate::timing::Stamps;
use crate::variant::Variant;
use crate::work::{self, Input, Job};

/// A group has fewer rows.
const NO_ROW: u32 = u32::MAX;

/// What is computed of groups.
struct Work {
    /// Sums and extremes.
    jobs: Vec<Job>,
    /// First and last values.
    ends: Vec<Ends>,
}

/// The ends of one column, or what is known of them.
struct Ends {
    column: usize,
    /// Each term with its first word.
    terms: Vec<(Term, usize)>,
    /// Of each group, the first and the last row with a value.
    rows: Vec<[u32; 2]>,
}

impl Work {
    fn of(plan: &Plan, groups: usize) -> Self {
        let (mut jobs, mut ends) = (work::jobs(plan), Vec::new());
        for job in &mut jobs {
            let Input::Column(column) = job.input else { continue };
            let is_end = |(term, _): &(Term, usize)| matches!(term, Term::First(_) | Term::Last(_));
            let terms: Vec<_> = job.terms.extract_if(.., |term| is_end(term)).collect();
            if !terms.is_empty() {
                ends.push(Ends { column, terms, rows: vec![[NO_ROW; 2]; groups] });
            }
        }
        jobs.retain(|job| !job.terms.is_empty());
        Self { jobs, ends }
    }
}

/// What orders the rows of a block.
enum Order {
    /// Their numbers.
    Numbers,
    /// A key each, low word first, then their numbers.
    Keys(Vec<u64>),
}

/// Rows that are partitioned together, and their segments: rows of one group each.
struct Block {
    rows: Range<usize>,
    segments: Vec<Segment>,
    group_of: Vec<u32>,
}

/// A block on the device.
struct OnDevice {
    rows: Range<usize>,
    slots: wgpu::Buffer,
    keys: Option<wgpu::Buffer>,
    /// Validity words in the order of rows, by column of [`Work::ends`].
    validity_of_ends: BTreeMap<usize, wgpu::Buffer>,
    columns: BTreeMap<usize, DeviceColumn>,
    validity: BTreeMap<Vec<usize>, wgpu::Buffer>,
    /// The rows in the order of their groups; then columns and validity are so too.
    order: Option<Permutation>,
    pooled: Vec<wgpu::Buffer>,
    stamps: Option<Stamps>,
}

/// Some segments of a block on their way through the device.
struct InFlight {
    start_row: usize,
    group_of: Vec<u32>,
    submission: wgpu::SubmissionIndex,
    staging: wgpu::Buffer,
    /// Of each job, what its columns' values are counted from.
    bases: Vec<[i64; 2]>,
    /// Of the first segments of a block: what its partition must account for.
    expected: Option<Expected>,
    stamps: Option<Stamps>,
    /// What goes back to the pool afterwards.
    pooled: Vec<wgpu::Buffer>,
}

impl GpuEngine {
    /// One partial per group, as [`Engine::reduce_groups`](isotick_kernels::Engine::reduce_groups)
    /// says.
    pub(crate) fn reduce_groups_by(
        &mut self,
        variant: Variant,
        plan: &Plan,
        groups: &Groups,
    ) -> Result<Partials, GpuError> {
        self.guarded(|engine| engine.reduce_blocks(variant, plan, groups))
    }

    fn reduce_blocks(
        &mut self,
        variant: Variant,
        plan: &Plan,
        groups: &Groups,
    ) -> Result<Partials, GpuError> {
        if let Some(lacking) = self.partition_lacking() {
            return Err(GpuError::Partition { adapter: self.device.info.name.clone(), lacking });
        }
        self.begin()?;
        check(groups)?;
        work::check_columns(&work::jobs(plan), &groups.ticks)?;
        let mut work = Work::of(plan, groups.groups.len());

        let stride = plan.words();
        let mut partials = Partials { words: vec![0; groups.groups.len() * stride], stride };
        if let Some(offset) = plan.offset(Term::Rows) {
            for (words, group) in partials.words.chunks_exact_mut(stride).zip(&groups.groups) {
                words[offset] = u64::from(group.rows);
            }
        }
        if work.jobs.is_empty() && work.ends.is_empty() {
            return Ok(partials);
        }

        let limits = self.chunk_limits(variant, false);
        let rows_max = u64::from(limits.rows_max).min(partition::rows_max(&self.device.info));
        let mut in_flight: Option<InFlight> = None;
        for block in blocks(groups, rows_max as usize, limits.segment_rows_max) {
            let mut on_device = self.upload_block(variant, &work, groups, &block);
            let mut from = 0;
            while from < block.segments.len() {
                let to = block.segments.len().min(from + limits.segments_max as usize);
                let next =
                    self.submit_segments(variant, &work, groups, &mut on_device, &block, from..to)?;
                if let Some(previous) = in_flight.replace(next) {
                    self.fold_segments(&mut work, groups, previous, &mut partials)?;
                }
                from = to;
            }
        }
        if let Some(last) = in_flight {
            self.fold_segments(&mut work, groups, last, &mut partials)?;
        }
        for ends in &work.ends {
            write_ends(ends, groups, &mut partials);
        }
        self.partitioned_rows += groups.ticks.len() as u64;
        Ok(partials)
    }

    /// Uploads what the work reads of a block, in the order of its rows.
    fn upload_block(
        &mut self,
        variant: Variant,
        work: &Work,
        groups: &Groups,
        block: &Block,
    ) -> OnDevice {
        let (device, pool) = (&self.device, &mut self.pool);
        let stamps = self.timing.is_some().then(|| Stamps::begin(device)).flatten();
        let rows = block.rows.clone();
        let chunk = Chunk { rows: rows.clone(), segments: vec![], run_of: vec![] };
        let mut uploader = Uploader::new(device, pool, None);
        let slots = uploader.words(&groups.group_of[rows.clone()]);
        let keys = match work.ends.is_empty() {
            true => None,
            false => match order(groups, rows.clone()) {
                Order::Numbers => None,
                Order::Keys(keys) => Some(uploader.words(bytemuck::cast_slice(&keys))),
            },
        };
        let values = &groups.ticks.values;
        let (mut columns, mut validity) = (BTreeMap::new(), BTreeMap::new());
        for job in &work.jobs {
            for column in job.input.columns() {
                columns.entry(column).or_insert_with(|| {
                    uploader.column(variant.encoding, column, &values[column], &chunk)
                });
            }
            let key = validity_key(job.input);
            if !validity.contains_key(&key)
                && let Some(words) = uploader.validity(&key, values, &chunk)
            {
                validity.insert(key, words);
            }
        }
        let mut validity_of_ends = BTreeMap::new();
        for column in work.ends.iter().map(|ends| ends.column) {
            let words = match validity.get(&vec![column]) {
                Some(words) => Some(words.clone()),
                None => uploader.validity(&[column], values, &chunk),
            };
            if let Some(words) = words {
                validity_of_ends.insert(column, words);
            }
        }
        let pooled = uploader.into_pooled();
        OnDevice {
            rows,
            slots,
            keys,
            validity_of_ends,
            columns,
            validity,
            order: None,
            pooled,
            stamps,
        }
    }

    /// Dispatches the work over some segments of a block, which the first time is partitioned
    /// before.
    fn submit_segments(
        &mut self,
        variant: Variant,
        work: &Work,
        groups: &Groups,
        on_device: &mut OnDevice,
        block: &Block,
        of: Range<usize>,
    ) -> Result<InFlight, GpuError> {
        let device = &self.device;
        let (count, rows) = (of.len() as u32, on_device.rows.len());
        let is_last = of.end == block.segments.len();
        let segments = block.segments[of.clone()].to_vec();
        let chunk = Chunk { rows: on_device.rows.clone(), segments, run_of: vec![] };
        let mut uploader = Uploader::new(device, &mut self.pool, None);
        let (header, segment_table) = uploader.segments(&chunk);
        let mut pooled = uploader.into_pooled();
        let sizes = partial_sizes(work);
        let mut encoder = device.device.create_command_encoder(&Default::default());
        let mut outputs = Vec::new();
        for bytes in &sizes {
            let partials = self.pool.take(device, bytes * u64::from(count), Pool::OUTPUT);
            let status = self.pool.take(device, STATUS_BYTES, Pool::OUTPUT);
            encoder.clear_buffer(&status, 0, Some(STATUS_BYTES));
            pooled.extend([partials.clone(), status.clone()]);
            outputs.push((partials, status));
        }
        let stamps = on_device.stamps.take();
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
            label: Some("reduce groups"),
            timestamp_writes: stamps.as_ref().map(Stamps::around_compute),
        });
        let mut recorder = Recorder {
            device,
            pool: &mut self.pool,
            kernels: &mut self.partition,
            pass: &mut pass,
        };
        let partitioned = on_device.order.is_none();
        on_device.put_in_order(&mut recorder, groups.groups.len() as u32);
        let order = on_device.order.as_ref().expect("it was just made");
        let inputs = Inputs {
            rows,
            segments: count,
            header,
            segment_table,
            columns: on_device.columns.clone(),
            validity: on_device.validity.clone(),
            pooled: Vec::new(),
        };
        let mut parts = outputs.iter().zip(&sizes).map(|((partials, status), bytes)| {
            let partials = Part::front(partials, bytes * u64::from(count));
            (partials, Part::front(status, size_of::<ReduceStatus>() as u64))
        });
        for (ends, (partials, status)) in work.ends.iter().zip(&mut parts) {
            let words = on_device.validity_of_ends.get(&ends.column);
            let keys = on_device.keys.as_ref();
            let step = Step::Ends(EndsKernel {
                shape: variant.shape,
                ordered: keys.is_some(),
                nullable: words.is_some(),
            });
            let mut bound = Vec::from(inputs.segment_parts());
            bound.push(order.part());
            // Where no key or validity is read, the binding must hold something.
            let nothing = || Part::front(&inputs.segment_table, 8);
            bound.push(keys.map_or_else(nothing, |keys| Part::front(keys, rows as u64 * 8)));
            let bytes = rows.div_ceil(32) as u64 * 4;
            bound.push(words.map_or_else(nothing, |words| Part::front(words, bytes)));
            bound.extend([partials, status]);
            let workgroups = count.div_ceil(variant.shape.segments_per_workgroup());
            recorder.dispatch(step, &bound, workgroups);
        }
        for (job, outputs) in work.jobs.iter().zip(&mut parts) {
            inputs.dispatch(device, &mut self.kernels, variant, &mut pass, job.input, outputs);
        }
        drop(pass);

        let expected = partitioned.then(|| order.expected());
        let staging_bytes = staging_bytes(&sizes, count, partitioned);
        let staging = self.pool.take(device, staging_bytes, Pool::STAGING);
        let mut offset = 0;
        let mut copy = |from: &wgpu::Buffer, bytes: u64| {
            encoder.copy_buffer_to_buffer(from, 0, &staging, offset, bytes);
            offset += bytes;
        };
        for (bytes, (partials, status)) in sizes.iter().zip(&outputs) {
            copy(status, STATUS_BYTES);
            copy(partials, bytes * u64::from(count));
        }
        if partitioned {
            copy(&order.status, size_of::<PartitionStatus>() as u64);
        }
        if let Some(stamps) = &stamps {
            stamps.end(&mut encoder);
        }
        let submission = device.submit(encoder, &staging, staging_bytes)?;
        if is_last {
            pooled.append(&mut on_device.pooled);
        }
        Ok(InFlight {
            start_row: on_device.rows.start,
            group_of: block.group_of[of].to_vec(),
            submission,
            staging,
            bases: work.jobs.iter().map(|job| inputs.bases(job.input)).collect(),
            expected,
            stamps,
            pooled,
        })
    }

    /// Waits for segments and adds their partials to their groups.
    fn fold_segments(
        &mut self,
        work: &mut Work,
        groups: &Groups,
        done: InFlight,
        partials: &mut Partials,
    ) -> Result<(), GpuError> {
        let InFlight { start_row, group_of, submission, staging, bases, expected, stamps, pooled } =
            done;
        self.device.wait(submission)?;
        if let (Some(stamps), Some(timing)) = (stamps, &mut self.timing) {
            timing.add(stamps.read(&self.device)?);
        }
        let sizes = partial_sizes(work);
        let count = group_of.len();
        let bytes = staging_bytes(&sizes, count as u32, expected.is_some());
        let view = staging.get_mapped_range(..bytes).map_err(|error| GpuError::Failed {
            adapter: self.device.info.name.clone(),
            message: error.to_string(),
        })?;
        let mut rest: &[u8] = &view;
        let mut next = |bytes: usize| {
            let (front, after) = rest.split_at(bytes);
            rest = after;
            front
        };
        for ends in &mut work.ends {
            let status = next(STATUS_BYTES as usize);
            self.check_status(isotick_shaders::ENDS_REDUCE.name, status, count)?;
            let segments: &[EndsPartial] =
                bytemuck::cast_slice(next(count * size_of::<EndsPartial>()));
            for (&group, segment) in group_of.iter().zip(segments) {
                if segment.count > 0 {
                    let row = |row: u32| start_row as u32 + row;
                    ends.add(groups, group, row(segment.first_row), row(segment.last_row));
                }
            }
        }
        for (job, bases) in work.jobs.iter().zip(bases) {
            let status = next(STATUS_BYTES as usize);
            self.check_status(Variant::BASE.shader(job.input).name, status, count)?;
            let segments = next(count * job.input.partial_bytes() as usize);
            match job.input {
                Input::Column(_) => {
                    let segments: &[ColumnPartial] = bytemuck::cast_slice(segments);
                    for (&group, segment) in group_of.iter().zip(segments) {
                        let no_ends = |_, _| unreachable!("ends are found apart");
                        let words = run_words(partials, group);
                        work::add_column(words, &job.terms, segment, bases[0], no_ends);
                    }
                }
                Input::Pair(..) => {
                    let segments: &[ProductPartial] = bytemuck::cast_slice(segments);
                    for (&group, segment) in group_of.iter().zip(segments) {
                        work::add_product(run_words(partials, group), job, segment, bases);
                    }
                }
            }
        }
        if let Some(expected) = expected {
            let status = bytemuck::pod_read_unaligned(next(size_of::<PartitionStatus>()));
            expected.check(&self.device.info.name, status)?;
        }
        drop(view);
        staging.unmap();
        self.pool.give_back(pooled);
        self.pool.give_back([staging]);
        Ok(())
    }
}

impl OnDevice {
    /// Records the partition and the gathers, unless they are recorded.
    fn put_in_order(&mut self, recorder: &mut Recorder<'_, '_>, slots: u32) {
        if self.order.is_some() {
            return;
        }
        // A block has fewer than 2^32 rows.
        let rows = self.rows.len() as u32;
        let mut order = Permutation::record(recorder, &self.slots, rows, slots);
        for column in self.columns.values_mut() {
            *column = order.gather_column(recorder, column);
        }
        for words in self.validity.values_mut() {
            *words = order.gather_validity(recorder, words);
        }
        self.pooled.append(&mut order.pooled);
        self.order = Some(order);
    }
}

impl Ends {
    /// Takes in the first and the last row of a segment.
    fn add(&mut self, groups: &Groups, group: u32, first: u32, last: u32) {
        let compare = |a: u32, b: u32| compare(groups, a as usize, b as usize);
        let [first_now, last_now] = &mut self.rows[group as usize];
        if *first_now == NO_ROW || compare(first, *first_now).is_lt() {
            *first_now = first;
        }
        if *last_now == NO_ROW || compare(last, *last_now).is_gt() {
            *last_now = last;
        }
    }
}

fn write_ends(ends: &Ends, groups: &Groups, partials: &mut Partials) {
    for (group, rows) in ends.rows.iter().enumerate() {
        let words = run_words(partials, group as u32);
        for &(term, offset) in &ends.terms {
            let row = rows[usize::from(matches!(term, Term::Last(_)))];
            if row != NO_ROW {
                let end = groups.end_words(ends.column, row as usize);
                words[offset..offset + term.words()].copy_from_slice(&end);
            }
        }
    }
}

/// Bytes of a segment's partial: of each column's ends, then of each job.
fn partial_sizes(work: &Work) -> Vec<u64> {
    let ends = work.ends.iter().map(|_| size_of::<EndsPartial>() as u64);
    ends.chain(work.jobs.iter().map(|job| job.input.partial_bytes())).collect()
}

fn staging_bytes(sizes: &[u64], segments: u32, partitioned: bool) -> u64 {
    let outputs: u64 = sizes.iter().map(|bytes| STATUS_BYTES + bytes * u64::from(segments)).sum();
    outputs + if partitioned { size_of::<PartitionStatus>() as u64 } else { 0 }
}

/// That every row has a group, and groups as many rows as there are.
fn check(groups: &Groups) -> Result<(), GpuError> {
    let rows = groups.ticks.len();
    let grouped: u64 = groups.groups.iter().map(|group| u64::from(group.rows)).sum();
    match groups.group_of.len() == rows && grouped == rows as u64 {
        true => Ok(()),
        false => Err(GpuError::Groups { rows, grouped }),
    }
}

/// Cuts rows into blocks of at most so many, and their groups into segments.
fn blocks(groups: &Groups, rows_max: usize, segment_rows_max: u32) -> impl Iterator<Item = Block> {
    let rows = groups.ticks.len();
    (0..rows.div_ceil(rows_max)).map(move |block| {
        let range = block * rows_max..rows.min((block + 1) * rows_max);
        let is_whole = range.len() == rows;
        let mut counted = Vec::new();
        if !is_whole {
            counted.resize(groups.groups.len(), 0_u32);
            for &group in &groups.group_of[range.clone()] {
                // A group that does not exist is noticed on the device.
                if let Some(rows) = counted.get_mut(group as usize) {
                    *rows += 1;
                }
            }
        }
        let (mut segments, mut group_of, mut start_row) = (Vec::new(), Vec::new(), 0);
        for (group, whole) in groups.groups.iter().enumerate() {
            let mut left = if is_whole { whole.rows } else { counted[group] };
            while left > 0 {
                let len_rows = left.min(segment_rows_max);
                segments.push(Segment { start_row, len_rows });
                group_of.push(group as u32);
                start_row += len_rows;
                left -= len_rows;
            }
        }
        Block { rows: range, segments, group_of }
    })
}

/// The canonical order of two rows.
fn compare(groups: &Groups, a: usize, b: usize) -> Ordering {
    let ts = &groups.ticks.ts_event;
    ts[a].cmp(&ts[b]).then_with(|| groups.compare_ties(a, b))
}

/// What orders rows within their groups: their numbers where all are in canonical order; their
/// times where rows of one time are in it; else their places in the canonical order.
fn order(groups: &Groups, rows: Range<usize>) -> Order {
    let ts = &groups.ticks.ts_event[rows.clone()];
    let first = rows.start;
    let ties = |a: usize, b: usize| groups.compare_ties(first + a, first + b);
    let ascends = ts.windows(2).all(|pair| pair[0] <= pair[1]);
    let in_order = |at: usize| ts[at - 1] != ts[at] || ties(at - 1, at).is_lt();
    if ascends && (1..ts.len()).all(in_order) {
        return Order::Numbers;
    }
    if (1..ts.len()).all(|at| ties(at - 1, at).is_lt()) {
        let least = ts.iter().copied().min().unwrap_or(0);
        return Order::Keys(ts.iter().map(|ts| ts.wrapping_sub(least).cast_unsigned()).collect());
    }
    let mut sorted: Vec<u32> = (0..ts.len() as u32).collect();
    sorted.sort_by(|&a, &b| compare(groups, first + a as usize, first + b as usize));
    let mut places = vec![0; sorted.len()];
    for (place, row) in sorted.into_iter().enumerate() {
        places[row as usize] = place as u64;
    }
    Order::Keys(places)
}

#[cfg(test)]
#[path = "tests/groups.rs"]
mod tests;
