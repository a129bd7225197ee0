//! Links in shared memory beyond what all links have in common: processes that are killed, files that are not what they
//! should be, and counters that make no sense.

use outgrow_env::transport::shared_memory::{
    SharedMemoryError, SharedMemoryLinks, create, create_with, join,
};
use outgrow_env::{LinkError, LinkProblem, Transport};
use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Names the file to the child processes of these tests, and the worker that each is.
const LINKS: &str = "OUTGROW_TEST_LINKS";
const WORKER: &str = "OUTGROW_TEST_WORKER";
/// Nothing here takes as long: what does is stuck.
const STUCK: Duration = Duration::from_secs(60);

fn child(path: &Path, worker: usize, test: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(LINKS, path)
        .env(WORKER, worker.to_string())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// The links of a child process; none in the test itself.
fn as_child() -> Option<SharedMemoryLinks> {
    let path = PathBuf::from(std::env::var_os(LINKS)?);
    let worker = std::env::var(WORKER).unwrap().parse().unwrap();
    Some(join(&path, worker).unwrap())
}

/// Sends blocks to all others and takes what comes from them until something fails; says how many bytes have come from
/// each.
fn chatter(link: &mut SharedMemoryLinks, mut each_round: impl FnMut(&[usize])) -> LinkError {
    let others: Vec<_> = (0..link.workers()).filter(|&other| other != link.worker()).collect();
    let block = [link.worker() as u8; 5_000];
    let mut got = vec![0; link.workers()];
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < STUCK, "nothing has ended");
        let mut moved = 0;
        for &other in &others {
            match link.send(other, &block) {
                Ok(count) => moved += count,
                Err(error) => return error,
            }
            let count = match link.received(other) {
                Ok(come) => {
                    assert!(come.iter().all(|&byte| byte == other as u8), "other bytes than were sent");
                    come.len()
                }
                Err(error) => return error,
            };
            link.take(other, count);
            moved += count;
            got[other] += count;
        }
        each_round(&got);
        if moved == 0
            && let Err(error) = link.wait(STUCK)
        {
            return error;
        }
    }
}

/// All are at work when one is killed: the others end with its name.
#[test]
fn the_death_of_a_process_is_noticed() {
    let this = "the_death_of_a_process_is_noticed";
    if let Some(mut link) = as_child() {
        let error = chatter(&mut link, |_| ());
        // The other child may see the first one end that has seen the death.
        assert_eq!(error.problem, LinkProblem::Gone);
        return;
    }
    for round in 0..6 {
        let folder = tempfile::tempdir().unwrap();
        let mut link = create(folder.path(), 3).unwrap();
        let mut children = [1, 2].map(|worker| child(link.path(), worker, this));
        let victim = round % 2;
        let mut killed = None;
        let error = chatter(&mut link, |got| {
            let enough = got[1].min(got[2]) > 1 + round * 777_777;
            if enough && killed.is_none() {
                assert!(link_files(folder.path()) == 0, "all have joined, and files are left");
                children[victim].kill().unwrap();
                killed = Some(Instant::now());
            }
        });
        let killed = killed.expect("nobody ends before one is killed");
        assert!(killed.elapsed() < STUCK / 2, "noticed after {:?}", killed.elapsed());
        assert_eq!(error.problem, LinkProblem::Gone);
        drop(link);
        assert!(!children[victim].wait().unwrap().success());
        assert!(children[1 - victim].wait().unwrap().success());
    }
}

/// One is killed while another sleeps until something comes from it.
#[test]
fn who_sleeps_notices_a_death() {
    let this = "who_sleeps_notices_a_death";
    if let Some(mut link) = as_child() {
        assert_eq!(link.send(0, b"here"), Ok(4));
        std::thread::sleep(STUCK * 2);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut link = create(folder.path(), 2).unwrap();
    let mut child = child(link.path(), 1, this);
    while link.received(1).unwrap().len() < 4 {
        link.wait(STUCK).unwrap();
    }
    assert!(link.has_joined(1));
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(300));
            child.kill().unwrap();
            child.wait().unwrap();
        });
        // What it sent before is there as long as nobody takes it, and so the worker is not lost.
        assert_eq!(link.wait(Duration::from_millis(600)), Ok(()));
        assert_eq!(link.received(1), Ok(&b"here"[..]));
        link.take(1, 4);
        let error = loop {
            if let Err(error) = link.wait(STUCK) {
                break error;
            }
            assert!(start.elapsed() < STUCK, "a death was not noticed");
        };
        assert_eq!(error, LinkError { worker: 1, problem: LinkProblem::Gone });
    });
    assert!(start.elapsed() < STUCK / 2, "noticed after {:?}", start.elapsed());
    assert_eq!(link.received(1).unwrap_err().problem, LinkProblem::Gone);
    assert_eq!(link.send(1, b"?").unwrap_err().problem, LinkProblem::Gone);
    // Its place stays taken, though its file is not locked any more; besides, there is no name left to join by.
    assert!(matches!(join(link.path(), 1), Err(SharedMemoryError::System { doing: "open", .. })));
}

fn link_files(folder: &Path) -> usize {
    folder.read_dir().unwrap().count()
}

