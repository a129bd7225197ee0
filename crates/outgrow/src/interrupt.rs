//! Signals that ask the process to end: SIGTERM, and SIGINT, the interrupt from the terminal. Work that has a state to save
//! is told of the first one and brings itself to a good end; around it, a command that can be given again says so and ends.
//! The second signal ends the process at once.

use std::io;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// A signal that asks for an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// The interrupt from the terminal.
    Int,
    /// The one that `kill`, service managers and batch systems send.
    Term,
}

impl Signal {
    const ALL: [Self; 2] = [Self::Int, Self::Term];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Int => "SIGINT",
            Self::Term => "SIGTERM",
        }
    }

    /// Its number.
    fn number(self) -> i32 {
        match self {
            Self::Int => SIGINT,
            Self::Term => SIGTERM,
        }
    }

    /// The exit code of a process that it has ended, by the convention of shells.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Int => 130,
            Self::Term => 143,
        }
    }
}

/// How often it is looked whether a signal has come, while nobody else looks.
const BETWEEN: Duration = Duration::from_millis(20);

/// Whether the process has been asked to end. Clones tell the same.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// The number of the last signal; 0 before there was one.
    number: Arc<AtomicUsize>,
    /// Whether the next signal ends the process at once.
    ends: Arc<AtomicBool>,
    /// Whether each of [`Signal::ALL`] has come.
    came: [Arc<AtomicBool>; 2],
    /// Whether signals come here, and not to the system's own handlers.
    registered: AtomicBool,
    /// Whether somebody waits for them while no work does that has a state to save.
    watched: AtomicBool,
    /// Whether such work does now, or has and will say how it ended.
    caught: AtomicBool,
    /// Whether such work has ever begun.
    begun: AtomicBool,
}

/// Until this is dropped, the first signal is only told of. From then on each one ends the process, as it does before
/// signals are caught.
#[derive(Debug)]
pub struct Caught<'a>(&'a Interrupt);

impl Interrupt {
    /// From when this returns, a signal does not end the process but is told of by [`Interrupt::signal`]; the second one
    /// ends it all the same.
    ///
    /// # Errors
    /// When the system refuses it.
    pub fn catch(&self) -> io::Result<Caught<'_>> {
        self.0.caught.store(true, Ordering::SeqCst);
        self.0.begun.store(true, Ordering::SeqCst);
        self.0.ends.store(self.signal().is_some(), Ordering::SeqCst);
        self.register()?;
        Ok(Caught(self))
    }

    /// From when this returns, a signal that nobody catches ends the process once `tell` has been called: with the signal,
    /// and whether anything was begun that catches signals.
    ///
    /// # Errors
    /// When the system refuses it.
    pub fn watch(&self, tell: impl Fn(Signal, bool) + Send + 'static) -> io::Result<()> {
        self.0.watched.store(true, Ordering::SeqCst);
        self.register()?;
        let interrupt = self.clone();
        thread::Builder::new().name("signals".into()).spawn(move || {
            loop {
                thread::sleep(BETWEEN);
                if interrupt.0.caught.load(Ordering::SeqCst) {
                    continue;
                }
                if let Some(signal) = interrupt.signal() {
                    tell(signal, interrupt.0.begun.load(Ordering::SeqCst));
                    process::exit(signal.exit_code().into());
                }
            }
        })?;
        Ok(())
    }

    /// Says that all is done: a signal that comes now ends nothing any more.
    pub fn over(&self) {
        self.0.caught.store(true, Ordering::SeqCst);
    }

    fn register(&self) -> io::Result<()> {
        if self.0.registered.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        for (i, signal) in Signal::ALL.into_iter().enumerate() {
            // In this order: what the first signal sets is what the second one finds.
            let code = i32::from(signal.exit_code());
            flag::register_conditional_shutdown(signal.number(), code, self.0.ends.clone())?;
            // Two threads may handle one signal each at the same moment, and neither find what the other one sets at its
            // end. Each says that it is there before it looks for the other: so at least one of them finds the other.
            flag::register(signal.number(), self.0.came[i].clone())?;
            flag::register_conditional_shutdown(signal.number(), code, self.0.came[1 - i].clone())?;
            flag::register(signal.number(), self.0.ends.clone())?;
            let number = usize::try_from(signal.number()).unwrap_or_default();
            flag::register_usize(signal.number(), self.0.number.clone(), number)?;
        }
        Ok(())
    }

    /// The signal that has come, if one has.
    pub fn signal(&self) -> Option<Signal> {
        let number = self.0.number.load(Ordering::SeqCst);
        Signal::ALL.into_iter().find(|signal| usize::try_from(signal.number()) == Ok(number))
    }
}

impl Drop for Caught<'_> {
    fn drop(&mut self) {
        let state = &self.0.0;
        if !state.watched.load(Ordering::SeqCst) {
            state.ends.store(true, Ordering::SeqCst);
        } else if self.0.signal().is_none() {
            // Who was told of a signal says how it ended; else whoever watches is to hear of the next one.
            state.caught.store(false, Ordering::SeqCst);
        }
    }
}
