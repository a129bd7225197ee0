//! The threads that run models: they drive the batcher with the world's clock and carry out what it decides. Each runs
//! one batch at a time, over arenas of its own; the weights are there once.
//!
//! Models come and go while requests are answered. One is there as long as somebody holds it: whoever is about to ask
//! it, a request of it that waits, a batch of it that runs. So none goes while it is needed.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use outgrow_env::Clock;
use outgrow_ir::{Diagnostic, shielded};
use outgrow_tensor::Tensor;
use tokio::sync::oneshot;

use crate::batcher::{Action, Batcher, Capacity, Lane, Reason, Refused, Request};
use crate::protocol::{Kind, Rejected};
use crate::served::{Prepared, Served};
use crate::tally::Tally;

/// The longest run that is not handed to a thread: it keeps connections waiting, and handing it over and back takes tens
/// of microseconds.
const AT_ONCE_MAX: Duration = Duration::from_micros(200);

/// What comes of a request.
type Answer = Result<Ran, Rejected>;

/// A request that has run.
#[derive(Debug)]
pub struct Ran {
    /// All outputs of its model.
    pub outputs: Vec<Tensor>,
    /// How long it waited.
    pub queue: Duration,
    /// How long its batch ran.
    pub infer: Duration,
}

/// A request that waits.
#[derive(Debug)]
struct Job {
    inputs: Vec<Tensor>,
    rows: usize,
    arrived: Duration,
    answer: oneshot::Sender<Answer>,
    tally: Arc<Tally>,
    serving: Arc<Serving>,
}

/// A batch for an executor. It holds its model, though all who asked may have gone.
#[derive(Debug)]
struct Work {
    serving: Arc<Serving>,
    ids: Vec<u64>,
}

/// What threads change. Jobs and work hold models, which let go of their place here when the last holder drops them: so
/// neither is ever dropped under the lock.
#[derive(Debug)]
struct State {
    batcher: Batcher,
    jobs: HashMap<u64, Job>,
    /// What each executor is to run next.
    assigned: Vec<Option<Work>>,
    next_id: u64,
    /// Until when the timer sleeps, if it does not sleep until it is woken.
    timer: Option<Duration>,
    closing: bool,
}

#[derive(Debug)]
struct Shared {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    executors: Vec<Condvar>,
    timer: Condvar,
}

/// The threads that run models.
#[derive(Debug)]
pub struct Engine {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// A model that can be asked.
#[derive(Debug)]
pub struct Serving {
    served: Served,
    number: usize,
    shared: Arc<Shared>,
}

impl Serving {
    /// The model.
    pub fn served(&self) -> &Served {
        &self.served
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // At the end, what still waits is lost without being taken out.
        let mut state = self.shared.locked();
        let idle = state.batcher.remove_lane(self.number);
        debug_assert!(idle || state.closing, "nothing of a model that nobody holds waits or runs");
    }
}

/// A request that was let in. Whoever drops it gives up its place.
#[derive(Debug)]
pub struct Ticket {
    shared: Arc<Shared>,
    id: u64,
    answer: oneshot::Receiver<Answer>,
    done: bool,
}

impl Engine {
    /// Starts the threads.
    ///
    /// # Errors
    /// When there are no threads to be had.
    pub fn start(clock: Arc<dyn Clock>, capacity: Capacity) -> Result<Self, Diagnostic> {
        let executors = capacity.executors.max(1);
        let state = State {
            batcher: Batcher::new(capacity),
            jobs: HashMap::new(),
            assigned: (0..executors).map(|_| None).collect(),
            next_id: 0,
            timer: None,
            closing: false,
        };
        let shared = Arc::new(Shared {
            clock,
            state: Mutex::new(state),
            executors: (0..executors).map(|_| Condvar::new()).collect(),
            timer: Condvar::new(),
        });
        let engine = Self { shared, threads: Mutex::default() };
        for executor in 0..executors {
            let shared = Arc::clone(&engine.shared);
            engine.spawn(format!("run-{executor}"), move || shared.execute(executor))?;
        }
        let shared = Arc::clone(&engine.shared);
        engine.spawn("timer".to_owned(), move || shared.keep_time())?;
        Ok(engine)
    }

    fn spawn(&self, name: String, work: impl FnOnce() + Send + 'static) -> Result<(), Diagnostic> {
        let thread = std::thread::Builder::new().name(name).spawn(work).map_err(no_thread)?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(())
    }

    /// The clock by which requests are answered.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.shared.clock
    }

    /// Makes a model one that can be asked. It has run before: it is known how long so many rows take.
    pub fn serve(&self, served: Served, lane: Lane, costs: &[(usize, Duration)]) -> Arc<Serving> {
        let mut state = self.shared.locked();
        let (number, now) = (state.batcher.add_lane(lane), self.shared.now());
        for (rows, elapsed) in costs {
            state.batcher.observe(now, number, *rows, *elapsed);
        }
        drop(state);
        Arc::new(Serving { served, number, shared: Arc::clone(&self.shared) })
    }

