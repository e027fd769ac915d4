//! Publishing files: from where the service stands, in file or time order, at a pace, with
//! reconnects.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use isotick_client::{Ack, ClientError, Code, Held, HelloReply, Level, Options, Publisher};
use isotick_model::definitions::Definitions;
use isotick_model::{PublisherId, Rejected, StreamSchema, Ticks};
use isotick_storage::source::Source;
use tokio::sync::mpsc;

use crate::cli::{AckLevel, FieldArgs, Order};
use crate::files::{self, Rejections};
use crate::pace::Pacer;

/// Batches that are read ahead of the connection.
const READ_AHEAD_BATCHES: usize = 4;
/// Rows of a slice that is sent in time order.
const SLICE_ROWS: usize = 8192;
/// How long to try again after a lost connection before giving up.
const RECONNECT_FOR: Duration = Duration::from_secs(60);

/// What to publish, and how.
pub struct Publishing {
    pub files: Vec<PathBuf>,
    pub stream: String,
    /// `HOST:PORT`.
    pub address: String,
    pub options: Options,
    pub publisher: Option<PublisherId>,
    pub order: Order,
    pub pacer: Pacer,
    pub ack: AckLevel,
    pub reconnect: bool,
    /// As datagrams: what is lost on the way stays lost.
    pub lossy: bool,
    pub fields: FieldArgs,
    /// Rows to publish of each file, at most: its first ones.
    pub rows_max: u64,
}

/// Where publishing stands, per file.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// Rows from the start that were sent, in this run or an earlier one.
    pub sent: u64,
    /// Rows that this connection has sent or found held.
    position: u64,
    /// Rows that the service held when it was first asked.
    pub resumed_at: u64,
    /// Rows whose rejections have been counted.
    counted: u64,
    asked: bool,
    /// What the service said last.
    pub ack: Ack,
}

/// Told of what goes on.
pub trait Watch: Send {
    /// Rows were handed to the connection; `ts_max` is the greatest time among them.
    fn sent(&mut self, rows: usize, ts_max: Option<i64>);
    /// Something to tell the user, e.g. an unpinned certificate or a reconnect.
    fn notice(&mut self, text: &str);
}

/// A file's connection.
struct Lane {
    publisher: Publisher,
    held: Held,
    /// One past the last row that this run knows of.
    rows: u64,
}

impl Standing {
    /// A publisher that sent everything over one connection.
    pub fn of(sent: u64, ack: Ack) -> Self {
        Self { sent, position: sent, ack, ..Self::default() }
    }
}

impl Publishing {
    /// Publishes everything and waits for the acknowledgement. `standings`, one per file, tells
    /// how far it came, also when it fails.
    pub async fn run(
        mut self,
        standings: &mut Vec<Standing>,
        rejections: &Rejections,
        watch: &mut dyn Watch,
    ) -> Result<()> {
        standings.resize(self.files.len(), Standing::default());
        let mut done = 0;
        let mut connected = false;
        let mut last_progress = (tokio::time::Instant::now(), 0);
        let mut backoff = Duration::from_millis(100);
        loop {
            let error =
                match self.attempt(&mut done, &mut connected, standings, rejections, watch).await {
                    Ok(()) => return Ok(()),
                    Err(error) => error,
                };
            let retryable = match error.downcast_ref::<ClientError>() {
                // Nobody has ever answered there: more likely a wrong address than a restart.
                Some(ClientError::Unreachable { .. }) => connected,
                // It told what is broken there: who has just come is told at once.
                Some(ClientError::Refused(refusal)) if refusal.code == Code::Unavailable => {
                    connected
                }
                Some(error) => error.is_retryable(),
                None => false,
            };
            let durable = standings.iter().map(|standing| standing.ack.durable_through).sum();
            if durable > last_progress.1 {
                last_progress = (tokio::time::Instant::now(), durable);
                backoff = Duration::from_millis(100);
            }
            if !self.reconnect || !retryable || last_progress.0.elapsed() > RECONNECT_FOR {
                return Err(error);
            }
            watch.notice(&format!("{error:#}; trying again in {} ms", backoff.as_millis()));
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(Duration::from_secs(5));
        }
    }

