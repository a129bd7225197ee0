//! The order of a step's work on one worker, as a state machine without I/O: it is told what has happened, and says what
//! is to be done next. Whoever drives it computes, adds and exchanges; nothing is allocated from step to step.

use outgrow_runtime::collective::{Node, Tree};
use thiserror::Error;

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The leaf of this number is to be computed.
    Compute(usize),
    /// The two children of a node are to be added: this worker computes all of the node's leaves by itself.
    Combine(Node),
    /// The sums of this worker's largest subtrees are there: they are to be put together with those of the others.
    Reduce,
    /// The root is there: the parameters are to be updated.
    Update,
}

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A leaf has been computed.
    Computed(usize),
    /// The children of a node have been added.
    Combined(Node),
    /// The workers' sums have been put together.
    Reduced,
    /// The parameters have been updated.
    Updated,
}

/// An event that cannot have happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("unexpected in this step: {0:?}")]
pub struct Unexpected(pub Event);

/// One worker's part in a step.
#[derive(Debug)]
pub struct StepMachine {
    tree: Tree,
    me: usize,
    next_leaf: usize,
    /// By the number of the node: whether its sum is there or has been used.
    there: Vec<bool>,
    /// Of this worker's largest subtrees, how many are there yet to come.
    missing: usize,
    /// What can be done now, the last first.
    ready: Vec<Action>,
    updated: bool,
}

impl StepMachine {
    /// A worker's part in the steps over a tree; [`StepMachine::start`] begins each.
    pub fn new(tree: Tree, me: usize) -> Self {
        assert!(me < tree.workers(), "invariant: a worker is one of the plan's");
        let nodes = 2 * tree.leaves();
        let mut machine = Self {
            me,
            next_leaf: 0,
            there: vec![false; nodes],
            missing: 0,
            ready: Vec::with_capacity(nodes),
            updated: false,
            tree,
        };
        machine.start();
        machine
    }

    /// The worker's number.
    pub fn worker(&self) -> usize {
        self.me
    }

    /// The tree.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Begins a step, whatever became of the last one.
    pub fn start(&mut self) {
        self.next_leaf = self.tree.run(self.me).start;
        self.there.fill(false);
        self.missing = self.tree.subtrees(self.me).count();
        self.ready.clear();
        self.updated = false;
    }

    /// What is to be done next; none while something must happen first, or when the step is done.
    pub fn next_action(&mut self) -> Option<Action> {
        // Sums come before further leaves, so that few vectors are kept.
        if let Some(action) = self.ready.pop() {
            return Some(action);
        }
        let leaf = self.next_leaf;
        (leaf < self.tree.run(self.me).end).then(|| {
            self.next_leaf += 1;
            Action::Compute(leaf)
        })
    }

    /// Whether the parameters are updated.
    pub fn is_done(&self) -> bool {
        self.updated
    }

    /// Takes notice.
    ///
    /// # Errors
    /// When that cannot have happened; nothing changes then.
    pub fn on(&mut self, event: Event) -> Result<(), Unexpected> {
        let accepted = match event {
            Event::Computed(leaf) => {
                (self.tree.run(self.me).start..self.next_leaf).contains(&leaf)
                    && self.complete(self.tree.leaf(leaf))
            }
            Event::Combined(node) => {
                (1..self.tree.leaves()).contains(&node.0)
                    && self.tree.is_of(self.me, node)
                    && node.children().iter().all(|child| self.there[child.0])
                    && self.complete(node)
            }
            Event::Reduced => {
                let new = self.missing == 0 && !self.there[Node::ROOT.0];
                if new {
                    self.there[Node::ROOT.0] = true;
                    self.ready.push(Action::Update);
                }
                new
            }
            Event::Updated => {
                let new = self.there[Node::ROOT.0] && !self.updated;
                self.updated |= new;
                new
            }
        };
        if accepted { Ok(()) } else { Err(Unexpected(event)) }
    }

    /// Notes that a sum is there, and what can be done for that; says whether it is new.
    fn complete(&mut self, node: Node) -> bool {
        if std::mem::replace(&mut self.there[node.0], true) {
            return false;
        }
        let parent = node.parent();
        match parent.filter(|parent| self.tree.is_of(self.me, *parent)) {
            Some(parent) if self.there[node.sibling().0] => self.ready.push(Action::Combine(parent)),
            Some(_) => {}
            None => {
                self.missing -= 1;
                if node == Node::ROOT {
                    self.ready.push(Action::Update);
                } else if self.missing == 0 {
                    self.ready.push(Action::Reduce);
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a worker does in a step, in its order.
    fn step(machine: &mut StepMachine) -> Vec<Action> {
        machine.start();
        let mut done = Vec::new();
        while let Some(action) = machine.next_action() {
            let event = match action {
                Action::Compute(leaf) => Event::Computed(leaf),
                Action::Combine(node) => Event::Combined(node),
                Action::Reduce => Event::Reduced,
                Action::Update => Event::Updated,
            };
            machine.on(event).unwrap();
            assert_eq!(machine.on(event), Err(Unexpected(event)), "nothing happens twice");
            done.push(action);
        }
        assert!(machine.is_done());
        done
    }

    #[test]
    fn sums_are_made_as_soon_as_can_be() {
        let mut alone = StepMachine::new(Tree::new(4, 1), 0);
        let expect = [
            Action::Compute(0),
            Action::Compute(1),
            Action::Combine(Node(2)),
            Action::Compute(2),
            Action::Compute(3),
            Action::Combine(Node(3)),
            Action::Combine(Node::ROOT),
            Action::Update,
        ];
        assert_eq!(step(&mut alone), expect);
        assert_eq!(step(&mut alone), expect, "each step is like the first");
        let mut single = StepMachine::new(Tree::new(1, 1), 0);
        assert_eq!(step(&mut single), [Action::Compute(0), Action::Update]);
    }

    #[test]
    fn with_others_each_does_its_own_and_then_they_exchange() {
        let mut middle = StepMachine::new(Tree::new(8, 3), 1);
        let expect = [
            Action::Compute(3),
            Action::Compute(4),
            Action::Compute(5),
            Action::Combine(Node(6)),
            Action::Reduce,
            Action::Update,
        ];
        assert_eq!(step(&mut middle), expect);
    }

    #[test]
    fn what_cannot_have_happened_is_refused() {
        let mut machine = StepMachine::new(Tree::new(4, 2), 0);
        for event in [
            Event::Computed(0),
            Event::Computed(2),
            Event::Combined(Node(2)),
            Event::Combined(Node(3)),
            Event::Combined(Node::ROOT),
            Event::Combined(Node(99)),
            Event::Reduced,
            Event::Updated,
        ] {
            assert_eq!(machine.on(event), Err(Unexpected(event)));
        }
    }
}
