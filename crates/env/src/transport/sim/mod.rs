//! Links over a simulated network, under a seed and in virtual time: packets are late, overtake each other, come twice
//! or not at all; sides are cut off from each other for a while or for ever; processes are killed and machines vanish.
//!
//! One thread can drive a whole group: it lets each worker do what it can without waiting, and then the network take its
//! next step ([`SimNetwork::advance`]). The same seed and the same calls give the same run.

mod network;
mod stream;

use super::{LinkError, LinkProblem, Transport};
use network::Network;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What a network is like. Chances are for each packet.
#[derive(Clone, Debug)]
pub struct Conditions {
    /// The shortest and the longest time that a packet is under way.
    pub latency: (Duration, Duration),
    /// How much goes from one worker to another in a second.
    pub bytes_per_s: u64,
    /// The chance that a packet is lost.
    pub loss: f64,
    /// The chance that it comes twice.
    pub duplication: f64,
    /// The chance that it is late by three times the longest latency.
    pub delay: f64,
    /// After this time without a sign of life a worker counts as lost.
    pub silence: Duration,
    /// Bytes that may be under way in one direction.
    pub window: usize,
    /// The most bytes of a packet; each has a random number up to that.
    pub segment: usize,
}

impl Default for Conditions {
    /// A good local network.
    fn default() -> Self {
        Self {
            latency: (Duration::from_micros(50), Duration::from_micros(100)),
            bytes_per_s: 1_000_000_000,
            loss: 0.0,
            duplication: 0.0,
            delay: 0.0,
            silence: Duration::from_secs(10),
            window: 1 << 16,
            segment: 1400,
        }
    }
}

impl Conditions {
    /// How long to wait for an acknowledgement before sending again: more than the way there and back takes when nothing
    /// is lost.
    fn patience_ns(&self) -> u64 {
        let transfer = 2 * self.window as u64 * 1_000_000_000 / self.bytes_per_s.max(1);
        8 * self.latency.1.as_nanos() as u64 + transfer + 1000
    }
}

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from 0 to `n - 1`.
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn chance(&mut self, of: f64) -> bool {
        of > 0.0 && (self.next() >> 11) as f64 / ((1u64 << 53) as f64) < of
    }
}

/// A network between the workers of a group.
#[derive(Clone, Debug)]
pub struct SimNetwork(Arc<Mutex<Network>>);

impl SimNetwork {
    /// A network of so many workers, with the end of each.
    pub fn new(workers: usize, seed: u64, conditions: Conditions) -> (Self, Vec<SimLinks>) {
        let network = Self(Arc::new(Mutex::new(Network::new(workers, seed, conditions))));
        let end = |worker| SimLinks {
            network: network.clone(),
            worker,
            given: vec![Vec::new(); workers],
            taken: vec![0; workers],
            seen: 0,
        };
        let ends = (0..workers).map(end).collect();
        (network, ends)
    }

    fn lock(&self) -> MutexGuard<'_, Network> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the next thing happen. Says whether there was one; while workers are linked there is, since they look after
    /// each other.
    pub fn advance(&self) -> bool {
        self.lock().advance()
    }

    /// How much time has passed.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.lock().now)
    }

    /// From then on nothing passes between these workers and the others, for so long or for ever.
    pub fn partition(&self, from: Duration, lasting: Option<Duration>, side: &[usize]) {
        let from = from.as_nanos() as u64;
        let until = lasting.map_or(u64::MAX, |lasting| from.saturating_add(lasting.as_nanos() as u64));
        self.lock().partition(from, until, side);
    }

    /// Kills a worker's process at that time. What it took on is still sent.
    pub fn kill_at(&self, worker: usize, at: Duration) {
        self.lock().kill_at(worker, at.as_nanos() as u64);
    }

    /// Takes a worker's machine away at that time. Nothing more comes from it.
    pub fn vanish_at(&self, worker: usize, at: Duration) {
        self.lock().vanish_at(worker, at.as_nanos() as u64);
    }

    /// Whether a worker is neither killed nor has it vanished or left.
    pub fn is_here(&self, worker: usize) -> bool {
        self.lock().is_here(worker)
    }

    /// How many packets were sent, and how many of them were lost.
    pub fn packets(&self) -> (u64, u64) {
        let network = self.lock();
        (network.packets, network.lost)
    }
}

