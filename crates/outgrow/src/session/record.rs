//! Listens to training: progress on the terminal, metrics in `metrics.jsonl`, and the curves of the report.

use std::path::{Path, PathBuf};

use outgrow_ir::Diagnostics;
use outgrow_store::{EventFile, JsonLines, StoreError};
use outgrow_train::spec::{Interval, Train};
use outgrow_train::{Metrics, TrainEvent, TrainObserver};
use serde_json::{Value as Json, json};

use super::outcome::Usage;
use super::telling::{Line, Telling};
use super::usage::Meter;
use crate::context::Context;
use crate::progress::{Progress, StepProgress};
use crate::report::format::metric_name;

/// Writes down what training tells.
pub struct Recorder<'a> {
    progress: &'a Progress,
    context: &'a Context,
    path: PathBuf,
    /// How often a step is written, as the manifest says.
    every: Option<u64>,
    log: Option<JsonLines>,
    /// When lines were last brought to the file, by the clock.
    written_at: u64,
    /// The lines so far, those of an earlier process included.
    lines: Vec<Json>,
    steps: u64,
    steps_per_epoch: u64,
    /// Training since the last evaluation, or line of an epoch.
    mean: Mean,
    telling: Telling,
    evaluate_every: Interval,
    /// What the processor does meanwhile, when somebody wants to know.
    pub meter: Option<Meter>,
    /// Whether evaluations come while training, which have lines on the terminal. Otherwise epochs have.
    pub evaluates: bool,
    /// Whether all is to be written for TensorBoard as well.
    pub tensorboard: bool,
    events: Option<EventFile>,
    failed: Option<Diagnostics>,
}

/// The mean loss over samples.
#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    sum: f64,
    samples: f64,
}

impl Mean {
    fn add(&mut self, loss: f64, samples: usize) {
        self.sum += loss * samples as f64;
        self.samples += samples as f64;
    }

    /// The mean under its name, if there is one; a new one begins.
    fn take(&mut self) -> Vec<(String, f64)> {
        let Self { sum, samples } = std::mem::take(self);
        if samples > 0.0 { vec![("loss".to_owned(), sum / samples)] } else { Vec::new() }
    }
}

/// Without validation data, a run has at most about so many lines on the terminal, and elsewhere.
const EPOCH_LINES: [u64; 2] = [100, 20];

/// So long, in nanoseconds, lines wait to be seen in the file.
const SHOWN_EVERY_NS: u64 = 1_000_000_000;

/// When the manifest does not say how often, a run has about so many lines.
const LINES: u64 = 1000;

impl<'a> Recorder<'a> {
    /// Writes to `path` what it is told of training by this configuration, and shows it.
    pub fn new(progress: &'a Progress, context: &'a Context, path: PathBuf, train: &Train) -> Self {
        Self {
            progress,
            context,
            path,
            every: train.log_every_steps,
            telling: Telling::new(train),
            evaluate_every: train.evaluate_every,
            log: None,
            written_at: context.world.clock.now_ns(),
            lines: Vec::new(),
            steps: 0,
            steps_per_epoch: 1,
            mean: Mean::default(),
            meter: None,
            evaluates: false,
            tensorboard: false,
            events: None,
            failed: None,
        }
    }

    /// Makes everything durable, and gives all lines of the run.
    pub fn finish(mut self) -> Result<Vec<Json>, Diagnostics> {
        self.flush();
        self.tell_rest();
        self.progress.finish();
        match self.failed {
            Some(failed) => Err(failed),
            None => Ok(self.lines),
        }
    }

    /// How the processor was used since the meter was started.
    pub fn usage(&self) -> Usage {
        self.meter.as_ref().map_or_else(|| Usage::new(0.0, Vec::new()), Meter::usage)
    }

