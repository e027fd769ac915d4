//! Sending ticks.

use std::ops::Range;
use std::time::Duration;

use arrow_array::RecordBatch;
use bytes::Bytes;
use isotick_model::{PublisherId, Rejected, Ticks};
use isotick_wire::frame::Encoder;
use isotick_wire::{Ack, Control, EncodeError, HelloReply, Kind, Role, arrow, datagram, message};
use quinn::SendDatagramError;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::connect::{Inbox, Link, Options, Peer};
use crate::datagrams::Datagrams;
use crate::error::ClientError;

/// How long the last datagrams are given to arrive before the service is told that they were.
const LAST_DATAGRAMS: Duration = Duration::from_millis(200);

/// How far rows have come at the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// In memory.
    Received,
    /// Handed to the operating system.
    Written,
    /// Synced to the disk.
    Durable,
}

impl Level {
    /// The level's mark: the rows `0..mark` have reached it.
    pub fn mark(self, ack: &Ack) -> u64 {
        match self {
            Self::Received => ack.received_through,
            Self::Written => ack.written_through,
            Self::Durable => ack.durable_through,
        }
    }
}

/// A publisher's session. Dropping it without [`finish`](Self::finish) leaves the stream as a
/// broken connection does: what was acknowledged stays, the rest is sent again by the next one.
#[derive(Debug)]
pub struct Publisher {
    link: Sending,
    encoder: Encoder,
    frame_rows: usize,
    /// Where rows may be sent as datagrams.
    datagrams: Option<Datagrams>,
    acks: watch::Receiver<Ack>,
    /// Reads what the service says; ends with the last ack or with why there is none.
    reader: Option<JoinHandle<Result<Ack, ClientError>>>,
    peer: Peer,
}

#[derive(Debug)]
struct Sending {
    endpoint: quinn::Endpoint,
    connection: quinn::Connection,
    send: quinn::SendStream,
}

impl Publisher {
    /// Connects to `HOST:PORT` and is let in as `publisher` of `stream`. The reply says which rows
    /// are held already and how the stream is defined.
    ///
    /// # Errors
    ///
    /// The service is not reachable, is another one than pinned, or refuses (unknown stream).
    pub async fn connect(
        address: &str,
        stream: &str,
        publisher: &PublisherId,
        options: &Options,
    ) -> Result<(Self, HelloReply), ClientError> {
        Self::let_in(address, stream, publisher, false, options).await
    }

