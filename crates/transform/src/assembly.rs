//! The end of a transform: cleaned and encoded values become fields of fixed size, first in the compact form that
//! shards store, then as the tensors of a batch.

use crate::schema::dtype_name;
use crate::{
    ColumnKind, Columns, Field, OutputSchema, PixelNorm, Record, Role, Target, Value, Vocabulary, image,
};
use outgrow_ir::Diagnostic;
use outgrow_tensor::DType;
use serde::{Deserialize, Serialize};

/// How the values of a record become a model's inputs and target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assembly {
    /// An image input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageInput>,
    /// Numbers and 0/1 indicators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<FeatureInput>,
    /// Indexes for embeddings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub categories: Option<CategoryInput>,
    /// Text as tokens. It excludes the other inputs, and the target is the next token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<TextInput>,
    /// The target.
    pub target: TargetEncoder,
}

/// An image column as the input `image`, `f32 [channels, height, width]`, stored as `u8`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageInput {
    /// Number of the column.
    pub column: usize,
    /// 1 for grey, 3 for red, green, blue.
    pub channels: usize,
    /// Rows of every image.
    pub height: usize,
    /// Columns of every image.
    pub width: usize,
    /// Whether images of another size are resized rather than refused.
    pub resize: bool,
    /// From stored bytes to what the model sees.
    pub normalize: PixelNorm,
}

/// Columns side by side as the input `features`, `f32 [width]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureInput {
    /// Numbers of the columns.
    pub columns: Vec<usize>,
    /// How many features each column has: 1 for numbers, the number of categories for indicators.
    pub widths: Vec<usize>,
    /// The features' names, such as `age` or `city=Bern`.
    pub names: Vec<String>,
}

/// Columns side by side as the input `categories`, `i32 [count]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CategoryInput {
    /// Numbers of the columns.
    pub columns: Vec<usize>,
    /// How many categories each has.
    pub cardinalities: Vec<usize>,
}

/// Text as the input `tokens`, `i32 [context]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextInput {
    /// Tokens per sample.
    pub context: usize,
    /// The tokens.
    pub vocabulary: Vocabulary,
}

/// How a record's label becomes the target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetEncoder {
    /// A class by its name: column `column` holds text, or a number that is printed like the name.
    ClassName {
        /// Number of the label's column.
        column: usize,
        /// The classes.
        names: Vec<String>,
    },
    /// A class by its number, 0 to the number of names.
    ClassNumber {
        /// Number of the label's column.
        column: usize,
        /// The classes.
        names: Vec<String>,
    },
    /// Numbers.
    Numbers {
        /// Numbers of the labels' columns.
        columns: Vec<usize>,
        /// How each is spread over the training split.
        moments: Vec<TargetMoments>,
    },
    /// The next token of a text.
    NextToken,
}

/// How the numbers of a label are spread over the training split.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetMoments {
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation (of the population).
    pub deviation: f64,
}

/// A field as it is stored: the inputs in order, then the target, which is called `target`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredField {
    /// Its name.
    pub name: String,
    /// Element type in storage.
    #[serde(with = "dtype_name")]
    pub dtype: DType,
    /// Shape of one record.
    pub shape: Vec<usize>,
}

impl StoredField {
    /// Bytes of one record, or none when the shape is absurd.
    pub fn record_bytes(&self) -> Option<usize> {
        self.shape.iter().try_fold(self.dtype.bytes(), |n, d| n.checked_mul(*d))
    }
}

/// Little-endian bytes of an index.
pub fn index_bytes(index: usize) -> [u8; 4] {
    (index as i32).to_le_bytes()
}

/// More features than this in one record are taken for a mistake.
const FEATURES_MAX: usize = 1 << 20;

