//! Weights and packages: what a trained model is kept as, and where one may start from.

use std::collections::BTreeMap;
use std::path::Path;

use outgrow_data::Dataset;
use outgrow_env::StorageBackend;
use outgrow_ir::{Diagnostic, Diagnostics, Graph};
use outgrow_store::{ModelPackage, safetensors};
use outgrow_tensor::Tensor;
use outgrow_train::Trainer;
use outgrow_transform::Transform;

use super::Session;
use super::start::FirstWeights;
use crate::manifest::{self, Manifest};

const GRAPH: &str = "graph.txt";
const WEIGHTS: &str = "weights.safetensors";
const TRANSFORM: &str = "transform.json";
const MANIFEST: &str = "manifest.toml";

/// A trained model with all that is needed to use it.
#[derive(Debug)]
pub struct Package {
    /// The graph for evaluation.
    pub graph: Graph,
    /// Parameters and buffers by name.
    pub weights: BTreeMap<String, Tensor>,
    /// From raw records to the model's inputs.
    pub transform: Transform,
    /// The manifest that it was made by.
    pub manifest: Manifest,
}

/// Takes the trainer's weights from the file that the manifest names.
pub(super) fn start_from(first: &FirstWeights, trainer: &mut Trainer) -> Result<(), Diagnostics> {
    trainer.state.set_weights(&first.tensors).map_err(|mut problems| {
        problems.0.iter_mut().for_each(|d| d.place.file = Some(first.path.clone()));
        problems
    })
}

/// Gives the trainer those of its weights that are in `own`; the others stay as they were drawn.
pub(super) fn overlay(trainer: &mut Trainer, own: &BTreeMap<String, Tensor>) -> Result<(), Diagnostics> {
    let mut all = trainer.state.weights()?;
    for (name, tensor) in &mut all {
        if let Some(given) = own.get(name) {
            *tensor = given.clone();
        }
    }
    trainer.state.set_weights(&all)
}

/// Writes the package of a trained model.
pub fn save_package(
    session: &Session<'_>,
    data: &Dataset,
    trainer: &Trainer,
    folder: &Path,
) -> Result<(), Diagnostics> {
    let weights = trainer.state.weights()?;
    let mut package = ModelPackage::default();
    let mut part = |name: &str, bytes: Vec<u8>| package.parts.insert(name.to_owned(), bytes.into());
    part(GRAPH, trainer.model().eval.to_string().into_bytes());
    part(WEIGHTS, safetensors::to_bytes(&weights, &BTreeMap::new())?);
    part(TRANSFORM, data.transform().to_json().into_bytes());
    part(MANIFEST, session.manifest.resolved_toml().into_bytes());
    package.save(&*session.storage, folder).map_err(|e| e.into_diagnostics())
}

/// Reads a package, every part verified.
pub fn load_package(storage: &dyn StorageBackend, folder: &Path) -> Result<Package, Diagnostics> {
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
    Ok(Package {
        graph: Graph::parse(&text(GRAPH)?)?,
        weights: safetensors::parse(package.part(WEIGHTS)?.clone())?.tensors,
        transform: Transform::from_json(&text(TRANSFORM)?)?,
        manifest: manifest::parse(&text(MANIFEST)?)?,
    })
}
