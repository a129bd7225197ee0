//! Packets under way, timers, and what becomes of workers: all that happens in a simulated network, in its order.

use super::super::LinkProblem;
use super::stream::{Segment, Stream};
use super::{Conditions, Random};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// The most that an end takes on, and holds of what came.
pub const ROOM: usize = 1 << 16;

/// Segments that are sent again at once.
const AGAIN: usize = 32;

/// Something that happens.
#[derive(Debug)]
enum Event {
    /// A packet comes: from whom, to whom, part of the stream, and what is said of the one in the other direction.
    Packet { from: usize, to: usize, segment: Option<Segment>, up_to: u64, limit: u64 },
    /// It may be time to send something again.
    Again { from: usize, to: usize },
    /// Time to see whether the other end is still there.
    Alive { from: usize, to: usize },
    /// A worker's process is killed.
    Kill(usize),
    /// A worker's machine is no longer there.
    Vanish(usize),
}

/// What became of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Here,
    /// Its process has ended; its system has not.
    Closed,
    Vanished,
}

/// A time in which nothing passes between two sides.
#[derive(Debug)]
struct Partition {
    from: u64,
    until: u64,
    side: Vec<usize>,
}

/// The whole network.
#[derive(Debug)]
pub struct Network {
    pub workers: usize,
    pub now: u64,
    conditions: Conditions,
    random: Random,
    /// What happens next, by time and number; and what that is.
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    numbered: u64,
    states: Vec<State>,
    /// By sender and receiver.
    streams: Vec<Stream>,
    busy_until: Vec<u64>,
    /// By who listens and to whom.
    heard: Vec<u64>,
    silent: Vec<bool>,
    /// Counts what a worker may want to look at.
    pub news: Vec<u64>,
    partitions: Vec<Partition>,
    /// Packets that were sent, and that were lost.
    pub packets: u64,
    pub lost: u64,
}

impl Network {
    pub fn new(workers: usize, seed: u64, conditions: Conditions) -> Self {
        let pairs = workers * workers;
        let mut network = Self {
            workers,
            now: 0,
            conditions,
            random: Random(seed),
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            numbered: 0,
            states: vec![State::Here; workers],
            streams: (0..pairs).map(|_| Stream::new(ROOM)).collect(),
            busy_until: vec![0; pairs],
            heard: vec![0; pairs],
            silent: vec![false; pairs],
            news: vec![0; workers],
            partitions: Vec::new(),
            packets: 0,
            lost: 0,
        };
        let period = network.period();
        for from in 0..workers {
            for to in (0..workers).filter(|to| *to != from) {
                network.schedule(period, Event::Alive { from, to });
            }
        }
        network
    }

    fn pair(&self, from: usize, to: usize) -> usize {
        from * self.workers + to
    }

    fn stream(&mut self, from: usize, to: usize) -> &mut Stream {
        let pair = self.pair(from, to);
        &mut self.streams[pair]
    }

    fn period(&self) -> u64 {
        self.conditions.silence.as_nanos() as u64 / 16
    }

    fn schedule(&mut self, at: u64, event: Event) {
        self.numbered += 1;
        self.queue.push(Reverse((at, self.numbered)));
        self.events.insert(self.numbered, event);
    }

    /// When something happens next.
    pub fn next_at(&self) -> Option<u64> {
        self.queue.peek().map(|Reverse((at, _))| *at)
    }

    /// Lets the next thing happen; says whether there was one.
    pub fn advance(&mut self) -> bool {
        let Some(Reverse((at, number))) = self.queue.pop() else { return false };
        self.now = self.now.max(at);
        match self.events.remove(&number) {
            Some(Event::Packet { from, to, segment, up_to, limit }) => {
                self.packet(from, to, segment, up_to, limit);
            }
            Some(Event::Again { from, to }) => self.again(from, to),
            Some(Event::Alive { from, to }) => self.alive(from, to),
            Some(Event::Kill(worker)) => self.close(worker, LinkProblem::Gone),
            Some(Event::Vanish(worker)) => self.states[worker] = State::Vanished,
            None => {}
        }
        true
    }

