//! Downloads with what goes wrong on the way, through a remote that follows a script: in every build.

// Diagnostics are only made when outside input is wrong, where their size does not matter.
#![allow(clippy::result_large_err)]

mod common;

use outgrow_data::download::{Downloaded, Downloads};
use outgrow_data::{Split, prepare};
use outgrow_env::{NoRemote, Remote, RemoteBody, RemoteError, SimStorage, StorageBackend};
use outgrow_ir::Diagnostic;
use outgrow_store::sha256;
use serde_json::json;
use std::collections::VecDeque;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const URL: &str = "https://example.org/set/table.csv";
const TARGET: &str = "/data/table.csv";

/// How one request is answered.
#[derive(Clone, Debug)]
enum Answer {
    /// With everything.
    Whole,
    /// With so many bytes; then the connection breaks, or ends as if that were all.
    Bytes(usize, bool),
    /// Not at all.
    Busy,
    /// The file is another one from here on.
    Changes(Vec<u8>),
    NoRanges,
    Nothing,
}

#[derive(Debug)]
struct Script {
    content: Mutex<(Vec<u8>, Option<String>)>,
    answers: Mutex<VecDeque<Answer>>,
    /// Where each request asked to begin.
    asked: Mutex<Vec<u64>>,
    pauses: Mutex<Vec<Duration>>,
}

impl Script {
    fn new(content: &[u8], tag: Option<&str>, answers: &[Answer]) -> Arc<Self> {
        Arc::new(Self {
            content: Mutex::new((content.to_vec(), tag.map(String::from))),
            answers: Mutex::new(answers.iter().cloned().collect()),
            asked: Mutex::default(),
            pauses: Mutex::default(),
        })
    }
}

/// Bytes that end with a lost connection.
struct Breaking(io::Cursor<Vec<u8>>);

impl Read for Breaking {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self.0.read(out)? {
            0 => Err(io::Error::new(io::ErrorKind::ConnectionReset, "the connection was lost")),
            n => Ok(n),
        }
    }
}

impl Remote for Script {
    fn open(&self, url: &str, from: u64, tag: Option<&str>) -> Result<RemoteBody, RemoteError> {
        self.asked.lock().unwrap().push(from);
        let answer = self.answers.lock().unwrap().pop_front().unwrap_or(Answer::Whole);
        let mut content = self.content.lock().unwrap();
        if let Answer::Changes(new) = &answer {
            *content = (new.clone(), Some("new".into()));
        }
        match answer {
            Answer::Busy => return Err(RemoteError::Broken { url: url.into(), problem: "busy".into() }),
            Answer::Nothing => return Err(RemoteError::NotFound(url.into())),
            Answer::NoRanges if from > 0 => return Err(RemoteError::NoRanges(url.into())),
            _ => {}
        }
        if tag.is_some() && tag != content.1.as_deref() {
            return Err(RemoteError::Changed(url.into()));
        }
        let rest = content.0[from as usize..].to_vec();
        let reader: Box<dyn Read + Send> = match answer {
            Answer::Bytes(n, true) => Box::new(Breaking(io::Cursor::new(rest[..n].to_vec()))),
            Answer::Bytes(n, false) => Box::new(io::Cursor::new(rest[..n].to_vec())),
            _ => Box::new(io::Cursor::new(rest)),
        };
        Ok(RemoteBody { total: content.0.len() as u64, tag: content.1.clone(), reader })
    }

    fn pause(&self, time: Duration) {
        self.pauses.lock().unwrap().push(time);
    }
}

fn storage() -> Arc<dyn StorageBackend> {
    let storage = SimStorage::new(1);
    storage.create_folder(Path::new("/data")).unwrap();
    Arc::new(storage)
}

fn fetch(
    storage: &Arc<dyn StorageBackend>,
    remote: &Arc<Script>,
    expected: Option<&str>,
) -> Result<Downloaded, Diagnostic> {
    let (storage, remote) = (storage.clone(), remote.clone() as Arc<dyn Remote>);
    let downloads = Downloads { storage, remote, limit: 1 << 20, progress: &|_, _| {} };
    downloads.to_file(URL, expected, Path::new(TARGET))
}

/// The names in the folder.
fn names(storage: &Arc<dyn StorageBackend>) -> Vec<String> {
    storage.list(Path::new("/data")).unwrap().into_iter().map(|e| e.name).collect()
}

