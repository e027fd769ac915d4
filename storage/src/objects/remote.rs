//! Files in a bucket. The only place that knows an async runtime: whoever calls waits here, on any
//! number of threads.

mod client;
mod failure;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Runtime;

use self::client::Client;
use super::url::StoreUrl;
use super::{MANIFEST, SwapError, Tag};
use crate::checkpoint;
use crate::disk::{Disk, Files};
use crate::error::{Error, Result};
use crate::files::{self, NewFile, Staged};
use crate::manifest::StoredFile;

/// Ranges that are this near to each other are read with one request: what is read too much costs
/// less than a request.
const GAP_BYTES_MAX: u64 = 256 << 10;
/// A request for ranges is not made longer than this.
const READ_BYTES_MAX: u64 = 8 << 20;
/// How much of a file's end is read when it is opened: a footer, and a small file whole.
const TAIL_BYTES: u64 = 128 << 10;
/// A footer grows by about a kilobyte for every so many rows.
const TAIL_ROWS_PER_BYTE: u64 = 128;

/// What a client is told apart from the store's name.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// As `AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT`, …; what the client does not know is left out.
    pub variables: Vec<(String, String)>,
    /// For how long an operation is tried again before it fails.
    pub patience: Duration,
}

impl Settings {
    /// Those of the environment, as every S3 client takes them. Read here and not in the binary,
    /// so that secrets have one short way and never a place in our own settings.
    pub fn of_environment(patience: Duration) -> Self {
        let text = |text: std::ffi::OsString| text.into_string().ok();
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((text(name)?, text(value)?)))
            .filter(|(name, _)| name.starts_with("AWS_"))
            .collect();
        Self { variables, patience }
    }
}

/// A prefix of a bucket.
#[derive(Debug)]
pub(crate) struct Remote {
    client: Arc<Client>,
    /// Where files are written before they are put, in the data folder.
    spool: PathBuf,
    runtime: Runtime,
}

impl Remote {
    /// Makes ready for requests; none is sent.
    ///
    /// # Errors
    ///
    /// [`Error::Object`] for settings that no client takes.
    pub fn new(url: &StoreUrl, spool: PathBuf, settings: &Settings) -> Result<Self> {
        // One thread keeps connections alive; work is done by the threads that wait.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("isotick-store")
            .enable_all()
            .build()
            .map_err(Error::io("start a thread for", Path::new(&url.to_string())))?;
        let client = Arc::new(Client::new(url, settings)?);
        Ok(Self { client, spool, runtime })
    }

    fn url(&self) -> &StoreUrl {
        self.client.url()
    }

    pub fn stage<T>(
        self: &Arc<Self>,
        relative: &str,
        write: impl FnOnce(&mut NewFile, &Path) -> Result<T>,
    ) -> Result<(Spooled, T)> {
        files::create_folder(&Files, &self.spool)?;
        let path = self.spool.join(relative.replace('/', "+"));
        let disk: Arc<dyn Disk> = Arc::new(Files);
        let (file, result) = Staged::spool(&disk, &path, |file| write(file, &path))?;
        Ok((Spooled { file, remote: self.clone(), relative: relative.to_owned() }, result))
    }

