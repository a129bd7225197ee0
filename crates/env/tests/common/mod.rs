//! Groups over TCP on this machine, and streams over links of any kind with an end to all patience, for tests.

use outgrow_env::transport::tcp::{
    Identity, JoinError, Membership, Rendezvous, Settings, TcpLinks, Token, join,
};
use outgrow_env::{LinkError, Transport};
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

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

/// Nothing here takes as long: what does is stuck.
pub const STUCK: Duration = Duration::from_secs(60);
/// How long somebody waits who looks again anyway.
pub const A_WHILE: Duration = Duration::from_secs(1);

/// Ends one after the other until `done`, with a limit.
pub struct Patience(Instant);

impl Patience {
    pub fn new() -> Self {
        Self(Instant::now())
    }

    pub fn check(&self, what: &str) {
        assert!(self.0.elapsed() < STUCK, "{what} has come to no end");
    }
}

/// Sends all of these and sees them on their way.
pub fn send_all(link: &mut dyn Transport, to: usize, mut bytes: &[u8]) -> Result<(), LinkError> {
    let patience = Patience::new();
    while !bytes.is_empty() {
        let count = link.send(to, bytes)?;
        bytes = &bytes[count..];
        if !bytes.is_empty() {
            link.wait(A_WHILE)?;
        }
        patience.check("sending");
    }
    flush(link)
}

/// Sees on its way all that was sent.
pub fn flush(link: &mut dyn Transport) -> Result<(), LinkError> {
    let patience = Patience::new();
    while !link.flush()? {
        link.wait(A_WHILE)?;
        patience.check("flushing");
    }
    Ok(())
}

/// Takes so many bytes from a worker.
pub fn receive(link: &mut dyn Transport, from: usize, count: usize) -> Result<Vec<u8>, LinkError> {
    let patience = Patience::new();
    let mut bytes = Vec::new();
    while bytes.len() < count {
        let come = link.received(from)?;
        let wanted = come.len().min(count - bytes.len());
        bytes.extend_from_slice(&come[..wanted]);
        link.take(from, wanted);
        if wanted == 0 {
            link.wait(A_WHILE)?;
        }
        patience.check("receiving");
    }
    Ok(bytes)
}
