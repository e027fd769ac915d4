//! Receiving windows, and asking once.

use bytes::{Buf, Bytes};
use isotick_model::results::ResultSchema;
use isotick_wire::{
    Code, Control, DecodeError, Kind, Message, Role, Subscribe, WindowBatch, windows,
};

use crate::connect::{Link, Options, Peer};
use crate::error::ClientError;
use crate::reconnect::{Backoff, Reconnect};

/// A subscriber's session on one view.
pub struct Subscriber {
    link: Link,
    schema: ResultSchema,
    cursor: u64,
}

impl Subscriber {
    /// Connects to `HOST:PORT` and subscribes: to every window of a view published from now on
    /// ([`Subscribe::new`]), or from a cursor on, with the policy for when it does not keep up.
    ///
    /// # Errors
    ///
    /// The service is not reachable, is another one than expected, or refuses (unknown view);
    /// [`ClientError::CursorGone`] when the windows from the cursor on are no longer kept.
    pub async fn connect(
        address: &str,
        what: impl Into<Subscribe>,
        options: &Options,
    ) -> Result<Self, ClientError> {
        let what = what.into();
        let mut link = Link::open(address, Role::Subscribe(what.clone()), options).await?;
        match (link.recv.answer(options.timeout).await, what.cursor) {
            (Ok(Control::SubscribeReply(reply)), _) => {
                Ok(Self { link, schema: reply.schema, cursor: reply.cursor })
            }
            (Ok(_), _) => Err(link.recv.unexpected()),
            (Err(ClientError::Refused(refusal)), Some(cursor))
                if refusal.code == Code::CursorGone =>
            {
                Err(ClientError::CursorGone { view: what.view, cursor, refusal })
            }
            (Err(error), _) => Err(error),
        }
    }

    /// The columns of the windows.
    pub fn schema(&self) -> &ResultSchema {
        &self.schema
    }

    /// Who answered; its notice is for the user.
    pub fn peer(&self) -> &Peer {
        &self.link.peer
    }

    /// Where to resume: the first window that was not received yet.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// The next windows. Giving up waiting loses nothing.
    ///
    /// # Errors
    ///
    /// The session is over: the service stops, this subscriber fell behind, the connection broke,
    /// or Arrow was asked for.
    pub async fn next(&mut self) -> Result<WindowBatch, ClientError> {
        let message = self.message(Kind::Windows).await?;
        let batch = windows::decode(&message.payload, self.schema.columns.len())
            .map_err(|source| self.link.recv.protocol(source))?;
        self.cursor = batch.next_cursor;
        Ok(batch)
    }

    /// The next windows as the bytes of an Arrow IPC stream, where that format was asked for.
    /// Giving up waiting loses nothing.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next); or another format was asked for.
    pub async fn next_arrow(&mut self) -> Result<Bytes, ClientError> {
        let mut payload = self.message(Kind::Arrow).await?.payload;
        if payload.len() < 8 {
            let source = DecodeError::Truncated { what: "the cursor of an Arrow message" };
            return Err(self.link.recv.protocol(source));
        }
        self.cursor = payload.get_u64_le();
        Ok(payload)
    }

    async fn message(&mut self, kind: Kind) -> Result<Message, ClientError> {
        let inbox = &mut self.link.recv;
        let message = inbox.message().await?;
        match message.kind {
            found if found == kind => Ok(message),
            Kind::Control => Err(match inbox.control(&message) {
                Err(error) => error,
                Ok(_) => inbox.unexpected(),
            }),
            _ => Err(inbox.unexpected()),
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.link.connection.close(0u32.into(), b"unsubscribed");
    }
}

/// A subscriber that connects again by itself and goes on at its cursor: every window once and in
/// order, or an error that says which ones are gone.
///
/// With the policy [`Policy::Conflate`](isotick_wire::Policy::Conflate) windows are left out by
/// the service, here as without resuming.
pub struct ResumingSubscriber {
    address: String,
    what: Subscribe,
    options: Options,
    schema: ResultSchema,
    session: Option<Subscriber>,
    backoff: Backoff,
}

impl ResumingSubscriber {
    /// Connects and subscribes. Does not try again by itself yet: a wrong address is told at once.
    ///
    /// # Errors
    ///
    /// As [`Subscriber::connect`].
    pub async fn connect(
        address: &str,
        what: impl Into<Subscribe>,
        options: &Options,
        reconnect: Reconnect,
    ) -> Result<Self, ClientError> {
        let what = what.into();
        let session = Subscriber::connect(address, what.clone(), options).await?;
        Ok(Self {
            address: address.into(),
            what: Subscribe { cursor: Some(session.cursor()), ..what },
            options: options.clone(),
            schema: session.schema().clone(),
            session: Some(session),
            backoff: Backoff::new(reconnect),
        })
    }