impl FeatureInput {
    /// All feature columns that hold numbers or indicators; none when there is no such column.
    ///
    /// # Errors
    /// When a feature column still holds text, or there are absurdly many features.
    pub fn of(columns: &Columns) -> Result<Option<Self>, Diagnostic> {
        let mut input = Self { columns: Vec::new(), widths: Vec::new(), names: Vec::new() };
        for i in columns.with_role(Role::Feature) {
            let column = &columns.0[i];
            let width = match &column.kind {
                ColumnKind::Number => 1,
                ColumnKind::Category { size, indicators: true, .. } => *size,
                ColumnKind::Text => {
                    return Err(Diagnostic::new(
                        "data.text-feature",
                        format!("feature column `{}` holds text, which no model can take", column.name),
                    )
                    .item("data.clean")
                    .expected("numbers or categories after the steps of `data.clean`")
                    .hint("add { one_hot = { columns = \"text\" } }, or `hash` or `index`, or `exclude` the column"));
                }
                _ => continue,
            };
            if input.names.len().saturating_add(width) > FEATURES_MAX {
                return Err(Diagnostic::new(
                    "data.too-many-features",
                    format!("column `{}` brings the number of features above {FEATURES_MAX}", column.name),
                )
                .hint("use `hash` with fewer buckets, or `index` and an embedding"));
            }
            match &column.kind {
                ColumnKind::Category { levels, .. } if levels.len() == width => {
                    input.names.extend(levels.iter().map(|level| format!("{}={level}", column.name)));
                }
                ColumnKind::Category { .. } => {
                    input.names.extend((0..width).map(|level| format!("{}#{level}", column.name)));
                }
                _ => input.names.push(column.name.clone()),
            }
            input.columns.push(i);
            input.widths.push(width);
        }
        Ok((!input.columns.is_empty()).then_some(input))
    }
}

impl CategoryInput {
    /// All feature columns that hold indexes; none when there is no such column.
    pub fn of(columns: &Columns) -> Option<Self> {
        let mut input = Self { columns: Vec::new(), cardinalities: Vec::new() };
        for i in columns.with_role(Role::Feature) {
            if let ColumnKind::Category { size, indicators: false, .. } = columns.0[i].kind {
                input.columns.push(i);
                input.cardinalities.push(size);
            }
        }
        (!input.columns.is_empty()).then_some(input)
    }
}

impl Assembly {
    /// The inputs and the target as the model sees them.
    pub fn schema(&self) -> OutputSchema {
        let field = |name: &str, dtype, shape: Vec<usize>, cardinalities: Vec<usize>| Field {
            name: name.into(),
            dtype,
            shape,
            cardinalities,
        };
        let mut inputs = Vec::new();
        if let Some(image) = &self.image {
            inputs.push(field("image", DType::F32, image.shape(), Vec::new()));
        }
        if let Some(features) = &self.features {
            inputs.push(field("features", DType::F32, vec![features.names.len()], Vec::new()));
        }
        if let Some(categories) = &self.categories {
            let sizes = categories.cardinalities.clone();
            inputs.push(field("categories", DType::I32, vec![sizes.len()], sizes));
        }
        if let Some(text) = &self.text {
            inputs.push(field("tokens", DType::I32, vec![text.context], Vec::new()));
        }
        let target = match &self.target {
            TargetEncoder::ClassName { names, .. } | TargetEncoder::ClassNumber { names, .. } => {
                Target::Class { names: names.clone() }
            }
            TargetEncoder::Numbers { columns, .. } => Target::Regression { width: columns.len() },
            TargetEncoder::NextToken => {
                Target::Tokens { vocab: self.text.as_ref().map_or(0, |t| t.vocabulary.len()) }
            }
        };
        OutputSchema { inputs, target }
    }

    /// The fields as they are stored, one row of each per record. Text is stored as a stream instead and has none.
    pub fn stored_fields(&self) -> Vec<StoredField> {
        if self.text.is_some() {
            return Vec::new();
        }
        let schema = self.schema();
        let mut fields: Vec<StoredField> = (schema.inputs.iter())
            .map(|f| {
                let dtype = if f.name == "image" { DType::U8 } else { f.dtype };
                StoredField { name: f.name.clone(), dtype, shape: f.shape.clone() }
            })
            .collect();
        let (dtype, shape) = match schema.target {
            Target::Regression { width } => (DType::F32, vec![width]),
            Target::Class { .. } | Target::Tokens { .. } => (DType::I32, Vec::new()),
        };
        fields.push(StoredField { name: "target".into(), dtype, shape });
        fields
    }

