//! A client's session on one stream: bytes in, requests out.
//!
//! Sans-IO: [`feed`](Session::feed) what the stream brought, then call [`poll`](Session::poll)
//! until it returns `None`. After [`Request::Hello`] of a publisher, call
//! [`welcome`](Session::welcome) before the next poll.

use bytes::Bytes;
use isotick_model::PublisherId;
use isotick_wire::frame::Decoder;
use isotick_wire::{
    Assembler, Code, Control, DecodeError, Frame, Hello, Kind, Message, REQUEST_BYTES_MAX, Refusal,
};

/// What a client asks.
#[derive(Debug)]
pub enum Request {
    /// The first message.
    Hello(Hello),
    /// Rows of a welcomed publisher.
    Frame(Frame),
    /// Rows of a welcomed publisher as an Arrow IPC stream, not decoded yet.
    Arrow(Bytes),
    /// The publisher is done; nothing more is read. With the rows it numbered, if it says so.
    Finish(Option<u64>),
}

/// Bytes or an order of messages that the protocol does not allow.
#[derive(Debug)]
pub struct Broken {
    /// The reason for the client.
    pub refusal: Refusal,
    /// The payload, when it was to be rows.
    pub payload: Option<Bytes>,
}

/// The reading side of one session.
#[derive(Debug)]
pub struct Session {
    assembler: Assembler,
    state: State,
}

impl Default for Session {
    fn default() -> Self {
        Self { assembler: Assembler::with_limit(REQUEST_BYTES_MAX), state: State::New }
    }
}

#[derive(Debug)]
enum State {
    New,
    /// Said hello; nothing more may come, unless welcomed as a publisher.
    Greeted,
    Publishing {
        publisher: PublisherId,
        columns: usize,
        decoder: Decoder,
    },
    Finished,
}

impl Session {
    /// Takes what the stream brought next. Memory stays bounded when [`poll`](Self::poll) is
    /// called until it returns `None` before the next call.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.assembler.feed(bytes);
    }

    /// Whether a message has begun that is not whole yet, or has not been polled.
    pub fn is_inside_message(&self) -> bool {
        self.assembler.is_inside_message()
    }

    /// Bytes held of messages that have not been polled.
    pub fn held_bytes(&self) -> usize {
        self.assembler.held_bytes()
    }

    /// The publisher is let in; frames must have this many value columns.
    pub fn welcome(&mut self, publisher: PublisherId, columns: usize) {
        self.state = State::Publishing { publisher, columns, decoder: Decoder::default() };
    }

    /// The next request, `None` until more bytes come.
    ///
    /// # Errors
    ///
    /// Bytes or an order of messages that the protocol does not allow: end the session with this
    /// reason.
    pub fn poll(&mut self) -> Result<Option<Request>, Broken> {
        let message = self.assembler.next().map_err(|error| Broken::from(refusal(error)))?;
        let Some(message) = message else { return Ok(None) };
        self.handle(message).map(Some)
    }

    /// A tick frame that came as a datagram. `None` when this session is no publisher's.
    ///
    /// # Errors
    ///
    /// Bytes that are no tick frame of its stream. The session goes on: datagrams may be lost.
    pub fn datagram(&mut self, payload: &[u8]) -> Result<Option<Frame>, DecodeError> {
        match &mut self.state {
            State::Publishing { publisher, columns, decoder } => {
                decoder.decode(payload, publisher, *columns).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn handle(&mut self, message: Message) -> Result<Request, Broken> {
        match (&mut self.state, message.kind) {
            (State::New, Kind::Control) => match Control::decode(&message.payload) {
                Ok(Control::Hello(hello)) => {
                    self.state = State::Greeted;
                    Ok(Request::Hello(hello))
                }
                Ok(_) => Err(order("the first message must be a hello")),
                Err(error) => Err(refusal(error).into()),
            },
            (State::Publishing { publisher, columns, decoder }, Kind::Ticks) => {
                match decoder.decode(&message.payload, publisher, *columns) {
                    Ok(frame) => Ok(Request::Frame(frame)),
                    Err(error) => {
                        Err(Broken { refusal: refusal(error), payload: Some(message.payload) })
                    }
                }
            }
            (State::Publishing { .. }, Kind::Arrow) => Ok(Request::Arrow(message.payload)),
            (State::Publishing { .. }, Kind::Control) => match Control::decode(&message.payload) {
                Ok(Control::Finish(rows)) => {
                    self.state = State::Finished;
                    Ok(Request::Finish(rows))
                }
                Ok(_) => Err(order("a publisher sends tick frames and one finish")),
                Err(error) => Err(refusal(error).into()),
            },
            (State::New, _) => Err(order("the first message must be a hello")),
            _ => Err(order("this session sends nothing more")),
        }
    }
}

impl From<Refusal> for Broken {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, payload: None }
    }
}

pub(crate) fn refusal(error: DecodeError) -> Refusal {
    let code = match error {
        DecodeError::Version { .. } => Code::Version,
        _ => Code::Protocol,
    };
    Refusal::new(code, error.to_string())
}

fn order(rule: &str) -> Broken {
    Refusal::new(Code::Protocol, format!("a message out of order: {rule}")).into()
}

#[cfg(test)]
mod tests {
    use isotick_wire::Role;

    use super::*;

    fn put(session: &mut Session, control: Control) {
        let mut bytes = Vec::new();
        control.put(&mut bytes).unwrap();
        session.feed(&bytes);
    }

    fn hello() -> Control {
        let publisher = PublisherId::new("p").unwrap();
        let role = Role::Publish { stream: "trades".into(), publisher, datagrams: false };
        Control::Hello(Hello::new(role))
    }

    #[test]
    fn another_version_and_too_long_messages_are_refused() {
        let mut session = Session::default();
        // Control { hello: Hello { version: 9 } }
        session.feed(&[4, 0, 0, 0, 1, 0x0A, 2, 0x08, 9]);
        let refusal = session.poll().unwrap_err().refusal;
        assert_eq!(refusal.code, Code::Version);
        assert!(refusal.text.contains('9'), "{refusal}");

        let mut session = Session::default();
        session.feed(&(REQUEST_BYTES_MAX as u32 + 1).to_le_bytes());
        session.feed(&[1]);
        assert_eq!(session.poll().unwrap_err().refusal.code, Code::Protocol);
    }

    #[test]
    fn messages_have_an_order() {
        let mut session = Session::default();
        assert!(session.poll().unwrap().is_none());
        put(&mut session, hello());
        assert!(matches!(
            session.poll(),
            Ok(Some(Request::Hello(Hello { role: Role::Publish { .. }, .. })))
        ));
        session.welcome(PublisherId::new("p").unwrap(), 2);
        put(&mut session, Control::Finish(None));
        put(&mut session, Control::Finish(None));
        assert!(matches!(session.poll(), Ok(Some(Request::Finish(None)))));
        assert_eq!(session.poll().unwrap_err().refusal.code, Code::Protocol);

        let mut session = Session::default();
        put(&mut session, Control::Finish(None));
        assert_eq!(session.poll().unwrap_err().refusal.code, Code::Protocol);

        let mut session = Session::default();
        put(&mut session, hello());
        put(&mut session, hello());
        session.poll().unwrap();
        assert_eq!(session.poll().unwrap_err().refusal.code, Code::Protocol);
    }
}
