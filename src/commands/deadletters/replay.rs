//! Rows of dead letters, published again.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use anyhow::{Context, Result};
use isotick_client::{Options, Publisher};
use isotick_ingest::Sequencer;
use isotick_model::definitions::Definitions;
use isotick_model::{LogPosition, PublisherId, RejectReason, Rejected, Ticks};
use isotick_storage::DataFolder;
use isotick_storage::deadletters::{Content, Letter};
use isotick_wire::Ack;
use serde_json::{Value, json};

use super::{counts_json, each_letter, open, remembered, ticks_of};
use crate::cli::{LettersArgs, LettersReplayArgs};
use crate::definitions;
use crate::service::now_ns;

/// What a publisher's rows come again under.
const SUFFIX: &str = "/replayed";

/// What became of one publisher's letters.
#[derive(Default)]
struct Outcome {
    letters: u64,
    /// Rows that the definition lets in now.
    sent: u64,
    /// Rows that it would still reject.
    kept_back: BTreeMap<RejectReason, usize>,
    undecodable: u64,
    accepted: u64,
    duplicate: u64,
    rejected: u64,
}

pub fn run(args: LettersReplayArgs) -> Result<ExitCode> {
    let folder = open(&args.letters)?;
    let mut lanes = BTreeSet::new();
    each_letter(
        &folder,
        |letter| args.letters.wants(letter),
        |_, letter| {
            lanes.insert((letter.stream, letter.publisher));
            Ok(())
        },
    )?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut outcomes = Vec::new();
    for (stream, publisher) in lanes {
        let outcome = match args.dry_run {
            true => {
                let definitions = remembered(&folder)?;
                let mut sieve = Sieve::new(&definitions, &stream, &publisher)?;
                let mut outcome = Outcome::default();
                let lane = (&*stream, &*publisher);
                each_of(&folder, &args.letters, lane, |letter| {
                    sieve.pass(&letter, args.letters.reason, &mut outcome);
                    Ok(())
                })?;
                outcome
            }
            false => runtime.block_on(send(&args, &folder, &stream, &publisher))?,
        };
        outcomes.push((stream, publisher, outcome));
    }
    report(&args, &outcomes);
    let rejected = outcomes.iter().any(|(.., outcome)| outcome.rejected > 0);
    Ok(if rejected { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn each_of(
    folder: &DataFolder,
    args: &LettersArgs,
    (stream, publisher): (&str, &str),
    mut each: impl FnMut(Letter) -> Result<()>,
) -> Result<()> {
    let wants = |letter: &Letter| {
        letter.stream == stream && letter.publisher == publisher && args.wants(letter)
    };
    each_letter(folder, wants, |_, letter| each(letter))
}

async fn send(
    args: &LettersReplayArgs,
    folder: &DataFolder,
    stream: &str,
    publisher: &str,
) -> Result<Outcome> {
    let again = PublisherId::new(&format!("{publisher}{SUFFIX}"))
        .with_context(|| format!("`{publisher}{SUFFIX}` is too long for a publisher's name"))?;
    let options: Options = args.service.connect.options()?;
    let (mut sender, hello) =
        Publisher::connect(&args.service.at, stream, &again, &options).await?;
    let definitions = definitions::parse_remembered(&hello.definitions)?;
    let mut sieve = Sieve::new(&definitions, stream, publisher)?;
    let mut outcome = Outcome::default();
    // Letters are read between awaits: one at a time is in memory.
    let mut letters = Vec::new();
    each_of(folder, &args.letters, (stream, publisher), |letter| {
        letters.push(letter);
        Ok(())
    })?;
    for letter in letters {
        if let Some(mut ticks) = sieve.pass(&letter, args.letters.reason, &mut outcome) {
            ticks.publishers = vec![again.clone()];
            sender.send(&ticks, &[]).await?;
        }
    }
    let before = hello.ack;
    let after = sender.finish().await?;
    let gained = |count: fn(&Ack) -> u64| count(&after).saturating_sub(count(&before));
    outcome.accepted = gained(|ack| ack.accepted);
    outcome.duplicate = gained(|ack| ack.duplicate + ack.conflicting);
    outcome.rejected = gained(|ack| ack.rejected.total());
    Ok(outcome)
}

/// Lets through what a definition accepts now: the edge's own checks, over rows of one publisher.
struct Sieve<'a> {
    definitions: &'a Definitions,
    stream: String,
    publisher: PublisherId,
}

impl<'a> Sieve<'a> {
    fn new(definitions: &'a Definitions, stream: &str, publisher: &str) -> Result<Self> {
        definitions.stream(stream)?;
        let publisher = PublisherId::new(publisher).context("a letter names no publisher")?;
        Ok(Self { definitions, stream: stream.to_owned(), publisher })
    }

    /// The rows of a letter that are asked for and would be accepted.
    fn pass(
        &mut self,
        letter: &Letter,
        wanted: Option<RejectReason>,
        outcome: &mut Outcome,
    ) -> Option<Ticks> {
        outcome.letters += 1;
        let schema = self.definitions.stream(&self.stream).expect("it was there before");
        let Some(mut ticks) = ticks_of(letter, schema) else {
            outcome.undecodable += 1;
            return None;
        };
        if let (Some(wanted), Content::Rows { reasons, .. }) = (wanted, &letter.content) {
            let is = |(_, reason): &(u32, &RejectReason)| **reason == wanted;
            let rows: Vec<_> = (0u32..).zip(reasons).filter(is).map(|(row, _)| row).collect();
            ticks = ticks.take(&rows);
        }
        // A sequencer of its own for each letter: letters may repeat each other, and only this
        // one's rows are to be judged.
        let mut sequencer = Sequencer::default();
        let views = self.definitions.views_of(&self.stream);
        sequencer.declare(schema.clone(), &views.map(|view| view.window).collect::<Vec<_>>());
        let slot = sequencer.slot(&self.stream, &self.publisher).expect("the stream is declared");
        // From 0 on, so that any sequence is near.
        let numbered = (0..ticks.len() as u64).collect();
        let sequence = std::mem::replace(&mut ticks.sequence, numbered);
        let judged = sequencer
            .accept(slot, ticks, Vec::new(), now_ns(), LogPosition(0))
            .expect("sequences without gaps are always taken");
        for Rejected { reason, .. } in &judged.rejected {
            *outcome.kept_back.entry(*reason).or_default() += 1;
        }
        let mut passed = judged.ticks;
        passed.sequence = passed.sequence.iter().map(|&row| sequence[row as usize]).collect();
        passed.seen = None;
        outcome.sent += passed.len() as u64;
        (!passed.is_empty()).then_some(passed)
    }
}

fn report(args: &LettersReplayArgs, outcomes: &[(String, String, Outcome)]) {
    if args.json {
        let lanes: Vec<Value> = outcomes
            .iter()
            .map(|(stream, publisher, outcome)| {
                json!({
                    "stream": stream,
                    "publisher": publisher,
                    "letters": outcome.letters,
                    "sent": outcome.sent,
                    "kept_back": counts_json(outcome.kept_back.clone()),
                    "undecodable": outcome.undecodable,
                    "accepted": outcome.accepted,
                    "duplicate": outcome.duplicate,
                    "rejected": outcome.rejected,
                })
            })
            .collect();
        println!("{}", json!({ "dry_run": args.dry_run, "publishers": lanes }));
        return;
    }
    if outcomes.is_empty() {
        println!("no letter matches");
    }
    for (stream, publisher, outcome) in outcomes {
        let rows = outcome.sent;
        print!("{stream}, {publisher}: {} letters, ", outcome.letters);
        match args.dry_run {
            true => print!("{rows} rows would be published as {publisher}{SUFFIX}"),
            false => print!(
                "{rows} rows published as {publisher}{SUFFIX}: {} accepted, {} there already, {} \
                 rejected",
                outcome.accepted, outcome.duplicate, outcome.rejected
            ),
        }
        for (reason, rows) in &outcome.kept_back {
            print!("; {rows} still {reason}");
        }
        if outcome.undecodable > 0 {
            print!("; {} letters cannot be decoded", outcome.undecodable);
        }
        println!();
    }
}
