//! Who connects to a worker's port. Anybody may, so everything is bounded: how many there are that have not shown the
//! token, what each may send until then, and how long it may take. Nobody without the token gets an answer.

use super::super::frame::{self, Decoder, HEADER_BYTES, Kind};
use super::identity::End;
use super::link::Link;
use super::messages::{Purpose, Stranger};
use super::{JoinError, Settings, VERSION};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token as Watched};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The most that may be here without having shown the token. When more come, the one that has been here longest has to
/// go: who knows the token has shown it long before.
const STRANGERS_MAX: usize = 64;

/// The most that are let in at once before the others are looked after.
const ACCEPTED_AT_ONCE: usize = 32;

/// How long to wait at most without looking around: for those that take too long.
const LOOK: Duration = Duration::from_millis(100);

/// Somebody who has connected and shown the token.
#[derive(Debug)]
pub struct Arrived {
    pub link: Link,
    pub address: SocketAddr,
    pub purpose: Purpose,
}

#[derive(Debug)]
struct Visitor {
    link: Link,
    address: SocketAddr,
    since: Instant,
}

/// A port and who is at it.
#[derive(Debug)]
pub struct Arrivals {
    listener: TcpListener,
    poll: Poll,
    events: Events,
    visitors: Vec<Visitor>,
}

impl Arrivals {
    /// Listens.
    pub fn listen(address: SocketAddr) -> io::Result<Self> {
        let mut listener = TcpListener::bind(address)?;
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, Watched(0), Interest::READABLE)?;
        Ok(Self { listener, poll, events: Events::with_capacity(128), visitors: Vec::new() })
    }

    /// Where.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Wakes [`Arrivals::wait`] for this link as well.
    pub fn watch(&self, link: &mut Link) -> io::Result<()> {
        self.poll.registry().register(link.stream(), Watched(1), Interest::READABLE | Interest::WRITABLE)
    }

    /// Does so no longer.
    pub fn forget(&self, link: &mut Link) -> io::Result<()> {
        self.poll.registry().deregister(link.stream())
    }

    /// Waits until something has happened, at most this long.
    pub fn wait(&mut self, at_most: Duration) -> io::Result<()> {
        match self.poll.poll(&mut self.events, Some(at_most.min(LOOK))) {
            Err(error) if error.kind() != ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    /// Lets in who has come, and gives who has shown the token since the last time.
    pub fn arrived(&mut self, settings: &Settings) -> Vec<Arrived> {
        for _ in 0..ACCEPTED_AT_ONCE {
            match self.listener.accept() {
                // A connection that breaks at once is none, and one that the system has no room for is let in later.
                Err(_) => break,
                Ok((stream, address)) => {
                    let _ = self.let_in(stream, address, settings);
                }
            }
        }
        let mut arrived = Vec::new();
        let mut waiting = Vec::with_capacity(self.visitors.len());
        for mut visitor in self.visitors.drain(..) {
            match visitor.link.heard() {
                Ok(None) if visitor.since.elapsed() < settings.handshake => waiting.push(visitor),
                Ok(Some((Kind::Hello, content))) => match Purpose::of_hello(&content, &settings.token) {
                    Ok(purpose) => {
                        arrived.push(Arrived { link: visitor.link, address: visitor.address, purpose });
                    }
                    Err(Stranger::Version(version)) => {
                        let text = format!(
                            "it speaks version {version} of the protocol of workers, and the others {VERSION}"
                        );
                        refuse(visitor.link, &text);
                    }
                    Err(Stranger::Unknown) => {}
                },
                // Too slow, gone, or no worker.
                _ => {}
            }
        }
        self.visitors = waiting;
        arrived
    }

    fn let_in(&mut self, stream: TcpStream, address: SocketAddr, settings: &Settings) -> io::Result<()> {
        if self.visitors.len() >= STRANGERS_MAX {
            self.visitors.remove(0);
        }
        let decoder = Decoder::new(HEADER_BYTES + Kind::Hello.bytes_max());
        let mut link = Link::new(stream, End::Accepting, decoder, settings)?;
        self.watch(&mut link)?;
        self.visitors.push(Visitor { link, address, since: Instant::now() });
        Ok(())
    }
}

/// Says why somebody cannot join, as far as that is possible at once.
pub fn refuse(mut link: Link, why: &str) {
    if link.say(&frame::frame(Kind::Refusal, frame::text(Kind::Refusal, why))).is_ok() {
        link.close();
    }
}

/// An error of the system while workers come together.
pub fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> JoinError {
    let what = what.into();
    move |source| JoinError::System { what, source }
}
