use proptest::prelude::*;

use super::*;
use crate::message::{Assembler, Kind};

fn every_message() -> Vec<Control> {
    let mut rejected = Rejections::default();
    rejected.add(RejectReason::Inexact, 7);
    rejected.add(RejectReason::KeyTooLong, u64::MAX);
    let ack = Ack {
        received_through: 1,
        written_through: 2,
        durable_through: u64::MAX,
        accepted: 4,
        late: 5,
        duplicate: 6,
        conflicting: 7,
        rejected,
        lost: 8,
        missing: 9,
    };
    let refusal = Refusal::new(Code::UnknownStream, "there is no stream `x`");
    let scale = Scale::new(18).unwrap();
    let publisher = PublisherId::new("p").unwrap();
    vec![
        Control::Hello(Hello {
            role: Role::Publish { stream: "trades".into(), publisher, datagrams: true },
            token: Token::new("secret"),
        }),
        Control::Hello(Hello::new(Role::Subscribe(Subscribe::new("bars_1s")))),
        Control::Hello(Hello::new(Role::Subscribe(Subscribe {
            view: "bars_1s".into(),
            policy: Policy::Block,
            cursor: Some(0),
            format: Format::Arrow,
        }))),
        Control::Hello(Hello::new(Role::Status)),
        Control::Hello(Hello::new(Role::Definitions)),
        Control::HelloReply(HelloReply {
            next_sequence: 12,
            held: vec![14..=20, 30..=u64::MAX],
            definitions: "[stream.trades]".into(),
            ack,
            session: 3,
        }),
        Control::Refusal(refusal.clone()),
        Control::Ack(ack),
        Control::Finish(None),
        Control::Finish(Some(0)),
        Control::FinishReply(ack),
        Control::SubscribeReply(SubscribeReply {
            schema: ResultSchema {
                keys: vec!["symbol".into()],
                columns: vec![
                    ("trades".into(), OutputType::Count),
                    ("high".into(), OutputType::Scaled(scale)),
                    ("volume".into(), OutputType::ScaledWide(scale)),
                    ("vwap".into(), OutputType::Float),
                ],
            },
            cursor: 12,
        }),
        Control::StatusReply("{}".into()),
        Control::JobsReply("{\"jobs\":[]}".into()),
        Control::DefinitionsReply("# nothing".into()),
        Control::Goodbye(refusal),
    ]
}

#[test]
fn every_message_comes_back_however_the_stream_is_cut() {
    let messages = every_message();
    let mut bytes = Vec::new();
    messages.iter().for_each(|message| message.put(&mut bytes).unwrap());
    for cut in [1, 3, 7, bytes.len()] {
        let mut assembler = Assembler::default();
        let mut back = Vec::new();
        for piece in bytes.chunks(cut) {
            assembler.feed(piece);
            while let Some(message) = assembler.next().unwrap() {
                assert_eq!(message.kind, Kind::Control);
                back.push(Control::decode(&message.payload).unwrap());
            }
        }
        assert!(!assembler.is_inside_message());
        assert_eq!(back, messages);
    }
}

#[test]
fn another_version_is_told_apart_from_garbage() {
    let hello = proto::Hello { version: 9, role: None, token: String::new() };
    let control = proto::Control { message: Some(Proto::Hello(hello)) };
    let decoded = Control::decode(&control.encode_to_vec());
    assert!(matches!(decoded, Err(DecodeError::Version { found: 9 })), "{decoded:?}");
}

#[test]
fn lengths_and_kinds_are_checked_before_anything_is_kept() {
    let mut assembler = Assembler::default();
    assembler.feed(&[0xFF, 0xFF, 0xFF, 0xFF, 1]);
    assert!(matches!(assembler.next(), Err(DecodeError::MessageTooLong { .. })));
    let mut assembler = Assembler::default();
    assembler.feed(&[0, 0, 0, 0, 9]);
    assert!(matches!(assembler.next(), Err(DecodeError::UnknownKind(9))));
}

#[test]
fn codes_keep_their_numbers() {
    for (number, (code, _)) in CODES.iter().enumerate() {
        assert_eq!(code.number() as usize, number);
        assert_eq!(Code::from_number(number as u64), *code);
    }
    assert_eq!(Code::from_number(77), Code::Unknown);
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Control::decode(&bytes);
        let mut assembler = Assembler::default();
        assembler.feed(&bytes);
        while let Ok(Some(_)) = assembler.next() {}
    }

    #[test]
    fn changed_messages_never_panic(which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), to: u8) {
        let mut bytes = Vec::new();
        let messages = every_message();
        messages[which.index(messages.len())].put(&mut bytes).unwrap();
        let payload = &mut bytes[message::HEADER_BYTES..];
        if !payload.is_empty() {
            let at = at.index(payload.len());
            payload[at] = to;
        }
        let _ = Control::decode(payload);
    }
}

#[test]
fn a_token_is_never_printed() {
    let hello = Hello { role: Role::Status, token: Token::new("secret") };
    assert!(!format!("{hello:?}").contains("secret"), "{hello:?}");
}
