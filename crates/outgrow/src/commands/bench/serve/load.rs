//! The load: threads with a connection each that send a request over and over, as they are answered or at given moments.
//!
//! In a *closed* loop each connection sends the next request once it has the answer. In an *open* loop requests arrive as
//! a Poisson process, whatever became of those before. One that finds no connection free waits, and its latency counts
//! from when it arrived and not from when it was sent: else the requests that a slow server keeps from being sent
//! would be missing from the picture (Tene's "coordinated omission").

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use outgrow_ir::Diagnostic;
use outgrow_tensor::{RngKey, RngStream};

use super::connection::{Connection, Lost, Target};
use crate::progress::Progress;

/// Digits of a latency that are kept.
const DIGITS: u8 = 3;
/// What a thread needs.
const STACK_BYTES: usize = 128 << 10;
/// How often it is told how far it is.
const EVERY: Duration = Duration::from_millis(200);
/// How long a connection waits that could not be made.
const PAUSE: Duration = Duration::from_millis(10);

/// A load.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Connections.
    pub connections: usize,
    /// Arrivals per second, if the loop is open.
    pub rate: Option<f64>,
    /// How long it runs before it counts.
    pub warm_up: Duration,
    /// How long it runs then.
    pub measured: Duration,
    /// How long an answer may take.
    pub patience: Duration,
    /// Within which time an answer is of use.
    pub target: Option<Duration>,
    /// What arrivals follow from.
    pub seed: u64,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Nanoseconds to an answer of status 200.
    pub latency: Histogram<u64>,
    /// Nanoseconds by which requests were sent after their arrival though a connection was free.
    pub late: Histogram<u64>,
    /// Answers of each other status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests without an answer.
    pub lost: BTreeMap<Lost, u64>,
    /// Arrivals for which there was no free connection to the end.
    pub unsent: u64,
    /// Answers of status 200 within the target.
    pub within: u64,
    /// From the first moment that counts to the last answer.
    pub elapsed: Duration,
}

impl Outcome {
    fn new() -> Result<Self, Diagnostic> {
        let histogram = || {
            Histogram::new(DIGITS).map_err(|error| Diagnostic::fault("bench.histogram", error.to_string()))
        };
        Ok(Self {
            latency: histogram()?,
            late: histogram()?,
            statuses: BTreeMap::new(),
            lost: BTreeMap::new(),
            unsent: 0,
            within: 0,
            elapsed: Duration::ZERO,
        })
    }

    /// Answers of status 200.
    pub fn ok(&self) -> u64 {
        self.latency.len()
    }

    /// Requests that the server refused, because it had no time for them or the client has asked too often, by status.
    pub fn refusals(&self) -> impl Iterator<Item = (u16, u64)> {
        self.statuses
            .iter()
            .map(|(status, number)| (*status, *number))
            .filter(|(status, _)| is_refusal(*status))
    }

    /// How many of them there are.
    pub fn refused(&self) -> u64 {
        self.refusals().map(|(_, number)| number).sum()
    }

    /// Answers of statuses that are neither success nor refusal.
    pub fn failures(&self) -> impl Iterator<Item = (u16, u64)> {
        self.statuses
            .iter()
            .map(|(status, number)| (*status, *number))
            .filter(|(status, _)| !is_refusal(*status))
    }

    /// Requests that came to nothing otherwise.
    pub fn errors(&self) -> u64 {
        self.failures().map(|(_, number)| number).chain(self.lost.values().copied()).sum()
    }

    /// All that arrived.
    pub fn arrived(&self) -> u64 {
        self.ok() + self.refused() + self.errors() + self.unsent
    }
}

/// Whether a status says that the request is good, but not now.
fn is_refusal(status: u16) -> bool {
    matches!(status, 429 | 503)
}

/// Arrivals of a Poisson process.
struct Arrivals {
    numbers: RngStream,
    rate: f64,
    last: Duration,
}

impl Arrivals {
    fn new(rate: f64, seed: u64) -> Self {
        Self { numbers: RngKey::new(seed).fold_in_name("arrivals").stream(), rate, last: Duration::ZERO }
    }

    /// When the next one comes, from the start.
    fn next(&mut self) -> Duration {
        let gap_s = -libm::log(1.0 - self.numbers.uniform()) / self.rate;
        let gap = Duration::try_from_secs_f64(gap_s).unwrap_or(Duration::MAX);
        self.last = self.last.saturating_add(gap);
        self.last
    }
}

/// What the threads share.
struct Shared<'a> {
    load: &'a Load,
    request: &'a [u8],
    start: Instant,
    arrivals: Option<Mutex<Arrivals>>,
    outcome: Mutex<Outcome>,
}

