//! `isotick jobs`: scans that a running service makes.

mod follow;
mod result;
pub mod show;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use isotick_client::jobs::{Engine, Priority, Truth};
use isotick_client::{FetchResult, Format, JobStatus, Jobs, Options, Reconnect, SubmitJob};
use isotick_model::definitions::Definitions;
use serde_json::json;

use self::follow::{Follower, Lines, until_interrupted};
use super::scan::output::Target;
use crate::cli::{
    ConnectArgs, EngineChoice, JobArgs, JobFetchArgs, JobListArgs, JobSubmitArgs, JobWatchArgs,
    JobsCommand, JobsCommandArgs, SelectionArgs, ServiceArgs, TruthChoice,
};
use crate::input::parse_key;

/// What a shell expects of a command that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

pub fn run(args: JobsCommandArgs) -> Result<ExitCode> {
    match args.command {
        JobsCommand::Submit(args) => submit(*args),
        JobsCommand::List(args) => list(args),
        JobsCommand::Show(args) => {
            one(args, async |jobs, id| jobs.show(&id).await, |job| print!("{}", show::whole(job)))
        }
        JobsCommand::Watch(args) => watch(args),
        JobsCommand::Cancel(args) => {
            let say = |job: &JobStatus| match job.state.is_over() {
                true => println!("job {} is {}", job.id, job.state.name()),
                // Others want it too.
                false => println!("job {} is no longer yours; it goes on for others", job.id),
            };
            one(args, async |jobs, id| jobs.cancel(&id).await, say)
        }
        JobsCommand::Retry(args) => {
            let say = |job: &JobStatus| println!("job {} is {}", job.id, show::standing(job));
            one(args, async |jobs, id| jobs.retry(&id).await, say)
        }
        JobsCommand::Fetch(args) => fetch(*args),
    }
}

/// Submits and says how to go on.
pub fn submit(args: JobSubmitArgs) -> Result<ExitCode> {
    let (at, json) = (args.at.clone(), args.json);
    let job = runtime()?.block_on(async {
        let (jobs, what) = prepare(args).await?;
        anyhow::Ok(jobs.submit(&what).await?)
    })?;
    match json {
        true => println!("{}", job.json()),
        false => println!("{}", job.id),
    }
    eprintln!("{}", show::standing(&job));
    eprintln!("{}", how_to_go_on(&job, &at));
    Ok(ExitCode::SUCCESS)
}

/// Submits, waits, and writes the windows.
pub fn scan(
    args: JobSubmitArgs,
    target: &Target<'_>,
    stats: bool,
    started: Instant,
) -> Result<ExitCode> {
    let at = args.at.clone();
    let follower = Follower::new(&args.views.join(", "));
    let work = async {
        let (jobs, what) = prepare(args).await?;
        let job = jobs.run(&what, patiently(), |job| follower.tell(job)).await?;
        follower.end();
        let job = match target.is_nowhere() {
            true => job,
            false => {
                let fetch = FetchResult { id: job.id, partial: false, format: Format::Windows };
                result::receive(jobs.fetch_through(fetch, patiently()).await?, target).await?
            }
        };
        result::report(&job, target, stats, Some(started.elapsed()));
        anyhow::Ok(())
    };
    let done = runtime()?.block_on(until_interrupted(work));
    follower.end();
    match done {
        Some(done) => done.map(|()| ExitCode::SUCCESS),
        None => {
            match follower.last() {
                Some(job) => eprintln!("the job goes on\n{}", how_to_go_on(&job, &at)),
                None => eprintln!("interrupted before the service answered"),
            }
            Ok(ExitCode::from(INTERRUPTED))
        }
    }
}

fn list(args: JobListArgs) -> Result<ExitCode> {
    let jobs = runtime()?.block_on(async { anyhow::Ok(reach(&args.service)?.list().await?) })?;
    if args.json {
        let jobs = jobs.iter().map(|job| serde_json::from_str::<serde_json::Value>(job.json()));
        println!("{}", json!({ "jobs": jobs.collect::<Result<Vec<_>, _>>()? }));
    } else if jobs.is_empty() {
        eprintln!("there are no jobs; `isotick jobs submit VIEW` makes one");
    } else {
        print!("{}", show::table(&jobs));
    }
    Ok(ExitCode::SUCCESS)
}

