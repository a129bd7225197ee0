//! Whether early stopping can do what the manifest asks for: it needs validation data, and a metric of it that the model
//! has.

use outgrow_data::{Dataset, Split};
use outgrow_ir::Diagnostic;
use outgrow_models::TargetSpec;
use outgrow_train::spec::MetricName;

use crate::manifest::Manifest;

/// Refuses early stopping where the manifest sets nothing aside to validate on.
pub(super) fn declared(manifest: &Manifest) -> Result<(), Diagnostic> {
    let set_aside = manifest.spec.data.split.as_ref().map_or(0.0, |split| split.validation);
    if manifest.train.early_stopping.is_none() || set_aside > 0.0 {
        return Ok(());
    }
    Err(nothing_to_watch())
}

/// Refuses it where there turns out to be no validation data, or where the watched metric is none of this model's.
pub(super) fn watched(manifest: &Manifest, data: &Dataset, target: &TargetSpec) -> Result<(), Diagnostic> {
    let Some(stop) = manifest.train.early_stopping else { return Ok(()) };
    if data.samples(Split::Validation) == 0 {
        return Err(nothing_to_watch());
    }
    if stop.metric.applies_to(target) {
        return Ok(());
    }
    let names: Vec<_> = MetricName::of(target).into_iter().map(|metric| metric.name()).collect();
    let problem = format!("there is no metric `{}` of what this model predicts", stop.metric.name());
    Err(Diagnostic::new("train.early-stopping", problem)
        .item("train.early_stopping.metric")
        .expected(format!("one of: {}", names.join(", "))))
}

fn nothing_to_watch() -> Diagnostic {
    Diagnostic::new(
        "train.early-stopping",
        "there is no validation data, so early stopping has nothing to watch",
    )
    .item("train.early_stopping")
    .expected("validation data")
    .hint("set some aside with `split = { validation = 0.1 }` in `[data]`, or leave `early_stopping` out")
}
