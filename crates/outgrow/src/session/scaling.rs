//! The scale of the numbers that a model predicts. Where it is of order one, initial weights and learning rates that suit
//! other models suit this one.

use outgrow_data::Dataset;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_models::spec::{Architecture, Head, Layer, Model, Output};
use outgrow_models::{TargetScale, TargetSpec};
use outgrow_transform::TargetMoments;

use crate::manifest::Manifest;

/// The scale of each number that the model predicts; none where it works in their own units.
///
/// # Errors
/// When the manifest asks for scaling, and no numbers are predicted.
pub(super) fn scales(
    manifest: &Manifest,
    data: &Dataset,
    target: &TargetSpec,
) -> Result<Vec<TargetScale>, Diagnostics> {
    let asked = manifest.spec.data.target_scaling;
    if !matches!(target, TargetSpec::Regression { .. }) {
        if asked == Some(true) {
            let problem = "there are no quantities to be scaled: classes or tokens are predicted";
            let found = Diagnostic::new("data.target-scaling", problem).item("data.target_scaling");
            return Err(
                manifest.locate(found.expected("`task = \"regress\"`, or no `target_scaling`").into())
            );
        }
        return Ok(Vec::new());
    }
    if !asked.unwrap_or_else(|| is_free(&manifest.model)) {
        return Ok(Vec::new());
    }
    Ok(data.transform().target_moments().iter().map(scale).collect())
}

fn scale(&TargetMoments { mean, deviation }: &TargetMoments) -> TargetScale {
    // Numbers that are all the same are only moved.
    let usable = deviation as f32 > 0.0 && (1.0 / deviation as f32).is_finite();
    TargetScale { mean, deviation: if usable { deviation } else { 1.0 } }
}

/// Whether a model's last layer can give any number, and has not learned before which.
fn is_free(model: &Model) -> bool {
    match &model.architecture {
        Architecture::Onnx(_) => model.head == Head::New,
        Architecture::Layers(layers) => {
            let last = !matches!(
                layers.last(),
                Some(
                    Layer::Activation(_)
                        | Layer::Dense { activation: Some(_), .. }
                        | Layer::Conv { activation: Some(_), .. }
                )
            );
            last && model.output == Output::Linear
        }
        _ => true,
    }
}
