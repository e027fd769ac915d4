use std::sync::atomic::AtomicU64;
use std::time::Duration;

use isotick_kernels::{CpuEngine, Engine, Truth};
use isotick_model::definitions::{Definitions, template};
use isotick_scheduler::OnFailure;
use isotick_storage::Store;

use super::*;
use crate::device::{DeviceLimits, Lane};
use crate::market::Market;

/// A folder with three files of more than one row group together, and its scan.
fn folder() -> (tempfile::TempDir, Scan) {
    let definitions = Definitions::parse(template::EXAMPLE, "example").unwrap();
    let view = definitions.view("bars_1m").unwrap();
    let schema = definitions.stream(&view.stream).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path(), "test").unwrap();
    let mut market = Market::new(1);
    for rows in [150_000, 20_000, 7_000] {
        let mut commit = store.begin();
        commit.add_imported(schema, &[market.next_ticks(rows)]).unwrap();
        commit.finish().unwrap();
    }
    (folder, scanning::whole(view, schema, Truth::Now))
}

fn stored(folder: &tempfile::TempDir, scan: &Scan) -> Vec<Part> {
    let snapshot = Snapshot::open(folder.path()).unwrap();
    scanning::stored_parts(&snapshot, scan, Stored::Ticks).unwrap().ticks
}

fn hash(scan: &Scan, parts: Vec<scheduler::Part>, engine: Box<dyn Engine>) -> String {
    let outcome = scan.run(parts, vec![engine], OnFailure::Stop, &AtomicU64::new(0)).unwrap();
    let finished = outcome.views[0].finish(1.try_into().unwrap(), |_| anyhow::Ok(()));
    finished.unwrap().to_string()
}

fn read(rows: &RowGroups, part: &Part) -> Vec<Ticks> {
    rows.read(part).unwrap().collect::<isotick_storage::Result<_>>().unwrap()
}

#[test]
fn a_row_group_is_read_once_and_with_other_columns_again() {
    let (folder, scan) = folder();
    let rows = RowGroups::new(1 << 30);
    let parts = stored(&folder, &scan);
    let bytes: u64 = parts.iter().map(Part::bytes).sum();
    for part in &parts {
        let ticks = read(&rows, part).pop().unwrap();
        assert_eq!(ticks.len(), part.rows());
        let whole = part.read().unwrap().map(Result::unwrap).collect::<Vec<_>>();
        assert_eq!(ticks.ts_event, Ticks::concat(&whole).ts_event);
        assert_eq!(rows.number_of(&ticks), rows.number_of(&read(&rows, part).pop().unwrap()));
        assert!(rows.number_of(&ticks).is_some());
        assert_eq!(rows.number_of(&ticks.slice(0..10)), None, "not all of its rows");
    }
    let status = rows.status();
    assert_eq!((status.bytes_read, status.bytes_spared), (bytes, bytes));
    assert_eq!((status.hits, status.misses), (parts.len() as u64, parts.len() as u64));

    // A scan of less is served by what is held; one of more reads again, once.
    let narrow = Scan { views: vec![volume_by_day(&scan)], ..scan.clone() };
    for part in stored(&folder, &narrow) {
        read(&rows, &part);
    }
    assert_eq!(rows.status().bytes_read, bytes);
    let rows = RowGroups::new(1 << 30);
    stored(&folder, &narrow).iter().for_each(|part| drop(read(&rows, part)));
    parts.iter().for_each(|part| drop(read(&rows, part)));
    let twice = rows.status();
    assert_eq!((twice.row_groups, twice.hits), (parts.len(), 0));
    stored(&folder, &narrow).iter().for_each(|part| drop(read(&rows, part)));
    assert_eq!(
        (rows.status().bytes_read, rows.status().hits),
        (twice.bytes_read, parts.len() as u64)
    );
}

/// The volume of each day: a view that needs neither times nor who sent a tick.
fn volume_by_day(scan: &Scan) -> isotick_scheduler::ScanView {
    let definitions = r#"
        [stream.trades]
        time = "ts"
        key = "symbol"
        columns = { price = { scale = 4 }, size = { scale = 0 } }
        [view.days]
        stream = "trades"
        window = { tumbling = "1d" }
        aggregates = ["trades = count()"]
    "#;
    let definitions = Definitions::parse(definitions, "test").unwrap();
    let view = Arc::new(definitions.view("days").unwrap().clone());
    isotick_scheduler::ScanView { view, ..scan.views[0].clone() }
}

