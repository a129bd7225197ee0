//! Whether what goes by evaluations can do what the manifest asks for: early stopping and the schedule `plateau` need
//! validation data, and a metric of it that the model has.

use outgrow_data::{Dataset, Split};
use outgrow_ir::Diagnostic;
use outgrow_models::TargetSpec;
use outgrow_train::spec::{MetricName, Schedule, Train};

use crate::manifest::Manifest;

/// Something that watches a metric.
struct Watcher {
    code: &'static str,
    /// Its key in `[train]`.
    key: &'static str,
    /// What it is called.
    name: &'static str,
    metric: MetricName,
    /// How to do without it.
    without: &'static str,
}

fn watchers(train: &Train) -> impl Iterator<Item = Watcher> {
    let stop = train.early_stopping.map(|stop| Watcher {
        code: "train.early-stopping",
        key: "train.early_stopping",
        name: "early stopping",
        metric: stop.metric,
        without: "leave `early_stopping` out",
    });
    let plateau = match train.schedule {
        Schedule::Plateau(plateau) => Some(Watcher {
            code: "train.plateau",
            key: "train.schedule",
            name: "the schedule `plateau`",
            metric: plateau.metric,
            without: "take another schedule, such as `cosine`",
        }),
        _ => None,
    };
    stop.into_iter().chain(plateau)
}

/// Refuses them where the manifest sets nothing aside to validate on.
pub(super) fn declared(manifest: &Manifest) -> Result<(), Diagnostic> {
    let set_aside = manifest.spec.data.split.as_ref().map_or(0.0, |split| split.validation);
    let first = watchers(&manifest.train).next().filter(|_| set_aside <= 0.0);
    first.map_or(Ok(()), |watcher| Err(watcher.nothing_to_watch()))
}

/// Refuses them where there turns out to be no validation data, or where the watched metric is none of this model's.
pub(super) fn watched(manifest: &Manifest, data: &Dataset, target: &TargetSpec) -> Result<(), Diagnostic> {
    for watcher in watchers(&manifest.train) {
        if data.samples(Split::Validation) == 0 {
            return Err(watcher.nothing_to_watch());
        }
        if !watcher.metric.applies_to(target) {
            let names: Vec<_> = MetricName::of(target).into_iter().map(|metric| metric.name()).collect();
            let problem =
                format!("there is no metric `{}` of what this model predicts", watcher.metric.name());
            return Err(Diagnostic::new(watcher.code, problem)
                .item(format!("{}.metric", watcher.key))
                .expected(format!("one of: {}", names.join(", "))));
        }
    }
    Ok(())
}

impl Watcher {
    fn nothing_to_watch(&self) -> Diagnostic {
        let problem = format!("there is no validation data, so {} has nothing to watch", self.name);
        let hint =
            format!("set some aside with `split = {{ validation = 0.1 }}` in `[data]`, or {}", self.without);
        Diagnostic::new(self.code, problem).item(self.key).expected("validation data").hint(hint)
    }
}