    pub fn partition(&mut self, from: u64, until: u64, side: &[usize]) {
        self.partitions.push(Partition { from, until, side: side.to_vec() });
    }

    pub fn kill_at(&mut self, worker: usize, at: u64) {
        self.schedule(at, Event::Kill(worker));
    }

    pub fn vanish_at(&mut self, worker: usize, at: u64) {
        self.schedule(at, Event::Vanish(worker));
    }

    /// Whether a worker can still do something.
    pub fn is_here(&self, worker: usize) -> bool {
        self.states[worker] == State::Here
    }

    /// What became of another worker, as far as this one knows.
    pub fn problem(&self, worker: usize, other: usize) -> Option<LinkProblem> {
        let stream = &self.streams[self.pair(other, worker)];
        if stream.ended {
            return stream.end.clone();
        }
        let silent = self.silent[self.pair(worker, other)];
        silent.then_some(LinkProblem::Silent(self.conditions.silence))
    }

    /// Takes on bytes to be sent.
    pub fn send(&mut self, from: usize, to: usize, bytes: &[u8]) -> usize {
        let count = self.stream(from, to).take_on(bytes, ROOM);
        self.pump(from, to);
        count
    }

    /// What came for a worker and was not given to it.
    pub fn give(&mut self, from: usize, to: usize, into: &mut Vec<u8>) {
        let stream = self.stream(from, to);
        stream.given += stream.arrived.len();
        into.append(&mut stream.arrived);
    }

    /// Whether something came that was not given.
    pub fn has_come(&self, from: usize, to: usize) -> bool {
        !self.streams[self.pair(from, to)].arrived.is_empty()
    }

    /// A worker has taken some of what it was given.
    pub fn taken(&mut self, from: usize, to: usize, bytes: usize) {
        let stream = self.stream(from, to);
        let room = |stream: &Stream| ROOM.saturating_sub(stream.arrived.len() + stream.given);
        let before = room(stream);
        stream.given -= bytes.min(stream.given);
        // Who was told that there is no room is told that there is.
        if before < ROOM / 2 && room(stream) >= ROOM / 2 {
            self.transmit(to, from, None);
        }
    }

    /// Ends a worker's process: what it took on is still sent, and then how it ended.
    pub fn close(&mut self, worker: usize, how: LinkProblem) {
        if self.states[worker] != State::Here {
            return;
        }
        self.states[worker] = State::Closed;
        for other in (0..self.workers).filter(|other| *other != worker) {
            self.stream(other, worker).discard();
            if self.silent[self.pair(worker, other)] {
                continue;
            }
            self.stream(worker, other).end = Some(how.clone());
            self.pump(worker, other);
        }
    }

    /// Sends what may be sent for the first time.
    fn pump(&mut self, from: usize, to: usize) {
        let window = self.conditions.window;
        loop {
            let most = 1 + self.random.below(self.conditions.segment);
            let Some(segment) = self.stream(from, to).fresh(most, window) else { break };
            self.transmit(from, to, Some(segment));
        }
        // What was sent before is not sent again any later for it.
        if self.stream(from, to).again_at.is_none() {
            self.arm(from, to);
        }
    }

    /// Sees to it that what is not acknowledged is sent again.
    fn arm(&mut self, from: usize, to: usize) {
        let wait = self.conditions.patience_ns();
        // What still queues at either end cannot have been answered: to send more would only make the queues longer.
        let queues = [self.pair(from, to), self.pair(to, from)].map(|pair| self.busy_until[pair]);
        let begin = queues.into_iter().fold(self.now, u64::max);
        let stream = self.stream(from, to);
        if !stream.is_open() {
            stream.again_at = None;
            return;
        }
        let at = begin + (wait << stream.tries.min(3));
        stream.again_at = Some(at);
        if !stream.timer {
            stream.timer = true;
            self.schedule(at, Event::Again { from, to });
        }
    }

