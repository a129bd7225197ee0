//! What has happened to the requests of a model, counted while it happens, without locks. Durations and sizes are
//! counted in buckets that are the same everywhere, so that the counts of several servers can be added up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::batcher::Reason;

/// Statuses that are counted by themselves; the last place is for all others.
pub const STATUSES: [u16; 12] = [200, 400, 401, 403, 404, 405, 408, 413, 415, 429, 500, 503];
/// Bounds of the buckets for durations, in seconds.
pub const SECONDS: [f64; 16] =
    [1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Bounds of the buckets for rows.
pub const ROWS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];
/// Sizes of batches that are counted by themselves in the statistics of the protocol: powers of two up to this.
const SIZES: usize = 11;

/// How often something has happened, and how long it took together.
#[derive(Debug, Default)]
pub struct Timed {
    count: AtomicU64,
    ns: AtomicU64,
}

impl Timed {
    /// Once more.
    pub fn add(&self, elapsed: Duration) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.ns.fetch_add(elapsed.as_nanos() as u64, Ordering::Relaxed);
    }

    /// How often, and nanoseconds together.
    pub fn read(&self) -> (u64, u64) {
        (self.count.load(Ordering::Relaxed), self.ns.load(Ordering::Relaxed))
    }
}

/// Observations, counted in buckets.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    bounds: &'static [f64; N],
    counts: [AtomicU64; N],
    above: AtomicU64,
    /// The sum, in units of which a float is made.
    sum: AtomicU64,
    unit: f64,
}

impl<const N: usize> Histogram<N> {
    fn new(bounds: &'static [f64; N], unit: f64) -> Self {
        let counts = std::array::from_fn(|_| AtomicU64::new(0));
        Self { bounds, counts, above: AtomicU64::new(0), sum: AtomicU64::new(0), unit }
    }

    /// One more, in units.
    fn add(&self, units: u64) {
        let value = units as f64 * self.unit;
        let bucket = self.bounds.iter().position(|bound| value <= *bound);
        bucket.map_or(&self.above, |i| &self.counts[i]).fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(units, Ordering::Relaxed);
    }

    /// How many were at most each bound, the last without bound; and their sum.
    pub fn read(&self) -> (Vec<(f64, u64)>, f64) {
        let mut total = 0;
        let mut up_to = |(bound, count): (f64, &AtomicU64)| {
            total += count.load(Ordering::Relaxed);
            (bound, total)
        };
        let mut buckets: Vec<_> = self.bounds.iter().copied().zip(&self.counts).map(&mut up_to).collect();
        buckets.push(up_to((f64::INFINITY, &self.above)));
        (buckets, self.sum.load(Ordering::Relaxed) as f64 * self.unit)
    }
}

/// The parts of the time that an answered request took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// From when its body had come until the answer was ready.
    pub total: Duration,
    /// Making tensors of the body.
    pub input: Duration,
    /// Waiting in the queue.
    pub queue: Duration,
    /// The run, with whatever ran in the same batch.
    pub infer: Duration,
    /// Making the answer of tensors.
    pub output: Duration,
}

/// What has happened to the requests of one form of one version of a model.
#[derive(Debug)]
pub struct Tally {
    statuses: [AtomicU64; STATUSES.len() + 1],
    refused: [AtomicU64; Reason::ALL.len()],
    /// Rows that were answered.
    pub rows: AtomicU64,
    /// When a request was answered last, in milliseconds of the world's calendar.
    pub last_ms: AtomicU64,
    /// Requests that were answered.
    pub success: Timed,
    /// Requests that were not.
    pub fail: Timed,
    /// Waiting in the queue.
    pub queue: Timed,
    /// Making tensors.
    pub input: Timed,
    /// Running.
    pub infer: Timed,
    /// Making answers.
    pub output: Timed,
    /// Runs, by the power of two of their rows.
    batches: [Timed; SIZES],
    /// Seconds that requests took.
    pub total_s: Histogram<{ SECONDS.len() }>,
    /// Seconds that they waited.
    pub queue_s: Histogram<{ SECONDS.len() }>,
    /// Seconds that they ran.
    pub compute_s: Histogram<{ SECONDS.len() }>,
    /// Rows of the batches that ran.
    pub batch_rows: Histogram<{ ROWS.len() }>,
}

impl Default for Tally {
    fn default() -> Self {
        let seconds = || Histogram::new(&SECONDS, 1e-9);
        Self {
            statuses: Default::default(),
            refused: Default::default(),
            rows: AtomicU64::new(0),
            last_ms: AtomicU64::new(0),
            success: Timed::default(),
            fail: Timed::default(),
            queue: Timed::default(),
            input: Timed::default(),
            infer: Timed::default(),
            output: Timed::default(),
            batches: Default::default(),
            total_s: seconds(),
            queue_s: seconds(),
            compute_s: seconds(),
            batch_rows: Histogram::new(&ROWS, 1.0),
        }
    }
}

