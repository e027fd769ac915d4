use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use isotick_model::view::Tumbling;
use isotick_model::{Key, KeySelection, PublisherId, StreamSchema, Ticks};
use tempfile::TempDir;

use super::{RollupBase, RollupTerm, RollupWork, StoredStates};
use crate::compaction::Eagerness;
use crate::error::{Error, Result};
use crate::fixtures::{schema, ticks};
use crate::history::{ALL_TIME, Columns};
use crate::manifest::Manifest;
use crate::snapshot::{Chosen, Snapshot};
use crate::store::Store;

const HOUR_NS: i64 = 3_600_000_000_000;

/// Ticks and the last price, of all ticks.
pub(crate) fn base(hours: i64) -> RollupBase {
    let term = |of: &str, columns: &[&str], words, publisher| RollupTerm {
        of: of.to_owned(),
        columns: columns.iter().map(|&name| name.to_owned()).collect(),
        words,
        publisher,
    };
    RollupBase {
        filter: None,
        width_ns: hours * HOUR_NS,
        origin_ns: 0,
        terms: vec![term("count", &[], 1, None), term("last", &["price"], 5, Some(2))],
    }
}

/// By key and window: ticks, and the last of them.
pub(crate) type States = BTreeMap<(Key, i64), (u64, Option<(i64, PublisherId, u64, i64)>)>;

/// Adds ticks, of which only some have a price that counts for the last one.
fn add(states: &mut States, base: &RollupBase, ticks: &Ticks) {
    let window = Tumbling { width_ns: base.width_ns, origin_ns: base.origin_ns };
    for row in 0..ticks.len() {
        let ts = ticks.ts_event[row];
        let start = window.start_of(ts).unwrap();
        let (count, last) = states.entry((ticks.key_of(row).clone(), start)).or_default();
        *count += 1;
        let price = ticks.values[0].values[row];
        let tick = (ts, ticks.publisher_of(row).clone(), ticks.sequence[row], price);
        // Some windows have none.
        if price % 3 == 0 {
            *last = last.take().max(Some(tick));
        }
    }
}

fn stored(states: &States) -> StoredStates {
    let mut stored = StoredStates::default();
    for ((key, start), (count, last)) in states {
        if stored.keys.last() != Some(key) {
            stored.keys.push(key.clone());
        }
        stored.key.push(stored.keys.len() as u32 - 1);
        stored.start.push(*start);
        stored.words.push(*count);
        let words = match last {
            None => [0; 5],
            Some((ts, publisher, sequence, price)) => {
                let known = stored.publishers.iter().position(|known| known == publisher);
                let code = known.unwrap_or_else(|| {
                    // Codes are those of the batch, in any order.
                    stored.publishers.push(publisher.clone());
                    stored.publishers.len() - 1
                });
                [1, ts.cast_unsigned(), code as u64, *sequence, price.cast_unsigned()]
            }
        };
        stored.words.extend(words);
    }
    stored
}

/// The states of a piece of work, in batches of one key each.
fn reduce(schema: &StreamSchema, work: &RollupWork) -> Vec<Result<StoredStates>> {
    try_reduce(schema, work).unwrap().into_iter().map(Ok).collect()
}

pub(crate) fn try_reduce(schema: &StreamSchema, work: &RollupWork) -> Result<Vec<StoredStates>> {
    let mut states = States::new();
    for part in work.parts(&Columns::all(schema))? {
        for ticks in part.read()? {
            add(&mut states, work.base(), &ticks?);
        }
    }
    let mut batches: BTreeMap<Key, States> = BTreeMap::new();
    for (place, state) in states {
        batches.entry(place.0.clone()).or_default().insert(place, state);
    }
    Ok(batches.values().map(stored).collect())
}

fn roll_up(store: &mut Store, schema: &StreamSchema, base: &RollupBase) -> usize {
    let mut made = 0;
    while let Some(work) = store.plan_rollup(schema, base, |_| true) {
        let rolled = work.write(reduce(schema, &work).into_iter()).unwrap();
        assert_eq!(store.commit_rolled(vec![rolled]).unwrap(), 1);
        made += 1;
    }
    made
}

fn store_of(schema: &StreamSchema) -> (TempDir, Store) {
    let dir = TempDir::new().unwrap();
    let mut store = Store::open(dir.path(), "test").unwrap();
    for (number, publisher) in ["b", "a"].into_iter().enumerate() {
        let mut commit = store.begin();
        commit.add_imported(schema, &[ticks(schema, publisher, 0, 900, number as u64)]).unwrap();
        commit.finish().unwrap();
    }
    (dir, store)
}

