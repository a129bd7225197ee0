//! Takes a worker through collectives over real links.

use super::cost::Links;
use super::machine::{Action, Event, Machine};
use super::schedule::{Local, Schedule};
use super::timeline::{Doing, Recorder, Timeline};
use super::{choose, gather, pair};
use outgrow_env::{LinkError, Transport};
use outgrow_ir::Diagnostic;
use std::fmt::Display;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a wait lasts at most before links are asked again.
const WAIT: Duration = Duration::from_millis(50);

/// What is exchanged besides vectors is filled up to this, so that numbers lie where links can show them in one piece.
const ALIGN: usize = 64;
/// What workers exchange at most.
const MOST: u64 = 256 << 20;
/// How many numbers of each worker are exchanged at a time.
const PIECE: usize = 1 << 17;

/// The code of what is told when a worker is lost.
pub const LOST: &str = "workers.lost";

/// What is told when a worker is lost, of which this is known.
pub fn lost(worker: impl Display, problem: String) -> Diagnostic {
    Diagnostic::new(LOST, problem)
        .item(format!("worker {worker}"))
        .expected("all workers at work until the run ends")
        .hint("the same command goes on from the newest checkpoint")
}

/// What a worker's collectives took so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Collectives.
    pub collectives: u64,
    /// Bytes that were sent.
    pub sent_bytes: u64,
    /// Nanoseconds in which a collective was under way.
    pub nanoseconds: u64,
    /// Of these, nanoseconds in which this worker did nothing else.
    pub exposed_nanoseconds: u64,
    /// Of those, nanoseconds in which nothing could be done but wait for others.
    pub waiting_nanoseconds: u64,
}

impl Traffic {
    /// What came after an earlier look.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            collectives: self.collectives - earlier.collectives,
            sent_bytes: self.sent_bytes - earlier.sent_bytes,
            nanoseconds: self.nanoseconds - earlier.nanoseconds,
            exposed_nanoseconds: self.exposed_nanoseconds - earlier.exposed_nanoseconds,
            waiting_nanoseconds: self.waiting_nanoseconds - earlier.waiting_nanoseconds,
        }
    }

    /// The fraction of the time of collectives in which this worker computed; none where there was no collective.
    pub fn overlap(&self) -> Option<f64> {
        (self.nanoseconds > 0).then(|| 1.0 - self.exposed_nanoseconds as f64 / self.nanoseconds as f64)
    }
}

/// One worker's end of a group that works together.
#[derive(Debug)]
pub struct Communicator {
    links: Box<dyn Transport>,
    costs: Links,
    traffic: Traffic,
    recorder: Recorder,
    /// Since when a collective is under way beside other work.
    since: Option<Instant>,
    /// By worker, the first bytes of a number that a link has cut in two, and how many they are.
    pieces: Vec<([u8; 4], usize)>,
}

/// A worker's end of its group, for all in its process that use it: the trainer, and who says why it ends.
#[derive(Clone, Debug)]
pub struct Group(Arc<Mutex<Communicator>>);

impl Group {
    /// Over these links.
    pub fn new(links: Box<dyn Transport>) -> Self {
        Self(Arc::new(Mutex::new(Communicator::new(links))))
    }