    /// One run over one set of connections. `done` counts the files that need no more.
    async fn attempt(
        &mut self,
        done: &mut usize,
        connected: &mut bool,
        standings: &mut [Standing],
        rejections: &Rejections,
        watch: &mut dyn Watch,
    ) -> Result<()> {
        match self.order {
            Order::File => {
                while *done < self.files.len() {
                    let (mut lane, source) = self.open(*done, &mut standings[*done], watch).await?;
                    *connected = true;
                    let path = self.files[*done].clone();
                    let standing = &mut standings[*done];
                    let sent =
                        self.send_file(&mut lane, &path, source, standing, rejections, watch).await;
                    self.settle(lane, standing, sent).await?;
                    *done += 1;
                }
                Ok(())
            }
            Order::Time => {
                let mut lanes = Vec::new();
                let mut sources = Vec::new();
                for (index, standing) in standings.iter_mut().enumerate() {
                    let (lane, source) = self.open(index, standing, watch).await?;
                    *connected = true;
                    lanes.push(lane);
                    sources.push(source);
                }
                let files = self.files.clone();
                // A reconnect reads everything again: rejections are counted once.
                let again = Rejections::default();
                let first = standings.iter().all(|standing| standing.counted == 0);
                let rejections = if first { rejections } else { &again };
                let loaded = tokio::task::block_in_place(|| {
                    Sorted::load(&files, sources, self.rows_max, rejections)
                })?;
                let sent = self.send_sorted(&mut lanes, &loaded, standings, watch).await;
                let mut outcome = sent;
                for (lane, standing) in lanes.into_iter().zip(standings) {
                    outcome = self.settle(lane, standing, outcome).await;
                }
                outcome
            }
        }
    }

    async fn open(
        &self,
        index: usize,
        standing: &mut Standing,
        watch: &mut dyn Watch,
    ) -> Result<(Lane, Source)> {
        let path = &self.files[index];
        let id = match &self.publisher {
            Some(publisher) => publisher.clone(),
            None => tokio::task::block_in_place(|| Source::publisher_default(path))?,
        };
        let (address, stream) = (&self.address, &self.stream);
        let (publisher, reply) = match self.lossy {
            true => Publisher::connect_lossy(address, stream, &id, &self.options).await?,
            false => Publisher::connect(address, stream, &id, &self.options).await?,
        };
        if let Some(notice) = publisher.peer().notice() {
            watch.notice(&notice);
        }
        let HelloReply { next_sequence, held, definitions, ack, .. } = reply;
        let (definitions, schema) = stream_of(&definitions, &self.stream)?;
        let source = files::open(path, &self.fields, &definitions, &schema, Some(&id), None)?;
        let held = Held { next: next_sequence, ranges: held };
        if !std::mem::replace(&mut standing.asked, true) {
            standing.resumed_at = held.rows();
        }
        standing.sent = standing.sent.max(held.rows());
        standing.position = held.rows();
        standing.ack = ack;
        Ok((Lane { publisher, held, rows: 0 }, source))
    }

    async fn send_file(
        &mut self,
        lane: &mut Lane,
        path: &Path,
        mut source: Source,
        standing: &mut Standing,
        rejections: &Rejections,
        watch: &mut dyn Watch,
    ) -> Result<()> {
        let (batches, mut read) = mpsc::channel(READ_AHEAD_BATCHES);
        let next = lane.held.next;
        let reader = tokio::task::spawn_blocking(move || -> Result<()> {
            source.skip_to(next)?;
            while let Some(batch) = source.next_batch()? {
                if batches.blocking_send(batch).is_err() {
                    break;
                }
            }
            Ok(())
        });
        while let Some(batch) = read.recv().await {
            if batch.first_row >= self.rows_max {
                break;
            }
            lane.rows = (batch.first_row + batch.rows as u64).min(self.rows_max);
            self.send(lane, &batch.ticks, &batch.rejected, standing, watch).await?;
            // A reconnect reads rows again: each is counted once.
            rejections.count_rows(path, &batch, standing.counted..self.rows_max);
            standing.counted = standing.counted.max(batch.first_row + batch.rows as u64);
        }
        drop(read);
        reader.await.context("the reading thread panicked")?
    }

    async fn send_sorted(
        &mut self,
        lanes: &mut [Lane],
        sorted: &Sorted,
        standings: &mut [Standing],
        watch: &mut dyn Watch,
    ) -> Result<()> {
        for (index, lane) in lanes.iter_mut().enumerate() {
            lane.rows = sorted.rows[index].min(self.rows_max);
            standings[index].counted = lane.rows;
            let empty = sorted.batches[index].first().map(|ticks| ticks.take(&[]));
            for rejected in sorted.rejected[index].chunks(SLICE_ROWS) {
                if let Some(empty) = &empty {
                    self.send(lane, empty, rejected, &mut standings[index], watch).await?;
                }
            }
        }
        for slice in sorted.order.chunks(SLICE_ROWS) {
            for (index, lane) in lanes.iter_mut().enumerate() {
                for ticks in sorted.take(slice, index) {
                    self.send(lane, &ticks, &[], &mut standings[index], watch).await?;
                }
            }
        }
        Ok(())
    }

