//! Work that no request waits for, as the opening of a version: it gets the time that those who answer leave.
//!
//! A system lets whoever runs go on for a slice of some milliseconds before another gets the processor, whatever their
//! priorities: much longer than a request takes. Only to threads that are there for idle times is no slice left once
//! somebody else can run. Nothing that requests may wait for is to be locked on such a thread.

use std::time::Duration;

use outgrow_env::Clock;
use outgrow_ir::shielded;

/// How long work yields to requests. A machine that has nothing left would not come to its end else.
const YIELDS_MAX: Duration = Duration::from_secs(5);

/// Runs pieces of work, for some time in the background.
pub(crate) struct Background<'a> {
    clock: &'a dyn Clock,
    /// Until when; nothing where nobody is to be yielded to.
    until_ns: u64,
}

impl<'a> Background<'a> {
    /// Begins work which yields to requests, if there may be any.
    pub fn begin(clock: &'a dyn Clock, yields: bool) -> Self {
        let until_ns = if yields { clock.now_ns() + YIELDS_MAX.as_nanos() as u64 } else { 0 };
        Self { clock, until_ns }
    }

    /// Runs a piece of it; none if that panics.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Option<T> {
        let (mut work, mut done) = (Some(work), None);
        if self.clock.now_ns() < self.until_ns {
            std::thread::scope(|scope| {
                let thread = std::thread::Builder::new().name("background".to_owned());
                let started = thread.spawn_scoped(scope, || {
                    yield_to_others();
                    done = work.take().and_then(shielded);
                });
                // Without a thread it is done here.
                started.map(|thread| thread.join().ok()).ok()
            });
        }
        done.or_else(|| work.and_then(shielded))
    }
}

/// Lets this thread run only where no other can, from now to its end. Where the system knows of no such threads, it
/// runs as all do.
fn yield_to_others() {
    #[cfg(target_os = "linux")]
    {
        use thread_priority::unix::{set_thread_priority_and_policy, thread_native_id};
        use thread_priority::{NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy};
        let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        let _ = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy);
    }
}

#[cfg(test)]
mod tests {
    use outgrow_env::RealClock;

    use super::*;

    #[test]
    fn pieces_give_what_they_give_wherever_they_run() {
        let clock = RealClock::new();
        for yields in [true, false] {
            let background = Background::begin(&clock, yields);
            let here = std::thread::current().id();
            let ran = background.run(|| std::thread::current().id());
            assert_eq!(ran.map(|there| there == here), Some(!yields));
            assert_eq!(background.run(|| -> u8 { panic!("a piece that breaks off") }), None);
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn pieces_run_when_the_processor_is_idle() {
        use thread_priority::unix::thread_schedule_policy;
        use thread_priority::{NormalThreadSchedulePolicy, ThreadSchedulePolicy};
        let clock = RealClock::new();
        let policy =
            |yields| Background::begin(&clock, yields).run(|| thread_schedule_policy().ok()).flatten();
        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        assert_eq!(policy(true), Some(idle));
        assert_ne!(policy(false), Some(idle));
    }
}
