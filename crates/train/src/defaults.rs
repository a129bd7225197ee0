//! What a model is trained with where the manifest does not say. Most models have nothing of their own; `realmlp` comes
//! with all that its authors tuned on many tables.

use std::num::{NonZeroU32, NonZeroU64};

use outgrow_models::LossKind;
use outgrow_models::spec::number::{Fraction, NonNegative, Positive};
use outgrow_models::spec::{Architecture, Model};
use serde::{Deserialize, Serialize};

use crate::spec::{
    Adam, CoslogOptions, EarlyStoppingSpec, MetricName, Optimizer, OptimizerName, OptimizerSpec,
    ParamGroupSpec, ScheduleName, ScheduleOptions, ScheduleSpec, Ties, TrainSpec,
};

/// What is known of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// How many rows there are to train on.
    pub rows: u64,
    /// Whether numbers are predicted, and not classes.
    pub numbers: bool,
    /// Whether there is validation data.
    pub validated: bool,
}

impl Known {
    /// Nothing yet: few classes, without validation.
    pub const NOTHING: Self = Self { rows: 0, numbers: false, validated: false };
}

/// Whether a model comes with a training of its own, which hangs on the data.
pub fn is_pretuned(model: &Model) -> bool {
    matches!(model.architecture, Architecture::RealMlp { .. })
}

impl TrainSpec {
    /// The same with all that it leaves out and that is not derived from something else in it.
    #[must_use]
    pub fn filled(&self, model: &Model, known: Known) -> Self {
        let mut spec = self.clone();
        if is_pretuned(model) {
            realmlp(&mut spec, known);
        }
        spec.batch.get_or_insert(at_least_one(32));
        spec.optimizer.get_or_insert(OptimizerSpec::Name(OptimizerName::Adam));
        spec.schedule.get_or_insert(ScheduleSpec::Name(ScheduleName::Constant));
        spec.drop_last.get_or_insert(false);
        spec
    }
}

/// Up to so many rows are trained on for 256 epochs; of more, as many steps are taken.
const ROWS_OF_ALL_EPOCHS: u64 = 1 << 15;
/// There are never fewer epochs than this.
const EPOCHS_MIN: u64 = 16;
/// From so many rows on batches are larger.
const ROWS_OF_SMALL_BATCHES: u64 = 1 << 17;

/// RealMLP-TD-S: table A.1 of Holzmüller et al. 2024, and the defaults of the authors' package. Large tables, of which the
/// paper says nothing, get fewer epochs, and larger batches.
fn realmlp(spec: &mut TrainSpec, known: Known) {
    if spec.epochs.is_none() && spec.steps.is_none() {
        let epochs = (256 * ROWS_OF_ALL_EPOCHS / known.rows.max(1)).clamp(EPOCHS_MIN, 256);
        spec.epochs = NonZeroU64::new(epochs);
    }
    let batch = if known.rows < ROWS_OF_SMALL_BATCHES { 256 } else { 1024 };
    spec.batch.get_or_insert(at_least_one(batch));
    // A step of a last short batch would be as long as that of a whole one.
    spec.drop_last.get_or_insert(true);
    if spec.optimizer.is_none() {
        let beta2 = Fraction::new(0.95).expect("0.95 is a fraction");
        spec.optimizer = Some(OptimizerSpec::Options(Optimizer::Adam(Adam { beta2, ..Adam::default() })));
        spec.lr.get_or_insert(positive(if known.numbers { 0.07 } else { 0.04 }));
    }
    if spec.schedule.is_none() && spec.warmup_steps == 0 {
        spec.schedule = Some(ScheduleSpec::Options(ScheduleOptions::Coslog(CoslogOptions::default())));
    }
    let group = |pattern: &str, factor| ParamGroupSpec {
        params: vec![pattern.to_owned()],
        lr_factor: positive(factor),
        weight_decay: None,
    };
    spec.param_groups.get_or_insert_with(|| vec![group("*.scale", 6.0), group("*.bias", 0.1)]);
    if !known.numbers && spec.loss.kind().is_none_or(LossKind::can_be_smoothed) {
        spec.label_smoothing.get_or_insert(Fraction::new(0.1).expect("0.1 is a fraction"));
    }
    if known.validated {
        spec.early_stopping.get_or_insert(EarlyStoppingSpec {
            metric: if known.numbers { MetricName::Rmse } else { MetricName::Accuracy },
            patience: NonZeroU32::MAX,
            min_delta: NonNegative::new(0.0).expect("0 is not negative"),
            ties: Ties::Last,
            restore_best: true,
        });
    }
}

