//! Links over TCP, between processes on one machine or many: one connection between each two workers.
//!
//! The first worker listens at a [`Rendezvous`]; the others [`join`] it with a [`Token`] that all of them know, are told
//! where the others listen, and connect to each other. Whoever does not know the token gets nothing but a closed
//! connection, and costs a bounded amount of memory and time. With an
//! [`Identity`] all is encrypted, and both ends of each connection show that they belong to the group before anything
//! else is said. Without, the token goes over the wire as it is: these links are for networks where nobody listens.

mod arrivals;
mod identity;
mod join;
mod join_file;
mod link;
pub mod messages;
mod rendezvous;
mod token;

pub use identity::Identity;
pub use join::{Membership, join};
pub use join_file::{read_join_file, write_join_file};
pub use messages::VERSION;
pub use rendezvous::{Newcomer, Rendezvous};
pub use token::Token;

use super::{LinkError, LinkProblem, Transport, frame};
use arrivals::failed;
use link::Link;
use mio::{Events, Interest, Poll, Token as Watched};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thiserror::Error;

/// How long to look for something new without sleeping: waking up takes about as long.
const SPIN: Duration = Duration::from_micros(50);

/// How long a worker that leaves waits for the system to take its last words.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// What all workers of a group agree on, and how patient they are.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What all of them know.
    pub token: Token,
    /// The certificates with which both ends of each connection show that they belong to the group; encrypted then.
    pub identity: Option<Arc<Identity>>,
    /// How long somebody who connects may take to show it.
    pub handshake: Duration,
    /// For how long a machine may be silent before it counts as lost.
    pub silence: Duration,
}

impl Settings {
    /// Not encrypted, with five seconds for the token and ten of silence.
    pub fn new(token: Token) -> Self {
        Self { token, identity: None, handshake: Duration::from_secs(5), silence: Duration::from_secs(10) }
    }
}

/// Why a group does not come together.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The system does not do something.
    #[error("cannot {what}: {source}")]
    System {
        /// What it was to do.
        what: String,
        /// Why it does not.
        source: io::Error,
    },
    /// No such group can be.
    #[error("a group of {workers} workers cannot be: there must be 1 to {max}")]
    Workers {
        /// How many there should be.
        workers: usize,
        /// How many there may be.
        max: usize,
    },
    /// A worker says too much of itself.
    #[error("what a worker says of itself takes {bytes} bytes, more than {max}")]
    LongAbout {
        /// How much.
        bytes: usize,
        /// How much it may be.
        max: usize,
    },
    /// The group is not complete.
    #[error("worker {worker} has not joined")]
    Missing {
        /// Who is missing.
        worker: usize,
    },
    /// The first worker does not want this one, and says why.
    #[error("the first worker refuses this one: {0}")]
    Refused(String),
    /// The connection was closed without an answer.
    #[error(
        "{address} closed the connection without an answer: another token is needed there, or nobody waits for workers"
    )]
    Closed {
        /// Where.
        address: SocketAddr,
    },
    /// Something else listens there.
    #[error("{address} does not answer as the first worker of a group does")]
    NoWorker {
        /// Where.
        address: SocketAddr,
    },
    /// One of the ends does not take the other's certificate.
    #[error("no trusted connection to {address}: {why}")]
    NotTrusted {
        /// Where.
        address: SocketAddr,
        /// What is wrong.
        why: String,
    },
    /// The file with which to join is none.
    #[error("{} is no file to join with: {what}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// It took too long.
    #[error("worker {worker} was waited for in vain")]
    TooLate {
        /// Who was waited for.
        worker: usize,
    },
    /// A worker was lost while the group came together.
    #[error(transparent)]
    Lost(#[from] LinkError),
}

impl JoinError {
    fn lost(worker: usize, problem: LinkProblem) -> Self {
        Self::Lost(LinkError { worker, problem })
    }
}

/// The first address of a name.
fn resolve(address: impl ToSocketAddrs) -> Result<SocketAddr, JoinError> {
    let nothing = || io::Error::new(ErrorKind::NotFound, "the name has no address");
    let first = address.to_socket_addrs().and_then(|mut all| all.next().ok_or_else(nothing));
    first.map_err(failed("find the address"))
}

/// One worker's links over TCP.
#[derive(Debug)]
pub struct TcpLinks {
    worker: usize,
    /// By number; none to itself.
    links: Vec<Option<Link>>,
    poll: Poll,
    events: Events,
    spin: Duration,
}

impl TcpLinks {
    fn new(worker: usize, links: Vec<Option<Link>>) -> Result<Self, JoinError> {
        let poll = Poll::new().map_err(failed("watch links"))?;
        let mut links: Vec<_> = links.into_iter().map(|link| link.map(Link::for_data)).collect();
        for (peer, link) in links.iter_mut().enumerate() {
            let Some(link) = link else { continue };
            (link.readable, link.writable) = (true, true);
            let both = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(link.stream(), Watched(peer), both).map_err(failed("watch a link"))?;
        }
        // With one core, whoever waits keeps the others from working.
        let alone = std::thread::available_parallelism().map_or(1, usize::from) == 1;
        let spin = if alone { Duration::ZERO } else { SPIN };
        Ok(Self { worker, poll, events: Events::with_capacity(2 * links.len() + 1), links, spin })
    }

