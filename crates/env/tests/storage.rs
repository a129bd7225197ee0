//! The conformance suite of storage: every backend passes the same checks. Then what only a simulation can show
//! (crashes) and what only a real machine can (a really full disk, a lock held by another process).

use outgrow_env::{LocalStorage, SimStorage, StorageBackend, StorageError};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs `check` on every backend with an empty folder.
fn on_every_backend(check: impl Fn(&dyn StorageBackend, &Path)) {
    let temporary = tempfile::tempdir().unwrap();
    check(&LocalStorage::new(), temporary.path());
    let sim = SimStorage::new(1);
    sim.create_folder(Path::new("/data")).unwrap();
    check(&sim, Path::new("/data"));
}

fn names(storage: &dyn StorageBackend, folder: &Path) -> Vec<String> {
    storage.list(folder).unwrap().into_iter().map(|e| e.name).collect()
}

#[test]
fn written_bytes_are_read_back() {
    on_every_backend(|storage, folder| {
        let path = folder.join("a.bin");
        for content in [&b"first"[..], b"", b"the second is longer", &[7; 1 << 20]] {
            storage.write(&path, content).unwrap();
            assert_eq!(storage.read(&path).unwrap(), content);
            let entry = storage.entry(&path).unwrap().unwrap();
            assert_eq!(
                (entry.name.as_str(), entry.is_folder, entry.bytes),
                ("a.bin", false, content.len() as u64)
            );
        }
        storage.write(&path, b"0123456789").unwrap();
        assert_eq!(storage.read_range(&path, 3, 4).unwrap(), b"3456");
        assert_eq!(storage.read_range(&path, 10, 0).unwrap(), b"");
        for (offset, length) in [(7, 4), (11, 0), (u64::MAX, 2), (0, usize::MAX)] {
            let error = storage.read_range(&path, offset, length).unwrap_err();
            assert!(matches!(error, StorageError::OutOfRange { available: 10, .. }), "{error}");
        }
        assert_eq!(names(storage, folder), ["a.bin"]);
    });
}

#[test]
fn mapped_bytes_stay_whatever_becomes_of_the_file() {
    on_every_backend(|storage, folder| {
        let path = folder.join("a");
        for length in [0, 1, 4096, (1 << 16) - 1, 1 << 16, (1 << 20) + 1] {
            let content: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            storage.write(&path, &content).unwrap();
            let mapped = storage.map(&path).unwrap();
            assert!(mapped == content, "{length} bytes");
            storage.write(&path, b"new").unwrap();
            let part = mapped.slice(length / 2..);
            drop(mapped);
            storage.remove_file(&path).unwrap();
            assert!(part == content[length / 2..], "{length} bytes, replaced and removed");
        }
        assert!(storage.map(&path).unwrap_err().is_not_found());
        let error = storage.map(folder).unwrap_err();
        assert_eq!(error.to_string(), storage.read(folder).unwrap_err().to_string());
    });
}

#[test]
fn a_write_that_fails_leaves_the_old_content() {
    on_every_backend(|storage, folder| {
        let path = folder.join("a");
        storage.write(&path, b"old").unwrap();
        let error = storage
            .write_with(&path, &mut |out| {
                out.write_all(&[1; 1 << 20])?;
                Err(io::Error::other("the source dried up"))
            })
            .unwrap_err();
        assert!(error.to_string().contains("the source dried up") && error.path() == path, "{error}");
        assert_eq!(storage.read(&path).unwrap(), b"old");
        assert_eq!(names(storage, folder), ["a"]);
        assert_eq!(storage.sweep(folder).unwrap(), 0, "the temporary file must be gone");
    });
}

#[test]
fn appending_adds_at_the_end() {
    on_every_backend(|storage, folder| {
        let path = folder.join("log");
        storage.append(&path, b"one\n").unwrap();
        storage.append(&path, b"two\n").unwrap();
        assert_eq!(storage.read(&path).unwrap(), b"one\ntwo\n");
    });
}

