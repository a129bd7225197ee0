//! From the `[train]` section as written to a [`Train`] without contradictions. Everything wrong is collected.

use std::num::{NonZeroU32, NonZeroU64};

use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_models::spec::number::{Fraction, NonNegative, Positive};

use super::{
    CheckpointPolicy, EarlyStopping, Interval, Optimizer, OptimizerName, OptimizerSpec, ParamGroup, Schedule,
    ScheduleName, ScheduleOptions, ScheduleSpec, Train, TrainSpec,
};

/// How old the last checkpoint may be where the manifest does not say.
const CHECKPOINT_SECONDS: f64 = 60.0;
/// Samples of a step where the manifest does not say.
const BATCH: u32 = 32;
/// More cycles than this all lie in the first step.
const CYCLES_MAX: u32 = 30;

pub(super) fn train(spec: &TrainSpec) -> Result<Train, Diagnostics> {
    let mut found = Diagnostics::default();
    let optimizer = spec.optimizer.map_or(OptimizerName::Adam.defaults(), OptimizerSpec::get);
    let length = interval("train", ["epochs", "steps"], [spec.epochs, spec.steps], None, &mut found);
    let every = ["eval_every_epochs", "eval_every_steps"];
    let values = [spec.eval_every_epochs, spec.eval_every_steps];
    let evaluate_every = interval("train", every, values, Some(Interval::Epochs(1)), &mut found);
    let (batch, micro_shards) =
        (spec.batch.map_or(BATCH, NonZeroU32::get) as usize, spec.micro_shards.get() as usize);
    check_micro_shards(batch, micro_shards, &mut found);
    let schedule = schedule(spec, length, &mut found);
    let (lr, weight_decay) = rates(spec, optimizer, &mut found);
    let param_groups = ParamGroup::all(
        spec.param_groups.as_deref().unwrap_or_default(),
        optimizer,
        weight_decay,
        &mut found,
    );
    let neither = spec.checkpoint_every_steps.is_none() && spec.checkpoint_every_seconds.is_none();
    let checkpoints = CheckpointPolicy {
        every_steps: spec.checkpoint_every_steps.map(NonZeroU64::get),
        every_seconds: spec
            .checkpoint_every_seconds
            .map(Positive::get)
            .or(neither.then_some(CHECKPOINT_SECONDS)),
        keep: spec.keep_checkpoints.get() as usize,
    };
    let early_stopping = spec.early_stopping.as_ref().map(|stop| EarlyStopping {
        metric: stop.metric,
        patience: stop.patience.get(),
        min_delta: stop.min_delta.get(),
        ties: stop.ties,
        restore_best: stop.restore_best,
    });
    found.into_result(Train {
        length: length.unwrap_or(Interval::Epochs(1)),
        batch,
        micro_shards,
        optimizer,
        lr,
        weight_decay,
        param_groups,
        schedule,
        warmup_steps: spec.warmup_steps,
        clip_norm: spec.clip_norm.map(Positive::get),
        clip_value: spec.clip_value.map(Positive::get),
        loss: spec.loss.kind(),
        label_smoothing: spec.label_smoothing.map_or(0.0, Fraction::get),
        decision_threshold: spec.decision_threshold,
        early_stopping,
        checkpoints,
        drop_last: spec.drop_last.unwrap_or(false),
        shuffle: spec.shuffle,
        sampling: spec.sampling,
        class_weights: spec.class_weights.clone(),
        evaluate_every: evaluate_every.unwrap_or(Interval::Epochs(1)),
        log_every_steps: spec.log_every_steps.map(std::num::NonZero::get),
        precision: spec.precision,
    })
}

/// One of two keys, in epochs or in steps; `None` after a diagnostic.
fn interval(
    path: &str,
    [in_epochs, in_steps]: [&str; 2],
    values: [Option<NonZeroU64>; 2],
    default: Option<Interval>,
    found: &mut Diagnostics,
) -> Option<Interval> {
    match values {
        [Some(epochs), None] => Some(Interval::Epochs(epochs.get())),
        [None, Some(steps)] => Some(Interval::Steps(steps.get())),
        [None, None] if default.is_some() => default,
        [Some(_), Some(_)] => {
            found.push(
                Diagnostic::new(
                    "manifest.train.both",
                    format!("both `{in_epochs}` and `{in_steps}` are given"),
                )
                .item(format!("{path}.{in_steps}"))
                .expected("exactly one of them")
                .hint(format!("remove `{in_epochs}` or `{in_steps}`")),
            );
            None
        }
        [None, None] => {
            found.push(
                Diagnostic::new(
                    "manifest.train.neither",
                    format!("`{path}` has neither `{in_epochs}` nor `{in_steps}`"),
                )
                .item(path)
                .expected("exactly one of them")
                .hint(format!("add `{in_epochs} = 10`, for example")),
            );
            None
        }
    }
}

