//! Packages: what a trained model is kept as. Four parts in a folder, and a fifth one where two classes are not divided in the
//! middle, all verified when they are read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use outgrow_env::StorageBackend;
use outgrow_ir::{Diagnostic, Diagnostics, Graph};
use outgrow_store::package::INDEX;
use outgrow_store::{ModelPackage, safetensors};
use outgrow_tensor::Tensor;
use outgrow_transform::Transform;

use crate::Decision;
use serde::Deserialize;
use serde::de::IgnoredAny;

const GRAPH: &str = "graph.txt";
const WEIGHTS: &str = "weights.safetensors";
const TRANSFORM: &str = "transform.json";
const MANIFEST: &str = "manifest.toml";
const DECISION: &str = "decision.json";

/// The folder of the package within a run's folder.
pub const MODEL_FOLDER: &str = "model";

/// A trained model with all that is needed to use it.
#[derive(Clone, Debug)]
pub struct Package {
    /// The graph that answers for data.
    pub graph: Graph,
    /// Parameters and buffers by name.
    pub weights: BTreeMap<String, Tensor>,
    /// From raw records to the model's inputs.
    pub transform: Transform,
    /// Where two classes are divided, if not in the middle.
    pub decision: Option<Decision>,
    /// The manifest that it was made by, as TOML.
    pub manifest: String,
}

/// What is of use of the manifest, once the model is trained.
#[derive(Debug, Deserialize)]
pub(crate) struct Settings {
    /// The model's name.
    pub name: String,
    data: DataSettings,
}

#[derive(Debug, Deserialize)]
struct DataSettings {
    header: Option<bool>,
    columns: Option<IgnoredAny>,
}

impl Settings {
    /// Whether the tables of the training data began with a line that names the columns.
    pub fn has_header(&self) -> bool {
        self.data.header.unwrap_or(self.data.columns.is_none())
    }
}

impl Package {
    /// The folder of a package: the one that is given, or `model` in it, as in a run's folder.
    ///
    /// # Errors
    /// When neither holds one.
    pub fn find(storage: &dyn StorageBackend, given: &Path) -> Result<PathBuf, Diagnostic> {
        let is_package = |folder: &Path| matches!(storage.entry(&folder.join(INDEX)), Ok(Some(_)));
        let inner = given.join(MODEL_FOLDER);
        match (is_package(given), is_package(&inner)) {
            (true, _) => Ok(given.to_owned()),
            (false, true) => Ok(inner),
            (false, false) => Err(Diagnostic::new("predict.no-model", "there is no trained model")
                .file(given)
                .expected("the folder of a run that has ended, or the folder `model` in it")
                .hint("train a model with `outgrow run`")),
        }
    }

    /// Reads a package, every part verified. Its weights are mapped, and lie in memory as far as they are used.
    ///
    /// # Errors
    /// All parts that are missing, damaged, or not what they should be.
    pub fn load(storage: &dyn StorageBackend, folder: &Path) -> Result<Self, Diagnostics> {
        let package = ModelPackage::load(storage, folder).map_err(|e| e.into_diagnostics())?;
        let text = |name: &str| -> Result<String, Diagnostics> {
            let bytes = package.part(name)?.to_vec();
            String::from_utf8(bytes).map_err(|_| {
                Diagnostic::new("package.text", "the part is not UTF-8 text")
                    .file(folder)
                    .item(name.to_owned())
                    .hint("the model was made by another version, or changed by hand: train it again")
                    .into()
            })
        };
        let decision = match package.parts.contains_key(DECISION) {
            true => Some(decision(&text(DECISION)?).map_err(|d| d.file(folder))?),
            false => None,
        };
        Ok(Self {
            decision,
            graph: Graph::parse(&text(GRAPH)?)?,
            weights: safetensors::parse(package.part(WEIGHTS)?.clone())?.tensors,
            transform: Transform::from_json(&text(TRANSFORM)?)?,
            manifest: text(MANIFEST)?,
        })
    }

    /// Writes the package into a folder, durably, in place of what is there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, storage: &dyn StorageBackend, folder: &Path) -> Result<(), Diagnostics> {
        let mut package = ModelPackage::default();
        let mut part = |name: &str, bytes: Vec<u8>| package.parts.insert(name.to_owned(), bytes.into());
        part(GRAPH, self.graph.to_string().into_bytes());
        part(WEIGHTS, safetensors::to_bytes(&self.weights, &BTreeMap::new())?);
        part(TRANSFORM, self.transform.to_json().into_bytes());
        if let Some(decision) = &self.decision {
            part(DECISION, serde_json::json!(decision).to_string().into_bytes());
        }
        part(MANIFEST, self.manifest.clone().into_bytes());
        package.save(storage, folder).map_err(|e| e.into_diagnostics())
    }

    /// The model's name.
    ///
    /// # Errors
    /// When the manifest does not say it.
    pub fn name(&self) -> Result<String, Diagnostic> {
        self.settings().map(|settings| settings.name)
    }

    pub(crate) fn settings(&self) -> Result<Settings, Diagnostic> {
        toml::from_str(&self.manifest).map_err(|e| {
            Diagnostic::new(
                "predict.package",
                format!("the package's manifest cannot be read: {}", e.message()),
            )
            .item(MANIFEST)
            .hint("the model was made by another version, or changed by hand: train it again")
        })
    }
}

/// Reads how two classes are divided.
fn decision(text: &str) -> Result<Decision, Diagnostic> {
    serde_json::from_str(text).map_err(|e| {
        Diagnostic::new("predict.package", format!("the package's decision cannot be read: {e}"))
            .item(DECISION)
            .hint("the model was made by another version, or changed by hand: train it again")
    })
}
