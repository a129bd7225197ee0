//! One worker's end of rings between all workers, whatever memory they lie in and however their owners are woken.

use super::ring::{Ends, Nonsense, Receiver, Sender};
use super::sync::{hint, thread};
use super::{LinkError, LinkProblem, Transport};
use std::fmt;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

/// Looks at the links before a waiting worker gives up its processor for the first time, when there are enough
/// processors for all: some microseconds, in which an answer comes when the other worker is at it. No more, because the
/// system may have put both on one processor all the same.
const LOOKS: u32 = 50;
/// The same when there are not.
const LOOKS_IF_CROWDED: u32 = 5;
/// Looks between giving up the processor and doing so again.
const LOOKS_PER_TURN: u32 = 5;
/// How long this goes on before the worker sleeps, which makes others wake it.
const AWAKE: Duration = Duration::from_micros(100);

/// How workers are woken, and how one knows that they are still there.
pub trait Bell: Send {
    /// A short name of links of this kind.
    const NAME: &'static str;

    /// Wakes a worker if it sleeps or is about to.
    fn ring(&self, worker: usize);

    /// From now on this worker is to be woken. It looks at its links once more and then sleeps.
    fn lie_down(&self);

    /// Sleeps until woken, at most this long, or for no reason shorter.
    fn sleep(&self, at_most: Duration);

    /// This worker need not be woken any more.
    fn get_up(&self);

    /// Called when there is no room for a worker, or nothing has come from it: a time to ask whether it is still there, if
    /// it cannot tell by itself.
    fn doubt(&self) {}

    /// Whether a worker has left, so that it sends nothing more.
    fn has_left(&self, worker: usize) -> bool;

    /// How a worker left that has left.
    fn parting(&self, worker: usize) -> LinkProblem;

    /// Tells everybody that this worker has left, and how. Called once.
    fn leave(&self, how: LinkProblem);
}

/// A worker's links to all others.
pub struct Mesh<B: Bell> {
    worker: usize,
    /// By worker; none to itself.
    links: Vec<Option<Link>>,
    looks: u32,
    /// Whether this worker has ended its part.
    left: bool,
    bell: B,
}

struct Link {
    out: Sender,
    into: Receiver,
    /// Whether the last bytes to be sent did not all fit.
    wants_room: bool,
    /// Whether a wait has told that the other worker has left.
    told: bool,
}

impl<B: Bell> Mesh<B> {
    /// The end of the worker with these ends of rings.
    pub(super) fn new(worker: usize, ends: Ends, bell: B) -> Self {
        let processors = available_parallelism().map_or(1, usize::from);
        let looks = if ends.len() <= processors { LOOKS } else { LOOKS_IF_CROWDED };
        let link = |(out, into)| Link { out, into, wants_room: false, told: false };
        let links = ends.into_iter().map(|ends| ends.map(link)).collect();
        Self { worker, links, looks, left: false, bell }
    }

    #[cfg(not(loom))]
    pub(super) fn bell(&self) -> &B {
        &self.bell
    }

    /// Whether there is anything that no look and no wait has told yet.
    fn news(&mut self) -> Result<bool, LinkError> {
        let mut news = false;
        for (other, link) in self.links.iter_mut().enumerate() {
            let Some(link) = link else { continue };
            // Asked first: what was sent before is then seen.
            let left = !link.told && self.bell.has_left(other);
            news |= link.into.look().map_err(|Nonsense| garbled(other))?;
            news |= link.wants_room && link.out.look().map_err(|Nonsense| garbled(other))?;
            if left && link.into.known() == 0 {
                let problem = self.bell.parting(other);
                if problem != LinkProblem::Left {
                    return Err(LinkError { worker: other, problem });
                }
                link.told = true;
                news = true;
            }
        }
        Ok(news)
    }

    /// Looks at the links again and again for a while.
    fn watch(&mut self, at_most: Duration) -> Result<bool, LinkError> {
        // The model checker tries all that a look can see anyway; who only looks does not wait.
        if cfg!(loom) || at_most.is_zero() {
            return self.news();
        }
        let mut looks = self.looks;
        let start = Instant::now();
        loop {
            for _ in 0..looks {
                if self.news()? {
                    return Ok(true);
                }
                hint::spin_loop();
            }
            looks = LOOKS_PER_TURN;
            if start.elapsed() >= AWAKE.min(at_most) {
                return self.news();
            }
            thread::yield_now();
        }
    }

    /// Tells how this worker left, unless it has.
    fn part(&mut self, how: LinkProblem) {
        if !std::mem::replace(&mut self.left, true) {
            self.bell.leave(how);
        }
    }

    fn lost(&self, worker: usize) -> LinkError {
        LinkError { worker, problem: self.bell.parting(worker) }
    }

    fn link(&mut self, other: usize) -> &mut Link {
        let Some(Some(link)) = self.links.get_mut(other) else {
            panic!("worker {other} is no other worker of this group");
        };
        link
    }
}

fn garbled(worker: usize) -> LinkError {
    LinkError { worker, problem: LinkProblem::Garbled("its counter of bytes makes no sense".to_owned()) }
}

impl<B: Bell> Transport for Mesh<B> {
    fn name(&self) -> &'static str {
        B::NAME
    }

    fn worker(&self) -> usize {
        self.worker
    }

    fn workers(&self) -> usize {
        self.links.len()
    }

    fn send(&mut self, to: usize, bytes: &[u8]) -> Result<usize, LinkError> {
        if self.bell.has_left(to) {
            return Err(self.lost(to));
        }
        let mut done = 0;
        while done < bytes.len() {
            let count = self.link(to).out.push(&bytes[done..]).map_err(|Nonsense| garbled(to))?;
            if count == 0 {
                self.bell.doubt();
                break;
            }
            self.bell.ring(to);
            done += count;
        }
        self.link(to).wants_room = done < bytes.len();
        Ok(done)
    }

    fn received(&mut self, from: usize) -> Result<&[u8], LinkError> {
        // Asked first: what was sent before is then seen.
        let left = self.bell.has_left(from);
        self.link(from).into.look().map_err(|Nonsense| garbled(from))?;
        if self.link(from).into.known() == 0 {
            if left {
                return Err(self.lost(from));
            }
            self.bell.doubt();
        }
        Ok(self.link(from).into.show())
    }

    fn take(&mut self, from: usize, bytes: usize) {
        self.link(from).into.take(bytes);
        self.bell.ring(from);
    }

    fn wait(&mut self, at_most: Duration) -> Result<(), LinkError> {
        let start = Instant::now();
        if self.watch(at_most)? {
            return Ok(());
        }
        loop {
            let left = at_most.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            self.bell.lie_down();
            let news = self.news();
            if matches!(news, Ok(false)) {
                self.bell.sleep(left);
            }
            self.bell.get_up();
            if news? || self.news()? {
                return Ok(());
            }
        }
    }

    fn leave(&mut self, reason: Option<&str>) {
        self.part(reason.map_or(LinkProblem::Left, |reason| LinkProblem::Failed(reason.to_owned())));
    }
}

impl<B: Bell> Drop for Mesh<B> {
    fn drop(&mut self) {
        self.part(LinkProblem::Gone);
    }
}

impl<B: Bell> fmt::Debug for Mesh<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} of {}", B::NAME, self.worker, self.links.len())
    }
}
