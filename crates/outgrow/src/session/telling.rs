//! Which evaluations have a line: on a terminal each; elsewhere, where a run is through before long, the first, the last, some
//! at even distances, and between two of those the best one if it is the best so far. All of them are in `metrics.jsonl`.

use outgrow_train::early_stopping::Patience;
use outgrow_train::spec::{MetricName, Train};

/// So many lines are at even distances. Runs with no more than twice as many evaluations have a line for each.
const LINES: u64 = 12;
/// So long, in nanoseconds, nothing may be told of evaluations while there are some.
const UNTOLD_NS: u64 = 10_000_000_000;

/// An evaluation, or what is told of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Line {
    /// The epoch, counted from 1.
    pub epoch: u64,
    /// Metrics by name, of the training since the evaluation before.
    pub train: Vec<(String, f64)>,
    /// And of the evaluation.
    pub validation: Vec<(String, f64)>,
}

/// Decides it, without I/O.
#[derive(Debug)]
pub struct Telling {
    metric: MetricName,
    patience: Patience,
    /// How many evaluations one of which has a line.
    every: u64,
    seen: u64,
    told_at: u64,
    /// The best so far, if it has no line yet.
    best: Option<Line>,
    /// A later one, if the newest has no line yet.
    last: Option<Line>,
}

impl Telling {
    /// Each has a line, and the best is what this configuration takes for that.
    pub fn new(train: &Train) -> Self {
        let (metric, patience) = match &train.early_stopping {
            Some(stopping) => (stopping.metric, Patience::new(stopping)),
            None => (MetricName::Loss, Patience::watching(MetricName::Loss, u32::MAX, 0.0)),
        };
        Self { metric, patience, every: 1, seen: 0, told_at: 0, best: None, last: None }
    }

    /// Of so many evaluations, not all have a line.
    pub fn thin(&mut self, evaluations: u64) {
        self.every = if evaluations > 2 * LINES { evaluations.div_ceil(LINES) } else { 1 };
    }

    /// The metric that the best one is the best by.
    pub fn metric(&self) -> MetricName {
        self.metric
    }

    /// Takes notice of an earlier evaluation's metric, and whether it was the best.
    pub fn observe(&mut self, value: Option<f64>) -> bool {
        value.is_some_and(|value| self.patience.observe(value).improved)
    }

    /// What is told now that there is another evaluation, at this time in nanoseconds.
    pub fn next(&mut self, line: Line, value: Option<f64>, is_last: bool, now: u64) -> Vec<Line> {
        let improved = self.observe(value);
        self.seen += 1;
        let is_due = self.seen == 1 || self.seen.is_multiple_of(self.every) || is_last;
        if improved {
            (self.best, self.last) = (Some(line), None);
        } else {
            self.last = Some(line);
        }
        if is_due || now.saturating_sub(self.told_at) >= UNTOLD_NS {
            self.told_at = now;
            self.rest()
        } else {
            Vec::new()
        }
    }

    /// What is left to tell.
    pub fn rest(&mut self) -> Vec<Line> {
        self.best.take().into_iter().chain(self.last.take()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest;

    /// The epochs that are told of evaluations with these losses, the last one being the run's last.
    fn told(losses: &[f64], second_ns: u64) -> Vec<u64> {
        let text =
            "[data]\nsource = \"rows\"\nrows = [[1, 2]]\n[model]\nname = \"linear\"\n[train]\nepochs = 1\n";
        let mut telling = Telling::new(&manifest::parse(text).unwrap().train);
        telling.thin(losses.len() as u64);
        let mut lines = Vec::new();
        for (i, loss) in losses.iter().enumerate() {
            let line = Line { epoch: i as u64 + 1, ..Line::default() };
            lines.extend(telling.next(line, Some(*loss), i + 1 == losses.len(), i as u64 * second_ns));
        }
        assert!(telling.rest().is_empty());
        lines.into_iter().map(|line| line.epoch).collect()
    }

    #[test]
    fn few_have_a_line_each_and_of_many_some() {
        let falling = |n: u32| (0..n).map(|i| 1.0 / f64::from(1 + i)).collect::<Vec<_>>();
        assert_eq!(told(&falling(24), 0), (1..=24).collect::<Vec<_>>());
        let all = told(&falling(256), 0);
        assert_eq!(all, [1, 22, 44, 66, 88, 110, 132, 154, 176, 198, 220, 242, 256]);
        // The best are there wherever they are, with what is due after them.
        let mut losses = vec![1.0; 256];
        (losses[30], losses[31], losses[100]) = (0.9, 0.8, 0.5);
        let expect = [1, 22, 32, 44, 66, 88, 101, 110, 132, 154, 176, 198, 220, 242, 256];
        assert_eq!(told(&losses, 0), expect);
        // Where they take long, each has a line.
        assert_eq!(told(&falling(256), UNTOLD_NS).len(), 256);
    }

    #[test]
    fn a_run_that_stops_early_tells_the_last_one_too() {
        let mut telling = Telling { every: 100, ..empty() };
        let line = |epoch| Line { epoch, ..Line::default() };
        for epoch in 1..=7 {
            telling.next(line(epoch), Some(if epoch == 5 { 0.1 } else { 1.0 }), false, 0);
        }
        assert_eq!(telling.rest(), [line(5), line(7)]);
        assert_eq!(telling.rest(), []);
    }

    fn empty() -> Telling {
        Telling {
            metric: MetricName::Loss,
            patience: Patience::watching(MetricName::Loss, u32::MAX, 0.0),
            every: 1,
            seen: 0,
            told_at: 0,
            best: None,
            last: None,
        }
    }
}
