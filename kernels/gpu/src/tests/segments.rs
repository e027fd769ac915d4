use isotick_kernels::Run;
use isotick_model::{Key, PublisherId, Ticks};

use super::*;

const SEGMENT_ROWS_MAX: u32 = 512;

fn runs(spans: &[(u32, u32)], rows: usize) -> Runs {
    let ticks = Ticks {
        ts_event: vec![0; rows].into(),
        sequence: vec![0; rows].into(),
        publishers: PublisherId::new("p").into_iter().collect(),
        publisher: vec![].into(),
        keys: vec![Key::empty()].into(),
        key: vec![0; rows].into(),
        values: vec![],
        seen: None,
    };
    let run = |&(start, len)| Run { start, len, key: 0, window_start: 0 };
    Runs { ticks, runs: spans.iter().map(run).collect(), publisher_codes: vec![0] }
}

/// Whatever the limits, the segments cover every run's rows in order, within all limits.
#[test]
fn segments_cover_the_runs() {
    let spans = [(0, 1), (1, 512), (513, 513), (1030, 3000), (4030, 1), (4031, 1), (9000, 1000)];
    let runs = runs(&spans, 10_000);
    check(&runs).unwrap();
    let expected: Vec<(u32, usize)> = spans
        .iter()
        .enumerate()
        .flat_map(|(run, &(start, len))| {
            (start..start + len).map(move |row| (run as u32, row as usize))
        })
        .collect();
    for rows_max in [512, 513, 1000, 1 << 20] {
        for segments_max in [1, 2, 7, 1000] {
            let limits = ChunkLimits {
                segment_rows_max: SEGMENT_ROWS_MAX,
                rows_max,
                segments_max,
                blocks: false,
            };
            let mut covered = Vec::new();
            for chunk in chunks(&runs, limits) {
                assert!(chunk.rows.len() as u32 <= rows_max);
                assert!((1..=segments_max as usize).contains(&chunk.segments.len()));
                assert_eq!(chunk.segments.len(), chunk.run_of.len());
                let last = chunk.segments[chunk.segments.len() - 1];
                assert_eq!(chunk.segments[0].start_row, 0);
                assert_eq!((last.start_row + last.len_rows) as usize, chunk.rows.len());
                for (segment, &run) in chunk.segments.iter().zip(&chunk.run_of) {
                    assert!((1..=SEGMENT_ROWS_MAX).contains(&segment.len_rows));
                    let start = chunk.rows.start + segment.start_row as usize;
                    covered.extend((start..start + segment.len_rows as usize).map(|r| (run, r)));
                }
            }
            assert_eq!(covered, expected, "{limits:?}");
        }
    }
}

#[test]
fn no_runs_make_no_chunks() {
    let limits = ChunkLimits {
        segment_rows_max: SEGMENT_ROWS_MAX,
        rows_max: 512,
        segments_max: 1,
        blocks: false,
    };
    assert_eq!(chunks(&runs(&[], 0), limits).count(), 0);
}

#[test]
fn broken_runs_are_named() {
    for (spans, broken) in [
        (vec![(0, 0)], 0),
        (vec![(0, 5), (4, 2)], 1),
        (vec![(0, 5), (5, 6)], 1),
        (vec![(u32::MAX, u32::MAX)], 0),
    ] {
        match check(&runs(&spans, 10)) {
            Err(GpuError::Run { run, rows: 10, .. }) => assert_eq!(run, broken, "{spans:?}"),
            other => panic!("{spans:?}: {other:?}"),
        }
    }
}

/// Blocks are whole whatever the runs, and the segments still cover every run.
#[test]
fn blocks_do_not_depend_on_the_runs() {
    for spans in [&[(3, 1200), (1300, 1), (2050, 900)][..], &[(0, 3000)], &[(2999, 1)]] {
        let runs = runs(spans, 3000);
        for segments_max in [1, 3, 100] {
            let limits = ChunkLimits {
                segment_rows_max: SEGMENT_ROWS_MAX,
                rows_max: 1024,
                segments_max,
                blocks: true,
            };
            let mut covered = 0;
            for chunk in chunks(&runs, limits) {
                assert!(chunk.rows.start.is_multiple_of(1024), "{:?}", chunk.rows);
                assert_eq!(chunk.rows.end, (chunk.rows.start + 1024).min(3000));
                for segment in &chunk.segments {
                    assert!((segment.start_row + segment.len_rows) as usize <= chunk.rows.len());
                    covered += segment.len_rows;
                }
            }
            assert_eq!(covered, spans.iter().map(|(_, len)| len).sum::<u32>());
        }
    }
}
