//! What a schedule takes on given links, and the cheapest of several.
//!
//! Links are described as in LogGP (Alexandrov, Ionescu, Schauser and Scheiman, "LogGP: incorporating long messages into
//! the LogP model", SPAA 1995): a message of m bytes arrives `latency_s + m byte_s` after it was begun, and keeps its
//! sender's port for `gap_s + m byte_s`. All seconds here are a matter of additions and of the larger of two numbers, which
//! have the same bits on every machine: workers that know the same links choose the same schedule.

use super::schedule::{Round, Schedule};
use std::collections::{BTreeMap, BTreeSet};

/// How fast bytes go from one worker to another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// Seconds until the first byte of a message arrives: the α of the formulas.
    pub latency_s: f64,
    /// Seconds for each byte: β.
    pub byte_s: f64,
    /// Seconds for which a message keeps its sender from the next one, besides those for its bytes; no more than
    /// `latency_s`.
    pub gap_s: f64,
}

/// The links of a group. Workers of one machine share its port to the other machines; within a machine each has its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Links {
    /// By worker, the machine that it is on.
    pub machines: Vec<usize>,
    /// Between two workers of one machine.
    pub inside: Link,
    /// Between two workers of different machines.
    pub between: Link,
    /// Seconds that it takes to add a byte's share of numbers, beyond taking them: γ.
    pub add_byte_s: f64,
}

/// What bytes leave by, and come in by: a worker within its machine, or a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Port {
    Worker(usize),
    Machine(usize),
}

/// The bytes that one worker sends another in a round.
#[derive(Clone, Copy, Debug, Default)]
struct Message {
    bytes: usize,
    added: usize,
}

impl Links {
    /// Workers of one machine.
    pub fn of_one_machine(workers: usize, inside: Link, add_byte_s: f64) -> Self {
        Self { machines: vec![0; workers], inside, between: inside, add_byte_s }
    }

    /// Workers on machines of their own.
    pub fn of_machines(workers: usize, between: Link, add_byte_s: f64) -> Self {
        Self { machines: (0..workers).collect(), inside: between, between, add_byte_s }
    }

    /// What is usual between so many workers that are linked by a transport of this name, before anybody has measured it:
    /// of the right order of magnitude, which is what a choice needs.
    pub fn usual(transport: &str, workers: usize) -> Self {
        let link = |latency_s, gap_s, byte_s| Link { latency_s, byte_s, gap_s };
        match transport {
            "tcp" => Self::of_machines(workers, link(20e-6, 5e-6, 0.4e-9), 0.1e-9),
            _ => Self::of_one_machine(workers, link(0.4e-6, 0.2e-6, 0.15e-9), 0.1e-9),
        }
    }

    /// The link from one worker to another.
    pub fn link(&self, from: usize, to: usize) -> Link {
        if self.machines[from] == self.machines[to] { self.inside } else { self.between }
    }

    /// Whether there are several machines, and several workers on one of them.
    pub fn are_deep(&self) -> bool {
        let machines: BTreeSet<usize> = self.machines.iter().copied().collect();
        (2..self.machines.len()).contains(&machines.len())
    }

    fn ports(&self, from: usize, to: usize) -> [Port; 2] {
        if self.machines[from] == self.machines[to] {
            [from, to].map(Port::Worker)
        } else {
            [from, to].map(|worker| Port::Machine(self.machines[worker]))
        }
    }

    /// The seconds from when all workers begin a schedule to when the last one is through.
    ///
    /// # Panics
    /// When these are not the links of as many workers.
    pub fn seconds(&self, schedule: &Schedule) -> f64 {
        assert_eq!(schedule.workers, self.machines.len(), "invariant: a schedule is one of its group");
        let mut clock = Clock::new(self);
        for round in &schedule.rounds {
            clock.go_through(round);
        }
        clock.at.into_iter().fold(0.0, f64::max)
    }

    /// The cheapest of these, the first one of those that are equally cheap; nothing of nothing.
    pub fn cheapest(&self, schedules: impl IntoIterator<Item = Schedule>) -> Option<Schedule> {
        let mut best: Option<(f64, Schedule)> = None;
        for schedule in schedules {
            let seconds = self.seconds(&schedule);
            if best.as_ref().is_none_or(|(least, _)| seconds < *least) {
                best = Some((seconds, schedule));
            }
        }
        best.map(|(_, schedule)| schedule)
    }
}

/// When workers are through what they have done so far, and when ports are free.
struct Clock<'a> {
    links: &'a Links,
    at: Vec<f64>,
    /// By port: when it is free for the next message out, and for the next one in.
    free: BTreeMap<Port, [f64; 2]>,
}

