//! How long a run will take and how much memory, said before its first step.

use outgrow_data::{Dataset, Split};
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_runtime::collective::Group;
use outgrow_train::defaults::is_pretuned;
use outgrow_train::spec::Interval;
use outgrow_train::{Rehearsal, Trainer};
use serde_json::{Value as Json, json};

use super::group::{REHEARSED, measure_links};
use super::understood::{pretuned, say_precision, understood};
use super::{DatasetBatches, Session, decision, early_stopping};
use crate::context::Failure;
use crate::report::format::{bytes, counted, seconds};

/// What a few timed steps say of all that are left.
#[derive(Clone, Copy, Debug)]
pub struct Estimate {
    steps: u64,
    rehearsal: Rehearsal,
    /// Evaluations that are left while training, and the batches of all that are evaluated.
    evaluations: u64,
    evaluated_batches: u64,
    memory_bytes: u64,
}

impl Estimate {
    /// For what a trainer has left to do with this data, and with `evaluate` for the evaluation at the end.
    ///
    /// # Errors
    /// As [`Trainer::rehearse`].
    pub fn new(
        trainer: &mut Trainer,
        data: &Dataset,
        batches: &DatasetBatches,
        evaluate: bool,
    ) -> Result<Self, Diagnostics> {
        let rehearsal = trainer.rehearse(batches)?;
        let (total, samples) = (trainer.total_steps(data.samples(Split::Train)), data.samples(Split::Train));
        let steps = total - trainer.state.step.min(total);
        let train = trainer.config();
        let every = match train.evaluate_every {
            Interval::Steps(steps) => steps,
            Interval::Epochs(epochs) => epochs.saturating_mul(trainer.steps_per_epoch(samples)),
        };
        let of = |split| data.samples(split).div_ceil(train.batch as u64);
        let evaluations = match data.samples(Split::Validation) {
            0 => 0,
            _ => steps.div_ceil(every.max(1)),
        };
        let last: u64 = if evaluate { Split::ALL.into_iter().map(of).sum() } else { 0 };
        let evaluated_batches = evaluations.saturating_mul(of(Split::Validation)).saturating_add(last);
        let memory_bytes = trainer.memory_bytes();
        Ok(Self { steps, rehearsal, evaluations, evaluated_batches, memory_bytes })
    }

    fn train_seconds(&self) -> f64 {
        self.steps as f64 * self.rehearsal.step_seconds
    }

    fn evaluation_seconds(&self) -> Option<f64> {
        Some(self.evaluated_batches as f64 * self.rehearsal.evaluated_batch_seconds?)
    }

    /// For machines.
    pub fn to_json(self) -> Json {
        json!({
            "steps": self.steps,
            "step_seconds": self.rehearsal.step_seconds,
            "train_seconds": self.train_seconds(),
            "evaluations": self.evaluations,
            "evaluation_seconds": self.evaluation_seconds(),
            "memory_bytes": self.memory_bytes,
        })
    }
}

/// An estimate for people, of its form for machines.
pub fn line(estimate: &Json) -> String {
    let number = |key: &str| estimate[key].as_f64();
    let time = |key: &str| seconds(number(key).unwrap_or(f64::NAN));
    let whole = |key: &str| estimate[key].as_u64().unwrap_or_default();
    let mut line = format!(
        "{:<10}  {} of {}: {} of training",
        "estimate",
        counted(whole("steps"), "step"),
        time("step_seconds"),
        time("train_seconds")
    );
    if number("evaluation_seconds").is_some() {
        line += &format!(" and {} of evaluation", time("evaluation_seconds"));
    }
    line + &format!("; {} of memory", bytes(whole("memory_bytes")))
}

impl Session<'_> {
    /// All of a run that comes before its first step, with an estimate in place of that. No run's folder is looked at or
    /// written to.
    ///
    /// # Errors
    /// What a run would fail by before its first step.
    pub fn dry_run(&self, evaluate: bool, group: Option<Group>) -> Result<Json, Failure> {
        let locate = |found: Diagnostic| self.manifest.locate(found.into());
        early_stopping::declared(&self.manifest).map_err(locate)?;
        decision::declared(&self.manifest).map_err(locate)?;
        let data = self.data()?.0;
        if let Some(group) = &group {
            self.tell_data(&data, &mut group.lock())?;
            self.agree(&data, &mut group.lock())?;
        }
        let model = self.model(&data)?;
        early_stopping::watched(&self.manifest, &data, &model.target).map_err(locate)?;
        decision::possible(&self.manifest, &data, &model.target).map_err(locate)?;
        if let Some(group) = &group {
            self.tell_state(REHEARSED, &mut group.lock())?;
            measure_links(&mut group.lock())?;
        }
        let batches = self.checked_batches(&data)?;
        let mut trainer = self.trainer_of_group(&data, model, None, group.clone())?;
        if let Some(group) = &group {
            self.agree_on_programs(&trainer, &mut group.lock())?;
        }
        trainer.share_state()?;
        let mut json = Estimate::new(&mut trainer, &data, &batches, evaluate)?.to_json();
        json["dry_run"] = json!(true);
        Ok(json)
    }

    /// The batches of this data, once it is said what it was taken for and found to be enough.
    ///
    /// # Errors
    /// When it is not enough for a step.
    pub(super) fn checked_batches(&self, data: &Dataset) -> Result<DatasetBatches, Failure> {
        let locate = |found: Diagnostic| self.manifest.locate(found.into());
        let context = self.context;
        let (train, samples) = (self.train(data), data.samples(Split::Train));
        context.note(&understood(data));
        say_precision(self.manifest.asked_precision(), train.precision, self.cpu.path, context);
        if is_pretuned(&self.manifest.model) {
            context.note(&pretuned(&train, samples));
        }
        train.check_samples(samples).map_err(locate)?;
        let asked = self.manifest.spec.train.batch.map_or(0, |batch| batch.get() as usize);
        if train.batch < asked {
            let rows = train.batch;
            context.note(&format!(
                "note: `train.batch = {asked}` is more than there is to train on, and is cut to {rows}"
            ));
        }
        let batches = self.batches(data)?;
        batches.check().map_err(locate)?;
        Ok(batches)
    }
}