fn check_micro_shards(batch: usize, micro_shards: usize, found: &mut Diagnostics) {
    if micro_shards.is_power_of_two() && batch.is_multiple_of(micro_shards) {
        return;
    }
    let problem = if micro_shards.is_power_of_two() {
        format!("a batch of {batch} cannot be cut into {micro_shards} equal parts")
    } else {
        format!("{micro_shards} is not a power of two")
    };
    let fitting: Vec<_> =
        (0..usize::BITS).map(|bit| 1 << bit).take_while(|parts| batch.is_multiple_of(*parts)).collect();
    let words: Vec<_> = fitting.iter().map(usize::to_string).collect();
    let hint = match words.as_slice() {
        [only] => format!(
            "with a batch of {batch}, only {only} would do; a batch that is a multiple of {} would allow {micro_shards}",
            micro_shards.next_power_of_two()
        ),
        [rest @ .., last] => format!("with a batch of {batch}, {} or {last} would do", rest.join(", ")),
        [] => String::new(),
    };
    found.push(
        Diagnostic::new("manifest.train.micro-shards", problem)
            .item("train.micro_shards")
            .expected("a power of two that divides `batch`")
            .hint(hint),
    );
}

/// The learning rate and the weight decay.
fn rates(spec: &TrainSpec, optimizer: Optimizer, found: &mut Diagnostics) -> (f64, f64) {
    if let Optimizer::Ftrl(options) = optimizer {
        if spec.lr.is_some() && options.alpha.is_some() {
            found.push(
                Diagnostic::new(
                    "manifest.train.lr",
                    "both `lr` and FTRL's `alpha` are given; they are the same thing",
                )
                .item("train.lr")
                .expected("one of them")
                .hint("remove `lr`"),
            );
        }
        if spec.weight_decay.is_some_and(|decay| decay.get() > 0.0) {
            found.push(
                Diagnostic::new("manifest.train.weight-decay", "FTRL has no weight decay of this kind")
                    .item("train.weight_decay")
                    .expected("FTRL's own `l1` and `l2`")
                    .hint("write `optimizer = { name = \"ftrl\", l2 = ... }`"),
            );
        }
    }
    let lr = spec.lr.map_or(optimizer.default_lr(), Positive::get);
    (lr, spec.weight_decay.map_or(optimizer.default_weight_decay(), NonNegative::get))
}

fn schedule(spec: &TrainSpec, length: Option<Interval>, found: &mut Diagnostics) -> Schedule {
    let schedule = match spec.schedule.unwrap_or_default() {
        ScheduleSpec::Name(ScheduleName::Constant) | ScheduleSpec::Options(ScheduleOptions::Constant(_)) => {
            Schedule::Constant
        }
        ScheduleSpec::Name(ScheduleName::Cosine) => cosine(Default::default()),
        ScheduleSpec::Options(ScheduleOptions::Cosine(options)) => cosine(options),
        ScheduleSpec::Name(ScheduleName::OneCycle) => one_cycle(Default::default()),
        ScheduleSpec::Options(ScheduleOptions::OneCycle(options)) => one_cycle(options),
        ScheduleSpec::Name(ScheduleName::Coslog) => coslog(Default::default()),
        ScheduleSpec::Options(ScheduleOptions::Coslog(options)) => coslog(options),
        ScheduleSpec::Name(ScheduleName::Plateau) => plateau(Default::default(), found),
        ScheduleSpec::Options(ScheduleOptions::Plateau(options)) => plateau(options, found),
        ScheduleSpec::Options(ScheduleOptions::Step(options)) => {
            let values = [options.every_epochs, options.every_steps];
            let every = interval("train.schedule", ["every_epochs", "every_steps"], values, None, found);
            Schedule::Step { every: every.unwrap_or(Interval::Epochs(1)), gamma: options.gamma.get() }
        }
    };
    let own_way_up = match schedule {
        Schedule::OneCycle { .. } => Some(("one-cycle", "set `pct_start` of the schedule instead")),
        Schedule::Coslog { .. } => Some(("coslog", "set `cycles` of the schedule, or take another one")),
        _ => None,
    };
    if let Some((name, hint)) = own_way_up.filter(|_| spec.warmup_steps > 0) {
        let problem = format!("`{name}` has its own way up; `warmup_steps` would be a second");
        found.push(
            Diagnostic::new("manifest.train.warmup", problem)
                .item("train.warmup_steps")
                .expected(format!("no `warmup_steps` with `{name}`"))
                .hint(hint),
        );
    }
    if let Some(Interval::Steps(steps)) = length
        && spec.warmup_steps >= steps
    {
        found.push(
            Diagnostic::new("manifest.train.warmup", "the warm-up is as long as the training")
                .item("train.warmup_steps")
                .expected(format!("fewer than the {steps} steps of `steps`")),
        );
    }
    schedule
}

