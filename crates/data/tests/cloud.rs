//! The real remote: against a server for the web in this process, and against `moto` for S3. The latter needs the
//! variable OUTGROW_MOTO, the path of a Python that has `moto[server]`, and says that it skips without.
#![cfg(feature = "cloud")]
#![allow(clippy::print_stderr)]

mod common;

use outgrow_data::download::Downloads;
use outgrow_data::replicas::{Replicas, check, prepare_replicated, repair};
use outgrow_data::{Dataset, PrepareOptions, Split, prepare};
use outgrow_env::place::BucketPlace;
use outgrow_env::remote::ObjectRemote;
use outgrow_env::{LocalStorage, Place, Remote, RemoteBody, RemoteError, StorageBackend};
use outgrow_store::sha256;
use serde_json::json;
use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Moto's server, which lets in one at a time of those that write: by itself it looks whether an object is there and then
/// writes it, and several that create it at once may all do so.
const MOTO: &str = r#"
import sys, threading
from moto import server
application, one = server.DomainDispatcherApplication, threading.Lock()
answer = application.__call__
def one_writes(self, environ, start_response):
    if environ["REQUEST_METHOD"] != "PUT":
        return answer(self, environ, start_response)
    with one:
        return list(answer(self, environ, start_response))
application.__call__ = one_writes
server.main(sys.argv[1:])
"#;

/// How the server answers one request.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// As asked.
    Good,
    /// As asked, but the connection ends after so many bytes of the body.
    Drop(usize),
    /// With this status and no file.
    Status(u16),
}

struct Server {
    url: String,
    /// What each request asked for: its `Range`.
    asked: Arc<Mutex<Vec<Option<String>>>>,
}

/// A web server with one file, which follows a script and answers well after it.
fn serve(content: Vec<u8>, ranges: bool, tag: Option<&'static str>, script: &[Answer]) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/set/file.bin", listener.local_addr().unwrap());
    let asked: Arc<Mutex<Vec<Option<String>>>> = Arc::default();
    let (log, mut script): (_, VecDeque<Answer>) = (asked.clone(), script.iter().copied().collect());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let answer = script.pop_front().unwrap_or(Answer::Good);
            // A client that goes away is no concern of the server.
            let _ = respond(stream.unwrap(), &content, ranges, tag, answer, &log);
        }
    });
    Server { url, asked }
}

fn respond(
    stream: TcpStream,
    content: &[u8],
    ranges: bool,
    tag: Option<&str>,
    answer: Answer,
    log: &Mutex<Vec<Option<String>>>,
) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut range, mut line) = (None, String::new());
    while reader.read_line(&mut line)? > 2 {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("range")
        {
            range = Some(value.trim().to_owned());
        }
        line.clear();
    }
    log.lock().unwrap().push(range.clone());
    let mut out = stream;
    let length = match answer {
        Answer::Status(status) => {
            return write!(out, "HTTP/1.1 {status} So\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
        Answer::Drop(n) => n,
        Answer::Good => usize::MAX,
    };
    let from = range
        .as_ref()
        .filter(|_| ranges)
        .and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let body = &content[from.unwrap_or(0)..];
    let status = if from.is_some() { "206 Partial Content" } else { "200 OK" };
    write!(out, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n", body.len())?;
    if let Some(from) = from {
        write!(out, "Content-Range: bytes {from}-{}/{}\r\n", content.len() - 1, content.len())?;
    }
    if let Some(tag) = tag {
        write!(out, "ETag: \"{tag}\"\r\n")?;
    }
    write!(out, "\r\n")?;
    out.write_all(&body[..body.len().min(length)])
}

/// The real remote, which does not wait.
#[derive(Debug)]
struct Impatient(ObjectRemote);

impl Remote for Impatient {
    fn open(&self, url: &str, from: u64, tag: Option<&str>) -> Result<RemoteBody, RemoteError> {
        self.0.open(url, from, tag)
    }
    fn pause(&self, _: Duration) {}
}

#[test]
fn files_come_whole_from_servers_of_every_kind() {
    use Answer::{Drop, Good, Status};
    let content: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
    let hash = sha256::hex(&content);
    let wrong = "1".repeat(64);
    let remote: Arc<dyn Remote> = Arc::new(Impatient(ObjectRemote::new([]).unwrap()));
    // Ranges, tag, checksum, script, the code of the failure, requests.
    type Case<'a> = (bool, Option<&'static str>, Option<&'a str>, Vec<Answer>, Option<&'a str>, usize);
    let cases: Vec<Case<'_>> = vec![
        (true, Some("v1"), None, vec![], None, 1),
        (true, Some("v1"), Some(&hash), vec![Drop(700_000), Drop(100_000)], None, 3),
        (true, None, Some(&hash), vec![Drop(1000)], None, 2),
        (true, None, None, vec![Drop(1000)], None, 2),
        (false, Some("v1"), Some(&hash), vec![Drop(1000)], None, 3),
        (true, Some("v1"), None, vec![Status(500), Status(503), Good], None, 3),
        (true, Some("v1"), None, vec![Drop(1000), Status(412)], None, 3),
        (true, Some("v1"), Some(&wrong), vec![], Some("data.download.checksum"), 1),
        (true, None, None, vec![Status(404)], Some("data.not-found"), 1),
        (true, None, None, vec![Status(403)], Some("data.download"), 1),
        (true, None, None, vec![Status(500); 8], Some("data.download"), 8),
    ];
    for (number, (ranges, tag, expected, script, fails, requests)) in cases.into_iter().enumerate() {
        let server = serve(content.clone(), ranges, tag, &script);
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("file.bin");
        std::fs::write(&target, "old").unwrap();
        let storage: Arc<dyn StorageBackend> = Arc::new(LocalStorage::new());
        let downloads = Downloads { storage, remote: remote.clone(), limit: 1 << 30, progress: &|_, _| {} };
        let found = downloads.to_file(&server.url, expected, &target);
        let asked = server.asked.lock().unwrap().clone();
        assert_eq!(found.as_ref().err().map(|d| d.code), fails, "case {number}: {found:?} {asked:?}");
        let there = std::fs::read(&target).unwrap();
        assert!(there == if fails.is_some() { b"old" } else { content.as_slice() }, "case {number}");
        assert_eq!(asked.len(), requests, "case {number}: {asked:?}");
    }
}

