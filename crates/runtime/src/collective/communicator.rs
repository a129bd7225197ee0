//! Takes a worker through collectives over real links.

use super::machine::{Action, Event, Machine};
use super::schedule::{Local, Schedule};
use outgrow_env::{LinkError, Transport};
use outgrow_ir::Diagnostic;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a wait lasts at most before links are asked again.
const WAIT: Duration = Duration::from_millis(50);

/// What a worker's collectives took so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Collectives.
    pub collectives: u64,
    /// Bytes that were sent.
    pub sent_bytes: u64,
    /// Nanoseconds within collectives.
    pub nanoseconds: u64,
    /// Of these, nanoseconds in which nothing could be done but wait for others.
    pub waiting_nanoseconds: u64,
}

/// A number of f32 of which some bytes are here.
#[derive(Clone, Copy, Debug, Default)]
struct Begun {
    bytes: [u8; 4],
    count: usize,
}

/// One worker's end of a group that works together.
#[derive(Debug)]
pub struct Communicator {
    links: Box<dyn Transport>,
    /// By worker, the first bytes of a number whose others are yet to come, when links show it in two pieces.
    begun: Vec<Begun>,
    traffic: Traffic,
}

impl Communicator {
    /// Over these links.
    pub fn new(links: Box<dyn Transport>) -> Self {
        let begun = vec![Begun::default(); links.workers()];
        Self { links, begun, traffic: Traffic::default() }
    }

    /// This worker's number.
    pub fn worker(&self) -> usize {
        self.links.worker()
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.links.workers()
    }

    /// The name of the transport.
    pub fn transport(&self) -> &'static str {
        self.links.name()
    }

    /// What collectives took so far.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Ends this worker's part, in order or for a reason that the others are told.
    pub fn leave(&mut self, reason: Option<&str>) {
        self.links.leave(reason);
    }

    /// This worker's machine for a schedule of the group.
    pub fn machine(&self, schedule: &Schedule) -> Machine {
        assert_eq!(schedule.workers, self.workers(), "invariant: a schedule is one of its group");
        Machine::new(Arc::new(schedule.part(self.worker())))
    }

    /// Goes through a collective from its beginning; `what` it is for is told when it fails. The vectors are as long as
    /// the schedule's, and those that numbers are added in begin where a number of f32 can.
    ///
    /// # Errors
    /// When another worker is lost.
    pub fn run(
        &mut self,
        machine: &mut Machine,
        what: &str,
        vectors: &mut [&mut [u8]],
    ) -> Result<(), Diagnostic> {
        let started = Instant::now();
        machine.start();
        let done = self.drive(machine, vectors);
        self.traffic.collectives += 1;
        self.traffic.nanoseconds += started.elapsed().as_nanos() as u64;
        done.map_err(|error| self.lost(&error, what))
    }

    fn drive(&mut self, machine: &mut Machine, vectors: &mut [&mut [u8]]) -> Result<(), LinkError> {
        while !machine.is_done() {
            if !self.step(machine, vectors)? {
                self.wait()?;
            }
        }
        while !self.links.flush()? {
            self.wait()?;
        }
        Ok(())
    }

    fn wait(&mut self) -> Result<(), LinkError> {
        let started = Instant::now();
        let waited = self.links.wait(WAIT);
        self.traffic.waiting_nanoseconds += started.elapsed().as_nanos() as u64;
        waited
    }

    /// Does what can be done now; says whether anything could.
    ///
    /// # Errors
    /// When another worker is lost.
    pub fn step(&mut self, machine: &mut Machine, vectors: &mut [&mut [u8]]) -> Result<bool, LinkError> {
        let round = machine.round();
        let mut moved = false;
        for i in 0..machine.sends() {
            let Some(Action::Send { to, slot, range }) = machine.send(i) else { continue };
            let bytes = self.links.send(to, &vectors[slot][range])?;
            if bytes > 0 {
                self.traffic.sent_bytes += bytes as u64;
                moved = true;
                expected(machine.on(Event::Sent { to, bytes }));
                if machine.round() != round {
                    return Ok(true);
                }
            }
        }
        for i in 0..machine.receives() {
            let Some(Action::Receive { from, slot, range, add }) = machine.receive(i) else { continue };
            let bytes = self.receive(from, &mut vectors[slot][range], add)?;
            if bytes > 0 {
                moved = true;
                expected(machine.on(Event::Received { from, bytes }));
                if machine.round() != round {
                    return Ok(true);
                }
            }
        }
        while let Some(Action::Local(local)) = machine.local() {
            here(&local, vectors);
            moved = true;
            expected(machine.on(Event::Done));
        }
        Ok(moved)
    }

    /// Takes what has come from a worker, as far as it is for this place, and says how much that is.
    fn receive(&mut self, from: usize, into: &mut [u8], add: bool) -> Result<usize, LinkError> {
        let come = self.links.received(from)?;
        let mut bytes = come.len().min(into.len());
        if add {
            if bytes > 0 && (bytes < 4 || self.begun[from].count > 0) {
                return self.complete(from, into);
            }
            bytes -= bytes % 4;
            add_to(&mut into[..bytes], &come[..bytes]);
        } else {
            into[..bytes].copy_from_slice(&come[..bytes]);
        }
        if bytes > 0 {
            self.links.take(from, bytes);
        }
        Ok(bytes)
    }

    /// Takes bytes of one number until it is whole and can be added; says how many of it are through: all, or none.
    fn complete(&mut self, from: usize, into: &mut [u8]) -> Result<usize, LinkError> {
        let Begun { bytes: number, count } = &mut self.begun[from];
        loop {
            let come = self.links.received(from)?;
            let wanted = (4 - *count).min(come.len());
            if wanted == 0 {
                return Ok(0);
            }
            number[*count..*count + wanted].copy_from_slice(&come[..wanted]);
            self.links.take(from, wanted);
            *count += wanted;
            if *count == 4 {
                *count = 0;
                add_to(&mut into[..4], number);
                return Ok(4);
            }
        }
    }

    /// What is told when a worker is lost.
    fn lost(&self, error: &LinkError, what: &str) -> Diagnostic {
        let problem = format!("{error}, while worker {} was in {what}", self.worker());
        Diagnostic::new("workers.lost", problem)
            .item(format!("worker {}", error.worker))
            .expected("all workers at work until the run ends")
            .hint("the same command goes on from the newest checkpoint")
    }
}

fn expected(said: Result<(), super::Unexpected>) {
    said.expect("invariant: only what a machine says is done");
}

/// What a worker does by itself.
fn here(local: &Local, vectors: &mut [&mut [u8]]) {
    let Local { source, target, ref range, add, .. } = *local;
    let range: Range<usize> = range.clone();
    let [from, into] =
        vectors.get_disjoint_mut([source, target]).expect("invariant: two vectors that there are");
    let (from, into) = (&from[range.clone()], &mut into[range]);
    if add {
        add_to(into, from);
    } else {
        into.copy_from_slice(from);
    }
}

/// Adds numbers of f32.
fn add_to(into: &mut [u8], from: &[u8]) {
    let into: &mut [f32] = bytemuck::cast_slice_mut(into);
    match bytemuck::try_cast_slice::<u8, f32>(from) {
        Ok(from) => into.iter_mut().zip(from).for_each(|(sum, x)| *sum += x),
        // Links need not show bytes where a number can begin.
        Err(_) => {
            let numbers = from.as_chunks::<4>().0.iter().map(|bytes| f32::from_ne_bytes(*bytes));
            into.iter_mut().zip(numbers).for_each(|(sum, x)| *sum += x);
        }
    }
}