/// Runs a load against a server that is there.
///
/// # Errors
/// When there are not as many connections or threads to be had.
pub fn run(load: &Load, target: &Target, request: &[u8], progress: &Progress) -> Result<Outcome, Diagnostic> {
    let mut connections: Vec<Connection> =
        (0..load.connections.max(1)).map(|_| Connection::new(target.clone(), load.patience)).collect();
    for (i, connection) in connections.iter_mut().enumerate() {
        connection.connect().map_err(|error| {
            let problem = format!("after {i} connections there are no more: {error}");
            Diagnostic::new("bench.connections", problem).item("--connections").hint("take fewer")
        })?;
    }
    let arrivals = load.rate.map(|rate| Mutex::new(Arrivals::new(rate, load.seed)));
    let outcome = Mutex::new(Outcome::new()?);
    let shared = Shared { load, request, start: Instant::now(), arrivals, outcome };
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for connection in connections {
            let shared = &shared;
            let thread = thread::Builder::new().stack_size(STACK_BYTES);
            let thread = thread.spawn_scoped(scope, move || shared.work(connection)).map_err(|error| {
                let problem = format!("a thread for each connection is not to be had: {error}");
                Diagnostic::new("bench.connections", problem).item("--connections").hint("take fewer")
            })?;
            threads.push(thread);
        }
        let whole = load.warm_up + load.measured;
        while threads.iter().any(|thread| !thread.is_finished()) {
            let done = shared.start.elapsed().min(whole);
            progress.phase("seconds", done.as_secs(), Some(whole.as_secs()));
            thread::sleep(EVERY.min(whole.saturating_sub(done)).max(PAUSE));
        }
        progress.finish();
        Ok(())
    })?;
    Ok(shared.outcome.into_inner().unwrap_or_else(PoisonError::into_inner))
}

impl Shared<'_> {
    fn work(&self, mut connection: Connection) {
        wake_in_time();
        let end = self.load.warm_up + self.load.measured;
        loop {
            let free = self.start.elapsed();
            let due = match &self.arrivals {
                Some(arrivals) => lock(arrivals).next(),
                None => free,
            };
            if due >= end {
                return;
            }
            let counts = due >= self.load.warm_up;
            if free >= end {
                // It is over, and this one has not come to be sent.
                lock(&self.outcome).unsent += u64::from(counts);
                continue;
            }
            if due > free {
                thread::sleep(due - free);
            }
            let sent = self.start.elapsed();
            let answer = connection.ask(self.request).map(|(status, _)| status);
            let done = self.start.elapsed();
            if counts {
                let late = self.arrivals.is_some().then(|| sent.saturating_sub(due)).filter(|_| due > free);
                self.count(done, done.saturating_sub(due), late, answer);
            }
            if answer == Err(Lost::Unreachable) {
                thread::sleep(PAUSE);
            }
        }
    }

    fn count(&self, done: Duration, latency: Duration, late: Option<Duration>, answer: Result<u16, Lost>) {
        let ns = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).max(1);
        let mut outcome = lock(&self.outcome);
        match answer {
            Ok(200) => {
                // A histogram that grows refuses nothing but what no clock can say.
                let _ = outcome.latency.record(ns(latency));
                outcome.within += u64::from(self.load.target.is_none_or(|target| latency <= target));
            }
            Ok(status) => *outcome.statuses.entry(status).or_default() += 1,
            Err(lost) => *outcome.lost.entry(lost).or_default() += 1,
        }
        if let Some(late) = late {
            let _ = outcome.late.record(ns(late));
        }
        outcome.elapsed = outcome.elapsed.max(done.saturating_sub(self.load.warm_up));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Counts stay right, whatever happens to another thread.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks the system to wake this thread when it is to be woken: usually Linux takes up to 50 µs more.
fn wake_in_time() {
    #[cfg(target_os = "linux")]
    // Where it is refused, requests are sent a little later, which is measured.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_are_a_poisson_process_from_a_seed() {
        let take = |seed| {
            let mut arrivals = Arrivals::new(1000.0, seed);
            (0..100_000).map(|_| arrivals.next()).collect::<Vec<_>>()
        };
        let times = take(1);
        assert_eq!(times, take(1));
        assert_ne!(times, take(2));
        assert!(times.is_sorted());
        // 100 000 arrivals at 1000/s take 100 s, give or take 5 standard deviations of 0.32 s.
        let last = times[times.len() - 1].as_secs_f64();
        assert!((98.4..101.6).contains(&last), "{last}");
        // The number in an interval has its mean as variance: in 10 ms, 10.
        let mut counts = vec![0f64; 9000];
        times
            .iter()
            .map(|time| (time.as_secs_f64() * 100.0) as usize)
            .filter(|i| *i < 9000)
            .for_each(|i| counts[i] += 1.0);
        let mean = counts.iter().sum::<f64>() / 9000.0;
        let variance = counts.iter().map(|count| (count - mean) * (count - mean)).sum::<f64>() / 9000.0;
        assert!((mean - 10.0).abs() < 0.2 && (variance - 10.0).abs() < 1.0, "{mean} {variance}");
    }
}
