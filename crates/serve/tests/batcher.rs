//! The batcher under simulated clients and executors: thousands of schedules from seeds, the same code as in the server.
//! What must hold is checked at every action: each request has one outcome, batches hold what may run together, no
//! executor idles while there is work, queues stay within their bounds.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use outgrow_serve::batcher::{Action, Batcher, Capacity, Lane, Reason, Request};
use outgrow_tensor::{RngKey, RngStream};

const MS: Duration = Duration::from_millis(1);

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    Answered { at: Duration },
    Refused { at: Duration, reason: Reason },
    Gone,
}

/// A client's request, and when the client goes away, if it does not wait.
#[derive(Clone, Copy, Debug)]
struct Client {
    at: Duration,
    request: Request,
    gone: Option<Duration>,
}

struct Simulation {
    batcher: Batcher,
    lanes: Vec<Lane>,
    capacity: Capacity,
    /// What a batch of so many rows of a model really takes.
    cost: Box<dyn FnMut(usize, usize) -> Duration>,
    now: Duration,
    running: Vec<Option<(Duration, Vec<u64>)>>,
    waiting: BTreeSet<u64>,
    waiting_bytes: usize,
    waiting_by_lane: Vec<usize>,
    clients: HashMap<u64, Client>,
    outcomes: BTreeMap<u64, Outcome>,
    /// Rows of every batch, by model, in order.
    batches: Vec<(usize, usize)>,
    /// Time that executors spent on each model.
    spent: Vec<Duration>,
}

impl Simulation {
    fn new(executors: usize, lanes: &[Lane], cost: impl FnMut(usize, usize) -> Duration + 'static) -> Self {
        let capacity = Capacity { executors, waiting_bytes_max: 1 << 20 };
        let mut batcher = Batcher::new(capacity);
        for (i, lane) in lanes.iter().enumerate() {
            assert_eq!(batcher.add_lane(*lane), i);
        }
        Self {
            batcher,
            lanes: lanes.to_vec(),
            capacity,
            cost: Box::new(cost),
            now: Duration::ZERO,
            running: vec![None; executors],
            waiting: BTreeSet::new(),
            waiting_bytes: 0,
            waiting_by_lane: vec![0; lanes.len()],
            clients: HashMap::new(),
            outcomes: BTreeMap::new(),
            batches: Vec::new(),
            spent: vec![Duration::ZERO; lanes.len()],
        }
    }

    /// Lets models run once at each size, as a server does before it listens.
    fn warm(mut self) -> Self {
        for lane in 0..self.lanes.len() {
            for rows in (0..=6).map(|i| 1 << i) {
                let elapsed = (self.cost)(lane, rows);
                self.batcher.observe(self.now, lane, rows, elapsed);
            }
        }
        self
    }