#[test]
fn files_are_for_their_owner_and_go_when_all_have_joined() {
    let folder = tempfile::tempdir().unwrap();
    let first = create(folder.path(), 3).unwrap();
    assert_eq!(link_files(folder.path()), 4);
    #[cfg(unix)]
    for entry in folder.path().read_dir().unwrap() {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    let another = create(folder.path(), 1).unwrap();
    assert_eq!(link_files(folder.path()), 4, "who is alone needs no name");
    assert_ne!(first.path(), another.path());
    let path = first.path().to_owned();
    assert!(!first.has_joined(2));
    let third = join(&path, 2).unwrap();
    assert!(first.has_joined(2) && !first.has_joined(1));
    assert_eq!(join(&path, 2).unwrap_err(), SharedMemoryError::Taken { worker: 2 });
    assert_eq!(join(&path, 0).unwrap_err(), SharedMemoryError::Taken { worker: 0 });
    assert_eq!(join(&path, 3).unwrap_err(), SharedMemoryError::Worker { worker: 3, workers: 3 });
    drop(third);
    assert_eq!(
        join(&path, 2).unwrap_err(),
        SharedMemoryError::Taken { worker: 2 },
        "a place was taken twice"
    );
    drop(first);
    assert_eq!(link_files(folder.path()), 0, "the first has left: nobody can join any more");
}

#[test]
fn what_cannot_be_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for workers in [0, 257, usize::MAX] {
        assert!(matches!(create(folder.path(), workers), Err(SharedMemoryError::Group(_))), "{workers}");
    }
    for capacity in [0, 3, 100, usize::MAX, 1 << 63] {
        let result = create_with(folder.path(), 2, capacity);
        assert!(matches!(result, Err(SharedMemoryError::Group(_))), "{capacity}");
    }
    assert!(matches!(create(&folder.path().join("none"), 2), Err(SharedMemoryError::System { .. })));
    assert_eq!(link_files(folder.path()), 0);
}

#[test]
fn files_that_are_no_links_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = create(folder.path(), 2).unwrap();
    let whole = fs::read(first.path()).unwrap();
    let path = folder.path().join("other");
    for worker in 0..2 {
        fs::write(folder.path().join(format!("other.{worker}")), b"").unwrap();
    }
    let with = |at: usize, word: u64| {
        let mut bytes = whole.clone();
        bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
        bytes
    };
    let longer: Vec<u8> = whole.iter().copied().chain([0]).collect();
    for (content, words) in [
        (Vec::new(), "fewer than a header"),
        (vec![0; 100], "fewer than a header"),
        (vec![0; 4096], "not finished"),
        (b"something else".repeat(1_000), "does not begin"),
        (whole[..whole.len() - 1].to_vec(), "bytes, not"),
        (longer, "bytes, not"),
        (with(8, 77), "version 77"),
        (with(16, 0), "between 1 and 256"),
        (with(16, 3), "bytes, not"),
        (with(16, u64::MAX), "between 1 and 256"),
        (with(24, 1 << 10), "bytes, not"),
        (with(24, 12_345), "power of two"),
        (with(24, 1 << 63), "so many"),
    ] {
        fs::write(&path, content).unwrap();
        let error = join(&path, 1).unwrap_err();
        assert!(matches!(error, SharedMemoryError::Unfit { .. }), "{error}");
        assert!(error.to_string().contains(words), "{error}, not {words}");
    }
    assert!(matches!(join(&folder.path().join("none"), 1), Err(SharedMemoryError::System { .. })));
    // The copy as it is would do, but for the place that is taken in it.
    fs::write(&path, &whole).unwrap();
    join(&path, 1).unwrap();
}

/// Whatever another process writes to the file, this one keeps to its rings: it gets bytes or an error.
#[test]
fn nonsense_leads_nowhere() {
    let mut seed = 1_u64;
    let mut random = |limit: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % limit
    };
    let mut garbled = 0;
    for _ in 0..300 {
        let folder = tempfile::tempdir().unwrap();
        let mut link = create_with(folder.path(), 2, 256).unwrap();
        let mut file = OpenOptions::new().write(true).open(link.path()).unwrap();
        let words = file.metadata().unwrap().len() / 8;
        let _other = join(link.path(), 1).unwrap();
        for _ in 0..200 {
            // The magic and what else is read once is behind us; counters are among the few words there are.
            file.seek(SeekFrom::Start(random(words) * 8)).unwrap();
            let word = [random(600), u64::MAX - random(600), random(u64::MAX)][random(3) as usize];
            file.write_all(&word.to_le_bytes()).unwrap();
            if link.send(1, &[1; 300]).is_ok_and(|count| count > 256) {
                panic!("more was sent than there is room for");
            }
            match link.received(1) {
                Ok(come) => {
                    let count = come.len();
                    assert!(count <= 256);
                    link.take(1, random(count as u64 + 1) as usize);
                }
                Err(error) => garbled += usize::from(matches!(error.problem, LinkProblem::Garbled(_))),
            }
            let _ = link.wait(Duration::ZERO);
        }
    }
    assert!(garbled > 100, "only {garbled} times something was wrong");
}
