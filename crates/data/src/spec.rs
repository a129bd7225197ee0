//! The manifest's `[data]` section as it is written. [`prepare`](crate::prepare) checks what the types here cannot:
//! which keys a source takes, and which go together.

use outgrow_transform::steps::StepSpec;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What data a model is trained and tested on, and how it is cleaned.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub struct DataSpec {
    /// Where the data comes from: `idx` (images and labels as MNIST ships them), `csv`, `parquet`, `text`, `rows`
    /// (written here in the manifest) or `synthetic:glyphs` (generated drawings of ten characters).
    pub source: String,

    /// `csv`, `parquet`, `text`: a file, a list of files, a folder, or a pattern such as `logs/*.csv`. Relative paths
    /// are looked up in the folder given by `--data`, then in `$OUTGROW_DATA`, then beside the manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<Files>,

    /// `idx`: the file of images, plain or `.gz`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<String>,

    /// `idx`: the file of labels, plain or `.gz`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<String>,

    /// `rows`: the records themselves, each a list of numbers or texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<Vec<Vec<Cell>>>,

    /// `synthetic:glyphs`: how many training samples to generate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<u64>,

    /// A test set of its own. Without it, `split.test` sets records aside for testing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<TestSpec>,

    /// Which parts of the training data are set aside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<SplitSpec>,

    /// Seed of the split, and of generated data; the run's seed when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,

    /// `csv`, `rows`: the columns' names, when the file has no header line (or to rename them).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,

    /// `csv`: whether the first line names the columns (true unless `columns` is given).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<bool>,

    /// `csv`: what separates the fields, one character; a comma when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<String>,

    /// `csv`: characters taken off both ends of every field; blanks when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trim: Option<String>,

    /// `csv`: lines that begin with this character are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,

    /// Texts that stand for a missing value, such as `["?", "NA"]`; an empty field always does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<Vec<String>>,

    /// `csv`: the kinds of columns, where the first rows do not show them: `{ zip = "text" }`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub types: Option<BTreeMap<String, ColumnType>>,

    /// The column to be predicted, or several for regression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<Names>,

    /// What is predicted: `classify` or `regress`. Without it, labels of text and of images are classes, and numbers
    /// are regressed on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,

    /// Names of the classes, in the order of their numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<Vec<String>>,

    /// The columns the model may see. When left out: the images where there are any, else all but the label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub features: Option<Vec<String>>,

    /// Columns the model may not see.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude: Option<Vec<String>>,

    /// `parquet`: the column that holds images (PNG or JPEG files), when there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,

    /// Images: resize all to `[height, width]`. Without it they must all be of one size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<[usize; 2]>,

    /// Images: 1 for grey, 3 for colour; as the first image has it when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<usize>,

    /// Images: `unit` (0 to 1, the default), `standard` (mean 0 and deviation 1 for each channel), `none` (0 to
    /// 255), or numbers. Tables: `standard`, `unit` or `none` for all numeric features (`none` is the default).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalize: Option<Normalization>,

    /// Steps that clean and encode the records, in their order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clean: Option<Vec<StepSpec>>,

    /// `text`: tokens per sample.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<usize>,
}

/// One path or pattern, or several.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a file, a folder or a pattern, or a list of them")]
pub enum Files {
    /// A file, a folder or a pattern.
    One(String),
    /// Several of them.
    Many(Vec<String>),
}

impl Files {
    /// All of them.
    pub fn patterns(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// One name, or several.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a name or a list of names")]
pub enum Names {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl Names {
    /// All of them.
    pub fn list(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// A field of a record that is written in the manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a number or a text")]
pub enum Cell {
    /// A number.
    Number(f64),
    /// A text; an empty one, and those named by `missing`, stand for a missing value.
    Text(String),
}

/// A test set of its own, from the same kind of source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TestSpec {
    /// `csv`, `parquet`, `text`: as `data.files`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<Files>,
    /// `idx`: as `data.images`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<String>,
    /// `idx`: as `data.labels`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<String>,
    /// `rows`: as `data.rows`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<Vec<Vec<Cell>>>,
    /// `synthetic:glyphs`: as `data.samples`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<u64>,
}

/// Fractions of the training data that are set aside, from 0 to below 1.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SplitSpec {
    /// For validation during training.
    #[serde(default)]
    pub validation: f64,
    /// For testing at the end; not together with `data.test`.
    #[serde(default)]
    pub test: f64,
}

/// Kinds of columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// Numbers.
    Number,
    /// Text.
    Text,
}

/// What is predicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// One of several classes.
    Classify,
    /// Numbers.
    Regress,
}

/// How numbers or pixels are brought to a scale.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "\"unit\", \"standard\", \"none\", or { scale, mean, std }")]
pub enum Normalization {
    /// One of the usual ways.
    Named(NamedNormalization),
    /// Images: `(pixel * scale - mean) / std`.
    Numbers(PixelNumbers),
}

/// The usual ways of normalising.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NamedNormalization {
    /// From 0 to 1.
    Unit,
    /// Mean 0, standard deviation 1.
    Standard,
    /// As they are.
    None,
}

/// `(pixel * scale - mean) / std`, with pixels from 0 to 255.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PixelNumbers {
    /// Factor for the pixel; 1/255 when left out.
    #[serde(default = "pixel_scale")]
    pub scale: f64,
    /// One mean per channel; zeros when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mean: Vec<f64>,
    /// One standard deviation per channel; ones when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub std: Vec<f64>,
}

fn pixel_scale() -> f64 {
    1.0 / 255.0
}

impl DataSpec {
    /// The keys that are given, by their names.
    pub(crate) fn given(&self) -> Vec<String> {
        let json = serde_json::to_value(self).unwrap_or_default();
        json.as_object().map(|o| o.keys().cloned().collect()).unwrap_or_default()
    }
}