/// One worker's links over a simulated network.
#[derive(Debug)]
pub struct SimLinks {
    network: SimNetwork,
    worker: usize,
    /// By worker, what came from it, and how much of that was taken.
    given: Vec<Vec<u8>>,
    taken: Vec<usize>,
    /// The news that this worker has had.
    seen: u64,
}

impl SimLinks {
    /// That this worker itself can do something.
    fn here(&self, network: &Network) -> Result<(), LinkError> {
        if network.is_here(self.worker) {
            return Ok(());
        }
        let problem = LinkProblem::Broken("it has ended itself".to_owned());
        Err(LinkError { worker: self.worker, problem })
    }

    fn lost(&self, network: &Network) -> Result<(), LinkError> {
        self.here(network)?;
        for worker in (0..network.workers).filter(|worker| *worker != self.worker) {
            let left = self.given[worker].len() > self.taken[worker] || network.has_come(worker, self.worker);
            match network.problem(self.worker, worker) {
                Some(problem) if !left && problem != LinkProblem::Left => {
                    return Err(LinkError { worker, problem });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Transport for SimLinks {
    fn name(&self) -> &'static str {
        "simulated"
    }

    fn worker(&self) -> usize {
        self.worker
    }

    fn workers(&self) -> usize {
        self.given.len()
    }

    fn send(&mut self, to: usize, bytes: &[u8]) -> Result<usize, LinkError> {
        let mut network = self.network.lock();
        self.here(&network)?;
        match network.problem(self.worker, to) {
            Some(problem) => Err(LinkError { worker: to, problem }),
            None => Ok(network.send(self.worker, to, bytes)),
        }
    }

    fn received(&mut self, from: usize) -> Result<&[u8], LinkError> {
        let mut network = self.network.lock();
        self.here(&network)?;
        let (given, taken) = (&mut self.given[from], &mut self.taken[from]);
        if *taken == given.len() {
            given.clear();
            *taken = 0;
        }
        network.give(from, self.worker, given);
        match network.problem(self.worker, from) {
            Some(problem) if given.is_empty() => Err(LinkError { worker: from, problem }),
            _ => Ok(&self.given[from][self.taken[from]..]),
        }
    }

    fn take(&mut self, from: usize, bytes: usize) {
        assert!(bytes <= self.given[from].len() - self.taken[from], "more is taken than there is");
        self.taken[from] += bytes;
        self.network.lock().taken(from, self.worker, bytes);
    }

    /// Waits in virtual time, in which all that is under way goes on.
    fn wait(&mut self, at_most: Duration) -> Result<(), LinkError> {
        let network = self.network.clone();
        let until = network.lock().now.saturating_add(at_most.as_nanos() as u64);
        loop {
            let mut network = network.lock();
            self.lost(&network)?;
            let news = network.news[self.worker];
            if news != self.seen {
                self.seen = news;
                return Ok(());
            }
            if network.next_at().is_none_or(|at| at > until) {
                network.now = network.now.max(until);
                return Ok(());
            }
            network.advance();
            drop(network);
            // Others may be driven by threads of their own.
            std::thread::yield_now();
        }
    }

    fn leave(&mut self, reason: Option<&str>) {
        let how = reason.map_or(LinkProblem::Left, |reason| LinkProblem::Failed(reason.to_owned()));
        self.network.lock().close(self.worker, how);
    }
}

impl Drop for SimLinks {
    fn drop(&mut self) {
        self.network.lock().close(self.worker, LinkProblem::Gone);
    }
}