#[test]
fn folders_nest_list_in_order_and_go_with_their_content() {
    on_every_backend(|storage, folder| {
        let deep = folder.join("x/y/z");
        storage.create_folder(&deep).unwrap();
        storage.create_folder(&deep).unwrap();
        for name in ["b", "a", "c"] {
            storage.write(&deep.join(name), b"1").unwrap();
        }
        assert_eq!(names(storage, &deep), ["a", "b", "c"]);
        assert!(storage.list(folder).unwrap()[0].is_folder);
        storage.remove_file(&deep.join("b")).unwrap();
        storage.remove_file(&deep.join("b")).unwrap();
        assert_eq!(names(storage, &deep), ["a", "c"]);
        storage.remove_tree(&folder.join("x")).unwrap();
        storage.remove_tree(&folder.join("x")).unwrap();
        assert_eq!(storage.entry(&deep.join("a")).unwrap(), None);
        assert_eq!(names(storage, folder), [""; 0]);
    });
}

#[test]
fn errors_name_the_operation_and_the_path() {
    on_every_backend(|storage, folder| {
        let nothing = folder.join("no/such");
        let file = folder.join("file");
        storage.write(&file, b"x").unwrap();
        let error = storage.read(&nothing).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot read {}: no such file or folder", nothing.display()));
        let error = storage.write(&nothing, b"").unwrap_err();
        assert_eq!(error.to_string(), format!("cannot write {}: no such file or folder", nothing.display()));
        for error in [
            storage.list(&nothing).unwrap_err(),
            storage.lock(&nothing).unwrap_err(),
            storage.append(&nothing, b"x").unwrap_err(),
        ] {
            assert!(error.is_not_found(), "{error}");
        }
        for error in [
            storage.read(folder).unwrap_err(),
            storage.write(folder, b"").unwrap_err(),
            storage.create_folder(&file).unwrap_err(),
            storage.create_folder(&file.join("inside")).unwrap_err(),
            storage.list(&file).unwrap_err(),
        ] {
            assert!(matches!(error, StorageError::Io { .. }), "{error}");
        }
        assert_eq!(storage.read(&file).unwrap(), b"x");
    });
}

#[test]
fn a_lock_excludes_until_it_is_dropped() {
    on_every_backend(|storage, folder| {
        assert!(!storage.is_locked(folder).unwrap());
        let lock = storage.lock(folder).unwrap();
        assert!(storage.is_locked(folder).unwrap());
        match storage.lock(folder).unwrap_err() {
            StorageError::Locked { path, holder } => {
                assert_eq!((path.as_path(), holder), (folder, Some(std::process::id())));
            }
            other => panic!("{other}"),
        }
        assert_eq!(names(storage, folder), [""; 0], "the lock's file is not content");
        drop(lock);
        assert!(!storage.is_locked(folder).unwrap());
        drop(storage.lock(folder).unwrap());
    });
}

/// A crash at any operation of a write, under many seeds, leaves the old or the new content whole; once the write
/// has returned, only the new one.
#[test]
fn a_crash_at_any_moment_leaves_old_or_new() {
    let (folder, path) = (Path::new("/data"), Path::new("/data/file"));
    let (old, new) = (vec![1; 3000], vec![2; 700_000]);
    let (mut kept_old, mut kept_new) = (0, 0);
    for seed in 0..40 {
        for operation in 1.. {
            let sim = SimStorage::new(seed);
            sim.create_folder(folder).unwrap();
            sim.write(path, &old).unwrap();
            sim.disk().crash_at_operation(Some(operation));
            let result = sim.write(path, &new);
            let finished = !sim.disk().has_crashed();
            assert_eq!(result.is_ok(), finished);
            sim.disk().restart();
            sim.sweep(folder).unwrap();
            let after = sim.read(path).unwrap();
            assert!(after == new || (after == old && !finished), "seed {seed}, operation {operation}");
            assert_eq!(names(&sim, folder), ["file"]);
            if after == new {
                kept_new += 1
            } else {
                kept_old += 1
            }
            if finished {
                break;
            }
        }
    }
    assert!(kept_old > 40 && kept_new > 40, "both outcomes must occur: {kept_old}, {kept_new}");
}

