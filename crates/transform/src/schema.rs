//! What a transform puts out: the names, types and shapes of a model's inputs and target.

use outgrow_tensor::DType;
use serde::{Deserialize, Serialize};

/// One input of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Field {
    /// Its name: `image`, `features`, `categories` or `tokens`.
    pub name: String,
    /// Element type of the tensor the model gets.
    #[serde(with = "dtype_name")]
    pub dtype: DType,
    /// Shape without the batch dimension.
    pub shape: Vec<usize>,
    /// For `categories`: how many values each of the indexes can take.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cardinalities: Vec<usize>,
}

/// What the model predicts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// One of several classes; the target is the class's number as `i32 [batch]`.
    Class {
        /// The classes' names, in the order of their numbers.
        names: Vec<String>,
    },
    /// Numbers; the target is `f32 [batch, width]`.
    Regression {
        /// How many numbers each record has.
        width: usize,
    },
    /// The next token at each position; the target is `i32 [batch, length]`.
    Tokens {
        /// How many different tokens there are.
        vocab: usize,
    },
}

/// The inputs and the target that a transform produces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputSchema {
    /// The inputs, in the order of [`Batch::inputs`](crate::Batch).
    pub inputs: Vec<Field>,
    /// The target.
    pub target: Target,
}

/// Writes an element type as its lower-case name.
pub(crate) mod dtype_name {
    use outgrow_tensor::DType;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(dtype: &DType, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(dtype.name())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DType, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(|()| D::Error::custom(format!("there is no element type `{name}`")))
    }
}
