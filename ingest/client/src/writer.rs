//! Ticks row by row or in columns, numbered, batched, kept until they are durable.

mod batch;
mod driver;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use isotick_model::definitions::Definitions;
use isotick_model::{Key, PublisherId, StreamSchema, Ticks};
use isotick_wire::{Ack, HelloReply};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::batch::{Batch, Frame, frame_rows};
use crate::connect::{Options, Peer};
use crate::error::ClientError;
use crate::held::Held;
use crate::publisher::{Level, Publisher};
use crate::reconnect::Reconnect;

/// Eight bytes a row, before a frame was encoded.
const DENSITY_ASSUMED: usize = (1 << 16) / 8;

/// What a [`TickWriter`] gathers, and how much it keeps.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// A batch closes with this many rows, 1 to 32,768, …
    pub batch_rows: usize,
    /// … at about this many encoded bytes, …
    pub batch_bytes: usize,
    /// … or when its first row is this old.
    pub batch_age: Duration,
    /// The most rows that are kept until they are durable; who appends more waits.
    pub pending_rows: u64,
    /// The most encoded bytes that are kept; who appends more waits. The batch being filled and
    /// one frame come on top.
    pub pending_bytes: usize,
    /// What to do when the connection is lost.
    pub reconnect: Reconnect,
}

impl Default for WriterOptions {
    /// 8,192 rows, 64 KiB or 5 ms a batch; a million rows and 64 MiB kept; reconnects for ever.
    fn default() -> Self {
        Self {
            batch_rows: 8_192,
            batch_bytes: 64 << 10,
            batch_age: Duration::from_millis(5),
            pending_rows: 1 << 20,
            pending_bytes: 64 << 20,
            reconnect: Reconnect::default(),
        }
    }
}

/// A publisher that numbers, batches, keeps and sends again.
///
/// Rows are numbered from where the service stands ([`next_sequence`](Self::next_sequence)). What
/// is not durable is kept; after a lost connection it is sent again, from the row that the service
/// names, under the same numbers: nothing is lost or counted twice while this process lives. A
/// source that can be read again survives a crash of its own process too, if it goes on with the
/// row whose number `next_sequence` is.
///
/// Dropping it without [`finish`](Self::finish) leaves what is not sent unsent.
#[derive(Debug)]
pub struct TickWriter {
    shared: Arc<Shared>,
    seen: watch::Receiver<Seen>,
    driver: Option<JoinHandle<Result<Ack, ClientError>>>,
    schema: StreamSchema,
    options: WriterOptions,
    peer: Peer,
}

/// What the driver tells who appends.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    ack: Ack,
    over: bool,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// There is something to send, or a batch whose age is to be watched.
    work: Notify,
    seen: watch::Sender<Seen>,
    columns: usize,
    publisher: PublisherId,
    batch_age: Duration,
}

#[derive(Debug)]
struct State {
    batch: Batch,
    /// When the first row of the batch came.
    batch_since: Option<Instant>,
    /// The number of the batch's first row.
    batch_first: u64,
    /// Closed and not durable, by sequence without gaps up to the batch.
    frames: VecDeque<Frame>,
    frames_bytes: usize,
    /// The frames before this index were sent over this connection, or are held.
    next_frame: usize,
    /// One past the last row that was ever sent.
    sent_through: u64,
    /// What the service held when this connection began.
    held: Held,
    finishing: bool,
    /// Rows per encoded byte so far, times 65,536.
    density: usize,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the lock")
    }
}

impl State {
    fn next_sequence(&self) -> u64 {
        self.batch_first + self.batch.len() as u64
    }

    /// Whether so much is kept that nothing more may come.
    fn is_full(&self, options: &WriterOptions) -> bool {
        let first = self.frames.front().map_or(self.batch_first, |frame| frame.first);
        self.next_sequence() - first >= options.pending_rows
            || self.frames_bytes >= options.pending_bytes
    }

    fn close_batch(&mut self) -> Result<(), ClientError> {
        self.batch_since = None;
        let mut frames = Vec::new();
        let rows = self.batch.len() as u64;
        self.batch.close(self.batch_first, &mut frames)?;
        self.batch_first += rows;
        self.keep(frames);
        Ok(())
    }