    fn end(&mut self, id: u64, outcome: Outcome) {
        assert_eq!(self.outcomes.insert(id, outcome), None, "request {id} ends twice");
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Refuse { id, refused } => {
                    self.leaves(id);
                    assert_eq!(refused.reason, Reason::Late);
                    self.end(id, Outcome::Refused { at: self.now, reason: refused.reason });
                }
                Action::Run { executor, lane, ids } => {
                    assert!(self.running[executor].is_none(), "executor {executor} is busy");
                    self.check_batch(lane, &ids);
                    let rows = ids.iter().map(|id| self.clients[id].request.rows).sum();
                    let elapsed = (self.cost)(lane, rows);
                    self.spent[lane] += elapsed;
                    self.batches.push((lane, rows));
                    self.running[executor] = Some((self.now + elapsed, ids));
                }
            }
        }
        let waits = (self.batcher.waiting(), self.batcher.waiting_bytes());
        assert_eq!(waits, (self.waiting.len(), self.waiting_bytes));
        assert!(self.waiting_bytes <= self.capacity.waiting_bytes_max);
        assert!(self.waiting.is_empty() || self.running.iter().all(Option::is_some), "idle with work");
        for (waiting, lane) in self.waiting_by_lane.iter().zip(&self.lanes) {
            assert!(*waiting <= lane.waiting_max, "{waiting} wait");
        }
    }

    fn enters(&mut self, id: u64) {
        let request = &self.clients[&id].request;
        assert!(self.waiting.insert(id), "{id} waits already");
        self.waiting_bytes += request.bytes;
        self.waiting_by_lane[request.lane] += 1;
    }

    fn leaves(&mut self, id: u64) {
        let request = &self.clients[&id].request;
        assert!(self.waiting.remove(&id), "{id} does not wait");
        self.waiting_bytes -= request.bytes;
        self.waiting_by_lane[request.lane] -= 1;
    }

    fn check_batch(&mut self, lane: usize, ids: &[u64]) {
        assert!(!ids.is_empty());
        let requests: Vec<Request> = ids.iter().map(|id| self.clients[id].request).collect();
        for (id, request) in ids.iter().zip(&requests) {
            self.leaves(*id);
            assert_eq!(request.lane, lane);
        }
        let rows: usize = requests.iter().map(|request| request.rows).sum();
        assert!(ids.len() == 1 || rows <= self.lanes[lane].rows_max, "{rows} rows");
        let alike = requests.iter().all(|request| request.group == requests[0].group);
        assert!(ids.len() == 1 || (alike && requests[0].group.is_some()), "{requests:?}");
    }

    /// Everything up to the end, or to `until`.
    fn run(&mut self, clients: Vec<Client>, until: Option<Duration>) {
        let mut coming: Vec<Client> = clients;
        coming.sort_by_key(|client| std::cmp::Reverse(client.at));
        let mut going: BTreeSet<(Duration, u64)> = BTreeSet::new();
        loop {
            let arrival = coming.last().map(|client| client.at);
            let finish = self.running.iter().flatten().map(|(at, _)| *at).min();
            let leave = going.first().map(|(at, _)| *at);
            let events = [arrival, finish, leave, self.batcher.next_tick()];
            let Some(next) = events.into_iter().flatten().min().filter(|at| until.is_none_or(|u| *at <= u))
            else {
                return;
            };
            assert!(next >= self.now, "time goes on");
            self.now = next;
            let mut actions = Vec::new();
            if finish == Some(next) {
                let done =
                    |run: &Option<(Duration, Vec<u64>)>| run.as_ref().is_some_and(|(at, _)| *at == next);
                let executor = self.running.iter().position(done).unwrap();
                let (at, ids) = self.running[executor].take().unwrap();
                ids.into_iter().for_each(|id| {
                    if self.outcomes.get(&id) != Some(&Outcome::Gone) {
                        self.end(id, Outcome::Answered { at });
                    }
                });
                self.batcher.finished(next, executor, &mut actions);
            } else if leave == Some(next) {
                let (_, id) = going.pop_first().unwrap();
                if !self.outcomes.contains_key(&id) {
                    self.batcher.cancel(id);
                    if self.waiting.contains(&id) {
                        self.leaves(id);
                    }
                    self.end(id, Outcome::Gone);
                }
            } else if arrival == Some(next) {
                let client = coming.pop().unwrap();
                let id = client.request.id;
                self.clients.insert(id, client);
                going.extend(client.gone.map(|at| (at, id)));
                match self.batcher.arrive(next, client.request, &mut actions) {
                    Ok(()) => self.enters(id),
                    Err(refused) => {
                        self.end(id, Outcome::Refused { at: next, reason: refused.reason });
                    }
                }
            } else {
                self.batcher.tick(next, &mut actions);
            }
            self.perform(actions);
        }
    }

    fn answered(&self) -> impl Iterator<Item = (&Client, Duration)> {
        self.outcomes.iter().filter_map(|(id, outcome)| match outcome {
            Outcome::Answered { at } => Some((&self.clients[id], *at)),
            _ => None,
        })
    }
}

fn request(id: u64) -> Request {
    Request { id, lane: 0, rows: 1, group: Some(0), bytes: 100, priority: 1, deadline: None }
}

fn client(id: u64, at: Duration) -> Client {
    Client { at, request: request(id), gone: None }
}

/// Clients that come at random, so many a second.
fn poisson(seed: u64, per_second: f64, until: Duration) -> Vec<Client> {
    let mut random = RngKey::new(seed).stream();
    let mut at = 0.0;
    let mut clients = Vec::new();
    loop {
        at -= (1.0 - random.uniform()).ln() / per_second;
        let time = Duration::from_secs_f64(at);
        if time >= until {
            return clients;
        }
        clients.push(client(clients.len() as u64, time));
    }
}

