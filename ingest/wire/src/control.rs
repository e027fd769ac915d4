//! Control messages: who speaks, what is asked, where a publisher stands.

use std::fmt;
use std::ops::RangeInclusive;

use isotick_model::results::ResultSchema;
use isotick_model::view::OutputType;
use isotick_model::{PublisherId, RejectReason, Scale};
use prost::Message as _;

use crate::jobs::{JobRequest, ResultView};
use crate::proto::{self, control::Message as Proto, hello::Role as ProtoRole};
use crate::{DecodeError, EncodeError, MESSAGE_BYTES_MAX, VERSION, message};

/// The most held ranges that one HelloReply carries; the rest is left out, which is harmless.
pub const HELD_RANGES_MAX: usize = 16_384;

/// One control message.
#[derive(Clone, Debug, PartialEq)]
pub enum Control {
    /// Client to service, first on every stream.
    Hello(Hello),
    /// Answers a publisher's Hello.
    HelloReply(HelloReply),
    /// The stream ends here; what was asked is refused.
    Refusal(Refusal),
    /// Where the publisher stands, whenever it moved.
    Ack(Ack),
    /// The publisher is done. With the number of rows it numbered, rows below it that are not held
    /// are taken as lost.
    Finish(Option<u64>),
    /// Everything the publisher sent is stored; its last Ack.
    FinishReply(Ack),
    /// Answers a subscriber's Hello.
    SubscribeReply(SubscribeReply),
    /// Answers a Hello with [`Role::Status`]: one JSON object.
    StatusReply(String),
    /// Answers a Hello with [`Role::Definitions`]: TOML.
    DefinitionsReply(String),
    /// An established session ends, and why.
    Goodbye(Refusal),
    /// Answers a Hello with [`Role::Jobs`]: one JSON object, a job or a list of jobs.
    JobsReply(String),
    /// The windows that follow are of this view.
    ResultView(ResultView),
}

/// Who speaks and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// What the client wants.
    pub role: Role,
    /// The bearer token; empty for none.
    pub token: Token,
}

impl Hello {
    /// A hello without a token.
    pub fn new(role: Role) -> Self {
        Self { role, token: Token::default() }
    }
}

/// A bearer token. Its text is never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The token with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, to compare its hash.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "no token" } else { "a token" })
    }
}

/// What a client wants on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// To send ticks.
    Publish {
        /// The stream's name.
        stream: String,
        /// Who publishes.
        publisher: PublisherId,
        /// Whether rows come as datagrams too.
        datagrams: bool,
    },
    /// To get a view's windows as they are published.
    Subscribe(Subscribe),
    /// To get the service's counters once.
    Status,
    /// To get the service's definitions once.
    Definitions,
    /// To submit a scan, or to do something with one that was submitted.
    Jobs(JobRequest),
}

/// What a subscriber asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscribe {
    /// The view's name.
    pub view: String,
    /// What happens when the subscriber does not keep up.
    pub policy: Policy,
    /// The first window wanted, `None` for the next one published.
    pub cursor: Option<u64>,
    /// How windows are sent.
    pub format: Format,
}

/// What happens when a subscriber does not keep up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Policy {
    /// Its session ends with [`Code::Lagged`]; it may resume at its cursor.
    #[default]
    Disconnect,
    /// Only the newest window of each key is kept for it.
    Conflate,
    /// The service waits for it, and with the service its publishers, for a bounded time.
    Block,
}

/// How windows are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// As window batches ([`crate::windows`]).
    #[default]
    Windows,
    /// As Arrow IPC streams.
    Arrow,
}

/// What a subscriber learns when it is let in.
#[derive(Clone, Debug, PartialEq)]
pub struct SubscribeReply {
    /// The columns of the windows that follow.
    pub schema: ResultSchema,
    /// The cursor of the first window that follows.
    pub cursor: u64,
}

/// What a publisher learns when it is let in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HelloReply {
    /// Every row below this sequence is held already: send from here.
    pub next_sequence: u64,
    /// Rows beyond that are held too, ascending; sending them again is harmless.
    pub held: Vec<RangeInclusive<u64>>,
    /// The service's definitions (TOML), to convert rows with.
    pub definitions: String,
    /// Where this publisher stands.
    pub ack: Ack,
    /// The number with which this session's datagrams begin.
    pub session: u64,
}

