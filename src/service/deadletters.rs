//! The dead-letter thread: writes what was refused. Nobody waits for it: what finds no room in its
//! queue is dropped and counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use isotick_model::{Rejected, Ticks};
use isotick_storage::DeadLetters;
use isotick_storage::deadletters::{Content, Letter, Standing};
use isotick_wire::EncodeError;
use isotick_wire::frame::Encoder;

/// Parcels between the sequencing thread and this one.
const PARCELS_MAX: usize = 256;
/// Bytes of all of them together.
const QUEUED_BYTES_MAX: u64 = 16 << 20;

/// How the store stands, for whoever asks.
#[derive(Debug, Default)]
pub struct LetterCounters {
    standing: Mutex<Standing>,
    queued_bytes: AtomicU64,
    /// Parcels that found no room in the queue.
    dropped_by_rate: AtomicU64,
    /// Parcels that were too long, or that the disk did not take.
    not_kept: AtomicU64,
}

impl LetterCounters {
    /// Every counter with its name, for status and metrics.
    pub fn named(&self) -> [(&'static str, u64); 5] {
        let standing = *self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("letters", standing.letters),
            ("bytes", standing.bytes),
            ("dropped_by_bound", standing.dropped),
            ("dropped_by_rate", get(&self.dropped_by_rate)),
            ("not_kept", get(&self.not_kept)),
        ]
    }
}

/// Where the sequencing thread puts what was refused.
pub struct DeadLetterSink {
    parcels: SyncSender<Parcel>,
    counters: Arc<LetterCounters>,
}

struct Parcel {
    ts_recv_ns: i64,
    stream: String,
    publisher: String,
    what: What,
    bytes: u64,
}

enum What {
    Rows { ticks: Ticks, rejected: Vec<Rejected> },
    Undecodable { bytes: Vec<u8>, error: String },
}

/// A sink, and the thread's end of it.
pub fn dead_letters(store: DeadLetters) -> (DeadLetterSink, Lettering) {
    let (parcels, taken) = sync_channel(PARCELS_MAX);
    let counters = Arc::<LetterCounters>::default();
    let sink = DeadLetterSink { parcels, counters: counters.clone() };
    let lettering = Lettering { store, parcels: taken, counters, encoder: Encoder::default() };
    lettering.count();
    (sink, lettering)
}

impl DeadLetterSink {
    /// What is counted.
    pub fn counters(&self) -> Arc<LetterCounters> {
        self.counters.clone()
    }

    /// Rows of a frame that were rejected; `rejected` begins with their reasons, in their order.
    pub fn rows(&self, stream: &str, ts_recv_ns: i64, ticks: Ticks, rejected: &[Rejected]) {
        let cells = ticks.len() * (ticks.values.len() + 3);
        let publisher = ticks.publishers[0].to_string();
        let rejected = rejected[..ticks.len()].to_vec();
        let what = What::Rows { ticks, rejected };
        self.put(stream, publisher, ts_recv_ns, 8 * cells as u64, what);
    }

    /// A message that could not be decoded.
    pub fn undecodable(
        &self,
        stream: &str,
        publisher: &str,
        ts_recv_ns: i64,
        bytes: impl Into<Vec<u8>>,
        error: String,
    ) {
        let bytes = bytes.into();
        let length = bytes.len() as u64;
        let what = What::Undecodable { bytes, error };
        self.put(stream, publisher.to_owned(), ts_recv_ns, length, what);
    }