#[test]
fn the_budget_holds_and_the_oldest_goes() {
    let (folder, scan) = folder();
    let parts = stored(&folder, &scan);
    assert!(parts.len() > 3);
    let all = RowGroups::new(1 << 30);
    parts.iter().for_each(|part| drop(read(&all, part)));
    // All but the smallest one.
    let rows = RowGroups::new(all.status().bytes - 1);
    for _ in 0..2 {
        for part in &parts {
            assert_eq!(read(&rows, part).iter().map(Ticks::len).sum::<usize>(), part.rows());
            assert!(rows.status().bytes <= rows.status().bytes_max);
        }
    }
    let status = rows.status();
    assert!(status.evictions > 0 && status.misses > parts.len() as u64, "{status:?}");
    assert_eq!(rows.take_gone().len() as u64, status.evictions);
    assert!(rows.take_gone().is_empty());
    // Nothing fits: everything is read as ever.
    let none = RowGroups::new(10);
    parts.iter().for_each(|part| assert_eq!(none.number_of(&read(&none, part)[0]), None));
    assert_eq!((none.status().row_groups, none.status().bytes), (0, 0));
    rows.clear();
    assert_eq!((rows.status().row_groups, rows.status().bytes), (0, 0));
}

/// A second scan reads no file and moves nothing to the device, and gives the same hash; what is
/// there serves another view too. A file that takes the place of others is read.
#[test]
fn a_second_scan_reads_and_moves_nothing() {
    if crate::engines::any_gpu().is_err() {
        println!("ignored: no adapter");
        return;
    }
    let (folder, scan) = folder();
    let limits = DeviceLimits {
        wait_max: Duration::from_secs(1),
        resident_bytes_max: None,
        row_groups_bytes_max: 1 << 30,
    };
    let devices = Arc::new(Devices::new(limits));
    let on_gpu = |scan: &Scan| {
        let snapshot = Snapshot::open(folder.path()).unwrap();
        let parts = parts(&devices, EngineChoice::Gpu, &snapshot, scan).unwrap();
        hash(scan, parts, devices.open(EngineChoice::Gpu, Lane::Scan).unwrap().engine)
    };
    let on_cpu = |scan: &Scan| {
        let parts = stored(&folder, scan).into_iter().map(|part| {
            scheduler::Part::ticks(None, move |sink| {
                for ticks in part.read().map_err(scanning::read_failed)? {
                    sink(ticks.map_err(scanning::read_failed)?)?;
                }
                Ok(())
            })
        });
        hash(scan, parts.collect(), Box::new(CpuEngine))
    };
    let expected = on_cpu(&scan);
    assert_eq!(on_gpu(&scan), expected);
    let first = devices.resident()[0];
    assert!(first.0.bytes > 0 && first.0.bytes <= first.0.bytes_max, "{first:?}");
    assert_eq!(on_gpu(&scan), expected);
    let again = devices.resident()[0];
    assert_eq!(again.1.bytes_read, first.1.bytes_read, "no file is read");
    assert_eq!(again.0.uploaded_bytes, first.0.uploaded_bytes, "nothing is moved");
    assert_eq!(again.1.hits, again.1.row_groups as u64);
    assert!(again.0.hits > first.0.hits, "{again:?}");
    let days = Scan { views: vec![volume_by_day(&scan)], ..scan.clone() };
    assert_eq!(on_gpu(&days), on_cpu(&days));
    assert_eq!(devices.resident()[0].1.bytes_read, first.1.bytes_read);

    // A file takes the place of others.
    let mut merged = 0;
    let mut store = Store::open(folder.path(), "test").unwrap();
    store.compact(&scan.schema, &mut |rows| merged += rows).unwrap();
    assert!(merged > 0);
    assert_eq!(on_gpu(&scan), expected);
    let after = devices.resident()[0];
    assert!(after.1.bytes_read > again.1.bytes_read, "the new file is read");
}
