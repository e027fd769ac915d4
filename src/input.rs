//! What a scan is over, as `scan` and `explain` are told.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail};
use isotick_model::view::View;
use isotick_model::{Key, PublisherId, StreamSchema, time};
use isotick_scheduler::{Part, Read, Scan, ScanView};
use isotick_storage::source::{Needed, Source};
use isotick_storage::{Snapshot, fsck};

use crate::cli::{InputArgs, SelectionArgs, TruthChoice};
use crate::files::{self, Rejections};
use crate::rollups::Stored;
use crate::scanning::StatesRead;
use crate::service::now_ns;
use crate::{definitions, progress, scanning};

/// A scan and what it reads.
pub struct Input {
    /// What is scanned for.
    pub scan: Scan,
    /// What is read, in pieces.
    pub parts: Vec<Part>,
    /// Rows in them at most, where the input says so.
    pub rows: Option<u64>,
    /// Stored bytes of what is read, where the input says so.
    pub bytes: Option<u64>,
    /// Files that are opened.
    pub files: usize,
    /// Stored states that are read in place of ticks, by what they are of.
    pub states: Vec<StatesRead>,
    /// What is rejected while files are read.
    pub rejections: Arc<Rejections>,
}

impl Input {
    /// Opens the data folder or the files, and plans their reading by so many threads.
    pub fn open(views: &[String], args: &InputArgs, threads: usize) -> Result<Self> {
        if args.data.is_none() && args.file.is_empty() {
            bail!(
                "what to scan? Name a data folder with --data DIR, files with --file FILE…, or a \
                 running service with --at ADDR"
            );
        }
        let SelectionArgs { range, key, truth } = &args.selection;
        if args.data.is_none() && *truth != TruthChoice::Now {
            bail!(
                "--truth seen and late ask what the live path knew; files scanned in place never \
                 passed it: use --data DIR"
            );
        }
        let (from_ns, to_ns) = range.bounds_ns()?;
        let snapshot = args.data.as_deref().map(Snapshot::open).transpose()?;
        let definitions = match &snapshot {
            Some(snapshot) => {
                let remembered = snapshot.folder().definitions()?;
                match remembered {
                    Some(text) => definitions::for_reading(&args.definitions, &text, views)?,
                    None => definitions::from_file(&args.definitions)?,
                }
            }
            None => definitions::from_file(&args.definitions)?,
        };
        let views =
            views.iter().map(|name| definitions.view(name)).collect::<Result<Vec<_>, _>>()?;
        let Some(first) = views.first() else { bail!("which view to scan?") };
        if let Some(other) = views.iter().find(|view| view.stream != first.stream) {
            bail!(
                "{} is a view of stream {} and {} of {}: one scan reads one stream, so scan them \
                 apart",
                first.name,
                first.stream,
                other.name,
                other.stream
            );
        }
        let schema = definitions.stream(&first.stream)?;
        let of_view = |view: &&View| ScanView {
            view: Arc::new((*view).clone()),
            truth: scanning::truth(*truth, view),
        };
        let scan = Scan {
            views: views.iter().map(of_view).collect(),
            schema: Arc::new(schema.clone()),
            from_ns,
            to_ns,
            keys: key.iter().map(|key| parse_key(key, schema.keys.len())).collect::<Result<_>>()?,
        };
        let rejections = Arc::new(Rejections::default());
        let mut input = Self {
            scan,
            parts: Vec::new(),
            rows: Some(0),
            bytes: Some(0),
            files: 0,
            states: Vec::new(),
            rejections,
        };
        let scan = &input.scan;
        match &snapshot {
            Some(snapshot) => {
                let whole;
                let snapshot = match args.skip_damaged {
                    true => {
                        whole = without_damaged(snapshot, schema)?;
                        &whole
                    }
                    false => snapshot,
                };
                let stored = match args.no_rollup || args.skip_damaged {
                    true => Stored::Ticks,
                    false => Stored::States,
                };
                let folder = scanning::folder_parts(snapshot, scan, stored, true)?;
                if let Some(before) = folder.dropped_before {
                    eprintln!(
                        "note: ticks of {} before {} were dropped from this folder: windows that \
                         start earlier are gone, or hold a part of their ticks; --from leaves \
                         them out",
                        scan.schema.name,
                        time::format_rfc3339(before)
                    );
                }
                input.rows = Some(folder.rows);
                input.states = folder.states;
                input.bytes = Some(folder.bytes);
                input.files = folder.files;
                input.parts = folder.parts;
            }
            None => {
                let now_ns = now_ns();
                // Of few files each is cut for several threads: some are larger than others.
                let threads_each = match args.file.len() {
                    few if few < 2 * threads => threads.div_ceil(few).max(2).min(threads),
                    _ => 1,
                };
                let mut publishers: Vec<(PublisherId, &PathBuf)> = Vec::new();
                // Publishers decide only between files, and one file needs no hash of its content.
                let alone = (args.file.len() == 1).then(|| files::publisher("file")).transpose()?;
                for path in &args.file {
                    // A file's publisher is its content's hash: the same content is the same ticks.
                    let needed = Needed {
                        keys: scan.key_selection(),
                        identity: scanning::identity(scan),
                        one_window: scanning::one_window(scan),
                        latest_ns: files::latest(schema, now_ns),
                    };
                    let (fields, publisher) = (&args.fields, alone.as_ref());
                    if args.skip_damaged {
                        let open =
                            || files::open(path, fields, &definitions, schema, publisher, None);
                        if let Err(error) = open().and_then(|source| read_whole(path, source, scan))
                        {
                            eprintln!("left out: {error:#}");
                            continue;
                        }
                    }
                    let source =
                        files::open(path, fields, &definitions, schema, publisher, Some(needed))?;
                    let publisher = source.publisher().clone();
                    if let Some((_, same)) =
                        publishers.iter().find(|(known, _)| *known == publisher)
                    {
                        let (path, same) = (path.display(), same.display());
                        eprintln!("note: {path} has the content of {same}: its ticks count once");
                        continue;
                    }
                    publishers.push((publisher, path));
                    input.files += 1;
                    input.rows = input.rows.zip(source.rows_total()).map(|(sum, rows)| sum + rows);
                    input.bytes =
                        input.bytes.zip(source.bytes_read()).map(|(sum, bytes)| sum + bytes);
                    let (schema, rejections) = (&scan.schema, &input.rejections);
                    input.parts.extend(files::scan_parts(
                        path,
                        source,
                        threads_each,
                        schema,
                        rejections,
                        now_ns,
                    ));
                }
            }
        }
        Ok(input)
    }
}

