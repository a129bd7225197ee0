//! Metrics on the host, in f64. Each is an accumulator that takes outputs and targets and can be merged with another of
//! its kind; floating-point sums follow the order of adding and merging, so a fixed order gives fixed bits.

mod auc;
mod classification;
mod confusion;
mod counts;
mod log_loss;
mod mean;
mod moments;
mod numbers;
mod ranking;
mod tally;
mod threshold;

pub use auc::{auc, weighted_auc};
pub use classification::{Classification, answered_class, log_odds_of_two, predicted_class};
pub use confusion::Confusion;
pub use counts::ClassCounts;
pub use log_loss::log_loss;
pub use mean::Mean;
pub use moments::Moments;
pub use numbers::{NumberErrors, NumberMetrics};
pub use ranking::{Ranking, ranking};
pub use tally::Tally;
pub use threshold::{ThresholdRule, best_threshold, log_odds, probability};