    /// The communicator, for one who uses it now.
    pub fn lock(&self) -> MutexGuard<'_, Communicator> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Communicator {
    /// Over these links.
    pub fn new(links: Box<dyn Transport>) -> Self {
        let pieces = vec![([0; 4], 0); links.workers()];
        let costs = Links::usual(links.name(), links.workers());
        Self { links, costs, traffic: Traffic::default(), recorder: Recorder::default(), since: None, pieces }
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

    /// What its links are taken to cost, by which algorithms are chosen.
    pub fn costs(&self) -> &Links {
        &self.costs
    }

    /// Has algorithms chosen by these costs from now on. All workers of the group must be given the same ones at the same
    /// place among its collectives.
    ///
    /// # Panics
    /// When they are of another number of workers.
    pub fn set_costs(&mut self, costs: Links) {
        assert_eq!(costs.machines.len(), self.workers(), "invariant: links are those of the group");
        self.costs = costs;
    }

    /// What collectives took so far.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Takes down what this worker does from now on, in this step, until [`Communicator::recorded`].
    pub fn record(&mut self, step: u64) {
        self.recorder.start(step);
    }

    /// Ends what is taken down.
    pub fn recorded(&mut self) {
        self.recorder.stop();
    }

    /// The last step that was taken down.
    pub fn timeline(&self) -> &Timeline {
        self.recorder.timeline()
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
        what: impl Display,
        vectors: &mut [&mut [u8]],
    ) -> Result<(), Diagnostic> {
        machine.start();
        self.finish([machine], what, vectors)
    }

    /// Takes a collective further, from where it is, as far as that goes without waiting; says whether it is through. What
    /// was begun so is to be [finished](Communicator::finish) before anything else is exchanged.
    ///
    /// # Errors
    /// When another worker is lost.
    pub fn advance(
        &mut self,
        machine: &mut Machine,
        what: impl Display,
        vectors: &mut [&mut [u8]],
    ) -> Result<bool, Diagnostic> {
        let started = Instant::now();
        self.since.get_or_insert(started);
        let moved = self.links.wait(Duration::ZERO).and_then(|()| {
            while !machine.is_done() && self.step(machine, vectors)? {}
            Ok(())
        });
        if machine.is_done() {
            self.traffic.collectives += 1;
        }
        self.traffic.exposed_nanoseconds += started.elapsed().as_nanos() as u64;
        self.recorder.add(Doing::Communicating, started);
        moved.map(|()| machine.is_done()).map_err(|error| self.lost(&error, what))
    }

    /// Goes through collectives, one after the other and each from where it is, to their ends.
    ///
    /// # Errors
    /// When another worker is lost.
    pub fn finish<'a>(
        &mut self,
        machines: impl IntoIterator<Item = &'a mut Machine>,
        what: impl Display,
        vectors: &mut [&mut [u8]],
    ) -> Result<(), Diagnostic> {
        let started = Instant::now();
        let since = self.since.take().unwrap_or(started);
        let done = machines.into_iter().try_for_each(|machine| {
            self.traffic.collectives += 1;
            self.drive(machine, vectors)
        });
        let done = done.and_then(|()| self.flush());
        self.traffic.exposed_nanoseconds += started.elapsed().as_nanos() as u64;
        self.recorder.add(Doing::Communicating, started);
        self.traffic.nanoseconds += since.elapsed().as_nanos() as u64;
        done.map_err(|error| self.lost(&error, what))
    }

    /// Looks whether all others are still there, while this worker does something else.
    ///
    /// # Errors
    /// When another worker is lost.
    pub fn look(&mut self, what: impl Display) -> Result<(), Diagnostic> {
        self.links.wait(Duration::ZERO).map_err(|error| self.lost(&error, what))
    }

    fn lost(&self, error: &LinkError, what: impl Display) -> Diagnostic {
        lost(error.worker, format!("{error}, while worker {} was in {what}", self.worker()))
    }

    /// All bytes of `bytes`, of which each worker has as many, become those of worker `root`.
    ///
    /// # Errors
    /// When another worker is lost.
    pub fn broadcast(&mut self, root: usize, bytes: &mut [u8], what: impl Display) -> Result<(), Diagnostic> {
        let schedule = choose::broadcast(root, 0..bytes.len(), &self.costs);
        self.run(&mut self.machine(&schedule), what, &mut [bytes])
    }

    /// Sends bytes to another worker, which [`Communicator::receive`]s as many of this one.
    ///
    /// # Errors
    /// When that worker is lost.
    pub fn send(&mut self, to: usize, bytes: &mut [u8], what: impl Display) -> Result<(), Diagnostic> {
        let schedule = pair::send(self.worker(), to, self.workers(), 0..bytes.len());
        self.run(&mut self.machine(&schedule), what, &mut [bytes])
    }

    /// Takes as many bytes as there is room for from another worker, which [`Communicator::send`]s them.
    ///
    /// # Errors
    /// When that worker is lost.
    pub fn receive(&mut self, from: usize, into: &mut [u8], what: impl Display) -> Result<(), Diagnostic> {
        let schedule = pair::send(from, self.worker(), self.workers(), 0..into.len());
        self.run(&mut self.machine(&schedule), what, &mut [into])
    }

    /// What each worker gives, by their numbers: any number of bytes, but of all together no more than a quarter of a
    /// gibibyte.
    ///
    /// # Errors
    /// When another worker is lost, or there is more.
    pub fn exchange(&mut self, own: &[u8], what: impl Display) -> Result<Vec<Vec<u8>>, Diagnostic> {
        let (me, workers) = (self.worker(), self.workers());
        let mut lengths = vec![[0u64; ALIGN / 8]; workers];
        lengths[me][0] = own.len() as u64;
        let each: Vec<Range<usize>> = (0..workers).map(|w| ALIGN * w..ALIGN * (w + 1)).collect();
        let lengths_of_all = bytemuck::cast_slice_mut(&mut lengths);
        self.run(&mut self.machine(&gather::direct(&each)), &what, &mut [lengths_of_all])?;
        let lengths: Vec<u64> = lengths.iter().map(|length| length[0]).collect();
        let total = lengths.iter().fold(0u64, |sum, length| sum.saturating_add(*length));
        if total > MOST {
            let problem = format!("the workers have {total} bytes to exchange in {what}");
            return Err(Diagnostic::new("workers.exchange", problem).expected(format!("at most {MOST}")));
        }
        let mut end = 0;
        let mut place = |length: &u64| {
            let start = end;
            end += (*length as usize).next_multiple_of(ALIGN);
            start..end
        };
        let each: Vec<Range<usize>> = lengths.iter().map(&mut place).collect();
        let mut all = vec![0u8; end];
        all[each[me].start..][..own.len()].copy_from_slice(own);
        self.run(&mut self.machine(&gather::direct(&each)), what, &mut [&mut all])?;
        let own = |(range, length): (Range<usize>, u64)| all[range][..length as usize].to_vec();
        Ok(each.into_iter().zip(lengths).map(own).collect())
    }

