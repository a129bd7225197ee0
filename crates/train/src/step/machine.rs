//! The order of a step's work on one worker, as a state machine without I/O: it is told what has happened, and says what
//! is to be done next. Whoever drives it computes, adds, sends and receives; nothing is allocated from step to step.

use super::plan::{Node, StepPlan};
use thiserror::Error;

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The leaf of this number is to be computed.
    Compute(usize),
    /// The two children of a node are to be added: all elements, where this worker computes all of the node's leaves by
    /// itself, else those of its own range.
    Combine(Node),
    /// Another worker's range of a node's sum is to be sent to it.
    Send {
        /// One of this worker's [`StepPlan::subtrees`].
        node: Node,
        /// Whose range, and who gets it.
        to: usize,
    },
    /// This worker's range of the root is there: its parameters are to be updated.
    Update,
    /// The updated range is to be sent to all other workers.
    Share,
}

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A leaf has been computed.
    Computed(usize),
    /// The children of a node have been added.
    Combined(Node),
    /// This worker's range of another worker's subtree has come.
    Arrived(Node),
    /// This worker's range has been updated.
    Updated,
    /// The updated range of another worker has come.
    Shared(usize),
}

/// An event that cannot have happened: a message of a worker that has another plan, or one that came twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("unexpected in this step: {0:?}")]
pub struct Unexpected(pub Event);

/// One worker's part in a step.
#[derive(Debug)]
pub struct StepMachine {
    plan: StepPlan,
    me: usize,
    next_leaf: usize,
    /// By the number of the node: whether its sum (within this worker's range at least) is there or has been used.
    there: Vec<bool>,
    /// What can be sent now.
    sends: Vec<Action>,
    /// What else can be done now, the last first.
    ready: Vec<Action>,
    updated: bool,
    /// By worker: whether its updated range is here.
    shared: Vec<bool>,
}

impl StepMachine {
    /// A worker's part in the steps of a plan; [`StepMachine::start`] begins each.
    pub fn new(plan: StepPlan, me: usize) -> Self {
        assert!(me < plan.workers(), "invariant: a worker is one of the plan's");
        let (nodes, workers) = (2 * plan.leaves(), plan.workers());
        let mut machine = Self {
            me,
            next_leaf: 0,
            there: vec![false; nodes],
            // At most: every node to every worker, and a sum or an update for each node.
            sends: Vec::with_capacity(nodes * workers + 1),
            ready: Vec::with_capacity(nodes),
            updated: false,
            shared: vec![false; workers],
            plan,
        };
        machine.start();
        machine
    }

    /// The plan.
    pub fn plan(&self) -> &StepPlan {
        &self.plan
    }

    /// Begins a step, whatever became of the last one.
    pub fn start(&mut self) {
        self.next_leaf = self.plan.run(self.me).start;
        self.there.fill(false);
        self.sends.clear();
        self.ready.clear();
        self.updated = false;
        self.shared.fill(false);
        self.shared[self.me] = true;
    }

    /// What is to be done next; none while something must happen first, or when the step is done.
    pub fn next_action(&mut self) -> Option<Action> {
        // Sent before it is added to anything: the others wait for it, and it is there no longer afterwards. Sums come
        // before further leaves, so that few vectors are kept.
        if let Some(action) = self.sends.pop().or_else(|| self.ready.pop()) {
            return Some(action);
        }
        let leaf = self.next_leaf;
        (leaf < self.plan.run(self.me).end).then(|| {
            self.next_leaf += 1;
            Action::Compute(leaf)
        })
    }

    /// Whether all parameters are updated here.
    pub fn is_done(&self) -> bool {
        self.updated && self.shared.iter().all(|shared| *shared)
    }

    /// Takes notice.
    ///
    /// # Errors
    /// When that cannot have happened; nothing changes then.
    pub fn on(&mut self, event: Event) -> Result<(), Unexpected> {
        let accepted = match event {
            Event::Computed(leaf) => {
                (self.plan.run(self.me).start..self.next_leaf).contains(&leaf)
                    && self.complete(self.plan.leaf(leaf))
            }
            Event::Combined(node) => self.is_inner(node) && self.has_children(node) && self.complete(node),
            Event::Arrived(node) => self.is_others(node) && self.complete(node),
            Event::Updated => self.update(),
            Event::Shared(worker) => {
                let new = self.shared.get(worker) == Some(&false);
                if new {
                    self.shared[worker] = true;
                }
                new
            }
        };
        if accepted { Ok(()) } else { Err(Unexpected(event)) }
    }

