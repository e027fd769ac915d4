//! One dispatch of one shader over bare buffers, its output poisoned and guarded.

use bytemuck::Pod;
use isotick_shaders::layout::{ReduceHeader, ReduceStatus, Segment};

use super::random::Random;
use crate::device::{Device, Pool};
use crate::kernel::{Kernel, Part, Permutation};
use crate::variant::{Encoding, Shape, Variant};

/// What outputs hold before the dispatch, and the guards around them.
pub(crate) const POISON: u32 = 0xDEAD_BEEF;
/// Guard words before and after the partials: as many as a binding's offset must divide.
const GUARD_WORDS: usize = 64;

/// A kernel with the permutation that it was compiled for.
pub(crate) struct Compiled {
    pub permutation: Permutation,
    pub kernel: Kernel,
}

/// Every permutation of one kind that the adapter can run, each with what stands in for it when
/// `spoil` has changed its source. `None` from `spoil` leaves it out.
pub(crate) fn permutations(
    device: &Device,
    is_pair: bool,
    spoil: impl Fn(&Permutation) -> Option<String>,
) -> Vec<Compiled> {
    device.begin().unwrap();
    let mut compiled = Vec::new();
    for variant in Variant::all() {
        if let Some(lacking) = variant.lacking(&device.info) {
            println!("{}: {variant} skipped: it lacks {lacking}", device.info.name);
            continue;
        }
        let framed: &[[bool; 2]] = match (variant.encoding, is_pair) {
            (Encoding::Wide, _) => &[[false, false]],
            (Encoding::Frame, false) => &[[true, false]],
            (Encoding::Frame, true) => &[[true, true], [true, false], [false, true]],
        };
        for &framed in framed {
            for nullable in [false, true] {
                let permutation = Permutation { variant, is_pair, framed, nullable };
                if let Some(source) = spoil(&permutation) {
                    let kernel = Kernel::new(device, permutation, &source);
                    compiled.push(Compiled { permutation, kernel });
                }
            }
        }
    }
    device.check().unwrap();
    compiled
}

/// The source as it is.
pub(crate) fn sound(permutation: &Permutation) -> Option<String> {
    Some(permutation.source().to_owned())
}