    /// Sends what the service does not hold, at the pace.
    async fn send(
        &mut self,
        lane: &mut Lane,
        ticks: &Ticks,
        rejected: &[Rejected],
        standing: &mut Standing,
        watch: &mut dyn Watch,
    ) -> Result<()> {
        let new = |sequence: u64| sequence < self.rows_max && !lane.held.contains(sequence);
        let rows: Vec<u32> =
            (0..ticks.len() as u32).filter(|&row| new(ticks.sequence[row as usize])).collect();
        let mut rejected: Vec<_> =
            rejected.iter().copied().filter(|row| new(row.sequence)).collect();
        let ticks = if rows.len() == ticks.len() { ticks.clone() } else { ticks.take(&rows) };
        let mut from = 0;
        while from < ticks.len() || !rejected.is_empty() {
            let due = self.pacer.due(&ticks.ts_event[from..]).await;
            let part = match (from, due) {
                (0, due) if due == ticks.len() => ticks.clone(),
                _ => ticks.take(&(from as u32..(from + due) as u32).collect::<Vec<_>>()),
            };
            match self.lossy {
                true => lane.publisher.send_lossy(&part, &rejected).await?,
                false => lane.publisher.send(&part, &rejected).await?,
            }
            let rows = part.len() + rejected.len();
            rejected.clear();
            standing.position += rows as u64;
            standing.sent = standing.sent.max(standing.position);
            standing.ack = *lane.publisher.acks().borrow();
            watch.sent(rows, part.ts_event.iter().copied().max());
            from += due;
        }
        Ok(())
    }

    /// Ends a lane: waits for the acknowledgement, or after a failure takes the last one.
    async fn settle(&self, lane: Lane, standing: &mut Standing, sent: Result<()>) -> Result<()> {
        standing.ack = *lane.publisher.acks().borrow();
        sent?;
        let Lane { mut publisher, rows, .. } = lane;
        let acks = publisher.acks();
        let finished = match self.ack {
            // Rows that are lost reach no level: only the end says what became of them.
            _ if self.lossy => publisher.finish_lossy(rows).await,
            AckLevel::Received => publisher.wait(Level::Received, rows).await,
            AckLevel::Written => publisher.wait(Level::Written, rows).await,
            AckLevel::Durable => publisher.finish().await,
        };
        standing.ack = match &finished {
            Ok(ack) => *ack,
            Err(_) => *acks.borrow(),
        };
        finished?;
        Ok(())
    }
}

fn stream_of(definitions: &str, stream: &str) -> Result<(Definitions, StreamSchema)> {
    let definitions = crate::definitions::parse_remembered(definitions)?;
    let schema = definitions.stream(stream)?.clone();
    Ok((definitions, schema))
}

/// Files in memory, with one order by time over all of them.
#[derive(Default)]
struct Sorted {
    /// Per file.
    batches: Vec<Vec<Ticks>>,
    /// Per file.
    rejected: Vec<Vec<Rejected>>,
    /// Rows, rejected ones included, per file.
    rows: Vec<u64>,
    /// File, batch, row; by time, ties by file and row.
    order: Vec<(u32, u32, u32)>,
}

impl Sorted {
    fn load(
        paths: &[PathBuf],
        sources: Vec<Source>,
        rows_max: u64,
        rejections: &Rejections,
    ) -> Result<Self> {
        let mut sorted = Self::default();
        for (file, (path, mut source)) in paths.iter().zip(sources).enumerate() {
            let (mut batches, mut rejected, mut rows) = (Vec::new(), Vec::new(), 0);
            while let Some(batch) = source.next_batch()? {
                rejections.count_rows(path as &Path, &batch, 0..rows_max);
                let at = |row: usize| (file as u32, batches.len() as u32, row as u32);
                let wanted = batch.ticks.sequence.iter().map(|&sequence| sequence < rows_max);
                sorted.order.extend(wanted.enumerate().filter(|(_, w)| *w).map(|(row, _)| at(row)));
                rows = batch.first_row + batch.rows as u64;
                rejected.extend_from_slice(&batch.rejected);
                batches.push(batch.ticks);
            }
            sorted.rows.push(rows);
            sorted.batches.push(batches);
            sorted.rejected.push(rejected);
        }
        let time = |&(file, batch, row): &(u32, u32, u32)| {
            sorted.batches[file as usize][batch as usize].ts_event[row as usize]
        };
        // Stable: ties keep the order of files and rows.
        let mut order = std::mem::take(&mut sorted.order);
        order.sort_by_key(time);
        sorted.order = order;
        Ok(sorted)
    }

    /// The rows of a slice of the order that belong to one file, in that order.
    fn take<'a>(
        &'a self,
        slice: &'a [(u32, u32, u32)],
        file: usize,
    ) -> impl Iterator<Item = Ticks> + 'a {
        let rows = slice.iter().filter(move |at| at.0 as usize == file);
        let mut rows = rows.peekable();
        std::iter::from_fn(move || {
            let batch = rows.peek()?.1;
            let mut taken = Vec::new();
            while let Some(at) = rows.next_if(|at| at.1 == batch) {
                taken.push(at.2);
            }
            Some(self.batches[file][batch as usize].take(&taken))
        })
    }
}