    fn is_inner(&self, node: Node) -> bool {
        (1..self.plan.leaves()).contains(&node.0)
    }

    fn has_children(&self, node: Node) -> bool {
        node.children().iter().all(|child| self.there[child.0])
    }

    /// Whether a node is what another worker sends.
    fn is_others(&self, node: Node) -> bool {
        let mut others = (0..self.plan.workers()).filter(|worker| *worker != self.me);
        (1..self.there.len()).contains(&node.0) && others.any(|worker| self.is_subtree(worker, node))
    }

    /// Whether a node is one of a worker's largest.
    fn is_subtree(&self, worker: usize, node: Node) -> bool {
        self.plan.is_of(worker, node) && node.parent().is_none_or(|parent| !self.plan.is_of(worker, parent))
    }

    /// Notes that a sum is there, and what can be done for that; says whether it is new.
    fn complete(&mut self, node: Node) -> bool {
        if std::mem::replace(&mut self.there[node.0], true) {
            return false;
        }
        match node.parent() {
            None => self.ready.push(Action::Update),
            Some(parent) if self.there[node.sibling().0] => self.ready.push(Action::Combine(parent)),
            Some(_) => {}
        }
        if self.is_subtree(self.me, node) {
            let others = (0..self.plan.workers()).filter(|to| *to != self.me);
            self.sends.extend(others.map(|to| Action::Send { node, to }));
        }
        true
    }

