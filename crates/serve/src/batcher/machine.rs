//! The state machine itself: who is let in, who runs next, and what is learned when a run ends.

use std::collections::HashMap;
use std::time::Duration;

use super::lane::{Place, Queue, seconds};
use super::{Action, Capacity, Lane, Reason, Refused, Request};

/// A model of which nothing has run for so long is tried again, whatever its last runs had cost: otherwise runs that
/// were slow by accident would keep all others out.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// A batch that runs.
#[derive(Clone, Copy, Debug)]
struct Running {
    lane: usize,
    rows: usize,
    started: Duration,
    /// Seconds that the model was charged with when it started.
    charged_s: f64,
}

/// Requests of all models, those that wait and those that run.
#[derive(Debug)]
pub struct Batcher {
    capacity: Capacity,
    queues: Vec<Queue>,
    /// Numbers of models that are no longer served, for those that come.
    free: Vec<usize>,
    executors: Vec<Option<Running>>,
    /// Where those are that wait.
    places: HashMap<u64, (usize, Place)>,
    waiting_bytes: usize,
    arrived: u64,
    /// The virtual time of who was served last: models that come back start from there.
    virtual_s: f64,
    draining: bool,
}

impl Batcher {
    /// Without any models.
    pub fn new(capacity: Capacity) -> Self {
        Self {
            capacity,
            queues: Vec::new(),
            free: Vec::new(),
            executors: vec![None; capacity.executors.max(1)],
            places: HashMap::new(),
            waiting_bytes: 0,
            arrived: 0,
            virtual_s: 0.0,
            draining: false,
        }
    }

    /// Serves one more model, and says its number: they count from 0, and those of models that are no longer served are
    /// given again.
    pub fn add_lane(&mut self, lane: Lane) -> usize {
        let queue = Queue::new(Lane { rows_max: lane.rows_max.max(1), ..lane });
        if let Some(number) = self.free.pop() {
            self.queues[number] = queue;
            return number;
        }
        self.queues.push(queue);
        self.queues.len() - 1
    }

    /// Serves a model no more, of which nothing waits and nothing runs; says whether that is so. Its number is another's
    /// from then on.
    pub fn remove_lane(&mut self, number: usize) -> bool {
        let runs = self.executors.iter().flatten().any(|running| running.lane == number);
        let idle =
            !runs && !self.free.contains(&number) && self.queues.get(number).is_some_and(Queue::is_empty);
        if idle {
            self.queues[number] = Queue::new(Lane::default());
            self.free.push(number);
        }
        idle
    }

    /// A batch of a model took so long, outside the queue: when it was warmed up.
    pub fn observe(&mut self, now: Duration, lane: usize, rows: usize, elapsed: Duration) {
        if let Some(queue) = self.queues.get_mut(lane) {
            queue.cost.observe(rows, elapsed.as_secs_f64());
            queue.observed = now;
        }
    }

    /// Requests that wait, of all models.
    pub fn waiting(&self) -> usize {
        self.places.len()
    }

    /// Bytes of the requests that wait.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// How long a batch that was just started takes, if nothing waits and nothing else runs, and it is known.
    pub fn alone(&self, executor: usize) -> Option<Duration> {
        let others = self.executors.iter().enumerate().any(|(i, running)| i != executor && running.is_some());
        let running = self.executors.get(executor)?.as_ref().filter(|_| !others && self.places.is_empty())?;
        let cost = &self.queues[running.lane].cost;
        cost.is_known(running.rows).then(|| seconds(cost.mean_s(running.rows)))
    }

    /// Whether nothing waits and nothing runs.
    pub fn is_idle(&self) -> bool {
        self.places.is_empty() && self.executors.iter().all(Option::is_none)
    }

    /// Lets nothing in any more. What is in is answered.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// A request comes.
    ///
    /// # Errors
    /// When it is not let in.
    pub fn arrive(
        &mut self,
        now: Duration,
        request: Request,
        actions: &mut Vec<Action>,
    ) -> Result<(), Refused> {
        self.expire(now, actions);
        let request = self.admitted(now, request)?;
        self.arrived += 1;
        let place = (request.priority, self.arrived);
        let queue = &mut self.queues[request.lane];
        if queue.is_empty() {
            queue.virtual_s = queue.virtual_s.max(self.virtual_s);
        }
        queue.push(place, request);
        self.places.insert(request.id, (request.lane, place));
        self.waiting_bytes += request.bytes;
        self.dispatch(now, actions);
        Ok(())
    }