/// A folder without the files of a stream that are damaged, each of which is named.
fn without_damaged(snapshot: &Snapshot, schema: &StreamSchema) -> Result<Snapshot> {
    let files = snapshot.manifest().streams.get(&schema.name).into_iter().flat_map(|s| &s.files);
    let rows = files.map(|file| file.file.rows).sum();
    let bar = progress::bar("looking for damage", Some(rows), "rows");
    let (whole, damaged) = fsck::without_damaged(snapshot, schema, &mut |rows| bar.inc(rows))?;
    bar.finish_and_clear();
    for (path, error) in damaged {
        eprintln!("left out {}: {error}", path.display());
    }
    Ok(whole)
}

/// Reads a file to its end.
fn read_whole(path: &Path, source: Source, scan: &Scan) -> Result<()> {
    let rejections = Arc::default();
    for part in files::scan_parts(path, source, 1, &scan.schema, &rejections, now_ns()) {
        if let Read::Ticks(read) = part.read {
            read(&mut |_| Ok(()))?;
        }
    }
    Ok(())
}

/// The components of a key; several are written as one line of CSV.
pub fn parse_key(text: &str, columns: usize) -> Result<Key> {
    if columns == 1 {
        return Ok(Key::from_components([text]));
    }
    let mut line = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
    let components = line.records().next().transpose()?.unwrap_or_default();
    if components.len() != columns {
        bail!(
            "--key {text}: the stream's key has {columns} columns; write them as in CSV, joined by \
             commas, with quotes around a part that holds a comma"
        );
    }
    Ok(Key::from_components(components.iter()))
}
