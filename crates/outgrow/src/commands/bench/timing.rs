//! How long something takes that is done again and again.

use std::time::Duration;

use outgrow_ir::Diagnostics;

use crate::context::Context;

/// What several of the same took, each at least once.
pub struct Times(Vec<u64>);

impl Times {
    /// How many there were.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The least, the median and the most, in seconds.
    pub fn spread_s(&self) -> [f64; 3] {
        let (last, half) = (self.0.len() - 1, self.0.len() / 2);
        let median = (self.0[last / 2] + self.0[half]) as f64 * 0.5e-9;
        [self.0[0] as f64 * 1e-9, median, self.0[last] as f64 * 1e-9]
    }

    /// What 99 of 100 took at most, in seconds.
    pub fn p99_s(&self) -> f64 {
        self.0[(self.0.len() * 99).div_ceil(100) - 1] as f64 * 1e-9
    }
}

/// Does it again and again for so long, and at least so many times (one or more).
///
/// # Errors
/// The first of the work itself.
pub fn repeat(
    asked: Duration,
    context: &Context,
    fewest: usize,
    once: &mut dyn FnMut() -> Result<(), Diagnostics>,
) -> Result<Times, Diagnostics> {
    let (clock, progress) = (&context.world.clock, context.progress());
    let (asked_ns, asked_s) = (asked.as_nanos() as u64, asked.as_secs_f64().ceil() as u64);
    let begun = clock.now_ns();
    let (mut times, mut told) = (Vec::new(), 0);
    loop {
        let started = clock.now_ns();
        if times.len() >= fewest && started - begun >= asked_ns {
            times.sort_unstable();
            return Ok(Times(times));
        }
        once()?;
        let ended = clock.now_ns();
        times.push(ended - started);
        let whole = (ended - begun) / 1_000_000_000;
        if whole > told {
            told = whole;
            progress.phase("seconds timed", whole, Some(asked_s));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_and_p99_are_of_the_sorted_times() {
        let second = 1_000_000_000;
        let one = Times(vec![3 * second]);
        assert_eq!((one.spread_s(), one.p99_s()), ([3.0, 3.0, 3.0], 3.0));
        let many = Times((1..=200).map(|i| i * second).collect());
        assert_eq!((many.spread_s(), many.p99_s()), ([1.0, 100.5, 200.0], 198.0));
    }
}