    fn begin(&mut self, step: u64) {
        match JsonLines::resume(self.context.world.storage.clone(), self.path.clone(), step) {
            Ok((log, before)) => {
                for problem in &before.damaged.0 {
                    self.progress.line(&format!("warning: {problem}"));
                }
                self.lines = before.lines;
                self.log = Some(log);
                let name = self.telling.metric().name();
                for line in self.lines.iter().filter(|line| line["split"] == "validation") {
                    self.telling.observe(line[name].as_f64());
                }
            }
            Err(error) => self.fail(error.into_diagnostics()),
        }
        if self.tensorboard
            && let Err(error) = self.begin_events(step)
        {
            self.fail(error.into_diagnostics());
        }
    }

    /// Begins an event file. Where there was none before, it has all lines so far.
    fn begin_events(&mut self, step: u64) -> Result<(), StoreError> {
        let world = &self.context.world;
        let (unix_s, folder) = (world.clock.unix_s(), self.path.parent().unwrap_or(Path::new("")));
        let mut events = EventFile::begin(world.storage.clone(), folder, unix_s, step)?;
        let before = if events.is_first() { &self.lines[..] } else { &[] };
        for line in before {
            event(&mut events, line, unix_s as f64)?;
        }
        self.events = Some(events);
        Ok(())
    }

    /// What cannot be logged stops training at the next checkpoint, and the run does not count as done.
    fn fail(&mut self, problem: Diagnostics) {
        self.failed.get_or_insert(problem);
        self.log = None;
        self.events = None;
    }

    fn push(&mut self, line: Json) {
        let result = self.log.as_mut().map_or(Ok(()), |log| log.push(&line));
        let now = self.context.world.clock.unix_s() as f64;
        let result =
            result.and_then(|()| self.events.as_mut().map_or(Ok(()), |file| event(file, &line, now)));
        self.lines.push(line);
        if let Err(error) = result {
            self.fail(error.into_diagnostics());
        }
    }

    /// Has what waits written now and then, for who follows the file; the step does not wait for the disk.
    fn show(&mut self) {
        let now = self.context.world.clock.now_ns();
        if now - self.written_at < SHOWN_EVERY_NS {
            return;
        }
        self.written_at = now;
        let log = self.log.as_mut().map_or(Ok(()), JsonLines::flush_beside);
        let all = log.and_then(|()| self.events.as_mut().map_or(Ok(()), EventFile::flush_beside));
        if let Err(error) = all {
            self.fail(error.into_diagnostics());
        }
    }

    fn flush(&mut self) {
        let log = self.log.as_mut().map_or(Ok(()), JsonLines::flush);
        let all = log.and_then(|()| self.events.as_mut().map_or(Ok(()), EventFile::flush));
        if let Err(error) = all {
            self.fail(error.into_diagnostics());
        }
    }

    fn tell(&self, line: &Line) {
        let parts = [("train", &line.train[..]), ("validation", &line.validation)];
        self.progress.epoch(line.epoch, self.epochs(), &parts);
    }

    /// Tells of the evaluations that have waited for that.
    fn tell_rest(&mut self) {
        for line in self.telling.rest() {
            self.tell(&line);
        }
    }

    fn epochs(&self) -> u64 {
        self.steps.div_ceil(self.steps_per_epoch)
    }
}

/// Writes a line's numbers for TensorBoard, as `loss/train` and so on: what has the same beginning is drawn side by side.
fn event(events: &mut EventFile, line: &Json, unix_s: f64) -> Result<(), StoreError> {
    let (Some(split), Some(step), Some(fields)) =
        (line["split"].as_str(), line["step"].as_u64(), line.as_object())
    else {
        return Ok(());
    };
    let number = |(name, value): (&String, &Json)| Some((format!("{name}/{split}"), value.as_f64()?));
    let told = fields.iter().filter(|(name, _)| !["step", "epoch", "split"].contains(&name.as_str()));
    events.scalars(unix_s, step, &told.filter_map(number).collect::<Vec<_>>())
}

