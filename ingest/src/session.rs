//! A client's session on one stream: bytes in, requests out.
//!
//! Sans-IO: [`feed`](Session::feed) what the stream brought, then call [`poll`](Session::poll)
//! until it returns `None`. After [`Request::Hello`] of a publisher, call
//! [`welcome`](Session::welcome) before the next poll.

use isotick_model::PublisherId;
use isotick_wire::frame::Decoder;
use isotick_wire::{
    Assembler, Code, Control, DecodeError, Frame, Hello, Kind, Message, REQUEST_BYTES_MAX, Refusal,
};

/// What a client asks.
#[derive(Debug)]
pub enum Request {
    /// The first message: see [`Gate::check`](crate::Gate::check) before anything else.
    Hello(Hello),
    /// Rows of a welcomed publisher.
    Frame(Frame),
    /// The publisher is done; nothing more is read.
    Finish,
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
    pub fn poll(&mut self) -> Result<Option<Request>, Refusal> {
        let Some(message) = self.assembler.next().map_err(refusal)? else { return Ok(None) };
        self.handle(message).map(Some)
    }

    fn handle(&mut self, message: Message) -> Result<Request, Refusal> {
        match (&mut self.state, message.kind) {
            (State::New, Kind::Control) => match Control::decode(&message.payload) {
                Ok(Control::Hello(hello)) => {
                    self.state = State::Greeted;
                    Ok(Request::Hello(hello))
                }
                Ok(_) => Err(order("the first message must be a hello")),
                Err(error) => Err(refusal(error)),
            },
            (State::Publishing { publisher, columns, decoder }, Kind::Ticks) => decoder
                .decode(&message.payload, publisher, *columns)
                .map(Request::Frame)
                .map_err(refusal),
            (State::Publishing { .. }, Kind::Control) => match Control::decode(&message.payload) {
                Ok(Control::Finish(_)) => {
                    self.state = State::Finished;
                    Ok(Request::Finish)
                }
                Ok(_) => Err(order("a publisher sends tick frames and one finish")),
                Err(error) => Err(refusal(error)),
            },
            (State::New, _) => Err(order("the first message must be a hello")),
            _ => Err(order("this session sends nothing more")),
        }
    }
}

fn refusal(error: DecodeError) -> Refusal {
    let code = match error {
        DecodeError::Version { .. } => Code::Version,
        _ => Code::Protocol,
    };
    Refusal::new(code, error.to_string())
}

fn order(rule: &str) -> Refusal {
    Refusal::new(Code::Protocol, format!("a message out of order: {rule}"))
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
        let refusal = session.poll().unwrap_err();
        assert_eq!(refusal.code, Code::Version);
        assert!(refusal.text.contains('9'), "{refusal}");

        let mut session = Session::default();
        session.feed(&(REQUEST_BYTES_MAX as u32 + 1).to_le_bytes());
        session.feed(&[1]);
        assert_eq!(session.poll().unwrap_err().code, Code::Protocol);
    }

    #[test]
    fn messages_have_an_order() {
        let mut session = Session::default();
        assert!(session.poll().unwrap().is_none());
        put(&mut session, hello());
        let asked = session.poll();
        assert!(matches!(
            asked,
            Ok(Some(Request::Hello(Hello { role: Role::Publish { .. }, .. })))
        ));
        session.welcome(PublisherId::new("p").unwrap(), 2);
        put(&mut session, Control::Finish(None));
        put(&mut session, Control::Finish(None));
        assert!(matches!(session.poll(), Ok(Some(Request::Finish))));
        assert_eq!(session.poll().unwrap_err().code, Code::Protocol);

        let mut session = Session::default();
        put(&mut session, Control::Finish(None));
        assert_eq!(session.poll().unwrap_err().code, Code::Protocol);

        let mut session = Session::default();
        put(&mut session, hello());
        put(&mut session, hello());
        session.poll().unwrap();
        assert_eq!(session.poll().unwrap_err().code, Code::Protocol);
    }
}
