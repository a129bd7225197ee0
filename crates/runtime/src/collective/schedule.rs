//! What a collective is: who sends which bytes of which vector to whom, in rounds. An algorithm makes the whole of it for
//! all workers; each takes its own part and goes through it with a [`super::Machine`].

use std::collections::BTreeSet;
use std::ops::Range;

/// Bytes that one worker sends to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Who sends.
    pub from: usize,
    /// Who receives.
    pub to: usize,
    /// Which of the sender's vectors they are of.
    pub source: usize,
    /// Which of the receiver's vectors they are for.
    pub target: usize,
    /// Where they are in both vectors.
    pub range: Range<usize>,
    /// Whether they are added, as numbers of f32, to what is there, rather than written over it.
    pub add: bool,
}

/// What a worker does with two of its vectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// Whose they are.
    pub worker: usize,
    /// The vector that is read.
    pub source: usize,
    /// The vector that is written.
    pub target: usize,
    /// Which bytes of both.
    pub range: Range<usize>,
    /// Whether they are added, as numbers of f32.
    pub add: bool,
}

/// What can happen at the same time: nobody sends what is written in this round, or writes twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Between workers. Two workers agree on the order of what one sends to the other.
    pub transfers: Vec<Transfer>,
    /// Within workers, when all their transfers are through.
    pub locals: Vec<Local>,
}

/// A collective of a group of workers. A worker begins a round when its own part of the one before is done; it waits for
/// nobody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// How many workers take part.
    pub workers: usize,
    /// The rounds.
    pub rounds: Vec<Round>,
}

/// What a schedule takes: the most that any one worker does, which is what the others wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Messages that one worker sends; what goes to the same worker in the same round is one.
    pub messages: usize,
    /// Bytes that one worker sends.
    pub sent: usize,
    /// Bytes that one worker receives.
    pub received: usize,
    /// Messages of all workers.
    pub all_messages: usize,
    /// Bytes of all workers.
    pub all_bytes: usize,
}

impl Schedule {
    /// Nothing to do.
    pub fn empty(workers: usize) -> Self {
        Self { workers, rounds: Vec::new() }
    }

    /// Adds a round, without what moves nothing.
    pub fn push(&mut self, mut round: Round) {
        round.transfers.retain(|transfer| !transfer.range.is_empty());
        round.locals.retain(|local| !local.range.is_empty());
        if round != Round::default() {
            self.rounds.push(round);
        }
    }

    /// This one, and then that one.
    pub fn then(mut self, next: Self) -> Self {
        self.rounds.extend(next.rounds);
        self
    }

    /// All of these, which touch different bytes: each begins a round after the one before it. What is sent first is used
    /// while what comes later is on its way, and is still in the caches.
    pub fn staggered(workers: usize, schedules: impl IntoIterator<Item = Self>) -> Self {
        let mut all = Self::empty(workers);
        for (start, schedule) in schedules.into_iter().enumerate() {
            all.add(schedule, start);
        }
        all
    }

    /// This one and that one, which touches different bytes, at the same time.
    pub fn beside(mut self, other: Self) -> Self {
        self.add(other, 0);
        self
    }

    /// The same among some workers of a larger group: its worker `i` is worker `members[i]` there.
    pub fn among(mut self, workers: usize, members: &[usize]) -> Self {
        for round in &mut self.rounds {
            for transfer in &mut round.transfers {
                (transfer.from, transfer.to) = (members[transfer.from], members[transfer.to]);
            }
            round.locals.iter_mut().for_each(|local| local.worker = members[local.worker]);
        }
        self.workers = workers;
        self
    }

    /// Adds the rounds of another one to these, from round `start` on.
    fn add(&mut self, other: Self, start: usize) {
        for (i, round) in other.rounds.into_iter().enumerate() {
            if self.rounds.len() <= start + i {
                self.rounds.resize_with(start + i + 1, Round::default);
            }
            let into = &mut self.rounds[start + i];
            into.transfers.extend(round.transfers);
            into.locals.extend(round.locals);
        }
    }

    /// What it takes.
    pub fn load(&self) -> Load {
        let mut messages = vec![0; self.workers];
        let (mut sent, mut received) = (messages.clone(), messages.clone());
        for round in &self.rounds {
            let pairs: BTreeSet<_> = round.transfers.iter().map(|t| (t.from, t.to)).collect();
            pairs.iter().for_each(|(from, _)| messages[*from] += 1);
            for transfer in &round.transfers {
                sent[transfer.from] += transfer.range.len();
                received[transfer.to] += transfer.range.len();
            }
        }
        let most = |counts: &[usize]| counts.iter().copied().max().unwrap_or(0);
        Load {
            messages: most(&messages),
            sent: most(&sent),
            received: most(&received),
            all_messages: messages.iter().sum(),
            all_bytes: sent.iter().sum(),
        }
    }