    /// How many batches run at once.
    pub fn threads(&self) -> usize {
        self.shared.executors.len()
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.shared.locked().batcher.waiting()
    }

    /// Lets a request in.
    ///
    /// # Errors
    /// When it cannot be answered in time, or too many wait.
    pub fn submit(
        &self,
        serving: &Arc<Serving>,
        tally: &Arc<Tally>,
        prepared: &Prepared,
        priority: u32,
        timeout: Option<Duration>,
    ) -> Result<Ticket, Rejected> {
        let (sender, answer) = oneshot::channel();
        let mut state = self.shared.locked();
        let now = self.shared.now();
        state.next_id += 1;
        let id = state.next_id;
        let request = Request {
            id,
            lane: serving.number,
            rows: prepared.rows,
            group: prepared.group,
            bytes: prepared.inputs.iter().map(Tensor::bytes).sum(),
            priority,
            deadline: timeout.map(|timeout| now.saturating_add(timeout)),
        };
        let mut actions = Vec::new();
        let admitted = state.batcher.arrive(now, request, &mut actions);
        let mut at_once = None;
        if admitted.is_ok() {
            let job = Job {
                inputs: prepared.inputs.clone(),
                rows: prepared.rows,
                arrived: now,
                answer: sender,
                tally: Arc::clone(tally),
                serving: Arc::clone(serving),
            };
            if let Some(executor) = alone_on(&state, &mut actions) {
                at_once = Some((executor, job));
            } else {
                state.jobs.insert(id, job);
            }
        }
        let late = self.shared.perform(&mut state, actions);
        drop(state);
        tell(late);
        if let Some((executor, job)) = at_once {
            self.shared.run(executor, serving, vec![job]);
        }
        admitted.map_err(|why| {
            tally.refused(why.reason);
            refused(why)
        })?;
        Ok(Ticket { shared: Arc::clone(&self.shared), id, answer, done: false })
    }

    /// Lets nothing in any more; what is in is answered.
    pub fn drain(&self) {
        self.shared.locked().batcher.drain();
    }

    /// Ends the threads once they have run what they are running. What still waits is refused.
    pub fn close(&self) {
        let mut state = self.shared.locked();
        state.closing = true;
        let jobs = std::mem::take(&mut state.jobs);
        drop(state);
        // Whoever still waits is told by the loss of the sender.
        drop(jobs);
        self.shared.executors.iter().for_each(Condvar::notify_all);
        self.shared.timer.notify_all();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A thread that has panicked has nothing more to say.
            let _ = thread.join();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.close();
    }
}

/// The system gives no thread.
pub(crate) fn no_thread(error: std::io::Error) -> Diagnostic {
    Diagnostic::new("serve.threads", format!("there is no thread to be had: {error}"))
        .hint("raise the limit on processes (`ulimit -u`), or serve with fewer threads")
}

/// The executor whose first and only batch is a request that has just come, if that is so short that whoever asks may as
/// well run it: then that is not to be handed to a thread. Where more is to be done, it is: what comes meanwhile makes a
/// batch.
fn alone_on(state: &State, actions: &mut Vec<Action>) -> Option<usize> {
    let [Action::Run { executor, ids, .. }] = actions.as_slice() else { return None };
    let executor = *executor;
    let short = ids.len() == 1 && state.batcher.alone(executor).is_some_and(|time| time <= AT_ONCE_MAX);
    short.then(|| actions.clear())?;
    Some(executor)
}

/// Tells requests that were taken out of the queue that they are refused.
fn tell(late: Vec<(Job, Refused)>) {
    for (job, why) in late {
        job.tally.refused(why.reason);
        // Whoever has gone meanwhile is told nothing.
        let _ = job.answer.send(Err(refused(why)));
    }
}

impl Ticket {
    /// What comes of it.
    ///
    /// # Errors
    /// When the request was refused after it had waited, or its run has failed.
    pub async fn answer(mut self) -> Answer {
        let answer = (&mut self.answer).await;
        self.done = true;
        answer.unwrap_or_else(|_| {
            Err(refused(Refused { reason: Reason::Draining, retry_after: Duration::ZERO }))
        })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.done {
            let mut state = self.shared.locked();
            state.batcher.cancel(self.id);
            let job = state.jobs.remove(&self.id);
            drop(state);
            drop(job);
        }
    }
}

fn now(clock: &dyn Clock) -> Duration {
    Duration::from_nanos(clock.now_ns())
}

fn refused(refused: Refused) -> Rejected {
    let (problem, hint) = match refused.reason {
        Reason::Draining => ("the server is about to end", "ask another server"),
        Reason::Full => ("too many requests wait", "try again later, or with fewer at once"),
        Reason::Hopeless => {
            ("the request would not be answered in time", "try again later, or allow more time")
        }
        Reason::Late => ("the request waited for too long", "try again later, or allow more time"),
    };
    let problem = Diagnostic::new("serve.unavailable", problem).hint(hint);
    Rejected::new(Kind::Unavailable(refused.retry_after), problem)
}

