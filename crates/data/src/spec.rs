//! The manifest's `[data]` section as it is written. [`prepare`](crate::prepare) checks what the types here cannot:
//! which keys a source takes, and which go together.

use crate::replicas::StorageSpec;
use outgrow_ir::Diagnostic;
use outgrow_transform::augment::AugmentSpec;
use outgrow_transform::steps::StepSpec;
use schemars::JsonSchema;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// What data a model is trained and tested on, and how it is cleaned.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub struct DataSpec {
    /// Where the data comes from: `idx` (images and labels as MNIST ships them), `image_folder` (a folder of images per
    /// class), `csv`, `json_lines`, `parquet`, `arrow` (Arrow IPC and Feather), `npy` (NumPy arrays), `text`, `rows`
    /// (written here in the manifest) or `synthetic:glyphs` (generated drawings of ten characters).
    pub source: String,

    /// `csv`, `json_lines`, `parquet`, `arrow`, `npy`, `text`: a file, a list of files, a folder, or a pattern such
    /// as `logs/*.csv`.
    /// `image_folder`: the folder that holds a folder of PNG, JPEG or WebP files for each class. Relative paths are
    /// looked up in the folder given by `--data`, then in `$OUTGROW_DATA`, then beside the manifest. A file may also
    /// be a URL that begins with `http://`, `https://`, `s3://`, `gs://` or `az://` (in builds with the feature
    /// `cloud`): it is fetched once and kept in the folder given by `--cache`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<Files>,

    /// The SHA-256 that files from URLs must have, by their URLs, in hexadecimal digits. A file without is checked
    /// against what it was when it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<BTreeMap<String, String>>,

    /// The largest file that is fetched from a URL, in gigabytes; 16 when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub download_limit: Option<f64>,

    /// `idx`: the file of images, plain or `.gz`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<String>,

    /// `idx`: the file of labels, plain or `.gz`. `npy`: the `.npy` file of labels, one for each row of `files`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<String>,

    /// `npy`: the arrays of a `.npz` file that are read besides the label, such as `x_train`; all of them when left
    /// out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Names>,

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

    /// `csv`, `rows`, `npy`: the columns' names, when the file gives none (or to rename them). `json_lines`: the
    /// fields to read, nested ones by their dotted path such as `user.age`; all of them when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,

    /// `csv`: whether the first line names the columns (true unless `columns` is given). A first column without a name
    /// that counts the rows, as pandas writes it, is an index and left out, which is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<bool>,

    /// `csv`: what separates the fields, one character. When left out: a comma; or a semicolon, a tab or a `|` where
    /// commas separate nothing and that does, which is said.
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

    /// `csv`, `json_lines`: the kinds of columns, where the first rows do not show them: `{ zip = "text" }`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub types: Option<BTreeMap<String, ColumnType>>,

    /// The column to be predicted, or several for regression. `npy`: an array of the `.npz` file, `y`, `label` or
    /// `labels` when left out; of labels in a file of their own, `label` is the column's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<Names>,

    /// What is predicted: `classify` (one of several classes) or `regress` (a quantity). Without it, labels of text and
    /// of images are classes, and so are whole numbers of at most 20 values that come at least five times each on
    /// average; other numbers are quantities. A run begins with what it took them for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,

    /// Whether quantities that are predicted are brought to mean 0 and deviation 1 within the model, and its predictions
    /// back to their own units. The loss is that of scaled numbers; all other metrics, predictions and exported models are
    /// in the data's units. When left out: yes, unless the model is kept whole from an ONNX file (`head = "keep"`) or its
    /// last layer has an activation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_scaling: Option<bool>,

    /// Names of the classes, in the order of their numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<Vec<String>>,

    /// The columns the model may see. When left out: the images where there are any, else all but the label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub features: Option<Vec<String>>,

    /// Columns the model may not see.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude: Option<Vec<String>>,

    /// `parquet`, `arrow`: the column that holds images (PNG, JPEG or WebP files), when there are several.
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

    /// Images: how those of training are changed at random, such as `{ flip = "horizontal", crop = { padding = 4 } }`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub augment: Option<AugmentSpec>,

    /// Keeps the prepared data in several places as well, each shard in some of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageSpec>,

    /// One SQL statement that makes the records out of the source's, which it reads as the table `data`:
    /// `SELECT age, "education-num" AS years, label FROM data WHERE age > 17`. It runs on the training part and on a
    /// test set of its own separately, before anything is split; `label`, `features` and `clean` name the columns of
    /// its result, and so does what `predict` takes. Needs a build with the feature `sql`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,

    /// Steps that clean and encode the records, in their order; or one SQL statement, which is short for `sql` without
    /// steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clean: Option<Clean>,

    /// `text`: what the tokens are: `char` (each character of the text, the default), `byte`, or the path of a
    /// `tokenizer.json` of Hugging Face, which is looked up as `files` are and is kept with the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<String>,

    /// `text`: tokens per sample.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<usize>,
}