/// What was appended before the crash stays; of what was being appended, any part may.
#[test]
fn a_crash_while_appending_keeps_what_was_there() {
    let path = Path::new("/log");
    for seed in 0..60 {
        let sim = SimStorage::new(seed);
        sim.append(path, b"kept\n").unwrap();
        sim.disk().crash_at_operation(Some(1 + seed % 2));
        sim.append(path, b"torn\n").unwrap_err();
        sim.disk().restart();
        let after = sim.read(path).unwrap();
        assert!(after.starts_with(b"kept\n") && after.len() <= 10, "{after:?}");
    }
}

#[test]
fn a_full_simulated_disk_keeps_what_was_there() {
    let sim = SimStorage::new(3);
    let path = Path::new("/file");
    sim.write(path, &[1; 1000]).unwrap();
    sim.append(Path::new("/log"), b"one\n").unwrap();
    sim.disk().set_capacity(Some(1500));
    assert!(sim.write(path, &[2; 1000]).unwrap_err().is_no_space());
    assert!(sim.append(Path::new("/log"), &[b'x'; 1000]).unwrap_err().is_no_space());
    assert!(sim.append(Path::new("/log2"), &[b'x'; 1000]).unwrap_err().is_no_space());
    assert_eq!(sim.read(path).unwrap(), [1; 1000]);
    assert_eq!(sim.read(Path::new("/log")).unwrap(), b"one\n");
    assert_eq!(sim.disk().used(), 1004, "no temporary file is left");
}

#[test]
fn simulated_media_faults_change_what_is_read() {
    let sim = SimStorage::new(5);
    let path = Path::new("/file");
    sim.write(path, &[0; 100]).unwrap();
    sim.disk().flip_on_read(true);
    let bits: u32 = sim.read(path).unwrap().iter().map(|b| b.count_ones()).sum();
    assert_eq!(bits, 1);
    sim.disk().flip_on_read(false);
    assert_eq!(sim.read(path).unwrap(), [0; 100]);
    sim.disk().corrupt(path, |bytes| bytes.truncate(7));
    assert_eq!(sim.read(path).unwrap(), [0; 7]);
}

/// Environment variables with which a test runs itself in another process.
const FULL_DISK: &str = "OUTGROW_TEST_FULL_DISK";
const HOLD_LOCK: &str = "OUTGROW_TEST_HOLD_LOCK";

/// A command that runs one test of this file in another process.
fn this_test(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture"]);
    command
}