    fn again(&mut self, from: usize, to: usize) {
        let now = self.now;
        let vanished = self.states[from] == State::Vanished;
        let quiet = now - self.heard[self.pair(from, to)];
        let given_up = quiet >= self.conditions.silence.as_nanos() as u64;
        let pair = self.pair(from, to);
        let stream = self.stream(from, to);
        stream.timer = false;
        let Some(at) = stream.again_at.filter(|_| !vanished) else { return };
        if at > now {
            stream.timer = true;
            return self.schedule(at, Event::Again { from, to });
        }
        // Also when the worker has left, and nobody looks after the link any more.
        if given_up {
            stream.give_up();
            self.silent[pair] = true;
            self.news[from] += 1;
            return;
        }
        stream.tries += 1;
        let mut place = stream.base();
        for i in 0..AGAIN {
            let most = 1 + self.random.below(self.conditions.segment);
            let segment = self.stream(from, to).stale(place, most);
            if let Some(segment) = &segment {
                place += segment.bytes.len() as u64;
            }
            let last = segment.as_ref().is_none_or(|segment| segment.end);
            if i == 0 || segment.is_some() {
                // With nothing to say, it asks whether there is room.
                let ask = || Segment { at: place, bytes: Vec::new(), end: false };
                self.transmit(from, to, Some(segment.unwrap_or_else(ask)));
            }
            if last {
                break;
            }
        }
        self.arm(from, to);
    }

    fn alive(&mut self, from: usize, to: usize) {
        let pair = self.pair(from, to);
        if self.states[from] != State::Here || self.streams[self.pair(to, from)].ended {
            return;
        }
        let quiet = self.now - self.heard[pair];
        if quiet >= self.conditions.silence.as_nanos() as u64 {
            self.silent[pair] = true;
            self.stream(from, to).give_up();
            self.news[from] += 1;
            return;
        }
        let period = self.period();
        if quiet >= period {
            let at = self.stream(from, to).base();
            self.transmit(from, to, Some(Segment { at, bytes: Vec::new(), end: false }));
        }
        self.schedule(self.now + period, Event::Alive { from, to });
    }

    /// Sends a packet, which may be late, lost or doubled. With a segment it is answered.
    fn transmit(&mut self, from: usize, to: usize, segment: Option<Segment>) {
        let (up_to, limit) = self.stream(to, from).acknowledgement(ROOM);
        let bytes = 40 + segment.as_ref().map_or(0, |segment| segment.bytes.len() as u64);
        let pair = self.pair(from, to);
        let begin = self.busy_until[pair].max(self.now);
        let end = begin + bytes * 1_000_000_000 / self.conditions.bytes_per_s.max(1);
        self.busy_until[pair] = end;
        self.packets += 1;
        let now = self.now;
        let cut = self.partitions.iter().any(|partition| {
            (partition.from..partition.until).contains(&now)
                && partition.side.contains(&from) != partition.side.contains(&to)
        });
        if cut || self.states[from] == State::Vanished || self.random.chance(self.conditions.loss) {
            self.lost += 1;
            return;
        }
        let copies = 1 + usize::from(self.random.chance(self.conditions.duplication));
        for _ in 0..copies {
            let (least, most) =
                (self.conditions.latency.0.as_nanos() as u64, self.conditions.latency.1.as_nanos() as u64);
            let mut latency = least + self.random.below((most - least) as usize + 1) as u64;
            if self.random.chance(self.conditions.delay) {
                latency += 3 * most;
            }
            let segment = segment.clone();
            self.schedule(end + latency, Event::Packet { from, to, segment, up_to, limit });
        }
    }

    fn packet(&mut self, from: usize, to: usize, segment: Option<Segment>, up_to: u64, limit: u64) {
        let pair = self.pair(to, from);
        if self.states[to] == State::Vanished || self.silent[pair] {
            return;
        }
        self.heard[pair] = self.now;
        self.stream(to, from).tries = 0;
        if self.stream(to, from).acknowledged(up_to, limit) {
            self.news[to] += 1;
            self.stream(to, from).again_at = None;
            self.pump(to, from);
        }
        if let Some(segment) = segment {
            if self.stream(from, to).came(segment, ROOM) {
                self.news[to] += 1;
            }
            self.transmit(to, from, None);
        }
    }
}
