//! `isotick publish`: files to a running service, from where it stands.

use std::process::ExitCode;

use anyhow::{Error, Result, anyhow, bail};
use indicatif::ProgressBar;
use isotick_client::{Ack, ClientError};
use isotick_wire::Code;
use serde_json::{Value, json};

use crate::cli::PublishArgs;
use crate::files::{self, Rejections};
use crate::leaving;
use crate::memory::use_ordinary_pages;
use crate::pace::Pacer;
use crate::progress;
use crate::publishing::{Publishing, Standing, Watch};
use crate::service::rejections_json;

pub fn run(args: PublishArgs) -> Result<ExitCode> {
    use_ordinary_pages();
    let publisher = args.publisher.as_deref().map(files::publisher).transpose()?;
    if publisher.is_some() && args.files.len() > 1 {
        bail!(
            "--publisher names one file's ticks: publish several files one by one, or let their content name them"
        );
    }
    let publishing = Publishing {
        files: args.files.clone(),
        stream: args.stream.clone(),
        address: args.to.clone(),
        options: args.connect.options()?,
        publisher,
        order: args.order,
        pacer: Pacer::new(args.rate, args.speed),
        ack: args.ack,
        reconnect: !args.no_reconnect,
        lossy: args.datagrams,
        fields: args.fields.clone(),
        rows_max: u64::MAX,
    };
    let mut shown = Shown(progress::bar("publishing", None, "rows"), Vec::new());
    let (mut standings, rejections) = (Vec::new(), Rejections::default());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let outcome = runtime.block_on(async {
        let run = publishing.run(&mut standings, &rejections, &mut shown);
        let outcome = leaving::until_told(run).await;
        if !matches!(outcome, Ok(Ok(()))) {
            leaving::say_goodbye().await;
        }
        outcome
    });
    shown.0.finish_and_clear();
    rejections.report();
    for (path, standing) in args.files.iter().zip(&standings) {
        if standing.resumed_at > 0 {
            eprintln!(
                "{}: the service held {} rows of this publisher already; they were not sent again",
                path.display(),
                standing.resumed_at
            );
        }
    }
    if args.json {
        println!("{}", report(&args, &standings));
    }
    let code = match outcome {
        Ok(outcome) => {
            outcome.map_err(|error| with_name_hint(error, &args))?;
            ExitCode::SUCCESS
        }
        Err(code) => {
            eprintln!("interrupted: the same command goes on where the service then stands");
            ExitCode::from(code)
        }
    };
    if !args.json {
        for (path, standing) in args.files.iter().zip(&standings) {
            let ack = &standing.ack;
            let reasons: Vec<_> =
                ack.rejected.iter().map(|(reason, rows)| format!("{rows} {reason}")).collect();
            eprintln!(
                "{}: {} rows sent; {} accepted, {} late, {} duplicate, {} conflicting, \
                 rejected: {}{}; durable through {}",
                path.display(),
                standing.sent,
                ack.accepted,
                ack.late,
                ack.duplicate,
                ack.conflicting,
                if reasons.is_empty() { "none".to_owned() } else { reasons.join(", ") },
                lost(ack),
                ack.durable_through
            );
        }
    }
    Ok(code)
}

/// A token may be for publishers of some names only, and who gives none publishes under a hash.
fn with_name_hint(error: Error, args: &PublishArgs) -> Error {
    match error.downcast_ref() {
        Some(ClientError::Refused(refusal))
            if refusal.code == Code::Forbidden && args.publisher.is_none() =>
        {
            anyhow!(
                "{error:#} (without --publisher NAME ticks come under their content's hash, and a \
                 token may be for some names only)"
            )
        }
        _ => error,
    }
}

/// What did not arrive, where something did not.
fn lost(ack: &Ack) -> String {
    match (ack.lost, ack.missing) {
        (0, 0) => String::new(),
        (lost, 0) => format!("; {lost} lost on the way"),
        (lost, missing) => format!("; {lost} lost on the way, {missing} missing"),
    }
}

/// Counts of ticks from the start of the files, summed; each file apart below `files`.
fn report(args: &PublishArgs, standings: &[Standing]) -> Value {
    let counts = |standings: &[Standing]| {
        let sum = |count: fn(&Standing) -> u64| standings.iter().map(count).sum::<u64>();
        json!({
            "sent": sum(|s| s.sent.max(s.ack.received_through)),
            "resumed_at": sum(|s| s.resumed_at),
            "received_through": sum(|s| s.ack.received_through),
            "written_through": sum(|s| s.ack.written_through),
            "durable_through": sum(|s| s.ack.durable_through),
            "accepted": sum(|s| s.ack.accepted),
            "late": sum(|s| s.ack.late),
            "duplicate": sum(|s| s.ack.duplicate),
            "conflicting": sum(|s| s.ack.conflicting),
            "lost": sum(|s| s.ack.lost),
            "missing": sum(|s| s.ack.missing),
            "rejected": rejections_json(&isotick_ingest::sequencer::total_rejections(
                standings.iter().map(|s| &s.ack),
            )),
        })
    };
    let mut report = counts(standings);
    if args.files.len() > 1 {
        let files = args.files.iter().zip(standings).map(|(path, standing)| {
            let mut file = counts(std::slice::from_ref(standing));
            file["file"] = path.display().to_string().into();
            file
        });
        report["files"] = files.collect();
    }
    report
}

/// A progress bar; each notice is shown once.
struct Shown(ProgressBar, Vec<String>);

impl Watch for Shown {
    fn sent(&mut self, rows: usize, _: Option<i64>) {
        self.0.inc(rows as u64);
    }

    fn notice(&mut self, text: &str) {
        if !self.1.iter().any(|shown| shown == text) {
            self.0.suspend(|| eprintln!("{text}"));
            self.1.push(text.to_owned());
        }
    }
}