fn positive(number: f64) -> Positive {
    Positive::new(number).expect("the default is positive")
}

fn at_least_one(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).expect("the default is not zero")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Interval, Schedule, Train};
    use outgrow_models::spec::ModelSpec;

    fn train(model: &str, text: &str, known: Known) -> Train {
        let model: ModelSpec = serde_json::from_str(model).unwrap();
        let spec: TrainSpec = serde_json::from_str(text).unwrap();
        spec.filled(&model.validate().unwrap(), known).validate().unwrap()
    }

    const TABLE: Known = Known { rows: 500, numbers: false, validated: true };

    #[test]
    fn realmlp_comes_with_its_own_training() {
        let got = train(r#"{"name": "realmlp"}"#, "{}", TABLE);
        assert_eq!((got.length, got.batch, got.drop_last), (Interval::Epochs(256), 256, true));
        assert_eq!((got.lr, got.schedule), (0.04, Schedule::Coslog { cycles: 4 }));
        assert!(matches!(got.optimizer, Optimizer::Adam(Adam { beta2, .. }) if beta2.get() == 0.95));
        assert_eq!((got.label_smoothing, got.weight_decay), (0.1, 0.0));
        let factors: Vec<f64> = got.param_groups.iter().map(|group| group.lr_factor).collect();
        assert_eq!(factors, [6.0, 0.1]);
        let stop = got.early_stopping.unwrap();
        assert_eq!((stop.metric, stop.ties, stop.restore_best), (MetricName::Accuracy, Ties::Last, true));
        let numbers =
            train(r#"{"name": "realmlp"}"#, "{}", Known { numbers: true, validated: false, ..TABLE });
        assert_eq!((numbers.lr, numbers.label_smoothing, numbers.early_stopping), (0.07, 0.0, None));
    }

    /// A run keeps its manifest with all that is filled in, and that is the same manifest.
    #[test]
    fn what_is_filled_in_stays_when_it_is_filled_in_again() {
        let model: ModelSpec = serde_json::from_str(r#"{"name": "realmlp"}"#).unwrap();
        let model = model.validate().unwrap();
        for text in ["{}", r#"{"lr": 0.1}"#, r#"{"warmup_steps": 3, "steps": 9}"#, r#"{"optimizer": "sgd"}"#]
        {
            for known in [
                Known::NOTHING,
                TABLE,
                Known { numbers: true, ..TABLE },
                Known { rows: 1 << 20, validated: false, ..TABLE },
            ] {
                let spec: TrainSpec = serde_json::from_str(text).unwrap();
                let filled = spec.filled(&model, known);
                assert_eq!(filled.filled(&model, known), filled, "{text} {known:?}");
            }
        }
    }

    #[test]
    fn what_the_manifest_says_counts() {
        let text = r#"{"steps": 9, "batch": 32, "optimizer": "sgd", "schedule": "constant", "param_groups": [],
            "label_smoothing": 0, "drop_last": false}"#;
        let got = train(r#"{"name": "realmlp"}"#, text, TABLE);
        assert_eq!((got.length, got.batch, got.drop_last), (Interval::Steps(9), 32, false));
        assert_eq!((got.lr, got.schedule, got.label_smoothing), (1e-3, Schedule::Constant, 0.0));
        assert!(got.param_groups.is_empty());
    }

    #[test]
    fn other_models_have_the_usual_defaults() {
        let got = train(r#"{"name": "mlp", "hidden": [4]}"#, r#"{"epochs": 3}"#, TABLE);
        let plain: TrainSpec = serde_json::from_str(r#"{"epochs": 3}"#).unwrap();
        assert_eq!(got, plain.validate().unwrap());
    }

    #[test]
    fn large_tables_get_fewer_epochs() {
        for (rows, epochs, batch) in [
            (1, 256, 256),
            (1 << 15, 256, 256),
            (1 << 16, 128, 256),
            (1 << 17, 64, 1024),
            (1 << 24, 16, 1024),
        ] {
            let got = train(r#"{"name": "realmlp"}"#, "{}", Known { rows, ..TABLE });
            assert_eq!((got.length, got.batch), (Interval::Epochs(epochs), batch), "{rows}");
        }
    }
}
