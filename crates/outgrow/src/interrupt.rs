//! Signals that ask the process to end: SIGTERM, and SIGINT, the interrupt from the terminal. Work that can be gone on with
//! is told of the first one and brings itself to a good end; the second one ends the process at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

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

/// Whether the process has been asked to end. Clones tell the same.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// The number of the last signal; 0 before there was one.
    number: Arc<AtomicUsize>,
    /// Whether the next signal ends the process at once.
    ends: Arc<AtomicBool>,
    /// Whether signals come here, and not to the system's own handlers.
    caught: AtomicBool,
}

/// Until this is dropped, the first signal is only told of. From then on each one ends the process at once, as it does
/// before signals are caught.
#[derive(Debug)]
pub struct Caught<'a>(&'a Interrupt);

impl Interrupt {
    /// From when this returns, a signal does not end the process but is told of by [`Interrupt::signal`]; the second one
    /// ends it all the same.
    ///
    /// # Errors
    /// When the system refuses it.
    pub fn catch(&self) -> io::Result<Caught<'_>> {
        self.0.ends.store(self.signal().is_some(), Ordering::SeqCst);
        if !self.0.caught.swap(true, Ordering::SeqCst) {
            for signal in Signal::ALL {
                // In this order: what the first signal sets is what the second one finds.
                let code = i32::from(signal.exit_code());
                flag::register_conditional_shutdown(signal.number(), code, self.0.ends.clone())?;
                flag::register(signal.number(), self.0.ends.clone())?;
                let number = usize::try_from(signal.number()).unwrap_or_default();
                flag::register_usize(signal.number(), self.0.number.clone(), number)?;
            }
        }
        Ok(Caught(self))
    }

    /// The signal that has come, if one has.
    pub fn signal(&self) -> Option<Signal> {
        let number = self.0.number.load(Ordering::SeqCst);
        Signal::ALL.into_iter().find(|signal| usize::try_from(signal.number()) == Ok(number))
    }
}

impl Drop for Caught<'_> {
    fn drop(&mut self) {
        self.0.0.ends.store(true, Ordering::SeqCst);
    }
}