/// The metrics that apply, by name.
pub fn values(metrics: &Metrics) -> Vec<(String, f64)> {
    metrics.all().map(|(metric, value)| (metric.name().to_owned(), value)).collect()
}

impl TrainObserver for Recorder<'_> {
    fn on_event(&mut self, event: &TrainEvent<'_>) {
        match event {
            TrainEvent::Started { step, steps, steps_per_epoch, .. } => {
                (self.steps, self.steps_per_epoch) = (*steps, *steps_per_epoch);
                self.begin(*step);
                if self.progress.is_plain() {
                    let every = self.evaluate_every.steps(*steps_per_epoch).max(1);
                    self.telling.thin((steps - step).div_ceil(every));
                }
                if *step > 0 {
                    self.progress.line(&format!("going on after step {step} of {steps}"));
                }
            }
            TrainEvent::Step { step, epoch, loss, accuracy, lr, samples } => {
                self.mean.add(*loss, *samples);
                if let Some(meter) = &mut self.meter {
                    meter.tick();
                }
                self.progress.step(&StepProgress {
                    step: *step,
                    steps: self.steps,
                    epoch: epoch + 1,
                    epochs: self.epochs(),
                    samples: *samples as u64,
                    loss: *loss,
                    accuracy: *accuracy,
                });
                let every = self.every.unwrap_or_else(|| self.steps.div_ceil(LINES).max(1));
                if step % every == 0 || *step == 1 || *step == self.steps {
                    let mut line =
                        json!({ "step": step, "epoch": epoch, "split": "train", "loss": loss, "lr": lr });
                    if let Some(accuracy) = accuracy {
                        line["accuracy"] = json!(accuracy);
                    }
                    self.push(line);
                }
            }
            TrainEvent::Evaluated { step, epoch, metrics } => {
                let mut line = json!({ "step": step, "epoch": epoch, "split": "validation" });
                let values = values(metrics);
                for (name, value) in &values {
                    line[name] = json!(value);
                }
                self.push(line);
                let train = self.mean.take();
                let chief = metrics.all().filter(|(metric, _)| metric.is_chief());
                let validation = chief.map(|(metric, value)| (metric.name().to_owned(), value)).collect();
                let line = Line { epoch: epoch + 1, train, validation };
                let (value, now) = (metrics.get(self.telling.metric()), self.context.world.clock.now_ns());
                for line in self.telling.next(line, value, *step == self.steps, now) {
                    self.tell(&line);
                }
            }
            TrainEvent::EpochEnded { step, epoch } if !self.evaluates => {
                let lines = EPOCH_LINES[usize::from(self.progress.is_plain())];
                let every = self.epochs().div_ceil(lines).max(1);
                if (epoch + 1).is_multiple_of(every) || *step == self.steps {
                    let train = self.mean.take();
                    if !train.is_empty() {
                        self.progress.epoch(epoch + 1, self.epochs(), &[("train", &train)]);
                    }
                }
            }
            TrainEvent::Skipped { problem } => {
                self.progress.line(&format!("warning: a checkpoint is passed over: {problem}"));
            }
            TrainEvent::Plateau { step, metric } => {
                let metric = metric_name(metric.name());
                self.progress.line(&format!(
                    "the learning rate falls after step {step}: the validation {metric} no longer gets better"
                ));
            }
            TrainEvent::StoppedEarly { step } => {
                self.tell_rest();
                self.progress.line(&format!("stopped after step {step}: the metric no longer gets better"));
            }
            _ => {}
        }
        self.show();
    }

    fn is_asked_to_end(&mut self) -> bool {
        self.context.interrupt.signal().is_some()
    }

    /// The lines of later steps are taken away again when a run goes on from an earlier checkpoint; those before it
    /// are never written again. What cannot be logged therefore stops training before the next checkpoint.
    fn sync(&mut self) -> Result<(), Diagnostics> {
        self.flush();
        self.failed.clone().map_or(Ok(()), Err)
    }
}
