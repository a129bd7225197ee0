//! One direction between two workers: bytes in order and once, over packets that come in any order, twice or not at all.
//! Sequence numbers, acknowledgements, a window at each end, and resending when nothing was heard for too long.

use super::super::LinkProblem;
use std::collections::{BTreeMap, VecDeque};

/// Part of a stream, as a packet carries it.
#[derive(Clone, Debug)]
pub struct Segment {
    /// The place of the first byte.
    pub at: u64,
    pub bytes: Vec<u8>,
    /// Whether the stream ends behind it. The end has a place of its own.
    pub end: bool,
}

/// Both ends of one direction.
#[derive(Debug, Default)]
pub struct Stream {
    /// Everything before was acknowledged.
    base: u64,
    /// What was taken on from there.
    waiting: VecDeque<u8>,
    /// What was sent at least once ends here.
    next: u64,
    /// How far the receiver has room.
    limit: u64,
    /// How the stream ends, if it does.
    pub end: Option<LinkProblem>,
    /// Whether that was acknowledged.
    finished: bool,
    /// When to send again, in nanoseconds; and how often that was in vain.
    pub again_at: Option<u64>,
    pub tries: u32,
    /// Whether an event is under way that looks at this.
    pub timer: bool,

    /// What came in order ends here.
    expected: u64,
    ahead: BTreeMap<u64, Segment>,
    /// What came in order and was not taken; how much of that the receiver has been given.
    pub arrived: Vec<u8>,
    pub given: usize,
    /// Whether the end has been reached.
    pub ended: bool,
    /// Whether nobody takes it any more.
    pub discarded: bool,
}

impl Stream {
    /// An empty one, whose receiver has room for so many bytes.
    pub fn new(room: usize) -> Self {
        Self { limit: room as u64, ..Self::default() }
    }

    /// Takes on bytes, as long as no more than `most` wait for an acknowledgement.
    pub fn take_on(&mut self, bytes: &[u8], most: usize) -> usize {
        let count = bytes.len().min(most.saturating_sub(self.waiting.len()));
        self.waiting.extend(&bytes[..count]);
        count
    }

    /// Whether something was not acknowledged.
    pub fn is_open(&self) -> bool {
        !self.waiting.is_empty() || (self.end.is_some() && !self.finished)
    }

    /// The next part that was never sent and may be, at most so long.
    pub fn fresh(&mut self, most: usize, window: usize) -> Option<Segment> {
        let until = self.limit.min(self.base + window as u64);
        let segment = self.segment(self.next, most, until)?;
        self.next = segment.at + segment.bytes.len() as u64 + u64::from(segment.end);
        Some(segment)
    }

    /// What was sent from a place on and not acknowledged, at most so long.
    pub fn stale(&self, at: u64, most: usize) -> Option<Segment> {
        self.segment(at, most, self.next)
    }

    /// The place from which on nothing was acknowledged.
    pub fn base(&self) -> u64 {
        self.base
    }

    fn segment(&self, at: u64, most: usize, until: u64) -> Option<Segment> {
        let last = self.base + self.waiting.len() as u64;
        let to = last.min(until).min(at + most as u64).max(at);
        // The end needs no room.
        let end = self.end.is_some() && !self.finished && to == last;
        if to == at && !end {
            return None;
        }
        let from = (at - self.base) as usize;
        let bytes = self.waiting.range(from..(to - self.base) as usize).copied().collect();
        Some(Segment { at, bytes, end })
    }

    /// The receiver has all up to a place, and room up to another. Says whether that is news.
    pub fn acknowledged(&mut self, up_to: u64, limit: u64) -> bool {
        let up_to = up_to.min(self.next);
        let news = up_to > self.base || limit > self.limit;
        self.limit = self.limit.max(limit);
        if up_to > self.base {
            let bytes = (up_to - self.base).min(self.waiting.len() as u64);
            self.waiting.drain(..bytes as usize);
            self.finished = bytes < up_to - self.base;
            self.base = up_to;
            self.tries = 0;
        }
        news
    }

    /// A part has come. Says whether something can be taken that could not before.
    pub fn came(&mut self, segment: Segment, room: usize) -> bool {
        if segment.at > self.expected + room as u64 {
            return false;
        }
        let longer = self
            .ahead
            .get(&segment.at)
            .is_none_or(|there| (there.bytes.len(), there.end) < (segment.bytes.len(), segment.end));
        if longer {
            self.ahead.insert(segment.at, segment);
        }
        let before = self.expected;
        while let Some(first) = self.ahead.first_entry()
            && *first.key() <= self.expected
        {
            let segment = first.remove();
            let known = (self.expected - segment.at) as usize;
            let fresh = segment.bytes.get(known..).unwrap_or_default();
            if !self.discarded {
                self.arrived.extend(fresh);
            }
            self.expected += fresh.len() as u64;
            if segment.end && !self.ended && self.expected == segment.at + segment.bytes.len() as u64 {
                self.ended = true;
                self.expected += 1;
            }
        }
        self.expected > before
    }

    /// What the receiver says: all came up to here, and there is room up to there.
    pub fn acknowledgement(&self, room: usize) -> (u64, u64) {
        let held = self.arrived.len() + self.given;
        (self.expected, self.expected + room.saturating_sub(held) as u64)
    }

    /// Nothing more is sent or resent.
    pub fn give_up(&mut self) {
        self.waiting.clear();
        self.finished = true;
        self.base = self.next;
        self.again_at = None;
    }

    /// Nobody takes anything more.
    pub fn discard(&mut self) {
        self.discarded = true;
        self.arrived.clear();
        self.given = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every packet may be lost, doubled or late, and all arrives as it was.
    #[test]
    fn bytes_arrive_in_order_over_packets_that_do_not() {
        for seed in 0..300u64 {
            let mut random = super::super::Random(seed);
            let content: Vec<u8> = (0..random.below(3000)).map(|i| i as u8).collect();
            let (window, room) = (1 + random.below(700), 1 + random.below(500));
            let mut stream = Stream::new(room);
            let (mut sent, mut got, mut packets) = (0, Vec::new(), Vec::new());
            for turn in 0.. {
                assert!(turn < 200_000, "seed {seed} comes to no end");
                sent += stream.take_on(&content[sent..], 900);
                if sent == content.len() {
                    stream.end = Some(LinkProblem::Left);
                }
                let most = 1 + random.below(100);
                packets.extend(stream.fresh(most, window));
                if packets.len() < 10 && random.below(4) == 0 {
                    packets.extend(stream.stale(stream.base(), most));
                }
                if !packets.is_empty() {
                    let which = random.below(packets.len());
                    let packet: Segment = packets.swap_remove(which);
                    if random.below(3) > 0 {
                        stream.came(packet.clone(), room);
                    }
                    if random.below(5) == 0 {
                        packets.push(packet);
                    }
                }
                let taken = random.below(stream.arrived.len() + 1);
                got.extend(stream.arrived.drain(..taken));
                if random.below(2) == 0 {
                    let (up_to, limit) = stream.acknowledgement(room);
                    stream.acknowledged(up_to, limit);
                }
                if stream.ended && stream.arrived.is_empty() && !stream.is_open() {
                    break;
                }
            }
            assert_eq!(got, content, "seed {seed}");
        }
    }
}