/// `moto`'s server, which dies with this value.
struct Moto {
    python: PathBuf,
    port: u16,
    child: Mutex<Option<Child>>,
}

impl Moto {
    fn find() -> Option<Arc<Self>> {
        let Some(python) = std::env::var_os("OUTGROW_MOTO") else {
            eprintln!("skipped: OUTGROW_MOTO names no Python with moto[server]");
            return None;
        };
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let moto = Self { python: python.into(), port, child: Mutex::default() };
        moto.start();
        Some(Arc::new(moto))
    }

    fn start(&self) {
        let port = self.port.to_string();
        let mut command = Command::new(&self.python);
        command.args(["-c", MOTO, "-H", "127.0.0.1", "-p", &port]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        *self.child.lock().unwrap() = Some(child);
        for _ in 0..600 {
            if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) {
                // The bucket, by the plainest of requests.
                write!(stream, "PUT /bucket HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).unwrap();
                assert!(answer.contains(" 200 "), "{answer}");
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("moto does not start");
    }

    fn kill(&self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn options(&self) -> Vec<(String, String)> {
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        [
            ("aws_endpoint", endpoint.as_str()),
            ("aws_allow_http", "true"),
            ("aws_region", "us-east-1"),
            ("aws_access_key_id", "test"),
            ("aws_secret_access_key", "test"),
            ("unknown_key", "is passed over"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        self.kill();
    }
}

#[test]
fn a_bucket_is_a_place() {
    let Some(moto) = Moto::find() else { return };
    let place = BucketPlace::new("s3://bucket/place/", moto.options()).unwrap();
    assert_eq!(place.name(), "s3://bucket/place");
    assert!(place.read("a/x").unwrap_err().is_not_found());
    assert_eq!(place.length("a/x").unwrap(), None);
    assert!(place.list("a").unwrap().is_empty());
    for (key, content) in [("a/y", "two"), ("a/x", "one"), ("a/deep/z", "three"), ("a/x", "other")] {
        place.write(key, content.as_bytes()).unwrap();
    }
    assert_eq!(place.read("a/x").unwrap(), b"other");
    assert_eq!(place.length("a/x").unwrap(), Some(5));
    assert_eq!(place.length("a").unwrap(), None, "a folder is no file");
    assert_eq!(place.read_range("a/x", 1, 3).unwrap(), b"the");
    assert_eq!(place.read_range("a/x", 5, 0).unwrap(), b"");
    let beyond = place.read_range("a/x", 4, 30).unwrap_err().to_string();
    assert!(beyond.contains("s3://bucket/place/a/x") && beyond.contains("the file has 5"), "{beyond}");
    assert_eq!(place.list("a").unwrap(), ["x", "y"]);
    // Of several that create at once, one succeeds.
    let created = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..4u8)
            .map(|i| {
                scope.spawn({
                    let place = &place;
                    move || place.create("v/1", &[i]).unwrap()
                })
            })
            .collect();
        tries.into_iter().map(|t| t.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(created.iter().filter(|c| **c).count(), 1, "{created:?}");
    let winner = created.iter().position(|c| *c).unwrap();
    assert_eq!(place.read("v/1").unwrap(), [winner as u8]);
}

/// A remote whose server dies in the middle of a file, and is there again after the first pause.
#[derive(Debug)]
struct Mortal {
    inner: ObjectRemote,
    moto: Arc<Moto>,
    content: Vec<u8>,
    killed: Arc<AtomicBool>,
}

impl std::fmt::Debug for Moto {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "moto on {}", self.port)
    }
}

/// Kills the server after so many bytes.
struct Killing {
    inner: Box<dyn Read + Send>,
    left: usize,
    moto: Arc<Moto>,
    killed: Arc<AtomicBool>,
}

impl Read for Killing {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !self.killed.swap(true, Ordering::SeqCst) {
            self.moto.kill();
        }
        let most = if self.left == 0 { out.len() } else { out.len().min(self.left) };
        let n = self.inner.read(&mut out[..most])?;
        self.left = self.left.saturating_sub(n);
        Ok(n)
    }
}

impl Remote for Mortal {
    fn open(&self, url: &str, from: u64, tag: Option<&str>) -> Result<RemoteBody, RemoteError> {
        let body = self.inner.open(url, from, tag)?;
        let (left, moto, killed) = (1 << 20, self.moto.clone(), self.killed.clone());
        let reader = Box::new(Killing { inner: body.reader, left, moto, killed });
        Ok(RemoteBody { reader, ..body })
    }

    fn pause(&self, _: Duration) {
        if self.moto.child.lock().unwrap().is_none() {
            self.moto.start();
            upload(&self.moto, &self.content);
        }
    }
}

fn upload(moto: &Moto, content: &[u8]) {
    let bucket = BucketPlace::new("s3://bucket", moto.options()).unwrap();
    bucket.write("set/table.csv", content).unwrap();
}

#[test]
fn a_table_is_read_from_s3_while_the_server_dies() {
    let Some(moto) = Moto::find() else { return };
    let rows = 1_500_000u32;
    let content: String =
        std::iter::once("a,b\n".to_owned()).chain((0..rows).map(|i| format!("{i},{}\n", i % 7))).collect();
    upload(&moto, content.as_bytes());
    let killed = Arc::new(AtomicBool::new(false));
    let inner = ObjectRemote::new(moto.options()).unwrap();
    let remote =
        Arc::new(Mortal { inner, moto, content: content.clone().into_bytes(), killed: killed.clone() });
    let folder = tempfile::tempdir().unwrap();
    let section =
        json!({ "source": "csv", "files": "s3://bucket/set/table.csv", "label": "b", "task": "classify" });
    let options = PrepareOptions {
        storage: common::storage(),
        remote,
        roots: Vec::new(),
        cache: folder.path().join("cache"),
        seed: 1,
        threads: 2,
        progress: &|_| {},
    };
    let prepared = prepare(&common::spec(section), &options).unwrap_or_else(|d| panic!("{d}"));
    assert!(killed.load(Ordering::SeqCst), "the server never died");
    let data = Dataset::open(common::storage(), &prepared.folder).unwrap();
    // The same table from a file: nothing is missing, nothing is there twice.
    std::fs::write(folder.path().join("table.csv"), &content).unwrap();
    let section = json!({ "source": "csv", "files": "table.csv", "label": "b", "task": "classify" });
    let local = common::dataset(section, folder.path(), &folder.path().join("cache"));
    assert_eq!(data.samples(Split::Train), u64::from(rows));
    assert_eq!(data.content_hash(Split::Train).unwrap(), local.content_hash(Split::Train).unwrap());
}

/// What stands between clients and the server: it can be shut, with all connections cut, and opened again.
struct Gate {
    port: u16,
    state: Arc<Mutex<Option<u16>>>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    requests: Arc<AtomicUsize>,
}

impl Gate {
    fn new(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let gate = Self {
            port: listener.local_addr().unwrap().port(),
            state: Arc::new(Mutex::new(Some(server))),
            open: Arc::default(),
            requests: Arc::default(),
        };
        let (state, open, requests) = (gate.state.clone(), gate.open.clone(), gate.requests.clone());
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), *state.lock().unwrap());
                // While it is shut, whoever comes is cut off at once.
                let Some(server) = server.and_then(|port| TcpStream::connect(("127.0.0.1", port)).ok())
                else {
                    continue;
                };
                requests.fetch_add(1, Ordering::SeqCst);
                for (mut from, mut to) in
                    [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)]
                {
                    open.lock().unwrap().push(from.try_clone().unwrap());
                    std::thread::spawn(move || {
                        let _ = io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        gate
    }

    fn shut(&self) {
        *self.state.lock().unwrap() = None;
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// All objects of the bucket, as a server with a disk would still have them after a crash.
fn objects(place: &BucketPlace, folders: &[&str]) -> Vec<(String, Vec<u8>)> {
    let keys =
        folders.iter().flat_map(|f| place.list(f).unwrap().into_iter().map(move |n| format!("{f}/{n}")));
    keys.map(|key| {
        let bytes = place.read(&key).unwrap();
        (key, bytes)
    })
    .collect()
}

#[test]
fn a_replicated_data_set_in_buckets_outlives_its_server() {
    let Some(moto) = Moto::find() else { return };
    let gate = Gate::new(moto.port);
    let through: Vec<(String, String)> = moto
        .options()
        .into_iter()
        .map(|(key, value)| match key.as_str() {
            "aws_endpoint" => (key, format!("http://127.0.0.1:{}", gate.port)),
            _ => (key, value),
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let section = json!({
        "source": "synthetic:glyphs", "samples": 3000, "split": { "test": 0.2 },
        "storage": { "places": ["s3://bucket/a", "s3://bucket/b", "s3://bucket/c"], "copies": 2 },
    });
    let spec = common::spec(section);
    let places = spec.storage.clone().unwrap();
    let replicas = Replicas::new(&places, "glyphs", &|name| {
        Ok(Arc::new(BucketPlace::new(name, through.clone()).unwrap()) as Arc<dyn Place>)
    })
    .unwrap();
    let options = |cache: &str| PrepareOptions {
        storage: common::storage(),
        remote: Arc::new(outgrow_env::NoRemote),
        roots: Vec::new(),
        cache: folder.path().join(cache),
        seed: 1,
        threads: 2,
        progress: &|_| {},
    };
    let made = prepare_replicated(&spec, &options("one"), &replicas, None).unwrap_or_else(|d| panic!("{d}"));
    let expected = [Split::Train, Split::Test].map(|split| made.dataset.content_hash(split).unwrap());
    // Somebody else, with an empty cache, gets the same version from the buckets. While it reads, the server is killed,
    // and comes back with what it had.
    let found = prepare_replicated(&spec, &options("two"), &replicas, None).unwrap_or_else(|d| panic!("{d}"));
    assert_eq!(found.version.number, 1);
    let direct = |name: &str| BucketPlace::new(name, moto.options()).unwrap();
    let kept: Vec<_> = ["s3://bucket/a", "s3://bucket/b", "s3://bucket/c"]
        .map(|name| (name, objects(&direct(name), &["glyphs/shards", "glyphs/versions"])))
        .into();
    let shards =
        kept.iter().flat_map(|(_, objects)| objects).filter(|(key, _)| key.contains("shards")).count();
    assert!(shards >= 4, "{shards} copies");
    let before = gate.requests.load(Ordering::SeqCst);
    let hashes = std::thread::scope(|scope| {
        let reading =
            scope.spawn(|| [Split::Train, Split::Test].map(|s| found.dataset.content_hash(s).unwrap()));
        // As soon as the first request is under way.
        while gate.requests.load(Ordering::SeqCst) == before && !reading.is_finished() {
            std::thread::yield_now();
        }
        gate.shut();
        moto.kill();
        std::thread::sleep(Duration::from_millis(500));
        assert!(!reading.is_finished(), "everything was read before the server died");
        moto.start();
        for (name, objects) in &kept {
            for (key, bytes) in objects {
                direct(name).write(key, bytes).unwrap();
            }
        }
        *gate.state.lock().unwrap() = Some(moto.port);
        reading.join().unwrap()
    });
    assert_eq!(hashes, expected);
    // A copy that is damaged there is read around, reported and restored.
    let (name, objects) = kept.iter().find(|(_, o)| o.iter().any(|(key, _)| key.contains("shards"))).unwrap();
    let (key, bytes) = objects.iter().find(|(key, _)| key.contains("shards")).unwrap();
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 0x10;
    direct(name).write(key, &flipped).unwrap();
    let again =
        prepare_replicated(&spec, &options("three"), &replicas, None).unwrap_or_else(|d| panic!("{d}"));
    let hashes = [Split::Train, Split::Test].map(|split| again.dataset.content_hash(split).unwrap());
    assert_eq!(hashes, expected);
    let report = check(&replicas, &again.version, &|_, _| {});
    assert_eq!((report.bad(), report.lost().len()), (1, 0));
    repair(&replicas, &again.version, &|_, _| {}).unwrap();
    assert!(check(&replicas, &again.version, &|_, _| {}).is_whole());
    assert!(&direct(name).read(key).unwrap() == bytes);
}