impl Shared {
    fn now(&self) -> Duration {
        now(&*self.clock)
    }

    /// A panic of another thread leaves the state as whole as it was: runs are outside the lock.
    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out what the batcher has decided. Who is to be [told](tell) of a refusal is given back, to be told
    /// outside the lock.
    #[must_use = "requests that are refused are to be told"]
    fn perform(&self, state: &mut State, actions: Vec<Action>) -> Vec<(Job, Refused)> {
        let mut late = Vec::new();
        for action in actions {
            match action {
                Action::Run { executor, ids, .. } => {
                    let job = ids.first().and_then(|id| state.jobs.get(id));
                    let serving = job.map(|job| Arc::clone(&job.serving));
                    state.assigned[executor] = serving.map(|serving| Work { serving, ids });
                    self.executors[executor].notify_one();
                }
                Action::Refuse { id, refused: why } => {
                    late.extend(state.jobs.remove(&id).map(|job| (job, why)));
                }
            }
        }
        let next = state.batcher.next_tick();
        if next.is_some_and(|next| state.timer.is_none_or(|timer| next < timer)) {
            self.timer.notify_one();
        }
        late
    }

    /// One executor's life.
    fn execute(&self, executor: usize) {
        let mut state = self.locked();
        loop {
            if let Some(Work { serving, ids }) = state.assigned[executor].take() {
                let jobs: Vec<Job> = ids.iter().filter_map(|id| state.jobs.remove(id)).collect();
                drop(state);
                self.run(executor, &serving, jobs);
                drop(serving);
                state = self.locked();
            } else if state.closing {
                return;
            } else {
                state = self.executors[executor].wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Runs a batch that the batcher has given to an executor, and answers.
    fn run(&self, executor: usize, serving: &Serving, jobs: Vec<Job>) {
        let start = self.now();
        let answers = run(serving.served(), &jobs);
        let mut actions = Vec::new();
        let mut state = self.locked();
        let now = self.now();
        state.batcher.finished(now, executor, &mut actions);
        let late = self.perform(&mut state, actions);
        drop(state);
        tell(late);
        answer(jobs, answers, start, now);
    }

    /// The timer's life: requests that become late are told then, and not when a run ends.
    fn keep_time(&self) {
        let mut state = self.locked();
        while !state.closing {
            let now = self.now();
            let mut actions = Vec::new();
            state.batcher.tick(now, &mut actions);
            let late = self.perform(&mut state, actions);
            if !late.is_empty() {
                drop(state);
                tell(late);
                state = self.locked();
            }
            if state.closing {
                return;
            }
            state.timer = state.batcher.next_tick();
            state = match state.timer {
                Some(at) => {
                    let wait = at.saturating_sub(now);
                    let woken = self.timer.wait_timeout(state, wait);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.timer.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

/// Runs requests together. Where that fails, each by itself: what is wrong with one is no other's fault.
fn run(served: &Served, jobs: &[Job]) -> Vec<Result<Vec<Tensor>, Rejected>> {
    let run = |requests: &[&[Tensor]]| match shielded(|| served.run(requests)) {
        Some(Ok(answers)) => Ok(answers),
        Some(Err(problems)) => Err(Rejected::new(Kind::Invalid, problems)),
        None => {
            Err(Rejected::new(Kind::Internal, Diagnostic::fault("serve.panic", "the run was broken off")))
        }
    };
    let all: Vec<&[Tensor]> = jobs.iter().map(|job| job.inputs.as_slice()).collect();
    if all.is_empty() {
        return Vec::new();
    }
    match run(&all) {
        Ok(answers) => answers.into_iter().map(Ok).collect(),
        Err(rejected) if jobs.len() == 1 => vec![Err(rejected)],
        Err(_) => all.iter().map(|one| run(&[one]).map(|mut answers| answers.swap_remove(0))).collect(),
    }
}

/// Gives answers to those who wait for them, and counts the run.
fn answer(jobs: Vec<Job>, answers: Vec<Result<Vec<Tensor>, Rejected>>, start: Duration, end: Duration) {
    let (rows, infer) = (jobs.iter().map(|job| job.rows).sum(), end.saturating_sub(start));
    let mut counted: Vec<*const Tally> = Vec::new();
    for (job, answer) in jobs.into_iter().zip(answers) {
        // Forms of a model that share batches count them each for themselves.
        if !counted.contains(&Arc::as_ptr(&job.tally)) {
            counted.push(Arc::as_ptr(&job.tally));
            job.tally.ran(rows, infer);
        }
        let queue = start.saturating_sub(job.arrived);
        let _ = job.answer.send(answer.map(|outputs| Ran { outputs, queue, infer }));
    }
}
