//! The transform: everything between a raw record and a model's tensors, as one serialisable value.

use crate::{
    Assembly, Batch, Chain, Column, ColumnKind, Columns, Record, Role, TargetEncoder, TargetMoments, Value,
};
use outgrow_ir::{Diagnostic, counted};
use outgrow_tensor::{DType, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How raw text fields are read, the same when training and when predicting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RawFormat {
    /// Texts that stand for a missing value; an empty field always does.
    pub missing: Vec<String>,
    /// Characters that are taken off both ends of every field.
    pub trim: String,
    /// What separates the fields of a line.
    pub delimiter: String,
    /// Lines that begin with this are left out.
    pub comment: Option<String>,
}

impl Default for RawFormat {
    fn default() -> Self {
        Self { missing: Vec::new(), trim: " \t".into(), delimiter: ",".into(), comment: None }
    }
}

/// A fitted chain of steps with its raw columns and its assembly into tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transform {
    /// The raw columns, in the order of a record's values.
    pub columns: Columns,
    /// How text fields are read.
    pub format: RawFormat,
    /// The fitted steps.
    pub chain: Chain,
    /// From the chain's values to tensors.
    pub assembly: Assembly,
}

impl Transform {
    /// What it puts out.
    pub fn schema(&self) -> crate::OutputSchema {
        self.assembly.schema()
    }

    /// The transform as JSON.
    pub fn to_json(&self) -> String {
        // Plain data with string keys always serialises.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads what [`Transform::to_json`] wrote, and checks that its parts fit together.
    ///
    /// # Errors
    /// A diagnostic that says where the JSON is wrong, or that the parts contradict each other.
    pub fn from_json(json: &str) -> Result<Self, Diagnostic> {
        let transform: Self = serde_json::from_str(json).map_err(|e| {
            Diagnostic::new("transform.json", format!("the transform cannot be read: {e}"))
                .hint("the file is damaged or was made by another version")
        })?;
        transform.chain.check(&transform.columns)?;
        transform.assembly.check(&transform.chain.columns(&transform.columns))?;
        Ok(transform)
    }

    /// Turns records into a batch of as many samples. Steps that only select records are skipped, and images of
    /// another size are resized. The target is there when every record has its label.
    ///
    /// # Errors
    /// A diagnostic for the first record that does not fit.
    pub fn apply(&self, records: &[Record]) -> Result<Batch, Diagnostic> {
        if let Some(text) = &self.assembly.text {
            return text.apply(records);
        }
        let after = self.chain.columns(&self.columns);
        let mut assembly = self.assembly.clone();
        if let Some(image) = &mut assembly.image {
            image.resize = true;
        }
        let fields = assembly.stored_fields();
        let mut stored: Vec<Vec<u8>> = vec![Vec::new(); fields.len()];
        let mut labelled = 0;
        for record in records {
            if record.values.len() != self.columns.0.len() {
                return Err(record.origin.place(
                    Diagnostic::new(
                        "data.width",
                        format!("the record has {}", counted(record.values.len(), "value")),
                    )
                    .expected(format!("{}", self.columns.0.len())),
                ));
            }
            let mut record = record.clone();
            self.chain.encode(&mut record)?;
            labelled += usize::from(assembly.store(&record, &after, &mut stored)?);
        }
        let mut tensors = Vec::new();
        for (field, bytes) in fields.iter().zip(&stored) {
            if field.name == "target" && labelled < records.len() {
                break;
            }
            let shape = [&[records.len()], field.shape.as_slice()].concat();
            let tensor = Tensor::from_le_bytes(field.dtype, shape, bytes)
                .map_err(|e| Diagnostic::fault("transform.field", format!("field `{}`: {e}", field.name)))?;
            tensors.push(self.finish(tensor));
        }
        let target = (labelled == records.len()).then(|| tensors.pop()).flatten();
        let real = records.len();
        Ok(Batch::of_samples(tensors, target, real))
    }

    /// A stored field of whole records as the model sees it: stored images are normalised to `f32`, everything else
    /// stays as it is.
    pub fn finish(&self, stored: Tensor) -> Tensor {
        match (stored.as_slice::<u8>(), &self.assembly.image) {
            (Ok(pixels), Some(image)) => {
                let mut out = Vec::with_capacity(pixels.len());
                image.normalize.extend(pixels, image.height * image.width, &mut out);
                Tensor::new(stored.shape().clone(), out).unwrap_or_else(|_| Tensor::zeros(DType::F32, [0]))
            }
            _ => stored,
        }
    }

    /// The names of the numbers that are predicted; none where a class or a token is.
    pub fn target_names(&self) -> Vec<String> {
        let name = |i: &usize| self.columns.0.get(*i).map_or_else(String::new, |c| c.name.clone());
        match &self.assembly.target {
            TargetEncoder::Numbers { columns, .. } => columns.iter().map(name).collect(),
            _ => Vec::new(),
        }
    }

    /// How each of them is spread over the training split.
    pub fn target_moments(&self) -> &[TargetMoments] {
        match &self.assembly.target {
            TargetEncoder::Numbers { moments, .. } => moments,
            _ => &[],
        }
    }

    /// Numbers of the columns that a record to be predicted must have a value in.
    pub fn feature_columns(&self) -> Vec<usize> {
        let left_out = self.chain.left_out();
        self.columns.with_role(Role::Feature).into_iter().filter(|i| !left_out.contains(i)).collect()
    }
}

impl RawFormat {
    /// The value that a text field spells in a column of this kind.
    ///
    /// # Errors
    /// When a column of numbers holds something else.
    pub fn parse(&self, text: &str, kind: &ColumnKind) -> Result<Value, Diagnostic> {
        let text = text.trim_matches(|c| self.trim.contains(c));
        if text.is_empty() || self.missing.iter().any(|m| m == text) {
            return Ok(Value::Missing);
        }
        match kind {
            ColumnKind::Number => match text.parse::<f64>() {
                Ok(n) if n.is_finite() => Ok(Value::Number(n)),
                _ => Err(Diagnostic::new(
                    "data.csv.not-a-number",
                    format!("{:?} is not a number", crate::record::shorten(text, 60)),
                )
                .expected("a finite number, as in the rows before")
                .hint(format!(
                    "say `missing = [{:?}]` in `[data]` if it stands for a missing value",
                    crate::record::shorten(text, 60)
                ))),
            },
            _ => Ok(Value::Text(text.to_owned())),
        }
    }

    /// The value that a text field spells in this column.
    ///
    /// # Errors
    /// As [`RawFormat::parse`], with what to say of this column.
    pub fn parse_in(&self, text: &str, column: &Column) -> Result<Value, Diagnostic> {
        self.parse(text, &column.kind).map_err(|problem| {
            let missing = problem.hint.clone().unwrap_or_default();
            let name = &column.name;
            problem
                .item(format!("column `{name}`"))
                .hint(format!("{missing}, or `types = {{ {name:?} = \"text\" }}` if the column holds names"))
        })
    }
}