    fn link(&mut self, worker: usize) -> Result<&mut Link, LinkError> {
        let itself =
            || LinkError { worker, problem: LinkProblem::Broken("there is no such link".to_owned()) };
        self.links.get_mut(worker).and_then(Option::as_mut).ok_or_else(itself)
    }

    /// All links with the numbers of the workers at their ends.
    fn each(&mut self) -> impl Iterator<Item = (usize, &mut Link)> {
        self.links.iter_mut().enumerate().filter_map(|(peer, link)| Some((peer, link.as_mut()?)))
    }

    /// Waits until all that was taken on is on its way, at most this long.
    fn flush_within(&mut self, at_most: Duration) -> Result<(), LinkError> {
        let until = Instant::now() + at_most;
        while !self.flush()? {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.look(left)?;
        }
        Ok(())
    }

    /// Lets the system say what may be read and written, and says whether there is anything new.
    fn look(&mut self, at_most: Duration) -> Result<bool, LinkError> {
        match self.poll.poll(&mut self.events, Some(at_most)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => {
                let problem = LinkProblem::Broken(format!("links cannot be watched: {error}"));
                return Err(LinkError { worker: self.worker, problem });
            }
            _ => {}
        }
        let mut news = false;
        for event in &self.events {
            let Some(link) = self.links.get_mut(event.token().0).and_then(Option::as_mut) else { continue };
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                link.readable = true;
            }
            if !link.writable && event.is_writable() {
                link.writable = true;
                news = true;
            }
        }
        for (_, link) in self.each() {
            news |= link.readable && link.fill();
            if link.writable && !link.is_flushed() {
                // A link that is broken says so when it is used.
                let _ = link.push();
            }
        }
        Ok(news)
    }
}

impl Transport for TcpLinks {
    fn name(&self) -> &'static str {
        "tcp"
    }

    fn worker(&self) -> usize {
        self.worker
    }

    fn workers(&self) -> usize {
        self.links.len()
    }

    fn send(&mut self, to: usize, bytes: &[u8]) -> Result<usize, LinkError> {
        self.link(to)?.send(bytes).map_err(|problem| LinkError { worker: to, problem })
    }

    fn received(&mut self, from: usize) -> Result<&[u8], LinkError> {
        self.link(from)?.received().map_err(|problem| LinkError { worker: from, problem })
    }

    fn take(&mut self, from: usize, bytes: usize) {
        match self.link(from) {
            Ok(link) => link.take(bytes),
            Err(_) => assert_eq!(bytes, 0, "nothing comes from worker {from}"),
        }
    }

    fn flush(&mut self) -> Result<bool, LinkError> {
        let mut flushed = true;
        for (worker, link) in self.each() {
            if !link.is_flushed() {
                link.push().map_err(|problem| LinkError { worker, problem })?;
                flushed &= link.is_flushed();
            }
        }
        Ok(flushed)
    }

    fn wait(&mut self, at_most: Duration) -> Result<(), LinkError> {
        let mut news = false;
        for (worker, link) in self.each() {
            news |= link.readable && link.fill();
            if let Some(problem) = link.lost() {
                return Err(LinkError { worker, problem });
            }
        }
        let start = Instant::now();
        while !news && start.elapsed() < self.spin.min(at_most) {
            news = self.look(Duration::ZERO)?;
            if !news {
                // Whoever is waited for may need this core.
                std::thread::yield_now();
            }
        }
        if !news {
            self.look(at_most.saturating_sub(start.elapsed()))?;
        }
        for (worker, link) in self.each() {
            if let Some(problem) = link.lost() {
                return Err(LinkError { worker, problem });
            }
        }
        Ok(())
    }

    fn leave(&mut self, reason: Option<&str>) {
        let reason = frame::text(frame::Kind::Goodbye, reason.unwrap_or(""));
        let goodbye = frame::frame(frame::Kind::Goodbye, reason);
        for (_, link) in self.each() {
            // Who has gone need not be told.
            let _ = link.say(&goodbye);
        }
        let until = Instant::now() + LAST_WORDS;
        let left = || until.saturating_duration_since(Instant::now());
        // Each link has its turn, however many others are slow.
        while self
            .each()
            .filter_map(|(_, link)| link.push().is_ok().then(|| link.is_flushed()))
            .filter(|f| !f)
            .count()
            > 0
            && !left().is_zero()
        {
            let _ = self.look(left());
        }
        self.each().for_each(|(_, link)| link.close());
        // Who is told that something failed will end as well, and may still be sending.
        while !reason.is_empty()
            && self.each().map(|(_, link)| link.is_over()).filter(|over| !over).count() > 0
            && !left().is_zero()
        {
            let _ = self.look(left());
        }
        self.each().for_each(|(_, link)| link.end());
    }
}
