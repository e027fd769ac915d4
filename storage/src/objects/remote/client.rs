//! Requests to the store: each tried again while that may help, none forgotten.

use std::fs::File;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::ClientConfigKey;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    RetryConfig, UpdateVersion,
};
use tokio::task::JoinSet;

use super::failure::{Failure, brief};
use super::{Settings, StoreUrl};
use crate::error::{Error, Result};
use crate::objects::{SwapError, Tag, read_range};

/// Longer files are put in parts of this length, so many at a time: this bounds the memory.
const PART_BYTES: u64 = 8 << 20;
const PARTS_AT_ONCE: usize = 4;
/// A store takes no more parts of one file than this.
const PARTS_MAX: u64 = 9_000;
/// Requests for the ends of files and for ranges under way at once.
const READS_AT_ONCE: usize = 16;
/// The first wait before a request is tried again, and the longest.
const WAIT_FIRST: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(10);

/// A prefix of a bucket, and how to ask for what is below it.
#[derive(Debug)]
pub(super) struct Client {
    url: StoreUrl,
    store: AmazonS3,
    patience: Duration,
}

/// The tries of one operation.
struct Tries {
    action: &'static str,
    object: String,
    count: u32,
    began: Instant,
    patience: Duration,
    wait: Duration,
}

impl Tries {
    /// Waits until the next try; false when there is no time left for one.
    async fn again(&mut self, error: &object_store::Error) -> bool {
        if self.began.elapsed() + self.wait > self.patience {
            return false;
        }
        tracing::warn!(
            "cannot {} {}: {}; trying again in {:.1} s",
            self.action,
            self.object,
            brief(error),
            self.wait.as_secs_f64()
        );
        tokio::time::sleep(self.wait).await;
        self.wait = (self.wait * 2).min(WAIT_MAX);
        true
    }

    fn error(self, failure: Failure, error: &object_store::Error) -> Error {
        failure.error(self.action, self.object, error, self.count)
    }
}

impl Client {
    pub fn new(url: &StoreUrl, settings: &Settings) -> Result<Self> {
        let client = |key, value: &str| (AmazonS3ConfigKey::Client(key), value.to_owned());
        let mut builder = AmazonS3Builder::new();
        let defaults = [
            client(ClientConfigKey::ConnectTimeout, "5 seconds"),
            client(ClientConfigKey::Timeout, "60 seconds"),
        ];
        let known = settings.variables.iter().filter_map(|(name, value)| {
            Some((name.to_ascii_lowercase().parse().ok()?, value.clone()))
        });
        for (key, value) in defaults.into_iter().chain(known) {
            builder = builder.with_config(key, value);
        }
        // Requests are tried again here, where what came of one that had no answer is looked up.
        let once = RetryConfig { max_retries: 0, ..RetryConfig::default() };
        let built = builder.with_bucket_name(url.bucket()).with_retry(once).build();
        let store = built.map_err(|error| {
            Failure::Lasting.error("use the settings for", url.to_string(), &error, 1)
        })?;
        Ok(Self { url: url.clone(), store, patience: settings.patience })
    }

    pub fn url(&self) -> &StoreUrl {
        &self.url
    }

    fn path(&self, relative: &str) -> Path {
        Path::parse(self.url.key(relative)).expect("our names are paths")
    }

    pub fn missing(&self, relative: &str) -> Error {
        Failure::missing(self.url.of(relative))
    }

    fn tries(&self, action: &'static str, relative: &str) -> Tries {
        Tries {
            action,
            object: self.url.of(relative),
            count: 1,
            began: Instant::now(),
            patience: self.patience,
            wait: WAIT_FIRST,
        }
    }

