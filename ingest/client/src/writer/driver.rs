//! The task behind a writer: one connection after another.

use std::sync::Arc;

use bytes::Bytes;
use isotick_wire::{Ack, HelloReply};
use tokio::time::Instant;

use super::{Seen, Shared, State};
use crate::connect::Options;
use crate::error::ClientError;
use crate::held::Held;
use crate::publisher::Publisher;
use crate::reconnect::{Backoff, Reconnect};

/// Whom the writer writes to.
pub(super) struct Target {
    pub address: String,
    pub stream: String,
    pub options: Options,
    pub reconnect: Reconnect,
}

/// What is to be done next.
enum Step {
    Send(Bytes),
    /// Nothing, until there is work or this moment has come.
    Wait(Option<Instant>),
    Finish,
}

/// Ends with the last ack, or with the error that trying again does not help against.
pub(super) async fn drive(
    shared: Arc<Shared>,
    target: Target,
    mut publisher: Publisher,
) -> Result<Ack, ClientError> {
    let mut backoff = Backoff::new(target.reconnect.clone());
    let ended = loop {
        let error = match session(&shared, publisher, &mut backoff).await {
            Ok(ack) => break Ok(ack),
            Err(error) => error,
        };
        match again(&shared, &target, &mut backoff, error).await {
            Ok(next) => publisher = next,
            Err(error) => break Err(error),
        }
    };
    shared.seen.send_modify(|seen| {
        seen.over = true;
        if let Ok(ack) = &ended {
            seen.ack = *ack;
        }
    });
    ended
}

/// Connects until it is let in and knows what to send again.
async fn again(
    shared: &Shared,
    target: &Target,
    backoff: &mut Backoff,
    mut error: ClientError,
) -> Result<Publisher, ClientError> {
    loop {
        backoff.wait(error).await?;
        let Target { address, stream, options, .. } = target;
        match Publisher::connect(address, stream, &shared.publisher, options).await {
            Ok((publisher, reply)) => {
                resume(&mut shared.lock(), shared, &reply)?;
                acknowledge(shared, reply.ack, backoff);
                return Ok(publisher);
            }
            Err(again) => error = again,
        }
    }
}

/// Goes back to the first row that the service does not hold.
fn resume(state: &mut State, shared: &Shared, reply: &HelloReply) -> Result<(), ClientError> {
    let held = Held { next: reply.next_sequence, ranges: reply.held.clone() };
    let kept_from = state.frames.front().map_or(state.batch_first, |frame| frame.first);
    if held.next < kept_from {
        let publisher = shared.publisher.clone();
        return Err(ClientError::Forgotten { publisher, durable: kept_from, held: held.next });
    }
    if held.end() > state.sent_through {
        let (publisher, sent) = (shared.publisher.clone(), state.sent_through);
        return Err(ClientError::Overtaken { publisher, sent, held: held.end() });
    }
    state.held = held;
    state.next_frame = 0;
    Ok(())
}

/// Lets go of what is durable; when that is something, the next error begins anew.
fn acknowledge(shared: &Shared, ack: Ack, backoff: &mut Backoff) {
    {
        let mut state = shared.lock();
        if state.frames.front().is_some_and(|frame| frame.first < ack.durable_through) {
            backoff.progress();
        }
        while state.frames.front().is_some_and(|frame| frame.end() <= ack.durable_through) {
            let frame = state.frames.pop_front().expect("there is a first one");
            state.frames_bytes -= frame.message.len();
            state.next_frame = state.next_frame.saturating_sub(1);
        }
    }
    shared.seen.send_replace(Seen { ack, over: false });
}

/// Sends over one connection until it is lost or everything is stored.
async fn session(
    shared: &Shared,
    mut publisher: Publisher,
    backoff: &mut Backoff,
) -> Result<Ack, ClientError> {
    let mut acks = publisher.acks();
    let mut on_ack = |ack: Ack| acknowledge(shared, ack, backoff);
    on_ack(*acks.borrow_and_update());
    loop {
        let alive = match step(shared)? {
            Step::Finish => return publisher.finish().await,
            // Nothing but the frame's end may end this: a cut frame is the end of the session.
            Step::Send(message) => {
                let sending = publisher.send_message(message);
                tokio::pin!(sending);
                loop {
                    tokio::select! {
                        sent = &mut sending => {
                            sent?;
                            break true;
                        }
                        changed = acks.changed() => match changed {
                            Ok(()) => on_ack(*acks.borrow_and_update()),
                            Err(_) => break false,
                        },
                    }
                }
            }
            Step::Wait(until) => {
                let due = async {
                    match until {
                        Some(until) => tokio::time::sleep_until(until).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    changed = acks.changed() => match changed {
                        Ok(()) => {
                            on_ack(*acks.borrow_and_update());
                            true
                        }
                        Err(_) => false,
                    },
                    () = shared.work.notified() => true,
                    () = due => true,
                }
            }
        };
        if !alive {
            return Err(publisher.ended().await);
        }
    }
}

fn step(shared: &Shared) -> Result<Step, ClientError> {
    let mut state = shared.lock();
    let due = state.batch_since.map(|since| since + shared.batch_age);
    if due.is_some_and(|due| due <= Instant::now()) {
        state.close_batch()?;
    }
    while let Some(frame) = state.frames.get(state.next_frame) {
        let held = match frame.first < state.held.end() {
            true => (frame.first..frame.end()).filter(|&row| state.held.contains(row)).count(),
            false => 0,
        };
        let message = match held as u64 {
            0 => Some(frame.message.clone()),
            all if all == frame.rows => None,
            _ => {
                let held = |row| state.held.contains(row);
                let less = frame.without(held, shared.columns, &shared.publisher);
                Some(less.expect("a frame of our own can be read"))
            }
        };
        state.sent_through = state.sent_through.max(frame.end());
        state.next_frame += 1;
        if let Some(message) = message {
            return Ok(Step::Send(message));
        }
    }
    match state.finishing {
        true => Ok(Step::Finish),
        false => Ok(Step::Wait(state.batch_since.map(|since| since + shared.batch_age))),
    }
}