    fn put(&self, stream: &str, publisher: String, ts_recv_ns: i64, bytes: u64, what: What) {
        let queued = self.counters.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        let parcel = Parcel { ts_recv_ns, stream: stream.to_owned(), publisher, what, bytes };
        // One parcel always fits: a frame is bounded.
        let has_room = queued == 0 || queued + bytes <= QUEUED_BYTES_MAX;
        if !has_room || self.parcels.try_send(parcel).is_err() {
            self.counters.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.counters.dropped_by_rate.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The thread's state.
pub struct Lettering {
    store: DeadLetters,
    parcels: Receiver<Parcel>,
    counters: Arc<LetterCounters>,
    encoder: Encoder,
}

impl Lettering {
    /// Runs until the sink is gone and everything in the queue is written.
    pub fn run(mut self) {
        let mut complained = false;
        while let Ok(parcel) = self.parcels.recv() {
            let bytes = parcel.bytes;
            if let Err(error) = self.keep(parcel)
                && !std::mem::replace(&mut complained, true)
            {
                tracing::warn!(
                    "{error}: dead letters are not kept while that lasts; the service goes on"
                );
            }
            self.counters.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.count();
        }
    }

    fn keep(&mut self, parcel: Parcel) -> isotick_storage::Result<()> {
        let Parcel { ts_recv_ns, stream, publisher, what, .. } = parcel;
        let letter = |content, bytes| Letter {
            ts_recv_ns,
            stream: stream.clone(),
            publisher: publisher.clone(),
            content,
            bytes,
        };
        match what {
            What::Undecodable { bytes, error } => {
                self.append(&letter(Content::Undecodable { error }, bytes))
            }
            What::Rows { ticks, rejected } => {
                let mut result = Ok(());
                for (content, bytes) in frames(&mut self.encoder, &ticks, &rejected) {
                    result = result.and(self.append(&letter(content, bytes)));
                }
                result
            }
        }
    }

    fn append(&mut self, letter: &Letter) -> isotick_storage::Result<()> {
        let appended = self.store.append(letter);
        if !matches!(appended, Ok(Some(_))) {
            self.counters.not_kept.fetch_add(1, Ordering::Relaxed);
        }
        appended.map(|_| ())
    }

    fn count(&self) {
        let standing = self.store.standing();
        *self.counters.standing.lock().unwrap_or_else(PoisonError::into_inner) = standing;
    }
}

/// Rows as tick frames: one, or several where the rows pack worse without those between them.
fn frames(encoder: &mut Encoder, ticks: &Ticks, rejected: &[Rejected]) -> Vec<(Content, Vec<u8>)> {
    let mut made = Vec::new();
    let whole = 0..ticks.len();
    let mut todo = Vec::from([whole]);
    while let Some(rows) = todo.pop() {
        let mut bytes = Vec::new();
        match encoder.encode(ticks, rows.clone(), &[], &mut bytes) {
            Ok(()) => {}
            Err(EncodeError::TooLarge { .. }) if rows.len() > 1 => {
                let middle = rows.start + rows.len() / 2;
                todo.extend([middle..rows.end, rows.start..middle]);
                continue;
            }
            Err(error) => unreachable!("rows of one decoded frame can be encoded: {error}"),
        }
        let rejected = &rejected[rows];
        let sequences = || rejected.iter().map(|row| row.sequence);
        let content = Content::Rows {
            first_sequence: sequences().min().unwrap_or(0),
            last_sequence: sequences().max().unwrap_or(0),
            reasons: rejected.iter().map(|row| row.reason).collect(),
        };
        made.push((content, bytes));
    }
    made
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use isotick_model::{Key, PublisherId, RejectReason, ValueColumn};
    use isotick_storage::DataFolder;
    use isotick_storage::deadletters::{BYTES_MAX_DEFAULT, read};
    use isotick_wire::frame::Decoder;

    use super::*;

    fn ticks(rows: u64) -> Ticks {
        // Squares of spread numbers: neither they nor their steps pack.
        let spread = |row: u64| row.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 7;
        let column = (0..rows).map(|row| spread(row).wrapping_mul(spread(row)) as i64).collect();
        Ticks {
            ts_event: (0..rows as i64).collect(),
            sequence: (10..10 + rows).collect(),
            publishers: vec![PublisherId::new("p").unwrap()],
            publisher: Vec::new().into(),
            keys: vec![Key::from_components(["A"])].into(),
            key: vec![0; rows as usize].into(),
            values: vec![ValueColumn { values: column, nulls: None }; 4],
            seen: None,
        }
    }

    fn rejected(rows: u64) -> Vec<Rejected> {
        let reason = RejectReason::OutOfBounds;
        (10..10 + rows).map(|sequence| Rejected { sequence, reason }).collect()
    }

    fn store(dir: &Path) -> (DataFolder, DeadLetters) {
        let folder = DataFolder::open_writer(dir, "test").unwrap();
        let (store, _) = DeadLetters::open(&folder, BYTES_MAX_DEFAULT).unwrap();
        (folder, store)
    }

    #[test]
    fn rows_are_kept_as_frames_that_hold_just_them() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, store) = store(dir.path());
        let (sink, lettering) = dead_letters(store);
        let counters = sink.counters();
        // As many bytes as one frame never has: it takes several.
        let rows = 40_000;
        let mut all = rejected(rows);
        all.push(Rejected { sequence: 9, reason: RejectReason::Inexact });
        sink.rows("trades", 77, ticks(rows), &all);
        sink.undecodable("trades", "p", 78, vec![1, 2, 3], "broken".into());
        drop(sink);
        lettering.run();
        let letters: Vec<_> = read(&folder).unwrap().map(|letter| letter.unwrap().1).collect();
        assert!(letters.len() >= 3, "{} letters", letters.len());
        let (last, frames) = letters.split_last().unwrap();
        assert_eq!(last.content, Content::Undecodable { error: "broken".into() });
        assert_eq!(last.bytes, [1, 2, 3]);
        let mut sequences = Vec::new();
        for letter in frames {
            let publisher = PublisherId::new(&letter.publisher).unwrap();
            let frame = Decoder::default().decode(&letter.bytes, &publisher, 4).unwrap();
            assert_eq!(frame.ticks.len(), letter.rows());
            sequences.extend_from_slice(&frame.ticks.sequence);
        }
        assert_eq!(sequences, (10..10 + rows).collect::<Vec<_>>());
        let named = counters.named();
        assert_eq!(named[0], ("letters", letters.len() as u64));
        assert_eq!((named[3].1, named[4].1), (0, 0));
        assert_eq!(counters.queued_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, store) = store(dir.path());
        let (sink, lettering) = dead_letters(store);
        let counters = sink.counters();
        let big = vec![7; 3 << 20];
        for _ in 0..8 {
            sink.undecodable("trades", "p", 1, big.clone(), "big".into());
        }
        assert_eq!(counters.named()[3], ("dropped_by_rate", 3));
        for _ in 0..2 * PARCELS_MAX {
            sink.undecodable("trades", "p", 1, vec![0], "small".into());
        }
        drop(sink);
        lettering.run();
        let kept = read(&folder).unwrap().count() as u64;
        assert_eq!(kept, PARCELS_MAX as u64);
        assert_eq!(counters.named()[3].1 + kept, 8 + 2 * PARCELS_MAX as u64);
    }
}
