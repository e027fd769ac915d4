use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tempfile::TempDir;

use self::proxy::{Fault, Proxy};
use super::*;
use crate::disk::Files;

#[path = "../../../../tests/program/store/proxy.rs"]
mod proxy;
#[path = "../../../../tests/program/store/server.rs"]
#[allow(dead_code, reason = "the program's tests use more of it")]
mod server;

/// A bucket on the server, behind a proxy.
struct Bucket {
    url: StoreUrl,
    proxy: Proxy,
    spool: TempDir,
}

impl Bucket {
    /// `None` where there is no server.
    fn new(name: &str) -> Option<Self> {
        let server = server::shared()?;
        server.make_bucket(name);
        let url = format!("s3://{name}/some/prefix").parse().unwrap();
        Some(Self { url, proxy: Proxy::new(&server.address), spool: TempDir::new().unwrap() })
    }

    fn open(&self, patience: Duration) -> Arc<Remote> {
        let variables = server::variables(&self.proxy.address);
        let settings = Settings { variables, patience };
        Remote::new(&self.url, self.spool.path().join("spool"), &settings).unwrap().into()
    }
}

const PATIENT: Duration = Duration::from_secs(30);

fn put(remote: &Arc<Remote>, name: &str, content: &[u8]) -> Result<()> {
    let write = |file: &mut NewFile, _: &Path| {
        std::io::Write::write_all(file, content).unwrap();
        Ok(())
    };
    remote.stage(name, write)?.0.upload()
}

fn stored(name: &str, bytes: usize) -> StoredFile {
    StoredFile { path: name.to_owned(), rows: 1, bytes: bytes as u64, footer_crc32: 0 }
}

/// Bytes without any pattern.
fn content(len: usize) -> Vec<u8> {
    let mut random = crate::fixtures::Random(len as u64);
    (0..len.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).take(len).collect()
}

#[test]
fn near_ranges_are_one_request() {
    let gap = GAP_BYTES_MAX;
    assert_eq!(joined(&[]), []);
    assert_eq!(joined(&[0..10, 10..20, 20 + gap..30 + gap]), vec![0..30 + gap]);
    assert_eq!(joined(&[0..10, 11 + gap..20 + gap]), [0..10, 11 + gap..20 + gap]);
    let most = READ_BYTES_MAX;
    assert_eq!(joined(&[0..most, most..most + 1]), [0..most, most..most + 1]);
    assert_eq!(joined(&[0..most + 5, 7..9]), vec![0..most + 5]);
}

#[test]
fn what_was_put_is_read_listed_and_removed() {
    let Some(bucket) = Bucket::new("put-and-read") else { return };
    let remote = bucket.open(PATIENT);
    assert_eq!(remote.names().unwrap(), Vec::<String>::new());
    let small = content(10_000);
    // In three parts.
    let large = content(20_000_000);
    put(&remote, "stream=a%20b/date=2024-01-02/x.parquet", &small).unwrap();
    put(&remote, "view=bars/0123/y.parquet", &large).unwrap();
    put(&remote, "checkpoint/1.state", &small).unwrap();
    put(&remote, "view=bars/too/deep/y.parquet", &small).unwrap();
    let mut names = remote.names().unwrap();
    names.sort();
    let ours = [
        "checkpoint/1.state",
        "stream=a%20b/date=2024-01-02/x.parquet",
        "view=bars/0123/y.parquet",
    ];
    assert_eq!(names, ours);
    assert_eq!(
        files::names_in(&Files, &bucket.spool.path().join("spool")).unwrap(),
        Vec::<String>::new()
    );

    bucket.proxy.requests();
    let opened = remote.open_all(&[
        &stored(ours[1], small.len()),
        &stored(ours[2], large.len()),
        &stored("view=bars/0123/missing.parquet", 7),
        &stored(ours[2], large.len() - 1),
    ]);
    let [x, y, missing, other] = opened.try_into().unwrap();
    assert!(missing.unwrap_err().is_missing());
    let other = other.unwrap_err().to_string();
    assert!(other.contains("20000000 bytes instead of 19999999"), "{other}");
    assert_eq!(bucket.proxy.requests().len(), 4, "one request opens a file");
    let (x, mut y) = (x.unwrap(), y.unwrap());
    assert_eq!(x.read(100, 50).unwrap(), small[100..150]);
    let end = large.len() as u64;
    assert_eq!(y.read(end - 8, 8).unwrap(), large[large.len() - 8..]);
    assert_eq!(bucket.proxy.requests(), Vec::<String>::new(), "small files and ends are there");
    let far =
        [5_000_000..5_000_100, 5_000_100..5_000_200, 5_100_000..5_200_000, 9_000_000..9_000_009];
    let mut read = Vec::new();
    y.read_each(&far, &mut |number, bytes| {
        assert_eq!(number, read.len());
        read.push(bytes);
        Ok(())
    })
    .unwrap();
    for (range, bytes) in far.iter().zip(&read) {
        assert_eq!(*bytes, large[range.start as usize..range.end as usize]);
    }
    assert_eq!(bucket.proxy.requests().len(), 2, "near ranges are read as one");
    y.after_footer(true);
    assert_eq!(y.read(end - 8, 8).unwrap(), large[large.len() - 8..]);
    assert_eq!(bucket.proxy.requests().len(), 1);
    assert_eq!(remote.read_whole(ours[0]).unwrap(), small);
    assert!(remote.read_whole("checkpoint/2.state").unwrap_err().is_missing());

    remote.remove(ours[0]).unwrap();
    remote.remove(ours[0]).unwrap();
    assert_eq!(remote.names().unwrap().len(), 2);
}

