//! Receiving windows, and asking once.

use isotick_model::results::ResultSchema;
use isotick_wire::{Control, Kind, Role, Subscribe, WindowBatch, windows};

use crate::connect::{Link, Options, Peer};
use crate::error::ClientError;

/// A subscriber's session on one view.
pub struct Subscriber {
    link: Link,
    schema: ResultSchema,
}

impl Subscriber {
    /// Connects to `HOST:PORT` and subscribes to a view: every window published from now on.
    ///
    /// # Errors
    ///
    /// The service is not reachable, is another one than pinned, or refuses (unknown view).
    pub async fn connect(
        address: &str,
        view: &str,
        options: &Options,
    ) -> Result<Self, ClientError> {
        let role = Role::Subscribe(Subscribe::new(view));
        let mut link = Link::open(address, role, options).await?;
        match link.recv.answer(options.timeout).await? {
            Control::SubscribeReply(reply) => Ok(Self { link, schema: reply.schema }),
            _ => Err(link.recv.unexpected()),
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

    /// The next windows. Giving up waiting loses nothing.
    ///
    /// # Errors
    ///
    /// The session is over: the service stops, this subscriber fell behind, the connection broke.
    pub async fn next(&mut self) -> Result<WindowBatch, ClientError> {
        let inbox = &mut self.link.recv;
        let message = inbox.message().await?;
        match message.kind {
            Kind::Windows => windows::decode(&message.payload, self.schema.columns.len())
                .map_err(|source| inbox.protocol(source)),
            Kind::Control => Err(match inbox.control(&message) {
                Err(error) => error,
                Ok(_) => inbox.unexpected(),
            }),
            Kind::Ticks | Kind::Arrow => Err(inbox.unexpected()),
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.link.connection.close(0u32.into(), b"unsubscribed");
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

async fn ask(address: &str, role: Role, options: &Options) -> Result<(Control, Link), ClientError> {
    let mut link = Link::open(address, role, options).await?;
    let answer = link.recv.answer(options.timeout).await?;
    link.connection.close(0u32.into(), b"answered");
    let idle = link.endpoint.wait_idle();
    let _ = tokio::time::timeout(std::time::Duration::from_millis(200), idle).await;
    Ok((answer, link))
}