    /// Whether it is sound: workers that there are, bytes within `bytes`, nothing sent to oneself, and in no round a byte
    /// that is written twice or sent as well. Says what is wrong.
    ///
    /// # Errors
    /// What is wrong first.
    pub fn check(&self, bytes: usize) -> Result<(), String> {
        for (i, round) in self.rounds.iter().enumerate() {
            let mut written: Vec<(usize, usize, &Range<usize>)> = Vec::new();
            for transfer in &round.transfers {
                let Transfer { from, to, target, range, add, .. } = transfer;
                if from == to || *from.max(to) >= self.workers {
                    return Err(format!("round {i}: {from} sends to {to}"));
                }
                if range.end > bytes
                    || (*add && !(range.start.is_multiple_of(4) && range.end.is_multiple_of(4)))
                {
                    return Err(format!("round {i}: bytes {range:?} of {bytes}"));
                }
                written.push((*to, *target, range));
            }
            let clash = |worker: usize, slot: usize, range: &Range<usize>| {
                let same = written.iter().filter(|(w, s, r)| {
                    (*w, *s) == (worker, slot) && r.start < range.end && range.start < r.end
                });
                same.count()
            };
            for transfer in &round.transfers {
                if clash(transfer.to, transfer.target, &transfer.range) > 1 {
                    return Err(format!("round {i}: {transfer:?} is written twice"));
                }
                if clash(transfer.from, transfer.source, &transfer.range) > 0 {
                    return Err(format!("round {i}: {transfer:?} is sent while it is written"));
                }
            }
        }
        Ok(())
    }

    /// The part of one worker.
    pub fn part(&self, worker: usize) -> Part {
        let mut part = Part { worker, rounds: Vec::with_capacity(self.rounds.len()) };
        for round in &self.rounds {
            let mut own = PartRound::default();
            for transfer in &round.transfers {
                let Transfer { from, to, source, target, ref range, add } = *transfer;
                let queue = |queues: &mut Vec<Queue>, peer: usize, slot: usize, add: bool| {
                    let at = queues.iter().position(|queue| queue.peer == peer).unwrap_or_else(|| {
                        queues.push(Queue { peer, moves: Vec::new() });
                        queues.len() - 1
                    });
                    queues[at].moves.push(Move { slot, range: range.clone(), add });
                };
                if from == worker {
                    queue(&mut own.sends, to, source, false);
                }
                if to == worker {
                    queue(&mut own.receives, from, target, add);
                }
            }
            own.locals.extend(round.locals.iter().filter(|local| local.worker == worker).cloned());
            // The order of peers decides nothing but who is served first: let not all begin with the same one.
            let after = |queue: &Queue| (queue.peer + self.workers - worker) % self.workers;
            own.sends.sort_by_key(after);
            if own != PartRound::default() {
                part.rounds.push(own);
            }
        }
        part
    }
}

/// Bytes of one of a worker's vectors that are sent or received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Which vector.
    pub slot: usize,
    /// Which bytes.
    pub range: Range<usize>,
    /// Whether what comes is added, as numbers of f32.
    pub add: bool,
}

/// What goes to one peer, or comes from it, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// The other worker.
    pub peer: usize,
    /// What goes or comes.
    pub moves: Vec<Move>,
}

/// One worker's part in a round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartRound {
    /// A queue for each worker that is sent something.
    pub sends: Vec<Queue>,
    /// A queue for each worker that something comes from.
    pub receives: Vec<Queue>,
    /// What is done when all that is through.
    pub locals: Vec<Local>,
}

/// One worker's part in a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Whose it is.
    pub worker: usize,
    /// The rounds in which it does something.
    pub rounds: Vec<PartRound>,
}

impl Part {
    /// How many vectors it needs.
    pub fn slots(&self) -> usize {
        let moves =
            |queues: &[Queue]| queues.iter().flat_map(|q| &q.moves).map(|m| m.slot + 1).max().unwrap_or(0);
        let locals = |round: &PartRound| round.locals.iter().map(|l| l.source.max(l.target) + 1).max();
        let round = |round: &PartRound| {
            moves(&round.sends).max(moves(&round.receives)).max(locals(round).unwrap_or(0))
        };
        self.rounds.iter().map(round).max().unwrap_or(0)
    }
}