/// Where a publisher stands on a stream. A mark `n` means that the rows `0..n`, ticks and rejected
/// ones, have all reached the level. Counts are since the service's data began; a service that was
/// killed may have forgotten some of the repeats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ack {
    /// In memory.
    pub received_through: u64,
    /// Handed to the operating system.
    pub written_through: u64,
    /// Synced to the disk.
    pub durable_through: u64,
    /// Ticks accepted.
    pub accepted: u64,
    /// Accepted ticks that came behind the watermark.
    pub late: u64,
    /// Repeats with the same content (or whose content is no longer remembered).
    pub duplicate: u64,
    /// Repeats with other content.
    pub conflicting: u64,
    /// Rows that did not become ticks.
    pub rejected: Rejections,
    /// Rows of gaps that were closed: they are taken as lost.
    pub lost: u64,
    /// Rows that are missing below the greatest sequence held.
    pub missing: u64,
}

/// Rejected rows by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rejections([u64; RejectReason::ALL.len()]);

impl Rejections {
    /// Counts rows.
    pub fn add(&mut self, reason: RejectReason, rows: u64) {
        let slot = &mut self.0[reason as usize - 1];
        *slot = slot.saturating_add(rows);
    }

    /// The rows with this reason.
    pub fn get(&self, reason: RejectReason) -> u64 {
        self.0[reason as usize - 1]
    }

    /// All rejected rows.
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |total, &rows| total.saturating_add(rows))
    }

    /// The reasons that have rows.
    pub fn iter(&self) -> impl Iterator<Item = (RejectReason, u64)> {
        let rows = RejectReason::ALL.into_iter().map(|reason| (reason, self.get(reason)));
        rows.filter(|(_, rows)| *rows > 0)
    }
}

/// Why something is refused or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For programs.
    pub code: Code,
    /// For people: what is wrong and what to do.
    pub text: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The kinds of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// A code that this side does not know.
    Unknown,
    /// The other side speaks another version.
    Version,
    /// Bytes or an order of messages that the protocol does not allow.
    Protocol,
    /// There is no such stream.
    UnknownStream,
    /// There is no such view.
    UnknownView,
    /// A limit is reached; try again later.
    Busy,
    /// The service stops; try again later.
    ShuttingDown,
    /// A subscriber fell behind its bounded queue.
    Lagged,
    /// A publisher left more gaps in its sequence than the service remembers.
    TooManyGaps,
    /// The service cannot go on, e.g. its disk is full.
    Unavailable,
    /// No token, or one that the service does not know.
    Unauthenticated,
    /// The token or certificate has no right to this.
    Forbidden,
    /// Windows from the cursor on are no longer kept.
    CursorGone,
    /// A message, or the handshake, was begun and not ended in time, or a result not read.
    TooSlow,
    /// There is no such job, or it is somebody else's.
    UnknownJob,
    /// The job failed or was cancelled: it has no result.
    JobFailed,
    /// The job's result is no longer kept.
    ResultGone,
    /// What is asked for cannot be; the text says what to change.
    InvalidRequest,
}

/// The codes and their numbers on the wire, which are also QUIC application error codes.
const CODES: [(Code, proto::Code); 18] = [
    (Code::Unknown, proto::Code::Unspecified),
    (Code::Version, proto::Code::Version),
    (Code::Protocol, proto::Code::Protocol),
    (Code::UnknownStream, proto::Code::UnknownStream),
    (Code::UnknownView, proto::Code::UnknownView),
    (Code::Busy, proto::Code::Busy),
    (Code::ShuttingDown, proto::Code::ShuttingDown),
    (Code::Lagged, proto::Code::Lagged),
    (Code::TooManyGaps, proto::Code::TooManyGaps),
    (Code::Unavailable, proto::Code::Unavailable),
    (Code::Unauthenticated, proto::Code::Unauthenticated),
    (Code::Forbidden, proto::Code::Forbidden),
    (Code::CursorGone, proto::Code::CursorGone),
    (Code::TooSlow, proto::Code::TooSlow),
    (Code::UnknownJob, proto::Code::UnknownJob),
    (Code::JobFailed, proto::Code::JobFailed),
    (Code::ResultGone, proto::Code::ResultGone),
    (Code::InvalidRequest, proto::Code::InvalidRequest),
];

