//! How long something takes that is done again and again.

use outgrow_ir::{Diagnostic, Diagnostics};

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

/// Whether so many seconds can be timed.
///
/// # Errors
/// For none, or more than a day.
pub fn check_seconds(seconds: f64) -> Result<(), Diagnostic> {
    if seconds > 0.0 && seconds <= 86_400.0 {
        return Ok(());
    }
    let found = Diagnostic::new("bench.seconds", format!("nothing can be timed for {seconds} seconds"));
    Err(found.item("--seconds").expected("a number above 0, at most 86400"))
}

/// Does it again and again for so many seconds, and at least so many times (one or more).
///
/// # Errors
/// The first of the work itself.
pub fn time(
    seconds: f64,
    context: &Context,
    fewest: usize,
    once: &mut dyn FnMut() -> Result<(), Diagnostics>,
) -> Result<Times, Diagnostics> {
    let (clock, progress) = (&context.world.clock, context.progress());
    let asked = (seconds * 1e9) as u64;
    let begun = clock.now_ns();
    let (mut times, mut told) = (Vec::new(), 0);
    loop {
        let started = clock.now_ns();
        if times.len() >= fewest && started - begun >= asked {
            times.sort_unstable();
            return Ok(Times(times));
        }
        once()?;
        let ended = clock.now_ns();
        times.push(ended - started);
        let whole = (ended - begun) / 1_000_000_000;
        if whole > told {
            told = whole;
            progress.phase("seconds timed", whole, Some(seconds.ceil() as u64));
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

    #[test]
    fn what_cannot_be_timed_is_refused() {
        for (seconds, fits) in [(1.0, true), (0.0, false), (-1.0, false), (f64::NAN, false), (1e9, false)] {
            assert_eq!(check_seconds(seconds).is_ok(), fits, "{seconds}");
        }
    }
}
