//! `isotick tail`: a view's windows as they are published.

use std::io::{BufWriter, Write};
use std::process::ExitCode;

use anyhow::Result;
use isotick_client::Subscriber;

use crate::cli::{TailArgs, TailFormat};
use crate::output::{RowWriter, TextFormat};

pub fn run(args: TailArgs) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(follow(args))
}

async fn follow(args: TailArgs) -> Result<ExitCode> {
    let options = args.service.connect.options()?;
    let mut subscriber =
        Subscriber::connect(&args.service.at, args.view.as_str(), &options).await?;
    if let Some(notice) = subscriber.peer().notice() {
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
        let next = subscriber.next();
        let batch = match args.until_idle {
            None => next.await?,
            Some(idle) => match tokio::time::timeout(idle.to_std(), next).await {
                Ok(batch) => batch?,
                Err(_) => break,
            },
        };
        let rows: Vec<_> = batch.windows.into_iter().map(|window| window.row).collect();
        writer.write(&rows)?;
        writer.flush()?;
    }
    writer.finish()?.flush()?;
    Ok(ExitCode::SUCCESS)
}
