//! The `[limits]` section of a manifest: what a run may take. No bit of a result depends on it, so it is no part of what a
//! run is known by.

use outgrow_ir::{Diagnostic, Diagnostics};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Bytes of a GiB.
const GIB: f64 = (1u64 << 30) as f64;

/// What a run may take. Where it would take more, it is made to do with less, and the result is the same.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitsSpec {
    /// The most memory that training may take in each worker, in GiB: weights, the optimiser's state, gradients and the
    /// values of a step and of an evaluation, but not the program itself and its data. Where a step would take more, values
    /// are computed again instead of being kept, those first that cost least. When left out: as much as there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = 0.5)]
    pub memory_gib_max: Option<f64>,
}

impl LimitsSpec {
    /// What the section asks for can be had somewhere.
    pub fn validate(&self) -> Result<(), Diagnostics> {
        match self.memory_gib_max {
            Some(gib) if !(gib.is_finite() && gib > 0.0) => {
                let found = Diagnostic::new("limits.memory", format!("{gib} GiB hold nothing"));
                Err(found.item("limits.memory_gib_max").expected("a number above 0").into())
            }
            _ => Ok(()),
        }
    }

    /// The most memory that training may take, in bytes.
    pub fn memory_bytes_max(&self) -> Option<u64> {
        // Saturates: what is beyond all memory is no limit.
        self.memory_gib_max.map(|gib| (gib * GIB) as u64)
    }
}
