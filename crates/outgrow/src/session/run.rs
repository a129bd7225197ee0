//! A whole run: data, training, evaluation, model and report.

use outgrow_data::Split;
use outgrow_data::replicas::Fault;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_predict::MODEL_FOLDER;
use outgrow_runtime::collective::Group;
use outgrow_train::Trainer;
use serde_json::{Value as Json, json};

use super::best::Best;
use super::estimate::{Estimate, line};
use super::folder::{Ending, REPORT, RunFolder};
use super::group::{EVALUATED, FINISHED, TRAINED, measure_links, timelines};
use super::{
    Recorder, RunResult, Session, decision, early_stopping, evaluate_run, known, package, page, usage,
    verbose, weights,
};
use crate::context::{Failure, Interrupted};
use crate::latest;
use crate::places::RunPlace;
use crate::profile::{Profile, limits, trace};
use crate::report::render;

/// The file of the trace.
const TRACE: &str = "trace.json";

impl Session<'_> {
    /// Runs the manifest into a folder, or goes on with what an earlier process began there, and gives the result for
    /// machines. With `evaluate`, the final weights are evaluated and a report is written.
    /// In a group, this is the first worker, which alone writes.
    pub fn run(
        &self,
        place: &RunPlace,
        fresh: bool,
        evaluate: bool,
        group: Option<Group>,
    ) -> Result<Json, Failure> {
        let context = self.context;
        // What needs no look at the data is said before it is prepared.
        let locate = |found: Diagnostic| self.manifest.locate(found.into());
        early_stopping::declared(&self.manifest).map_err(locate)?;
        decision::declared(&self.manifest).map_err(locate)?;
        let mut at = context.world.clock.now_ns();
        let data = self.data_of_place(place, fresh)?;
        at = context.took("data", at);
        if let Some(group) = &group {
            self.tell_data(&data, &mut group.lock())?;
            self.agree(&data, &mut group.lock())?;
        }
        let model = self.model(&data)?;
        early_stopping::watched(&self.manifest, &data, &model.target).map_err(locate)?;
        decision::possible(&self.manifest, &data, &model.target).map_err(locate)?;
        let mut folder = self.open_folder(place, &self.run_identity(&data)?, fresh)?;
        let path = &folder.path().to_owned();
        self.go_on_to_length(&mut folder, &data)?;
        let ending = folder.ending(evaluate)?;
        if let Some(group) = &group {
            let left = match ending {
                Ending::Whole(_) => FINISHED,
                _ if evaluate => EVALUATED,
                _ => TRAINED,
            };
            self.tell_state(left, &mut group.lock())?;
        }
        let lacking = match ending {
            Ending::Whole(result) => {
                context.note(&format!("the run in {} is finished; --fresh starts it anew", path.display()));
                return Ok(result);
            }
            Ending::Lacking(what) => Some(what),
            Ending::Open => None,
        };
        if let Some(group) = &group {
            measure_links(&mut group.lock())?;
        }
        let samples = data.samples(Split::Train);
        let batches = self.checked_batches(&data)?;
        at = context.took("the model's graph", at);
        let checkpoints = folder.checkpoints(self.manifest.train.checkpoints.keep);
        let mut trainer = self.trainer_of_group(&data, model, Some(checkpoints), group.clone())?;
        if let Some(group) = &group {
            self.agree_on_programs(&trainer, &mut group.lock())?;
        }
        at = context.took("gradients, passes and programs", at);
        verbose::compiled(&trainer, path, context);
        // From here on, what is done is worth keeping.
        let caught = context.interrupt.catch()?;
        // Only now: whatever is wrong with what was asked for leaves the folder as it was.
        folder.begin(&self.manifest.resolved_toml(Some(known(&data))), &self.roots())?;
        latest::point(context, path);
        let progress = context.progress();
        let mut recorder = Recorder::new(&progress, context, folder.file("metrics.jsonl"), trainer.config());
        recorder.tensorboard = self.manifest.spec.report.is_some_and(|report| report.tensorboard);
        weights::told(self, trainer.model()).iter().for_each(|line| context.note(line));
        let resumed = trainer.resume(&mut recorder)?;
        match &lacking {
            Some(what) if !resumed => return Err(folder.no_checkpoint(what).into()),
            Some(what) => context.note(&format!(
                "the run in {} has ended, but {what}: it is completed from its last checkpoint",
                path.display()
            )),
            None if folder.before().is_some() && trainer.state.stopped => context.note(
                "early stopping has ended the run before: it does not go on, and neither would a run of another length \
                 on the same schedule",
            ),
            None => {}
        }
        trainer.share_state()?;
        // Nobody waits for what nobody reads; and in a group, each worker would need memory for one more state.
        let is_read = !context.quiet && !context.json && group.is_none();
        if is_read && !trainer.state.stopped && trainer.state.step < trainer.total_steps(samples) {
            let estimate = Estimate::new(&mut trainer, &data, &batches, evaluate)?;
            context.note(&line(&estimate.to_json()));
        }
        at = context.took("beginning", at);
        recorder.evaluates = data.samples(Split::Validation) > 0;
        recorder.meter = Some(usage::Meter::start(self));
        let traffic = |group: &Group| group.lock().traffic();
        let before = group.as_ref().map(traffic).unwrap_or_default();
        let trained = trainer.run(&batches, &mut recorder);
        let during = group.as_ref().map(|group| traffic(group).since(&before)).unwrap_or_default();
        let usage = recorder.usage();
        // What was logged is kept, also when training failed.
        let lines = recorder.finish();
        let trained = trained?;
        let lines = lines?;
        at = context.took("training and its evaluations", at);
        if let Some(signal) = context.interrupt.signal() {
            let (run, step, steps) = (path.clone(), trained.steps, trainer.total_steps(samples));
            return Err(Failure::Interrupted(Box::new(Interrupted { signal, run, step, steps })));
        }
        // The last state is saved: whatever ends the process now, the same command does the rest.
        drop(caught);
        let timelines = match &group {
            Some(group) => timelines(&mut group.lock())?,
            None => Vec::new(),
        };
        decision::choose(&mut trainer, &batches, context)?;
        package(self, &data, &trainer)?.save(&*self.context.world.storage, &folder.file(MODEL_FOLDER))?;
        at = context.took("the package", at);
        let mut result =
            if evaluate { evaluate_run(&mut trainer, &data, &batches)? } else { RunResult::default() };
        result.decision = decision::of(&trainer, &data);
        at = context.took("the last evaluation", at);
        let best = Best::of(&lines, trainer.config());
        let mut json = result.to_json(self, path, &trainer, &usage, best.as_ref())?;
        if folder.earlier().iter().any(|earlier| earlier.differs.is_some()) {
            json["earlier_lengths"] = json!(folder.earlier());
        }
        if let Some(group) = &group {
            self.add_group(&mut json, &group.lock(), &during);
        }
        if context.profile {
            json["trace"] = json!(keep_profile(self, &trainer, &folder)?);
        }
        if evaluate {
            let mut report = page::report(self, &data, &trainer, &result, &lines, &usage, &json);
            report.workers = timelines.iter().map(page::course).collect();
            folder.write(REPORT, render(&report).as_bytes())?;
            context.took("the report", at);
        }
        if let Some(warning) = result.warning() {
            context.note(&warning);
        }
        folder.finish(&json)?;
        for Fault { place, key, problem } in data.faults() {
            context.note(&format!(
            "warning: {place}/{key}: {problem}; another copy served, and `outgrow data verify --repair` restores it"
        ));
        }
        Ok(json)
    }
}

/// Writes what the profiled steps took as a trace, says it as a table, and gives the trace's path.
fn keep_profile(session: &Session<'_>, trainer: &Trainer, folder: &RunFolder) -> Result<String, Diagnostics> {
    let machine = limits(&session.cpu, session.context);
    let (steps, runs) = trainer.profile();
    let events = trace(steps, runs, &session.manifest.name, &machine);
    folder.write(TRACE, format!("{events}\n").as_bytes())?;
    let (steps, runs) = trainer.profile();
    session.context.note(Profile::of(steps, runs, &machine).text("the gradients").trim_end());
    Ok(folder.file(TRACE).display().to_string())
}
