//! Runs that go on to another length than they were begun with: what a run is known by, when its length may change, and
//! whether that comes to the same as one run of the new length.

use outgrow_data::{Dataset, Split};
use outgrow_ir::{Diagnostic, Diagnostics, counted};
use outgrow_train::defaults::Known;
use outgrow_train::spec::{Interval, Schedule, Train};
use serde::{Deserialize, Serialize};

use super::folder::RunFolder;
use super::{Session, known};

/// What a run is known by.
#[derive(Clone, Debug)]
pub struct Identity {
    /// All that its numbers depend on.
    pub fingerprint: String,
    /// The same, however long it trains.
    pub without_length: String,
    /// How long it trains.
    pub length: Interval,
    /// What was known of its data, by which models with a training of their own fill in what the manifest leaves out.
    pub known: Known,
}

/// A length that a run had before it went on to another one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Earlier {
    /// What the run was known by, and its checkpoints of that time are.
    pub fingerprint: String,
    /// The length.
    pub length: Interval,
    /// Steps that were done when it went on.
    pub step: u64,
    /// Why it does not come to the same as one run of the new length, if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub differs: Option<String>,
}

impl Session<'_> {
    /// What a run on this data is known by.
    ///
    /// # Errors
    /// When a file that the run starts from cannot be read.
    pub fn run_identity(&self, data: &Dataset) -> Result<Identity, Diagnostics> {
        Ok(Identity {
            fingerprint: self.fingerprint(data)?,
            without_length: self
                .fingerprint_of(&self.manifest.fingerprint_without_length(Some(known(data))), data)?,
            length: self.train(data).length,
            known: known(data),
        })
    }

    /// Has the run in a folder go on to the length that is asked for, where it was begun with another one. Nothing is
    /// written yet.
    ///
    /// # Errors
    /// When more than that length is done already, or there is nothing to go on from.
    pub(super) fn go_on_to_length(&self, folder: &mut RunFolder, data: &Dataset) -> Result<(), Diagnostics> {
        let Some(before) = folder.before().cloned() else { return Ok(()) };
        let train = self.train(data);
        let per_epoch = train.steps_per_epoch(data.samples(Split::Train));
        let Some(step) = folder.newest_step()? else {
            if before.ended {
                return Err(folder.no_checkpoint("it is to train longer").into());
            }
            return Ok(());
        };
        if step > train.length.steps(per_epoch) {
            return Err(too_far(step, per_epoch, folder, train.length).into());
        }
        let differs = if step == 0 { None } else { why_not_one_run(&train, before.length, step, per_epoch) };
        self.context.note(&told(&train, before.length, step, differs.as_deref()));
        folder.go_on(Earlier { fingerprint: before.fingerprint, length: before.length, step, differs });
        Ok(())
    }
}

fn told(train: &Train, before: Interval, step: u64, differs: Option<&str>) -> String {
    let to = train.length;
    let same = match differs {
        None => format!("the result is that of one run of {to}"),
        Some(why) => {
            format!("the result is not that of one run of {to} (which --fresh would give), for {why}")
        }
    };
    let schedule = train.schedule.name();
    format!(
        "the run was to have {before} and goes on to {to}, after step {step}, on its `{schedule}` schedule: {same}"
    )
}

/// Why steps that were taken under another length make a difference, if they do.
fn why_not_one_run(train: &Train, before: Interval, step: u64, per_epoch: u64) -> Option<String> {
    let (from, to) = (before.steps(per_epoch), train.length.steps(per_epoch));
    if from == to {
        return None;
    }
    if train.schedule.depends_on_length() {
        return Some(format!("its first {} had the learning rates of {before}", counted(step, "step")));
    }
    // A run's last step is followed by an evaluation, at whatever step that is.
    let every = train.evaluate_every.steps(per_epoch);
    let between = [from, to].contains(&step) && !step.is_multiple_of(every);
    let watcher = match (train.early_stopping, train.schedule) {
        (Some(_), _) => "early stopping",
        (_, Schedule::Plateau(_)) => "the schedule",
        _ => return None,
    };
    between.then(|| {
        format!("{watcher} looks at the evaluation after the last step, and step {step} was or is now that")
    })
}

fn too_far(step: u64, per_epoch: u64, folder: &RunFolder, length: Interval) -> Diagnostic {
    let least = match length {
        Interval::Epochs(_) => Interval::Epochs(step.div_ceil(per_epoch.max(1))),
        Interval::Steps(_) => Interval::Steps(step),
    };
    Diagnostic::new(
        "run.shorter",
        format!("the run has done {}, which is more than {length}", counted(step, "step")),
    )
    .file(folder.path())
    .expected(format!("at least {least}"))
    .hint("choose another --out, or start anew with --fresh")
}

#[cfg(test)]
mod tests {
    use super::*;
    use outgrow_train::spec::TrainSpec;

    /// Whether a run whose epochs have 10 steps, and of which `step` steps are done under `before`, comes to the same
    /// as one run of the length in `train`.
    fn is_one_run(train: &str, before: Interval, step: u64) -> bool {
        let train: TrainSpec = serde_json::from_str(train).unwrap();
        why_not_one_run(&train.validate().unwrap(), before, step, 10).is_none()
    }

    #[test]
    fn what_depends_on_the_length_is_told() {
        use Interval::{Epochs, Steps};
        for (train, before, step, same) in [
            (r#"{"epochs": 4}"#, Epochs(2), 20, true),
            (r#"{"epochs": 4, "warmup_steps": 30}"#, Epochs(2), 20, true),
            (r#"{"epochs": 4, "schedule": {"name": "step", "every_epochs": 1}}"#, Epochs(2), 20, true),
            (r#"{"epochs": 4, "schedule": "cosine"}"#, Epochs(2), 20, false),
            (r#"{"epochs": 4, "schedule": "cosine"}"#, Steps(40), 20, true),
            (r#"{"epochs": 4, "schedule": "one-cycle"}"#, Epochs(8), 20, false),
            (r#"{"epochs": 4, "schedule": "coslog"}"#, Epochs(2), 5, false),
            // Evaluations come after whole epochs, and after the last step.
            (r#"{"epochs": 4, "early_stopping": {}}"#, Epochs(2), 20, true),
            (r#"{"steps": 40, "early_stopping": {}}"#, Steps(25), 25, false),
            (r#"{"steps": 40, "early_stopping": {}}"#, Steps(25), 15, true),
            (r#"{"steps": 25, "early_stopping": {}}"#, Steps(40), 25, false),
            (r#"{"steps": 40}"#, Steps(25), 25, true),
            (r#"{"epochs": 4, "schedule": "plateau"}"#, Epochs(2), 20, true),
            (r#"{"steps": 40, "schedule": "plateau"}"#, Steps(25), 25, false),
        ] {
            assert_eq!(is_one_run(train, before, step), same, "{train} {before} {step}");
        }
    }
}
