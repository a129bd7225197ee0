//! What a server and its models say of themselves.

use outgrow_predict::{Extent, Port};
use serde::Serialize;

use super::Datatype;

/// The server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServerMetadata {
    /// Its name.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The extensions of the protocol that it serves.
    pub extensions: &'static [&'static str],
}

impl ServerMetadata {
    /// This server.
    pub const fn new() -> Self {
        Self {
            name: "outgrow",
            version: env!("CARGO_PKG_VERSION"),
            extensions: &[
                "binary_tensor_data",
                "model_configuration",
                "model_repository",
                "schedule_policy",
                "statistics",
            ],
        }
    }
}

impl Default for ServerMetadata {
    fn default() -> Self {
        Self::new()
    }
}

/// A model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModelMetadata {
    /// Its name.
    pub name: String,
    /// Its versions that are served.
    pub versions: Vec<String>,
    /// What runs it.
    pub platform: &'static str,
    /// What it takes.
    pub inputs: Vec<TensorMetadata>,
    /// What it gives.
    pub outputs: Vec<TensorMetadata>,
}

/// An input or output of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TensorMetadata {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub datatype: &'static str,
    /// Its dimensions; -1 where they vary.
    pub shape: Vec<i64>,
}

impl TensorMetadata {
    /// Of an input or output, if all is known that has to be said.
    pub fn of(port: &Port) -> Option<Self> {
        let extent = |extent: &Extent| match extent {
            Extent::Fixed(n) => i64::try_from(*n).ok(),
            Extent::Named(_) | Extent::Any => Some(-1),
        };
        Some(Self {
            name: port.name.clone(),
            datatype: Datatype(port.dtype?).name(),
            shape: port.dims.as_ref()?.iter().map(extent).collect::<Option<_>>()?,
        })
    }
}

/// Whether a model answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModelReady {
    /// Its name.
    pub name: String,
    /// Whether it does.
    pub ready: bool,
}
