//! Time: a monotonic clock to measure with and a wall clock to date with, real or advanced by hand.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A source of time. Results of a run must not depend on it; reports and timeouts may.
pub trait Clock: Debug + Send + Sync {
    /// Nanoseconds since some fixed moment. Never goes back; differences are durations.
    fn now_ns(&self) -> u64;

    /// Wall time in whole seconds since 1970-01-01 00:00 UTC. May jump in both directions; only for dating.
    fn unix_s(&self) -> u64;
}

/// The machine's clocks.
#[derive(Clone, Debug)]
pub struct RealClock {
    start: Instant,
}

impl RealClock {
    /// A clock whose monotonic time starts at zero now.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for RealClock {
    fn now_ns(&self) -> u64 {
        // 2^64 ns are 584 years.
        self.start.elapsed().as_nanos() as u64
    }

    fn unix_s(&self) -> u64 {
        // A wall clock set before 1970 reads as 1970.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
    }
}

/// A clock that stands still until it is advanced. Wall time and monotonic time move together.
#[derive(Debug)]
pub struct SimClock {
    now_ns: AtomicU64,
    start_unix_s: u64,
}

impl SimClock {
    /// A clock at monotonic time zero and the given wall time in seconds since 1970.
    pub fn new(unix_s: u64) -> Self {
        Self { now_ns: AtomicU64::new(0), start_unix_s: unix_s }
    }

    /// Moves time forward.
    pub fn advance(&self, by: Duration) {
        self.now_ns.fetch_add(by.as_nanos() as u64, Ordering::SeqCst);
    }
}

impl Clock for SimClock {
    fn now_ns(&self) -> u64 {
        self.now_ns.load(Ordering::SeqCst)
    }

    fn unix_s(&self) -> u64 {
        self.start_unix_s + self.now_ns() / 1_000_000_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simulated_time_moves_only_by_hand() {
        let clock = SimClock::new(1_000);
        assert_eq!((clock.now_ns(), clock.unix_s()), (0, 1_000));
        clock.advance(Duration::from_millis(2_500));
        assert_eq!((clock.now_ns(), clock.unix_s()), (2_500_000_000, 1_002));
    }

    #[test]
    fn real_time_never_goes_back() {
        let clock = RealClock::new();
        let times: Vec<u64> = (0..1000).map(|_| clock.now_ns()).collect();
        assert!(times.is_sorted());
        assert!(clock.unix_s() > 1_600_000_000);
    }
}
