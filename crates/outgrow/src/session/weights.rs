//! Weights and packages: what a trained model is kept as, and where one may start from.

use std::collections::BTreeMap;

use outgrow_data::Dataset;
use outgrow_ir::Diagnostics;
use outgrow_predict::Package;
use outgrow_tensor::Tensor;
use outgrow_train::Trainer;

use super::Session;
use super::start::FirstWeights;

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

/// What a trained model is kept as.
pub fn package(session: &Session<'_>, data: &Dataset, trainer: &Trainer) -> Result<Package, Diagnostics> {
    Ok(Package {
        graph: trainer.model().answer.clone(),
        weights: trainer.state.weights()?,
        transform: data.transform().clone(),
        manifest: session.manifest.resolved_toml(),
    })
}