#[test]
fn a_file_arrives_whole_whatever_happens_on_the_way() {
    use Answer::{Busy, Bytes, Changes, NoRanges};
    let content: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
    let other = vec![7; 1000];
    let hash = sha256::hex(&content);
    let (whole, tag): (&[u8], _) = (&content, Some("v1"));
    let byte_by_byte: Vec<u64> = (0..31).collect();
    // Tag, checksum, answers, what arrives, where requests began.
    type Case<'a> = (Option<&'a str>, Option<&'a str>, Vec<Answer>, &'a [u8], &'a [u64]);
    let cases: Vec<Case<'_>> = vec![
        (tag, None, vec![], whole, &[0]),
        (tag, Some(&hash), vec![Bytes(1000, true), Busy, Bytes(5, false)], whole, &[0, 1000, 1000, 1005]),
        (tag, None, vec![Busy, Busy, Bytes(0, true)], whole, &[0, 0, 0, 0]),
        (tag, None, vec![Bytes(10, true), NoRanges, Bytes(20, true)], whole, &[0, 10, 0, 20]),
        (tag, None, vec![Bytes(10, true), Changes(other.clone())], &other, &[0, 10, 0]),
        // Without a tag the two halves could be of two versions, unless a checksum tells.
        (None, None, vec![Bytes(10, true)], whole, &[0, 0]),
        (None, Some(&hash), vec![Bytes(10, true)], whole, &[0, 10]),
        // As many failures as one likes, so long as something arrives.
        (tag, None, vec![Bytes(1, true); 30], whole, &byte_by_byte),
    ];
    for (number, (tag, expected, answers, arrives, asked)) in cases.into_iter().enumerate() {
        let (storage, remote) = (storage(), Script::new(&content, tag, &answers));
        let found = fetch(&storage, &remote, expected).unwrap_or_else(|d| panic!("case {number}: {d}"));
        assert!(storage.read(Path::new(TARGET)).unwrap() == arrives, "case {number}");
        assert_eq!(
            (found.bytes, found.sha256),
            (arrives.len() as u64, sha256::hex(arrives)),
            "case {number}"
        );
        assert_eq!(*remote.asked.lock().unwrap(), asked, "case {number}");
        assert_eq!(names(&storage), ["table.csv", "table.csv.download.json"], "case {number}");
    }
}

#[test]
fn what_fails_leaves_the_old_file() {
    use Answer::{Busy, Bytes, Nothing};
    let content = vec![1u8; 1000];
    let wrong = "0".repeat(64);
    type Case<'a> = (Vec<u8>, Option<&'a str>, Vec<Answer>, &'a str, usize);
    let cases: Vec<Case<'_>> = vec![
        (content.clone(), Some(&wrong), vec![], "data.download.checksum", 1),
        // The tag says that both halves are of one version: there is nothing to try again.
        (content.clone(), Some(&wrong), vec![Bytes(10, true)], "data.download.checksum", 2),
        (vec![1; (1 << 20) + 1], None, vec![], "data.download.limit", 1),
        (content.clone(), None, vec![Nothing], "data.not-found", 1),
        (content, None, vec![Busy; 20], "data.download", 8),
    ];
    for (content, expected, answers, code, requests) in cases {
        let (storage, remote) = (storage(), Script::new(&content, Some("v1"), &answers));
        storage.write(Path::new(TARGET), b"old").unwrap();
        let found = fetch(&storage, &remote, expected).unwrap_err();
        assert_eq!((found.code, remote.asked.lock().unwrap().len()), (code, requests), "{found}");
        assert_eq!(storage.read(Path::new(TARGET)).unwrap(), b"old");
        assert!(names(&storage).iter().all(|name| !name.ends_with(".part")), "{code}");
        let pauses = remote.pauses.lock().unwrap();
        assert!(pauses.windows(2).all(|p| p[1] > p[0] && p[1].as_secs() <= 30), "{pauses:?}");
    }
}

#[test]
fn a_later_process_goes_on_and_a_whole_file_is_used_again() {
    let content: Vec<u8> = (0..50_000u32).flat_map(u32::to_le_bytes).collect();
    let storage = storage();
    let mut answers = vec![Answer::Bytes(5000, true)];
    answers.extend(vec![Answer::Busy; 8]);
    let first = Script::new(&content, Some("v1"), &answers);
    assert_eq!(fetch(&storage, &first, None).unwrap_err().code, "data.download");
    let second = Script::new(&content, Some("v1"), &[]);
    assert!(!fetch(&storage, &second, None).unwrap().reused);
    assert_eq!(*second.asked.lock().unwrap(), [5000]);
    assert!(storage.read(Path::new(TARGET)).unwrap() == content);
    let third = Script::new(&content, Some("v1"), &[]);
    assert!(fetch(&storage, &third, None).unwrap().reused);
    assert!(third.asked.lock().unwrap().is_empty());
    // A file that is not what came is fetched again.
    let mut damaged = content.clone();
    damaged[7] ^= 1;
    storage.write(Path::new(TARGET), &damaged).unwrap();
    assert!(!fetch(&storage, &third, None).unwrap().reused);
    assert!(storage.read(Path::new(TARGET)).unwrap() == content);
}