fn cosine(options: super::CosineOptions) -> Schedule {
    Schedule::Cosine { min_lr: options.min_lr.get() }
}

fn coslog(options: super::CoslogOptions) -> Schedule {
    Schedule::Coslog { cycles: options.cycles.get().min(CYCLES_MAX) }
}

fn plateau(options: super::PlateauOptions, found: &mut Diagnostics) -> Schedule {
    if options.factor.get() == 0.0 {
        let problem = "a learning rate of 0 trains nothing";
        let diagnostic = Diagnostic::new("manifest.train.plateau", problem).item("train.schedule.factor");
        found.push(diagnostic.expected("a number above 0 and below 1"));
    }
    Schedule::Plateau(super::Plateau {
        factor: options.factor.get(),
        patience: options.patience.get(),
        min_lr: options.min_lr.get(),
        metric: options.metric,
        min_delta: options.min_delta.get(),
    })
}

fn one_cycle(options: super::OneCycleOptions) -> Schedule {
    Schedule::OneCycle {
        pct_start: options.pct_start.get(),
        div_factor: options.div_factor.get(),
        final_div_factor: options.final_div_factor.get(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Adam, Precision};
    use super::*;

    fn check(json: &str) -> Result<Train, Diagnostics> {
        let spec: TrainSpec = serde_json::from_str(json).expect("the section reads");
        let again: TrainSpec = serde_json::from_value(serde_json::to_value(&spec).unwrap()).unwrap();
        assert_eq!(spec, again, "what is written reads back");
        spec.validate()
    }

    #[test]
    fn defaults() {
        let expect = Train {
            length: Interval::Epochs(3),
            batch: 32,
            micro_shards: 1,
            optimizer: Optimizer::Adam(Adam::default()),
            lr: 1e-3,
            weight_decay: 0.0,
            param_groups: Vec::new(),
            schedule: Schedule::Constant,
            warmup_steps: 0,
            clip_norm: None,
            clip_value: None,
            loss: None,
            label_smoothing: 0.0,
            decision_threshold: None,
            early_stopping: None,
            checkpoints: CheckpointPolicy { every_steps: None, every_seconds: Some(60.0), keep: 3 },
            drop_last: false,
            shuffle: true,
            sampling: crate::spec::Sampling::Plain,
            class_weights: None,
            evaluate_every: Interval::Epochs(1),
            log_every_steps: None,
            precision: Precision::F32,
        };
        assert_eq!(check(r#"{"epochs": 3}"#).unwrap(), expect);
    }

    #[test]
    fn rates_follow_the_optimiser() {
        for (json, lr, weight_decay) in [
            (r#"{"epochs": 1, "optimizer": "rmsprop"}"#, 1e-2, 0.0),
            (r#"{"epochs": 1, "optimizer": {"name": "adamw"}, "lr": 0.5}"#, 0.5, 1e-2),
            (r#"{"epochs": 1, "optimizer": {"name": "ftrl", "alpha": 0.05, "l1": 1}}"#, 0.05, 0.0),
            (r#"{"epochs": 1, "optimizer": "ftrl", "lr": 0.2}"#, 0.2, 0.0),
            (r#"{"epochs": 1, "optimizer": "sgd", "weight_decay": 0.1}"#, 1e-3, 0.1),
        ] {
            let train = check(json).unwrap();
            assert_eq!((train.lr, train.weight_decay), (lr, weight_decay), "{json}");
        }
    }

    #[test]
    fn groups_take_the_decay_of_all_unless_they_have_their_own() {
        let groups = r#"[{"params": ["*.bias"], "lr_factor": 0.1, "weight_decay": 0}, {"params": ["fc.*"]}]"#;
        let train =
            check(&format!(r#"{{"epochs": 1, "weight_decay": 0.3, "param_groups": {groups}}}"#)).unwrap();
        let group = |name: &str, lr_factor, weight_decay| ParamGroup {
            params: vec![name.into()],
            lr_factor,
            weight_decay,
        };
        assert_eq!(train.param_groups, [group("*.bias", 0.1, 0.0), group("fc.*", 1.0, 0.3)]);
    }

    #[test]
    fn schedules() {
        for (json, expect) in [
            (r#""cosine""#, Schedule::Cosine { min_lr: 0.0 }),
            (r#"{"name": "cosine", "min_lr": 1e-5}"#, Schedule::Cosine { min_lr: 1e-5 }),
            (
                r#"{"name": "step", "every_steps": 30}"#,
                Schedule::Step { every: Interval::Steps(30), gamma: 0.1 },
            ),
            (r#""coslog""#, Schedule::Coslog { cycles: 4 }),
            (r#"{"name": "coslog", "cycles": 2}"#, Schedule::Coslog { cycles: 2 }),
            (
                r#""one-cycle""#,
                Schedule::OneCycle { pct_start: 0.3, div_factor: 25.0, final_div_factor: 1e4 },
            ),
        ] {
            let train = check(&format!(r#"{{"epochs": 1, "schedule": {json}}}"#)).unwrap();
            assert_eq!(train.schedule, expect, "{json}");
        }
    }

    #[test]
    fn contradictions_are_named() {
        for (json, expect) in [
            (r#"{"epochs": 1, "steps": 1}"#, "train.steps: both `epochs` and `steps` are given"),
            (r#"{}"#, "train: `train` has neither `epochs` nor `steps`"),
            (
                r#"{"epochs": 1, "eval_every_epochs": 1, "eval_every_steps": 1}"#,
                "train.eval_every_steps: both `eval_every_epochs` and `eval_every_steps` are given",
            ),
            (r#"{"epochs": 1, "micro_shards": 3}"#, "train.micro_shards: 3 is not a power of two"),
            (
                r#"{"epochs": 1, "batch": 12, "micro_shards": 8}"#,
                "train.micro_shards: a batch of 12 cannot be cut into 8 equal parts",
            ),
            (
                r#"{"epochs": 1, "optimizer": {"name": "ftrl", "alpha": 1}, "lr": 1}"#,
                "train.lr: both `lr` and FTRL's `alpha` are given; they are the same thing",
            ),
            (
                r#"{"epochs": 1, "optimizer": "ftrl", "weight_decay": 0.1}"#,
                "train.weight_decay: FTRL has no weight decay of this kind",
            ),
            (
                r#"{"epochs": 1, "optimizer": "ftrl", "param_groups": [{"params": ["*"], "weight_decay": 0.1}]}"#,
                "train.param_groups[0].weight_decay: FTRL has no weight decay of this kind",
            ),
            (
                r#"{"epochs": 1, "param_groups": [{"params": []}]}"#,
                "train.param_groups[0].params: a group of parameters names none",
            ),
            (
                r#"{"epochs": 1, "schedule": "one-cycle", "warmup_steps": 5}"#,
                "train.warmup_steps: `one-cycle` has its own way up; `warmup_steps` would be a second",
            ),
            (
                r#"{"epochs": 1, "schedule": "coslog", "warmup_steps": 5}"#,
                "train.warmup_steps: `coslog` has its own way up; `warmup_steps` would be a second",
            ),
            (
                r#"{"steps": 5, "warmup_steps": 5}"#,
                "train.warmup_steps: the warm-up is as long as the training",
            ),
            (
                r#"{"epochs": 1, "schedule": {"name": "step"}}"#,
                "train.schedule: `train.schedule` has neither `every_epochs` nor `every_steps`",
            ),
        ] {
            let found = check(json).unwrap_err();
            let lines: Vec<_> = found.0.iter().map(|d| format!("{}: {}", d.place, d.problem)).collect();
            assert_eq!(lines, [expect], "{json}");
        }
    }

    #[test]
    fn micro_shards_say_which_values_would_do() {
        for (batch, micro_shards, hint) in [
            (12, 8, "with a batch of 12, 1, 2 or 4 would do"),
            (7, 2, "with a batch of 7, only 1 would do; a batch that is a multiple of 2 would allow 2"),
        ] {
            let json = format!(r#"{{"epochs": 1, "batch": {batch}, "micro_shards": {micro_shards}}}"#);
            assert_eq!(check(&json).unwrap_err().0[0].hint.as_deref(), Some(hint));
        }
    }

    #[test]
    fn several_problems_are_found_at_once() {
        assert_eq!(check(r#"{"micro_shards": 3, "epochs": 1, "steps": 2}"#).unwrap_err().0.len(), 2);
    }
}