/// One millisecond, and a tenth for each row of what it is filled up to: at 64 rows, 8,649 rows a second.
fn typical(rows: usize) -> Duration {
    MS + MS / 10 * rows.next_power_of_two() as u32
}

fn below(random: &mut RngStream, n: usize) -> usize {
    ((random.uniform() * n as f64) as usize).min(n - 1)
}

#[test]
fn whatever_happens_every_request_ends_once() {
    for seed in 0..1_500 {
        let mut random = RngKey::new(seed).stream();
        let lane = |random: &mut RngStream| Lane {
            weight: 0.5 + random.uniform(),
            priority: 1 + below(random, 2) as u32,
            rows_max: 1 << below(random, 7),
            waiting_max: 1 + below(random, 40),
            latency_max: (random.uniform() < 0.5).then(|| MS * (1 + below(random, 30) as u32)),
        };
        let lanes: Vec<Lane> = (0..1 + below(&mut random, 3)).map(|_| lane(&mut random)).collect();
        let executors = 1 + below(&mut random, 3);
        let rate = 200.0 + 4_000.0 * random.uniform();
        let mut clients = poisson(seed, rate, MS * 200);
        for client in &mut clients {
            let Client { at, request, gone } = client;
            request.lane = below(&mut random, lanes.len());
            request.rows = if random.uniform() < 0.8 { 1 } else { 1 + below(&mut random, 100) };
            request.group = (random.uniform() < 0.9).then(|| below(&mut random, 2) as u64);
            request.bytes = below(&mut random, 30_000);
            request.priority = below(&mut random, 3) as u32;
            request.deadline = (random.uniform() < 0.3).then(|| *at + MS * below(&mut random, 40) as u32);
            *gone = (random.uniform() < 0.2).then(|| *at + MS * below(&mut random, 20) as u32);
        }
        let drain_at = (random.uniform() < 0.3).then(|| MS * below(&mut random, 200) as u32);
        let mut noise = RngKey::new(seed).fold_in(1).stream();
        let cost = move |_: usize, rows: usize| typical(rows).mul_f64(0.7 + 0.6 * noise.uniform());
        let mut simulation = Simulation::new(executors, &lanes, cost);
        let count = clients.len();
        let (before, after): (Vec<_>, Vec<_>) =
            clients.into_iter().partition(|client| drain_at.is_none_or(|at| client.at <= at));
        simulation.run(before, drain_at);
        if drain_at.is_some() {
            simulation.batcher.drain();
            let late: Vec<u64> = after.iter().map(|client| client.request.id).collect();
            simulation.run(after, None);
            let draining = |id: &u64| {
                matches!(simulation.outcomes[id], Outcome::Refused { reason: Reason::Draining, .. })
            };
            assert!(late.iter().all(draining), "seed {seed}: let in while draining");
        }
        assert_eq!(simulation.outcomes.len(), count, "seed {seed}");
        assert!(simulation.batcher.is_idle(), "seed {seed}");
    }
}

#[test]
fn one_client_never_waits_for_company() {
    let mut simulation = Simulation::new(1, &[Lane::default()], |_, rows| typical(rows));
    simulation.run((0..100).map(|i| client(i, MS * 2 * i as u32)).collect(), None);
    assert!(simulation.answered().all(|(client, at)| at == client.at + typical(1)));
}

#[test]
fn what_comes_while_all_are_busy_makes_the_next_batch() {
    let mut simulation = Simulation::new(1, &[Lane::default()], |_, rows| typical(rows));
    simulation.run((0..9).map(|i| client(i, MS / 10 * i as u32)).collect(), None);
    assert_eq!(simulation.batches, [(0, 1), (0, 8)]);
}

