//! What a batch costs by its size, learned from how long runs took.

/// Sizes are told apart by powers of two, as models are compiled for them; the last class holds all that are larger.
const CLASSES: usize = 21;
/// How much of a new observation enters a mean.
const SHARE: f64 = 1.0 / 8.0;
/// Once a size was observed this often, a run that took very long is taken for an accident of the machine.
const SETTLED: u64 = 4;
/// How many times the mean a single observation counts at most, once the mean has settled.
const ACCIDENT: f64 = 4.0;
/// A size that has not run while others did so many times may have been slow by accident: it is not larger than as many
/// runs of a smaller one would be, so that it is tried again.
const STALE: u64 = 64;
/// How many mean deviations above its mean a run may take and still be in time.
const DEVIATIONS: f64 = 3.0;

#[derive(Clone, Copy, Debug)]
struct Observed {
    count: u64,
    /// How many runs of all sizes there had been when it ran last.
    at: u64,
    mean_s: f64,
    deviation_s: f64,
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
        let (at, stale) = (self.runs, self.runs.saturating_sub(STALE));
        let place = &mut self.classes[class(rows)];
        *place = Some(match *place {
            None => Observed { count: 1, at, mean_s: seconds, deviation_s: 0.0 },
            Some(old) if old.at < stale && seconds < old.mean_s => {
                Observed { count: 1, at, mean_s: seconds, deviation_s: 0.0 }
            }
            Some(Observed { count, mean_s, deviation_s, .. }) => {
                let seconds = if count >= SETTLED { seconds.min(mean_s * ACCIDENT) } else { seconds };
                let off = seconds - mean_s;
                Observed {
                    count: count + 1,
                    at,
                    mean_s: mean_s + SHARE * off,
                    deviation_s: deviation_s + SHARE * (off.abs() - deviation_s),
                }
            }
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
        if let Some(fresh) = own.filter(|own| own.at + STALE >= self.runs) {
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
