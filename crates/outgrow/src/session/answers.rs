//! What the report shows of a model's answers to test data. Workers may share the data: each looks at its batches, and what
//! they have seen is put together in the order of these.

use outgrow_predict::softmax;
use outgrow_tensor::DType;
use outgrow_train::metric::{Confusion, Ranking, answered_class, log_odds_of_two, ranking};
use outgrow_transform::{Batch, Target};
use serde::{Deserialize, Serialize};

/// Most pairs of numbers that are kept for the plot of each target.
const PAIRS: usize = 2000;
/// Most answers that are kept for each pair of classes.
const ANSWERS: usize = 3;

/// Most classes whose samples are ranked, and most scores that are kept for that.
const RANKED_CLASSES: usize = 20;
const SCORES: usize = 20_000_000;

/// What the model said to one sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TestAnswer {
    /// Number of the sample in its split.
    pub sample: u64,
    /// Its class.
    pub actual: usize,
    /// The class that was predicted.
    pub predicted: usize,
    /// The probability of that class.
    pub probability: f64,
}

/// Looks at every answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Watch {
    classes: usize,
    /// Of two classes: the log-odds above which the second one is answered, if that is not the likelier one.
    threshold: Option<f64>,
    /// For classes that are not too many: which were taken for which.
    pub confusion: Option<Confusion>,
    /// For classes: the first answers of each pair of classes.
    pub answers: Vec<TestAnswer>,
    /// How many of them there are of each pair.
    kept: Vec<usize>,
    /// For few classes: of each sample its class and the scores of all classes, one after the other.
    scores: Option<Vec<f64>>,
    /// For each number that is predicted: the first targets and predictions.
    pub pairs: Vec<Vec<(f64, f64)>>,
}

/// What one worker tells the others; numbers as their bits, since not all are finite.
#[derive(Debug, Serialize, Deserialize)]
struct Seen {
    confusion: Option<Confusion>,
    answers: Vec<(u64, usize, usize, u64)>,
    scores: Option<Vec<u64>>,
    pairs: Vec<Vec<(u64, u64)>>,
}

impl Watch {
    /// None seen yet; two classes may be divided by a threshold of log-odds.
    pub fn new(target: &Target, threshold: Option<f64>) -> Self {
        let classes = if let Target::Class { names } = target { names.len() } else { 0 };
        let confusion = if (1..=100).contains(&classes) { Confusion::new(classes) } else { None };
        let kept = if confusion.is_some() { vec![0; classes * classes] } else { Vec::new() };
        let scores = (2..=RANKED_CLASSES).contains(&classes).then(Vec::new);
        Self { classes, threshold, confusion, answers: Vec::new(), kept, scores, pairs: Vec::new() }
    }

    /// Sees a whole batch and the model's outputs.
    pub fn add(&mut self, batch: &Batch, output: &[f32]) {
        let Some(target) = &batch.target else { return };
        let rows = batch.weight.len();
        if let Some(confusion) = &mut self.confusion {
            let logits = output.chunks_exact((output.len() / rows.max(1)).max(1));
            for (i, logits) in logits.take(batch.real).enumerate() {
                let (predicted, probability) = answer(logits, self.threshold);
                let actual = target.get_i64(i).max(0) as usize;
                confusion.add(actual, predicted);
                self.scores = self.scores.take().and_then(|mut scores| {
                    scores.push(actual as f64);
                    match log_odds_of_two(logits) {
                        // Differences tell apart what probabilities near 1 do not.
                        Some(odds) => scores.extend([-odds, odds]),
                        None => scores.extend(softmax(logits, 1.0)),
                    }
                    (scores.len() <= SCORES).then_some(scores)
                });
                let sample = batch.index * rows as u64 + i as u64;
                keep(
                    &mut self.kept,
                    self.classes,
                    &mut self.answers,
                    TestAnswer { sample, actual, predicted, probability },
                );
            }
        } else if self.classes == 0 && target.shape().rank() == 2 && target.dtype() == DType::F32 {
            let width = target.shape().dims()[1];
            let of = |column: usize| {
                let pair = move |i: usize| {
                    (target.get_f64(i * width + column), f64::from(output[i * width + column]))
                };
                (0..batch.real).map(pair)
            };
            self.pairs.resize(width, Vec::new());
            for (column, pairs) in self.pairs.iter_mut().enumerate() {
                pairs.extend(of(column).take(PAIRS - pairs.len()));
            }
        }
    }

    /// For each class, how its scores rank its samples before all others; nothing for one that is absent.
    pub fn rankings(&self) -> Vec<Option<Ranking>> {
        let Some(scores) = &self.scores else { return Vec::new() };
        let samples = || scores.chunks_exact(self.classes + 1);
        let of = |class: usize| {
            let one = |sample: &[f64]| (sample[class + 1], sample[0] == class as f64);
            ranking(&samples().map(one).collect::<Vec<_>>())
        };
        (0..self.classes).map(of).collect()
    }

    /// What has been seen, for [`Watch::merge`].
    pub fn to_bytes(&self) -> Vec<u8> {
        let answer = |a: &TestAnswer| (a.sample, a.actual, a.predicted, a.probability.to_bits());
        let bits = |pairs: &Vec<(f64, f64)>| pairs.iter().map(|(a, b)| (a.to_bits(), b.to_bits())).collect();
        let seen = Seen {
            confusion: self.confusion.clone(),
            answers: self.answers.iter().map(answer).collect(),
            scores: self.scores.as_ref().map(|scores| scores.iter().map(|score| score.to_bits()).collect()),
            pairs: self.pairs.iter().map(bits).collect(),
        };
        serde_json::to_vec(&seen).unwrap_or_default()
    }