impl Code {
    /// The number on the wire.
    pub fn number(self) -> u32 {
        CODES.iter().find(|(code, _)| *code == self).map_or(0, |(_, number)| *number as u32)
    }

    /// The code with this number; [`Code::Unknown`] for numbers of later versions.
    pub fn from_number(number: u64) -> Self {
        let found = CODES.iter().find(|(_, known)| *known as u64 == number);
        found.map_or(Self::Unknown, |(code, _)| *code)
    }

    /// Whether the same request may succeed later without a change on the client's side.
    pub fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::Busy | Self::ShuttingDown | Self::Unavailable | Self::Lagged | Self::TooSlow
        )
    }
}

impl Control {
    /// Appends the whole message, header included.
    ///
    /// # Errors
    ///
    /// [`EncodeError::TooLarge`] when a text is longer than a message may be; then nothing is
    /// appended.
    pub fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let proto = proto::Control { message: Some(self.to_proto()) };
        if proto.encoded_len() > MESSAGE_BYTES_MAX {
            return Err(EncodeError::TooLarge { rows: 1 });
        }
        message::put(message::Kind::Control, out, |out| {
            proto.encode(out).expect("a vector grows as needed");
            Ok(())
        })
    }

    /// Reads a payload.
    ///
    /// # Errors
    ///
    /// Bytes that are no control message of this version.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let message = proto::Control::decode(payload)?.message;
        Self::from_proto(message.ok_or(DecodeError::Invalid { what: "an empty control message" })?)
    }

    fn to_proto(&self) -> Proto {
        match self {
            Self::Hello(hello) => Proto::Hello(hello.to_proto()),
            Self::HelloReply(reply) => Proto::HelloReply(proto::HelloReply {
                next_sequence: reply.next_sequence,
                held: reply.held.iter().take(HELD_RANGES_MAX).map(range_to_proto).collect(),
                definitions: reply.definitions.clone(),
                ack: Some(reply.ack.to_proto()),
                session: reply.session,
            }),
            Self::Refusal(refusal) => Proto::Refusal(proto::Refusal {
                code: refusal.code.number() as i32,
                text: refusal.text.clone(),
            }),
            Self::Ack(ack) => Proto::Ack(ack.to_proto()),
            Self::Finish(rows) => Proto::Finish(proto::Finish { rows: *rows }),
            Self::FinishReply(ack) => {
                Proto::FinishReply(proto::FinishReply { ack: Some(ack.to_proto()) })
            }
            Self::SubscribeReply(reply) => Proto::SubscribeReply(reply.to_proto()),
            Self::StatusReply(json) => {
                Proto::StatusReply(proto::StatusReply { json: json.clone() })
            }
            Self::DefinitionsReply(text) => {
                Proto::DefinitionsReply(proto::DefinitionsReply { definitions: text.clone() })
            }
            Self::Goodbye(refusal) => Proto::Goodbye(proto::Goodbye {
                code: refusal.code.number() as i32,
                text: refusal.text.clone(),
            }),
            Self::JobsReply(json) => Proto::JobsReply(proto::JobsReply { json: json.clone() }),
            Self::ResultView(view) => Proto::ResultView(view.to_proto()),
        }
    }

    fn from_proto(message: Proto) -> Result<Self, DecodeError> {
        Ok(match message {
            Proto::Hello(hello) => Self::Hello(Hello::from_proto(hello)?),
            Proto::HelloReply(reply) => Self::HelloReply(HelloReply {
                next_sequence: reply.next_sequence,
                held: reply.held.iter().map(|range| range.first..=range.last).collect(),
                definitions: reply.definitions,
                ack: Ack::from_proto(reply.ack)?,
                session: reply.session,
            }),
            Proto::Refusal(refusal) => Self::Refusal(refusal_from(refusal.code, refusal.text)),
            Proto::Ack(ack) => Self::Ack(Ack::from_proto(Some(ack))?),
            Proto::Finish(finish) => Self::Finish(finish.rows),
            Proto::FinishReply(reply) => Self::FinishReply(Ack::from_proto(reply.ack)?),
            Proto::SubscribeReply(reply) => {
                Self::SubscribeReply(SubscribeReply::from_proto(reply)?)
            }
            Proto::StatusReply(reply) => Self::StatusReply(reply.json),
            Proto::DefinitionsReply(reply) => Self::DefinitionsReply(reply.definitions),
            Proto::Goodbye(goodbye) => Self::Goodbye(refusal_from(goodbye.code, goodbye.text)),
            Proto::JobsReply(reply) => Self::JobsReply(reply.json),
            Proto::ResultView(view) => Self::ResultView(ResultView::from_proto(view)?),
        })
    }
}

