//! `isotick deadletters`: what was refused, shown and sent again.

mod replay;

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use isotick_model::definitions::Definitions;
use isotick_model::{PublisherId, RejectReason, StreamSchema, Ticks, time, units};
use isotick_storage::DataFolder;
use isotick_storage::deadletters::{self, Content, Letter, LetterReader};
use isotick_wire::frame::Decoder;
use serde_json::{Value, json};

use crate::cli::{
    DeadLettersArgs, DeadLettersCommand, LettersArgs, LettersListArgs, LettersShowArgs,
};
use crate::definitions;

/// Bytes of a letter that are shown.
const SHOWN_BYTES: usize = 2_048;
const BYTES_PER_LINE: usize = 32;

pub fn run(args: DeadLettersArgs) -> Result<ExitCode> {
    match args.command {
        DeadLettersCommand::List(args) => list(&args)?,
        DeadLettersCommand::Show(args) => show(&args)?,
        DeadLettersCommand::Replay(args) => return replay::run(args),
    }
    Ok(ExitCode::SUCCESS)
}

impl LettersArgs {
    /// Whether a letter is asked for; its rows may be so in part.
    fn wants(&self, letter: &Letter) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|w| w == found);
        is(&self.stream, &letter.stream)
            && is(&self.publisher, &letter.publisher)
            && self.since.is_none_or(|since| letter.ts_recv_ns >= since.0)
            && self
                .reason
                .is_none_or(|reason| letter.reasons().iter().any(|(found, _)| *found == reason))
    }
}

/// Calls `each` with the letters that are asked for, and says what could not be read.
fn each_letter(
    folder: &DataFolder,
    wants: impl Fn(&Letter) -> bool,
    mut each: impl FnMut(u64, Letter) -> Result<()>,
) -> Result<()> {
    let mut letters: LetterReader = deadletters::read(folder)?;
    for letter in letters.by_ref() {
        let (number, letter) = letter?;
        if wants(&letter) {
            each(number, letter)?;
        }
    }
    for path in letters.damaged() {
        eprintln!("{}: a part of it cannot be read", path.display());
    }
    Ok(())
}

fn open(args: &LettersArgs) -> Result<DataFolder> {
    Ok(DataFolder::open_reader(&args.data)?)
}

fn remembered(folder: &DataFolder) -> Result<Definitions> {
    let text = folder.definitions()?.context("the folder remembers no definitions")?;
    definitions::parse_remembered(&text)
}

fn list(args: &LettersListArgs) -> Result<()> {
    let folder = open(&args.letters)?;
    let mut out = std::io::stdout().lock();
    if !args.json {
        writeln!(
            out,
            "{:>8}  {:<30}  {:<16}  {:<24}  {:>7}  {:>9}  why",
            "number", "received", "stream", "publisher", "rows", "bytes"
        )?;
    }
    each_letter(
        &folder,
        |letter| args.letters.wants(letter),
        |number, letter| {
            match args.json {
                true => writeln!(out, "{}", to_json(number, &letter))?,
                false => writeln!(
                    out,
                    "{number:>8}  {:<30}  {:<16}  {:<24}  {:>7}  {:>9}  {}",
                    time::format_rfc3339(letter.ts_recv_ns),
                    letter.stream,
                    letter.publisher,
                    letter.rows(),
                    letter.bytes.len(),
                    why(&letter)
                )?,
            }
            Ok(())
        },
    )
}

fn why(letter: &Letter) -> String {
    match &letter.content {
        Content::Rows { .. } => {
            let reasons = letter.reasons().into_iter();
            reasons.map(|(reason, rows)| format!("{reason} {rows}")).collect::<Vec<_>>().join(", ")
        }
        Content::Undecodable { error } => format!("undecodable: {error}"),
    }
}

fn to_json(number: u64, letter: &Letter) -> Value {
    let mut object = json!({
        "number": number,
        "ts_recv": time::format_rfc3339(letter.ts_recv_ns),
        "ts_recv_ns": letter.ts_recv_ns,
        "stream": letter.stream,
        "publisher": letter.publisher,
        "bytes": letter.bytes.len(),
    });
    match &letter.content {
        Content::Rows { first_sequence, last_sequence, .. } => {
            object["kind"] = "rows".into();
            object["rows"] = letter.rows().into();
            object["first_sequence"] = (*first_sequence).into();
            object["last_sequence"] = (*last_sequence).into();
            object["reasons"] = counts_json(letter.reasons());
        }
        Content::Undecodable { error } => {
            object["kind"] = "undecodable".into();
            object["error"] = error.as_str().into();
        }
    }
    object
}

