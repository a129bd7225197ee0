//! The verifier: everything that must hold of a graph. It runs after every pass.

use crate::{Diagnostic, Diagnostics, Graph, GroupId, Op, Value};
use std::collections::{HashMap, HashSet};

impl Graph {
    /// Checks that nodes stand in topological order with the types their ops give, that inputs, outputs and regions
    /// are sound, and that fusion groups can run as one. Finds everything that is wrong, not only the first.
    pub fn verify(&self) -> Result<(), Diagnostics> {
        let mut found = Diagnostics::default();
        self.verify_nodes(&mut found);
        self.verify_interface(&mut found);
        self.verify_regions(&mut found);
        if found.0.is_empty() {
            self.verify_groups(&mut found);
        }
        found.into_result(())
    }

    fn report(&self, found: &mut Diagnostics, value: Value, problem: String) {
        let mut item = format!("%{}", value.0);
        if let Some(node) = self.nodes.get(value.index()) {
            item = format!("{item} ({} at `{}`)", node.op.rule().name(), node.origin);
        }
        found.push(Diagnostic::new("graph.invalid", problem).item(item));
    }

    fn verify_nodes(&self, found: &mut Diagnostics) {
        for (value, node) in self.iter() {
            if let Some(bad) = node.inputs.iter().find(|v| v.index() >= value.index()) {
                self.report(found, value, format!("reads %{}, which comes later", bad.0));
                continue;
            }
            let types: Vec<_> = node.inputs.iter().map(|v| self.ty(*v)).collect();
            match node.op.rule().infer(&types) {
                Ok(ty) if ty == node.ty => {}
                Ok(ty) => self.report(found, value, format!("is marked {}, but is {ty}", node.ty)),
                Err(problem) => self.report(found, value, problem),
            }
        }
    }

    fn verify_interface(&self, found: &mut Diagnostics) {
        let declared: HashSet<Value> = self.inputs.iter().copied().collect();
        let inputs = self.iter().filter(|(_, node)| matches!(node.op, Op::Input(_)));
        let expected: Vec<Value> = inputs.map(|(value, _)| value).collect();
        if declared.len() != self.inputs.len() || expected.iter().any(|v| !declared.contains(v)) {
            self.report(found, Value(0), "the list of inputs is not the set of input nodes".into());
        }
        let mut names = HashSet::new();
        for value in &self.inputs {
            match self.nodes.get(value.index()).map(|n| &n.op) {
                Some(Op::Input(input)) if !names.insert(&input.name) => {
                    self.report(found, *value, format!("a second input is named `{}`", input.name));
                }
                Some(Op::Input(_)) => {}
                _ => self.report(found, *value, "is listed as an input, but is none".into()),
            }
        }
        let mut names = HashSet::new();
        for (name, value) in &self.outputs {
            if value.index() >= self.nodes.len() {
                self.report(found, *value, format!("output `{name}` does not exist"));
            }
            if !names.insert(name) {
                self.report(found, *value, format!("a second output is named `{name}`"));
            }
        }
    }

    fn verify_regions(&self, found: &mut Diagnostics) {
        for (i, region) in self.regions.iter().enumerate() {
            if region.parent.is_some_and(|p| p.0 as usize >= i) {
                self.report(found, Value(0), format!("region {i} lies in a later one"));
            }
        }
        for (value, node) in self.iter() {
            if node.region.is_some_and(|r| r.0 as usize >= self.regions.len()) {
                self.report(found, value, "lies in a region that does not exist".into());
            }
        }
    }

    /// A group may run as one kernel only if no path leaves it and comes back.
    fn verify_groups(&self, found: &mut Diagnostics) {
        // For each node, the groups that some path from inside them has left before reaching it.
        let mut left: Vec<HashSet<GroupId>> = Vec::with_capacity(self.nodes.len());
        let mut first: HashMap<GroupId, Value> = HashMap::new();
        for (value, node) in self.iter() {
            let mut seen = HashSet::new();
            for input in &node.inputs {
                seen.extend(left[input.index()].iter().copied());
                if let Some(group) = self.node(*input).group.filter(|g| Some(*g) != node.group) {
                    seen.insert(group);
                }
            }
            if let Some(group) = node.group {
                first.entry(group).or_insert(value);
                if seen.contains(&group) {
                    self.report(found, value, format!("fusion group {} is left and entered again", group.0));
                }
            }
            left.push(seen);
        }
    }
}