    /// What each worker gives, by their numbers: any number of numbers.
    ///
    /// # Errors
    /// When another worker is lost.
    pub fn exchange_numbers(&mut self, own: &[f64], what: impl Display) -> Result<Vec<Vec<f64>>, Diagnostic> {
        let workers = self.workers();
        let lengths = self.exchange(&(own.len() as u64).to_le_bytes(), &what)?;
        let longest = lengths.iter().map(|length| words(length).next().map_or(0, u64::from_le_bytes));
        let longest = usize::try_from(longest.max().unwrap_or(0)).unwrap_or(usize::MAX);
        let piece = (MOST as usize / 8 / workers).clamp(1, PIECE);
        let mut all = vec![Vec::new(); workers];
        for start in (0..longest).step_by(piece) {
            let own = own.get(start..).map_or(&[][..], |rest| &rest[..rest.len().min(piece)]);
            let own: Vec<u8> = own.iter().flat_map(|number| number.to_le_bytes()).collect();
            for (numbers, told) in all.iter_mut().zip(self.exchange(&own, &what)?) {
                numbers.extend(words(&told).map(f64::from_le_bytes));
            }
        }
        Ok(all)
    }

    /// Waits until all workers are here.
    ///
    /// # Errors
    /// When another worker is lost.
    pub fn barrier(&mut self, what: impl Display) -> Result<(), Diagnostic> {
        let each: Vec<Range<usize>> = (0..self.workers()).map(|w| ALIGN * w..ALIGN * (w + 1)).collect();
        let mut bytes = vec![0u8; ALIGN * each.len()];
        self.run(&mut self.machine(&gather::direct(&each)), what, &mut [&mut bytes])
    }

    /// Ends this worker's part. The others learn why, where something failed.
    pub fn leave(&mut self, reason: Option<&str>) {
        self.links.leave(reason);
    }

    fn drive(&mut self, machine: &mut Machine, vectors: &mut [&mut [u8]]) -> Result<(), LinkError> {
        while !machine.is_done() {
            if !self.step(machine, vectors)? {
                self.wait()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), LinkError> {
        while !self.links.flush()? {
            self.wait()?;
        }
        Ok(())
    }

    fn wait(&mut self) -> Result<(), LinkError> {
        let started = Instant::now();
        let waited = self.links.wait(WAIT);
        self.traffic.waiting_nanoseconds += started.elapsed().as_nanos() as u64;
        self.recorder.add(Doing::Waiting, started);
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
            let bytes = self.come(from, &mut vectors[slot][range], add)?;
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

    /// Takes what has come from a worker, as far as it is for this place, and says how much of the place that fills.
    fn come(&mut self, from: usize, into: &mut [u8], add: bool) -> Result<usize, LinkError> {
        let mut done = 0;
        // Who has sent all of it may have left.
        while done < into.len() {
            let come = self.links.received(from)?;
            let rest = &mut into[done..];
            let mut bytes = come.len().min(rest.len());
            if bytes == 0 {
                break;
            }
            let (number, held) = &mut self.pieces[from];
            if !add {
                rest[..bytes].copy_from_slice(&come[..bytes]);
                done += bytes;
            } else if *held > 0 || bytes < 4 {
                // Links may cut a number in two: its first bytes are kept until the others come.
                bytes = bytes.min(4 - *held);
                number[*held..*held + bytes].copy_from_slice(&come[..bytes]);
                *held += bytes;
                if *held == 4 {
                    add_to(&mut rest[..4], &*number);
                    (*held, done) = (0, done + 4);
                }
            } else {
                bytes -= bytes % 4;
                add_to(&mut rest[..bytes], &come[..bytes]);
                done += bytes;
            }
            self.links.take(from, bytes);
        }
        Ok(done)
    }
}

fn expected(said: Result<(), super::Unexpected>) {
    said.expect("invariant: only what a machine says is done");
}

/// Bytes as words of eight; what is left over is none.
fn words(bytes: &[u8]) -> impl Iterator<Item = [u8; 8]> {
    bytes.as_chunks().0.iter().copied()
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
