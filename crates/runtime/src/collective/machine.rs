//! One worker's way through a collective, as a state machine without I/O: it says what can be done now, and is told what
//! has been done. Links carry as many bytes at a time as they like.

use super::schedule::{Local, Move, Part, Queue};
use std::ops::Range;
use std::sync::Arc;
use thiserror::Error;

/// What can be done now. Any of it, in any order, as far as the links go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// These bytes of a vector are to be sent.
    Send {
        /// To whom.
        to: usize,
        /// Of which vector.
        slot: usize,
        /// Which bytes.
        range: Range<usize>,
    },
    /// The next bytes from a worker are for this place.
    Receive {
        /// From whom.
        from: usize,
        /// In which vector.
        slot: usize,
        /// Which bytes.
        range: Range<usize>,
        /// Whether they are added, as numbers of f32: then only whole numbers can be taken.
        add: bool,
    },
    /// Two of the worker's own vectors are to be put together. Nothing else can be done before that.
    Local(Local),
}

/// What has been done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A link has taken on so many bytes.
    Sent {
        /// To whom.
        to: usize,
        /// How many.
        bytes: usize,
    },
    /// So many bytes have come and are where they belong.
    Received {
        /// From whom.
        from: usize,
        /// How many.
        bytes: usize,
    },
    /// The local action has been done.
    Done,
}

/// Something was done that the machine had not said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("unexpected in this collective: {0:?}")]
pub struct Unexpected(pub Event);

/// How far a queue has come: how many of its moves are through, and how many bytes of the next one.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    moves: usize,
    bytes: usize,
}

impl Cursor {
    /// What is left of the present move.
    fn rest<'a>(&self, queue: &'a Queue) -> Option<(&'a Move, Range<usize>)> {
        let next = queue.moves.get(self.moves)?;
        Some((next, next.range.start + self.bytes..next.range.end))
    }

    /// Goes on by so many bytes, which must be of the present move. Says whether they can be, and whether that ends the queue.
    fn advance(&mut self, queue: &Queue, bytes: usize) -> Option<bool> {
        let (_, rest) = self.rest(queue)?;
        if bytes > rest.len() {
            return None;
        }
        self.bytes += bytes;
        if bytes == rest.len() {
            *self = Self { moves: self.moves + 1, bytes: 0 };
        }
        Some(self.moves == queue.moves.len())
    }
}

/// One worker in a collective. Used again from run to run; nothing is allocated after it was made.
#[derive(Debug)]
pub struct Machine {
    part: Arc<Part>,
    round: usize,
    sends: Vec<Cursor>,
    receives: Vec<Cursor>,
    /// Queues of the present round that are not through.
    open: usize,
    locals: usize,
}

impl Machine {
    /// At the beginning of a worker's part.
    pub fn new(part: Arc<Part>) -> Self {
        let most = |queues: fn(&super::PartRound) -> usize| part.rounds.iter().map(queues).max().unwrap_or(0);
        let (sends, receives) = (most(|round| round.sends.len()), most(|round| round.receives.len()));
        let mut machine = Self {
            round: 0,
            sends: Vec::with_capacity(sends),
            receives: Vec::with_capacity(receives),
            open: 0,
            locals: 0,
            part,
        };
        machine.start();
        machine
    }

    /// Begins anew.
    pub fn start(&mut self) {
        self.enter(0);
    }

    /// The worker's part.
    pub fn part(&self) -> &Part {
        &self.part
    }

    /// The number of the present round.
    pub fn round(&self) -> usize {
        self.round
    }

    /// Whether all is done.
    pub fn is_done(&self) -> bool {
        self.round == self.part.rounds.len()
    }

    fn enter(&mut self, round: usize) {
        self.round = round;
        self.locals = 0;
        self.open = 0;
        self.sends.clear();
        self.receives.clear();
        if let Some(round) = self.part.rounds.get(round) {
            self.sends.resize(round.sends.len(), Cursor::default());
            self.receives.resize(round.receives.len(), Cursor::default());
            self.open = round.sends.len() + round.receives.len();
        }
    }

    /// The queues to other workers in the present round, by their numbers: what is to be sent to each now.
    pub fn sends(&self) -> usize {
        self.sends.len()
    }

    /// The queues from other workers in the present round.
    pub fn receives(&self) -> usize {
        self.receives.len()
    }

    /// What is to be sent now in queue `i`; nothing if that is through.
    pub fn send(&self, i: usize) -> Option<Action> {
        let queue = self.part.rounds.get(self.round)?.sends.get(i)?;
        let (next, range) = self.sends.get(i)?.rest(queue)?;
        Some(Action::Send { to: queue.peer, slot: next.slot, range })
    }

    /// What can come now in queue `i`; nothing if that is through.
    pub fn receive(&self, i: usize) -> Option<Action> {
        let queue = self.part.rounds.get(self.round)?.receives.get(i)?;
        let (next, range) = self.receives.get(i)?.rest(queue)?;
        Some(Action::Receive { from: queue.peer, slot: next.slot, range, add: next.add })
    }

    /// What the worker has to do by itself now.
    pub fn local(&self) -> Option<Action> {
        if self.open > 0 {
            return None;
        }
        let local = self.part.rounds.get(self.round)?.locals.get(self.locals)?;
        Some(Action::Local(local.clone()))
    }

    /// All that can be done now.
    pub fn actions(&self) -> impl Iterator<Item = Action> {
        let sends = (0..self.sends()).filter_map(|i| self.send(i));
        let receives = (0..self.receives()).filter_map(|i| self.receive(i));
        self.local().into_iter().chain(sends).chain(receives)
    }

    /// Takes notice.
    ///
    /// # Errors
    /// When that cannot have happened; nothing changes then.
    pub fn on(&mut self, event: Event) -> Result<(), Unexpected> {
        let part = self.part.clone();
        let round = part.rounds.get(self.round).ok_or(Unexpected(event))?;
        let (queues, cursors, peer, bytes) = match event {
            Event::Sent { to, bytes } => (&round.sends, &mut self.sends, to, bytes),
            Event::Received { from, bytes } => (&round.receives, &mut self.receives, from, bytes),
            Event::Done => {
                self.local().ok_or(Unexpected(event))?;
                self.locals += 1;
                self.close();
                return Ok(());
            }
        };
        let i = queues.iter().position(|queue| queue.peer == peer).ok_or(Unexpected(event))?;
        let through = cursors[i].advance(&queues[i], bytes).ok_or(Unexpected(event))?;
        self.open -= usize::from(through && bytes > 0);
        self.close();
        Ok(())
    }

    /// Goes on to the next round when there is nothing left to do in this one.
    fn close(&mut self) {
        let locals = self.part.rounds.get(self.round).map_or(0, |round| round.locals.len());
        if self.open == 0 && self.locals == locals {
            self.enter(self.round + 1);
        }
    }
}
