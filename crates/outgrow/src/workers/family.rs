//! The processes of one machine that work for a command: it starts them and watches them. Whoever is killed ends them all,
//! also while the others are within a long computation and look at no link.

use std::ffi::OsString;
use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use outgrow_ir::Diagnostic;
use outgrow_runtime::collective::{LOST, lost};

use crate::context::{Context, Failure};

/// How often children are looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How long a process may take to end by itself when another one is gone, before it is ended.
const GRACE: Duration = Duration::from_millis(600);

/// A process that is a worker, and how it ended, if it has.
#[derive(Debug)]
struct Member {
    process: Child,
    end: Option<ExitStatus>,
}

/// The processes that were started here. They end when this is dropped.
#[derive(Clone, Debug)]
pub struct Family(Arc<Mutex<Members>>);

#[derive(Debug)]
struct Members {
    /// From worker 1 on.
    members: Vec<Member>,
    /// Whether the run is over, so that nobody need be there.
    over: bool,
}

impl Drop for Members {
    fn drop(&mut self) {
        let until = Instant::now() + GRACE;
        for member in &mut self.members {
            // Whoever learns that the first worker has left ends by itself.
            drop(member.process.stdin.take());
            while member.end.is_none() && Instant::now() < until {
                member.end = member.process.try_wait().ok().flatten();
                thread::sleep(LOOK / 10);
            }
            if member.end.is_none() {
                let _ = member.process.kill();
                let _ = member.process.wait();
            }
        }
    }
}

impl Family {
    /// Starts this program with each of these command lines: worker 1, worker 2, and so on.
    ///
    /// # Errors
    /// When the system refuses one; none is left then.
    pub fn start(lines: impl IntoIterator<Item = Vec<OsString>>) -> Result<Self, Diagnostic> {
        let refused = |error: std::io::Error| {
            Diagnostic::new("workers.start", format!("a worker cannot be started: {error}"))
                .hint("take fewer workers, or `--transport threads`")
        };
        let program = std::env::current_exe().map_err(refused)?;
        let family = Self(Arc::new(Mutex::new(Members { members: Vec::new(), over: false })));
        for arguments in lines {
            let mut command = Command::new(&program);
            command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null());
            let process = command.spawn().map_err(refused)?;
            family.lock().members.push(Member { process, end: None });
        }
        Ok(family)
    }

    fn lock(&self) -> MutexGuard<'_, Members> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first worker whose process has ended in such a way, with what that was.
    fn ended(&self, how: impl Fn(&ExitStatus) -> bool) -> Option<(usize, String)> {
        let mut members = self.lock();
        for member in &mut members.members {
            if member.end.is_none() {
                member.end = member.process.try_wait().ok().flatten();
            }
        }
        let mut members = (1..).zip(&members.members);
        members.find_map(|(worker, member)| {
            let end = member.end.filter(&how)?;
            Some((worker, format!("process {}, {end}", member.process.id())))
        })
    }

    /// Whether all that were started here can still join: `missing` has not, and may until then.
    ///
    /// # Errors
    /// When one has ended, or it is too late.
    pub fn check_joining(&self, missing: usize, until: Instant) -> Result<(), Diagnostic> {
        if let Some((worker, end)) = self.ended(|_| true) {
            // It has said why on stderr.
            let problem = format!("worker {worker} ended before it had joined ({end})");
            return Err(Diagnostic::new("workers.start", problem).hint("see what it has said above"));
        }
        if Instant::now() > until {
            let problem = format!("worker {missing} has not joined in all this time");
            return Err(Diagnostic::new("workers.start", problem)
                .hint("is the machine overloaded, or the address one that others do not reach?"));
        }
        Ok(())
    }

    /// Ends this process when a worker's is gone and nobody has noticed: they are all within a long computation.
    pub fn watch(&self, context: &Context) {
        let (members, context) = (Arc::downgrade(&self.0), context.clone());
        let watch = move || {
            while let Some(members) = members.upgrade() {
                let family = Self(members);
                if family.lock().over {
                    return;
                }
                if let Some((worker, end)) = family.ended(|end| !end.success()) {
                    thread::sleep(GRACE);
                    if !family.lock().over {
                        let problem = format!("worker {worker} has gone, while worker 0 was computing");
                        context.fail(lost(format_args!("{worker} ({end})"), problem).into());
                        std::process::exit(1);
                    }
                    return;
                }
                drop(family);
                thread::sleep(LOOK);
            }
        };
        // Without it, a loss is noticed at the next exchange.
        let _ = thread::Builder::new().name("watch".into()).spawn(watch);
    }

    /// Nobody need be there from now on.
    pub fn over(&self) {
        self.lock().over = true;
    }

    /// Adds who was killed, where one was and the others only lost it.
    pub fn explain(&self, failure: Failure) -> Failure {
        let Failure::Diagnostics(mut found) = failure else { return failure };
        if let Some(found) = found.0.iter_mut().find(|found| found.code == LOST) {
            // The system tells of an end a little later than of what ends with it.
            let until = Instant::now() + GRACE / 2;
            while Instant::now() < until {
                if let Some((worker, end)) = self.ended(|end| end.code().is_none()) {
                    found.place.item = Some(format!("worker {worker} ({end})"));
                    break;
                }
                thread::sleep(LOOK / 10);
            }
        }
        Failure::Diagnostics(found)
    }
}

/// Ends this process when the one that has started it has ended: its end of the pipe is closed then.
pub fn end_with_parent() {
    let watch = || {
        let mut byte = [0];
        while matches!(std::io::stdin().read(&mut byte), Ok(1)) {}
        thread::sleep(GRACE);
        std::process::exit(1);
    };
    let _ = thread::Builder::new().name("watch".into()).spawn(watch);
}
