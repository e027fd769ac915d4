//! Control messages: who speaks, what is asked, where a publisher stands.

use std::fmt;
use std::ops::RangeInclusive;

use isotick_model::results::ResultSchema;
use isotick_model::view::OutputType;
use isotick_model::{PublisherId, RejectReason, Scale};
use prost::Message as _;

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
    /// The publisher is done.
    Finish,
    /// Everything the publisher sent is stored; its last Ack.
    FinishReply(Ack),
    /// Answers a subscriber's Hello: the columns of the windows that follow.
    SubscribeReply(ResultSchema),
    /// Answers a Hello with [`Role::Status`]: one JSON object.
    StatusReply(String),
    /// Answers a Hello with [`Role::Definitions`]: TOML.
    DefinitionsReply(String),
    /// An established session ends, and why.
    Goodbye(Refusal),
}

/// Who speaks and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// What the client wants.
    pub role: Role,
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
    },
    /// To get a view's windows as they are published.
    Subscribe {
        /// The view's name.
        view: String,
    },
    /// To get the service's counters once.
    Status,
    /// To get the service's definitions once.
    Definitions,
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
}

/// Where a publisher stands on a stream. A mark `n` means that the rows `0..n`, ticks and rejected
/// ones, have all reached the level. Counts are since the service's data began, except repeats,
/// which are since it started.
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
}

/// The codes and their numbers on the wire, which are also QUIC application error codes.
const CODES: [(Code, proto::Code); 10] = [
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
        matches!(self, Self::Busy | Self::ShuttingDown | Self::Unavailable | Self::Lagged)
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
            }),
            Self::Refusal(refusal) => Proto::Refusal(proto::Refusal {
                code: refusal.code.number() as i32,
                text: refusal.text.clone(),
            }),
            Self::Ack(ack) => Proto::Ack(ack.to_proto()),
            Self::Finish => Proto::Finish(proto::Finish {}),
            Self::FinishReply(ack) => {
                Proto::FinishReply(proto::FinishReply { ack: Some(ack.to_proto()) })
            }
            Self::SubscribeReply(schema) => Proto::SubscribeReply(schema_to_proto(schema)),
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
            }),
            Proto::Refusal(refusal) => Self::Refusal(refusal_from(refusal.code, refusal.text)),
            Proto::Ack(ack) => Self::Ack(Ack::from_proto(Some(ack))?),
            Proto::Finish(proto::Finish {}) => Self::Finish,
            Proto::FinishReply(reply) => Self::FinishReply(Ack::from_proto(reply.ack)?),
            Proto::SubscribeReply(reply) => Self::SubscribeReply(schema_from_proto(reply)?),
            Proto::StatusReply(reply) => Self::StatusReply(reply.json),
            Proto::DefinitionsReply(reply) => Self::DefinitionsReply(reply.definitions),
            Proto::Goodbye(goodbye) => Self::Goodbye(refusal_from(goodbye.code, goodbye.text)),
        })
    }
}

impl Hello {
    fn to_proto(&self) -> proto::Hello {
        let role = match &self.role {
            Role::Publish { stream, publisher } => ProtoRole::Publish(proto::Publish {
                stream: stream.clone(),
                publisher: publisher.to_string(),
            }),
            Role::Subscribe { view } => {
                ProtoRole::Subscribe(proto::Subscribe { view: view.clone() })
            }
            Role::Status => ProtoRole::Status(proto::Status {}),
            Role::Definitions => ProtoRole::Definitions(proto::Definitions {}),
        };
        proto::Hello { version: VERSION, role: Some(role) }
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
            },
            ProtoRole::Subscribe(subscribe) => Role::Subscribe { view: subscribe.view },
            ProtoRole::Status(proto::Status {}) => Role::Status,
            ProtoRole::Definitions(proto::Definitions {}) => Role::Definitions,
        };
        Ok(Self { role })
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
        })
    }
}

fn refusal_from(code: i32, text: String) -> Refusal {
    Refusal { code: Code::from_number(u64::try_from(code).unwrap_or(0)), text }
}

fn range_to_proto(range: &RangeInclusive<u64>) -> proto::Range {
    proto::Range { first: *range.start(), last: *range.end() }
}

fn schema_to_proto(schema: &ResultSchema) -> proto::SubscribeReply {
    let columns = schema.columns.iter().map(|(name, output)| {
        let (kind, scale) = match output {
            OutputType::Count => (proto::ColumnKind::Count, 0),
            OutputType::Scaled(scale) => (proto::ColumnKind::Scaled, scale.digits()),
            OutputType::ScaledWide(scale) => (proto::ColumnKind::ScaledWide, scale.digits()),
            OutputType::Float => (proto::ColumnKind::Float, 0),
        };
        proto::Column { name: name.clone(), kind: kind as i32, scale: u32::from(scale) }
    });
    proto::SubscribeReply { keys: schema.keys.clone(), columns: columns.collect() }
}

fn schema_from_proto(reply: proto::SubscribeReply) -> Result<ResultSchema, DecodeError> {
    let columns = reply.columns.into_iter().map(|column| {
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
    });
    Ok(ResultSchema { keys: reply.keys, columns: columns.collect::<Result<_, _>>()? })
}

#[cfg(test)]
mod tests;
