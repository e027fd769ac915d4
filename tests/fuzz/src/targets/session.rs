//! A client's session: any bytes, in pieces of any size.

use isotick_ingest::session::{Request, Session};
use isotick_wire::{Control, Hello, Kind, REQUEST_BYTES_MAX, Role, message};

use super::frame::{assert_whole, frame_bytes, sealed};
use super::messages::{control_bytes, controls};
use crate::rows::publisher;
use crate::{Bound, Numbers, Target};

/// Value columns of the stream that publishers are welcomed to.
const COLUMNS: usize = 2;

/// The first byte says how the rest is cut; however it is, the same requests come, in an order
/// that the protocol allows.
pub(super) const SESSION: Target = Target {
    name: "session",
    run: |bytes| {
        let Some((&cut, stream)) = bytes.split_first() else { return };
        let stream = with_checksums(stream);
        let whole = requests(stream.chunks(stream.len().max(1)));
        let pieces = requests(stream.chunks(usize::from(cut).max(1)));
        assert_eq!(whole, pieces);
        let first = whole.iter().position(|request| request != "hello");
        assert!(first.is_none_or(|first| first <= 1), "one hello, at the beginning");
        let finish = whole.iter().position(|request| request == "finish");
        let after = finish.map_or(&[][..], |finish| &whole[finish + 1..]);
        assert!(after.iter().all(|request| request.starts_with("refused")), "{after:?}");
    },
    corpus: || {
        let mut numbers = Numbers::new(4);
        let role = Role::Publish { stream: "s".into(), publisher: publisher(), datagrams: false };
        let hello = control_bytes(&Control::Hello(Hello::new(role)));
        let finish = control_bytes(&Control::Finish(Some(14)));
        let frames: Vec<u8> = [(0, 5, 2), (7, 0, 0), (7, 7, 0)]
            .into_iter()
            .flat_map(|(first, rows, wrong)| {
                ticks_message(&frame_bytes(rows, wrong, COLUMNS, first, &mut numbers))
            })
            .collect();
        let mut streams =
            vec![[&hello[..], &frames, &finish].concat(), [&hello[..], &frames].concat()];
        streams.extend(controls().iter().map(control_bytes));
        let cut = |(cut, stream): (u8, Vec<u8>)| [&[cut], &stream[..]].concat();
        [1, 2, 7, 255].into_iter().cycle().zip(streams).map(cut).collect()
    },
    // The frame is the session's; what was fed and what is compared are in proportion to it.
    bound: Bound { bytes: (16 << 20) + (4 << 20), per_byte: 320 },
};

fn ticks_message(payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let put = |out: &mut Vec<u8>| {
        out.extend_from_slice(payload);
        Ok::<(), ()>(())
    };
    message::put(Kind::Ticks, &mut bytes, put).expect("it fits");
    bytes
}

/// Puts the right checksum at the end of each whole tick frame, so that changes within it are
/// looked at.
fn with_checksums(stream: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = stream;
    while let Some((header, behind)) = rest.split_first_chunk::<5>() {
        let bytes = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let Some((payload, next)) = behind.split_at_checked(bytes) else { break };
        out.extend_from_slice(header);
        match payload.split_last_chunk::<4>() {
            Some((body, _)) if header[4] == Kind::Ticks as u8 => {
                out.extend_from_slice(&sealed(body));
            }
            _ => out.extend_from_slice(payload),
        }
        rest = next;
    }
    out.extend_from_slice(rest);
    out
}

/// What a session comes to, in words.
fn requests<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    let mut session = Session::default();
    let mut requests = Vec::new();
    for piece in pieces {
        assert!(piece.len() <= REQUEST_BYTES_MAX);
        session.feed(piece);
        loop {
            match session.poll() {
                Ok(None) => break,
                Ok(Some(Request::Hello(hello))) => {
                    requests.push("hello".into());
                    if let Role::Publish { publisher, .. } = hello.role {
                        session.welcome(publisher, COLUMNS);
                    }
                }
                Ok(Some(Request::Frame(frame))) => {
                    assert_whole(&frame.ticks, COLUMNS);
                    let (ticks, rejected) = (frame.ticks.len(), frame.rejected.len());
                    requests.push(format!("{ticks} ticks, {rejected} rejected"));
                }
                Ok(Some(Request::Arrow(bytes))) => requests.push(format!("{} bytes", bytes.len())),
                Ok(Some(Request::Finish(_))) => requests.push("finish".into()),
                Err(broken) => {
                    requests.push(format!("refused: {}", broken.refusal));
                    return requests;
                }
            }
        }
    }
    requests
}