#[test]
fn at_three_times_the_capacity_nearly_all_of_it_is_goodput() {
    for (seed, executors) in [(1, 1), (2, 1), (3, 2), (4, 4)] {
        let lane = Lane { latency_max: Some(MS * 40), ..Lane::default() };
        let mut noise = RngKey::new(seed).fold_in(1).stream();
        let cost = move |_: usize, rows: usize| typical(rows).mul_f64(0.95 + 0.1 * noise.uniform());
        let capacity = 64.0 / typical(64).as_secs_f64() * executors as f64;
        let mut simulation = Simulation::new(executors, &[lane], cost).warm();
        let seconds = Duration::from_secs(4);
        simulation.run(poisson(seed, 3.0 * capacity, seconds), None);
        let in_time = simulation.answered().filter(|(client, at)| *at <= client.at + MS * 40).count();
        let answered = simulation.answered().count();
        let goodput = in_time as f64 / (capacity * seconds.as_secs_f64());
        assert!(goodput >= 0.95, "{executors} executors: {goodput}");
        assert!(in_time as f64 >= 0.99 * answered as f64, "{in_time} of {answered} in time");
        // Who is refused is refused at once, but for a few.
        let late = |outcome: &&Outcome| matches!(outcome, Outcome::Refused { reason: Reason::Late, .. });
        let late = simulation.outcomes.values().filter(late).count();
        assert!(late * 100 < answered, "{late} refused late, {answered} answered");
    }
}

#[test]
fn a_short_target_makes_small_batches() {
    // Batches of 64 would keep those behind them waiting for too long: 16 take 2.6 ms, and twice that fits.
    let lane = Lane { latency_max: Some(MS * 6), ..Lane::default() };
    let mut simulation = Simulation::new(1, &[lane], |_, rows| typical(rows)).warm();
    let capacity = 16.0 / typical(16).as_secs_f64();
    simulation.run(poisson(5, 3.0 * capacity, Duration::from_secs(2)), None);
    assert!(simulation.batches.iter().all(|(_, rows)| *rows <= 16), "{:?}", &simulation.batches[..20]);
    let (answered, in_time) =
        (simulation.answered().count(), |(client, at): (&Client, Duration)| at <= client.at + MS * 6);
    assert!(simulation.answered().all(in_time));
    assert!(answered as f64 >= 0.9 * 2.0 * capacity, "{answered} of {}", 2.0 * capacity);
}

#[test]
fn padding_is_left_out_where_fewer_rows_run_faster_each() {
    // By padding, 33 rows cost as much as 64: 32 at once and the one that is left later are better.
    let cost = |_: usize, rows: usize| MS * rows.next_power_of_two() as u32;
    let mut simulation = Simulation::new(1, &[Lane::default()], cost).warm();
    simulation.run((0..34).map(|i| client(i, MS / 100 * i as u32)).collect(), None);
    assert_eq!(simulation.batches, [(0, 1), (0, 32), (0, 1)]);
    // Where a run costs the same whatever its size, padding is cheaper than another run.
    let mut simulation = Simulation::new(1, &[Lane::default()], |_, _| MS).warm();
    simulation.run((0..34).map(|i| client(i, MS / 100 * i as u32)).collect(), None);
    assert_eq!(simulation.batches, [(0, 1), (0, 33)]);
}

#[test]
fn models_share_the_machine_by_weight_and_priority() {
    let lanes = [1.0, 3.0].map(|weight| Lane { weight, waiting_max: 200, ..Lane::default() });
    let mut clients = poisson(6, 60_000.0, Duration::from_secs(2));
    clients.iter_mut().for_each(|client| client.request.lane = client.request.id as usize % 2);
    let mut simulation = Simulation::new(2, &lanes, |lane, rows| typical(rows) * (1 + 2 * lane as u32));
    simulation.run(clients.clone(), Some(Duration::from_secs(2)));
    let share = simulation.spent[1].as_secs_f64() / simulation.spent[0].as_secs_f64();
    assert!((share - 3.0).abs() < 0.15, "{share} times the time for 3 times the weight");

    // With priority, the other gets what is left: nothing.
    let lanes = [2, 1].map(|priority| Lane { priority, waiting_max: 200, ..Lane::default() });
    let mut simulation = Simulation::new(1, &lanes, |_, rows| typical(rows));
    simulation.run(clients, Some(Duration::from_secs(2)));
    let share = simulation.spent[0].as_secs_f64() / simulation.spent[1].as_secs_f64();
    assert!(share < 0.05, "{share}");
}