    fn keep(&mut self, frames: Vec<Frame>) {
        if let Some(frame) = frames.last() {
            self.density = ((frame.rows as usize) << 16) / frame.message.len();
        }
        self.frames_bytes += frames.iter().map(|frame| frame.message.len()).sum::<usize>();
        self.frames.extend(frames);
    }

    /// Rows that make about so many encoded bytes, as the frames before did; at least one.
    fn rows_of_bytes(&self, bytes: usize) -> usize {
        (bytes.saturating_mul(self.density) >> 16).max(1)
    }
}

impl TickWriter {
    /// Connects to `HOST:PORT` and is let in as `publisher` of `stream`. Does not try again by
    /// itself: a wrong address is told at once.
    ///
    /// # Errors
    ///
    /// The service is not reachable, is another one than expected, or refuses; or it holds rows of
    /// this publisher beyond missing ones, which cannot be numbered on from.
    pub async fn connect(
        address: &str,
        stream: &str,
        publisher: &PublisherId,
        connect: &Options,
        options: WriterOptions,
    ) -> Result<Self, ClientError> {
        let (connection, reply) = Publisher::connect(address, stream, publisher, connect).await?;
        let HelloReply { next_sequence, held, definitions, ack, .. } = reply;
        if let Some(beyond) = held.first() {
            let (missing, held) = (next_sequence, *beyond.start());
            return Err(ClientError::Gap { publisher: publisher.clone(), missing, held });
        }
        let schema = Definitions::parse(&definitions, "the service's definitions")
            .ok()
            .and_then(|definitions| definitions.stream(stream).ok().cloned())
            .ok_or_else(|| ClientError::Definitions { stream: stream.into() })?;
        let columns = schema.columns.len();
        let (sender, seen) = watch::channel(Seen { ack, over: false });
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                batch: Batch::new(publisher.clone(), columns),
                batch_since: None,
                batch_first: next_sequence,
                frames: VecDeque::new(),
                frames_bytes: 0,
                next_frame: 0,
                sent_through: next_sequence,
                held: Held::default(),
                finishing: false,
                density: DENSITY_ASSUMED,
            }),
            work: Notify::new(),
            seen: sender,
            columns,
            publisher: publisher.clone(),
            batch_age: options.batch_age,
        });
        let peer = connection.peer().clone();
        let target = driver::Target {
            address: address.into(),
            stream: stream.into(),
            options: connect.clone(),
            reconnect: options.reconnect.clone(),
        };
        let driver = tokio::spawn(driver::drive(shared.clone(), target, connection));
        let options =
            WriterOptions { batch_rows: frame_rows(options.batch_rows, columns), ..options };
        Ok(Self { shared, seen, driver: Some(driver), schema, options, peer })
    }

    /// Who answered; its notice is for the user.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// How the stream is defined at the service: columns, scales, bounds.
    pub fn schema(&self) -> &StreamSchema {
        &self.schema
    }

    /// The number that the next row gets.
    pub fn next_sequence(&self) -> u64 {
        self.shared.lock().next_sequence()
    }

    /// Where the service says this publisher stands.
    pub fn ack(&self) -> Ack {
        self.seen.borrow().ack
    }

    /// Appends a tick and returns its number: its time in nanoseconds UTC, its key, and one scaled
    /// value per column of [`schema`](Self::schema), `None` for null. Waits while too much is not
    /// durable yet. When the future is dropped before it ends, nothing was appended.
    ///
    /// # Errors
    ///
    /// [`ClientError::Columns`] for another number of values, [`ClientError::KeyTooLong`]; then
    /// the writer goes on. Else it is over.
    pub async fn append(
        &mut self,
        ts_event: i64,
        key: &Key,
        values: &[Option<i64>],
    ) -> Result<u64, ClientError> {
        self.check_columns(values.len())?;
        check_key(key)?;
        self.room().await?;
        let mut state = self.shared.lock();
        let sequence = state.next_sequence();
        state.batch.push(ts_event, key, values);
        let rows = state.batch.len();
        if rows == 1 {
            state.batch_since = Some(Instant::now());
            self.shared.work.notify_one();
        }
        if rows >= self.options.batch_rows.min(state.rows_of_bytes(self.options.batch_bytes)) {
            state.close_batch()?;
            self.shared.work.notify_one();
        }
        Ok(sequence)
    }

    /// Appends ticks in columns, in their order; their own sequence and publisher do not count.
    /// Returns the number of the first one. They are sent at once, after the rows before them.
    ///
    /// # Errors
    ///
    /// [`ClientError::Columns`] for another number of columns, [`ClientError::KeyTooLong`]; then
    /// nothing was appended and the writer goes on. Else it is over, and of the rows some may have
    /// been appended.
    pub async fn append_ticks(&mut self, ticks: &Ticks) -> Result<u64, ClientError> {
        self.check_columns(ticks.values.len())?;
        ticks.keys.iter().try_for_each(check_key)?;
        self.flush_batch()?;
        let first = self.next_sequence();
        let numbered = Ticks {
            sequence: (first..first + ticks.len() as u64).collect(),
            publisher: Vec::new().into(),
            ..ticks.clone()
        };
        let mut start = 0;
        while start < ticks.len() {
            self.room().await?;
            let mut state = self.shared.lock();
            let rows = state.rows_of_bytes(self.options.batch_bytes);
            let end = ticks.len().min(start + rows.min(self.options.batch_rows));
            let mut frames = Vec::new();
            state.batch.encode(&numbered, start..end, &mut frames)?;
            state.batch_first += (end - start) as u64;
            state.keep(frames);
            start = end;
            self.shared.work.notify_one();
        }
        Ok(first)
    }

    /// Waits until every row appended so far has reached the level.
    ///
    /// # Errors
    ///
    /// The writer is over.
    pub async fn flush(&mut self, level: Level) -> Result<Ack, ClientError> {
        self.flush_batch()?;
        let through = self.next_sequence();
        let reached = self.seen.wait_for(|seen| seen.over || level.mark(&seen.ack) >= through);
        let seen = reached.await.map(|seen| *seen);
        match seen {
            Ok(Seen { ack, over: false }) => Ok(ack),
            _ => Err(self.ended().await),
        }
    }

    /// Says that no more ticks will come, waits until everything is stored, and closes.
    ///
    /// # Errors
    ///
    /// The writer is over before that.
    pub async fn finish(mut self) -> Result<Ack, ClientError> {
        self.flush_batch()?;
        self.shared.lock().finishing = true;
        self.shared.work.notify_one();
        match self.driver.take() {
            Some(driver) => driver.await.unwrap_or_else(|_| Err(self.over())),
            None => Err(self.over()),
        }
    }

    fn check_columns(&self, found: usize) -> Result<(), ClientError> {
        let expected = self.schema.columns.len();
        match found == expected {
            true => Ok(()),
            false => {
                Err(ClientError::Columns { stream: self.schema.name.clone(), expected, found })
            }
        }
    }

    fn flush_batch(&mut self) -> Result<(), ClientError> {
        let mut state = self.shared.lock();
        if state.batch.len() > 0 {
            state.close_batch()?;
            self.shared.work.notify_one();
        }
        Ok(())
    }

    /// Waits until a row may be appended.
    async fn room(&mut self) -> Result<(), ClientError> {
        loop {
            let over = self.seen.borrow_and_update().over;
            if over {
                return Err(self.ended().await);
            }
            {
                let mut state = self.shared.lock();
                if !state.is_full(&self.options) {
                    return Ok(());
                }
                // What fills it up must be on its way.
                if state.batch.len() > 0 {
                    state.close_batch()?;
                    self.shared.work.notify_one();
                }
            }
            if self.seen.changed().await.is_err() {
                return Err(self.ended().await);
            }
        }
    }

    /// Why the writer is over.
    async fn ended(&mut self) -> ClientError {
        match self.driver.take() {
            Some(driver) => match driver.await {
                Ok(Err(error)) => error,
                _ => self.over(),
            },
            None => self.over(),
        }
    }

    fn over(&self) -> ClientError {
        let reason = "the writer is over, it said why before".into();
        ClientError::Lost { address: self.peer.address, reason }
    }
}

fn check_key(key: &Key) -> Result<(), ClientError> {
    match key.as_bytes().len() {
        ..=Key::LEN_MAX => Ok(()),
        bytes => Err(ClientError::KeyTooLong { bytes }),
    }
}

impl Drop for TickWriter {
    fn drop(&mut self) {
        if let Some(driver) = &self.driver {
            driver.abort();
        }
    }
}

#[cfg(test)]
mod tests;
