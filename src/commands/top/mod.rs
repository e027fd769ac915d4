//! `isotick top`: a running service on a terminal, every second.

mod frame;
mod model;
mod screen;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use isotick_client::{Options, StatusMonitor};
use tokio::sync::mpsc;

use self::frame::{Heading, Size, frame};
use self::model::Model;
use self::screen::{Pressed, Screen};
use crate::cli::TopArgs;

/// Between two looks at the service.
const EVERY: Duration = Duration::from_secs(1);
/// How long an answer may take before the connection counts as lost.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Where nothing is known of the terminal.
const WIDTH: usize = 132;

pub fn run(args: TopArgs) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let options = args.service.connect.options()?;
    match args.once || !std::io::stdout().is_terminal() {
        true => runtime.block_on(once(&args.service.at, &options))?,
        false => runtime.block_on(watch(&args.service.at, options))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints one frame as text, everything of it.
async fn once(address: &str, options: &Options) -> Result<()> {
    let status = isotick_client::status(address, options).await?;
    let model = parse(&status)?;
    let size = Size { width: WIDTH, height: usize::MAX };
    let heading = Heading { address, lost: None };
    let mut out = std::io::stdout().lock();
    for line in frame(&heading, Some(&model), size) {
        writeln!(out, "{}", line.text())?;
    }
    Ok(())
}

fn parse(status: &str) -> Result<Model> {
    let status = serde_json::from_str(status).context("the service's status is no JSON")?;
    Ok(Model::of(&status, crate::service::now_ns()))
}

/// What is known of the service.
#[derive(Default)]
struct Known {
    model: Option<Model>,
    /// When it was told.
    told: Option<Instant>,
    lost: Option<String>,
}

impl Known {
    fn take(&mut self, news: Result<Model>) {
        match news {
            Ok(model) => {
                let now = Instant::now();
                let model = match (&self.model, self.told) {
                    (Some(before), Some(told)) => {
                        model.since(before, now.saturating_duration_since(told).as_secs_f64())
                    }
                    _ => model,
                };
                (self.model, self.told, self.lost) = (Some(model), Some(now), None);
            }
            Err(error) => self.lost = Some(format!("{error:#}")),
        }
    }
}

/// Draws until somebody wants no more.
async fn watch(address: &str, options: Options) -> Result<()> {
    let options = Options { timeout: ANSWER_WITHIN, ..options };
    // Before the screen is taken: what cannot be mended by waiting is told on the plain terminal.
    let mut first = StatusMonitor::connect(address, &options).await?;
    let mut known = Known::default();
    let status = first.next().await?;
    known.take(parse(&status));
    let mut screen = Screen::open()?;
    let (told, mut news) = mpsc::channel(1);
    let asking = tokio::spawn(ask(Some(first), address.to_owned(), options, told));
    let drawn = draw(&mut screen, &mut known, &mut news, address).await;
    asking.abort();
    drop(screen);
    drawn
}

async fn draw(
    screen: &mut Screen,
    known: &mut Known,
    news: &mut mpsc::Receiver<Result<Model>>,
    address: &str,
) -> Result<()> {
    loop {
        let heading = Heading { address, lost: known.lost.as_deref() };
        screen.draw(&frame(&heading, known.model.as_ref(), screen.size()?))?;
        tokio::select! {
            told = news.recv() => match told {
                Some(told) => known.take(told),
                None => return Ok(()),
            },
            pressed = screen.pressed() => match pressed {
                Pressed::Quit => return Ok(()),
                Pressed::Resized => {}
            },
        }
    }
}

/// Asks every second, on one connection as long as it lasts.
async fn ask(
    mut monitor: Option<StatusMonitor>,
    address: String,
    options: Options,
    told: mpsc::Sender<Result<Model>>,
) {
    loop {
        tokio::time::sleep(EVERY).await;
        let status = async {
            let mut session = match monitor.take() {
                Some(session) => session,
                None => StatusMonitor::connect(&address, &options).await?,
            };
            let status = session.next().await?;
            monitor = Some(session);
            parse(&status)
        };
        let status = status.await;
        if told.send(status).await.is_err() {
            return;
        }
    }
}
