//! What a model's numbers mean, for people and for machines.

use outgrow_ir::Diagnostic;
use outgrow_transform::{TargetEncoder, Transform};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

/// What to do about answers that are no numbers.
pub(crate) const NOT_FINITE: &str =
    "the input is far from what the model was trained on, or its training diverged";

/// How many of the likeliest tokens machines are shown, where there are more.
const TOP_TOKENS: usize = 256;

/// What a model answers with.
#[derive(Clone, Debug, PartialEq)]
pub enum Meaning {
    /// One of these classes: the likeliest, or of two by how they are divided.
    Classes {
        /// Their names.
        names: Vec<String>,
        /// Of two: where they are divided, if not in the middle.
        decision: Option<Decision>,
    },
    /// Numbers of these names.
    Numbers(Vec<String>),
    /// The next of these tokens.
    Tokens(Vec<String>),
}

/// Where two classes are divided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// The second class.
    pub class: String,
    /// It is answered where its log-odds, `ln(p / (1 − p))` with its probability `p`, are above this.
    pub log_odds: f64,
    /// What it was found by on the validation data: `f1` or `youden`. None where it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen_by: Option<String>,
}

impl Decision {
    /// The same as a probability of the second class.
    pub fn probability(&self) -> f64 {
        1.0 / (1.0 + libm::exp(-self.log_odds))
    }
}

/// What a model says to one record.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Probabilities, or predicted numbers, in the order of the names of their meaning.
    pub numbers: Vec<f64>,
    /// The number of the class that is answered; of the likeliest token.
    pub class: usize,
    /// For language models: how the text goes on.
    pub continuation: Option<String>,
}

/// Softmax of logits that are divided by `temperature` before.
pub fn softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let powers: Vec<f64> = logits.iter().map(|x| libm::exp((f64::from(*x) - max) / temperature)).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|p| p / sum).collect()
}

