//! Dynamic batching as a state machine without I/O: what happened goes in, what is to be done comes out, and the time
//! is said by whoever drives it. The server drives it with threads and a clock, the tests with simulated ones.
//!
//! No executor waits while there is work: what has come while all were busy makes the next batch, so batches grow with
//! the load, and nobody waits for company when there is none. What decides is, in this order: a model's priority, its
//! share by weight, a request's priority, who came first. A batch is as large as helps: no larger than the model's
//! most rows, than the deadlines in it and the model's latency target allow, and not filled up with padding where
//! fewer rows run faster each. Who has much less time than others of the same model is served while the machine is
//! not busy; otherwise it is refused rather than let everybody's batches become small.
//!
//! A request that will not be answered in time is refused when it comes, by what batches are known to cost and what
//! is ahead of it; what turns out to be late in the queue is refused before it is run, and so is what has too little time
//! left for a full batch where others fill one. All queues are bounded, in
//! requests and bytes.

mod cost;
mod lane;
mod machine;

use std::time::Duration;

pub use machine::Batcher;

/// What the machine is.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// Batches that run at once.
    pub executors: usize,
    /// Bytes that all waiting requests may take together.
    pub waiting_bytes_max: usize,
}

/// How one model is served.
#[derive(Clone, Copy, Debug)]
pub struct Lane {
    /// Its share of the machine beside models of the same priority that want it too.
    pub weight: f64,
    /// Models of a smaller number go first.
    pub priority: u32,
    /// Rows that run at once. A request of more runs by itself.
    pub rows_max: usize,
    /// Requests that may wait.
    pub waiting_max: usize,
    /// In which time a request is to be answered, at most.
    pub latency_max: Option<Duration>,
}

impl Default for Lane {
    fn default() -> Self {
        Self { weight: 1.0, priority: 1, rows_max: 64, waiting_max: 4096, latency_max: None }
    }
}

/// A request, by what matters for when and with which others it runs. All times count from the same moment.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Its number: no other request that waits or runs has the same.
    pub id: u64,
    /// The number of its model.
    pub lane: usize,
    /// Rows of its inputs.
    pub rows: usize,
    /// Requests of the same group run together, others do not. Without one, it runs by itself.
    pub group: Option<u64>,
    /// Bytes that it holds while it waits.
    pub bytes: usize,
    /// Requests of a smaller number go first among those of their model.
    pub priority: u32,
    /// When an answer is of no use any more.
    pub deadline: Option<Duration>,
}

/// Why a request is not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The server is about to end.
    Draining,
    /// Too many wait already.
    Full,
    /// It would not be answered in time, by what is known when it came.
    Hopeless,
    /// It has waited for so long that it can no longer be answered in time.
    Late,
}

impl Reason {
    /// All of them, in their order.
    pub const ALL: [Self; 4] = [Self::Draining, Self::Full, Self::Hopeless, Self::Late];

    /// A word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Draining => "draining",
            Self::Full => "full",
            Self::Hopeless => "hopeless",
            Self::Late => "late",
        }
    }
}

/// A request is not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub reason: Reason,
    /// After which time another try is of use.
    pub retry_after: Duration,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Run these requests of a model together, in this order, on this executor, which is free; then say that it has
    /// [finished](Batcher::finished).
    Run {
        /// The executor's number.
        executor: usize,
        /// The model's number.
        lane: usize,
        /// The requests.
        ids: Vec<u64>,
    },
    /// Tell the client of a request that waited that it is refused.
    Refuse {
        /// The request.
        id: u64,
        /// Why.
        refused: Refused,
    },
}
