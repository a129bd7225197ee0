//! Groups over TCP on this machine, for tests.

use outgrow_env::Transport;
use outgrow_env::transport::tcp::{
    Identity, JoinError, Membership, Rendezvous, Settings, TcpLinks, Token, join,
};
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn settings() -> Settings {
    Settings::new(Token::of_hex(&"5a".repeat(32)).unwrap())
}

/// A worker that joins in a thread of its own.
pub fn joining(
    address: SocketAddr,
    wanted: Option<usize>,
    settings: Settings,
) -> std::thread::JoinHandle<Result<Membership, JoinError>> {
    std::thread::spawn(move || join(address, wanted, b"one of us", &settings, PATIENCE))
}

pub fn all_are_here(rendezvous: &mut Rendezvous) {
    assert!(rendezvous.wait(PATIENCE, &mut |_| Ok(())).unwrap(), "{:?} are missing", rendezvous.missing());
}

/// The same, encrypted.
pub fn encrypted() -> Settings {
    static IDENTITY: LazyLock<Arc<Identity>> = LazyLock::new(|| Arc::new(Identity::random().unwrap()));
    Settings { identity: Some(IDENTITY.clone()), ..settings() }
}

/// All ends of a group.
pub fn group(workers: usize, settings: Settings) -> Vec<TcpLinks> {
    let mut rendezvous = Rendezvous::listen("127.0.0.1:0", workers, settings.clone()).unwrap();
    let address = rendezvous.address().unwrap();
    let others: Vec<_> = (1..workers).map(|_| joining(address, None, settings.clone())).collect();
    all_are_here(&mut rendezvous);
    let mut links = vec![rendezvous.finish(b"the first").unwrap()];
    for other in others {
        let Membership { links: joined, about } = other.join().unwrap().unwrap();
        assert_eq!(about, b"the first");
        links.push(joined);
    }
    links.sort_by_key(|links| links.worker());
    links
}
