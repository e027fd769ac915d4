//! Streams cut into messages, control messages, datagrams.

use isotick_model::results::ResultSchema;
use isotick_model::view::OutputType;
use isotick_model::{Key, RejectReason, Scale};
use isotick_wire::jobs::{Engine, Priority, Truth};
use isotick_wire::{
    Ack, Assembler, Code, Control, FetchResult, Format, Hello, HelloReply, JobId, JobRequest,
    Message, Policy, REQUEST_BYTES_MAX, Refusal, ResultView, Role, SubmitJob, Subscribe,
    SubscribeReply, Token, datagram,
};

use super::frame;
use crate::rows::publisher;
use crate::{Bound, Target};

/// The first byte says how the rest is cut; however it is, the same messages come.
pub(super) const MESSAGE: Target = Target {
    name: "message",
    run: |bytes| {
        let Some((&cut, bytes)) = bytes.split_first() else { return };
        let (whole, end) = assembled(bytes.chunks(bytes.len().max(1)));
        let (pieces, end_of_pieces) = assembled(bytes.chunks(usize::from(cut).max(1)));
        assert_eq!((&whole, &end), (&pieces, &end_of_pieces));
        let taken: usize = whole.iter().map(|message| 5 + message.payload.len()).sum();
        assert!(taken <= bytes.len());
        assert!(whole.iter().all(|message| message.payload.len() <= REQUEST_BYTES_MAX));
    },
    corpus: || {
        let stream: Vec<u8> = controls().iter().flat_map(control_bytes).collect();
        [1, 3, 64, 255].map(|cut| [&[cut], &stream[..]].concat()).to_vec()
    },
    bound: Bound { bytes: 8 << 10, per_byte: 16 },
};

/// What was read is written to bytes that are read as the same.
pub(super) const CONTROL: Target = Target {
    name: "control",
    run: |bytes| {
        let Ok(control) = Control::decode(bytes) else { return };
        let mut again = Vec::new();
        if control.put(&mut again).is_ok() {
            let back = Control::decode(&again[5..]).expect("what was written is read");
            // More ranges than one message carries are left out.
            if !matches!(&control, Control::HelloReply(reply) if reply.held.len() > 16_384) {
                assert_eq!(back, control);
            }
        }
    },
    corpus: || controls().iter().map(|control| control_bytes(control)[5..].to_vec()).collect(),
    bound: Bound { bytes: 4 << 10, per_byte: 64 },
};

/// A session's number, then a frame as on a stream.
pub(super) const DATAGRAM: Target = Target {
    name: "datagram",
    run: |bytes| {
        let Ok((session, payload)) = datagram::split(bytes) else { return };
        let mut again = Vec::new();
        datagram::put_session(session, &mut again);
        assert!(again.len() + payload.len() <= bytes.len(), "the shortest form is written");
        (frame::FRAME.run)(payload);
    },
    corpus: || {
        let sessions = [0, 127, 1 << 20, u64::MAX];
        let with = |session: u64| {
            (frame::FRAME.corpus)().into_iter().take(4).map(move |frame| {
                let mut bytes = Vec::new();
                datagram::put_session(session, &mut bytes);
                bytes.extend(frame);
                bytes
            })
        };
        sessions.into_iter().flat_map(with).collect()
    },
    bound: frame::FRAME.bound,
};

fn assembled<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Message>, Option<String>) {
    let mut assembler = Assembler::with_limit(REQUEST_BYTES_MAX);
    let mut messages = Vec::new();
    for piece in pieces {
        assembler.feed(piece);
        loop {
            match assembler.next() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Some(error.to_string())),
            }
        }
    }
    (messages, None)
}

pub(super) fn control_bytes(control: &Control) -> Vec<u8> {
    let mut bytes = Vec::new();
    control.put(&mut bytes).expect("short texts");
    bytes
}

pub(super) fn controls() -> Vec<Control> {
    let publish =
        |datagrams| Role::Publish { stream: "trades".into(), publisher: publisher(), datagrams };
    let subscribe = |policy, cursor, format| {
        Role::Subscribe(Subscribe { view: "bars".into(), policy, cursor, format })
    };
    let mut ack = Ack {
        received_through: 9,
        written_through: 8,
        durable_through: u64::MAX,
        accepted: 7,
        late: 1,
        duplicate: 2,
        conflicting: 3,
        lost: 4,
        missing: 5,
        ..Ack::default()
    };
    RejectReason::ALL.into_iter().for_each(|reason| ack.rejected.add(reason, 3));
    let scale = Scale::new(2).expect("a scale");
    let outputs = [
        OutputType::Count,
        OutputType::Scaled(scale),
        OutputType::ScaledWide(scale),
        OutputType::Float,
    ];
    let schema = ResultSchema {
        keys: vec!["symbol".into(), "venue".into()],
        columns: outputs.into_iter().map(|output| ("a name".into(), output)).collect(),
    };
    let bars = schema.clone();
    let id = || JobId::new("7f3a-1").expect("an id");
    let submit = SubmitJob {
        from_ns: Some(-1),
        to_ns: Some(i64::MAX),
        keys: vec![Key::from_components(["A", "x"]), Key::empty()],
        truth: Truth::Late,
        priority: Priority::new(9).expect("the greatest"),
        engine: Engine::Gpu,
        no_rollup: true,
        ..SubmitJob::new(["bars", "bars_1h"])
    };
    let fetch = FetchResult { id: id(), partial: true, format: Format::Arrow };
    let jobs = [
        JobRequest::Submit(submit),
        JobRequest::List,
        JobRequest::Show(id()),
        JobRequest::Watch(id()),
        JobRequest::Cancel(id()),
        JobRequest::Retry(id()),
        JobRequest::Fetch(fetch),
    ];
    let jobs = jobs.map(|request| Control::Hello(Hello::new(Role::Jobs(request))));
    let mut controls = vec![
        Control::Hello(Hello::new(publish(false))),
        Control::Hello(Hello { role: publish(true), token: Token::new("a token") }),
        Control::Hello(Hello::new(subscribe(Policy::Block, Some(7), Format::Arrow))),
        Control::Hello(Hello::new(subscribe(Policy::Conflate, None, Format::Windows))),
        Control::Hello(Hello::new(Role::Status)),
        Control::Hello(Hello::new(Role::Definitions)),
        Control::HelloReply(HelloReply {
            next_sequence: 5,
            held: vec![7..=9, 11..=u64::MAX],
            definitions: "[stream.s]".into(),
            ack,
            session: 3,
        }),
        Control::Ack(ack),
        Control::Finish(None),
        Control::Finish(Some(77)),
        Control::FinishReply(ack),
        Control::SubscribeReply(SubscribeReply { schema, cursor: 12 }),
        Control::StatusReply("{}".into()),
        Control::JobsReply("{\"jobs\":[]}".into()),
        Control::ResultView(ResultView { index: 1, view: "bars".into(), schema: bars }),
        Control::DefinitionsReply("[stream.s]".into()),
        Control::Refusal(Refusal::new(Code::Busy, "later")),
        Control::Goodbye(Refusal::new(Code::TooSlow, "too slow")),
    ];
    controls.extend(jobs);
    controls
}
