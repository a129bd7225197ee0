//! `report.html`: what a run did, on one page that needs no network. [`RunReport`] is everything the page shows;
//! [`render()`] draws it and touches nothing outside.

mod bitmap;
mod charts;
mod confusion;
pub(crate) mod data_page;
mod folds;
pub(crate) mod format;
mod frame;
mod memory;
mod plot;
mod render;
mod workers;

use outgrow_data::{Dataset, Split};
use outgrow_transform::Target;
use serde::{Deserialize, Serialize};

pub use bitmap::Bitmap;
pub(crate) use charts::{LEARNING_RATE, scale};
pub use folds::{FoldRow, FoldsReport, render as render_folds};
pub use plot::{Plot, Scale, Series, Style};
pub use render::{comparison_page, plot_page, render};

/// Everything that the page of a run shows. What a run does not have is left empty and not shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// The model's name.
    pub name: String,
    /// What it was: the model and the data in a few words.
    pub subtitle: String,
    /// The manifest with its defaults filled in.
    pub manifest: String,
    /// The steps that were taken.
    pub steps: u64,
    /// Passes over the training data.
    pub epochs: f64,
    /// Trainable numbers.
    pub parameters: u64,
    /// Seconds of training, without preparation and evaluation.
    pub train_seconds: f64,
    /// Training samples a second.
    pub samples_per_s: f64,
    /// SHA-256 of the weights, in hexadecimal.
    pub weights_sha256: String,
    /// The final weights' metrics, for each part of the data.
    pub metrics: Vec<SplitMetrics>,
    /// The metrics of answers that do not look at the sample, where the model is judged.
    pub baseline: Option<SplitMetrics>,
    /// Metrics over the course of training.
    pub curves: Vec<Curve>,
    /// The best evaluation: its step, and what is said of it.
    pub best: Option<(f64, String)>,
    /// Where two classes are divided, if not in the middle.
    pub decision_threshold: Option<String>,
    /// Training samples as augmentation has changed them.
    pub augmented: Vec<Bitmap>,
    /// For classifiers: how the scores of each class rank its samples before all others.
    pub rankings: Vec<ClassRanking>,
    /// For classifiers: which classes were taken for which.
    pub confusion: Option<ConfusionTable>,
    /// For regression: targets and predictions, of each number that is predicted.
    pub regression: Vec<Regression>,
    /// How memory is used in a step.
    pub memory: Option<MemoryChart>,
    /// Where the time of a step goes.
    pub ops: Vec<OpTime>,
    /// One step on each worker, where several shared it.
    pub workers: Vec<WorkerCourse>,
    /// How the processor was used.
    pub processor: Option<Processor>,
    /// What happened to the data before training.
    pub cleaning: Option<Cleaning>,
    /// On what it ran.
    pub environment: Machine,
}

/// Metrics of one part of the data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SplitMetrics {
    /// `train`, `validation` or `test`.
    pub split: String,
    /// The number of samples.
    pub samples: u64,
    /// Name and value, in the order to show them: `loss`, `accuracy`, `auc`, `rmse` and the others.
    pub values: Vec<(String, f64)>,
}

/// One metric over the course of training.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// The metric: `loss`, `accuracy`, `learning rate`.
    pub metric: String,
    /// What runs along the bottom: `step` or `epoch`.
    pub unit: String,
    /// For each part of the data: its name and its points `(step or epoch, value)`.
    pub parts: Vec<(String, Vec<(f64, f64)>)>,
}

/// How the scores of a class rank its samples before all others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClassRanking {
    /// Which part of the data: `test`.
    pub split: String,
    /// The class's name.
    pub class: String,
    /// False positive rate and true positive rate.
    pub roc: Vec<(f64, f64)>,
    /// Recall and precision.
    pub precision_recall: Vec<(f64, f64)>,
    /// The area under the ROC curve.
    pub auc: f64,
    /// The area under the precision-recall curve, by steps.
    pub average_precision: f64,
}

