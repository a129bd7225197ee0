//! The search for the highest rate that a server bears: upwards or downwards until it is between two rates, then between
//! these until they are close.

/// How far apart the two may be, as a ratio.
const CLOSE: f64 = 1.05;
/// By how much a rate is raised that was borne.
const UP: f64 = 1.5;
/// How many rates are tried.
const TRIALS_MAX: usize = 24;

/// Where the search is.
#[derive(Clone, Debug)]
pub struct Search {
    rate: f64,
    /// No rate outside these is tried.
    bounds: [f64; 2],
    borne: Option<f64>,
    failed: Option<f64>,
    /// Whether this rate has failed once.
    again: bool,
    trials: usize,
}

impl Search {
    /// From a rate, within bounds.
    pub fn new(rate: f64, bounds: [f64; 2]) -> Self {
        let rate = rate.clamp(bounds[0], bounds[1]);
        Self { rate, bounds, borne: None, failed: None, again: false, trials: 0 }
    }

    /// The rate to be tried, until there is none.
    pub fn next(&self) -> Option<f64> {
        let close = self.borne.zip(self.failed).is_some_and(|(low, high)| high <= low * CLOSE);
        let [least, most] = self.bounds;
        let beyond =
            self.failed.is_some_and(|high| high <= least) || self.borne.is_some_and(|low| low >= most);
        (!close && !beyond && self.trials < TRIALS_MAX).then_some(self.rate)
    }

    /// Tells whether it was borne. One that was not is tried once more: what else the machine does can only make it worse.
    pub fn tell(&mut self, borne: bool) {
        self.trials += 1;
        if !borne && !self.again {
            self.again = true;
            return;
        }
        self.again = false;
        let side = if borne { &mut self.borne } else { &mut self.failed };
        *side = Some(self.rate);
        let rate = match (self.borne, self.failed) {
            (Some(low), Some(high)) => (low * high).sqrt(),
            (Some(low), None) => low * UP,
            (None, Some(high)) => high / 2.0,
            (None, None) => self.rate,
        };
        self.rate = rate.clamp(self.bounds[0], self.bounds[1]);
    }

    /// The highest rate that was borne.
    pub fn found(&self) -> Option<f64> {
        self.borne
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(from: f64, truth: f64) -> (Option<f64>, usize) {
        let mut search = Search::new(from, [2.0, 1e6]);
        let mut trials = 0;
        while let Some(rate) = search.next() {
            search.tell(rate <= truth);
            trials += 1;
        }
        (search.found(), trials)
    }

    #[test]
    fn the_highest_rate_is_found_from_below_and_above() {
        for (from, truth) in [(100.0, 1000.0), (1000.0, 100.0), (5.0, 5.0), (10.0, 2.0), (900.0, 1000.0)] {
            let (found, trials) = find(from, truth);
            let found = found.unwrap();
            assert!(found <= truth && truth <= found * CLOSE, "{from} {truth}: {found}");
            assert!(trials <= 24, "{trials}");
        }
        assert_eq!(find(100.0, 1.0).0, None);
        assert_eq!(find(1e5, 1e9).0, Some(1e6));
    }

    #[test]
    fn a_rate_that_fails_once_by_chance_is_tried_again() {
        let mut search = Search::new(100.0, [1.0, 1e6]);
        search.tell(false);
        assert_eq!((search.next(), search.found()), (Some(100.0), None));
        search.tell(true);
        assert_eq!((search.next(), search.found()), (Some(150.0), Some(100.0)));
    }
}
