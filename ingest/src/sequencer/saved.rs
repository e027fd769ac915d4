//! The sequencer as plain data: what outlives the process, and back.

use isotick_model::PublisherId;
use isotick_model::watermark::Watermark;
use isotick_wire::Ack;

use super::held::Held;
use super::{PUBLISHERS_MAX, Sequencer};

/// What a [`Sequencer`] holds between two records, without schemas, sessions, and the content of
/// recent rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavedSequencer {
    /// W of each stream by its name.
    pub watermarks: Vec<(String, Option<i64>)>,
    /// In the order in which they became known.
    pub publishers: Vec<SavedPublisher>,
}

/// A publisher of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedPublisher {
    /// The stream's name.
    pub stream: String,
    /// Who.
    pub publisher: PublisherId,
    /// Whether it holds the watermark.
    pub is_active: bool,
    /// Its greatest `ts_event`, nanoseconds UTC.
    pub greatest: Option<i64>,
    /// Every row below is held.
    pub next_sequence: u64,
    /// Rows beyond that are held too, as a serialized 64-bit Roaring bitmap; empty for none.
    pub beyond: Vec<u8>,
    /// What was counted. Its marks are not used.
    pub ack: Ack,
}

impl Sequencer {
    /// What outlives the process.
    pub fn save(&self) -> SavedSequencer {
        let watermark = |stream: &super::Stream| stream.watermark.get();
        let publisher = |known: &super::Publisher| {
            let stream = &self.streams[known.stream];
            let (next_sequence, beyond) = known.held.save();
            SavedPublisher {
                stream: stream.schema.name.clone(),
                publisher: known.id.clone(),
                is_active: known.active,
                greatest: stream.watermark.greatest(&known.id),
                next_sequence,
                beyond,
                ack: known.ack,
            }
        };
        SavedSequencer {
            watermarks: (self.streams.iter())
                .map(|stream| (stream.schema.name.clone(), watermark(stream)))
                .collect(),
            publishers: self.publishers.iter().map(publisher).collect(),
        }
    }

    /// Takes back what was saved, after the streams are declared and before anything else. Streams
    /// that are no longer declared are left out. Everything that is held is durable.
    ///
    /// # Errors
    ///
    /// What is wrong with it: then the sequencer must not be used.
    pub fn restore(&mut self, saved: SavedSequencer) -> Result<(), &'static str> {
        for (name, w) in saved.watermarks {
            let stream = self.streams.iter_mut().find(|stream| stream.schema.name == name);
            if let Some(stream) = stream {
                stream.watermark = Watermark::at(w);
            }
        }
        for saved in saved.publishers {
            let stream = self.streams.iter().position(|known| known.schema.name == saved.stream);
            let Some(stream) = stream else { continue };
            if self.publishers.len() >= PUBLISHERS_MAX {
                return Err("it has too many publishers");
            }
            let known = self.publishers.len();
            let slot = self.slot(&saved.stream, &saved.publisher);
            let slot = slot.map_err(|_| "its stream is not declared")?;
            if self.publishers.len() == known {
                return Err("a publisher is there twice");
            }
            let held = Held::restore(saved.next_sequence, &saved.beyond);
            let publisher = &mut self.publishers[slot.0 as usize];
            publisher.held = held.ok_or("the rows that a publisher's marks name are malformed")?;
            publisher.active = saved.is_active;
            publisher.ack = saved.ack;
            publisher.all_marks_at_received();
            let watermark = &mut self.streams[stream].watermark;
            watermark.restore(saved.publisher, saved.is_active, saved.greatest);
        }
        Ok(())
    }
}