/// Everything that a snapshot holds: states from where there are some, and ticks.
pub(crate) fn read(
    snapshot: &Snapshot,
    schema: &StreamSchema,
    of: &RollupBase,
    keys: &KeySelection,
) -> (States, [usize; 2]) {
    let id = of.id(&schema.name);
    let choose = |file: &crate::manifest::HistoryFile, _: &crate::manifest::StreamFiles| {
        let is_there = file.rollups.get(&id).is_some_and(Option::is_some);
        // Another order than that of the file.
        is_there.then(|| Chosen { base: id.clone(), words: vec![3, 1, 0, 5, 2, 4] })
    };
    let parts = snapshot.parts_of(schema, &Columns::all(schema), ALL_TIME, keys, &choose).unwrap();
    let mut states = States::new();
    for part in &parts.ticks {
        part.read().unwrap().for_each(|ticks| add(&mut states, of, &ticks.unwrap()));
    }
    for part in &parts.states {
        let mut rows = 0;
        for batch in part.read().unwrap() {
            let batch = batch.unwrap();
            rows += batch.len();
            for (row, state) in batch.words.chunks_exact(6).enumerate() {
                let key = batch.keys[batch.key[row] as usize].clone();
                assert!(part.keys().is_none_or(|keys| keys.contains(&key)));
                let &[code, has, count, price, ts, sequence] = state else { unreachable!() };
                let (sum, last) = states.entry((key, batch.start[row])).or_default();
                *sum += count;
                if has == 1 {
                    let publisher = batch.publishers[code as usize].clone();
                    let tick = (ts.cast_signed(), publisher, sequence, price.cast_signed());
                    assert!(part.times().contains(&tick.0));
                    *last = last.take().max(Some(tick));
                } else {
                    assert_eq!(state, [0, 0, count, 0, 0, 0]);
                }
            }
        }
        assert!(rows > 0 && rows <= part.rows() && part.bytes() > 0);
    }
    (states, [parts.ticks.len(), parts.states.len()])
}

fn all() -> KeySelection {
    KeySelection::default()
}

fn files_below(path: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(files_below(&path)),
            false => files.push(path),
        }
    }
    files.retain(|path| path.to_string_lossy().contains("rollup="));
    files
}

#[test]
fn states_stand_for_the_ticks_of_their_files() {
    for keys in [&[][..], &["symbol"], &["venue", "symbol"]] {
        let (schema, base) = (schema(keys), base(4));
        let (dir, mut store) = store_of(&schema);
        let (of_ticks, _) = read(&store.snapshot(), &schema, &base, &all());
        // Two dates for each of two imports.
        assert_eq!(roll_up(&mut store, &schema, &base), 4);
        assert_eq!(files_below(dir.path()).len(), 4);
        let (of_states, parts) = read(&store.snapshot(), &schema, &base, &all());
        assert_eq!(parts, [0, 4]);
        assert!(of_states == of_ticks);
        // What comes later is read as ticks.
        let mut commit = store.begin();
        commit.add_imported(&schema, &[ticks(&schema, "late", 0, 300, 9)]).unwrap();
        commit.finish().unwrap();
        let base_elsewhere = RollupBase { width_ns: 7, ..base.clone() };
        let (of_ticks, _) = read(&store.snapshot(), &schema, &base_elsewhere, &all());
        assert_eq!(of_ticks.values().map(|state| state.0).sum::<u64>(), 2100);
        let (mixed, parts) = read(&store.snapshot(), &schema, &base, &all());
        assert_eq!(parts, [2, 4]);
        assert_eq!(mixed.values().map(|state| state.0).sum::<u64>(), 2100);
        // A key alone.
        let of_key = |states: &States, key: &Key| -> States {
            states
                .iter()
                .filter(|of| of.0.0 == *key)
                .map(|of| (of.0.clone(), of.1.clone()))
                .collect()
        };
        let key = mixed.keys().nth(mixed.len() / 2).unwrap().0.clone();
        let selection = KeySelection::new(keys.len(), std::slice::from_ref(&key), None);
        let (selected, _) = read(&store.snapshot(), &schema, &base, &selection);
        assert!(of_key(&selected, &key) == of_key(&mixed, &key));
        drop(store);
        // The manifest and the files come back.
        let (again, parts) = read(&Snapshot::open(dir.path()).unwrap(), &schema, &base, &all());
        assert!(again == mixed && parts == [2, 4]);
    }
}

