//! How a model is served, in the terms of Triton's `ModelConfig`, as far as they mean something here.

use serde::Serialize;
use serde_json::{Value as Json, json};

use super::TensorMetadata;

/// A model's configuration.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelConfig {
    /// Its name.
    pub name: String,
    /// What runs it.
    pub platform: &'static str,
    /// The same.
    pub backend: &'static str,
    /// Which of its versions are served.
    pub version_policy: Json,
    /// Most rows that run at once; 0 for a model that does not answer by rows.
    pub max_batch_size: usize,
    /// What it takes.
    pub input: Vec<ConfigTensor>,
    /// What it gives.
    pub output: Vec<ConfigTensor>,
    /// How many batches run at once.
    pub instance_group: Json,
    /// There for models whose requests run together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dynamic_batching: Option<Json>,
}

impl ModelConfig {
    /// Of a model that runs so many rows at once, if it answers by rows, on so many threads.
    pub fn new(
        name: String,
        platform: &'static str,
        rows_max: Option<usize>,
        input: Vec<ConfigTensor>,
        output: Vec<ConfigTensor>,
        threads: usize,
    ) -> Self {
        let instances = json!([{ "name": format!("{name}_0"), "kind": "KIND_CPU", "count": threads }]);
        Self {
            name,
            platform,
            backend: platform,
            version_policy: json!({ "latest": { "num_versions": 1 } }),
            max_batch_size: rows_max.unwrap_or(0),
            input,
            output,
            instance_group: instances,
            dynamic_batching: rows_max.map(|_| json!({ "max_queue_delay_microseconds": 0 })),
        }
    }
}

/// An input or output in a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigTensor {
    /// Its name.
    pub name: String,
    /// Its element type, as `TYPE_FP32`.
    pub data_type: String,
    /// Its dimensions but for that of the rows, where the model answers by rows; -1 where they vary.
    pub dims: Vec<i64>,
}

impl ConfigTensor {
    /// Of an input or output of a model that answers by rows or not.
    pub fn of(tensor: &TensorMetadata, by_rows: bool) -> Self {
        // The format has its own word for this type only.
        let datatype = if tensor.datatype == "BYTES" { "STRING" } else { tensor.datatype };
        let dims = tensor.shape.get(usize::from(by_rows)..).unwrap_or_default().to_vec();
        Self { name: tensor.name.clone(), data_type: format!("TYPE_{datatype}"), dims }
    }
}
