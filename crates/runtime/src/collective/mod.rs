//! What workers do together: sums, gathering, broadcasts.
//!
//! An algorithm is a function that makes a [`Schedule`] for all workers: a file each, listed here. A [`Machine`] takes one
//! worker through its part, without I/O, so that [`Communicator`] with real links and a simulated network drive the same
//! code.
//!
//! | file | what | rounds | bytes that a worker sends, of a vector of m |
//! |---|---|---|---|
//! | `canonical` | reduce-scatter in the order of the one tree | log2 n + 1 at most, for a leaf each | m (n - 1) / n for powers of two |
//! | `everywhere` | all-reduce in that order, by each worker for itself | 1 | m (n - 1) |
//! | `ring` | reduce-scatter, all-reduce in an order of its own | n - 1, 2 (n - 1) | m (n - 1) / n, twice that |
//! | `gather` | all-gather: `direct`, `doubling`, `ring`; gather `to_one` | 1, log2 n, n - 1; 1 | m (n - 1) / n; a part |
//! | `broadcast` | `tree`, `scattered` | log2 n; 2 | m log2 n; 2 m at most |
//! | `hierarchical` | the sums in the order of the tree, all-gather, broadcast; as little as can be between machines | 2 more at most | of these, a part to each machine |
//! | `pair` | `send` from one to another, `swap` between two | 1 | m, or nothing |
//!
//! A barrier is a gather of a byte. What a schedule takes on which links says `cost`, and `choose` takes the cheapest of
//! those that give the same bits; `calibrate` measures links.

pub mod broadcast;
pub mod calibrate;
pub mod canonical;
pub mod choose;
mod communicator;
pub mod cost;
pub mod everywhere;
mod fit;
pub mod gather;
pub mod hierarchical;
mod machine;
pub mod pair;
pub mod ring;
mod schedule;
mod timeline;
mod tree;

pub use communicator::{Communicator, Group, LOST, Traffic, lost};
pub use cost::{Link, Links};
pub use machine::{Action, Event, Machine, Unexpected};
pub use schedule::{Load, Local, Move, Part, PartRound, Queue, Round, Schedule, Transfer};
pub use timeline::{Doing, Span, Timeline};
pub use tree::{Node, Tree, runs};