impl<'a> Clock<'a> {
    fn new(links: &'a Links) -> Self {
        Self { links, at: vec![0.0; links.machines.len()], free: BTreeMap::new() }
    }

    fn go_through(&mut self, round: &Round) {
        let workers = self.at.len();
        let mut messages: BTreeMap<(usize, usize), Message> = BTreeMap::new();
        for transfer in &round.transfers {
            let message = messages.entry((transfer.from, transfer.to)).or_default();
            message.bytes += transfer.range.len();
            message.added += if transfer.add { transfer.range.len() } else { 0 };
        }
        // Whoever is ready first sends first; each begins with the worker after itself.
        let mut out: Vec<_> = messages.into_iter().collect();
        let turn = |(from, to): (usize, usize)| (to + workers - from) % workers;
        out.sort_by(|(a, _), (b, _)| self.at[a.0].total_cmp(&self.at[b.0]).then(turn(*a).cmp(&turn(*b))));
        let mut done = self.at.clone();
        let mut begun: Vec<(f64, (usize, usize), Message)> = Vec::with_capacity(out.len());
        for ((from, to), message) in out {
            let (link, [port, _]) = (self.links.link(from, to), self.links.ports(from, to));
            let [free, _] = self.free.entry(port).or_default();
            let begin = self.at[from].max(*free);
            *free = begin + link.gap_s + message.bytes as f64 * link.byte_s;
            done[from] = done[from].max(*free);
            begun.push((begin + link.latency_s, (from, to), message));
        }
        begun.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let mut added = vec![0; workers];
        for (arrives, (from, to), message) in begun {
            let (link, [_, port]) = (self.links.link(from, to), self.links.ports(from, to));
            let [_, free] = self.free.entry(port).or_default();
            *free = free.max(arrives) + message.bytes as f64 * link.byte_s;
            done[to] = done[to].max(*free);
            added[to] += message.added;
        }
        for local in &round.locals {
            added[local.worker] += local.range.len();
        }
        for (worker, added) in added.into_iter().enumerate() {
            self.at[worker] = done[worker] + added as f64 * self.links.add_byte_s;
        }
    }
}

/// Closed formulas, for vectors of `bytes` bytes that `workers` workers share in equal parts over equal links.
pub mod formula {
    use super::Link;

    /// [`super::super::ring::all_reduce`]: `2 (n - 1) (α + m/n β) + (n - 1) m/n γ`.
    pub fn ring_all_reduce(workers: usize, bytes: f64, link: Link, add_byte_s: f64) -> f64 {
        let (rounds, part) = ((workers - 1) as f64, bytes / workers as f64);
        2.0 * rounds * (link.latency_s + part * link.byte_s) + rounds * part * add_byte_s
    }

    /// [`super::super::canonical::reduce_scatter`] and [`super::super::gather::doubling`], for powers of two:
    /// `2 log2 n α + 2 (n - 1) m/n β + (n - 1) m/n γ`.
    pub fn halving_all_reduce(workers: usize, bytes: f64, link: Link, add_byte_s: f64) -> f64 {
        let (rounds, part) = (f64::from(workers.ilog2()), bytes / workers as f64);
        let others = (workers - 1) as f64 * part;
        2.0 * rounds * link.latency_s + others * (2.0 * link.byte_s + add_byte_s)
    }

    /// [`super::super::everywhere::all_reduce`] where each of two or more workers has one subtree:
    /// `α + (n - 2) g + (n - 1) m β + n m γ`, the last of them for a copy of the sum to the first vector.
    pub fn everywhere_all_reduce(workers: usize, bytes: f64, link: Link, add_byte_s: f64) -> f64 {
        let others = (workers - 1) as f64;
        let come = link.latency_s + (others - 1.0) * link.gap_s + others * bytes * link.byte_s;
        come + workers as f64 * bytes * add_byte_s
    }

    /// [`super::super::gather::direct`]: `α + (n - 2) g + (n - 1) m/n β`.
    pub fn direct_gather(workers: usize, bytes: f64, link: Link) -> f64 {
        let others = (workers - 1) as f64;
        link.latency_s + (others - 1.0) * link.gap_s + others * bytes / workers as f64 * link.byte_s
    }

    /// [`super::super::broadcast::tree`], for powers of two: `log2 n (α + m β)`.
    pub fn tree_broadcast(workers: usize, bytes: f64, link: Link) -> f64 {
        f64::from(workers.ilog2()) * (link.latency_s + bytes * link.byte_s)
    }
}