/// Rows, segments over them, and which rows are valid (`None`: all, and not asked).
pub(crate) struct Case {
    /// Where a column is framed, its deltas.
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
    compiled: &Compiled,
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
    for (column, framed) in case.columns.iter().zip(compiled.permutation.framed) {
        let mut words: Vec<u32> = match framed {
            true => column.iter().map(|&delta| u32::try_from(delta).unwrap()).collect(),
            false => bytemuck::cast_slice(column).to_vec(),
        };
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
    // A row of padding where there are no segments: a binding is never empty.
    let bound_words = (segments * partial_words).max(partial_words);
    let poison = vec![POISON; GUARD_WORDS + bound_words + GUARD_WORDS];
    let output = pool.upload(device, bytemuck::cast_slice(&poison), Pool::OUTPUT);
    let status = pool.upload(device, bytemuck::bytes_of(&ReduceStatus::default()), Pool::OUTPUT);
    let status_bytes = size_of::<ReduceStatus>() as u64;

    let mut parts = vec![Part::front(&header, size_of::<ReduceHeader>() as u64)];
    let inputs = [&table].into_iter().chain(&columns).chain([&validity]);
    parts.extend(inputs.map(|(buffer, words)| Part::front(buffer, *words as u64 * 4)));
    parts.push(Part {
        buffer: &output,
        offset: GUARD_WORDS as u64 * 4,
        bytes: bound_words as u64 * 4,
    });
    parts.push(Part::front(&status, status_bytes));

    let mut encoder = device.device.create_command_encoder(&Default::default());
    let mut pass = encoder.begin_compute_pass(&Default::default());
    compiled.kernel.record(device, &mut pass, &parts, segments as u32);
    drop(pass);
    let total = poison.len() as u64 * 4 + status_bytes;
    let staging = pool.take(device, total, Pool::STAGING);
    encoder.copy_buffer_to_buffer(&status, 0, &staging, 0, status_bytes);
    encoder.copy_buffer_to_buffer(&output, 0, &staging, status_bytes, total - status_bytes);
    let submission = device.submit(encoder, &staging, total).unwrap();
    device.wait(submission).unwrap();

    let view = staging.get_mapped_range(..total).unwrap();
    let (status, output) = view.split_at(status_bytes as usize);
    let words: &[u32] = bytemuck::cast_slice(output);
    let (before, rest) = words.split_at(GUARD_WORDS);
    let (partials, after) = rest.split_at(segments * partial_words);
    let mut guards = before.iter().chain(after);
    assert!(guards.all(|&word| word == POISON), "the guards around {segments} partials");
    (bytemuck::cast_slice(partials).to_vec(), bytemuck::pod_read_unaligned(status))
}

/// Numbers of segments around the workgroup size's edges.
fn segment_counts(shape: Shape) -> Vec<usize> {
    let w = shape.segments_per_workgroup().max(8) as usize;
    vec![0, 1, w - 1, w, w + 1, 3 * w - 1, 3 * w, 3 * w + 1]
}

/// Cases over `columns` columns: every edge of segment counts and lengths, skewed lengths,
/// extremes everywhere, all null, none null. Columns that the permutation has as deltas hold such.
pub(crate) fn cases(permutation: &Permutation, seed: u64) -> Vec<Case> {
    let shape_of_kernel = permutation.variant.shape;
    let columns = 1 + usize::from(permutation.is_pair);
    let framed = permutation.framed;
    let nullable = permutation.nullable;
    let mut random = Random(seed);
    let mut cases = Vec::new();
    let bound = shape_of_kernel.segment_rows_max() as usize;
    for count in segment_counts(shape_of_kernel) {
        for shape in 0..4 {
            let lens = lengths(&mut random, count, shape, bound);
            let rows = lens.iter().sum();
            let value = |random: &mut Random, framed: bool| match (shape, framed) {
                (0, false) => [i64::MIN, i64::MAX][random.below(2) as usize],
                (0, true) => [0, u32::MAX.into()][random.below(2) as usize],
                (_, false) => random.value(),
                (_, true) => random.value() & i64::from(u32::MAX),
            };
            let columns = (0..columns)
                .map(|c| (0..rows).map(|_| value(&mut random, framed[c])).collect())
                .collect();
            let valid = nullable.then(|| [0, 1, 90, 100][random.below(4) as usize]);
            cases.push(case(columns, valid, &lens, &mut random));
        }
    }
    for value in [i64::MIN, i64::MAX, -1, 0] {
        for percent in [0, 100] {
            let valid = nullable.then_some(percent);
            let of = |framed: bool| if framed { value & i64::from(u32::MAX) } else { value };
            let columns = (0..columns).map(|c| vec![of(framed[c]); bound * 2]).collect();
            cases.push(case(columns, valid, &[bound, bound], &mut random));
        }
    }
    cases
}

/// Segment lengths: at the bound's edges, random, one giant among ones, all ones.
fn lengths(random: &mut Random, count: usize, shape: usize, bound: usize) -> Vec<usize> {
    let edges = [1, 2, 31, 32, 33, 63, 64, 65, 127, 128, 129, 511, 512, bound - 1, bound];
    let mut lens: Vec<usize> = (0..count)
        .map(|_| match shape {
            0 => edges[random.below(edges.len() as u64) as usize],
            1 => 1 + random.below(bound as u64 / 4) as usize,
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
pub(crate) fn malformed_case(permutation: &Permutation) -> (Case, Vec<usize>) {
    let columns = 1 + usize::from(permutation.is_pair);
    let segment_rows_max = permutation.variant.shape.segment_rows_max();
    let rows = segment_rows_max + 8;
    let segment = |start_row, len_rows| Segment { start_row, len_rows };
    let segments = vec![
        segment(0, 1),
        segment(3, 0),
        segment(0, segment_rows_max + 1),
        segment(rows - 2, 3),
        segment(u32::MAX, 2),
        segment(rows + 1, 1),
        segment(rows - 3, 3),
    ];
    let columns = vec![vec![7; rows as usize]; columns];
    (Case { columns, valid: None, segments }, vec![0, 6])
}

/// Compares every permutation with a reference; the permutation and case that differ first.
pub(crate) fn first_difference<P: Pod + PartialEq>(
    device: &Device,
    compiled: &Compiled,
    seed: u64,
    reference: impl Fn(&Case, usize) -> P,
) -> Option<String> {
    for (number, case) in cases(&compiled.permutation, seed).iter().enumerate() {
        let (partials, status) = dispatch::<P>(device, compiled, case);
        if status.segments_done as usize != case.segments.len()
            || (status.segments_malformed, status.malformed_end) != (0, 0)
        {
            return Some(format!("{:?}, case {number}: {status:?}", compiled.permutation));
        }
        for (segment, partial) in partials.iter().enumerate() {
            if *partial != reference(case, segment) {
                let permutation = compiled.permutation;
                return Some(format!("{permutation:?}, case {number}, segment {segment}"));
            }
        }
    }
    None
}

/// Malformed segments are counted, and their partials left alone.
pub(crate) fn assert_malformed<P: Pod + PartialEq + std::fmt::Debug>(
    device: &Device,
    compiled: &Compiled,
    reference: impl Fn(&Case, usize) -> P,
) {
    let (mut case, sound) = malformed_case(&compiled.permutation);
    if compiled.permutation.nullable {
        case.valid = Some(vec![true; case.columns[0].len()]);
    }
    let (partials, status) = dispatch::<P>(device, compiled, &case);
    assert_eq!(status.segments_done as usize, sound.len());
    assert_eq!(status.segments_malformed as usize, case.segments.len() - sound.len());
    assert_eq!(status.malformed_end, 6);
    for (segment, partial) in partials.iter().enumerate() {
        match sound.contains(&segment) {
            true => assert_eq!(*partial, reference(&case, segment)),
            false => assert!(bytemuck::cast_slice(&[*partial]).iter().all(|&w: &u32| w == POISON)),
        }
    }
}

/// Which permutations execute a text of theirs.
#[derive(Clone, Copy)]
pub(crate) enum Numbers {
    /// Those that add 64-bit values.
    Wide,
    /// Those that add nothing but deltas.
    Frame,
    /// All.
    Any,
}

impl Numbers {
    fn are_in(self, permutation: &Permutation) -> bool {
        let [first, second] = permutation.framed;
        let only_deltas = first && (second || !permutation.is_pair);
        match self {
            Self::Wide => !only_deltas,
            Self::Frame => only_deltas,
            Self::Any => true,
        }
    }
}

/// Each planted fault — a text and what replaces it — is noticed in every permutation whose source
/// holds the text, and each is in some.
pub(crate) fn assert_noticed<P: Pod + PartialEq>(
    device: &Device,
    is_pair: bool,
    plants: &[(&str, &str, Numbers)],
    reference: impl Fn(&Case, usize) -> P,
) {
    let mut spoiled = std::collections::BTreeSet::new();
    for (sound, faulty, numbers) in plants {
        let kernels = permutations(device, is_pair, |permutation| {
            let source = permutation.source();
            // One of the two suffices; nullness does not touch the arithmetic.
            let concerned = numbers.are_in(permutation) && source.contains(sound);
            (concerned && !permutation.nullable).then(|| source.replace(sound, faulty))
        });
        assert!(!kernels.is_empty(), "no source holds '{sound}'");
        for compiled in &kernels {
            let noticed = first_difference(device, compiled, 1, &reference).is_some();
            assert!(noticed, "'{faulty}' went unnoticed in {:?}", compiled.permutation);
            spoiled.insert(compiled.permutation.variant);
        }
    }
    let every: Vec<_> =
        Variant::all().filter(|variant| variant.lacking(&device.info).is_none()).collect();
    assert_eq!(spoiled.into_iter().collect::<Vec<_>>(), every, "a fault in each variant");
}
