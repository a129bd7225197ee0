//! What every command and session works in: the world around the process, where results and messages go, and how work
//! fails.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use outgrow_env::{Clock, LocalStorage, RealClock, StorageBackend};
use outgrow_ir::{Diagnostic, Diagnostics};
use serde_json::{Value as Json, json};

use crate::cli::{ColorChoice, ManifestArgs, OutputArgs};
use crate::diagnose::{self, Palette};
use crate::interrupt::{Interrupt, Signal};
use crate::manifest::{self, Manifest};
use crate::places::Environment;
use crate::progress::Progress;
use crate::report::format::seconds;

/// Storage and time: those of this machine, or simulated ones.
#[derive(Clone, Debug)]
pub struct World {
    /// Where files are, except the manifest.
    pub storage: Arc<dyn StorageBackend>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

impl World {
    /// That of this machine.
    pub fn real() -> Self {
        Self { storage: Arc::new(LocalStorage::new()), clock: Arc::new(RealClock::new()) }
    }
}

/// How a command fails.
#[derive(Debug)]
pub enum Failure {
    /// Something is wrong with what came from outside.
    Diagnostics(Diagnostics),
    /// Anything else.
    Other(anyhow::Error),
    /// Some of the work failed, and the answer has said so already.
    Partly(Diagnostics),
    /// Whoever has to say it knows.
    Told,
    /// It was asked to end before its end.
    Interrupted(Box<Interrupted>),
}

/// A run that a signal has ended, with its state saved.
#[derive(Debug)]
pub struct Interrupted {
    /// What asked for it.
    pub signal: Signal,
    /// The folder of the run.
    pub run: PathBuf,
    /// Steps done.
    pub step: u64,
    /// Steps in all.
    pub steps: u64,
}

impl Failure {
    /// What the process ends with.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Interrupted(interrupted) => interrupted.signal.exit_code().into(),
            _ => ExitCode::FAILURE,
        }
    }
}

impl From<Diagnostics> for Failure {
    fn from(diagnostics: Diagnostics) -> Self {
        Self::Diagnostics(diagnostics)
    }
}

impl From<Diagnostic> for Failure {
    fn from(diagnostic: Diagnostic) -> Self {
        Self::Diagnostics(diagnostic.into())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Other(error.into())
    }
}

/// What a command may know about where it runs.
#[derive(Clone, Debug)]
pub struct Context {
    /// End stdout with one JSON object.
    pub json: bool,
    /// Say nothing but errors and results.
    pub quiet: bool,
    /// Say what helps to find out why something is as it is.
    pub verbose: bool,
    /// Whether a run times every kernel in many of its steps, and keeps what it found.
    pub profile: bool,
    /// Colours for stderr.
    pub palette: Palette,
    /// Whether stderr is a terminal.
    pub interactive: bool,
    /// What the environment says.
    pub environment: Environment,
    /// Storage and time.
    pub world: World,
    /// Whether the process has been asked to end.
    pub interrupt: Interrupt,
}

impl Context {
    /// From the flags, the process's terminal and its environment.
    pub fn new(output: &OutputArgs, environment: Environment) -> Self {
        let interactive = io::stderr().is_terminal();
        let colour = match output.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => interactive && !environment.no_color,
        };
        Self {
            json: output.json,
            quiet: output.quiet,
            verbose: false,
            profile: false,
            palette: Palette::new(colour),
            interactive,
            environment,
            world: World::real(),
            interrupt: Interrupt::default(),
        }
    }

    /// The same for work that says nothing by itself.
    pub fn silent(&self) -> Self {
        let palette = Palette::new(false);
        Self { quiet: true, verbose: false, json: false, interactive: false, palette, ..self.clone() }
    }

    /// Writes a result to stdout. A reader that has gone away is no error.
    pub fn print(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(()),
        }
    }

    /// Writes a result to stdout: one line of JSON with `--json`, else text. That is the last thing that a command does.
    pub fn answer(&self, json: &Json, text: &str) -> io::Result<()> {
        self.interrupt.over();
        if self.json { self.print(&format!("{json}\n")) } else { self.print(text) }
    }

    /// Reads the manifest that the flags name.
    pub fn manifest(&self, args: &ManifestArgs) -> Result<Manifest, Failure> {
        Ok(manifest::load(&args.manifest, &args.set)?)
    }

    /// What shows how far a command is.
    pub fn progress(&self) -> Progress {
        Progress::new(self.interactive, self.json, self.quiet)
    }

    /// Says something on stderr, unless asked to be quiet.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            self.complain(text);
        }
    }

    /// Says on stderr, if asked to be verbose, what this is like.
    pub fn detail(&self, what: &str, text: impl FnOnce() -> String) {
        if self.verbose {
            self.note(&format!("{what:<10}  {}", text()));
        }
    }

    /// The same of the time that something took since `from_ns` by the clock; gives the time now.
    pub fn took(&self, what: &str, from_ns: u64) -> u64 {
        let now = self.world.clock.now_ns();
        self.detail("time", || format!("{what} took {}", seconds((now - from_ns) as f64 * 1e-9)));
        now
    }

    /// Reports a failure on stderr, and with `--json` on stdout too.
    pub fn fail(&self, failure: Failure) {
        let diagnostics = match failure {
            Failure::Diagnostics(diagnostics) => diagnostics,
            Failure::Partly(diagnostics) => {
                return self.complain(diagnose::render(&diagnostics, self.palette).trim_end());
            }
            Failure::Told => return,
            Failure::Interrupted(interrupted) => return self.tell_interrupted(&interrupted),
            Failure::Other(error) => Diagnostic::new("outgrow.failed", format!("{error:#}"))
                .hint("the system refused something: see what it says")
                .into(),
        };
        self.complain(diagnose::render(&diagnostics, self.palette).trim_end());
        if self.json {
            let _ = self.print(&format!("{}\n", diagnose::to_json(&diagnostics)));
        }
    }

    /// Says how to go on with a run that was asked to end.
    fn tell_interrupted(&self, interrupted: &Interrupted) {
        let Interrupted { signal, run, step, steps } = interrupted;
        let command = self.environment.same_command(false);
        let how = command.as_deref().unwrap_or("the same command without --fresh");
        self.complain(&format!(
            "{} after step {step} of {steps}: the state is saved in {}\nto go on: {how}",
            signal.name(),
            run.display()
        ));
        if self.json {
            let json = json!({
                "interrupted": signal.name(),
                "run": run,
                "step": step,
                "steps": steps,
                "go_on": command,
            });
            let _ = self.print(&format!("{json}\n"));
        }
    }

    /// Says that the process ends by a signal where there is no state to save: before the first step, or after the last
    /// one. Whoever was to start anew and has not begun to is still to do so.
    pub fn tell_ended(&self, signal: Signal, begun: bool) {
        let command = self.environment.same_command(!begun);
        let how = command.as_deref().unwrap_or("the same command");
        // Where there is a bar, that stays in its line.
        let line = if self.interactive && !self.quiet { "\n" } else { "" };
        self.complain(&format!(
            "{line}{}: what is prepared and saved so far is kept\nto go on: {how}",
            signal.name()
        ));
        if self.json {
            let json = json!({ "interrupted": signal.name(), "step": null, "go_on": command });
            let _ = self.print(&format!("{json}\n"));
        }
    }

    fn complain(&self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}
