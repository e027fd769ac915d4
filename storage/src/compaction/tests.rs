use super::*;
use crate::manifest::StoredFile;

fn run(rows: u64, ts_max: i64) -> Vec<HistoryFile> {
    let file = StoredFile { path: format!("f{rows}"), rows, bytes: 1, footer_crc32: 0 };
    vec![HistoryFile::new(file, (0, ts_max), Origin::Imported)]
}

fn chosen(eagerness: Eagerness, rows: &[u64]) -> Vec<u64> {
    let runs = rows.iter().map(|&rows| run(rows, 10)).collect();
    eagerness.choose(runs).iter().flatten().map(|run| rows_of(run)).collect()
}

#[test]
fn everything_is_merged_where_that_is_asked_for() {
    assert_eq!(chosen(Eagerness::Full, &[7, 1000, 3]), [3, 7, 1000]);
    assert_eq!(chosen(Eagerness::Full, &[7]), [0_u64; 0]);
    assert_eq!(chosen(Eagerness::Full, &[1; 90]).len(), MERGED_RUNS_MAX);
}

#[test]
fn small_runs_are_merged_when_they_are_many() {
    let tiered = Eagerness::Tiered { settled_before: None };
    assert!(chosen(tiered, &[5; 7]).is_empty());
    assert_eq!(chosen(tiered, &[5; 8]), [5; 8]);
    assert_eq!(chosen(tiered, &[5, 5, 5, 5, 5, 5, 5, 5, 900]), [5; 8], "the large one stays");
    assert!(chosen(tiered, &[5, 5, 5, 900]).is_empty());
}

#[test]
fn settled_folders_become_one_run_where_it_does_not_rewrite_much_for_little() {
    let settled = Eagerness::Tiered { settled_before: Some(11) };
    assert_eq!(chosen(settled, &[5, 6]), [5, 6]);
    assert_eq!(chosen(settled, &[5, 40]), [5, 40]);
    assert!(chosen(settled, &[5, 41]).is_empty());
    let open = Eagerness::Tiered { settled_before: Some(10) };
    assert!(chosen(open, &[5, 6]).is_empty(), "a tick at that time is not before it");
}

/// However many flushes come, each row is written a number of times that grows with their
/// logarithm only, and runs stay few.
#[test]
fn rows_are_rewritten_seldom() {
    let tiered = Eagerness::Tiered { settled_before: None };
    let (mut runs, mut written, flushes) = (Vec::new(), 0, 4_096_u64);
    for number in 0..flushes {
        runs.push(100 + number % 7);
        loop {
            let merged = chosen(tiered, &runs);
            let sum = merged.iter().sum::<u64>();
            for rows in &merged {
                let at = runs.iter().position(|other| other == rows).unwrap();
                runs.swap_remove(at);
            }
            if merged.is_empty() {
                break;
            }
            written += sum;
            runs.push(sum);
        }
        assert!(runs.len() < 40, "{} runs after {number} flushes", runs.len());
    }
    let rows: u64 = runs.iter().sum();
    assert!(written < 6 * rows, "each row was written {:.1} times", written as f64 / rows as f64);
}
