use super::*;

fn letter(number: u64, bytes: usize) -> Letter {
    let content = match number % 3 {
        0 => Content::Undecodable { error: format!("wrong {number}") },
        _ => Content::Rows {
            first_sequence: number,
            last_sequence: number + 2,
            reasons: vec![
                RejectReason::OutOfBounds,
                RejectReason::NullValue,
                RejectReason::OutOfBounds,
            ],
        },
    };
    Letter {
        ts_recv_ns: -1 - number as i64,
        stream: "trades".into(),
        publisher: format!("p{number}"),
        content,
        bytes: (0..bytes).map(|at| (at as u64 * number) as u8).collect(),
    }
}

fn folder(dir: &Path) -> DataFolder {
    DataFolder::open_writer(dir, "test").unwrap()
}

fn all(folder: &DataFolder) -> Vec<(u64, Letter)> {
    read(folder).unwrap().map(Result::unwrap).collect()
}

#[test]
fn letters_come_back_as_they_were_and_go_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let folder = folder(dir.path());
    let (mut store, cut) = DeadLetters::open(&folder, BYTES_MAX_DEFAULT).unwrap();
    assert_eq!(cut, None);
    assert_eq!(store.standing(), Standing::default());
    let letters: Vec<_> = (0..7).map(|number| letter(number, number as usize * 100)).collect();
    for (number, letter) in letters.iter().enumerate() {
        assert_eq!(store.append(letter).unwrap(), Some(number as u64));
        // A reader beside the writer sees each at once.
        assert_eq!(all(&folder).last().unwrap(), &(number as u64, letter.clone()));
    }
    drop(store);
    let (mut store, cut) = DeadLetters::open(&folder, BYTES_MAX_DEFAULT).unwrap();
    assert_eq!(cut, None);
    assert_eq!(store.append(&letters[0]).unwrap(), Some(7));
    let read = all(&folder);
    assert_eq!(read.len(), 8);
    assert!(read[..7].iter().map(|(_, letter)| letter).eq(&letters));
    assert_eq!(store.standing().letters, 8);
    let reasons = letters[1].reasons();
    assert_eq!(reasons, [(RejectReason::NullValue, 1), (RejectReason::OutOfBounds, 2)]);
    assert_eq!((letters[1].rows(), letters[0].rows()), (3, 0));
}

#[test]
fn the_oldest_go_and_the_bound_holds() {
    let dir = tempfile::tempdir().unwrap();
    let folder = folder(dir.path());
    let bytes_max = 40_000;
    let (mut store, _) = DeadLetters::open(&folder, bytes_max).unwrap();
    for number in 0..500 {
        assert_eq!(store.append(&letter(number, 700)).unwrap(), Some(number));
        let on_disk: u64 = std::fs::read_dir(folder.dead_letters())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum();
        assert_eq!(on_disk, store.standing().bytes);
        assert!(on_disk <= bytes_max, "{on_disk}");
    }
    let standing = store.standing();
    assert!(standing.letters >= 30, "{standing:?}");
    assert_eq!(standing.letters + standing.dropped, 500);
    let numbers: Vec<_> = all(&folder).into_iter().map(|(number, _)| number).collect();
    assert_eq!(numbers, (standing.dropped..500).collect::<Vec<_>>());
    // Too long for the bound: not kept, nothing else goes.
    assert_eq!(store.append(&letter(1, 30_000)).unwrap(), None);
    assert_eq!(store.standing(), standing);
    drop(store);
    let (store, _) = DeadLetters::open(&folder, bytes_max / 2).unwrap();
    let tighter = store.standing();
    assert!(tighter.bytes <= bytes_max / 2 && tighter.dropped > standing.dropped, "{tighter:?}");
}

#[test]
fn a_torn_end_is_cut_at_every_byte() {
    let dir = tempfile::tempdir().unwrap();
    let folder = folder(dir.path());
    let (mut store, _) = DeadLetters::open(&folder, BYTES_MAX_DEFAULT).unwrap();
    for number in 0..3 {
        store.append(&letter(number, 40)).unwrap();
    }
    drop(store);
    let path = segment_path(&folder.dead_letters(), 0);
    let whole = std::fs::read(&path).unwrap();
    let mut ends = vec![0];
    while let Some(header) = whole.get(ends[ends.len() - 1]..).filter(|rest| !rest.is_empty()) {
        let length = u32::from_le_bytes(header[..4].try_into().unwrap()) as usize;
        ends.push(ends[ends.len() - 1] + HEADER_BYTES + length);
    }
    assert_eq!(ends.len(), 4);
    for end in 0..whole.len() {
        std::fs::write(&path, &whole[..end]).unwrap();
        let kept = ends.iter().filter(|known| **known <= end).count() - 1;
        assert_eq!(all(&folder).len(), kept, "cut at {end}");
        let (mut store, cut) = DeadLetters::open(&folder, BYTES_MAX_DEFAULT).unwrap();
        assert_eq!(cut.map_or(0, |cut| cut.bytes), (end - ends[kept]) as u64);
        assert_eq!(store.append(&letter(9, 4)).unwrap(), Some(kept as u64));
        assert_eq!(all(&folder).last().unwrap().1, letter(9, 4));
    }
}

#[test]
fn damage_is_passed_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let folder = folder(dir.path());
    let (mut store, _) = DeadLetters::open(&folder, 16_000).unwrap();
    for number in 0..6 {
        store.append(&letter(number, 700)).unwrap();
    }
    let firsts = segments_in(&folder.dead_letters()).unwrap();
    assert!(firsts.len() >= 3, "{firsts:?}");
    let path = segment_path(&folder.dead_letters(), firsts[0]);
    let whole = std::fs::read(&path).unwrap();
    for at in (0..whole.len()).step_by(7) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        std::fs::write(&path, damaged).unwrap();
        let mut reader = read(&folder).unwrap();
        let numbers: Vec<_> = reader.by_ref().map(|read| read.unwrap().0).collect();
        assert!(numbers.ends_with(&(firsts[1]..6).collect::<Vec<_>>()), "{numbers:?}");
        assert_eq!(reader.damaged(), std::slice::from_ref(&path), "byte {at}");
    }
}