#[test]
fn a_range_leaves_files_unread() {
    let (schema, base) = (schema(&["symbol"]), base(4));
    let (_dir, mut store) = store_of(&schema);
    roll_up(&mut store, &schema, &base);
    let id = base.id("trades");
    let parts = |range| {
        let choose = |_: &_, _: &_| Some(Chosen { base: id.clone(), words: vec![0] });
        let snapshot = store.snapshot();
        let parts = snapshot.parts_of(&schema, &Columns::default(), range, &all(), &choose);
        parts.unwrap().states.len()
    };
    assert_eq!(parts(ALL_TIME), 4);
    assert_eq!(parts(0..=HOUR_NS), 2, "the day of the epoch");
    assert_eq!(parts(i64::MIN..=-1), 2);
    assert_eq!(parts(24 * HOUR_NS..=i64::MAX), 0);
}

#[test]
fn states_go_with_their_files() {
    let (schema, base) = (schema(&["symbol"]), base(4));
    let (dir, mut store) = store_of(&schema);
    let work = store.plan_rollup(&schema, &base, |_| true).unwrap();
    let made_before = work.write(reduce(&schema, &work).into_iter()).unwrap();
    roll_up(&mut store, &schema, &base);
    let (of_states, _) = read(&store.snapshot(), &schema, &base, &all());
    assert_eq!(files_below(dir.path()).len(), 5);
    assert_eq!(store.commit_rolled(vec![made_before]).unwrap(), 0, "it is there already");
    assert_eq!(files_below(dir.path()).len(), 4);

    // A reader that plans after the files were merged meets each tick once all the same.
    let before = Snapshot::open(dir.path()).unwrap();
    let work = store.plan_rollup(&schema, &RollupBase { width_ns: 7, ..base.clone() }, |_| true);
    let other = work.unwrap().pass();
    store.compact(&schema, &mut |_| ()).unwrap();
    assert_eq!(files_below(dir.path()), Vec::<PathBuf>::new());
    assert!(read(&before, &schema, &base, &all()).0 == of_states);
    assert_eq!(store.commit_rolled(vec![other]).unwrap(), 0, "its file is gone");
    let (of_ticks, parts) = read(&store.snapshot(), &schema, &base, &all());
    assert!(of_ticks == of_states && parts == [2, 0]);

    // What is known of the stream stays: the merged files get states too.
    assert!(store.manifest().streams["trades"].bases.contains_key(&base.id("trades")));
    assert_eq!(roll_up(&mut store, &schema, &base), 2);
    assert_eq!(files_below(dir.path()).len(), 2);
    store.drop_ticks("trades", 0).unwrap();
    assert_eq!(files_below(dir.path()).len(), 1);
    let (left, _) = read(&store.snapshot(), &schema, &base, &all());
    assert!(left.keys().all(|(_, start)| *start >= 0) && !left.is_empty());
    assert!(left.iter().all(|(place, state)| of_states[place] == *state));
    store.drop_stream("trades", &[]).unwrap();
    assert_eq!(files_below(dir.path()), Vec::<PathBuf>::new());
}

#[test]
fn a_merge_that_was_planned_before_takes_them_along() {
    let (schema, base) = (schema(&["symbol"]), base(4));
    let (dir, mut store) = store_of(&schema);
    let merge = store.plan_merge(&schema, Eagerness::Full, |_| true).unwrap();
    let merged = merge.run(&mut |_| Ok(())).unwrap();
    assert_eq!(roll_up(&mut store, &schema, &base), 4);
    assert!(store.commit_merged(merged).unwrap());
    assert_eq!(files_below(dir.path()).len(), 2, "those of the other date");
    assert_eq!(store.manifest().files().filter(|file| file.path.starts_with("rollup=")).count(), 2);
}

#[test]
fn states_are_dropped_by_their_base() {
    let schema = schema(&["symbol"]);
    let (dir, mut store) = store_of(&schema);
    for hours in [4, 12] {
        roll_up(&mut store, &schema, &base(hours));
    }
    let id = base(4).id("trades");
    let dropped = store.drop_rollups("trades", std::slice::from_ref(&id)).unwrap();
    assert_eq!((dropped.files, files_below(dir.path()).len()), (4, 4));
    assert_eq!(store.manifest().streams["trades"].bases.len(), 1);
    assert_eq!(store.drop_rollups("trades", &[id]).unwrap(), Default::default());
}

#[test]
fn states_that_are_hardly_fewer_than_ticks_are_not_stored() {
    let schema = schema(&["symbol"]);
    let (dir, mut store) = store_of(&schema);
    // 900 ticks, some 450 a date, of five keys: 90 states at 18 windows a key would be too many.
    let fine = RollupBase { width_ns: HOUR_NS / 2, ..base(1) };
    assert_eq!(roll_up(&mut store, &schema, &fine), 4);
    assert_eq!(files_below(dir.path()), Vec::<PathBuf>::new());
    let known: Vec<_> =
        store.manifest().streams["trades"].files.iter().flat_map(|file| &file.rollups).collect();
    assert!(known.len() == 4 && known.iter().all(|of| of.1.is_none()));
    assert_eq!(roll_up(&mut store, &schema, &fine), 0, "they are not looked at again");
    let work = store.plan_rollup(&schema, &base(3), |_| true).unwrap();
    let nothing = work.write([Ok(StoredStates::default())].into_iter()).unwrap();
    assert!(nothing.states().is_none());
    store.commit_rolled(vec![nothing]).unwrap();
}

