//! Raw records: rows of values under named columns, before anything has been cleaned or encoded.

use outgrow_ir::Diagnostic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;

/// One raw field of a record.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing is known.
    Missing,
    /// A number.
    Number(f64),
    /// Text.
    Text(String),
    /// An image file (PNG or JPEG), still encoded.
    Encoded(Vec<u8>),
    /// A decoded image.
    Pixels(Pixels),
    /// The number of a category, once a step has encoded it.
    Category(u32),
}

impl Value {
    /// Whether nothing is known.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing)
    }

    /// The number, when this is one.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Number(n) => Some(*n),
            _ => None,
        }
    }

    /// How many bytes its text or image has.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Encoded(bytes) => bytes.len(),
            Self::Pixels(pixels) => pixels.data.len(),
            Self::Missing | Self::Number(_) | Self::Category(_) => 0,
        }
    }

    /// Appends the value to `out` in a form that is the same on every machine and in every version: a tag, then the
    /// content. Records are hashed by it.
    pub fn canonical_bytes(&self, out: &mut Vec<u8>) {
        let (tag, content): (u8, &[u8]) = match self {
            Self::Missing => (0, &[]),
            Self::Number(n) => {
                out.push(1);
                // Adding zero turns -0 into 0.
                out.extend((n + 0.0).to_bits().to_le_bytes());
                return;
            }
            Self::Text(text) => (2, text.as_bytes()),
            Self::Encoded(bytes) => (3, bytes),
            Self::Pixels(pixels) => (4, &pixels.data),
            Self::Category(i) => {
                out.push(5);
                out.extend(i.to_le_bytes());
                return;
            }
        };
        out.push(tag);
        out.extend((content.len() as u64).to_le_bytes());
        out.extend(content);
    }

    /// What the value is, in a word for messages.
    pub fn kind_name(&self) -> &'static str {
        match self {
            Self::Missing => "a missing value",
            Self::Number(_) => "a number",
            Self::Text(_) => "text",
            Self::Encoded(_) | Self::Pixels(_) => "an image",
            Self::Category(_) => "a category",
        }
    }
}

/// A decoded image of 8-bit samples, `[channels, height, width]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pixels {
    /// 1 for grey, 3 for red, green, blue.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// `channels * height * width` samples.
    pub data: Vec<u8>,
}

/// What a column holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnKind {
    /// Numbers.
    Number,
    /// Text.
    Text,
    /// Images, encoded or decoded.
    Image,
    /// Numbers of categories below `size`, made by an encoding step.
    Category {
        /// How many categories there are; 0 while the step that makes them is not fitted.
        size: usize,
        /// Whether the model sees them as 0/1 indicators among its features rather than as indexes.
        indicators: bool,
        /// Names of the categories where they have any.
        levels: Vec<String>,
    },
}

impl ColumnKind {
    /// The kind in a word for messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Text => "text",
            Self::Image => "image",
            Self::Category { .. } => "category",
        }
    }
}

/// What a column is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// An input of the model.
    Feature,
    /// What the model is to predict.
    Label,
    /// Neither; only filters may read it.
    Excluded,
}

/// A named column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub kind: ColumnKind,
    /// What it is for.
    pub role: Role,
}

impl Column {
    /// A feature column.
    pub fn new(name: impl Into<String>, kind: ColumnKind) -> Self {
        Self { name: name.into(), kind, role: Role::Feature }
    }
}

/// The columns of a table, in the order of the records' values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Columns(pub Vec<Column>);

impl Columns {
    /// Number of the column called `name`.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|c| c.name == name)
    }

    /// Number of the column called `name`, or a diagnostic that lists what there is.
    pub fn require(&self, name: &str) -> Result<usize, Diagnostic> {
        self.position(name).ok_or_else(|| {
            let names: Vec<&str> = self.0.iter().map(|c| c.name.as_str()).collect();
            Diagnostic::new("data.unknown-column", format!("there is no column `{name}`"))
                .expected(format!("one of: {}", shorten(&names.join(", "), 400)))
        })
    }

    /// Numbers of the columns with this role.
    pub fn with_role(&self, role: Role) -> Vec<usize> {
        (0..self.0.len()).filter(|i| self.0[*i].role == role).collect()
    }
}

/// The first `limit` characters of `text`, with an ellipsis where more follow.
pub(crate) fn shorten(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Where a record came from, for diagnostics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The file.
    pub file: Option<Arc<Path>>,
    /// The line in the file, counted from 1, where the format has lines.
    pub line: Option<usize>,
    /// Number of the record within its source, counted from 1.
    pub row: u64,
}

impl Origin {
    /// Adds this place to a diagnostic that has none yet.
    pub fn place(&self, mut diagnostic: Diagnostic) -> Diagnostic {
        if diagnostic.place.file.is_none() {
            diagnostic.place.file = self.file.as_ref().map(|f| f.to_path_buf());
            diagnostic.place.line = diagnostic.place.line.or(self.line);
        }
        if self.line.is_none() && self.row > 0 {
            let row = format!("record {}", self.row);
            diagnostic.place.item = Some(match diagnostic.place.item.take() {
                Some(item) => format!("{row}, {item}"),
                None => row,
            });
        }
        diagnostic
    }
}

/// One record: a value for each of the table's columns, and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The values, in the order of the columns.
    pub values: Vec<Value>,
    /// Where they came from.
    pub origin: Origin,
}

impl Record {
    /// A record that came from nowhere in particular.
    pub fn new(values: Vec<Value>) -> Self {
        Self { values, origin: Origin::default() }
    }
}