impl Hello {
    fn to_proto(&self) -> proto::Hello {
        let role = match &self.role {
            Role::Publish { stream, publisher, datagrams } => ProtoRole::Publish(proto::Publish {
                stream: stream.clone(),
                publisher: publisher.to_string(),
                datagrams: *datagrams,
            }),
            Role::Subscribe(subscribe) => ProtoRole::Subscribe(subscribe.to_proto()),
            Role::Status => ProtoRole::Status(proto::Status {}),
            Role::Definitions => ProtoRole::Definitions(proto::Definitions {}),
            Role::Jobs(request) => ProtoRole::Jobs(request.to_proto()),
        };
        proto::Hello { version: VERSION, role: Some(role), token: self.token.0.clone() }
    }

    fn from_proto(hello: proto::Hello) -> Result<Self, DecodeError> {
        if hello.version != VERSION {
            return Err(DecodeError::Version { found: hello.version });
        }
        let role = hello.role.ok_or(DecodeError::Invalid { what: "a hello without a role" })?;
        let role = match role {
            ProtoRole::Publish(publish) => Role::Publish {
                stream: publish.stream,
                publisher: PublisherId::new(&publish.publisher)
                    .ok_or(DecodeError::Invalid { what: "the publisher's name" })?,
                datagrams: publish.datagrams,
            },
            ProtoRole::Subscribe(subscribe) => Role::Subscribe(Subscribe::from_proto(subscribe)?),
            ProtoRole::Status(proto::Status {}) => Role::Status,
            ProtoRole::Definitions(proto::Definitions {}) => Role::Definitions,
            ProtoRole::Jobs(jobs) => Role::Jobs(JobRequest::from_proto(jobs)?),
        };
        Ok(Self { role, token: Token(hello.token) })
    }
}

impl Subscribe {
    /// From now on, as window batches, disconnected when it falls behind.
    pub fn new(view: impl Into<String>) -> Self {
        Self { view: view.into(), ..Self::default() }
    }

    fn to_proto(&self) -> proto::Subscribe {
        let policy = match self.policy {
            Policy::Disconnect => proto::Policy::Disconnect,
            Policy::Conflate => proto::Policy::Conflate,
            Policy::Block => proto::Policy::Block,
        };
        proto::Subscribe {
            view: self.view.clone(),
            policy: policy as i32,
            cursor: self.cursor,
            format: self.format.number(),
        }
    }

    fn from_proto(subscribe: proto::Subscribe) -> Result<Self, DecodeError> {
        let policy = match proto::Policy::try_from(subscribe.policy) {
            Ok(proto::Policy::Disconnect) => Policy::Disconnect,
            Ok(proto::Policy::Conflate) => Policy::Conflate,
            Ok(proto::Policy::Block) => Policy::Block,
            Err(_) => return Err(DecodeError::Invalid { what: "a subscriber's policy" }),
        };
        let format = Format::from_number(subscribe.format)?;
        Ok(Self { view: subscribe.view, policy, cursor: subscribe.cursor, format })
    }
}

impl Format {
    pub(crate) fn number(self) -> i32 {
        match self {
            Self::Windows => proto::Format::Windows as i32,
            Self::Arrow => proto::Format::Arrow as i32,
        }
    }

