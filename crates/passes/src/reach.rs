//! Which groups a value's readers lead to, while groups are formed from back to front. In a deep network the path from
//! a layer to its gradient is as long as the network, and is asked about for every layer; it must not be walked.

use outgrow_ir::Graph;

/// Placed nodes that count as one: a group, or a node without one.
#[derive(Debug)]
struct Unit {
    members: Vec<usize>,
    /// The lowest node among the members of this unit and of all that it leads to. What leads to a unit has a number
    /// here that is no higher than the unit's.
    lowest: usize,
    /// One of the units that this one leads to, that with the longest way before it; itself where there is none.
    parent: usize,
    /// One of the units along the parents, such that any of them is found in a number of steps logarithmic in the
    /// depth (Myers 1983, "An applicative random-access stack").
    jump: usize,
    depth: usize,
}

/// The units of the nodes placed so far. Nodes are placed from back to front, so a node's readers are placed before it.
#[derive(Debug)]
pub(crate) struct Reach<'a> {
    graph: &'a Graph,
    users: &'a [Vec<usize>],
    units: Vec<Unit>,
    unit_of: Vec<Option<usize>>,
    /// For each unit, the last search that met it.
    met: Vec<usize>,
    searches: usize,
}

/// More inputs of a group than this are not looked at before the search starts.
const TARGETS: usize = 8;

impl<'a> Reach<'a> {
    pub fn new(graph: &'a Graph, users: &'a [Vec<usize>]) -> Self {
        let unit_of = vec![None; graph.nodes.len()];
        Self { graph, users, units: Vec::new(), unit_of, met: Vec::new(), searches: 0 }
    }

    /// Places node `i`, in the unit of node `with` if there is one.
    pub fn place(&mut self, i: usize, with: Option<usize>) {
        match with.and_then(|node| self.unit_of[node]) {
            Some(unit) => self.join(i, unit),
            None => self.start(i),
        }
    }

    fn start(&mut self, i: usize) {
        let new = self.units.len();
        let readers = self.users[i].iter().filter_map(|u| self.unit_of[*u]);
        let mut unit = Unit { members: vec![i], lowest: i, parent: new, jump: new, depth: 0 };
        if let Some(parent) = readers.max_by_key(|u| self.units[*u].depth) {
            let (of, jump) = (&self.units[parent], self.units[parent].jump);
            let (near, far) = (self.units[jump].depth, self.units[self.units[jump].jump].depth);
            let even = of.depth - near == near - far;
            unit.jump = if even { self.units[jump].jump } else { parent };
            (unit.parent, unit.depth) = (parent, of.depth + 1);
        }
        self.units.push(unit);
        self.met.push(0);
        self.unit_of[i] = Some(new);
    }

    fn join(&mut self, i: usize, unit: usize) {
        self.unit_of[i] = Some(unit);
        self.units[unit].members.push(i);
        // All that leads to the unit now leads to `i`, which is lower than all that was placed before.
        let mut stack = vec![unit];
        while let Some(unit) = stack.pop() {
            if self.units[unit].lowest > i {
                self.units[unit].lowest = i;
                stack.extend(self.before(unit));
            }
        }
    }

    /// The units that lead to this one directly, some of them several times.
    fn before(&self, unit: usize) -> impl Iterator<Item = usize> {
        let inputs = self.units[unit].members.iter().flat_map(|m| &self.graph.nodes[*m].inputs);
        inputs.filter_map(|v| self.unit_of[v.index()]).filter(move |before| *before != unit)
    }

    /// The units that this one leads to directly, some of them several times.
    fn after(&self, unit: usize) -> impl Iterator<Item = usize> {
        let users = self.units[unit].members.iter().flat_map(|m| &self.users[*m]);
        users.filter_map(|u| self.unit_of[*u]).filter(move |after| *after != unit)
    }

    /// Whether a reader of node `i` that is not in the unit of node `to` leads there.
    pub fn leads(&mut self, i: usize, to: usize) -> bool {
        let Some(to) = self.unit_of[to] else { return false };
        self.searches += 1;
        let targets: Vec<usize> = self.before(to).take(TARGETS).chain([to]).collect();
        let readers = self.users[i].iter().filter_map(|u| self.unit_of[*u]);
        let mut stack: Vec<usize> = readers.filter(|u| *u != to).collect();
        while let Some(unit) = stack.pop() {
            if self.units[unit].lowest > self.units[to].lowest || self.met[unit] == self.searches {
                continue;
            }
            self.met[unit] = self.searches;
            if targets.iter().any(|target| self.follows(*target, unit)) {
                return true;
            }
            stack.extend(self.after(unit));
        }
        false
    }

    /// Whether `target` is `unit` or one of the units along its parents.
    fn follows(&self, target: usize, mut unit: usize) -> bool {
        let depth = self.units[target].depth;
        while self.units[unit].depth > depth {
            let jump = self.units[unit].jump;
            unit = if self.units[jump].depth >= depth { jump } else { self.units[unit].parent };
        }
        unit == target
    }
}