/// The place of the greatest element; of equal ones, the first.
pub fn argmax<T: PartialOrd>(values: &[T]) -> usize {
    (1..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}

impl Meaning {
    /// Of the output of a model with this transform, which divides two classes like this if not in the middle.
    pub fn of(transform: &Transform, decision: Option<Decision>) -> Self {
        match &transform.assembly.target {
            TargetEncoder::ClassName { names, .. } | TargetEncoder::ClassNumber { names, .. } => {
                Self::Classes { names: names.clone(), decision }
            }
            TargetEncoder::Numbers { .. } => Self::Numbers(transform.target_names()),
            TargetEncoder::NextToken => {
                let text = transform.assembly.text.as_ref();
                Self::Tokens(text.map(|t| t.vocabulary.names()).unwrap_or_default())
            }
        }
    }

    /// The answer that these outputs for one record are.
    ///
    /// # Errors
    /// As [`Meaning::numbers`].
    pub fn answer(&self, output: &[f32]) -> Result<Answer, Diagnostic> {
        let numbers = self.numbers(output)?;
        let odds = match output {
            [logit] => Some(f64::from(*logit)),
            [first, second] => Some(f64::from(*second) - f64::from(*first)),
            _ => None,
        };
        let class = match (self, odds) {
            (Self::Classes { decision: Some(decision), .. }, Some(odds)) => {
                usize::from(odds > decision.log_odds)
            }
            // Of the logits: softmax may round different ones to equal probabilities.
            (Self::Classes { .. }, Some(odds)) => usize::from(odds > 0.0),
            (Self::Classes { .. }, None) => argmax(output),
            _ => argmax(&numbers),
        };
        Ok(Answer { numbers, class, continuation: None })
    }

    /// Probabilities or predictions from what the model puts out for one record: logits of all classes, the one logit
    /// of two classes, or numbers.
    ///
    /// # Errors
    /// For an output that is not finite, or does not have as many numbers as the meaning has names.
    pub fn numbers(&self, output: &[f32]) -> Result<Vec<f64>, Diagnostic> {
        if output.iter().any(|x| !x.is_finite()) {
            return Err(
                Diagnostic::new("predict.non-finite", "the model's answer is not finite").hint(NOT_FINITE)
            );
        }
        match (self, output) {
            (Self::Classes { names, .. }, [logit]) if names.len() == 2 => Ok(softmax(&[0.0, *logit], 1.0)),
            (Self::Classes { names, .. }, logits) if names.len() == logits.len() => Ok(softmax(logits, 1.0)),
            (Self::Numbers(names), values) if names.len() == values.len() => {
                Ok(values.iter().map(|x| f64::from(*x)).collect())
            }
            _ => Err(Diagnostic::new(
                "predict.package",
                format!("the model gives {} numbers for one record", output.len()),
            )
            .expected(format!("{}, as the transform says", self.names().len()))),
        }
    }

    /// Of the classes, numbers or tokens.
    pub fn names(&self) -> &[String] {
        match self {
            Self::Classes { names, .. } | Self::Numbers(names) | Self::Tokens(names) => names,
        }
    }

    /// Names and numbers, the greatest first, at most so many.
    pub fn likeliest<'a>(&'a self, answer: &'a Answer, most: usize) -> Vec<(&'a str, f64)> {
        let mut all: Vec<_> =
            self.names().iter().map(String::as_str).zip(answer.numbers.iter().copied()).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        all.truncate(most);
        all
    }

    /// An answer for machines, as the fields of an object: `class`, `probability` and `probabilities`; `values`; or `next`
    /// and `continuation`.
    pub fn to_json(&self, answer: &Answer) -> Map<String, Json> {
        let numbers = |pairs: &mut dyn Iterator<Item = (&str, f64)>| -> Json {
            Json::Object(pairs.map(|(name, p)| (name.to_owned(), json!(p))).collect())
        };
        let all = || self.names().iter().map(String::as_str).zip(answer.numbers.iter().copied());
        let mut json = Map::new();
        match self {
            Self::Classes { names, .. } => {
                json.insert("class".into(), json!(names.get(answer.class)));
                json.insert("probability".into(), json!(answer.numbers.get(answer.class)));
                json.insert("probabilities".into(), numbers(&mut all()));
            }
            Self::Numbers(_) => {
                json.insert("values".into(), numbers(&mut all()));
            }
            Self::Tokens(names) => {
                let next = if names.len() <= TOP_TOKENS {
                    numbers(&mut all())
                } else {
                    numbers(&mut self.likeliest(answer, TOP_TOKENS).into_iter())
                };
                json.insert("next".into(), next);
                json.insert("continuation".into(), json!(answer.continuation));
            }
        }
        json
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_become_probabilities_and_numbers() {
        let two = Meaning::Classes { names: vec!["no".into(), "yes".into()], decision: None };
        let close =
            |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9);
        for (output, expect) in [
            (&[0.0f32][..], [0.5, 0.5]),
            (&[3.0], [0.047_425_873_177_566_7, 0.952_574_126_822_433_3]),
            (&[1.0, 4.0], [0.047_425_873_177_566_7, 0.952_574_126_822_433_3]),
            (&[1000.0, -1000.0], [1.0, 0.0]),
        ] {
            assert!(close(&two.numbers(output).unwrap(), &expect), "{output:?}");
        }
        assert_eq!(two.numbers(&[1.0, 2.0, 3.0]).unwrap_err().code, "predict.package");
        assert_eq!(two.numbers(&[f32::NAN]).unwrap_err().code, "predict.non-finite");
        assert_eq!(Meaning::Numbers(vec!["y".into()]).numbers(&[2.5]).unwrap(), [2.5]);
        assert_eq!(argmax(&[1.0, 3.0, 3.0]), 1);
    }

    #[test]
    fn a_decision_moves_the_answer_and_not_the_probabilities() {
        let decision = |log_odds| Decision { class: "yes".into(), log_odds, chosen_by: None };
        let meaning = |log_odds: Option<f64>| Meaning::Classes {
            names: vec!["no".into(), "yes".into()],
            decision: log_odds.map(decision),
        };
        for (output, log_odds, expect) in [
            (&[0.0f32][..], None, 0),
            (&[0.5], None, 1),
            (&[0.5], Some(0.5), 0),
            (&[-1.0], Some(-1.5), 1),
            (&[1.0, 0.0], Some(-1.5), 1),
            (&[1.0, 0.0], Some(-1.0), 0),
        ] {
            let (usual, answer) = (meaning(None).answer(output), meaning(log_odds).answer(output).unwrap());
            assert_eq!((answer.class, answer.numbers), (expect, usual.unwrap().numbers), "{output:?}");
        }
        assert!((decision(0.0).probability() - 0.5).abs() < 1e-15);
    }
}
