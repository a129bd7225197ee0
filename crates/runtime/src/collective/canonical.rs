//! The sum of all workers' leaves by the one fixed tree, whoever holds which: the bits do not depend on the workers.
//!
//! Each part of the vectors has an owner, where its sum is to end. A node of the tree whose leaves several workers hold is
//! computed where one of its children is, and the other child comes over a link; where that is done is chosen, for each
//! part by itself, so that the fewest vectors move (a minimum over all places, by dynamic programming from the leaves up).
//! Among equally cheap places the owner's number decides, which spreads the work. For a power of two of equal runs this is
//! recursive halving, with the bytes of a ring: `(n - 1) / n` of a vector from each of `n` workers.

use super::schedule::{Local, Round, Schedule, Transfer};
use super::tree::{Node, Tree};
use std::collections::BTreeMap;
use std::ops::Range;

/// The reduce-scatter: part `p` of the sum of all leaves comes to worker `p`, in its first vector. A worker's vectors are
/// the sums of its largest subtrees, in their order ([`Tree::subtrees`]); what else is in them afterwards is of no use.
pub fn reduce_scatter(tree: &Tree, parts: &[Range<usize>]) -> Schedule {
    reduce_scatter_by(tree, parts, &|_, _| 1)
}

/// The same where moving a vector from one worker to another takes `cost` of those two: the places of the additions are
/// those for which the moves of each part take the least together. The bits are the same whatever moves cost.
pub fn reduce_scatter_by(
    tree: &Tree,
    parts: &[Range<usize>],
    cost: &dyn Fn(usize, usize) -> usize,
) -> Schedule {
    let cost = |from: usize, to: usize| if from == to { 0 } else { cost(from, to) };
    let workers = tree.workers();
    let mut rounds: Vec<Round> = vec![Round::default(); tree.leaves().ilog2() as usize + 1];
    for (owner, range) in parts.iter().enumerate().filter(|(_, range)| !range.is_empty()) {
        let places = Places::find(tree, owner, &cost);
        let mut walk = Walk { tree, range, rounds: &mut rounds };
        let (place, slot) = walk.node(Node::ROOT, &places, places.source(Node::ROOT, owner));
        // The last round brings the sum to its owner.
        let last = rounds.last_mut();
        let last = last.filter(|_| (place, slot) != (owner, 0));
        if let Some(last) = last {
            let range = range.clone();
            if place == owner {
                last.locals.push(Local { worker: owner, source: slot, target: 0, range, add: false });
            } else {
                let (from, to) = (place, owner);
                last.transfers.push(Transfer { from, to, source: slot, target: 0, range, add: false });
            }
        }
    }
    let mut schedule = Schedule::empty(workers);
    rounds.into_iter().for_each(|round| schedule.push(round));
    schedule
}

/// What it takes to have a node's sum somewhere, in vectors moved.
struct Places<'a> {
    tree: &'a Tree,
    /// What it takes to move a vector from one worker to another.
    cost: &'a dyn Fn(usize, usize) -> usize,
    /// For each node whose leaves several workers hold: who could compute it, and what that takes.
    costs: BTreeMap<Node, Vec<(usize, usize)>>,
    owner: usize,
}

impl<'a> Places<'a> {
    fn find(tree: &'a Tree, owner: usize, cost: &'a dyn Fn(usize, usize) -> usize) -> Self {
        let mut places = Self { tree, cost, costs: BTreeMap::new(), owner };
        places.visit(Node::ROOT);
        places
    }

    fn visit(&mut self, node: Node) {
        if self.tree.owner(node).is_some() {
            return;
        }
        let [left, right] = node.children();
        self.visit(left);
        self.visit(right);
        let (of_left, of_right) = (self.of(left), self.of(right));
        let mut costs: BTreeMap<usize, usize> = BTreeMap::new();
        for (here, there) in [(&of_left, &of_right), (&of_right, &of_left)] {
            for (place, cost) in here {
                let all = cost + self.brought(there, *place);
                costs.entry(*place).and_modify(|least| *least = all.min(*least)).or_insert(all);
            }
        }
        self.costs.insert(node, costs.into_iter().collect());
    }

    /// Where a node can be, and what that takes.
    fn of(&self, node: Node) -> Vec<(usize, usize)> {
        match self.tree.owner(node) {
            Some(owner) => vec![(owner, 0)],
            None => self.costs[&node].clone(),
        }
    }

    /// From where a node's sum is brought to a place as cheaply as can be: from there, if that is as cheap as any.
    fn source(&self, node: Node, place: usize) -> usize {
        let of = self.of(node);
        let least = self.brought(&of, place);
        if of.iter().any(|(at, cost)| *at == place && *cost == least) {
            return place;
        }
        let cheapest: Vec<usize> = of
            .iter()
            .filter(|(at, cost)| cost + (self.cost)(*at, place) == least)
            .map(|(at, _)| *at)
            .collect();
        cheapest[self.owner % cheapest.len()]
    }

    /// What it takes to have at `place` what can be at `places`.
    fn brought(&self, places: &[(usize, usize)], place: usize) -> usize {
        let all = places.iter().map(|(at, cost)| cost + (self.cost)(*at, place));
        all.min().expect("invariant: a node can be somewhere")
    }
}

/// Writes down the rounds of one part.
struct Walk<'a> {
    tree: &'a Tree,
    range: &'a Range<usize>,
    rounds: &'a mut [Round],
}

impl Walk<'_> {
    /// Has a node's sum computed at `place`, which is among its places; says in which of that worker's vectors it is.
    fn node(&mut self, node: Node, places: &Places<'_>, place: usize) -> (usize, usize) {
        if let Some(owner) = self.tree.owner(node) {
            let slot = self.tree.subtrees(owner).take_while(|largest| *largest != node).count();
            return (owner, slot);
        }
        // The child that is computed here, the cheaper one if both can be.
        let [left, right] = node.children();
        let cost = |here: Node, there: Node| {
            let of = places.of(here);
            let own = of.iter().find(|(at, _)| *at == place)?.1;
            Some(own + places.brought(&places.of(there), place))
        };
        let (here, there) = match (cost(left, right), cost(right, left)) {
            (Some(l), Some(r)) if r < l => (right, left),
            (None, _) => (right, left),
            _ => (left, right),
        };
        let (_, target) = self.node(here, places, place);
        let (from, source) = self.node(there, places, places.source(there, place));
        // Leaves are deepest, and come first.
        let round = &mut self.rounds[(self.tree.leaves().ilog2() - 1 - node.depth()) as usize];
        let range = self.range.clone();
        if from == place {
            // Both are here: the sum goes where the left one is.
            let (source, target) = (source.max(target), source.min(target));
            round.locals.push(Local { worker: place, source, target, range, add: true });
            return (place, target);
        }
        round.transfers.push(Transfer { from, to: place, source, target, range, add: true });
        (place, target)
    }
}
