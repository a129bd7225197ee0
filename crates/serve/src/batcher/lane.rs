//! The requests that wait for one model, in the order in which they run, and which of them make the next batch.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::cost::Cost;
use super::{Lane, Request};

/// The place of a request in its queue: its priority, then when it came.
pub(super) type Place = (u32, u64);

/// Requests that come together make no batch that takes longer: who comes meanwhile waits for it, and machines are busy with
/// less.
pub(super) const RUN_MAX_S: f64 = 0.25;

/// How much a request's time enters what is known of it.
const SLACK_SHARE: f64 = 1.0 / 64.0;

/// A model's queue.
#[derive(Debug)]
pub(super) struct Queue {
    pub lane: Lane,
    pub cost: Cost,
    /// Seconds of the machine that the model had, by its weight: who had least is next.
    pub virtual_s: f64,
    /// When a run of it was last observed.
    pub observed: Duration,
    pub rows: usize,
    /// Seconds that requests of late have had to be answered in, if they had to be in time.
    slack_s: Option<f64>,
    waiting: BTreeMap<Place, Request>,
    /// Those with deadlines, by when they have to start at the latest.
    latest: BTreeSet<(Duration, Place)>,
}

pub(super) fn seconds(s: f64) -> Duration {
    Duration::try_from_secs_f64(s.max(0.0)).unwrap_or(Duration::MAX)
}

impl Queue {
    pub fn new(lane: Lane) -> Self {
        Self {
            lane,
            cost: Cost::default(),
            virtual_s: 0.0,
            observed: Duration::ZERO,
            rows: 0,
            slack_s: None,
            waiting: BTreeMap::new(),
            latest: BTreeSet::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// When a request has to start at the latest, by what its rows alone cost.
    fn latest_start(&self, request: &Request) -> Option<Duration> {
        Some(request.deadline?.saturating_sub(seconds(self.cost.mean_s(request.rows))))
    }

    pub fn push(&mut self, place: Place, request: Request) {
        self.latest.extend(self.latest_start(&request).map(|at| (at, place)));
        self.rows += request.rows;
        self.waiting.insert(place, request);
    }

    pub fn remove(&mut self, place: Place) -> Option<Request> {
        let request = self.waiting.remove(&place)?;
        self.rows -= request.rows;
        // What it costs may be known better than when it came.
        match self.latest_start(&request) {
            Some(at) if self.latest.remove(&(at, place)) => {}
            Some(_) => self.latest.retain(|(_, other)| *other != place),
            None => {}
        }
        Some(request)
    }

    /// When the first request will be late.
    pub fn next_late(&self) -> Option<Duration> {
        self.latest.first().map(|(at, _)| *at)
    }

    /// A request that can no longer be answered in time, taken out.
    pub fn pop_late(&mut self, now: Duration) -> Option<Request> {
        let (at, place) = *self.latest.first()?;
        if at >= now {
            return None;
        }
        self.latest.pop_first();
        let request = self.waiting.remove(&place)?;
        self.rows -= request.rows;
        Some(request)
    }

    /// A request has come that has to be answered within this time.
    pub fn note_slack(&mut self, slack: Duration) {
        let slack_s = slack.as_secs_f64();
        self.slack_s = Some(self.slack_s.map_or(slack_s, |known| known + (slack_s - known) * SLACK_SHARE));
    }

    /// Most rows of a batch: as many as can run after another batch of as many has been waited for, all in the time
    /// that requests have; and no more than take [`RUN_MAX_S`]. A model that has never run is tried with one row.
    pub fn rows_max(&self, executors: usize) -> usize {
        let wait = 1.0 + 1.0 / executors as f64;
        let fits = |rows: usize| {
            let in_time = self.slack_s.is_none_or(|slack_s| self.cost.safe_s(rows) * wait <= slack_s);
            in_time && self.cost.has_run() && self.cost.mean_s(rows) <= RUN_MAX_S
        };
        let mut rows = self.lane.rows_max;
        while rows > 1 && !fits(rows) {
            rows = rows.next_power_of_two() / 2;
        }
        rows
    }

    /// Seconds that it takes to run all that wait, in batches of so many rows.
    pub fn work_s(&self, rows_max: usize) -> f64 {
        let (full, rest) = (self.rows / rows_max, self.rows % rows_max);
        let rest_s = if rest > 0 { self.cost.mean_s(rest) } else { 0.0 };
        full as f64 * self.cost.mean_s(rows_max) + rest_s
    }

    /// Requests that have too little time left for a full batch, though enough others of their kind and priority wait
    /// behind them that have it. A batch small enough for those ahead would make all that wait behind it later, and the
    /// next batch smaller still.
    pub fn too_tight(&self, now: Duration, rows_max: usize) -> Vec<Place> {
        let Some(((priority, _), first)) = self.waiting.first_key_value() else { return Vec::new() };
        if self.rows <= rows_max || first.group.is_none() {
            return Vec::new();
        }
        let end = now.saturating_add(seconds(self.cost.safe_s(rows_max)));
        let (mut tight, mut rows) = (Vec::new(), 0usize);
        for (place, request) in &self.waiting {
            if place.0 != *priority || request.group != first.group {
                continue;
            }
            if request.deadline.is_some_and(|deadline| deadline < end) {
                tight.push(*place);
            } else {
                rows = rows.saturating_add(request.rows);
            }
            if rows >= rows_max {
                return tight;
            }
        }
        Vec::new()
    }

    /// The requests of the next batch, which stay in the queue: the first, and those behind it that may run with it.
    pub fn batch(&self, now: Duration, rows_max: usize) -> Vec<Place> {
        let mut chosen: Vec<(Place, Request)> = Vec::new();
        let (mut rows, mut deadline) = (0usize, Duration::MAX);
        for (place, request) in &self.waiting {
            if let Some((_, first)) = chosen.first() {
                if request.group.is_none() || request.group != first.group {
                    continue;
                }
                let together = rows.saturating_add(request.rows);
                let end = now.saturating_add(seconds(self.cost.safe_s(together)));
                if together > rows_max || end > deadline.min(request.deadline.unwrap_or(Duration::MAX)) {
                    break;
                }
            }
            rows = rows.saturating_add(request.rows);
            deadline = deadline.min(request.deadline.unwrap_or(Duration::MAX));
            chosen.push((*place, *request));
            if request.group.is_none() || rows >= rows_max {
                break;
            }
        }
        let full = self.without_padding(now, &chosen, rows);
        chosen.truncate(full);
        chosen.into_iter().map(|(place, _)| place).collect()
    }

    /// How many of the chosen requests to run now: all, filled up with padding, or fewer that need none if these run
    /// faster by row, and the others are still in time afterwards.
    fn without_padding(&self, now: Duration, chosen: &[(Place, Request)], rows: usize) -> usize {
        let filled = rows.max(1).next_power_of_two();
        if filled == rows || !self.cost.is_known(rows) || !self.cost.is_known(filled / 2) {
            return chosen.len();
        }
        let (mut fewer, mut count) = (0, 0);
        for (_, request) in chosen {
            if fewer + request.rows > filled / 2 {
                break;
            }
            fewer += request.rows;
            count += 1;
        }
        let rate = |rows: usize| rows as f64 / self.cost.mean_s(rows);
        let end = now + seconds(self.cost.safe_s(fewer) + self.cost.safe_s(rows - fewer));
        let in_time = chosen[count..].iter().all(|(_, request)| request.deadline.is_none_or(|at| end <= at));
        if count > 0 && rate(fewer) > rate(rows) && in_time { count } else { chosen.len() }
    }
}