#[test]
fn a_model_that_was_idle_has_saved_nothing_up() {
    let lanes = [Lane { waiting_max: 500, ..Lane::default() }; 2];
    let mut clients = poisson(7, 60_000.0, Duration::from_secs(2));
    clients.iter_mut().for_each(|client| {
        client.request.lane = usize::from(client.at > Duration::from_secs(1) && client.request.id % 2 == 1);
    });
    let mut simulation = Simulation::new(1, &lanes, |_, rows| typical(rows));
    simulation.run(clients, Some(Duration::from_secs(2)));
    let second = simulation.spent[1].as_secs_f64();
    assert!((second - 0.5).abs() < 0.05, "{second} s of the second in which both wanted the machine");
}

#[test]
fn requests_of_higher_priority_go_first() {
    let mut clients: Vec<Client> = (0..20).map(|i| client(i, MS / 100 * i as u32)).collect();
    clients[15].request.priority = 0;
    clients[3].request.priority = 7;
    let lane = Lane { rows_max: 2, ..Lane::default() };
    let mut simulation = Simulation::new(1, &[lane], |_, rows| typical(rows));
    simulation.run(clients, None);
    let mut order: Vec<(Duration, u64)> =
        simulation.answered().map(|(client, at)| (at, client.request.id)).collect();
    order.sort();
    let order: Vec<u64> = order.into_iter().map(|(_, id)| id).collect();
    // The first had the machine for itself.
    assert_eq!(order[..5], [0, 1, 15, 2, 4]);
    assert_eq!(order[19], 3);
}

#[test]
fn one_accident_does_not_make_batches_small_for_good() {
    // For a while, full batches take twenty times as long, as when others use the machine.
    for (seed, size) in [(1, 8), (2, 16), (3, 32), (4, 64)] {
        let lane = Lane { latency_max: Some(MS * 40), ..Lane::default() };
        let mut accidents = 0;
        let cost = move |_: usize, rows: usize| {
            accidents += usize::from(rows >= size);
            typical(rows) * if rows >= size && (10..13).contains(&accidents) { 20 } else { 1 }
        };
        let capacity = 64.0 / typical(64).as_secs_f64();
        let mut simulation = Simulation::new(1, &[lane], cost).warm();
        let seconds = Duration::from_secs(4);
        simulation.run(poisson(seed, 3.0 * capacity, seconds), None);
        let in_time = |(client, at): &(&Client, Duration)| *at <= client.at + MS * 40;
        let late = |(client, _): &(&Client, Duration)| client.at >= seconds / 2;
        let goodput = simulation.answered().filter(in_time).filter(late).count() as f64;
        assert!(goodput >= 0.9 * capacity * 2.0, "{size} rows: {goodput} of {}", capacity * 2.0);
    }
}

#[test]
fn sizes_that_are_too_slow_are_seldom_tried() {
    // From so many rows on, each row takes longer: as where a batch does not stay in the cache.
    for (each, from, times, latency) in [(625, 32, 14, 45), (500, 16, 15, 20)] {
        let lane = Lane { latency_max: Some(MS * latency), ..Lane::default() };
        let each = Duration::from_micros(each);
        let exact = move |rows: usize| {
            let rows = rows.next_power_of_two();
            each * rows as u32 * if rows >= from { times } else { 10 } / 10
        };
        let mut noise = RngKey::new(9).fold_in(1).stream();
        let cost = move |_: usize, rows: usize| exact(rows).mul_f64(0.95 + 0.1 * noise.uniform());
        let mut simulation = Simulation::new(1, &[lane], cost).warm();
        let rate = 1.5 / each.as_secs_f64();
        simulation.run(poisson(9, rate, Duration::from_secs(8)), None);
        let answered = simulation.answered().count();
        let late = simulation.answered().filter(|(client, at)| *at > client.at + MS * latency).count();
        assert!(late * 100 <= answered, "{late} of {answered} late: {from} rows");
        assert!(answered as f64 >= 0.9 * 8.0 * rate / 1.5, "{answered} of {}", 8.0 * rate / 1.5);
    }
}

#[test]
fn batches_take_no_longer_than_a_quarter_of_a_second() {
    // Each row takes 60 ms: four do, and one that never ran is tried by itself.
    let cost = |_: usize, rows: usize| MS * 60 * rows.next_power_of_two() as u32;
    let clients = |n: u64| (0..n).map(|i| client(i, Duration::ZERO)).collect();
    let mut simulation = Simulation::new(1, &[Lane::default()], cost).warm();
    simulation.run(clients(9), None);
    assert_eq!(simulation.batches, [(0, 1), (0, 4), (0, 4)]);
    let mut simulation = Simulation::new(2, &[Lane::default()], cost);
    simulation.run(clients(10), None);
    assert_eq!(simulation.batches, [(0, 1), (0, 1), (0, 4), (0, 4)]);
}