    fn update(&mut self) -> bool {
        let new = self.there[Node::ROOT.0] && !self.updated;
        if new {
            self.updated = true;
            if self.plan.workers() > 1 {
                self.sends.push(Action::Share);
            }
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use outgrow_tensor::RngKey;
    use std::collections::BTreeMap;

    const ELEMENTS: usize = 3 * 4096 + 5;

    fn leaf(leaf: usize) -> Vec<f32> {
        (0..ELEMENTS).map(|i| ((i * 31 + leaf * 17) as f32).sin() * 10f32.powi((leaf % 5) as i32)).collect()
    }

    fn sum(left: &[f32], right: &[f32]) -> Vec<f32> {
        left.iter().zip(right).map(|(l, r)| l + r).collect()
    }

    /// The root, by the definition of the tree.
    fn root(leaves: usize) -> Vec<f32> {
        let mut row: Vec<Vec<f32>> = (0..leaves).map(leaf).collect();
        while row.len() > 1 {
            row = row.chunks(2).map(|pair| sum(&pair[0], &pair[1])).collect();
        }
        row.remove(0)
    }

    enum Message {
        Subtree(Node, Vec<f32>),
        Updated(usize, Vec<f32>),
    }

    /// Workers that do what their machines say, and whose messages come in any order.
    struct Workers {
        machines: Vec<StepMachine>,
        sums: Vec<BTreeMap<Node, Vec<f32>>>,
        results: Vec<Vec<f32>>,
        on_the_way: Vec<(usize, Message)>,
        sent: usize,
    }

    impl Workers {
        fn act(&mut self, me: usize, action: Action) {
            let plan = self.machines[me].plan().clone();
            let range = plan.range(me);
            let event = match action {
                Action::Compute(i) => {
                    self.sums[me].insert(plan.leaf(i), leaf(i));
                    Event::Computed(i)
                }
                Action::Combine(node) => {
                    let within =
                        |sum: Vec<f32>| if sum.len() == ELEMENTS { sum[range.clone()].to_vec() } else { sum };
                    let [left, right] = node.children().map(|child| self.sums[me].remove(&child).unwrap());
                    let own = plan.is_of(me, node);
                    let [left, right] = if own { [left, right] } else { [within(left), within(right)] };
                    self.sums[me].insert(node, sum(&left, &right));
                    Event::Combined(node)
                }
                Action::Send { node, to } => {
                    let part = self.sums[me][&node][plan.range(to)].to_vec();
                    self.on_the_way.push((to, Message::Subtree(node, part)));
                    self.sent += 1;
                    return;
                }
                Action::Update => {
                    let root = &self.sums[me][&Node::ROOT];
                    let mine =
                        if root.len() == ELEMENTS { root[range.clone()].to_vec() } else { root.clone() };
                    self.results[me][range].copy_from_slice(&mine);
                    Event::Updated
                }
                Action::Share => {
                    for to in (0..plan.workers()).filter(|to| *to != me) {
                        let part = self.results[me][range.clone()].to_vec();
                        self.on_the_way.push((to, Message::Updated(me, part)));
                    }
                    return;
                }
            };
            self.machines[me].on(event).unwrap();
        }

        fn receive(&mut self, which: usize) {
            let (to, message) = self.on_the_way.swap_remove(which);
            let event = match message {
                Message::Subtree(node, part) => {
                    self.sums[to].insert(node, part);
                    Event::Arrived(node)
                }
                Message::Updated(from, part) => {
                    let range = self.machines[to].plan().range(from);
                    self.results[to][range].copy_from_slice(&part);
                    Event::Shared(from)
                }
            };
            self.machines[to].on(event).unwrap();
            assert_eq!(self.machines[to].on(event), Err(Unexpected(event)), "a message that comes twice");
        }
    }

    /// Any number of workers, whoever is slow and whatever overtakes what: the same bits everywhere, and an end.
    #[test]
    fn all_workers_end_with_the_bits_of_one() {
        let mut draw = RngKey::new(1);
        for leaves in [1usize, 2, 4, 8] {
            let expect = root(leaves);
            for workers in 1..=leaves {
                for schedule in 0..20u64 {
                    let plan = StepPlan::new(leaves, workers, ELEMENTS).unwrap();
                    let mut all = Workers {
                        machines: (0..workers).map(|me| StepMachine::new(plan.clone(), me)).collect(),
                        sums: vec![BTreeMap::new(); workers],
                        results: vec![vec![f32::NAN; ELEMENTS]; workers],
                        on_the_way: Vec::new(),
                        sent: 0,
                    };
                    while !all.machines.iter().all(StepMachine::is_done) {
                        draw = draw.fold_in(schedule);
                        let choice = (draw.bits() % (workers + all.on_the_way.len()) as u64) as usize;
                        if choice >= workers {
                            all.receive(choice - workers);
                        } else if let Some(action) = all.machines[choice].next_action() {
                            all.act(choice, action);
                        }
                    }
                    assert!(all.on_the_way.is_empty());
                    assert!(all.machines.iter_mut().all(|m| m.next_action().is_none()));
                    for result in &all.results {
                        assert!(result.iter().zip(&expect).all(|(r, e)| r.to_bits() == e.to_bits()));
                    }
                    let subtrees: usize = (0..workers).map(|w| plan.subtrees(w).count()).sum();
                    assert_eq!(all.sent, subtrees * (workers - 1));
                }
            }
        }
    }

    #[test]
    fn what_cannot_have_happened_changes_nothing() {
        let mut machine = StepMachine::new(StepPlan::new(4, 2, 10).unwrap(), 0);
        for event in [
            Event::Computed(0),
            Event::Computed(3),
            Event::Combined(Node::ROOT),
            Event::Combined(Node(4)),
            Event::Arrived(Node(2)),
            Event::Arrived(Node(6)),
            Event::Arrived(Node(0)),
            Event::Arrived(Node(usize::MAX)),
            Event::Updated,
            Event::Shared(0),
            Event::Shared(2),
        ] {
            assert_eq!(machine.on(event), Err(Unexpected(event)));
        }
        assert_eq!(machine.next_action(), Some(Action::Compute(0)));
        assert_eq!(machine.next_action(), Some(Action::Compute(1)));
        assert_eq!(machine.next_action(), None);
        machine.start();
        assert_eq!(machine.next_action(), Some(Action::Compute(0)));
    }
}