fn counts_json(counts: impl IntoIterator<Item = (RejectReason, usize)>) -> Value {
    let counts: BTreeMap<_, _> =
        counts.into_iter().map(|(reason, rows)| (reason.name(), rows)).collect();
    json!(counts)
}

fn show(args: &LettersShowArgs) -> Result<()> {
    let folder = DataFolder::open_reader(&args.data)?;
    let mut found = None;
    for letter in deadletters::read(&folder)? {
        let (number, letter) = letter?;
        if number == args.number {
            found = Some(letter);
            break;
        }
    }
    let Some(letter) = found else {
        bail!(
            "there is no letter {} in {}: it may have gone for newer ones; `isotick deadletters \
             list` shows what is kept",
            args.number,
            args.data.display()
        );
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "letter {}", args.number)?;
    writeln!(out, "received   {}", time::format_rfc3339(letter.ts_recv_ns))?;
    writeln!(out, "stream     {}", letter.stream)?;
    writeln!(out, "publisher  {}", letter.publisher)?;
    writeln!(out, "why        {}", why(&letter))?;
    let definitions = remembered(&folder)?;
    if let Content::Rows { reasons, .. } = &letter.content {
        match definitions.stream(&letter.stream) {
            Ok(schema) => {
                let ticks = ticks_of(&letter, schema)
                    .context("the letter's rows cannot be read back by this release")?;
                write_rows(&mut out, schema, &ticks, reasons)?;
            }
            Err(error) => writeln!(out, "rows       not shown: {error}")?,
        }
    }
    match &args.raw {
        Some(path) => {
            std::fs::write(path, &letter.bytes)
                .with_context(|| format!("cannot write {}", path.display()))?;
            eprintln!("{} bytes in {}", letter.bytes.len(), path.display());
        }
        None => write_hex(&mut out, &letter.bytes)?,
    }
    Ok(())
}

/// The rows of a letter, if it can be decoded with the stream's columns, or with those it had
/// when fewer were declared.
fn ticks_of(letter: &Letter, schema: &StreamSchema) -> Option<Ticks> {
    let publisher = PublisherId::new(&letter.publisher)?;
    let decode = |columns| Decoder::default().decode(&letter.bytes, &publisher, columns).ok();
    (0..=schema.columns.len()).rev().find_map(decode).map(|frame| frame.ticks)
}

fn write_rows(
    out: &mut impl Write,
    schema: &StreamSchema,
    ticks: &Ticks,
    reasons: &[RejectReason],
) -> Result<()> {
    let mut header = vec!["sequence".to_owned(), "reason".into(), schema.time.clone()];
    header.extend(schema.keys.iter().cloned());
    header.extend(schema.columns.iter().map(|column| column.name.clone()));
    let mut lines = vec![header];
    for (row, reason) in (0..ticks.len()).zip(reasons) {
        let mut line = vec![
            ticks.sequence[row].to_string(),
            reason.to_string(),
            time::format_rfc3339(ticks.ts_event[row]),
        ];
        let mut key = ticks.key_of(row).components();
        // A key with another number of parts is among what is shown here.
        let rest = key.split_off(key.len().min(schema.keys.len()));
        if !rest.is_empty() {
            key.push(format!("(and {})", rest.join(", ")));
        }
        key.resize(schema.keys.len().max(key.len()), String::new());
        line.extend(key);
        for (column, values) in schema.columns.iter().zip(&ticks.values) {
            let value = values.get(row).map(|v| units::format_scaled(v.into(), column.scale));
            line.push(value.unwrap_or_else(|| "null".into()));
        }
        lines.push(line);
    }
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let fields = lines.iter().filter_map(|line| line.get(column));
        fields.map(|field| field.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    for line in &lines {
        let fields = line.iter().zip(&widths).map(|(field, width)| format!("{field:>width$}"));
        writeln!(out, "{}", fields.collect::<Vec<_>>().join("  "))?;
    }
    Ok(())
}

fn write_hex(out: &mut impl Write, bytes: &[u8]) -> Result<()> {
    writeln!(out, "bytes      {}", bytes.len())?;
    for (line, part) in bytes[..bytes.len().min(SHOWN_BYTES)].chunks(BYTES_PER_LINE).enumerate() {
        let hex: String = part.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(out, "{:06x}  {hex}", line * BYTES_PER_LINE)?;
    }
    if bytes.len() > SHOWN_BYTES {
        writeln!(out, "… {} more: --raw FILE writes all", bytes.len() - SHOWN_BYTES)?;
    }
    Ok(())
}
