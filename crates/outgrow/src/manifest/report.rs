//! The `[report]` section: what a run writes for those who look at it, beside its own page.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a run writes beside its page. No result depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportSpec {
    /// Whether the numbers of `metrics.jsonl` are written as TensorBoard's event files as well, into the run's folder:
    /// `tensorboard --logdir runs` shows them.
    #[serde(default)]
    pub tensorboard: bool,
}