fn one(
    args: JobArgs,
    ask: impl AsyncFnOnce(Jobs, isotick_client::JobId) -> Result<JobStatus, isotick_client::ClientError>,
    print: impl FnOnce(&JobStatus),
) -> Result<ExitCode> {
    let jobs = reach(&args.service)?;
    let job = runtime()?.block_on(ask(jobs, args.id))?;
    match args.json {
        true => println!("{}", job.json()),
        false => print(&job),
    }
    Ok(ExitCode::SUCCESS)
}

fn watch(args: JobWatchArgs) -> Result<ExitCode> {
    let jobs = reach(&args.service)?;
    let lines = Lines::new(args.json, &args.id);
    let work = jobs.wait(&args.id, patiently(), |job| lines.tell(job));
    let done = runtime()?.block_on(until_interrupted(work));
    lines.end();
    match done {
        Some(done) => {
            let job = done?;
            if !args.json {
                println!("{}", show::outcome(&job));
            }
            Ok(ExitCode::SUCCESS)
        }
        None => Ok(ExitCode::from(INTERRUPTED)),
    }
}

fn fetch(args: JobFetchArgs) -> Result<ExitCode> {
    let jobs = reach(&args.service)?;
    let work = async {
        let what =
            FetchResult { id: args.id.clone(), partial: args.partial, format: Format::Windows };
        let result = jobs.fetch_through(what, patiently()).await?;
        let views = result.job().views.len();
        let target = Target::of(&args.output, views)?;
        if args.partial && views > 1 && args.output.output.is_none() {
            bail!(
                "--partial mixes windows of several views: name a file for each, -o '{{view}}.csv'"
            );
        }
        let job = match (args.partial, target.is_nowhere()) {
            (true, _) => result::receive_partial(result, &target).await?,
            // Its end is waited for, and what comes is not looked at.
            (false, true) => {
                drop(result);
                jobs.wait(&args.id, patiently(), |_| ()).await?
            }
            (false, false) => result::receive(result, &target).await?,
        };
        result::report(&job, &target, args.output.stats, None);
        anyhow::Ok(ExitCode::SUCCESS)
    };
    runtime()?.block_on(work)
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

fn reach(service: &ServiceArgs) -> Result<Jobs> {
    Ok(Jobs::at(&service.at, &service.connect.options()?))
}

/// A job goes on while the service is away: so does the waiting.
fn patiently() -> Reconnect {
    Reconnect {
        give_up_after: Some(std::time::Duration::from_secs(60)),
        ..Reconnect::default().with_notice(|error, wait| {
            eprintln!("{error}; trying again in {} ms", wait.as_millis());
        })
    }
}

fn how_to_go_on(job: &JobStatus, at: &str) -> String {
    let id = &job.id;
    format!(
        "  isotick jobs watch {id} --at {at}    follows it\n  \
         isotick jobs fetch {id} --at {at}    waits for its windows\n  \
         isotick jobs cancel {id} --at {at}   ends it"
    )
}

/// What is asked for, as the service is asked.
async fn prepare(args: JobSubmitArgs) -> Result<(Jobs, SubmitJob)> {
    let SelectionArgs { range, key, truth } = args.selection;
    let (from_ns, to_ns) = range.bounds_ns()?;
    let options = ConnectArgs::from(args.connect).options()?;
    let keys = match key.is_empty() {
        true => Vec::new(),
        false => {
            let columns = key_columns(&args.views, &args.at, &options).await?;
            key.iter().map(|key| parse_key(key, columns)).collect::<Result<_>>()?
        }
    };
    let what = SubmitJob {
        from_ns,
        to_ns,
        keys,
        truth: match truth {
            TruthChoice::Now => Truth::Now,
            TruthChoice::Seen => Truth::Seen,
            TruthChoice::Late => Truth::Late,
        },
        engine: match args.engine {
            EngineChoice::Auto => Engine::Auto,
            EngineChoice::Cpu => Engine::Cpu,
            EngineChoice::Gpu => Engine::Gpu,
        },
        no_rollup: args.no_rollup,
        priority: Priority::new(args.priority).unwrap_or_default(),
        ..SubmitJob::new(args.views)
    };
    Ok((Jobs::at(args.at, &options), what))
}

/// How many columns the key of the views' stream has, as the service defines it.
async fn key_columns(views: &[String], at: &str, options: &Options) -> Result<usize> {
    let text = isotick_client::definitions(at, options).await?;
    let definitions = Definitions::parse(&text, "the service's definitions")?;
    let view = definitions.view(views.first().context("which view to scan?")?)?;
    Ok(definitions.stream(&view.stream)?.keys.len())
}