    /// Becomes what several have seen, one after the other; nothing if they tell of something else.
    pub fn merge(&mut self, all: &[Vec<u8>]) -> Option<()> {
        self.answers.clear();
        self.kept.fill(0);
        self.pairs.clear();
        self.scores = (2..=RANKED_CLASSES).contains(&self.classes).then(Vec::new);
        self.confusion = self.confusion.as_ref().and_then(|own| Confusion::new(own.classes()));
        for bytes in all {
            let seen: Seen = serde_json::from_slice(bytes).ok()?;
            match (&mut self.confusion, &seen.confusion) {
                (Some(own), Some(other)) if own.classes() == other.classes() => own.merge(other),
                (None, None) => {}
                _ => return None,
            }
            self.scores = self.scores.take().zip(seen.scores).and_then(|(mut scores, more)| {
                scores.extend(more.into_iter().map(f64::from_bits));
                (scores.len() <= SCORES).then_some(scores)
            });
            for (sample, actual, predicted, bits) in seen.answers {
                let probability = f64::from_bits(bits);
                keep(
                    &mut self.kept,
                    self.classes,
                    &mut self.answers,
                    TestAnswer { sample, actual, predicted, probability },
                );
            }
            self.pairs.resize(self.pairs.len().max(seen.pairs.len()), Vec::new());
            for (pairs, more) in self.pairs.iter_mut().zip(seen.pairs) {
                let more = more.into_iter().map(|(a, b)| (f64::from_bits(a), f64::from_bits(b)));
                pairs.extend(more.take(PAIRS - pairs.len()));
            }
        }
        Some(())
    }
}

/// Keeps an answer, if it is among the first of its pair of classes.
fn keep(kept: &mut [usize], classes: usize, answers: &mut Vec<TestAnswer>, answer: TestAnswer) {
    let Some(kept) = kept.get_mut(answer.actual * classes + answer.predicted) else { return };
    if *kept < ANSWERS {
        *kept += 1;
        answers.push(answer);
    }
}

/// The class that is answered and its probability, from the logits of all classes or from the one logit of two.
fn answer(logits: &[f32], threshold: Option<f64>) -> (usize, f64) {
    let class = answered_class(logits, threshold).unwrap_or(0);
    if let [logit] = logits {
        let p = 1.0 / (1.0 + libm::exp(-f64::from(*logit)));
        return (class, if class == 1 { p } else { 1.0 - p });
    }
    (class, softmax(logits, 1.0).get(class).copied().unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use outgrow_tensor::{RngKey, Tensor};

    const ROWS: usize = 8;

    /// A batch with the model's outputs, some of them no numbers.
    fn batch(index: u64, target: Tensor, width: usize) -> (Batch, Vec<f32>) {
        let mut random = RngKey::new(index).stream();
        let mut output: Vec<f32> = (0..ROWS * width).map(|_| random.normal() as f32).collect();
        output[0] = f32::NAN;
        let weight = vec![1.0; ROWS];
        (Batch { index, weight, ..Batch::of_samples(Vec::new(), Some(target), ROWS - 1) }, output)
    }

    fn check(target: &Target, batches: &[(Batch, Vec<f32>)]) {
        let seen = |batches: &[(Batch, Vec<f32>)]| {
            let mut watch = Watch::new(target, None);
            batches.iter().for_each(|(batch, output)| watch.add(batch, output));
            watch
        };
        let whole = format!("{:?}", seen(batches));
        for cuts in [vec![0], vec![1, 5], vec![3, 3, 200], vec![batches.len()]] {
            let places = [&[0], &cuts[..], &[batches.len()]].concat();
            let part = |ends: &[usize]| seen(&batches[ends[0]..ends[1]]).to_bytes();
            let parts: Vec<_> = places.windows(2).map(part).collect();
            let mut all = seen(&batches[..cuts[0]]);
            all.merge(&parts).unwrap();
            // As text, since some numbers are none.
            assert_eq!(format!("{all:?}"), whole, "cut at {cuts:?}");
        }
    }

    #[test]
    fn several_see_what_one_sees() {
        let mut random = RngKey::new(7).stream();
        let classes = Target::Class { names: ["a", "b", "c"].map(String::from).into() };
        let batches: Vec<_> = (0..400)
            .map(|index| {
                let labels: Vec<i32> = (0..ROWS).map(|_| random.below(3) as i32).collect();
                batch(index, Tensor::vector(labels), 3)
            })
            .collect();
        check(&classes, &batches);
        let numbers = Target::Regression { width: 2 };
        let batches: Vec<_> = (0..400)
            .map(|index| {
                let targets: Vec<f32> = (0..2 * ROWS).map(|_| random.normal() as f32).collect();
                batch(index, Tensor::new([ROWS, 2], targets).unwrap(), 2)
            })
            .collect();
        check(&numbers, &batches);
        assert!(Watch::new(&classes, None).merge(&[Watch::new(&numbers, None).to_bytes()]).is_none());
        assert!(Watch::new(&classes, None).merge(&[b"{".to_vec()]).is_none());
    }
}
