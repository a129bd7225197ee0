//! How far a command is: bars on a terminal; elsewhere a plain line per epoch, and now and then one in between, unless
//! machines read along; nothing with `--quiet`. All of it goes to stderr.

use std::io::{self, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::report::format::{metric, metric_name, seconds, short_count};

/// How often the text beside a bar changes.
const EVERY: Duration = Duration::from_millis(100);
/// How long nothing is said where there are lines.
const SILENCE_MAX: Duration = Duration::from_secs(10);
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
    /// Lines of what is done, and of what goes on meanwhile.
    Lines,
    /// Lines of what is done.
    Results,
    Nothing,
}

#[derive(Debug)]
struct State {
    bar: Option<ProgressBar>,
    phase: String,
    last_text: Option<Instant>,
    /// When a line was written last.
    last_line: Instant,
    /// The first step that was told, and when.
    first: Option<(u64, Instant)>,
    /// When the speed was last reckoned, the samples since, and the speed then.
    since: Option<Instant>,
    samples: u64,
    speed: Option<f64>,
}

impl Progress {
    /// Bars where `interactive`, else lines, for machines (`json`) only of what is done; nothing when `quiet`.
    pub fn new(interactive: bool, json: bool, quiet: bool) -> Self {
        let show = match (quiet, interactive, json) {
            (true, ..) => Show::Nothing,
            (false, true, _) => Show::Bars,
            (false, false, true) => Show::Results,
            (false, false, false) => Show::Lines,
        };
        let state = State {
            bar: None,
            phase: String::new(),
            last_text: None,
            last_line: Instant::now(),
            first: None,
            since: None,
            samples: 0,
            speed: None,
        };
        Self { show, state: Mutex::new(state) }
    }

    /// How far a phase such as `checking` is, of how much where that is known.
    pub fn phase(&self, name: &str, done: u64, total: Option<u64>) {
        if self.show == Show::Lines {
            let mut state = self.lock();
            if state.is_silent_for(SILENCE_MAX) {
                state.write(&phase_text(name, done, total));
            }
        }
        if self.show != Show::Bars {
            return;
        }
        let mut state = self.lock();
        if state.phase != name || state.bar.is_none() {
            state.open(name, total, "{msg:12} {wide_bar:.cyan/dim} {human_pos}/{human_len}  {left}");
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
        let (first, at) = *state.first.get_or_insert_with(|| (step.step, Instant::now()));
        let left = time_left(step.step - first, step.steps - step.step, at.elapsed());
        if self.show == Show::Lines && state.is_silent_for(SILENCE_MAX) {
            let text = step_text(step, state.speed, left);
            state.write(&format!("step {} of {}  {text}", step.step, step.steps));
        }
        if self.show != Show::Bars {
            return;
        }
        if state.phase != "training" || state.bar.is_none() {
            state.open("training", Some(step.steps), "{wide_bar:.cyan/dim} {msg}");
        }
        let due = state.last_text.is_none_or(|last| last.elapsed() >= EVERY);
        if due || step.step == step.steps {
            state.last_text = Some(Instant::now());
            let text = step_text(step, state.speed, left);
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

    /// Whether lines go somewhere else than to a terminal, where nobody wants one for each of many epochs.
    pub fn is_plain(&self) -> bool {
        self.show != Show::Bars
    }

    /// One line that stays.
    pub fn line(&self, line: &str) {
        if self.show == Show::Nothing {
            return;
        }
        self.lock().write(line);
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
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─");
        // Nothing is known of the time before something is done.
        let left = |state: &ProgressState, text: &mut dyn std::fmt::Write| {
            if state.pos() > 0 && !state.eta().is_zero() {
                let _ = write!(text, "{} left", seconds(state.eta().as_secs_f64()));
            }
        };
        bar.set_style(style.with_key("left", left));
        bar.set_message(phase.to_owned());
        self.phase = phase.to_owned();
        self.last_text = None;
        self.bar = Some(bar);
    }

    /// Writes a line that stays.
    fn write(&mut self, line: &str) {
        self.last_line = Instant::now();
        match &self.bar {
            Some(bar) => bar.suspend(|| write_line(line)),
            None => write_line(line),
        }
    }

    fn is_silent_for(&self, long: Duration) -> bool {
        self.last_line.elapsed() >= long
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

/// What is left, by what was done in a time; none before anything was.
fn time_left(done: u64, left: u64, elapsed: Duration) -> Option<f64> {
    (done > 0).then(|| elapsed.as_secs_f64() / done as f64 * left as f64)
}

fn phase_text(name: &str, done: u64, total: Option<u64>) -> String {
    let total = total.map_or_else(String::new, |total| format!(" of {}", short_count(total as f64)));
    format!("{name}  {}{total}", short_count(done as f64))
}

fn step_text(step: &StepProgress, speed: Option<f64>, left: Option<f64>) -> String {
    let mut text = format!("epoch {}/{}  loss {}", step.epoch, step.epochs, metric("loss", step.loss));
    if let Some(accuracy) = step.accuracy {
        text.push_str(&format!("  accuracy {}", metric("accuracy", accuracy)));
    }
    if let Some(speed) = speed {
        text.push_str(&format!("  {} samples/s", short_count(speed)));
    }
    if let Some(left) = left {
        text.push_str(&format!("  {} left", seconds(left)));
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
            step_text(&step, Some(12_345.0), Some(75.2)),
            "epoch 3/10  loss 0.1235  accuracy 50.0 %  12.3 k samples/s  75.2 s left"
        );
        assert_eq!(
            step_text(&StepProgress { accuracy: None, ..step }, None, None),
            "epoch 3/10  loss 0.1235"
        );
    }

    /// Before there is a step to go by, nothing is said of the time.
    #[test]
    fn the_time_left_follows_from_what_was_done() {
        let ten = Duration::from_secs(10);
        assert_eq!(time_left(0, 100, ten), None);
        assert_eq!(time_left(5, 100, ten), Some(200.0));
        assert_eq!(time_left(5, 0, ten), Some(0.0));
        assert_eq!(phase_text("checking", 15_000, Some(20_000)), "checking  15 k of 20 k");
        assert_eq!(phase_text("reading", 7, None), "reading  7");
    }
}