/// Which classes were taken for which.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ConfusionTable {
    /// Which part of the data: `test`.
    pub split: String,
    /// The names of the classes.
    pub classes: Vec<String>,
    /// `counts[actual][predicted]`.
    pub counts: Vec<Vec<u64>>,
    /// Pictures of some samples, of right and of wrong answers.
    pub samples: Vec<ConfusionSample>,
}

/// A sample with its picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfusionSample {
    /// The index of its class.
    pub actual: usize,
    /// The index of the class that was predicted.
    pub predicted: usize,
    /// The probability that was given to the predicted class.
    pub probability: Option<f64>,
    /// The picture.
    pub image: Bitmap,
}

/// Targets and predictions of some samples.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Regression {
    /// Which part of the data: `test`.
    pub split: String,
    /// The target's name.
    pub target: String,
    /// `(target, prediction)`.
    pub pairs: Vec<(f64, f64)>,
}

/// How memory is used in a step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MemoryChart {
    /// Bytes of the arena that is planned.
    pub planned_bytes: u64,
    /// Bytes if every value had a buffer of its own.
    pub naive_bytes: u64,
    /// Bytes of the largest set of values that live at the same time: no plan needs less.
    pub lower_bound_bytes: u64,
    /// The number of steps of the program.
    pub steps: usize,
    /// The values in the arena.
    pub buffers: Vec<PlannedBuffer>,
}

/// A value in the arena.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlannedBuffer {
    /// What it holds.
    pub label: String,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// Its size.
    pub bytes: u64,
    /// The step that writes it.
    pub first_step: usize,
    /// The last step that reads it.
    pub last_step: usize,
}

/// Where the time goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OpTime {
    /// The op or kernel.
    pub name: String,
    /// Milliseconds over all calls.
    pub total_ms: f64,
    /// How often it was called.
    pub calls: u64,
    /// Its speed in GFLOP/s, for ops that count.
    pub gflops_per_s: Option<f64>,
}

/// One step of one worker: it computes, but for the spans that are listed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerCourse {
    /// The number of the step.
    pub step: u64,
    /// How long it took.
    pub total_ms: f64,
    /// What else was done; waiting lies within communicating.
    pub spans: Vec<CourseSpan>,
}

/// A part of a step in which a worker communicates, or waits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CourseSpan {
    /// Whether it waits for others, rather than moving bytes.
    pub waiting: bool,
    /// When it begins, from the beginning of the step.
    pub from_ms: f64,
    /// When it ends.
    pub to_ms: f64,
}

/// How the processor was used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Processor {
    /// The part of the threads' time that was spent computing, from 0 to 1.
    pub utilisation: f64,
    /// Over time: `(seconds since the start, utilisation from 0 to 1)`.
    pub over_time: Vec<(f64, f64)>,
    /// The most memory the process held.
    pub peak_memory_bytes: u64,
}

/// What happened to the data before training.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cleaning {
    /// What is counted: `rows`, or `tokens` of a text.
    pub unit: String,
    /// Rows that came in.
    pub rows_in: u64,
    /// Rows that were left.
    pub rows_left: u64,
    /// Rows left out, by reason.
    pub dropped: Vec<(String, u64)>,
    /// Values filled in, by column.
    pub filled: Vec<(String, u64)>,
    /// The parts of the data and their rows.
    pub splits: Vec<(String, u64)>,
}

impl Cleaning {
    /// What happened to a data set.
    pub fn of(dataset: &Dataset) -> Self {
        let report = dataset.report();
        let is_text = matches!(dataset.schema().target, Target::Tokens { .. });
        let splits = Split::ALL.iter().map(|split| (split.name().to_owned(), dataset.stored(*split)));
        Self {
            unit: if is_text { "tokens" } else { "rows" }.into(),
            rows_in: report.rows_in(),
            rows_left: report.rows_out(),
            dropped: report.dropped(),
            filled: report.filled(),
            splits: splits.filter(|(_, rows)| *rows > 0).collect(),
        }
    }
}

/// On what it ran.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Outgrow's version.
    pub version: String,
    /// The processor.
    pub cpu: String,
    /// Its cores.
    pub cores: usize,
    /// The threads that were used.
    pub threads: usize,
    /// The set of kernels that was used.
    pub kernel_path: String,
    /// The operating system.
    pub os: String,
}