    /// The same, and rows may be sent with [`send_lossy`](Self::send_lossy) too.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub async fn connect_lossy(
        address: &str,
        stream: &str,
        publisher: &PublisherId,
        options: &Options,
    ) -> Result<(Self, HelloReply), ClientError> {
        Self::let_in(address, stream, publisher, true, options).await
    }

    async fn let_in(
        address: &str,
        stream: &str,
        publisher: &PublisherId,
        datagrams: bool,
        options: &Options,
    ) -> Result<(Self, HelloReply), ClientError> {
        let role = Role::Publish { stream: stream.into(), publisher: publisher.clone(), datagrams };
        let mut link = Link::open(address, role, options).await?;
        let Control::HelloReply(reply) = link.recv.answer(options.timeout).await? else {
            return Err(link.recv.unexpected());
        };
        let (sender, acks) = watch::channel(reply.ack);
        let buffer_bytes = link.connection.datagram_send_buffer_space();
        let publisher = Self {
            encoder: Encoder::default(),
            frame_rows: options.frame_rows.clamp(1, 32_768),
            datagrams: datagrams.then(|| Datagrams::new(reply.session, buffer_bytes)),
            acks,
            reader: Some(tokio::spawn(read(link.recv, sender))),
            peer: link.peer,
            link: Sending { endpoint: link.endpoint, connection: link.connection, send: link.send },
        };
        Ok((publisher, reply))
    }

    /// Who answered; its notice is for the user.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Sends rows, in frames of at most [`Options::frame_rows`] ticks. Rejected rows, in the order
    /// of their sequence, go with the ticks that they stand between. Waits while the service does
    /// not read; once it returns, the rows are on their way, not yet acknowledged.
    ///
    /// The columns must be the stream's, in the order of its definition. When the future is
    /// dropped before it ends, a frame may be cut: then this session is of no use any more.
    ///
    /// # Errors
    ///
    /// The session is over: the error says why.
    pub async fn send(&mut self, ticks: &Ticks, rejected: &[Rejected]) -> Result<(), ClientError> {
        let (mut start, mut rejected) = (0, rejected);
        while start < ticks.len() || !rejected.is_empty() {
            let end = ticks.len().min(start + self.frame_rows);
            let between = match ticks.sequence.get(end) {
                Some(&next) => rejected.iter().take_while(|row| row.sequence < next).count(),
                None => rejected.len(),
            };
            let (now, later) = rejected.split_at(between.min(self.frame_rows));
            let mut bytes = Vec::new();
            self.put(ticks, start..end, now, &mut bytes)?;
            self.send_message(bytes.into()).await?;
            (start, rejected) = (end, later);
        }
        Ok(())
    }

    /// Sends the rows of an Arrow record batch, in messages of at most [`Options::frame_rows`]. The
    /// service finds the columns by the names that the stream declares (time, keys, values) and
    /// ignores others. A column `sequence` numbers the rows; without one they are numbered on from
    /// the greatest row that this session sent before, at first from
    /// [`HelloReply::next_sequence`].
    ///
    /// For rows that are columns already: a tick frame takes a sixth of the bytes. Waits, and ends
    /// the session when dropped, as [`send`](Self::send).
    ///
    /// # Errors
    ///
    /// A type that no service reads (integers, floats, decimals, timestamps, text, booleans and
    /// text by dictionary are read), a row longer than a message; nothing of the message at fault
    /// was sent. Or the session is over: the service closes it when a column is missing, or of a
    /// type that the stream does not take.
    pub async fn send_arrow(&mut self, batch: &RecordBatch) -> Result<(), ClientError> {
        let (mut start, mut rows) = (0, self.frame_rows);
        while start < batch.num_rows() {
            let part = batch.slice(start, rows.min(batch.num_rows() - start));
            match arrow::encode_ticks(&part) {
                Err(EncodeError::TooLarge { rows: all }) if all > 1 => rows = all.div_ceil(2),
                Err(error) => return Err(error.into()),
                Ok(payload) => {
                    let mut bytes = Vec::with_capacity(message::HEADER_BYTES + payload.len());
                    message::put(Kind::Arrow, &mut bytes, |out| {
                        out.extend_from_slice(&payload);
                        Ok::<(), EncodeError>(())
                    })?;
                    self.send_message(bytes.into()).await?;
                    start += part.num_rows();
                }
            }
        }
        Ok(())
    }

    /// Sends rows as datagrams, each as many as fit one: what is lost of them on the way is not
    /// sent again, and does not hold up what comes after it. Waits while the path takes no more.
    /// A row that fits no datagram goes over the stream.
    ///
    /// The rows are as for [`send`](Self::send); giving up waiting loses rows, no more.
    ///
    /// # Errors
    ///
    /// The session is over; or datagrams were not asked for when it began, or cannot be sent over
    /// this connection ([`ClientError::NoDatagrams`]).
    pub async fn send_lossy(
        &mut self,
        ticks: &Ticks,
        rejected: &[Rejected],
    ) -> Result<(), ClientError> {
        let address = self.peer.address;
        let (mut start, mut rejected) = (0, rejected);
        while start < ticks.len() || !rejected.is_empty() {
            let connection = self.link.connection.clone();
            let (Some(datagrams), Some(bytes_max)) =
                (&mut self.datagrams, connection.max_datagram_size())
            else {
                return Err(match connection.close_reason() {
                    Some(_) => self.ended().await,
                    None => ClientError::NoDatagrams { address },
                });
            };
            let (end, now) = datagrams.cut(ticks, start, rejected);
            let (send, later) = rejected.split_at(now);
            let mut bytes = Vec::with_capacity(bytes_max);
            datagram::put_session(datagrams.session, &mut bytes);
            self.encoder.encode(ticks, start..end, send, &mut bytes)?;
            let rows = end - start + send.len();
            if !datagrams.fits(rows, bytes.len(), bytes_max) {
                if rows == 1 {
                    let row = ticks.take(&(start as u32..end as u32).collect::<Vec<_>>());
                    self.send(&row, send).await?;
                    (start, rejected) = (end, later);
                }
                continue;
            }
            match connection.send_datagram_wait(bytes.into()).await {
                Ok(()) => (),
                // The path has become narrower just now.
                Err(SendDatagramError::TooLarge) => continue,
                Err(SendDatagramError::ConnectionLost(_)) => return Err(self.ended().await),
                Err(SendDatagramError::UnsupportedByPeer | SendDatagramError::Disabled) => {
                    return Err(ClientError::NoDatagrams { address });
                }
            }
            (start, rejected) = (end, later);
        }
        Ok(())
    }

    /// Sends one whole message.
    pub(crate) async fn send_message(&mut self, message: Bytes) -> Result<(), ClientError> {
        match self.link.send.write_chunk(message).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.ended().await),
        }
    }

    /// Appends one frame, or several where one message cannot hold the rows.
    fn put(
        &mut self,
        ticks: &Ticks,
        rows: Range<usize>,
        rejected: &[Rejected],
        out: &mut Vec<u8>,
    ) -> Result<(), ClientError> {
        let encode = |out: &mut Vec<u8>| self.encoder.encode(ticks, rows.clone(), rejected, out);
        match message::put(Kind::Ticks, out, encode) {
            Err(EncodeError::TooLarge { rows: all }) if all > 1 => {
                let middle = rows.start + rows.len().div_ceil(2);
                let (first, second) = rejected.split_at(rejected.len() / 2);
                self.put(ticks, rows.start..middle, first, out)?;
                self.put(ticks, middle..rows.end, second, out)
            }
            put => Ok(put?),
        }
    }

    /// Where the service says this publisher stands; the newest value, whenever it changes.
    pub fn acks(&self) -> watch::Receiver<Ack> {
        self.acks.clone()
    }

    /// The newest ack.
    pub fn ack(&self) -> Ack {
        *self.acks.borrow()
    }

    /// Waits until the rows `0..through` have reached the level.
    ///
    /// # Errors
    ///
    /// The session is over before that.
    pub async fn wait(&mut self, level: Level, through: u64) -> Result<Ack, ClientError> {
        let reached = self.acks.wait_for(|ack| level.mark(ack) >= through).await.map(|ack| *ack);
        match reached {
            Ok(ack) => Ok(ack),
            Err(_) => Err(self.ended().await),
        }
    }

    /// Says that no more ticks will come, waits until everything sent is stored, and closes.
    ///
    /// # Errors
    ///
    /// The session ended before the service's last ack: send again what is not acknowledged.
    pub async fn finish(self) -> Result<Ack, ClientError> {
        self.end(None).await
    }

    /// The same after datagrams: says how many rows were numbered, from 0 on. Those of them that
    /// did not arrive are then counted as lost, and no longer waited for.
    ///
    /// # Errors
    ///
    /// As [`finish`](Self::finish).
    pub async fn finish_lossy(self, rows: u64) -> Result<Ack, ClientError> {
        // What is said on the stream must not overtake the datagrams before it.
        let empty = self.datagrams.as_ref().map_or(0, |datagrams| datagrams.buffer_bytes);
        while self.link.connection.datagram_send_buffer_space() < empty
            && self.link.connection.close_reason().is_none()
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(self.link.connection.rtt().min(LAST_DATAGRAMS)).await;
        self.end(Some(rows)).await
    }

    async fn end(mut self, rows: Option<u64>) -> Result<Ack, ClientError> {
        let mut bytes = Vec::new();
        Control::Finish(rows).put(&mut bytes)?;
        if self.link.send.write_all(&bytes).await.is_err() {
            return Err(self.ended().await);
        }
        let finished = match self.reader.take() {
            Some(reader) => reader.await.unwrap_or_else(|_| Err(self.over())),
            None => Err(self.over()),
        };
        self.link.connection.close(0u32.into(), b"finished");
        // Gives the farewell a moment to leave this machine.
        let idle = self.link.endpoint.wait_idle();
        let _ = tokio::time::timeout(Duration::from_millis(200), idle).await;
        finished
    }

    /// Why the session is over. What the service said about it is on its way or here.
    pub(crate) async fn ended(&mut self) -> ClientError {
        let Some(reader) = self.reader.take() else { return self.over() };
        match tokio::time::timeout(Duration::from_secs(2), reader).await {
            Ok(Ok(Err(error))) => error,
            _ => self.over(),
        }
    }

    fn over(&self) -> ClientError {
        let reason = String::from("the session is over");
        ClientError::Lost { address: self.peer.address, reason }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        if let Some(reader) = &self.reader {
            reader.abort();
        }
    }
}

async fn read(mut inbox: Inbox, acks: watch::Sender<Ack>) -> Result<Ack, ClientError> {
    loop {
        let message = inbox.message().await?;
        if message.kind != Kind::Control {
            return Err(inbox.unexpected());
        }
        match inbox.control(&message)? {
            Control::Ack(ack) => {
                acks.send_replace(ack);
            }
            Control::FinishReply(ack) => {
                acks.send_replace(ack);
                return Ok(ack);
            }
            _ => return Err(inbox.unexpected()),
        }
    }
}

#[cfg(test)]
mod tests;