    /// The client of a request is gone. If it waits, its place is free; if it runs, nobody reads the answer.
    pub fn cancel(&mut self, id: u64) {
        if let Some((lane, place)) = self.places.remove(&id)
            && let Some(request) = self.queues[lane].remove(place)
        {
            self.waiting_bytes -= request.bytes;
        }
    }

    /// An executor has finished its batch.
    pub fn finished(&mut self, now: Duration, executor: usize, actions: &mut Vec<Action>) {
        if let Some(running) = self.executors.get_mut(executor).and_then(Option::take) {
            let elapsed_s = now.saturating_sub(running.started).as_secs_f64();
            let queue = &mut self.queues[running.lane];
            queue.cost.observe(running.rows, elapsed_s);
            queue.observed = now;
            queue.virtual_s += (elapsed_s - running.charged_s) / queue.lane.weight;
        }
        self.tick(now, actions);
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Duration, actions: &mut Vec<Action>) {
        self.expire(now, actions);
        self.dispatch(now, actions);
    }

    /// When to [tick](Self::tick), if nothing happens before.
    pub fn next_tick(&self) -> Option<Duration> {
        // A request is late after the moment at which it would have had to start.
        self.queues.iter().filter_map(Queue::next_late).min().map(|at| at + Duration::from_nanos(1))
    }

    /// The request as it is let in, with the deadline that its model's latency gives it.
    fn admitted(&mut self, now: Duration, mut request: Request) -> Result<Request, Refused> {
        let refused = |reason, retry_after| Err(Refused { reason, retry_after });
        if self.draining {
            return refused(Reason::Draining, Duration::from_secs(1));
        }
        let queue = &self.queues[request.lane];
        let target = queue.lane.latency_max.map(|latency| now + latency);
        request.deadline = request.deadline.into_iter().chain(target).min();
        if let Some(deadline) = request.deadline {
            self.queues[request.lane].note_slack(deadline.saturating_sub(now));
        }
        let queue = &self.queues[request.lane];
        let end = self.expected_end(now, &request);
        let bytes = self.waiting_bytes.saturating_add(request.bytes);
        if queue.len() >= queue.lane.waiting_max || bytes > self.capacity.waiting_bytes_max {
            return refused(Reason::Full, end.saturating_sub(now));
        }
        match request.deadline {
            Some(deadline) if deadline < now => refused(Reason::Hopeless, Duration::ZERO),
            Some(deadline) if end > deadline && self.is_to_be_tried(now, request.lane) => {
                Ok(Request { deadline: None, ..request })
            }
            Some(deadline) if end > deadline => refused(Reason::Hopeless, end - deadline),
            _ => Ok(request),
        }
    }

    /// Whether what is known of a model's cost is too old to refuse everything by it.
    fn is_to_be_tried(&self, now: Duration, lane: usize) -> bool {
        let queue = &self.queues[lane];
        let runs = self.executors.iter().flatten().any(|running| running.lane == lane);
        queue.is_empty() && !runs && now >= queue.observed + TRY_AGAIN
    }

