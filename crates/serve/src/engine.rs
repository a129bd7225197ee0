//! The threads that run models: they drive the batcher with the world's clock and carry out what it decides. Each runs
//! one batch at a time, over arenas of its own; the weights are there once.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use outgrow_env::Clock;
use outgrow_ir::{Diagnostic, Diagnostics, shielded};
use outgrow_tensor::Tensor;
use tokio::sync::oneshot;

use crate::batcher::{Action, Batcher, Capacity, Lane, Reason, Refused, Request};
use crate::protocol::{Kind, Rejected};
use crate::served::{Prepared, Served};

/// What comes of a request: all outputs of its model.
type Answer = Result<Vec<Tensor>, Rejected>;

/// A request that waits.
#[derive(Debug)]
struct Job {
    inputs: Vec<Tensor>,
    answer: oneshot::Sender<Answer>,
}

/// What threads change.
#[derive(Debug)]
struct State {
    batcher: Batcher,
    jobs: HashMap<u64, Job>,
    /// What each executor is to run next.
    assigned: Vec<Option<(usize, Vec<u64>)>>,
    next_id: u64,
    /// Until when the timer sleeps, if it does not sleep until it is woken.
    timer: Option<Duration>,
    closing: bool,
}

#[derive(Debug)]
struct Shared {
    clock: Arc<dyn Clock>,
    models: Vec<Arc<Served>>,
    state: Mutex<State>,
    executors: Vec<Condvar>,
    timer: Condvar,
}

/// Models that run, and the threads that run them.
#[derive(Debug)]
pub struct Engine {
    shared: Arc<Shared>,
    names: BTreeMap<String, usize>,
    threads: Mutex<Vec<JoinHandle<()>>>,
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
    /// Starts the threads. Each model has run at every size before, so that it is known what it costs.
    ///
    /// # Errors
    /// When a model does not run, or there are no threads to be had.
    pub fn start(
        clock: Arc<dyn Clock>,
        capacity: Capacity,
        models: Vec<(Arc<Served>, Lane)>,
    ) -> Result<Self, Diagnostics> {
        let mut batcher = Batcher::new(capacity);
        let mut names = BTreeMap::new();
        for (model, lane) in &models {
            let number = batcher.add_lane(*lane);
            for (rows, elapsed) in model.warm_up(&*clock)? {
                batcher.observe(now(&*clock), number, rows, elapsed);
            }
            if names.insert(model.name().to_owned(), number).is_some() {
                let problem = format!("two models have the name `{}`", model.name());
                let problem = Diagnostic::new("serve.name", problem).item(model.name());
                return Err(problem.hint("give one of them another name, as NAME=PATH").into());
            }
        }
        let executors = capacity.executors.max(1);
        let state = State {
            batcher,
            jobs: HashMap::new(),
            assigned: vec![None; executors],
            next_id: 0,
            timer: None,
            closing: false,
        };
        let shared = Arc::new(Shared {
            clock,
            models: models.into_iter().map(|(model, _)| model).collect(),
            state: Mutex::new(state),
            executors: (0..executors).map(|_| Condvar::new()).collect(),
            timer: Condvar::new(),
        });
        let engine = Self { shared, names, threads: Mutex::default() };
        for executor in 0..executors {
            let shared = Arc::clone(&engine.shared);
            engine.spawn(format!("run-{executor}"), move || shared.execute(executor))?;
        }
        let shared = Arc::clone(&engine.shared);
        engine.spawn("timer".to_owned(), move || shared.keep_time())?;
        Ok(engine)
    }

    fn spawn(&self, name: String, work: impl FnOnce() + Send + 'static) -> Result<(), Diagnostic> {
        let thread = std::thread::Builder::new().name(name).spawn(work).map_err(|error| {
            Diagnostic::new("serve.threads", format!("there is no thread to be had: {error}"))
                .hint("raise the limit on processes (`ulimit -u`), or serve with fewer threads")
        })?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(())
    }

