//! How far a command is: bars on a terminal, a plain line per epoch elsewhere, nothing with `--quiet`. All of it goes
//! to stderr.

use std::io::{self, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::report::format::{metric, metric_name, short_count};

/// How often the text beside a bar changes.
const EVERY: Duration = Duration::from_millis(100);
/// How much of the past counts in the speed that is shown.
const MEMORY: Duration = Duration::from_secs(3);

/// Where training is after a step.
#[derive(Clone, Copy, Debug, Default)]
pub struct StepProgress {
    /// Steps done.
    pub step: u64,
    /// Steps in all.
    pub steps: u64,
    /// The current epoch, counted from 1.
    pub epoch: u64,
    /// Epochs in all.
    pub epochs: u64,
    /// Samples of this step.
    pub samples: u64,
    /// The step's loss.
    pub loss: f64,
    /// The step's fraction of right answers, for classes.
    pub accuracy: Option<f64>,
}

/// Says how far a command is. It may be told from several threads.
#[derive(Debug)]
pub struct Progress {
    show: Show,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Show {
    Bars,
    Lines,
    Nothing,
}

#[derive(Debug)]
struct State {
    bar: Option<ProgressBar>,
    phase: String,
    last_text: Option<Instant>,
    /// When the speed was last reckoned, the samples since, and the speed then.
    since: Option<Instant>,
    samples: u64,
    speed: Option<f64>,
}

impl Progress {
    /// Bars where `interactive`, else lines; nothing when `quiet`.
    pub fn new(interactive: bool, quiet: bool) -> Self {
        let show = match (quiet, interactive) {
            (true, _) => Show::Nothing,
            (false, true) => Show::Bars,
            (false, false) => Show::Lines,
        };
        let state =
            State { bar: None, phase: String::new(), last_text: None, since: None, samples: 0, speed: None };
        Self { show, state: Mutex::new(state) }
    }

    /// How far a phase such as `checking` is, of how much where that is known.
    pub fn phase(&self, name: &str, done: u64, total: Option<u64>) {
        if self.show != Show::Bars {
            return;
        }
        let mut state = self.lock();
        if state.phase != name || state.bar.is_none() {
            state.open(name, total, "{msg:12} {wide_bar:.cyan/dim} {human_pos}/{human_len}  {eta}");
        }
        if let Some(bar) = &state.bar {
            if let Some(total) = total {
                bar.set_length(total);
            }
            bar.set_position(done);
        }
    }

    /// A step of training is done.
    pub fn step(&self, step: &StepProgress) {
        if self.show == Show::Nothing {
            return;
        }
        let mut state = self.lock();
        state.count(step.samples);
        if self.show != Show::Bars {
            return;
        }
        if state.phase != "training" || state.bar.is_none() {
            state.open("training", Some(step.steps), "{wide_bar:.cyan/dim} {msg}  {eta} left");
            // Steps that an earlier process did say nothing about the speed of this one.
            if let Some(bar) = &state.bar {
                bar.set_position(step.step.saturating_sub(1));
                bar.reset_eta();
            }
        }
        let due = state.last_text.is_none_or(|last| last.elapsed() >= EVERY);
        if due || step.step == step.steps {
            state.last_text = Some(Instant::now());
            let text = step_text(step, state.speed);
            if let Some(bar) = &state.bar {
                bar.set_message(text);
                bar.set_position(step.step);
            }
        }
    }

    /// An epoch, or an evaluation within one, is done: one line that stays. Values are named as
    /// [`crate::report::SplitMetrics`] names them; `parts` are such as `train` and `validation`.
    pub fn epoch(&self, epoch: u64, epochs: u64, parts: &[(&str, &[(String, f64)])]) {
        if self.show == Show::Nothing {
            return;
        }
        let speed = self.lock().speed;
        let mut line = format!("epoch {epoch:>width$}/{epochs}", width = epochs.to_string().len());
        for (part, values) in parts {
            for (name, value) in *values {
                line.push_str(&format!("  {part} {} {}", metric_name(name), metric(name, *value)));
            }
        }
        if let Some(speed) = speed {
            line.push_str(&format!("  {} samples/s", short_count(speed)));
        }
        self.line(&line);
    }

    /// One line that stays.
    pub fn line(&self, line: &str) {
        if self.show == Show::Nothing {
            return;
        }
        match &self.lock().bar {
            Some(bar) => bar.suspend(|| write_line(line)),
            None => write_line(line),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.lock().close();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // A panic elsewhere leaves at worst a wrong number on the screen.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

impl State {
    fn open(&mut self, phase: &str, total: Option<u64>, template: &str) {
        self.close();
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        let style = match total {
            Some(_) => ProgressStyle::with_template(template),
            None => ProgressStyle::with_template("{msg:12} {spinner} {human_pos}"),
        };
        // The templates above are constants that are known to be good.
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─"));
        bar.set_message(phase.to_owned());
        self.phase = phase.to_owned();
        self.last_text = None;
        self.bar = Some(bar);
    }

    fn close(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// Reckons the speed: what was counted lately weighs most.
    fn count(&mut self, samples: u64) {
        // The first step only starts the clock: what came before it was no training.
        let Some(since) = self.since else {
            self.since = Some(Instant::now());
            return;
        };
        self.samples += samples;
        let elapsed = since.elapsed();
        if elapsed < EVERY {
            return;
        }
        let now = self.samples as f64 / elapsed.as_secs_f64();
        let weight = (elapsed.as_secs_f64() / MEMORY.as_secs_f64()).min(1.0);
        self.speed = Some(self.speed.map_or(now, |before| before + weight * (now - before)));
        (self.samples, self.since) = (0, Some(Instant::now()));
    }
}

fn step_text(step: &StepProgress, speed: Option<f64>) -> String {
    let mut text = format!("epoch {}/{}  loss {}", step.epoch, step.epochs, metric("loss", step.loss));
    if let Some(accuracy) = step.accuracy {
        text.push_str(&format!("  accuracy {}", metric("accuracy", accuracy)));
    }
    if let Some(speed) = speed {
        text.push_str(&format!("  {} samples/s", short_count(speed)));
    }
    text
}

fn write_line(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_says_epoch_loss_and_speed() {
        let step = StepProgress {
            epoch: 3,
            epochs: 10,
            loss: 0.12345,
            accuracy: Some(0.5),
            ..StepProgress::default()
        };
        assert_eq!(
            step_text(&step, Some(12_345.0)),
            "epoch 3/10  loss 0.1235  accuracy 50.0 %  12.3 k samples/s"
        );
        assert_eq!(step_text(&StepProgress { accuracy: None, ..step }, None), "epoch 3/10  loss 0.1235");
    }
}