#[test]
fn who_goes_away_frees_a_place() {
    let lane = Lane { waiting_max: 2, ..Lane::default() };
    let mut clients: Vec<Client> = (0..6).map(|i| client(i, MS / 10 * i as u32)).collect();
    clients[2].gone = Some(MS / 10 * 3 + MS / 20);
    // 0 runs, 1 and 2 wait, 3 finds no place, 2 goes, 4 takes its place, 5 finds none.
    let mut simulation = Simulation::new(1, &[lane], |_, rows| typical(rows));
    simulation.run(clients, None);
    let full = |id: u64| matches!(simulation.outcomes[&id], Outcome::Refused { reason: Reason::Full, .. });
    assert_eq!([0, 1, 2, 3, 4, 5].map(full), [false, false, false, true, false, true]);
    assert_eq!((simulation.outcomes[&2], simulation.batches.len()), (Outcome::Gone, 2));
}

#[test]
fn late_requests_are_told_when_they_are_late_not_after_the_run_before_them() {
    // The run that is under way takes a hundred times what was known.
    let mut runs = 0;
    let cost = move |_: usize, _: usize| {
        runs += 1;
        if runs == 1 { MS * 100 } else { MS }
    };
    let mut simulation = Simulation::new(1, &[Lane::default()], cost);
    simulation.batcher.observe(Duration::ZERO, 0, 1, MS);
    let mut waits = client(1, MS / 2);
    waits.request.deadline = Some(MS * 10);
    simulation.run(vec![client(0, Duration::ZERO), waits], None);
    let Outcome::Refused { at, reason: Reason::Late } = simulation.outcomes[&1] else {
        panic!("{:?}", simulation.outcomes[&1])
    };
    assert_eq!(at, MS * 9 + Duration::from_nanos(1));
}

#[test]
fn a_slow_spell_does_not_keep_everybody_out_for_ever() {
    // A second in which all runs take half a second each; the target is 20 ms.
    let lane = Lane { latency_max: Some(MS * 20), ..Lane::default() };
    let mut runs = 0;
    let cost = move |_: usize, rows: usize| {
        runs += 1;
        if (7..27).contains(&runs) { MS * 500 } else { typical(rows) }
    };
    let mut simulation = Simulation::new(1, &[lane], cost).warm();
    simulation.run(poisson(8, 100.0, Duration::from_secs(120)), None);
    let after = |client: &Client| client.at > Duration::from_secs(90);
    let answered = simulation.answered().filter(|(client, _)| after(client)).count();
    let all = simulation.clients.values().filter(|client| after(client)).count();
    assert!(answered as f64 > 0.99 * all as f64, "{answered} of {all}");
}

/// A machine that also does other work ran batches longer than expected now and then: those at the head of the queue had
/// too little time left for a full batch, were run in a small one, and made all behind them later. At three times the
/// load that ResNet-18 bore, nearly every batch was of one row, and goodput less than half of the capacity.
#[test]
fn runs_that_take_longer_than_expected_do_not_make_batches_small() {
    // Rows alone cost three times as much as in a full batch.
    let base = |rows: usize| MS * 6 + MS * 9 / 4 * rows.next_power_of_two() as u32;
    let lane = Lane { latency_max: Some(MS * 100), ..Lane::default() };
    for seed in [1, 2, 3] {
        let mut noise = RngKey::new(seed).fold_in(2).stream();
        let cost = move |_: usize, rows: usize| base(rows).mul_f64(0.9 + 0.4 * noise.uniform());
        let capacity = 16.0 / base(16).as_secs_f64() * 2.0 / 1.1;
        let mut simulation = Simulation::new(2, &[lane], cost).warm();
        let seconds = Duration::from_secs(10);
        simulation.run(poisson(seed, 3.0 * capacity, seconds), None);
        let in_time = simulation.answered().filter(|(client, at)| *at <= client.at + MS * 100).count();
        let goodput = in_time as f64 / (capacity * seconds.as_secs_f64());
        assert!(goodput >= 0.9, "{goodput}");
    }
}