    /// All models.
    pub fn models(&self) -> &[Arc<Served>] {
        &self.shared.models
    }

    /// The number of the model of this name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.names.get(name).copied()
    }

    /// Lets a request in.
    ///
    /// # Errors
    /// When it cannot be answered in time, or too many wait.
    pub fn submit(
        &self,
        model: usize,
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
            lane: model,
            rows: prepared.rows,
            group: prepared.group,
            bytes: prepared.inputs.iter().map(Tensor::bytes).sum(),
            priority,
            deadline: timeout.map(|timeout| now.saturating_add(timeout)),
        };
        let mut actions = Vec::new();
        let admitted = state.batcher.arrive(now, request, &mut actions);
        if admitted.is_ok() {
            state.jobs.insert(id, Job { inputs: prepared.inputs.clone(), answer: sender });
        }
        self.shared.perform(&mut state, actions);
        drop(state);
        admitted.map_err(refused)?;
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
        // Whoever still waits is told by the loss of the sender.
        state.jobs.clear();
        drop(state);
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
            state.jobs.remove(&self.id);
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

    /// Carries out what the batcher has decided.
    fn perform(&self, state: &mut State, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Run { executor, lane, ids } => {
                    state.assigned[executor] = Some((lane, ids));
                    self.executors[executor].notify_one();
                }
                Action::Refuse { id, refused: why } => {
                    if let Some(job) = state.jobs.remove(&id) {
                        // Whoever has gone meanwhile is told nothing.
                        let _ = job.answer.send(Err(refused(why)));
                    }
                }
            }
        }
        let next = state.batcher.next_tick();
        if next.is_some_and(|next| state.timer.is_none_or(|timer| next < timer)) {
            self.timer.notify_one();
        }
    }

    /// One executor's life.
    fn execute(&self, executor: usize) {
        let mut state = self.locked();
        loop {
            if let Some((lane, ids)) = state.assigned[executor].take() {
                let jobs: Vec<Job> = ids.iter().filter_map(|id| state.jobs.remove(id)).collect();
                drop(state);
                let answers = self.run(lane, &jobs);
                state = self.locked();
                let mut actions = Vec::new();
                let now = self.now();
                state.batcher.finished(now, executor, &mut actions);
                self.perform(&mut state, actions);
                drop(state);
                for (job, answer) in jobs.into_iter().zip(answers) {
                    let _ = job.answer.send(answer);
                }
                state = self.locked();
            } else if state.closing {
                return;
            } else {
                state = self.executors[executor].wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Runs requests together. Where that fails, each by itself: what is wrong with one is no other's fault.
    fn run(&self, lane: usize, jobs: &[Job]) -> Vec<Answer> {
        let run = |requests: &[&[Tensor]]| match shielded(|| self.models[lane].run(requests)) {
            Some(Ok(answers)) => Ok(answers),
            Some(Err(problems)) => Err(Rejected::new(Kind::Invalid, problems)),
            None => {
                Err(Rejected::new(Kind::Internal, Diagnostic::fault("serve.panic", "the run was broken off")))
            }
        };
        let all: Vec<&[Tensor]> = jobs.iter().map(|job| job.inputs.as_slice()).collect();
        match run(&all) {
            Ok(answers) => answers.into_iter().map(Ok).collect(),
            Err(rejected) if jobs.len() == 1 => vec![Err(rejected)],
            Err(_) => all.iter().map(|one| run(&[one]).map(|mut answers| answers.swap_remove(0))).collect(),
        }
    }

    /// The timer's life: requests that become late are told then, and not when a run ends.
    fn keep_time(&self) {
        let mut state = self.locked();
        while !state.closing {
            let now = self.now();
            let mut actions = Vec::new();
            state.batcher.tick(now, &mut actions);
            self.perform(&mut state, actions);
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
