//! Weights and packages: what a trained model is kept as, and where one may start from.

use std::collections::BTreeMap;

use outgrow_data::Dataset;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_models::spec::Head;
use outgrow_models::{BuiltModel, ParamSpec};
use outgrow_predict::Package;
use outgrow_tensor::Tensor;
use outgrow_train::Trainer;

use super::start::FirstWeights;
use super::{Session, decision, known};
use crate::report::format::{count, counted};

/// Takes the trainer's weights from the file that the manifest names; those of a new head stay as they were drawn.
pub(super) fn start_from(first: &FirstWeights, head: Head, trainer: &mut Trainer) -> Result<(), Diagnostics> {
    let own = trainer.state.weights()?;
    let with_new_head = with_new_head(first, trainer.model(), &own);
    let given = if head == Head::New { &with_new_head } else { &first.tensors };
    let mut found = Diagnostics::default();
    // What is frozen is among the buffers, which need not be given.
    let frozen = trainer.model().frozen.iter();
    for param in frozen.filter(|param| !given.contains_key(&param.name)) {
        let problem = format!("there is no tensor `{}`, which is not to be trained", param.name);
        found.push(Diagnostic::new("weights.missing", problem).hint("the weights are of another model"));
    }
    let set = found.into_result(()).and_then(|()| trainer.state.set_weights(given));
    set.map_err(|mut found| {
        // Where nothing but the last layer is of another model, that is what to say.
        let fits = head == Head::Keep && trainer.state.set_weights(&with_new_head).is_ok();
        for diagnostic in &mut found.0 {
            diagnostic.place.file = Some(first.path.clone());
            if fits {
                diagnostic.hint =
                    Some("all but the last layer fits: `head = \"new\"` in `[model]` has a new one".into());
            }
        }
        found
    })
}

/// The tensors of the file, with the last layer's as they were drawn.
fn with_new_head(
    first: &FirstWeights,
    model: &BuiltModel,
    own: &BTreeMap<String, Tensor>,
) -> BTreeMap<String, Tensor> {
    let layer = |name: &str| name.rsplit_once('.').map(|(layer, _)| layer.to_owned());
    let layers: Vec<_> = model.head.iter().map(|name| layer(name)).collect();
    let mut tensors = first.tensors.clone();
    tensors.retain(|name, _| !layers.contains(&layer(name)));
    tensors.extend(model.head.iter().filter_map(|name| Some((name.clone(), own.get(name)?.clone()))));
    tensors
}

/// What of a model is not trained, or is drawn though there are weights; nothing where that is usual.
pub(super) fn told(session: &Session<'_>, model: &BuiltModel) -> Vec<String> {
    let mut lines = Vec::new();
    let spec = &session.manifest.model;
    if spec.head == Head::New && spec.weights.is_some() {
        let rest = model.params.len() + model.frozen.len() - model.head.len();
        lines.push(format!(
            "{:<10}  {} anew; {rest} other parameters come from the weights",
            "draws",
            model.head.join(", ")
        ));
    }
    if !model.frozen.is_empty() {
        let (frozen, trained) = (elements(&model.frozen), elements(&model.params));
        let (part, all) = (model.frozen.len(), model.frozen.len() + model.params.len());
        lines.push(format!(
            "{:<10}  {part} of {}, with {} of {}",
            "freezes",
            counted(all as u64, "parameter"),
            count(frozen),
            counted(frozen + trained, "number")
        ));
    }
    lines
}

/// The numbers in these parameters.
pub(super) fn elements(params: &[ParamSpec]) -> u64 {
    params.iter().map(|param| param.dims.iter().product::<usize>() as u64).sum()
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
        decision: decision::of(trainer, data),
        manifest: session.manifest.resolved_toml(Some(known(data))),
    })
}
