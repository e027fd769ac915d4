//! `isotick tail`: a view's windows as they are published.

use std::io::{BufWriter, Write};
use std::process::ExitCode;

use anyhow::Result;
use isotick_client::{ClientError, Policy, Reconnect, ResumingSubscriber, Subscribe};
use tokio::time::timeout;

use crate::cli::{PolicyChoice, TailArgs, TailFormat};
use crate::memory::use_ordinary_pages;
use crate::output::{RowWriter, TextFormat};

pub fn run(args: TailArgs) -> Result<ExitCode> {
    use_ordinary_pages();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(follow(args))
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
    let format = match args.format {
        TailFormat::Table => TextFormat::Table,
        TailFormat::Csv => TextFormat::Csv,
        TailFormat::Json => TextFormat::Json,
    };
    let out = BufWriter::new(std::io::stdout());
    let mut writer = RowWriter::new(out, format, args.time, subscriber.schema().clone(), true);
    // The header at once, so that whoever reads a pipe knows the columns before the first window.
    if format == TextFormat::Csv {
        writer.write(&[])?;
        writer.flush()?;
    }
    loop {
        let received = match args.until_idle {
            None => subscriber.next().await,
            Some(idle) => match timeout(idle.to_std(), subscriber.next()).await {
                Ok(received) => received,
                Err(_) => break,
            },
        };
        let batch = match received {
            Ok(batch) => batch,
            Err(error @ ClientError::CursorGone { .. }) => return Err(error.into()),
            Err(error) => {
                let text = format!("{error}; go on with `--from-cursor {}`", subscriber.cursor());
                return Err(anyhow::Error::new(error).context(text));
            }
        };
        let rows: Vec<_> = batch.windows.into_iter().map(|window| window.row).collect();
        writer.write(&rows)?;
        writer.flush()?;
    }
    writer.finish()?.flush()?;
    Ok(ExitCode::SUCCESS)
}