/// The disk stops at every one of its operations in turn; the next process ends with the whole file.
#[test]
fn a_crash_at_any_moment_leaves_nothing_half() {
    let content: Vec<u8> = (0..9_000_000u32).map(|i| (i % 251) as u8).collect();
    let mut n = 0;
    loop {
        let storage = Arc::new(SimStorage::new(n));
        storage.create_folder(Path::new("/data")).unwrap();
        storage.write(Path::new(TARGET), b"old").unwrap();
        let before = storage.disk().operations();
        storage.disk().crash_at_operation(Some(before + n));
        let remote: Arc<dyn Remote> = Script::new(&content, Some("v1"), &[]);
        let as_storage: Arc<dyn StorageBackend> = storage.clone();
        let limit = 1 << 30;
        let downloads = Downloads { storage: as_storage, remote, limit, progress: &|_, _| {} };
        let done = downloads.to_file(URL, None, Path::new(TARGET)).is_ok();
        let crashed = storage.disk().has_crashed();
        assert!(done || crashed, "operation {n}");
        storage.disk().crash_at_operation(None);
        if crashed {
            storage.disk().restart();
        }
        let there = storage.read(Path::new(TARGET)).unwrap();
        assert!(there == b"old" || there == content, "operation {n}");
        downloads.to_file(URL, None, Path::new(TARGET)).unwrap_or_else(|d| panic!("operation {n}: {d}"));
        assert!(storage.read(Path::new(TARGET)).unwrap() == content, "operation {n}");
        if !crashed {
            break;
        }
        n += 1;
    }
    assert!(n > 10, "{n}");
}

#[test]
fn sources_take_urls_and_refuse_what_they_cannot_read() {
    let folder = tempfile::tempdir().unwrap();
    let content = b"a,b\n1,2\n3,4\n5,7\n";
    let remote = Script::new(content, Some("v1"), &[]);
    let run = |section: serde_json::Value, remote: Arc<dyn Remote>| {
        let options = outgrow_data::PrepareOptions {
            storage: common::storage(),
            remote,
            roots: Vec::new(),
            cache: folder.path().to_path_buf(),
            seed: 1,
            threads: 1,
            progress: &|_| {},
        };
        prepare(&common::spec(section), &options)
    };
    let section = json!({ "source": "csv", "files": URL, "label": "b" });
    for _ in 0..2 {
        let prepared = run(section.clone(), remote.clone()).unwrap();
        let data = outgrow_data::Dataset::open(common::storage(), &prepared.folder).unwrap();
        assert_eq!(data.samples(Split::Train), 3);
    }
    assert_eq!(remote.asked.lock().unwrap().len(), 1);
    for (files, more, code) in [
        (URL, json!({ URL: "0".repeat(64) }), "data.download.checksum"),
        ("ftp://example.org/x.csv", json!({}), "data.url"),
        ("https://example.org/*.csv", json!({}), "data.url"),
        ("https://example.org/x.csv?a=1", json!({}), "data.url"),
        ("https://example.org/", json!({}), "data.url"),
    ] {
        let section = json!({ "source": "csv", "files": files, "label": "b", "sha256": more });
        let found = run(section, remote.clone()).unwrap_err();
        assert_eq!(
            (found.0[0].code, found.0[0].place.item.as_deref()),
            (code, Some("data.files")),
            "{files}"
        );
    }
    let limited = json!({ "source": "csv", "files": "https://example.org/y.csv", "label": "b", "download_limit": 1e-8 });
    assert_eq!(run(limited, remote).unwrap_err().0[0].code, "data.download.limit");
    let found = run(json!({ "source": "csv", "files": "s3://b/x.csv", "label": "b" }), Arc::new(NoRemote))
        .unwrap_err();
    assert!(found.0[0].code == "data.cloud" && found.to_string().contains("--features cloud"), "{found}");
}
