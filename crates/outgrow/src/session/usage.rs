//! How much of the threads' time a run took: as a whole, and over its course.

use std::sync::Arc;

use outgrow_env::Clock;
use outgrow_runtime::ThreadPool;

use super::Session;
use super::outcome::Usage;

/// Measures from a start to a stop. Evaluations in between count, both as time and as work.
#[derive(Debug)]
pub struct Meter {
    pool: Arc<ThreadPool>,
    clock: Arc<dyn Clock>,
    start: Reading,
    last: Reading,
    course: Course,
}

/// Time, and the time that all threads together have worked.
#[derive(Clone, Copy, Debug)]
struct Reading {
    at_ns: u64,
    busy_ns: u64,
}

impl Meter {
    /// Starts to measure.
    pub fn start(session: &Session<'_>) -> Self {
        let (pool, clock) = (session.cpu.pool.clone(), session.context.world.clock.clone());
        let start = Reading { at_ns: clock.now_ns(), busy_ns: pool.busy_ns().iter().sum() };
        Self { pool, clock, start, last: start, course: Course::default() }
    }

    /// Takes a point of the course, if it is time. Cheap: to be called after every step.
    pub fn tick(&mut self) {
        if self.clock.now_ns() - self.last.at_ns < self.course.every_ns {
            return;
        }
        let now = self.read();
        let seconds = (now.at_ns - self.start.at_ns) as f64 * 1e-9;
        self.course.push(seconds, part(self.pool.threads(), self.last, now));
        self.last = now;
    }

    /// What was used since the start.
    pub fn usage(&self) -> Usage {
        Usage::new(part(self.pool.threads(), self.start, self.read()), self.course.points.clone())
    }

    fn read(&self) -> Reading {
        Reading { at_ns: self.clock.now_ns(), busy_ns: self.pool.busy_ns().iter().sum() }
    }
}

/// The part of the threads' time between two readings that was work, from 0 to 1.
fn part(threads: usize, from: Reading, to: Reading) -> f64 {
    let whole = threads as f64 * (to.at_ns - from.at_ns) as f64;
    if whole > 0.0 { ((to.busy_ns - from.busy_ns) as f64 / whole).min(1.0) } else { 0.0 }
}

/// Points of a curve, however long it gets no more than [`POINTS`].
#[derive(Debug)]
struct Course {
    /// Nanoseconds between two points.
    every_ns: u64,
    /// Seconds since the start, and the part of the threads' time up to there since the point before.
    points: Vec<(f64, f64)>,
}

/// Nanoseconds between the first points.
const EVERY_NS: u64 = 100_000_000;
/// At so many points each two become one, and from then on they come half as often.
const POINTS: usize = 400;

impl Default for Course {
    fn default() -> Self {
        Self { every_ns: EVERY_NS, points: Vec::new() }
    }
}

impl Course {
    fn push(&mut self, seconds: f64, part: f64) {
        self.points.push((seconds, part));
        if self.points.len() >= POINTS {
            self.every_ns *= 2;
            let halves = self.points.chunks_exact(2).map(|pair| (pair[1].0, (pair[0].1 + pair[1].1) / 2.0));
            self.points = halves.collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_of_all_threads_time() {
        let from = Reading { at_ns: 1_000, busy_ns: 70 };
        let check = |threads, at_ns, busy_ns, expected: f64| {
            assert_eq!(part(threads, from, Reading { at_ns, busy_ns }), expected, "{threads} threads");
        };
        check(2, 1_100, 220, 0.75);
        check(1, 1_100, 70, 0.0);
        check(4, 1_000, 70, 0.0);
        // A thread's work is written down when it ends, so that some of it may have begun before.
        check(1, 1_100, 370, 1.0);
    }

    #[test]
    fn a_long_course_is_told_in_few_points_of_even_width() {
        let mut course = Course::default();
        let mut now_ns = 0;
        for _ in 0..3 * POINTS {
            now_ns += course.every_ns;
            // Half of the threads work until the hundredth second, and all of them from then on.
            let seconds = now_ns as f64 * 1e-9;
            course.push(seconds, if seconds <= 100.0 { 0.5 } else { 1.0 });
        }
        assert!((POINTS / 2..POINTS).contains(&course.points.len()), "{}", course.points.len());
        let width = course.every_ns as f64 * 1e-9;
        for (i, &(seconds, part)) in course.points.iter().enumerate() {
            assert!((seconds - (i + 1) as f64 * width).abs() < 1e-6, "point {i} is at {seconds} s");
            let expected = if seconds <= 100.0 { 0.5 } else { 1.0 };
            let crosses = (seconds - width..seconds).contains(&100.0);
            assert!(part == expected || crosses, "{part} at {seconds} s");
        }
    }
}
