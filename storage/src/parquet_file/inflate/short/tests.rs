//! Against the library, which compressed the frames.

use std::collections::BTreeSet;

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{self, CParameter};

use super::*;

/// Numbers that look random.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

const CHOICES: [[u8; 8]; 4] = [*b"a0c1e2g3", *b"b4d5f6h7", *b"i8k9mAoB", *b"jClDnEpF"];

/// Contents as columns have them, and others.
fn contents(numbers: &mut Numbers, length: usize) -> Vec<(&'static str, Vec<u8>)> {
    fn column<const N: usize>(length: usize, mut value: impl FnMut() -> [u8; N]) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..length.div_ceil(N)).flat_map(|_| value()).collect();
        bytes.truncate(length);
        bytes
    }
    let mut time = 1_704_153_600_000_000_000_u64;
    let mut walk = 100_000_u64;
    let words = ["tick ", "bar ", "symbol ", "the ", "of ", "window "];
    let mut contents = vec![
        (
            "times",
            column(length, || {
                time += numbers.below(5_000_000);
                time.to_le_bytes()
            }),
        ),
        ("prices", column(length, || (1_000_000 + numbers.below(100) * 100).to_le_bytes())),
        (
            "walk",
            column(length, || {
                walk = walk + 5 - numbers.below(11);
                walk.to_le_bytes()
            }),
        ),
        (
            "grid",
            column(length, || {
                time += 1_000;
                time.to_le_bytes()
            }),
        ),
        ("sizes", column(length, || (1 + numbers.below(300) as u32).to_le_bytes())),
        ("floats", column(length, || (numbers.below(1_000) as f64 / 100.0).to_le_bytes())),
        (
            "decimals",
            column(length, || {
                let bytes = (5_000_000 + numbers.below(70_000)).to_be_bytes();
                [bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]]
            }),
        ),
        (
            "few values",
            column(length, || [5_u64, 7, 10, 100][numbers.below(4) as usize].to_le_bytes()),
        ),
        ("choice", column(length, || CHOICES[numbers.below(100) as usize % 4])),
        ("noise", column(length, || numbers.next().to_le_bytes())),
        ("one byte", vec![7; length]),
        ("few bytes", column(length, || [b"aab"[numbers.below(3) as usize]])),
    ];
    let mut text = Vec::new();
    while text.len() < length {
        text.extend_from_slice(words[numbers.below(6) as usize].as_bytes());
    }
    text.truncate(length);
    contents.push(("text", text));
    // Parts of other kinds, so that blocks of a frame differ.
    let mut mixed = Vec::new();
    for (_, content) in &contents {
        mixed.extend_from_slice(&content[..length.div_ceil(contents.len())]);
    }
    contents.push(("mixed", mixed));
    contents
}

fn frame(content: &[u8], level: i32, length_is_known: bool) -> Vec<u8> {
    let mut compressor = Compressor::new(level).unwrap();
    compressor.set_parameter(CParameter::ContentSizeFlag(length_is_known)).unwrap();
    compressor.compress(content).unwrap()
}

/// Decompresses any frame, short or not.
fn decompressed(decoder: &mut Decoder, frame: &[u8], length: Option<usize>) -> Option<Vec<u8>> {
    // What stood in the memory before must not matter.
    let mut out = vec![0xA5; 1_000];
    let header = FrameHeader::read(frame, length)?;
    decoder.blocks(frame, header, length, &mut out, false)?;
    Some(out)
}

fn start_of_blocks(frame: &[u8]) -> usize {
    // How long the content is does not change it.
    FrameHeader::read(frame, Some(0)).unwrap().bytes
}

/// In which ways blocks of a frame are stored.
fn forms(frame: &[u8], forms: &mut BTreeSet<String>) {
    let mut at = start_of_blocks(frame);
    loop {
        let block = Block::read(frame, at).unwrap();
        match block.form {
            BlockForm::Raw => drop(forms.insert("raw block".into())),
            BlockForm::Same(_) => drop(forms.insert("block of one byte".into())),
            BlockForm::Compressed => {
                let content = &frame[block.content.clone()];
                let header = literals::Header::read(content).unwrap();
                let start = header.bytes + header.stored;
                let (count, bytes) = sequence_count(&content[start..]).unwrap();
                let kind = ["raw", "of one byte", "coded", "coded as before"];
                let streams = if content[0] & 0b1110 == 2 { ", one stream" } else { "" };
                forms.insert(format!("literals {}{streams}", kind[usize::from(content[0] & 3)]));
                if count > 0 {
                    let modes = content[start + bytes];
                    for (field, mode) in
                        [("literals", modes >> 6), ("offset", modes >> 4), ("match", modes >> 2)]
                    {
                        forms.insert(format!("{field} {}", mode & 3));
                    }
                } else {
                    forms.insert("no sequences".into());
                }
            }
        }
        at = block.content.end;
        if block.is_last {
            break;
        }
    }
}

