//! The other workers' way into a group: they greet the first one, are told where the others are, and link with them.

use super::super::LinkProblem;
use super::super::frame::{Decoder, HEADER_BYTES, Kind};
use super::arrivals::{Arrivals, Arrived, failed};
use super::identity::End;
use super::link::Link;
use super::messages::{ABOUT_BYTES_MAX, Purpose, Welcome};
use super::{JoinError, Settings, TcpLinks};
use mio::net::TcpStream;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

/// How soon to try again when nobody listens yet.
const TRY_AGAIN: Duration = Duration::from_millis(50);

/// What a worker that has joined has.
#[derive(Debug)]
pub struct Membership {
    /// The links to all others, which know this one's number.
    pub links: TcpLinks,
    /// What the first worker says of itself.
    pub about: Vec<u8>,
}

/// Joins the group whose first worker is at this address, with a certain number or any, and says what this worker is.
/// Waits until all have joined, at most for `patience`, also for the first worker to listen.
///
/// # Errors
/// When that takes too long, the first worker refuses or does not know the token, or another one is lost meanwhile.
pub fn join(
    address: impl ToSocketAddrs,
    wanted: Option<usize>,
    about: &[u8],
    settings: &Settings,
    patience: Duration,
) -> Result<Membership, JoinError> {
    if about.len() > ABOUT_BYTES_MAX {
        return Err(JoinError::LongAbout { bytes: about.len(), max: ABOUT_BYTES_MAX });
    }
    let until = Instant::now() + patience;
    let first = super::resolve(address)?;
    let mut link = connect(first, until, true, settings)?;
    let local = link.stream().local_addr().map_err(failed("learn this machine's address"))?.ip();
    let mut arrivals =
        Arrivals::listen(SocketAddr::new(local, 0)).map_err(failed(format!("listen on {local}")))?;
    let listens = arrivals.address().map_err(failed("learn the port's number"))?;
    arrivals.watch(&mut link).map_err(failed("watch a link"))?;
    let wanted = wanted.map(|wanted| u32::try_from(wanted).unwrap_or(u32::MAX - 1));
    let hello = Purpose::Join { wanted, listens, about: about.to_vec() }.hello(&settings.token);
    // Whether it is still there is seen when its answer is read.
    let _ = link.say(&hello);
    let welcome = welcome(&mut link, &mut arrivals, first, until, settings)?;
    let mut mesh = Mesh { worker: welcome.worker as usize, links: vec![Some(link)], settings };
    mesh.connect(&welcome.addresses, &arrivals, until)?;
    mesh.complete(&mut arrivals, until)?;
    let mut links = Vec::with_capacity(mesh.links.len());
    for (worker, link) in mesh.links.into_iter().enumerate() {
        let Some(mut link) = link.filter(|_| worker != mesh.worker) else {
            links.push(None);
            continue;
        };
        arrivals.forget(&mut link).map_err(failed("prepare a link"))?;
        links.push(Some(link));
    }
    let mut links = TcpLinks::new(mesh.worker, links)?;
    links.flush_within(settings.handshake)?;
    Ok(Membership { links, about: welcome.about })
}

/// A connection to a worker, tried again while nobody listens if that may change.
fn connect(address: SocketAddr, until: Instant, again: bool, settings: &Settings) -> Result<Link, JoinError> {
    let stream = loop {
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        match std::net::TcpStream::connect_timeout(&address, left) {
            Ok(stream) => break stream,
            Err(source) if left <= TRY_AGAIN || !again => {
                return Err(JoinError::System { what: format!("connect to {address}"), source });
            }
            Err(_) => std::thread::sleep(TRY_AGAIN),
        }
    };
    let prepare = || {
        stream.set_nonblocking(true)?;
        let decoder = Decoder::new(HEADER_BYTES + Kind::Welcome.bytes_max());
        Link::new(TcpStream::from_std(stream), End::Connecting, decoder, settings)
    };
    prepare().map_err(failed(format!("connect to {address}")))
}

