//! `isotick tail`: a view's windows as they are published.

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use isotick_client::{
    ClientError, Policy, PublishedWindow, Reconnect, ResumingSubscriber, Subscribe,
};
use isotick_model::results::ResultSchema;
use isotick_wire::arrow::WindowStream;
use tokio::time::timeout;

use crate::cli::{PolicyChoice, TailArgs, TailFormat};
use crate::leaving;
use crate::memory::use_ordinary_pages;
use crate::output::{RowWriter, TextFormat};

pub fn run(args: TailArgs) -> Result<ExitCode> {
    if args.format == TailFormat::Arrow && args.output.is_none() && std::io::stdout().is_terminal()
    {
        bail!(
            "`--format arrow` writes bytes that a terminal cannot show: pipe them into the program \
             that reads them, or name a file with `-o`"
        );
    }
    use_ordinary_pages();
    // The connection has a thread of its own: it lives on while whoever reads the output does not.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let followed = follow(args).await;
        leaving::say_goodbye().await;
        followed
    })
}

async fn follow(args: TailArgs) -> Result<ExitCode> {
    let options = args.service.connect.options()?;
    let what = Subscribe {
        policy: match args.policy {
            PolicyChoice::Disconnect => Policy::Disconnect,
            PolicyChoice::Conflate => Policy::Conflate,
            PolicyChoice::Block => Policy::Block,
        },
        cursor: args.from_cursor,
        ..Subscribe::new(&args.view)
    };
    let reconnect = match args.resume {
        true => Reconnect::default().with_notice(|error, wait| {
            eprintln!("{error}; trying again in {} ms", wait.as_millis());
        }),
        false => Reconnect::never(),
    };
    let mut subscriber =
        ResumingSubscriber::connect(&args.service.at, what, &options, reconnect).await?;
    if let Some(notice) = subscriber.peer().and_then(|peer| peer.notice()) {
        eprintln!("{notice}");
    }
    let mut sink = Sink::new(&args, subscriber.schema())?;
    let mut code = ExitCode::SUCCESS;
    let told = leaving::told_to_end();
    tokio::pin!(told);
    loop {
        let next = async {
            match args.until_idle {
                None => Some(subscriber.next().await),
                Some(idle) => timeout(idle.to_std(), subscriber.next()).await.ok(),
            }
        };
        let received = tokio::select! {
            received = next => received,
            told = &mut told => {
                code = ExitCode::from(told);
                None
            }
        };
        let Some(received) = received else { break };
        let batch = match received {
            Ok(batch) => batch,
            Err(error @ ClientError::CursorGone { .. }) => return Err(error.into()),
            Err(error) => {
                let text = format!("{error}; go on with `--from-cursor {}`", subscriber.cursor());
                return Err(anyhow::Error::new(error).context(text));
            }
        };
        sink.write(batch.windows)?;
    }
    sink.finish()?;
    Ok(code)
}

type Out = BufWriter<Box<dyn Write>>;

/// Where windows go, and as what. What was written is whole and visible after each batch.
enum Sink {
    Text(RowWriter<Out>),
    Arrow(Box<WindowStream>, Out),
}

impl Sink {
    /// Whoever reads it knows the columns before the first window, but for tables, which wait for
    /// the widths.
    fn new(args: &TailArgs, schema: &ResultSchema) -> Result<Self> {
        let mut out = out(args.output.as_deref())?;
        let text = |out, format| RowWriter::new(out, format, args.time, schema.clone(), true);
        Ok(match args.format {
            TailFormat::Table => Self::Text(text(out, TextFormat::Table)),
            TailFormat::Json => Self::Text(text(out, TextFormat::Json)),
            TailFormat::Csv => {
                let mut writer = text(out, TextFormat::Csv);
                writer.write(&[])?;
                writer.flush()?;
                Self::Text(writer)
            }
            TailFormat::Arrow => {
                let mut stream = WindowStream::new(schema.clone());
                out.write_all(&stream.take())?;
                out.flush()?;
                Self::Arrow(Box::new(stream), out)
            }
        })
    }

    fn write(&mut self, windows: Vec<PublishedWindow>) -> Result<()> {
        match self {
            Self::Text(writer) => {
                let rows: Vec<_> = windows.into_iter().map(|window| window.row).collect();
                writer.write(&rows)?;
                writer.flush()?;
            }
            Self::Arrow(stream, out) => {
                stream.write(&windows)?;
                out.write_all(&stream.take())?;
                out.flush()?;
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<()> {
        match self {
            Self::Text(writer) => writer.finish()?.flush()?,
            Self::Arrow(mut stream, mut out) => {
                stream.finish();
                out.write_all(&stream.take())?;
                out.flush()?;
            }
        }
        Ok(())
    }
}

fn out(path: Option<&Path>) -> Result<Out> {
    let out: Box<dyn Write> = match path {
        None => Box::new(std::io::stdout()),
        Some(path) => {
            let file = File::create(path);
            Box::new(file.with_context(|| format!("cannot write {}", path.display()))?)
        }
    };
    Ok(BufWriter::new(out))
}