#[test]
fn a_killed_rollup_leaves_nothing_that_counts() {
    let (schema, base) = (schema(&["symbol"]), base(4));
    let (dir, mut store) = store_of(&schema);
    let work = store.plan_rollup(&schema, &base, |_| true).unwrap();
    drop(work.write(reduce(&schema, &work).into_iter()).unwrap());
    assert_eq!(files_below(dir.path()), Vec::<PathBuf>::new());
    let failed = || Err(Error::Stopped);
    let some = reduce(&schema, &work).into_iter().take(2).chain([failed()]);
    assert!(matches!(work.write(some), Err(Error::Stopped)));
    assert_eq!(files_below(dir.path()), Vec::<PathBuf>::new());
    work.write(reduce(&schema, &work).into_iter()).unwrap().abandon();
    assert_eq!(files_below(dir.path()).len(), 1);
    drop((work, store));
    let mut store = Store::open(dir.path(), "test").unwrap();
    assert_eq!((store.leftovers(), files_below(dir.path()).len()), (1, 0));
    assert_eq!(roll_up(&mut store, &schema, &base), 4);
}

#[test]
fn states_out_of_order_are_refused() {
    let (schema, base) = (schema(&["symbol"]), base(4));
    let (dir, mut store) = store_of(&schema);
    let work = store.plan_rollup(&schema, &base, |_| true).unwrap();
    let states = || reduce(&schema, &work).into_iter().map(Result::unwrap).collect::<Vec<_>>();
    let mut swapped = states();
    swapped.swap(0, 1);
    let mut twice = states();
    twice.insert(1, twice[0].clone());
    for states in [swapped, twice] {
        let error = work.write(states.into_iter().map(Ok)).unwrap_err();
        assert!(error.to_string().contains("order of history"), "{error}");
    }
    assert_eq!(files_below(dir.path()), Vec::<PathBuf>::new());
}

#[test]
fn what_is_wrong_with_states_is_found() {
    let (schema, base) = (schema(&["symbol"]), base(4));
    let (dir, mut store) = store_of(&schema);
    roll_up(&mut store, &schema, &base);
    let id = base.id("trades");
    let check = |manifest: &Manifest, number: usize| {
        let of = &manifest.streams["trades"].files[number];
        let states = of.rollups[&id].as_ref().unwrap();
        super::check(store.folder(), &schema, of, states, &base)
    };
    let manifest = store.manifest().clone();
    (0..4).for_each(|number| check(&manifest, number).unwrap());
    let changed = |change: &dyn Fn(&mut Manifest)| {
        let mut manifest = Manifest::clone(&manifest);
        change(&mut manifest);
        check(&manifest, 0).unwrap_err().to_string()
    };
    fn files(manifest: &mut Manifest) -> &mut Vec<crate::manifest::HistoryFile> {
        &mut manifest.streams.get_mut("trades").unwrap().files
    }
    let of_other = |manifest: &mut Manifest| {
        let files = files(manifest);
        files[0].rollups = files[1].rollups.clone();
    };
    let other_day = changed(&of_other);
    assert!(other_day.contains("no tick of its file"), "states of another date: {other_day}");
    let count = changed(&|m| files(m)[0].rollups.values_mut().flatten().for_each(|s| s.ticks += 1));
    assert!(count.contains("another number"), "{count}");
    let more = changed(&|m| files(m)[0].file.rows += 1);
    assert!(more.contains("another number"), "{more}");
    // Each byte is checked.
    let path = files_below(dir.path()).remove(0);
    let bytes = fs::read(&path).unwrap();
    for at in [10, bytes.len() / 4, bytes.len() - 20] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        fs::write(&path, damaged).unwrap();
        let found = (0..4).filter(|&number| check(&manifest, number).is_err()).count();
        assert_eq!(found, 1, "byte {at}");
    }
    fs::remove_file(&path).unwrap();
    assert_eq!((0..4).filter(|&number| check(&manifest, number).is_err()).count(), 1);
}

#[test]
fn manifests_of_before_are_read() {
    let schema = schema(&["symbol"]);
    let (_dir, store) = store_of(&schema);
    let text = serde_json::to_string(&**store.manifest()).unwrap();
    assert!(!text.contains("rollup") && !text.contains("bases"));
    assert_eq!(serde_json::from_str::<Manifest>(&text).unwrap(), **store.manifest());
}