    /// When a request that comes now will have run: after what is ahead of it, with those that it joins.
    fn expected_end(&self, now: Duration, request: &Request) -> Duration {
        let queue = &self.queues[request.lane];
        let rows_max = queue.rows_max(self.executors.len());
        let now_s = now.as_secs_f64();
        let mut free_s: Vec<f64> = self
            .executors
            .iter()
            .map(|running| match running {
                Some(running) => {
                    let cost_s = self.queues[running.lane].cost.mean_s(running.rows);
                    now_s.max(running.started.as_secs_f64() + cost_s)
                }
                None => now_s,
            })
            .collect();
        let others_s = self.others_s(request.lane, rows_max) / free_s.len() as f64;
        free_s.iter_mut().for_each(|at| *at += others_s);
        let (before, each_s) = match request.group {
            Some(_) => (queue.rows / rows_max, queue.cost.safe_s(rows_max)),
            None => (queue.len(), queue.cost.safe_s(request.rows)),
        };
        for _ in 0..before {
            if let Some(first) = free_s.iter_mut().min_by(|a, b| a.total_cmp(b)) {
                *first += each_s;
            }
        }
        let start_s = free_s.into_iter().fold(f64::INFINITY, f64::min);
        // Who has to wait is joined by others until its batch is full.
        let rows = if start_s > now_s && request.group.is_some() {
            rows_max.max(request.rows)
        } else {
            request.rows
        };
        seconds(start_s + queue.cost.safe_s(rows).max(queue.cost.safe_s(request.rows)))
    }

    /// Seconds of other models' work that run before what waits for this one does.
    fn others_s(&self, lane: usize, rows_max: usize) -> f64 {
        let own = &self.queues[lane];
        let own_s = own.work_s(rows_max) + own.cost.mean_s(1);
        let (mut first_s, mut beside_s, mut weights) = (0.0, 0.0, 0.0);
        for (i, other) in self.queues.iter().enumerate() {
            if i == lane || other.is_empty() || other.lane.priority > own.lane.priority {
                continue;
            }
            let work_s = other.work_s(other.rows_max(self.executors.len()));
            if other.lane.priority < own.lane.priority {
                first_s += work_s;
            } else {
                beside_s += work_s;
                weights += other.lane.weight;
            }
        }
        first_s + f64::min(beside_s, own_s * weights / own.lane.weight)
    }

    /// Refuses what can no longer be answered in time.
    fn expire(&mut self, now: Duration, actions: &mut Vec<Action>) {
        for lane in 0..self.queues.len() {
            while let Some(request) = self.queues[lane].pop_late(now) {
                self.refuse_late(lane, &request, actions);
            }
        }
    }

    /// Refuses a request that was taken out of its queue.
    fn refuse_late(&mut self, lane: usize, request: &Request, actions: &mut Vec<Action>) {
        self.places.remove(&request.id);
        self.waiting_bytes -= request.bytes;
        let queue = &self.queues[lane];
        let work_s = queue.work_s(queue.rows_max(self.executors.len()));
        let refused = Refused { reason: Reason::Late, retry_after: seconds(work_s) };
        actions.push(Action::Refuse { id: request.id, refused });
    }

    /// Gives work to all executors that are free, as long as there is some.
    fn dispatch(&mut self, now: Duration, actions: &mut Vec<Action>) {
        while let Some(executor) = self.executors.iter().position(Option::is_none) {
            let order = |i: &usize| (self.queues[*i].lane.priority, self.queues[*i].virtual_s);
            let waiting = (0..self.queues.len()).filter(|i| !self.queues[*i].is_empty());
            let next = waiting.min_by(|a, b| {
                let ((a, a_s), (b, b_s)) = (order(a), order(b));
                a.cmp(&b).then(a_s.total_cmp(&b_s))
            });
            let Some(lane) = next else { return };
            let rows_max = self.queues[lane].rows_max(self.executors.len());
            for place in self.queues[lane].too_tight(now, rows_max) {
                if let Some(request) = self.queues[lane].remove(place) {
                    self.refuse_late(lane, &request, actions);
                }
            }
            let queue = &mut self.queues[lane];
            let places = queue.batch(now, rows_max);
            let requests: Vec<Request> = places.into_iter().filter_map(|place| queue.remove(place)).collect();
            let rows = requests.iter().fold(0usize, |n, request| n.saturating_add(request.rows));
            let charged_s = queue.cost.mean_s(rows);
            self.virtual_s = queue.virtual_s;
            queue.virtual_s += charged_s / queue.lane.weight;
            self.executors[executor] = Some(Running { lane, rows, started: now, charged_s });
            for request in &requests {
                self.places.remove(&request.id);
                self.waiting_bytes -= request.bytes;
            }
            let ids = requests.iter().map(|request| request.id).collect();
            actions.push(Action::Run { executor, lane, ids });
        }
    }
}
