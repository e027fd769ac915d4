//! Letters as bytes: little endian, lengths before texts.

use isotick_model::RejectReason;

use super::{Content, Letter};

const ROWS: u8 = 1;
const UNDECODABLE: u8 = 2;

/// Appends a letter. Names longer than 64 KiB are cut.
pub(super) fn encode(letter: &Letter, out: &mut Vec<u8>) {
    let kind = match &letter.content {
        Content::Rows { .. } => ROWS,
        Content::Undecodable { .. } => UNDECODABLE,
    };
    out.push(kind);
    out.extend_from_slice(&letter.ts_recv_ns.to_le_bytes());
    put_text(&letter.stream, out);
    put_text(&letter.publisher, out);
    match &letter.content {
        Content::Rows { first_sequence, last_sequence, reasons } => {
            out.extend_from_slice(&first_sequence.to_le_bytes());
            out.extend_from_slice(&last_sequence.to_le_bytes());
            out.extend_from_slice(&(reasons.len() as u32).to_le_bytes());
            out.extend(reasons.iter().map(|reason| *reason as u8));
        }
        Content::Undecodable { error } => put_text(error, out),
    }
    out.extend_from_slice(&letter.bytes);
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    let mut end = text.len().min(usize::from(u16::MAX));
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    out.extend_from_slice(&(end as u16).to_le_bytes());
    out.extend_from_slice(&text.as_bytes()[..end]);
}

/// Reads a letter that fills `bytes`; `None` when they are none.
pub(super) fn decode(bytes: &[u8]) -> Option<Letter> {
    let mut input = Input(bytes);
    let [kind] = input.array()?;
    let ts_recv_ns = i64::from_le_bytes(input.array()?);
    let (stream, publisher) = (input.text()?, input.text()?);
    let content = match kind {
        ROWS => {
            let first_sequence = u64::from_le_bytes(input.array()?);
            let last_sequence = u64::from_le_bytes(input.array()?);
            let rows = u32::from_le_bytes(input.array()?) as usize;
            let reasons = input.bytes(rows)?.iter().map(|code| RejectReason::from_code(*code));
            Content::Rows {
                first_sequence,
                last_sequence,
                reasons: reasons.collect::<Option<_>>()?,
            }
        }
        UNDECODABLE => Content::Undecodable { error: input.text()? },
        _ => return None,
    };
    Some(Letter { ts_recv_ns, stream, publisher, content, bytes: input.0.to_vec() })
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    fn text(&mut self) -> Option<String> {
        let length = u16::from_le_bytes(self.array()?);
        String::from_utf8(self.bytes(length.into())?.to_vec()).ok()
    }
}
