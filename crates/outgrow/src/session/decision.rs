//! Where two classes are divided: whether what the manifest asks for makes sense, and the threshold that the validation data
//! shows to be best once training is done.

use outgrow_data::{Dataset, Split};
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_models::TargetSpec;
use outgrow_predict::Decision;
use outgrow_train::Trainer;
use outgrow_train::metric::{best_threshold, log_odds, log_odds_of_two};
use outgrow_train::spec::{DecisionThreshold, Train};
use outgrow_transform::Target;
use serde_json::{Value as Json, json};

use super::DatasetBatches;
use crate::context::Context;
use crate::manifest::Manifest;

const KEY: &str = "train.decision_threshold";
const CODE: &str = "train.decision-threshold";
const SHARE: &str = "telling how validation data scores";

/// The usual one.
const HALF: f64 = 0.5;

/// Refuses to find one where the manifest sets nothing aside to validate on.
pub(super) fn declared(manifest: &Manifest) -> Result<(), Diagnostic> {
    let set_aside = manifest.spec.data.split.as_ref().map_or(0.0, |split| split.validation);
    match manifest.train.decision_threshold {
        Some(DecisionThreshold::Rule(_)) if set_aside <= 0.0 => Err(nothing_to_go_by()),
        _ => Ok(()),
    }
}

/// Refuses it where there are not two classes, and to find one where there turns out to be no validation data.
pub(super) fn possible(manifest: &Manifest, data: &Dataset, target: &TargetSpec) -> Result<(), Diagnostic> {
    let Some(threshold) = manifest.train.decision_threshold else { return Ok(()) };
    let predicted = match target {
        TargetSpec::Binary | TargetSpec::Class { classes: 2 } => {
            let finds = matches!(threshold, DecisionThreshold::Rule(_));
            let can = !finds || data.samples(Split::Validation) > 0;
            return if can { Ok(()) } else { Err(nothing_to_go_by()) };
        }
        TargetSpec::Class { classes } => format!("one of {classes} classes"),
        TargetSpec::Regression { .. } => "numbers".to_owned(),
        TargetSpec::Tokens { .. } => "text".to_owned(),
    };
    let problem = format!("a threshold divides two classes, and this model predicts {predicted}");
    let hint = match target {
        TargetSpec::Class { .. } => {
            "leave it out: the likeliest class is answered (`class_weights` in `[train]` makes rare ones count more)"
        }
        TargetSpec::Regression { .. } => {
            "leave it out; or write `task = \"classification\"` in `[data]`, if the label is of two classes"
        }
        TargetSpec::Tokens { .. } | TargetSpec::Binary => "leave it out",
    };
    Err(Diagnostic::new(CODE, problem).item(KEY).expected("a model of two classes").hint(hint))
}

fn nothing_to_go_by() -> Diagnostic {
    Diagnostic::new(CODE, "there is no validation data to find a decision threshold on")
        .item(KEY)
        .expected("validation data, or a number")
        .hint(
            "set some aside with `split = { validation = 0.1 }` in `[data]`, or give the threshold itself: \
             `decision_threshold = 0.3`",
        )
}

/// The log-odds of the threshold that the manifest itself gives, if it is not the usual one.
pub(super) fn given(train: &Train) -> Option<f64> {
    match train.decision_threshold? {
        DecisionThreshold::At(p) if p.get() != HALF => Some(log_odds(p.get())),
        _ => None,
    }
}

/// How the model of this trainer divides two classes, if not in the middle.
pub fn of(trainer: &Trainer, data: &Dataset) -> Option<Decision> {
    let chosen_by = match trainer.config().decision_threshold? {
        DecisionThreshold::Rule(rule) => Some(rule.name().to_owned()),
        DecisionThreshold::At(_) => None,
    };
    let Target::Class { names } = data.schema().target else { return None };
    Some(Decision { class: names.get(1)?.clone(), log_odds: trainer.threshold()?, chosen_by })
}

/// Finds the threshold by the validation data, if the manifest wants that, and has the trainer evaluate by it. All workers of
/// a group do so at the same time, each on its portion, and find the same.
///
/// # Errors
/// When a batch cannot be made, the device fails, or a worker is lost.
pub(super) fn choose(
    trainer: &mut Trainer,
    batches: &DatasetBatches,
    context: &Context,
) -> Result<(), Diagnostics> {
    let Some(DecisionThreshold::Rule(rule)) = trainer.config().decision_threshold else { return Ok(()) };
    let Some(stream) = batches.evaluation(Split::Validation, trainer.portion())? else { return Ok(()) };
    // Of each sample the log-odds of the second class, and 1 if it is of that, else 0.
    let mut numbers: Vec<f64> = Vec::new();
    trainer.evaluate_with(stream, &mut |batch, output| {
        let Some(target) = &batch.target else { return };
        let width = (output.len() / batch.weight.len().max(1)).max(1);
        for (i, logits) in output.chunks_exact(width).take(batch.real).enumerate() {
            let own = f64::from(u8::from(target.get_f64(i) == 1.0));
            numbers.extend(log_odds_of_two(logits).iter().flat_map(|odds| [*odds, own]));
        }
    })?;
    if let Some(group) = trainer.group() {
        numbers = group.lock().exchange_numbers(&numbers, SHARE)?.concat();
    }
    let samples: Vec<_> = numbers.chunks_exact(2).map(|pair| (pair[0], pair[1] > 0.5)).collect();
    let found = best_threshold(&samples, rule.rule());
    if found.is_none() {
        context.note(
            "warning: the validation data has only one of the two classes, so no decision threshold is better there than \
             another: it stays at 0.5",
        );
    }
    trainer.set_threshold(found);
    Ok(())
}

/// For machines.
pub fn to_json(decision: &Decision) -> Json {
    let mut json = json!({ "class": decision.class, "probability": decision.probability() });
    if let Some(rule) = &decision.chosen_by {
        json["chosen_by"] = json!(rule);
    }
    json
}

/// Where two classes are divided, for people, of what a run's result says.
pub fn told(json: &Json) -> Option<String> {
    let (class, probability) = (json["class"].as_str()?, json["probability"].as_f64()?);
    let how = json["chosen_by"].as_str().map_or(String::new(), |rule| {
        format!(", the best on the validation data by {}", if rule == "f1" { "F1" } else { "Youden's index" })
    });
    Some(format!("`{class}` above a probability of {probability:.4}{how}"))
}