    /// Appends the stored form of one record, cleaned and encoded by the chain, to one byte buffer per stored
    /// field. `columns` are those after the chain. Returns whether the record had a label; without one, its target
    /// is left out.
    ///
    /// # Errors
    /// A diagnostic for a missing value, a label out of range, or an image that cannot be decoded or has another
    /// size. The buffers are then in an undefined state.
    pub fn store(&self, record: &Record, columns: &Columns, out: &mut [Vec<u8>]) -> Result<bool, Diagnostic> {
        let mut fields = out.iter_mut();
        let place = |d| record.origin.place(d);
        let mut next = || fields.next().ok_or_else(|| Diagnostic::fault("data.fields", "a field is missing"));
        if let Some(image) = &self.image {
            image.store(&record.values[image.column], next()?).map_err(place)?;
        }
        if let Some(features) = &self.features {
            features.store(record, columns, next()?).map_err(place)?;
        }
        if let Some(categories) = &self.categories {
            categories.store(record, columns, next()?).map_err(place)?;
        }
        self.target.store(record, columns, next()?).map_err(place)
    }

    /// Checks an assembly that was read from a file against the columns it is for.
    pub(crate) fn check(&self, columns: &Columns) -> Result<(), Diagnostic> {
        let count = columns.0.len();
        let mut used: Vec<usize> = Vec::new();
        used.extend(self.image.iter().map(|i| i.column));
        used.extend(self.features.iter().flat_map(|f| &f.columns));
        used.extend(self.categories.iter().flat_map(|c| &c.columns));
        match &self.target {
            TargetEncoder::ClassName { column, .. } | TargetEncoder::ClassNumber { column, .. } => {
                used.push(*column);
            }
            TargetEncoder::Numbers { columns, .. } => used.extend(columns),
            TargetEncoder::NextToken => {}
        }
        let sane = |m: &TargetMoments| m.mean.is_finite() && m.deviation.is_finite() && m.deviation >= 0.0;
        let moments_fit = match &self.target {
            TargetEncoder::Numbers { columns, moments } => {
                columns.len() == moments.len() && moments.iter().all(sane)
            }
            _ => true,
        };
        let lengths_fit =
            self.features.as_ref().is_none_or(|f| {
                f.columns.len() == f.widths.len() && f.widths.iter().sum::<usize>() == f.names.len()
            }) && self.categories.as_ref().is_none_or(|c| c.columns.len() == c.cardinalities.len());
        if used.iter().any(|c| *c >= count) || !lengths_fit || !moments_fit {
            return Err(Diagnostic::new("transform.assembly", "the transform's parts do not fit together")
                .hint("the file is damaged or was made by another version"));
        }
        match &self.image {
            Some(image) => {
                image::check_size(image.channels, image.height, image.width)?;
                image.normalize.check(image.channels)
            }
            None => Ok(()),
        }
    }
}

fn missing(columns: &Columns, column: usize) -> Diagnostic {
    let name = columns.0.get(column).map_or("?", |c| c.name.as_str());
    Diagnostic::new("data.missing-value", format!("column `{name}` has a missing value"))
        .expected("a value in every feature and label")
        .hint(format!("add {{ drop_missing = [\"{name}\"] }} or a `fill` for it to `data.clean`"))
}

fn wrong_kind(columns: &Columns, column: usize, value: &Value, expected: &str) -> Diagnostic {
    let name = columns.0.get(column).map_or("?", |c| c.name.as_str());
    Diagnostic::new("data.wrong-kind", format!("column `{name}` holds {} here", value.kind_name()))
        .expected(expected.to_owned())
}

impl ImageInput {
    /// `[channels, height, width]`.
    pub fn shape(&self) -> Vec<usize> {
        vec![self.channels, self.height, self.width]
    }

    /// Appends the pixels of an image of the right size, resized where that is asked for.
    ///
    /// # Errors
    /// A diagnostic for an image that cannot be decoded or has another size.
    pub fn store(&self, value: &Value, out: &mut Vec<u8>) -> Result<(), Diagnostic> {
        let fits =
            |p: &crate::Pixels| (p.channels, p.height, p.width) == (self.channels, self.height, self.width);
        match value {
            Value::Pixels(pixels) if fits(pixels) => out.extend(&pixels.data),
            value => {
                let resized_width = if self.resize { self.width } else { 0 };
                let room = image::Room::new(Some(self.channels), resized_width);
                // The share is given back once the image is stored.
                let (pixels, _share) = image::pixels_within(value, &room)?;
                if fits(&pixels) {
                    out.extend(&pixels.data);
                } else if self.resize {
                    out.extend(image::resize(&pixels, self.height, self.width).data);
                } else {
                    return Err(Diagnostic::new(
                        "data.image.size",
                        format!("the image is {} x {} pixels", pixels.width, pixels.height),
                    )
                    .expected(format!("{} x {} as the first image", self.width, self.height))
                    .hint("set `data.size = [height, width]` to resize all images"));
                }
            }
        }
        Ok(())
    }
}

