//! What a data set holds, for a person to look at.

use crate::split_data::Sink;
use crate::{CleanReport, Dataset, Split};
use outgrow_ir::Diagnostic;
use outgrow_tensor::DType;
use outgrow_transform::{OutputSchema, Target};
use serde::Serialize;
use std::path::PathBuf;

/// What a data set holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Inspection {
    /// Where it is.
    pub folder: PathBuf,
    /// Hash of all that it depends on.
    pub fingerprint: String,
    /// The kind of source it was made from.
    pub source: String,
    /// The model's inputs and target.
    pub schema: OutputSchema,
    /// The splits.
    pub splits: Vec<SplitInspection>,
    /// Ranges over the training split: of every feature, of the channels of images, of regression targets.
    pub ranges: Vec<ValueRange>,
    /// The characters of a text's vocabulary, where those are the tokens.
    pub vocabulary: Option<String>,
    /// What became of the records.
    pub report: CleanReport,
}

/// One split.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SplitInspection {
    /// Which one.
    pub split: Split,
    /// Samples in an epoch.
    pub samples: u64,
    /// Records, or tokens, that are stored.
    pub stored: u64,
    /// Files they are stored in.
    pub shards: usize,
    /// Bytes of those files.
    pub bytes: u64,
    /// Records of each class, with the classes' names.
    pub classes: Vec<(String, u64)>,
}

/// The values that one feature, channel or target takes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ValueRange {
    /// Its name.
    pub name: String,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// The mean.
    pub mean: f64,
    /// The standard deviation (of the population).
    pub deviation: f64,
}

/// Sums of one feature's values.
#[derive(Clone, Copy)]
struct Sums {
    min: f64,
    max: f64,
    mean: f64,
    squares: f64,
    count: f64,
}

impl Sums {
    const NONE: Self =
        Self { min: f64::INFINITY, max: f64::NEG_INFINITY, mean: 0.0, squares: 0.0, count: 0.0 };

    fn add(&mut self, value: f64) {
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.count += 1.0;
        let delta = value - self.mean;
        self.mean += delta / self.count;
        self.squares += delta * (value - self.mean);
    }

    fn range(self, name: String) -> ValueRange {
        let deviation = (self.squares / self.count.max(1.0)).sqrt();
        ValueRange { name, min: self.min, max: self.max, mean: self.mean, deviation }
    }
}

impl Dataset {
    /// Looks at everything that is stored.
    ///
    /// # Errors
    /// A diagnostic that names a damaged shard.
    pub fn inspect(&self) -> Result<Inspection, Diagnostic> {
        let schema = self.schema();
        let names = match &schema.target {
            Target::Class { names } => names.clone(),
            Target::Regression { .. } | Target::Tokens { .. } => Vec::new(),
        };
        let split = |split: Split| {
            let files = self.shard_infos(split);
            let bytes = files.iter().map(|s| s.bytes).sum();
            let classes = names.iter().cloned().zip(self.class_counts(split)).collect();
            let (samples, stored) = (self.samples(split), self.stored(split));
            SplitInspection { split, samples, stored, shards: files.len(), bytes, classes }
        };
        Ok(Inspection {
            folder: self.folder().to_path_buf(),
            fingerprint: self.fingerprint().to_owned(),
            source: self.spec().source.clone(),
            splits: Split::ALL.into_iter().map(split).collect(),
            ranges: self.ranges()?,
            vocabulary: self
                .transform()
                .assembly
                .text
                .as_ref()
                .and_then(|t| Some(t.vocabulary.characters()?.chars().iter().collect())),
            schema,
            report: self.report().clone(),
        })
    }

    fn ranges(&self) -> Result<Vec<ValueRange>, Diagnostic> {
        let mut ranges = Vec::new();
        if self.transform().assembly.text.is_some() {
            return Ok(ranges);
        }
        let data = self.split(Split::Train)?;
        let assembly = &self.transform().assembly;
        for (number, field) in data.fields.iter().enumerate() {
            let width: usize = field.shape.iter().product();
            // Features have a range each, the pixels of a channel have one together.
            let (names, run): (Vec<String>, usize) = match (field.name.as_str(), field.dtype) {
                ("image", DType::U8) => {
                    let channels = field.shape.first().copied().unwrap_or(1);
                    ((0..channels).map(|c| format!("channel {c}")).collect(), width / channels.max(1))
                }
                ("features", DType::F32) => {
                    (assembly.features.as_ref().map(|f| f.names.clone()).unwrap_or_default(), 1)
                }
                ("target", DType::F32) => ((0..width).map(|i| format!("target {i}")).collect(), 1),
                _ => continue,
            };
            let mut sums = vec![Sums::NONE; names.len()];
            for record in 0..data.records {
                let values = match field.dtype {
                    DType::U8 => {
                        let mut values = Vec::with_capacity(width);
                        data.read(number, record, 1, &mut Sink::U8(&mut values))?;
                        values.into_iter().map(f64::from).collect()
                    }
                    _ => {
                        let mut values = Vec::with_capacity(width);
                        data.read(number, record, 1, &mut Sink::F32(&mut values))?;
                        values.into_iter().map(f64::from).collect::<Vec<_>>()
                    }
                };
                for (values, sums) in values.chunks(run.max(1)).zip(&mut sums) {
                    values.iter().for_each(|v| sums.add(*v));
                }
            }
            ranges.extend(names.into_iter().zip(sums).map(|(name, sums)| sums.range(name)));
        }
        Ok(ranges)
    }
}
