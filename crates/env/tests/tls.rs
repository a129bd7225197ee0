//! Who gets into an encrypted group, and the file with which one does.

#[allow(dead_code)]
mod common;

use common::{PATIENCE, all_are_here, encrypted, joining, settings};
use outgrow_env::Transport;
use outgrow_env::transport::tcp::messages::Purpose;
use outgrow_env::transport::tcp::{
    Identity, JoinError, Membership, Rendezvous, Settings, read_join_file, write_join_file,
};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

#[test]
fn only_who_has_the_groups_certificate_gets_in() {
    let mut rendezvous = Rendezvous::listen("127.0.0.1:0", 2, encrypted()).unwrap();
    let address = rendezvous.address().unwrap();
    // The right token is not enough.
    let foreign = Settings { identity: Some(Arc::new(Identity::random().unwrap())), ..settings() };
    let plain = settings();
    let mut refused = |thread: JoinHandle<Result<Membership, JoinError>>| {
        while !thread.is_finished() {
            rendezvous
                .wait(Duration::from_millis(10), &mut |_| panic!("somebody without a certificate is let in"))
                .unwrap();
        }
        thread.join().unwrap().map(|_| ()).unwrap_err()
    };
    let error = refused(joining(address, None, foreign));
    assert!(matches!(error, JoinError::NotTrusted { .. }), "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");
    let error = refused(joining(address, None, plain));
    assert!(matches!(error, JoinError::NoWorker { .. } | JoinError::Closed { .. }), "{error}");
    // Nothing that is said in the open is heard.
    let purpose = Purpose::Join { wanted: None, listens: address, about: Vec::new() };
    let mut stranger = TcpStream::connect(address).unwrap();
    stranger.write_all(&purpose.hello(&settings().token)).unwrap();
    let friend = joining(address, None, encrypted());
    all_are_here(&mut rendezvous);
    let links = rendezvous.finish(b"").unwrap();
    assert_eq!((links.workers(), friend.join().unwrap().unwrap().links.worker()), (2, 1));
    stranger.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = Vec::new();
    let _ = stranger.read_to_end(&mut answer);
    assert!(answer.len() < 10, "at most an alert: {answer:?}");
}

#[test]
fn who_is_encrypted_does_not_join_a_group_in_the_open() {
    let mut rendezvous = Rendezvous::listen("127.0.0.1:0", 2, settings()).unwrap();
    let thread = joining(rendezvous.address().unwrap(), None, encrypted());
    while !thread.is_finished() {
        rendezvous.wait(Duration::from_millis(10), &mut |_| panic!("it is let in")).unwrap();
    }
    let error = thread.join().unwrap().map(|_| ()).unwrap_err();
    assert!(matches!(error, JoinError::Closed { .. }), "{error}");
}

#[test]
fn the_file_to_join_with_is_its_owners_and_tells_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("join.toml");
    for settings in [settings(), encrypted()] {
        let mut rendezvous = Rendezvous::listen("127.0.0.1:0", 2, settings.clone()).unwrap();
        let address = rendezvous.address().unwrap();
        // In place of an older one.
        write_join_file(&path, &address.to_string(), &settings).unwrap();
        #[cfg(unix)]
        {
            let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
            assert_eq!(mode & 0o777, 0o600);
        }
        let (read, settings) = read_join_file(&path).unwrap();
        assert_eq!(read, address.to_string());
        let other = joining(read.parse().unwrap(), None, settings);
        all_are_here(&mut rendezvous);
        rendezvous.finish(b"").unwrap();
        other.join().unwrap().unwrap();
    }
    let whole = std::fs::read_to_string(&path).unwrap();
    let key = whole.lines().find(|line| line.starts_with("key")).unwrap();
    let long = "x".repeat(70_000);
    for (text, expected) in [
        ("", "it has no line `address = \"…\"`"),
        (&whole.replace("token", "taken"), "it has no line `token = \"…\"`"),
        (&whole.replace("5a5a", "5a"), "its token is not one"),
        (&whole.replace(key, ""), "it has no line `key = \"…\"`"),
        (&whole.replace(key, "key = \"0g\""), "its key is not hexadecimal"),
        (&whole.replace(key, "key = \"00\""), "failed to parse private key"),
        (&long, "it is too long"),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = read_join_file(&path).map(|_| ()).unwrap_err().to_string();
        let prefix = format!("{} is no file to join with: ", path.display());
        assert!(error.starts_with(&prefix) && error.contains(expected), "{error}");
    }
    let error = read_join_file(&folder.path().join("none")).map(|_| ()).unwrap_err().to_string();
    assert!(error.starts_with("cannot read ") && error.contains("none"), "{error}");
}