impl Tally {
    /// A request was answered.
    pub fn answered(&self, rows: usize, times: Times, calendar: Duration) {
        self.count(200);
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
        self.last_ms.fetch_max(calendar.as_millis() as u64, Ordering::Relaxed);
        for (timed, elapsed) in [
            (&self.success, times.total),
            (&self.queue, times.queue),
            (&self.input, times.input),
            (&self.infer, times.infer),
            (&self.output, times.output),
        ] {
            timed.add(elapsed);
        }
        for (histogram, elapsed) in
            [(&self.total_s, times.total), (&self.queue_s, times.queue), (&self.compute_s, times.infer)]
        {
            histogram.add(elapsed.as_nanos() as u64);
        }
    }

    /// A request was not answered, with this status of HTTP.
    pub fn failed(&self, status: u16, elapsed: Duration) {
        self.count(status);
        self.fail.add(elapsed);
        self.total_s.add(elapsed.as_nanos() as u64);
    }

    fn count(&self, status: u16) {
        let place = STATUSES.iter().position(|known| *known == status).unwrap_or(STATUSES.len());
        self.statuses[place].fetch_add(1, Ordering::Relaxed);
    }

    /// A request was refused.
    pub fn refused(&self, reason: Reason) {
        self.refused[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A batch has run that held requests of this kind.
    pub fn ran(&self, rows: usize, elapsed: Duration) {
        let size = (rows.max(1).next_power_of_two().trailing_zeros() as usize).min(SIZES - 1);
        self.batches[size].add(elapsed);
        self.batch_rows.add(rows as u64);
    }

    /// Requests by status, where there were any; nothing in place of a status for those that are not told apart.
    pub fn statuses(&self) -> impl Iterator<Item = (Option<u16>, u64)> {
        let names = STATUSES.iter().copied().map(Some).chain([None]);
        let counts = self.statuses.iter().map(|count| count.load(Ordering::Relaxed));
        names.zip(counts).filter(|(_, count)| *count > 0)
    }

    /// Requests that were refused, by reason.
    pub fn refusals(&self) -> impl Iterator<Item = (Reason, u64)> {
        let counts = self.refused.iter().map(|count| count.load(Ordering::Relaxed));
        Reason::ALL.into_iter().zip(counts).filter(|(_, count)| *count > 0)
    }

    /// How many batches of which rows (filled up to a power of two) have run, and nanoseconds of them together.
    pub fn batches(&self) -> impl Iterator<Item = (usize, u64, u64)> {
        let read = |(i, timed): (usize, &Timed)| {
            let (count, ns) = timed.read();
            (1 << i, count, ns)
        };
        self.batches.iter().enumerate().map(read).filter(|(_, count, _)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_is_counted_in_its_bucket() {
        let tally = Tally::default();
        let ms = Duration::from_millis;
        let times = Times { total: ms(3), queue: ms(1), infer: ms(2), ..Times::default() };
        tally.answered(5, times, ms(77));
        tally.answered(1, Times { total: ms(60_000), ..times }, ms(70));
        tally.failed(503, ms(1));
        tally.failed(418, ms(1));
        tally.refused(Reason::Late);
        [1, 5, 64, 5000].into_iter().for_each(|rows| tally.ran(rows, ms(2)));
        let counts: Vec<_> = tally.statuses().collect();
        assert_eq!(counts, [(Some(200), 2), (Some(503), 1), (None, 1)]);
        assert_eq!(tally.refusals().collect::<Vec<_>>(), [(Reason::Late, 1)]);
        assert_eq!((tally.rows.into_inner(), tally.last_ms.into_inner()), (6, 77));
        assert_eq!((tally.success.read(), tally.fail.read()), ((2, 60_003_000_000), (2, 2_000_000)));
        let (buckets, sum) = tally.total_s.read();
        let at = |bound: f64| buckets.iter().find(|(b, _)| *b == bound).unwrap().1;
        assert_eq!((at(5e-4), at(1e-3), at(2.5e-3), at(5e-3), at(10.0)), (0, 2, 2, 3, 3));
        assert_eq!((at(f64::INFINITY), (sum - 60.005).abs() < 1e-9), (4, true));
        let batches: Vec<_> = tally.batches.iter().map(|timed| timed.read().0).collect();
        assert_eq!(batches, [1, 0, 0, 1, 0, 0, 1, 0, 0, 0, 1]);
    }
}