    /// Does what can be done twice until it succeeds, trying again does not help, or patience ends.
    async fn run<T, F>(
        &self,
        action: &'static str,
        relative: &str,
        request: impl Fn() -> F,
    ) -> Result<T>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        let mut tries = self.tries(action, relative);
        loop {
            let error = match request().await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let failure = Failure::of(&error);
            if failure != Failure::Passing || !tries.again(&error).await {
                return Err(tries.error(failure, &error));
            }
            tries.count += 1;
        }
    }

    /// A whole file and its tag; `None` where there is none.
    pub async fn read_whole(&self, relative: &str) -> Result<Option<(Bytes, Tag)>> {
        let path = self.path(relative);
        let request = || async {
            let found = self.store.get(&path).await?;
            let tag = Tag(found.meta.e_tag.clone());
            Ok((found.bytes().await?, tag))
        };
        match self.run("read", relative, request).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The length of a file and its last bytes, so many.
    async fn read_tail(&self, relative: &str, bytes: u64) -> Result<(u64, Bytes)> {
        let path = self.path(relative);
        self.run("read", relative, || async {
            let range = Some(GetRange::Suffix(bytes));
            let found = self.store.get_opts(&path, GetOptions { range, ..Default::default() });
            let found = found.await?;
            Ok((found.meta.size, found.bytes().await?))
        })
        .await
    }

    async fn read_range(&self, relative: &str, range: Range<u64>) -> Result<Bytes> {
        let path = self.path(relative);
        self.run("read", relative, || self.store.get_range(&path, range.clone())).await
    }

    /// The ends of files, in their order.
    pub async fn read_tails(
        self: Arc<Self>,
        wanted: Vec<(String, u64)>,
    ) -> Vec<Result<(u64, Bytes)>> {
        let request = |(relative, bytes): (String, u64)| {
            let client = self.clone();
            async move { client.read_tail(&relative, bytes).await }
        };
        at_once(wanted, READS_AT_ONCE, request).await
    }

    /// Ranges of a file, in their order.
    pub async fn read_ranges(
        self: Arc<Self>,
        relative: String,
        ranges: Vec<Range<u64>>,
    ) -> Result<Vec<Bytes>> {
        if let [range] = ranges.as_slice() {
            return Ok(vec![self.read_range(&relative, range.clone()).await?]);
        }
        let relative: Arc<str> = relative.into();
        let request = |range| {
            let (client, relative) = (self.clone(), relative.clone());
            async move { client.read_range(&relative, range).await }
        };
        at_once(ranges, READS_AT_ONCE, request).await.into_iter().collect()
    }

    pub async fn remove(&self, relative: &str) -> Result<()> {
        let path = self.path(relative);
        match self.run("remove", relative, || self.store.delete(&path)).await {
            Err(error) if error.is_missing() => Ok(()),
            done => done,
        }
    }

    /// Removes files until one cannot be removed, each with one try.
    pub async fn try_to_remove(&self, files: &[String]) {
        for file in files {
            match self.store.delete(&self.path(file)).await {
                Err(error) if Failure::of(&error) != Failure::Missing => {
                    let object = self.url.of(file);
                    tracing::warn!("cannot remove {object}: {}; it goes later", brief(&error));
                    return;
                }
                _ => {}
            }
        }
    }

    /// The names below our prefix that begin with a word.
    pub async fn names(&self, word: &str) -> Result<Vec<String>> {
        let prefix = self.url.key(word);
        let skipped = prefix.len() - word.len();
        let (mut names, mut page) = (Vec::new(), None);
        loop {
            let listed = self.run("list", word, || {
                let options = PaginatedListOptions {
                    page_token: page.clone(),
                    ..PaginatedListOptions::default()
                };
                self.store.list_paginated(Some(&prefix), options)
            });
            let listed = listed.await?;
            let found = listed.result.objects.iter();
            names.extend(
                found.filter_map(|o| o.location.as_ref().get(skipped..).map(str::to_owned)),
            );
            page = listed.page_token;
            if page.is_none() {
                return Ok(names);
            }
        }
    }

    /// Puts a file, in parts where it is long. Nobody else writes under its name.
    pub async fn upload(
        self: Arc<Self>,
        relative: String,
        file: Arc<File>,
        bytes: u64,
    ) -> Result<()> {
        let path = self.path(&relative);
        if bytes <= PART_BYTES {
            let content = self.spooled(&file, &relative, 0..bytes)?;
            let put = || self.store.put(&path, PutPayload::from_bytes(content.clone()));
            return self.run("write", &relative, put).await.map(drop);
        }
        let id = self.run("write", &relative, || self.store.create_multipart(&path)).await?;
        let done = self.clone().upload_parts(&relative, &path, &id, file, bytes).await;
        if done.is_err() {
            // What stays of it counts for nothing; a rule of the bucket can remove it.
            let _ = self.store.abort_multipart(&path, &id).await;
        }
        done
    }

    async fn upload_parts(
        self: Arc<Self>,
        relative: &str,
        path: &Path,
        id: &str,
        file: Arc<File>,
        bytes: u64,
    ) -> Result<()> {
        let part_bytes = PART_BYTES.max(bytes.div_ceil(PARTS_MAX));
        let parts = 0..bytes.div_ceil(part_bytes);
        let shared: Arc<(String, Path, String)> =
            Arc::new((relative.to_owned(), path.clone(), id.to_owned()));
        let request = |part: u64| {
            let (client, shared, file) = (self.clone(), shared.clone(), file.clone());
            async move {
                let (relative, path, id) = &*shared;
                let range = part * part_bytes..bytes.min((part + 1) * part_bytes);
                let content = client.spooled(&file, relative, range)?;
                let put = || {
                    let payload = PutPayload::from_bytes(content.clone());
                    client.store.put_part(path, id, part as usize, payload)
                };
                client.run("write", relative, put).await
            }
        };
        let parts = at_once(parts.collect(), PARTS_AT_ONCE, request).await;
        let parts: Vec<PartId> = parts.into_iter().collect::<Result<_>>()?;
        let complete = || async {
            match self.store.complete_multipart(path, &id.to_owned(), parts.clone()).await {
                // A try that had no answer may have been done: the upload is gone then, and the
                // file is there.
                Err(error) => match self.store.head(path).await {
                    Ok(found) if found.size == bytes => Ok(()),
                    _ => Err(error),
                },
                Ok(_) => Ok(()),
            }
        };
        self.run("write", relative, complete).await
    }

    /// Bytes of a file that waits to be put.
    fn spooled(&self, file: &File, relative: &str, range: Range<u64>) -> Result<Bytes> {
        let name = std::path::PathBuf::from(self.url.of(relative));
        read_range(file, &name, range.start, range.end - range.start)
    }

    /// Replaces a file if it still has the tag, or is still missing where the tag is that of none.
    /// A try without an answer is looked up before the next: what was replaced by us once is not
    /// taken for another's.
    pub async fn swap(
        &self,
        relative: &str,
        text: Bytes,
        replaced: &Tag,
    ) -> Result<Tag, SwapError> {
        let path = self.path(relative);
        let mode = || match &replaced.0 {
            Some(tag) => PutMode::Update(UpdateVersion { e_tag: Some(tag.clone()), version: None }),
            None => PutMode::Create,
        };
        let mut tries = self.tries("replace", relative);
        loop {
            let options = PutOptions { mode: mode(), ..PutOptions::default() };
            let put = self.store.put_opts(&path, text.clone().into(), options).await;
            let error = match put {
                Ok(put) if put.e_tag.is_some() => return Ok(Tag(put.e_tag)),
                // Without a tag there is no next swap: it is asked for.
                Ok(_) => match self.read_whole(relative).await.map_err(SwapError::Unknown)? {
                    Some((there, tag)) if there == text && tag.0.is_some() => return Ok(tag),
                    there => {
                        let there = there.map(|(text, _)| text.into()).unwrap_or_default();
                        return Err(SwapError::Replaced(there));
                    }
                },
                Err(error) => error,
            };
            let failure = Failure::of(&error);
            if !matches!(failure, Failure::Precondition | Failure::Passing) {
                return Err(SwapError::Failed(tries.error(failure, &error)));
            }
            match self.read_whole(relative).await.map_err(SwapError::Unknown)? {
                Some((there, tag)) if there == text => return Ok(tag),
                there => {
                    let (there, tag) = there.unwrap_or_default();
                    if tag != *replaced {
                        return Err(SwapError::Replaced(there.into()));
                    }
                }
            }
            if !tries.again(&error).await {
                return Err(SwapError::Unknown(tries.error(failure, &error)));
            }
            tries.count += 1;
        }
    }
}

/// Does something with each of several, so many at a time, and gives back what came of each in
/// their order.
async fn at_once<T, R, F>(all: Vec<T>, at_once: usize, start: impl Fn(T) -> F) -> Vec<Result<R>>
where
    R: Send + 'static,
    F: Future<Output = Result<R>> + Send + 'static,
{
    let mut results: Vec<Option<Result<R>>> = all.iter().map(|_| None).collect();
    let mut waiting = all.into_iter().enumerate();
    let mut tasks = JoinSet::new();
    loop {
        while tasks.len() < at_once
            && let Some((number, one)) = waiting.next()
        {
            let task = start(one);
            tasks.spawn(async move { (number, task.await) });
        }
        match tasks.join_next().await {
            Some(Ok((number, result))) => results[number] = Some(result),
            Some(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
            None => break,
        }
    }
    results.into_iter().map(|result| result.expect("each task has ended")).collect()
}