    /// Removes what an earlier process left in the spool.
    pub fn clear_spool(&self) -> Result<()> {
        for name in files::names_in(&Files, &self.spool)? {
            let path = self.spool.join(name);
            std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
        Ok(())
    }

    /// Opens files with one request each, several at a time: the ends of all are read.
    pub fn open_all(self: &Arc<Self>, files: &[&StoredFile]) -> Vec<Result<RemoteFile>> {
        let wanted = files.iter().map(|file| {
            let tail = (TAIL_BYTES + file.rows / TAIL_ROWS_PER_BYTE).min(file.bytes);
            (file.path.clone(), tail)
        });
        let tails = self.runtime.block_on(self.client.clone().read_tails(wanted.collect()));
        files.iter().zip(tails).map(|(file, tail)| self.opened(file, tail?)).collect()
    }

    fn opened(
        self: &Arc<Self>,
        file: &StoredFile,
        (length, tail): (u64, Bytes),
    ) -> Result<RemoteFile> {
        let path = PathBuf::from(self.url().of(&file.path));
        if length != file.bytes {
            let what = format!("it has {length} bytes instead of {}", file.bytes);
            return Err(Error::Damaged { path, what });
        }
        let tail = Some((length - tail.len() as u64, tail));
        Ok(RemoteFile { remote: self.clone(), relative: file.path.clone(), path, tail })
    }

    pub fn remove(&self, relative: &str) -> Result<()> {
        self.runtime.block_on(self.client.remove(relative))
    }

    pub fn try_to_remove(&self, files: &[String]) {
        self.runtime.block_on(self.client.try_to_remove(files));
    }

    pub fn names(&self) -> Result<Vec<String>> {
        let mut names = self.runtime.block_on(self.client.names("stream="))?;
        names.extend(self.runtime.block_on(self.client.names("view="))?);
        names.extend(self.runtime.block_on(self.client.names("rollup="))?);
        // As deep as our own.
        names.retain(|name| name.split('/').count() == 3);
        let folder = format!("{}/", checkpoint::FOLDER);
        names.extend(self.runtime.block_on(self.client.names(&folder))?);
        Ok(names)
    }

    pub fn path_of(&self, relative: &str) -> PathBuf {
        self.url().of(relative).into()
    }

    pub fn read_whole(&self, relative: &str) -> Result<Vec<u8>> {
        match self.runtime.block_on(self.client.read_whole(relative))? {
            Some((content, _)) => Ok(content.into()),
            None => Err(self.client.missing(relative)),
        }
    }

    pub fn read_manifest(&self) -> Result<Option<(Vec<u8>, Tag)>> {
        let read = self.runtime.block_on(self.client.read_whole(MANIFEST))?;
        Ok(read.map(|(text, tag)| (text.into(), tag)))
    }

    /// Puts a manifest in place of the one with the tag.
    pub fn swap_manifest(&self, text: Bytes, replaced: &Tag) -> Result<Tag, SwapError> {
        self.runtime.block_on(self.client.swap(MANIFEST, text, replaced))
    }
}

/// A finished file that waits in the data folder to be put into the bucket.
pub(crate) struct Spooled {
    file: Staged,
    remote: Arc<Remote>,
    relative: String,
}

impl Spooled {
    /// Uploads the file, durably, and removes it here.
    pub fn upload(self) -> Result<()> {
        let path = self.file.unfinished();
        let file = File::open(path).map_err(Error::io("open", path))?;
        let bytes = file.metadata().map_err(Error::io("read", path))?.len();
        let client = self.remote.client.clone();
        self.remote.runtime.block_on(client.upload(self.relative, file.into(), bytes))
    }
}

/// A file of a bucket.
#[derive(Clone, Debug)]
pub(crate) struct RemoteFile {
    remote: Arc<Remote>,
    relative: String,
    path: PathBuf,
    /// Its end, and where that begins.
    tail: Option<(u64, Bytes)>,
}

impl RemoteFile {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps the file's end only if that is all of it and few files are open.
    pub fn after_footer(&mut self, keep_open: bool) {
        self.tail.take_if(|(start, _)| *start > 0 || !keep_open);
    }

    pub fn read(&self, start: u64, len: u64) -> Result<Bytes> {
        let mut all = self.ranges(std::slice::from_ref(&(start..start + len)))?;
        Ok(all.pop().expect("a range was asked for"))
    }

    pub fn read_each(
        &self,
        ranges: &[Range<u64>],
        each: &mut dyn FnMut(usize, Bytes) -> Result<()>,
    ) -> Result<()> {
        let all = self.ranges(ranges)?;
        all.into_iter().enumerate().try_for_each(|(number, bytes)| each(number, bytes))
    }

    fn ranges(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        if let Some((first, tail)) = &self.tail
            && ranges.iter().all(|range| range.start >= *first)
        {
            let slice = |range: &Range<u64>| {
                let end = (range.end - first) as usize;
                let slice =
                    (end <= tail.len()).then(|| tail.slice((range.start - first) as usize..end));
                slice.ok_or_else(|| self.short())
            };
            return ranges.iter().map(slice).collect();
        }
        let requests = joined(ranges);
        let client = self.remote.client.clone();
        let read = client.read_ranges(self.relative.clone(), requests.clone());
        let read = self.remote.runtime.block_on(read)?;
        let slice = |range: &Range<u64>| {
            let within = |(request, _): &(&Range<u64>, &Bytes)| {
                request.start <= range.start && range.end <= request.end
            };
            let (request, bytes) =
                requests.iter().zip(&read).find(within).expect("each range is in a request");
            let (start, end) = (range.start - request.start, range.end - request.start);
            let whole = end as usize <= bytes.len();
            whole.then(|| bytes.slice(start as usize..end as usize)).ok_or_else(|| self.short())
        };
        ranges.iter().map(slice).collect()
    }

    fn short(&self) -> Error {
        Error::Damaged { path: self.path.clone(), what: "it ends too early".to_owned() }
    }
}

/// Ascending ranges, those that are near to each other as one.
fn joined(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut requests: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match requests.last_mut() {
            Some(last)
                if range.start <= last.end.saturating_add(GAP_BYTES_MAX)
                    && (range.end <= last.end || range.end - last.start <= READ_BYTES_MAX) =>
            {
                last.end = last.end.max(range.end);
            }
            _ => requests.push(range.clone()),
        }
    }
    requests
}
