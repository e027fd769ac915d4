//! Logs that earlier releases wrote.

use super::*;

/// The records 0 to 5 as the first release wrote them, in a segment of version 1.
const VERSION_1: &[&str] = &[
    "69736f746c6f670a010000000000000000000000eef3c2c52c000000000000000000000009691cd3f682059f01",
    "0000000000000000080073747265616d2030010070000000000000000002000000000200000000000000008300",
    "000001000000000000007b4cfb508764b65b01ffffffffffffffff080073747265616d20310100700100000001",
    "0000000b0073796d626f6c00ff31000000000000000000000000ced6ec4f33f5ffff0001000000000000000200",
    "00000000355332ac07e3d3ff020100ffffffffffffff7f010000000000000000000000000064f6e7ff7a82f2c3",
    "0100000000ffffffffffffffff01a700000002000000000000005d8f6b1346c3026701feffffffffffffff0800",
    "73747265616d203201007002000000020000000b0073796d626f6c00ff3400000b0073796d626f6c00ff320000",
    "8001000000000000000000000000000000809c19dddad31b0000ed0f98e18de0ffff8001000000000000000200",
    "00000000000002000000008075b54703ec3371fc98998bd49269c60d020300ffffffffffffffff000000000200",
    "000080ffffffffffffffffffffffffffffffff01021b00000003000000000000007cb164cb1eb28bcf02fdffff",
    "ffffffffff080073747265616d203006006a6f696e65641900000004000000000000009997105cbf4feac403fc",
    "ffffffffffffff080073747265616d2031040069646c6521000000050000000000000002e0fe362897218b04fb",
    "ffffffffffffff080073747265616d203204006c6f73740500000000000000",
];

pub(super) fn version_1() -> Vec<u8> {
    let digits: Vec<u8> = VERSION_1.concat().into_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

#[test]
fn a_log_of_version_1_is_read_and_goes_on() {
    let (_dir, folder) = folder();
    fs::write(segment_path(&folder, 0), version_1()).unwrap();
    assert_holds(&folder, 0, 6);
    let (mut writer, recovery) = LogWriter::open(&folder).unwrap();
    assert_eq!(recovery, Recovery { next: LogPosition(6), cut: None });
    append(&mut writer, 6..9);
    assert_eq!(segments(&folder), [0, 6]);
    assert_eq!(fs::read(segment_path(&folder, 0)).unwrap(), version_1());
    for from in [0, 3, 6, 8] {
        assert_holds(&folder, from, 9);
    }
    drop(writer);
    let (mut writer, recovery) = LogWriter::open(&folder).unwrap();
    assert_eq!(recovery, Recovery { next: LogPosition(9), cut: None });
    assert_eq!(writer.release(LogPosition(6)).unwrap(), 1);
    assert_eq!(writer.first(), LogPosition(6));
}

#[test]
fn a_torn_log_of_version_1_is_cut() {
    let whole = version_1();
    for cut in (0..whole.len()).step_by(7) {
        let (_dir, folder) = folder();
        fs::write(segment_path(&folder, 0), &whole[..cut]).unwrap();
        let (mut writer, recovery) = LogWriter::open(&folder).unwrap();
        let next = recovery.next.0;
        assert!(next < 6);
        let kept = recovery.cut.as_ref().map_or(cut as u64, |found| found.offset);
        assert_eq!(recovery.cut.map_or(0, |found| found.bytes), cut as u64 - kept);
        append(&mut writer, next..8);
        assert_holds(&folder, 0, 8);
    }
}

#[test]
fn damage_in_a_log_of_version_1_is_refused() {
    let (_dir, folder) = folder();
    let mut bytes = version_1();
    bytes[100] ^= 1;
    fs::write(segment_path(&folder, 0), &bytes).unwrap();
    assert!(matches!(LogWriter::open(&folder), Err(Error::LogCorrupt { .. })));
    assert!(LogReader::from(&folder, LogPosition(0)).unwrap().any(|entry| entry.is_err()));
}

#[test]
fn a_newer_version_is_refused() {
    let (_dir, folder) = folder();
    drop(LogWriter::open(&folder).unwrap());
    let path = segment_path(&folder, 0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 3;
    let crc = crc32fast::hash(&bytes[..20]);
    bytes[20..24].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    let opened = LogWriter::open(&folder);
    assert!(matches!(opened, Err(Error::Newer { found: 3, supported: 2, .. })));
}
