//! What an evaluation gives.

use crate::metric::NumberMetrics;
use crate::spec::MetricName;
use serde::{Deserialize, Serialize};

/// What an evaluation gives; metrics that do not apply are left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Samples.
    pub samples: u64,
    /// The mean loss of a sample (of a token, for tokens); for regression the mean squared error unless another loss
    /// was asked for, of scaled numbers where the model works on those.
    pub loss: f64,
    /// The fraction of right answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// The fraction of samples whose class is among the five likeliest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top5: Option<f64>,
    /// The area under the ROC curve, for two classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auc: Option<f64>,
    /// The mean of the classes' F1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub f1: Option<f64>,
    /// The same, each class with the weight of its samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub f1_weighted: Option<f64>,
    /// The mean of the classes' precision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<f64>,
    /// The mean of the classes' recall.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recall: Option<f64>,
    /// The mean negative logarithm of the probability of the right class, in nats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_loss: Option<f64>,
    /// The root of the mean squared error, in the targets' own units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rmse: Option<f64>,
    /// The mean absolute error, in the targets' own units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mae: Option<f64>,
    /// The coefficient of determination, the mean of those of all numbers: 1 for what is predicted exactly, 0 for the mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r2: Option<f64>,
    /// The same of each number that is predicted, in their order, where there are several.
    #[serde(skip)]
    pub each: Vec<NumberMetrics>,
    /// e to the loss, for tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub perplexity: Option<f64>,
}

impl Metrics {
    /// The metric of this name, if it applies.
    pub fn get(&self, name: MetricName) -> Option<f64> {
        match name {
            MetricName::Loss => Some(self.loss),
            MetricName::Accuracy => self.accuracy,
            MetricName::Top5 => self.top5,
            MetricName::Auc => self.auc,
            MetricName::F1 => self.f1,
            MetricName::F1Weighted => self.f1_weighted,
            MetricName::Precision => self.precision,
            MetricName::Recall => self.recall,
            MetricName::LogLoss => self.log_loss,
            MetricName::Rmse => self.rmse,
            MetricName::Mae => self.mae,
            MetricName::R2 => self.r2,
            MetricName::Perplexity => self.perplexity,
        }
    }

    /// All that apply, with their names.
    pub fn all(&self) -> impl Iterator<Item = (MetricName, f64)> {
        MetricName::ALL.into_iter().filter_map(|name| Some((name, self.get(name)?)))
    }
}
