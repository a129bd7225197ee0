//! What a batch costs by its size, learned from how long runs took.

/// Sizes are told apart by powers of two, as models are compiled for them; the last class holds all that are larger.
const CLASSES: usize = 21;
/// How much of a new observation enters a mean.
const SHARE: f64 = 1.0 / 8.0;
/// Once a size was observed this often, a run that took very long is taken for an accident of the machine.
const SETTLED: u64 = 4;
/// How many times the mean a single observation counts at most, once the mean has settled.
const ACCIDENT: f64 = 4.0;
/// A size that has not run while others did so many times may have been slow by accident: it is taken to be no slower than
/// as many runs of a smaller one, so that it is tried again. Each time that it is as slow as before, the patience doubles,
/// up to the most.
const PATIENCE: u64 = 64;
const PATIENCE_MAX: u64 = 1 << 14;
/// What part of the time that was known is clearly less.
const CLEARLY: f64 = 0.75;
/// How many mean deviations above its mean a run may take and still be in time.
const DEVIATIONS: f64 = 3.0;

#[derive(Clone, Copy, Debug)]
struct Observed {
    count: u64,
    /// How many runs of all sizes there had been when it ran last, and after how many more it is tried again.
    at: u64,
    patience: u64,
    mean_s: f64,
    deviation_s: f64,
}

impl Observed {
    /// Whether it has not run for so long that it is to be tried again, after so many runs of all sizes.
    fn is_stale(&self, runs: u64) -> bool {
        runs > self.at + self.patience
    }
}

/// Seconds that a batch takes, by its size.
#[derive(Clone, Debug, Default)]
pub(super) struct Cost {
    classes: [Option<Observed>; CLASSES],
    runs: u64,
}

/// The class of a size: which power of two it is filled up to.
fn class(rows: usize) -> usize {
    let filled_up = rows.max(1).checked_next_power_of_two();
    filled_up.map_or(CLASSES - 1, |filled| (filled.trailing_zeros() as usize).min(CLASSES - 1))
}

impl Cost {
    /// A batch of so many rows took this long.
    pub fn observe(&mut self, rows: usize, seconds: f64) {
        self.runs += 1;
        let (at, place) = (self.runs, &mut self.classes[class(rows)]);
        let Some(old) = *place else {
            *place = Some(Observed { count: 1, at, patience: PATIENCE, mean_s: seconds, deviation_s: 0.0 });
            return;
        };
        let Observed { count, mean_s, deviation_s, mut patience, .. } = old;
        if old.is_stale(at) {
            if seconds < CLEARLY * mean_s {
                // What was known is not so any more. The next accident is still one.
                let (count, deviation_s) = (count.max(SETTLED), deviation_s * seconds / mean_s);
                *place = Some(Observed { count, at, patience: PATIENCE, mean_s: seconds, deviation_s });
                return;
            }
            patience = (2 * patience).min(PATIENCE_MAX);
        }
        let seconds = if count >= SETTLED { seconds.min(mean_s * ACCIDENT) } else { seconds };
        let off = seconds - mean_s;
        *place = Some(Observed {
            count: count + 1,
            at,
            patience,
            mean_s: mean_s + SHARE * off,
            deviation_s: deviation_s + SHARE * (off.abs() - deviation_s),
        });
    }

    /// Whether a batch of any size has run.
    pub fn has_run(&self) -> bool {
        self.classes.iter().any(Option::is_some)
    }

    /// Whether a batch of this size has run.
    pub fn is_known(&self, rows: usize) -> bool {
        self.classes[class(rows)].is_some()
    }

    /// How long a batch of this size takes.
    pub fn mean_s(&self, rows: usize) -> f64 {
        self.estimate(rows, |observed| observed.mean_s)
    }

    /// What a batch of this size takes at most, but for accidents.
    pub fn safe_s(&self, rows: usize) -> f64 {
        self.estimate(rows, |observed| observed.mean_s + DEVIATIONS * observed.deviation_s)
    }

