use super::*;
use crate::tests::random::Random;

/// What outputs hold before the pass, and the guards past their ends.
const POISON: u32 = 0xDEAD_BEEF;
const GUARD_WORDS: u64 = 64;

/// What a partition gave.
struct Outcome {
    rows: Vec<u32>,
    gathered: [Vec<u32>; 3],
    status: PartitionStatus,
    expected: Expected,
}

/// Columns in the order of rows: u32 deltas, 64-bit values, validity words.
fn columns(rows: usize) -> [Vec<u32>; 3] {
    let mut random = Random(rows as u64);
    let mut words = |count: usize| (0..count).map(|_| random.next() as u32).collect::<Vec<_>>();
    [words(rows), words(2 * rows), words(rows.div_ceil(32))]
}

/// Runs a partition and the gathers. Nothing past the ends of what they write may be touched.
fn partition(device: &Device, kernels: &mut Kernels, slots: &[u32], slot_count: u32) -> Outcome {
    device.begin().unwrap();
    let mut pool = Pool::default();
    // Everything that is taken below holds poison, to its end.
    let rows = slots.len();
    for usage in [Pool::OUTPUT; 20] {
        let bytes = (rows as u64 * 8 + GUARD_WORDS * 4).max(4096).next_power_of_two();
        let poison = vec![POISON; bytes as usize / 4];
        let buffer = Pool::default().apart(device, bytes, usage);
        pool.write(device, &buffer, bytemuck::cast_slice(&poison));
        pool.free.push(buffer);
    }
    let slots = pool.upload(device, bytemuck::cast_slice(slots), Pool::INPUT);
    let columns =
        columns(rows).map(|words| pool.upload(device, bytemuck::cast_slice(&words), Pool::INPUT));
    let mut encoder = device.device.create_command_encoder(&Default::default());
    let mut pass = encoder.begin_compute_pass(&Default::default());
    let mut recorder = Recorder { device, pool: &mut pool, kernels, pass: &mut pass };
    let mut order = Permutation::record(&mut recorder, &slots, rows as u32, slot_count);
    let [deltas, wide, validity] = columns;
    let column = |buffer, base| DeviceColumn { buffer, base };
    let deltas = order.gather_column(&mut recorder, &column(deltas, Some(0))).buffer;
    let wide = order.gather_column(&mut recorder, &column(wide, None)).buffer;
    let validity = order.gather_validity(&mut recorder, &validity);
    drop(pass);
    let words = [rows, rows, 2 * rows, rows.div_ceil(32), 2];
    let outputs = [&order.rows, &deltas, &wide, &validity, &order.status];
    let total: u64 = words.iter().map(|words| (*words as u64 + GUARD_WORDS) * 4).sum();
    let staging = pool.take(device, total, Pool::STAGING);
    let mut offset = 0;
    for (buffer, words) in outputs.iter().zip(words) {
        let bytes = (words as u64 + GUARD_WORDS) * 4;
        encoder.copy_buffer_to_buffer(buffer, 0, &staging, offset, bytes);
        offset += bytes;
    }
    let submission = device.submit(encoder, &staging, total).unwrap();
    device.wait(submission).unwrap();
    let view = staging.get_mapped_range(..total).unwrap();
    let mut rest: &[u32] = bytemuck::cast_slice(&view);
    let [placed, deltas, wide, validity, status] = words.map(|words| {
        let (output, after) = rest.split_at(words);
        let (guards, after) = after.split_at(GUARD_WORDS as usize);
        assert!(guards.iter().all(|&word| word == POISON), "the guards after {words} words");
        rest = after;
        output.to_vec()
    });
    let status = PartitionStatus { rows_placed: status[0], rows_malformed: status[1] };
    Outcome { rows: placed, gathered: [deltas, wide, validity], status, expected: order.expected() }
}

/// The rows in the order of their slots, those of one slot in theirs.
fn reference(slots: &[u32]) -> Vec<u32> {
    let mut rows: Vec<u32> = (0..slots.len() as u32).collect();
    rows.sort_by_key(|&row| slots[row as usize]);
    rows
}

/// Row counts around every edge, slots of one to four digits, skewed and not.
fn cases() -> Vec<(Vec<u32>, u32)> {
    let mut random = Random(1);
    let (lanes, tile) = (PARTITION_LANES as usize, TILE_ROWS as usize);
    let edges = [1, 2, 31, 32, 33, lanes - 1, lanes, lanes + 1, tile - 1, tile, tile + 1];
    let mut cases = Vec::new();
    for rows in edges.into_iter().chain([3 * tile + 7, 40 * tile]) {
        for slots in [1, 2, 255, 256, 257, 65_536, 65_537, 1 << 24, u32::MAX] {
            let skewed = random.below(2) == 0;
            let slot = |random: &mut Random| match skewed && random.below(10) > 0 {
                true => slots / 2,
                false => random.below(slots.into()) as u32,
            };
            cases.push(((0..rows).map(|_| slot(&mut random)).collect(), slots));
        }
    }
    // More tiles than lanes: the scan of a digit goes on. One digit, all digits in turns.
    let many = 300 * tile as u32;
    cases.push(((0..many).map(|row| row % 256).collect(), 256));
    cases.push((vec![77; many as usize], 256));
    cases.push(((0..5000).map(|row| (5000 - row) * 3).collect(), 15_001));
    cases
}