    pub(crate) fn from_number(number: i32) -> Result<Self, DecodeError> {
        match proto::Format::try_from(number) {
            Ok(proto::Format::Windows) => Ok(Self::Windows),
            Ok(proto::Format::Arrow) => Ok(Self::Arrow),
            Err(_) => Err(DecodeError::Invalid { what: "the format of windows" }),
        }
    }
}

impl From<&str> for Subscribe {
    fn from(view: &str) -> Self {
        Self::new(view)
    }
}

impl From<&String> for Subscribe {
    fn from(view: &String) -> Self {
        Self::new(view)
    }
}

impl SubscribeReply {
    fn to_proto(&self) -> proto::SubscribeReply {
        let columns = self.schema.columns.iter().map(column_to_proto).collect();
        proto::SubscribeReply { keys: self.schema.keys.clone(), columns, cursor: self.cursor }
    }

    fn from_proto(reply: proto::SubscribeReply) -> Result<Self, DecodeError> {
        let columns = reply.columns.into_iter().map(column_from_proto);
        let schema = ResultSchema { keys: reply.keys, columns: columns.collect::<Result<_, _>>()? };
        Ok(Self { schema, cursor: reply.cursor })
    }
}

impl Ack {
    fn to_proto(self) -> proto::Ack {
        proto::Ack {
            received_through: self.received_through,
            written_through: self.written_through,
            durable_through: self.durable_through,
            accepted: self.accepted,
            late: self.late,
            duplicate: self.duplicate,
            conflicting: self.conflicting,
            rejected: self
                .rejected
                .iter()
                .map(|(reason, rows)| proto::Rejections { reason: reason as u32, rows })
                .collect(),
            lost: self.lost,
            missing: self.missing,
        }
    }

    fn from_proto(ack: Option<proto::Ack>) -> Result<Self, DecodeError> {
        let ack = ack.ok_or(DecodeError::Invalid { what: "a reply without an ack" })?;
        let mut rejected = Rejections::default();
        for entry in ack.rejected {
            let reason = u8::try_from(entry.reason).ok().and_then(RejectReason::from_code);
            let reason = reason.ok_or(DecodeError::Invalid { what: "a reject reason" })?;
            rejected.add(reason, entry.rows);
        }
        Ok(Self {
            received_through: ack.received_through,
            written_through: ack.written_through,
            durable_through: ack.durable_through,
            accepted: ack.accepted,
            late: ack.late,
            duplicate: ack.duplicate,
            conflicting: ack.conflicting,
            rejected,
            lost: ack.lost,
            missing: ack.missing,
        })
    }
}

fn refusal_from(code: i32, text: String) -> Refusal {
    Refusal { code: Code::from_number(u64::try_from(code).unwrap_or(0)), text }
}

fn range_to_proto(range: &RangeInclusive<u64>) -> proto::Range {
    proto::Range { first: *range.start(), last: *range.end() }
}

pub(crate) fn column_to_proto((name, output): &(String, OutputType)) -> proto::Column {
    let (kind, scale) = match output {
        OutputType::Count => (proto::ColumnKind::Count, 0),
        OutputType::Scaled(scale) => (proto::ColumnKind::Scaled, scale.digits()),
        OutputType::ScaledWide(scale) => (proto::ColumnKind::ScaledWide, scale.digits()),
        OutputType::Float => (proto::ColumnKind::Float, 0),
    };
    proto::Column { name: name.clone(), kind: kind as i32, scale: u32::from(scale) }
}

pub(crate) fn column_from_proto(
    column: proto::Column,
) -> Result<(String, OutputType), DecodeError> {
    let kind = column.kind();
    let scale = u8::try_from(column.scale).ok().and_then(Scale::new);
    let scale = scale.ok_or(DecodeError::Invalid { what: "a column's scale" })?;
    let output = match kind {
        proto::ColumnKind::Count => OutputType::Count,
        proto::ColumnKind::Scaled => OutputType::Scaled(scale),
        proto::ColumnKind::ScaledWide => OutputType::ScaledWide(scale),
        proto::ColumnKind::Float => OutputType::Float,
        proto::ColumnKind::Unspecified => {
            return Err(DecodeError::Invalid { what: "a column's kind" });
        }
    };
    Ok((column.name, output))
}

#[cfg(test)]
mod tests;