/// The disk is a memory file system of 64 KiB, mounted in a name space of its own; where the system does not allow
/// that, the test says so and skips.
#[test]
#[allow(clippy::print_stdout)]
fn a_full_real_disk_keeps_what_was_there() {
    if let Some(folder) = std::env::var_os(FULL_DISK).map(PathBuf::from) {
        let storage = LocalStorage::new();
        let (file, log) = (folder.join("file"), folder.join("log"));
        storage.write(&file, &[1; 20_000]).unwrap();
        storage.append(&log, b"one\n").unwrap();
        let error = storage.write(&file, &[2; 100_000]).unwrap_err();
        assert!(error.is_no_space() && error.to_string().contains("no space left"), "{error}");
        assert!(storage.append(&log, &[b'x'; 100_000]).unwrap_err().is_no_space());
        assert_eq!(storage.read(&file).unwrap(), [1; 20_000]);
        assert_eq!(storage.read(&log).unwrap(), b"one\n");
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2, "no temporary file is left");
        storage.write(&file, &[3; 20_000]).unwrap();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mount = format!("mount -t tmpfs -o size=64k tmpfs {:?}", folder.path());
    let possible = Command::new("unshare").args(["-rm", "sh", "-c", &mount]).output();
    if !possible.is_ok_and(|o| o.status.success()) {
        println!("skipped: this system does not let a test mount a small disk");
        return;
    }
    let test = this_test("a_full_real_disk_keeps_what_was_there");
    let arguments: Vec<_> = test.get_args().map(|a| a.to_string_lossy().into_owned()).collect();
    let script = format!("{mount} && exec {:?} {}", test.get_program(), arguments.join(" "));
    let output = Command::new("unshare")
        .args(["-rm", "sh", "-c", &script])
        .env(FULL_DISK, folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// The lock of a process that is killed ends with it.
#[test]
fn a_lock_dies_with_its_process() {
    if let Some(folder) = std::env::var_os(HOLD_LOCK).map(PathBuf::from) {
        let _lock = LocalStorage::new().lock(&folder).unwrap();
        std::fs::write(folder.join("locked"), b"").unwrap();
        let mut line = String::new();
        io::stdin().read_line(&mut line).unwrap();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let storage = LocalStorage::new();
    let mut child = this_test("a_lock_dies_with_its_process")
        .env(HOLD_LOCK, folder.path())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while storage.entry(&folder.path().join("locked")).unwrap().is_none() {
        assert!(child.try_wait().unwrap().is_none(), "the child ended before it had the lock");
        std::thread::yield_now();
    }
    match storage.lock(folder.path()).unwrap_err() {
        StorageError::Locked { holder, .. } => assert_eq!(holder, Some(child.id())),
        other => panic!("{other}"),
    }
    child.kill().unwrap();
    child.wait().unwrap();
    drop(storage.lock(folder.path()).unwrap());
}

#[test]
fn a_pointer_says_what_is_meant() {
    on_every_backend(|storage, folder| {
        let pointer = folder.join("latest");
        assert_eq!(storage.pointed(&pointer).unwrap(), None);
        for name in ["a", "b", "b", "ä c"] {
            storage.create_folder(&folder.join(name)).unwrap();
            storage.point(&pointer, name).unwrap();
            assert_eq!(storage.pointed(&pointer).unwrap().as_deref(), Some(name));
        }
        assert_eq!(names(storage, folder), ["a", "b", "latest", "ä c"], "nothing else is left");
        // What is no name is no pointer, nor is a folder, which stays.
        for content in ["", "..", "a/b", "a\nb", &"x".repeat(300)] {
            storage.write(&folder.join("file"), content.as_bytes()).unwrap();
            assert_eq!(storage.pointed(&folder.join("file")).unwrap(), None, "{content}");
        }
        storage.write(&folder.join("a").join("kept"), b"").unwrap();
        assert!(storage.point(&folder.join("a"), "b").is_err());
        assert_eq!(storage.pointed(&folder.join("a")).unwrap(), None);
        assert_eq!(names(storage, &folder.join("a")), ["kept"]);
        assert_eq!(names(storage, folder).len(), 5);
    });
}

/// A link made by `point` is relative: the folder may be moved, and other programs follow it.
#[test]
#[cfg(unix)]
fn a_pointer_is_a_relative_link() {
    let folder = tempfile::tempdir().unwrap();
    let storage = LocalStorage::new();
    storage.create_folder(&folder.path().join("one").join("run")).unwrap();
    storage.write(&folder.path().join("one/run/file"), b"x").unwrap();
    storage.point(&folder.path().join("one/latest"), "run").unwrap();
    std::fs::rename(folder.path().join("one"), folder.path().join("two")).unwrap();
    assert_eq!(std::fs::read_link(folder.path().join("two/latest")).unwrap(), Path::new("run"));
    assert_eq!(std::fs::read(folder.path().join("two/latest/file")).unwrap(), b"x");
}

/// Who was killed between making a link and putting it in its place left it under its temporary name, wherever it leads.
#[test]
#[cfg(unix)]
fn what_was_left_of_a_pointer_goes_with_the_next_one() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("a")).unwrap();
    symlink("a", path(".tmp-17-0-latest")).unwrap();
    symlink("gone", path(".tmp-17-3-latest")).unwrap();
    std::fs::write(path(".tmp-18-1-latest"), "a").unwrap();
    // What others write at this moment.
    std::fs::write(path(".tmp-19-0-a-latest"), "").unwrap();
    std::fs::write(path(".tmp-19-1-a.csv"), "").unwrap();
    LocalStorage::new().point(&path("latest"), "a").unwrap();
    let mut names: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, [".tmp-19-0-a-latest", ".tmp-19-1-a.csv", "a", "latest"]);
}