impl FeatureInput {
    fn store(&self, record: &Record, columns: &Columns, out: &mut Vec<u8>) -> Result<(), Diagnostic> {
        for (column, width) in self.columns.iter().zip(&self.widths) {
            let indicators = matches!(columns.0[*column].kind, ColumnKind::Category { .. });
            match &record.values[*column] {
                Value::Number(n) if !indicators => {
                    let n = *n as f32;
                    if !n.is_finite() {
                        let name = &columns.0[*column].name;
                        return Err(Diagnostic::new(
                            "data.overflow",
                            format!("a number in column `{name}` is too large"),
                        )
                        .expected("a finite number in single precision"));
                    }
                    out.extend(n.to_le_bytes());
                }
                value @ (Value::Category(_) | Value::Missing) if indicators => {
                    let set = match value {
                        Value::Category(i) => *i as usize,
                        _ => usize::MAX,
                    };
                    out.extend((0..*width).flat_map(|i| f32::from(u8::from(i == set)).to_le_bytes()));
                }
                Value::Missing => return Err(missing(columns, *column)),
                value => return Err(wrong_kind(columns, *column, value, "a number")),
            }
        }
        Ok(())
    }
}

impl CategoryInput {
    fn store(&self, record: &Record, columns: &Columns, out: &mut Vec<u8>) -> Result<(), Diagnostic> {
        for (column, size) in self.columns.iter().zip(&self.cardinalities) {
            match &record.values[*column] {
                Value::Category(i) if (*i as usize) < *size => out.extend(index_bytes(*i as usize)),
                value => return Err(wrong_kind(columns, *column, value, "a category")),
            }
        }
        Ok(())
    }
}

impl TargetEncoder {
    fn store(&self, record: &Record, columns: &Columns, out: &mut Vec<u8>) -> Result<bool, Diagnostic> {
        let (column, names) = match self {
            Self::ClassName { column, names } | Self::ClassNumber { column, names } => (*column, names),
            Self::Numbers { columns: labels, .. } => {
                if labels.iter().any(|c| record.values[*c].is_missing()) {
                    return Ok(false);
                }
                for label in labels {
                    match &record.values[*label] {
                        Value::Number(n) if (*n as f32).is_finite() => out.extend((*n as f32).to_le_bytes()),
                        value => return Err(wrong_kind(columns, *label, value, "a finite number")),
                    }
                }
                return Ok(true);
            }
            Self::NextToken => return Ok(false),
        };
        let value = &record.values[column];
        let by_number = matches!(self, Self::ClassNumber { .. });
        let class = match value {
            Value::Missing => return Ok(false),
            Value::Number(n) if by_number => {
                (*n >= 0.0 && n.fract() == 0.0 && *n < names.len() as f64).then_some(*n as usize)
            }
            Value::Number(n) => {
                let name = n.to_string();
                names.iter().position(|c| *c == name)
            }
            Value::Text(text) => names.iter().position(|c| c == text),
            value => return Err(wrong_kind(columns, column, value, "a class")),
        };
        let Some(class) = class else {
            let shown = match value {
                Value::Number(n) => n.to_string(),
                Value::Text(text) => format!("{text:?}"),
                other => other.kind_name().into(),
            };
            let known = crate::record::shorten(&names.join(", "), 200);
            let label = &columns.0[column].name;
            return Err(Diagnostic::new(
                "data.label-range",
                format!("label {shown} is not one of the {} classes", names.len()),
            )
            .item(format!("`{label}`"))
            .expected(if by_number {
                format!("a number from 0 to {} ({known})", names.len() - 1)
            } else {
                known
            }));
        };
        out.extend(index_bytes(class));
        Ok(true)
    }
}