#[test]
fn every_frame_becomes_what_it_was_made_of() {
    let mut decoder = Decoder::new().expect("a processor with BMI2");
    let mut numbers = Numbers(0x9E37_79B9_7F4A_7C15);
    let mut seen = BTreeSet::new();
    for length in [1, 7, 8, 9, 63, 300, 4_000, 20_000, 131_072, 131_073, 160_000, 700_000] {
        for (kind, content) in contents(&mut numbers, length) {
            for level in [-5, 1, 3, 9, 19] {
                if length == 700_000 && level > 3 {
                    continue;
                }
                let known = frame(&content, level, true);
                let unknown = frame(&content, level, false);
                forms(&known, &mut seen);
                let got = decompressed(&mut decoder, &known, Some(content.len()));
                assert!(got.as_ref() == Some(&content), "{kind}, {length} bytes, level {level}");
                let got = decompressed(&mut decoder, &unknown, None);
                let window = FrameHeader::read(&unknown, None).unwrap().window;
                assert!(got.is_some() || content.len() > window, "{kind}, level {level}");
                assert!(got.is_none_or(|got| got == content), "{kind}, level {level}");
                for wrong in [content.len() - 1, content.len() + 1] {
                    assert_eq!(decompressed(&mut decoder, &known, Some(wrong)), None);
                }
            }
        }
    }
    let expected = [
        "block of one byte",
        "literals 0",
        "literals 1",
        "literals 2",
        "literals 3",
        "literals coded",
        "literals coded as before",
        "literals coded as before, one stream",
        "literals coded, one stream",
        "literals of one byte",
        "literals raw",
        "match 0",
        "match 1",
        "match 2",
        "match 3",
        "no sequences",
        "offset 0",
        "offset 1",
        "offset 2",
        "offset 3",
        "raw block",
    ];
    assert_eq!(seen.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

#[test]
fn only_short_sequences_are_taken() {
    let mut decoder = Decoder::new().expect("a processor with BMI2");
    let mut numbers = Numbers(1);
    let mut out = Vec::new();
    let mut taken = Vec::new();
    for (kind, content) in contents(&mut numbers, 160_000) {
        let known = frame(&content, 1, true);
        let is_taken = decoder.decompress(&known, Some(content.len()), &mut out).is_some();
        if is_taken {
            assert!(out == content, "{kind}");
            taken.push(kind);
        }
        let unknown = frame(&content, 1, false);
        assert_eq!(decoder.decompress(&unknown, None, &mut out).is_some(), is_taken, "{kind}");
        assert!(!is_taken || out == content, "{kind}");
    }
    assert_eq!(taken, ["times", "prices", "grid", "sizes"]);
}

#[test]
fn short_sequences_may_begin_late() {
    let mut decoder = Decoder::new().expect("a processor with BMI2");
    let mut numbers = Numbers(1);
    let (mut times, mut noise) = (Vec::new(), Vec::new());
    for (kind, content) in contents(&mut numbers, 2 * BLOCK_BYTES_MAX) {
        match kind {
            "times" => times = content,
            "noise" => noise = content,
            _ => {}
        }
    }
    let mut out = Vec::new();
    for blocks in [1, 2] {
        let content = [&noise[..blocks * BLOCK_BYTES_MAX], &times].concat();
        let frame = frame(&content, 3, true);
        decoder.decompress(&frame, Some(content.len()), &mut out).expect("it is taken");
        assert!(out == content);
    }
    let noise = frame(&noise, 3, true);
    assert_eq!(decoder.decompress(&noise, Some(2 * BLOCK_BYTES_MAX), &mut out), None);
}

#[test]
fn damage_is_refused_or_as_the_library_reads_it() {
    let mut decoder = Decoder::new().expect("a processor with BMI2");
    let mut library = Decompressor::new().unwrap();
    let mut numbers = Numbers(7);
    let (mut refused, mut read) = (0, 0);
    for length in [300, 20_000, 150_000] {
        for (kind, content) in contents(&mut numbers, length) {
            let whole = frame(&content, 1, true);
            for _ in 0..if length < 1_000 { 1_000 } else { 200 } {
                let mut damaged = whole.clone();
                // Most of it where tables and headers stand.
                let end = if numbers.below(3) > 0 { damaged.len().min(100) } else { damaged.len() };
                for _ in 0..1 + numbers.below(3) {
                    let at = numbers.below(end as u64) as usize;
                    damaged[at] = numbers.next() as u8;
                }
                if numbers.below(4) == 0 {
                    damaged.truncate(numbers.below(damaged.len() as u64) as usize);
                }
                let length = zstd_safe::get_frame_content_size(&damaged).ok().flatten();
                let length = length.unwrap_or(0).min(1 << 24) as usize;
                match decompressed(&mut decoder, &damaged, Some(length)) {
                    None => refused += 1,
                    Some(own) => {
                        read += 1;
                        let theirs = library.decompress(&damaged, length);
                        assert!(theirs.ok() == Some(own), "{kind}, {length} bytes");
                    }
                }
            }
        }
    }
    assert!(refused > 5_000 && read > 500, "{refused} refused, {read} read");
}

#[test]
fn a_frame_takes_nothing_from_the_one_before() {
    let mut decoder = Decoder::new().expect("a processor with BMI2");
    let mut numbers = Numbers(3);
    let mut tried = BTreeSet::new();
    let all = contents(&mut numbers, 400_000);
    for ((kind, content), level) in all.iter().flat_map(|one| [1, 3, 9].map(|level| (one, level))) {
        let whole = frame(content, level, true);
        let mut at = start_of_blocks(&whole);
        loop {
            let block = Block::read(&whole, at).unwrap();
            let mut forms_of = BTreeSet::new();
            // A frame of this block alone, its window as large as the library's.
            let mut alone = vec![0x28, 0xB5, 0x2F, 0xFD, 0, 0x58];
            alone.extend_from_slice(&whole[at..block.content.end]);
            alone[6] |= 1;
            forms(&alone, &mut forms_of);
            let needs = ["literals coded as before", "literals 3", "offset 3", "match 3"];
            let needed: Vec<_> =
                needs.into_iter().filter(|form| forms_of.contains(*form)).collect();
            if !needed.is_empty() {
                assert!(
                    decompressed(&mut decoder, &whole, Some(content.len())).as_ref()
                        == Some(content)
                );
                assert!(decompressed(&mut decoder, &alone, None).is_none(), "{kind}: {needed:?}");
                tried.extend(needed);
            }
            at = block.content.end;
            if block.is_last {
                break;
            }
        }
    }
    assert_eq!(tried.len(), 4, "{tried:?}");
}

#[test]
fn bits_and_literals_end_where_they_end() {
    let mut decoder = Decoder::new().expect("a processor with BMI2");
    let mut numbers = Numbers(5);
    let mut tried = 0;
    for (kind, content) in contents(&mut numbers, 20_000) {
        let whole = frame(&content, 1, true);
        let at = start_of_blocks(&whole);
        let block = Block::read(&whole, at).unwrap();
        let BlockForm::Compressed = block.form else { continue };
        let header = literals::Header::read(&whole[block.content.clone()]).unwrap();
        let count_at = block.content.start + header.bytes + header.stored;
        let (count, bytes) = sequence_count(&whole[count_at..]).unwrap();
        if bytes != 2 {
            continue;
        }
        tried += 1;
        for more in [count + 1, count + 30, count + 2_400, count - 1, count - 30] {
            let mut damaged = whole.clone();
            damaged[count_at] = 128 + (more >> 8) as u8;
            damaged[count_at + 1] = more as u8;
            for length in [content.len(), content.len() + 20_000] {
                let own = decompressed(&mut decoder, &damaged, Some(length));
                assert!(own.is_none(), "{kind}: {more} of {count}");
            }
        }
    }
    assert!(tried > 4, "{tried}");
}

#[test]
fn a_frame_has_its_own_states() {
    let mut decoder = Decoder::new().expect("a processor with BMI2");
    let (_, content) = contents(&mut Numbers(9), 20_000).swap_remove(1);
    let whole = frame(&content, 1, true);
    let at = start_of_blocks(&whole);
    let block = Block::read(&whole, at).unwrap();
    let header = literals::Header::read(&whole[block.content.clone()]).unwrap();
    let count_at = block.content.start + header.bytes + header.stored;
    let modes_at = count_at + sequence_count(&whole[count_at..]).unwrap().1;
    assert_eq!(whole[modes_at] >> 6, 2, "the states of literals are described");
    let (_, bytes) = entropy::Distribution::read(&whole[modes_at + 1..], 9, 36).unwrap();
    // Without the description, and as in the block before.
    let mut without = whole.clone();
    without[modes_at] |= 0b1100_0000;
    without.drain(modes_at + 1..modes_at + 1 + bytes);
    let size = (block.content.len() - bytes) as u32;
    without[at..at + 3].copy_from_slice(&(size << 3 | 0b101).to_le_bytes()[..3]);
    let length = Some(content.len());
    assert!(decompressed(&mut decoder, &whole, length) == Some(content));
    assert!(decompressed(&mut decoder, &without, length).is_none());
    assert!(Decompressor::new().unwrap().decompress(&without, 20_000).is_err());
}

#[test]
fn a_block_has_no_more_than_it_may() {
    let mut decoder = Decoder::new().expect("a processor with BMI2");
    for (length, may) in [(BLOCK_BYTES_MAX, true), (BLOCK_BYTES_MAX + 1, false)] {
        let mut one_byte = vec![0x28, 0xB5, 0x2F, 0xFD, 0xA0];
        one_byte.extend_from_slice(&(length as u32).to_le_bytes());
        one_byte.extend_from_slice(&((length as u32) << 3 | 0b11).to_le_bytes()[..3]);
        one_byte.push(7);
        let own = decompressed(&mut decoder, &one_byte, Some(length));
        assert_eq!(own.is_some(), may);
    }
}

#[test]
fn sequences_are_counted() {
    assert_eq!(sequence_count(&[0]), Some((0, 1)));
    assert_eq!(sequence_count(&[127, 9]), Some((127, 1)));
    assert_eq!(sequence_count(&[129, 2]), Some((258, 2)));
    assert_eq!(sequence_count(&[255, 1, 2]), Some((0x7F00 + 0x201, 3)));
    assert_eq!(sequence_count(&[255, 1]), None);
    assert_eq!(sequence_count(&[]), None);
}

#[test]
fn no_frame_asks_for_much_more_than_it_has() {
    let mut decoder = Decoder::new().expect("a processor with BMI2");
    let content = vec![0; 10 << 20];
    let small = frame(&content, 1, true);
    assert!(small.len() < 2_000);
    let mut out = Vec::new();
    let header = FrameHeader::read(&small, Some(content.len())).unwrap();
    assert_eq!(decoder.blocks(&small, header, Some(content.len()), &mut out, true), None);
    assert!(out.is_empty());
}

#[test]
fn dictionaries_and_checksums_are_left_to_the_library() {
    let is_taken = |frame: &[u8]| FrameHeader::read(frame, Some(3)).is_some();
    let mut compressor = Compressor::new(1).unwrap();
    assert!(is_taken(&compressor.compress(b"abc").unwrap()));
    compressor.set_parameter(CParameter::ChecksumFlag(true)).unwrap();
    assert!(!is_taken(&compressor.compress(b"abc").unwrap()));
    assert!(!is_taken(&[0x28, 0xB5, 0x2F, 0xFD, 0x21, 7, 3, 0, 0, 0]));
    assert!(!is_taken(b"PAR1\0\0"));
    assert!(!is_taken(&[0x28, 0xB5, 0x2F, 0xFD]));
}

#[test]
fn windows_are_as_the_header_says() {
    let window = |byte: u8| {
        let header = FrameHeader::read(&[0x28, 0xB5, 0x2F, 0xFD, 0, byte, 0, 0, 0], None);
        header.map(|header| header.window)
    };
    assert_eq!(window(0), Some(1 << 10));
    assert_eq!(window(0x58), Some(1 << 21));
    assert_eq!(window(0x5B), Some((1 << 21) + 3 * (1 << 18)));
    assert_eq!(window(17 << 3), Some(128 << 20));
    assert_eq!(window(17 << 3 | 1), None);
    assert_eq!(window(255), None);
}

/// Frames that break a rule which random damage seldom meets.
#[test]
fn what_the_library_refuses_is_refused() {
    const START: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];
    let frames: [(&str, Option<usize>, &[u8]); 5] = [
        (
            "a code without its longest",
            None,
            &[0, 0x58, 0x3D, 0, 0, 0x32, 0xC0, 0, 0x80, 0x20, 0x0A, 0],
        ),
        (
            "no literals in four streams",
            None,
            &[0, 0x58, 0x85, 0, 0, 6, 0, 3, 0x80, 0x10, 1, 0, 1, 0, 1, 0, 1, 1, 1, 1, 0],
        ),
        (
            "four literals in four streams",
            None,
            &[0, 0x58, 0x85, 0, 0, 0x46, 0, 3, 0x80, 0x10, 1, 0, 1, 0, 1, 0, 2, 2, 2, 2, 0],
        ),
        (
            "a block larger than the content",
            Some(3),
            &[0x20, 3, 0x3D, 0, 0, 0x32, 0xC0, 0, 0x80, 0x10, 0x0A, 0],
        ),
        // A raw block of as many bytes follows below.
        ("a block larger than the window", None, &[0, 0, 0x89, 0x3E, 0]),
    ];
    let mut decoder = Decoder::new().expect("a processor with BMI2");
    for (what, length, rest) in frames {
        let mut frame = [&START[..], rest].concat();
        if what.ends_with("window") {
            frame.resize(frame.len() + 2_001, 5);
        }
        assert!(zstd::stream::decode_all(&frame[..]).is_err(), "{what}");
        assert_eq!(decompressed(&mut decoder, &frame, length), None, "{what}");
    }
}