    /// The columns of the windows.
    pub fn schema(&self) -> &ResultSchema {
        &self.schema
    }

    /// Who answered last, `None` while the connection is lost; its notice is for the user.
    pub fn peer(&self) -> Option<&Peer> {
        self.session.as_ref().map(Subscriber::peer)
    }

    /// Where to resume in another process: the first window that was not received yet.
    pub fn cursor(&self) -> u64 {
        self.what.cursor.unwrap_or_default()
    }

    /// The next windows, after a reconnect if one is needed. Giving up waiting loses nothing.
    ///
    /// # Errors
    ///
    /// Trying again does not help, or was done for long enough; [`ClientError::CursorGone`] when
    /// windows were missed that are no longer kept; [`ClientError::ViewChanged`].
    pub async fn next(&mut self) -> Result<WindowBatch, ClientError> {
        loop {
            let error = match &mut self.session {
                None => match self.reopen().await {
                    Ok(()) => continue,
                    Err(error) => error,
                },
                Some(session) => match session.next().await {
                    Ok(batch) => {
                        self.what.cursor = Some(batch.next_cursor);
                        self.backoff.progress();
                        return Ok(batch);
                    }
                    Err(error) => error,
                },
            };
            self.session = None;
            self.backoff.wait(error).await?;
        }
    }

    async fn reopen(&mut self) -> Result<(), ClientError> {
        let session = Subscriber::connect(&self.address, self.what.clone(), &self.options).await?;
        if session.schema != self.schema {
            return Err(ClientError::ViewChanged { view: self.what.view.clone() });
        }
        self.session = Some(session);
        Ok(())
    }
}

/// The service's counters, one JSON object.
///
/// # Errors
///
/// The service is not reachable, is another one than pinned, or cannot answer.
pub async fn status(address: &str, options: &Options) -> Result<String, ClientError> {
    match ask(address, Role::Status, options).await? {
        (Control::StatusReply(json), _) => Ok(json),
        (_, link) => Err(link.recv.unexpected()),
    }
}

/// The service's counters again and again, on one connection.
pub struct StatusMonitor {
    link: Link,
    role: Role,
    options: Options,
    /// Nothing was answered on the connection's first stream yet.
    is_fresh: bool,
}

impl StatusMonitor {
    /// Connects to `HOST:PORT`.
    ///
    /// # Errors
    ///
    /// The service is not reachable, or is another one than expected.
    pub async fn connect(address: &str, options: &Options) -> Result<Self, ClientError> {
        let link = Link::open(address, Role::Status, options).await?;
        Ok(Self { link, role: Role::Status, options: options.clone(), is_fresh: true })
    }

    /// The counters now, one JSON object. The service closes a connection on which nothing is
    /// asked for 10 s.
    ///
    /// # Errors
    ///
    /// The connection broke, or the service cannot answer or refuses; connect again.
    pub async fn next(&mut self) -> Result<String, ClientError> {
        if !std::mem::take(&mut self.is_fresh) {
            self.link.ask_again(&self.role, &self.options).await?;
        }
        match self.link.recv.answer(self.options.timeout).await? {
            Control::StatusReply(json) => Ok(json),
            _ => Err(self.link.recv.unexpected()),
        }
    }

    /// Who answered; its notice is for the user.
    pub fn peer(&self) -> &Peer {
        &self.link.peer
    }
}

/// The service's definitions, TOML.
///
/// # Errors
///
/// The service is not reachable, is another one than pinned, or cannot answer.
pub async fn definitions(address: &str, options: &Options) -> Result<String, ClientError> {
    match ask(address, Role::Definitions, options).await? {
        (Control::DefinitionsReply(text), _) => Ok(text),
        (_, link) => Err(link.recv.unexpected()),
    }
}

/// Asks once and says goodbye.
pub(crate) async fn ask(
    address: &str,
    role: Role,
    options: &Options,
) -> Result<(Control, Link), ClientError> {
    let mut link = Link::open(address, role, options).await?;
    let answer = link.recv.answer(options.timeout).await;
    link.connection.close(0u32.into(), b"answered");
    // Long enough to be sent; a service that does not hear it lets go of the connection anyway.
    let idle = link.endpoint.wait_idle();
    let _ = tokio::time::timeout(std::time::Duration::from_millis(5), idle).await;
    Ok((answer?, link))
}

#[cfg(test)]
mod tests;