/// How records are cleaned.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Clean {
    /// One SQL statement over the table `data`.
    Statement(String),
    /// Steps, in their order.
    Steps(Vec<StepSpec>),
}

// By hand, since a derived one would not say which step is wrong.
impl<'de> Deserialize<'de> for Clean {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Clean;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of steps, such as [{ drop_missing = \"all\" }], or one SQL statement")
            }

            fn visit_str<E>(self, statement: &str) -> Result<Clean, E> {
                Ok(Clean::Statement(statement.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, steps: A) -> Result<Clean, A::Error> {
                Deserialize::deserialize(SeqAccessDeserializer::new(steps)).map(Clean::Steps)
            }
        }
        deserializer.deserialize_any(Either)
    }
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
    /// `csv`, `json_lines`, `parquet`, `arrow`, `npy`, `image_folder`, `text`: as `data.files`. `npy`: the same `.npz` file when
    /// left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<Files>,
    /// `idx`: as `data.images`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<String>,
    /// `idx`, `npy`: as `data.labels`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<String>,
    /// `npy`: the arrays of a `.npz` file, in the order of `data.inputs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Names>,
    /// `npy`: the array of labels of a `.npz` file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<Names>,
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
    /// Whether each class is divided by itself, so that every part has all of them in the same proportions. When left
    /// out: yes for classes of at most 1,000 records; larger ones are divided by chance, which comes to nearly the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stratify: Option<bool>,
    /// Which part of a k-fold evaluation is for testing, in place of `test`, such as `{ number = 1, of = 5 }`. What
    /// `validation` says is set aside from the others. `outgrow run --folds 5` runs all parts and gives this key to each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fold: Option<FoldSpec>,
}

/// One of several parts of (almost) equal size, each of which is for testing once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FoldSpec {
    /// Which of them, from 1.
    pub number: u32,
    /// How many there are, 2 or more.
    pub of: u32,
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
    /// The section without what has no part in what is stored.
    pub(crate) fn stored(&self) -> Self {
        Self {
            augment: None,
            storage: None,
            sha256: None,
            download_limit: None,
            target_scaling: None,
            ..self.clone()
        }
    }

    /// The SQL statement, with the key that gives it.
    ///
    /// # Errors
    /// When there are two.
    pub(crate) fn statement(&self) -> Result<Option<(&'static str, &str)>, Diagnostic> {
        match (&self.sql, &self.clean) {
            (Some(_), Some(Clean::Statement(_))) => {
                Err(Diagnostic::new("data.sql.statement", "`sql` and `clean` both give a statement")
                    .item("data.clean")
                    .expected("one statement in `sql`, and a list of steps in `clean`"))
            }
            (Some(statement), _) => Ok(Some(("data.sql", statement))),
            (None, Some(Clean::Statement(statement))) => Ok(Some(("data.clean", statement))),
            (None, _) => Ok(None),
        }
    }

    /// The steps of `clean`.
    pub(crate) fn steps(&self) -> &[StepSpec] {
        match &self.clean {
            Some(Clean::Steps(steps)) => steps,
            _ => &[],
        }
    }

    /// The keys that are given, by their names.
    pub(crate) fn given(&self) -> Vec<String> {
        let json = serde_json::to_value(self).unwrap_or_default();
        json.as_object().map(|o| o.keys().cloned().collect()).unwrap_or_default()
    }
}