/// The first case that comes out wrong.
fn first_difference(device: &Device, kernels: &mut Kernels) -> Option<String> {
    for (number, (slots, slot_count)) in cases().iter().enumerate() {
        let found = partition(device, kernels, slots, *slot_count);
        let what = format!("case {number}: {} rows in {slot_count} slots", slots.len());
        if let Err(error) = found.expected.check("it", found.status) {
            return Some(format!("{what}: {error}"));
        }
        let rows = reference(slots);
        if found.rows != rows {
            return Some(format!("{what}: other places"));
        }
        let of = |row: u32| row as usize;
        let [deltas, wide, validity] = columns(slots.len());
        let expected = rows.iter().map(|&row| deltas[of(row)]).collect::<Vec<_>>();
        if found.gathered[0] != expected {
            return Some(format!("{what}: other deltas"));
        }
        let expected = rows.iter().flat_map(|&row| [wide[2 * of(row)], wide[2 * of(row) + 1]]);
        if found.gathered[1] != expected.collect::<Vec<_>>() {
            return Some(format!("{what}: other values"));
        }
        let mut expected = vec![0; validity.len()];
        for (place, &row) in rows.iter().enumerate() {
            expected[place / 32] |= (validity[of(row) / 32] >> (row % 32) & 1) << (place % 32);
        }
        if found.gathered[2] != expected {
            return Some(format!("{what}: other validity"));
        }
    }
    None
}

#[test]
fn rows_stand_in_the_order_of_their_slots_on_every_adapter() {
    for device in crate::tests::devices() {
        if let Some(lacking) = lacking(&device.info) {
            println!("{}: skipped: it lacks {lacking}", device.info.name);
            continue;
        }
        assert_eq!(first_difference(&device, &mut Kernels::default()), None);
    }
}

#[test]
fn a_slot_that_does_not_exist_is_counted() {
    let Some(device) = crate::tests::device() else { return };
    let slots = [0, 300, 299, 300, u32::MAX, 5];
    let found = partition(&device, &mut Kernels::default(), &slots, 300);
    assert_eq!(found.status, PartitionStatus { rows_placed: 12, rows_malformed: 3 });
    let error = found.expected.check("it", found.status).unwrap_err().to_string();
    assert!(error.contains("12 rows were placed in 2 passes over 6, 3 malformed"), "{error}");
}

/// A fault in any kernel is noticed.
#[test]
fn planted_faults_are_noticed() {
    let Some(device) = crate::tests::device() else { return };
    let plants = [
        // The rows of the last round of a tile; a digit that is cut.
        (Step::Count, "round < TILE_ROUNDS", "round + 1u < TILE_ROUNDS"),
        (Step::Count, "(slot >> shift)", "(slot >> (shift & 8u))"),
        // What came before: other tiles, other lanes, other steps of a scan.
        (Step::Scan, "before += prefix_total();", "before = prefix_total();"),
        (Step::Scan, "before + up_to - count", "before + up_to"),
        (Step::Scan, "sum += other;", "sum = max(sum, other);"),
        // Ranks among the lanes of a round, of a word of them, of the rounds before.
        (
            Step::Scatter { first_pass: true },
            "mask & ((1u << (lane % 32u)) - 1u)",
            "mask & ((1u << (lane % 32u)) - 2u)",
        ),
        (Step::Scatter { first_pass: true }, "if word < lane / 32u {", "if word > lane / 32u {"),
        (Step::Scatter { first_pass: true }, "places[digit] += lanes;", "places[digit] += 1u;"),
        (Step::Scatter { first_pass: false }, "row = rows[index];", "row = rows[place];"),
        (Step::Scatter { first_pass: false }, "if !FIRST_PASS {", "if FIRST_PASS {"),
        (Step::Scatter { first_pass: false }, "- total;", ";"),
        (Step::GatherColumn { framed: false }, "values[rows[place]]", "values[place]"),
        (Step::GatherColumn { framed: true }, "values[rows[place]]", "values[place]"),
        (Step::GatherValidity, "first_place + bit", "first_place"),
    ];
    for (step, sound, faulty) in plants {
        assert!(step.source().contains(sound), "{step:?} holds '{sound}'");
        let mut kernels = Kernels::default();
        kernels.replace(&device, step, &step.source().replace(sound, faulty));
        device.check().unwrap();
        assert!(first_difference(&device, &mut kernels).is_some(), "'{faulty}' in {step:?}");
    }
}