#[test]
fn of_racing_swaps_exactly_one_wins() {
    let Some(bucket) = Bucket::new("races") else { return };
    let first = bucket.open(PATIENT);
    assert_eq!(first.read_manifest().unwrap(), None);
    let mut tag = Tag::default();
    for round in 0..6 {
        let barrier = Barrier::new(8);
        let swap = |number: usize| {
            let remote = bucket.open(PATIENT);
            let text = Bytes::from(format!("round {round}, writer {number}"));
            barrier.wait();
            remote.swap_manifest(text, &tag)
        };
        let results: Vec<_> = std::thread::scope(|scope| {
            let start = |number| scope.spawn(move || swap(number));
            let threads: Vec<_> = (0..8).map(start).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let (text, there) = first.read_manifest().unwrap().unwrap();
        for (number, result) in results.iter().enumerate() {
            let mine = text == format!("round {round}, writer {number}").into_bytes();
            match result {
                Ok(tag) => assert!(mine && *tag == there),
                Err(SwapError::Replaced(found)) => assert!(!mine && *found == text),
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
        tag = there;
    }
}

#[test]
fn a_swap_whose_answer_is_lost_is_known_to_have_happened() {
    let Some(bucket) = Bucket::new("lost-answers") else { return };
    let remote = bucket.open(PATIENT);
    let mut tag = Tag::default();
    for round in 0..4 {
        // Of the swap itself, and of looking up what came of it.
        let lost = [Fault::LoseAnswer("PUT "), Fault::LoseAnswer("GET ")];
        bucket.proxy.meet(lost.into_iter().take(1 + round % 2));
        let text = Bytes::from(format!("round {round}"));
        tag = remote.swap_manifest(text.clone(), &tag).unwrap();
        assert_eq!(remote.read_manifest().unwrap(), Some((text.to_vec(), tag.clone())));
    }
    assert_eq!(bucket.proxy.met(), 6);
    // Another's in its place is told from one's own.
    bucket.proxy.meet([Fault::CutUpload(1)]);
    let error = remote.swap_manifest(Bytes::from("late"), &Tag::default()).unwrap_err();
    assert!(matches!(error, SwapError::Replaced(text) if text == b"round 3"));
}

#[test]
fn cut_connections_are_tried_again() {
    let Some(bucket) = Bucket::new("cuts") else { return };
    let remote = bucket.open(PATIENT);
    let large = content(20_000_000);
    let name = "view=bars/0123/y.parquet";
    let lost = ["POST ", "PUT ", "POST "].map(Fault::LoseAnswer);
    bucket.proxy.meet([Fault::CutUpload(1_000_000), Fault::CutUpload(5_000_000)]);
    bucket.proxy.meet(lost.into_iter().take(2));
    put(&remote, name, &large).unwrap();
    assert_eq!(bucket.proxy.met(), 4);
    bucket.proxy.meet([100_000, 1, 4_000_000].map(Fault::CutDownload));
    let [file] = remote.open_all(&[&stored(name, large.len())]).try_into().unwrap();
    let file = file.unwrap();
    assert_eq!(file.read(1_000, 6_000_000).unwrap(), large[1_000..6_001_000]);
    assert_eq!(bucket.proxy.met(), 7);
    // The end of an upload is done although its answer is lost.
    let small = content(9_000_000);
    bucket.proxy.meet([Fault::LoseAnswer("uploadId")]);
    put(&remote, "view=bars/0123/z.parquet", &small).unwrap();
    let opened = remote.open_all(&[&stored("view=bars/0123/z.parquet", small.len())]);
    assert!(opened.into_iter().all(|file| file.is_ok()));
}

#[test]
fn a_server_that_is_down_is_waited_for_and_then_named() {
    let Some(mut bucket) = Bucket::new("down") else { return };
    let impatient = bucket.open(Duration::from_millis(500));
    bucket.proxy.refuse();
    let started = Instant::now();
    let error = impatient.read_manifest().unwrap_err().to_string();
    assert!(started.elapsed() < Duration::from_secs(10));
    for word in ["cannot read s3://down/some/prefix/manifest.json", "refused", "tried", "network"] {
        assert!(error.contains(word), "{word} in {error}");
    }
    let swap = impatient.swap_manifest(Bytes::from("text"), &Tag::default());
    assert!(matches!(swap, Err(SwapError::Unknown(_))), "{swap:?}");

    let patient = bucket.open(PATIENT);
    std::thread::scope(|scope| {
        let swapping = scope.spawn(|| patient.swap_manifest(Bytes::from("text"), &Tag::default()));
        std::thread::sleep(Duration::from_millis(700));
        bucket.proxy.accept();
        swapping.join().unwrap().unwrap();
    });
    assert_eq!(patient.read_manifest().unwrap().unwrap().0, b"text");
}

#[test]
fn what_the_store_refuses_is_said_at_once() {
    let Some(server) = server::shared() else { return };
    let spool = TempDir::new().unwrap();
    let open = |url: &str, variables: Vec<(String, String)>| {
        let settings = Settings { variables, patience: PATIENT };
        Remote::new(&url.parse().unwrap(), spool.path().to_owned(), &settings).map(Arc::new)
    };
    let started = Instant::now();
    let remote = open("s3://no-such-bucket/x", server.variables()).unwrap();
    for error in [
        remote.read_manifest().unwrap_err(),
        put(&remote, "view=bars/0123/y.parquet", b"1").unwrap_err(),
        remote.names().unwrap_err(),
        match remote.swap_manifest(Bytes::from("1"), &Tag::default()).unwrap_err() {
            SwapError::Failed(error) => error,
            other => panic!("{other:?}"),
        },
    ] {
        let error = error.to_string();
        assert!(error.contains("the bucket does not exist; make the bucket"), "{error}");
    }
    let without_http = server.variables().into_iter().filter(|(name, _)| name != "AWS_ALLOW_HTTP");
    let remote = open("s3://no-such-bucket/x", without_http.collect()).unwrap();
    let error = remote.read_manifest().unwrap_err().to_string();
    assert!(error.contains("AWS_ALLOW_HTTP"), "{error}");
    assert!(started.elapsed() < PATIENT / 2, "nothing of this is tried again");

    // The first request makes the bucket.
    let Some(guarded) = server::guarded(1) else { return };
    guarded.make_bucket("guarded");
    let remote = open("s3://guarded/x", guarded.variables()).unwrap();
    let error = remote.read_manifest().unwrap_err().to_string();
    for word in ["cannot read s3://guarded/x/manifest.json", "InvalidAccessKeyId", "AWS_SECRET"] {
        assert!(error.contains(word), "{word} in {error}");
    }
}