    /// For sizes that have not run, or not for long: no more than a larger one takes, nor than as many runs of a smaller
    /// one. Nothing where no size has run, so that the first is tried.
    fn estimate(&self, rows: usize, of: impl Fn(&Observed) -> f64) -> f64 {
        let wanted = class(rows);
        let known = |i: usize| self.classes[i].as_ref().map(&of);
        let own = self.classes[wanted].as_ref();
        if let Some(fresh) = own.filter(|own| !own.is_stale(self.runs)) {
            return of(fresh);
        }
        let smaller = (0..wanted).filter_map(|i| Some(known(i)? * (1u64 << (wanted - i)) as f64));
        let larger = (wanted + 1..CLASSES).find_map(known);
        let least = smaller.chain(larger).chain(known(wanted)).reduce(f64::min);
        least.unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_have_not_run_follow_from_those_that_have() {
        let mut cost = Cost::default();
        assert_eq!((cost.mean_s(1), cost.mean_s(64), cost.is_known(1)), (0.0, 0.0, false));
        cost.observe(4, 1.0);
        assert_eq!([1, 3, 4, 5, 16].map(|rows| cost.mean_s(rows)), [1.0, 1.0, 1.0, 2.0, 4.0]);
        cost.observe(16, 1.5);
        assert_eq!([8, 16, 32].map(|rows| cost.mean_s(rows)), [1.5, 1.5, 3.0]);
        assert!(cost.is_known(3) && !cost.is_known(8) && cost.mean_s(usize::MAX).is_finite());
    }

    #[test]
    fn a_size_that_was_slow_is_tried_again_and_one_that_is_slow_ever_less_often() {
        let mut cost = Cost::default();
        (0..8)
            .for_each(|_| [1, 2, 4].map(|rows| cost.observe(rows, 0.1 * rows as f64)).iter().for_each(drop));
        cost.observe(4, 9.0);
        let small = |cost: &mut Cost, runs: u64| (0..runs).for_each(|_| cost.observe(1, 0.1));
        assert!(cost.safe_s(4) > 0.9);
        small(&mut cost, PATIENCE + 1);
        assert!(cost.safe_s(4) < 0.5, "{}", cost.safe_s(4));
        // It was an accident, and the next one is again no more than that.
        cost.observe(4, 0.3);
        assert!((cost.mean_s(4) - 0.3).abs() < 1e-9);
        cost.observe(4, 30.0);
        assert!(cost.mean_s(4) < 0.5, "{}", cost.mean_s(4));
        // What is really slow is tried after 64 runs, and then after 128, 256, ….
        let mut cost = Cost::default();
        (0..8)
            .for_each(|_| [(1, 0.1), (2, 1.0)].map(|(rows, s)| cost.observe(rows, s)).iter().for_each(drop));
        for patience in [64, 128, 256] {
            small(&mut cost, patience);
            assert!(cost.mean_s(2) > 0.9);
            small(&mut cost, 1);
            assert!(cost.mean_s(2) < 0.3);
            cost.observe(2, 1.0);
        }
    }

    #[test]
    fn one_accident_does_not_make_a_size_expensive_but_a_change_does() {
        let mut cost = Cost::default();
        (0..50).for_each(|i| cost.observe(8, if i % 2 == 0 { 0.9 } else { 1.1 }));
        assert!((cost.mean_s(8) - 1.0).abs() < 0.02 && cost.safe_s(8) > 1.2 && cost.safe_s(8) < 1.4);
        cost.observe(8, 1e6);
        assert!(cost.mean_s(8) < 1.5, "{}", cost.mean_s(8));
        (0..100).for_each(|_| cost.observe(8, 20.0));
        assert!((cost.mean_s(8) - 20.0).abs() < 0.1, "{}", cost.mean_s(8));
    }
}