/// What the first worker says when all are there.
fn welcome(
    link: &mut Link,
    arrivals: &mut Arrivals,
    first: SocketAddr,
    until: Instant,
    settings: &Settings,
) -> Result<Welcome, JoinError> {
    loop {
        // As above.
        let _ = link.push();
        match link.heard() {
            Ok(None) => {}
            Ok(Some((Kind::Refusal, content))) => {
                return Err(JoinError::Refused(String::from_utf8_lossy(&content).into_owned()));
            }
            Ok(Some((Kind::Welcome, content))) => {
                return Welcome::of_content(&content).ok_or(JoinError::NoWorker { address: first });
            }
            Err(LinkProblem::Broken(why)) if settings.identity.is_some() => {
                return Err(JoinError::NotTrusted { address: first, why });
            }
            Err(LinkProblem::Gone) => return Err(JoinError::Closed { address: first }),
            Err(LinkProblem::Garbled(_)) | Ok(_) => return Err(JoinError::NoWorker { address: first }),
            Err(problem) => return Err(JoinError::lost(0, problem)),
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(JoinError::TooLate { worker: 0 });
        }
        arrivals.wait(left).map_err(failed("wait for the first worker"))?;
    }
}

/// A worker's links while they come about. Each worker connects to those with higher numbers.
struct Mesh<'a> {
    worker: usize,
    links: Vec<Option<Link>>,
    settings: &'a Settings,
}

impl Mesh<'_> {
    fn connect(
        &mut self,
        addresses: &[SocketAddr],
        arrivals: &Arrivals,
        until: Instant,
    ) -> Result<(), JoinError> {
        for (to, address) in addresses.iter().enumerate().map(|(i, address)| (i + 1, address)) {
            if to <= self.worker {
                self.links.push(None);
                continue;
            }
            let mut link = connect(*address, until, false, self.settings)?;
            arrivals.watch(&mut link).map_err(failed("watch a link"))?;
            link.say(&self.greeting(to)).map_err(|problem| JoinError::lost(to, problem))?;
            self.links.push(Some(link));
        }
        Ok(())
    }

    fn greeting(&self, to: usize) -> Vec<u8> {
        Purpose::Link { from: self.worker as u32, to: to as u32 }.hello(&self.settings.token)
    }

    /// Waits for those with lower numbers to connect, and for those with higher ones to answer.
    fn complete(&mut self, arrivals: &mut Arrivals, until: Instant) -> Result<(), JoinError> {
        let mut unanswered: Vec<usize> = (self.worker + 1..self.links.len()).collect();
        loop {
            for Arrived { mut link, purpose, .. } in arrivals.arrived(self.settings) {
                let Purpose::Link { from, to } = purpose else { continue };
                let from = from as usize;
                if to as usize != self.worker
                    || !(1..self.worker).contains(&from)
                    || self.links[from].is_some()
                {
                    continue;
                }
                link.say(&self.greeting(from)).map_err(|problem| JoinError::lost(from, problem))?;
                self.links[from] = Some(link);
            }
            for to in std::mem::take(&mut unanswered) {
                if !self.has_answered(to)? {
                    unanswered.push(to);
                }
            }
            let missing = (1..self.worker).find(|from| self.links[*from].is_none());
            let Some(missing) = missing.or(unanswered.first().copied()) else {
                return Ok(());
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(JoinError::TooLate { worker: missing });
            }
            if let Some(problem) = self.links[0].as_mut().and_then(|first| {
                first.fill();
                first.lost()
            }) {
                return Err(JoinError::lost(0, problem));
            }
            arrivals.wait(left).map_err(failed("wait for other workers"))?;
        }
    }

    fn has_answered(&mut self, to: usize) -> Result<bool, JoinError> {
        let Some(link) = &mut self.links[to] else { return Ok(true) };
        let expected = Purpose::Link { from: to as u32, to: self.worker as u32 };
        match link.heard() {
            Ok(None) => Ok(false),
            Ok(Some((Kind::Hello, content)))
                if Purpose::of_hello(&content, &self.settings.token) == Ok(expected) =>
            {
                Ok(true)
            }
            Ok(_) => Err(JoinError::lost(to, LinkProblem::Garbled("another greeting".to_owned()))),
            Err(problem) => Err(JoinError::lost(to, problem)),
        }
    }
}
