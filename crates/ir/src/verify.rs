//! The verifier: everything that must hold of a graph. It runs after every pass.

use crate::{Diagnostic, Diagnostics, Graph, GroupId, InputRole, Op, Output, OutputRole, TensorType, Value};
use outgrow_tensor::DType;
use std::collections::{BTreeSet, HashMap, HashSet};

/// A graph can be wrong at every node; this many problems are told.
const PROBLEMS_MAX: usize = 20;

impl Graph {
    /// Checks that nodes stand in topological order with the types their ops give, that no size overflows, that
    /// inputs, outputs and regions are sound, and that fusion groups can run as one. Finds everything that is wrong
    /// (up to a limit), not only the first.
    pub fn verify(&self) -> Result<(), Diagnostics> {
        let mut found = Diagnostics::default();
        self.verify_nodes(&mut found);
        self.verify_interface(&mut found);
        self.verify_regions(&mut found);
        if found.0.is_empty() {
            self.verify_roles(&mut found);
            self.verify_groups(&mut found);
        }
        found.into_result(())
    }

    fn report(&self, found: &mut Diagnostics, value: Value, problem: String) {
        if found.0.len() >= PROBLEMS_MAX {
            return;
        }
        let mut item = format!("%{}", value.0);
        if let Some(node) = self.nodes.get(value.index()) {
            item = format!("{item} ({} at `{}`)", node.op.rule().name(), node.origin);
        }
        found.push(Diagnostic::new("graph.invalid", problem).item(item).hint(
            "a graph that was written by hand or changed breaks a rule here; `outgrow graph` prints sound ones",
        ));
    }

    fn verify_nodes(&self, found: &mut Diagnostics) {
        for (value, node) in self.iter() {
            // What is told of a node may be as long as the types of its inputs.
            if found.0.len() >= PROBLEMS_MAX {
                return;
            }
            if let Some(bad) = node.inputs.iter().find(|v| v.index() >= value.index()) {
                self.report(found, value, format!("reads %{}, which comes later", bad.0));
                continue;
            }
            let types: Vec<_> = node.inputs.iter().map(|v| self.ty(*v)).collect();
            match node.op.rule().infer(&types) {
                Ok(ty) if ty == node.ty && fits(&ty) => {}
                Ok(ty) if ty == node.ty => self.report(found, value, format!("{ty} is too large")),
                Ok(ty) => self.report(found, value, format!("is marked {}, but is {ty}", node.ty)),
                Err(problem) => self.report(found, value, problem),
            }
        }
    }

    fn verify_interface(&self, found: &mut Diagnostics) {
        let inputs = self.iter().filter(|(_, node)| matches!(node.op, Op::Input(_))).map(|(value, _)| value);
        if !inputs.eq(self.inputs.iter().copied()) {
            self.report(
                found,
                Value(0),
                "the list of inputs is not that of the input nodes, in order".into(),
            );
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
        for Output { name, value, .. } in &self.outputs {
            if value.index() >= self.nodes.len() {
                self.report(found, *value, format!("output `{name}` does not exist"));
            }
            if !names.insert(name) {
                self.report(found, *value, format!("a second output is named `{name}`"));
            }
        }
    }

    /// Inputs and outputs have the types that their roles ask for, and what there can be one of is there once.
    fn verify_roles(&self, found: &mut Diagnostics) {
        let mut inputs = HashMap::new();
        let mut singles = HashSet::new();
        for (value, input) in self.signature() {
            inputs.insert(input.name.as_str(), (input.role, self.ty(value)));
            if input.role.is_single() && !singles.insert(input.role) {
                self.report(found, value, format!("is a second input of the role `{}`", input.role.name()));
            }
            let ty = self.ty(value);
            let expected = match input.role {
                InputRole::Weight if ty.rank() != 1 || !ty.dtype.is_float() => "a float for each sample",
                InputRole::Scale if ty.rank() != 0 || !ty.dtype.is_float() => "a float scalar",
                InputRole::Key if *ty != TensorType::scalar(DType::I64) => "i64[]",
                _ => continue,
            };
            self.report(found, value, format!("is {ty}, but a {} is {expected}", input.role.name()));
        }
        let mut roles = HashSet::new();
        for Output { role, value, .. } in &self.outputs {
            let ty = self.ty(*value);
            if *role != OutputRole::Result && !roles.insert(role) {
                self.report(found, *value, format!("is a second output of the role `{}`", role.name()));
            }
            match role.of() {
                None if *role == OutputRole::Result || ty.rank() == 0 && ty.dtype.is_float() => {}
                None => {
                    let problem = format!("is {ty}, but a {} is a float scalar", role.name());
                    self.report(found, *value, problem);
                }
                Some((name, kind)) if inputs.get(name) != Some(&(kind, ty)) => {
                    let problem = format!(
                        "is a {} of {ty}, but there is no {} `{name}` of this type",
                        role.name(),
                        kind.name()
                    );
                    self.report(found, *value, problem);
                }
                Some(_) => {}
            }
        }
    }

    fn verify_regions(&self, found: &mut Diagnostics) {
        for (i, region) in self.regions.iter().enumerate() {
            if region.parent.is_some_and(|p| p.0 as usize >= i) {
                self.report(found, Value(0), format!("region {i} lies in a later one"));
            }
            let mut values = region.operands.iter().chain(&region.results);
            if let Some(gone) = values.find(|v| v.index() >= self.nodes.len()) {
                self.report(found, *gone, format!("region {i} is of a value that does not exist"));
            }
            if let Err(problem) = region.check() {
                self.report(found, Value(0), format!("region {i} ({}): {problem}", region.kind));
            }
        }
        for (value, node) in self.iter() {
            if node.region.is_some_and(|r| r.0 as usize >= self.regions.len()) {
                self.report(found, value, "lies in a region that does not exist".into());
            }
        }
    }

    /// Groups can run as one kernel each only if they can be put in an order, together with the nodes outside them:
    /// no path leaves a group and comes back, and no two groups wait for each other.
    fn verify_groups(&self, found: &mut Diagnostics) {
        let mut number: HashMap<GroupId, usize> = HashMap::new();
        let mut units = 0;
        let mut unit = |group: Option<GroupId>| {
            let new = units;
            let unit = group.map_or(new, |g| *number.entry(g).or_insert(new));
            units += usize::from(unit == new);
            unit
        };
        let unit_of: Vec<usize> = self.nodes.iter().map(|node| unit(node.group)).collect();
        let edge = |(value, node): (Value, &crate::Node)| {
            let to = unit_of[value.index()];
            let from: Vec<usize> =
                node.inputs.iter().map(|v| unit_of[v.index()]).filter(|f| *f != to).collect();
            from.into_iter().map(move |from| (from, to))
        };
        let edges: Vec<(usize, usize)> = self.iter().flat_map(edge).collect();
        // What is neither after all of its inputs nor before all of its readers lies on a cycle, or between two.
        let mut stuck = unordered(units, edges.iter().copied());
        let inside = edges.iter().filter(|(from, to)| stuck[*from] && stuck[*to]);
        stuck = unordered(units, inside.map(|(from, to)| (*to, *from)));
        let mut told = BTreeSet::new();
        for (value, node) in self.iter().filter(|(v, _)| stuck[unit_of[v.index()]]) {
            if let Some(group) = node.group.filter(|g| told.insert(*g)) {
                self.report(found, value, format!("fusion group {} is left and entered again", group.0));
            }
        }
    }
}

/// Whether the bytes of a type can be counted, also along each of its dimensions when another is empty. What symbols
/// stand for is checked when they are bound, since the graph is verified again then.
fn fits(ty: &TensorType) -> bool {
    let elements = ty.dims.iter().try_fold(ty.dtype.bytes(), |n, d| n.checked_mul(d.unit().max(1)));
    elements.is_some_and(|bytes| isize::try_from(bytes).is_ok())
}

/// For each of `count` things, whether it has no place in an order in which `from` stands before `to` for each edge
/// `(from, to)`: it lies on a cycle or depends on one.
fn unordered(count: usize, edges: impl Iterator<Item = (usize, usize)>) -> Vec<bool> {
    let mut waits = vec![0usize; count];
    let mut readers = vec![Vec::new(); count];
    for (from, to) in edges {
        waits[to] += 1;
        readers[from].push(to);
    }
    let mut ready: Vec<usize> = (0..count).filter(|i| waits[*i] == 0).collect();
    while let Some(done) = ready.pop() {
        for reader in &readers[done] {
            waits[*reader] -= 1;
            if waits[*reader] == 0 {
                ready.push(*reader);
            }
        }
    }
    waits.into_iter().map(|w| w > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the verifier tells first of the graph with these lines.
    fn check(lines: &str, expected: &str) {
        let text = format!("graph \"g\" {{\n{lines}\nreturn\n}}");
        match Graph::parse(&text) {
            Ok(_) => assert_eq!(expected, "", "{lines}"),
            Err(found) => {
                assert!(!expected.is_empty() && found.0[0].to_string().contains(expected), "{found}")
            }
        }
    }

    fn input(value: u32, ty: &str) -> String {
        let dims = &ty[ty.find('[').unwrap()..];
        format!("%{value} = input {{name = \"x{value}\", role = data, dtype = f32, dims = {dims}}} : {ty}\n")
    }

    #[test]
    fn what_is_wrong_is_told() {
        let x = input(0, "f32[2, B]");
        let next = |line: &str| format!("{x}{line}");
        check(&next("%1 = neg %0 : f32[2, B]"), "");
        check(&next("%1 = neg %0 : f32[2]"), "%1 (neg at ``): is marked f32[2], but is f32[2, B]");
        check(&next("%1 = neg %1 : f32[2, B]"), "reads %1, which comes later");
        check(&next("%1 = neg %0 : f32[2, B] in r0"), "lies in a region that does not exist");
        check(&(x.clone() + &input(1, "f32[3]").replace("x1", "x0")), "a second input is named `x0`");
        check(&input(0, "f32[1073741824, 1073741824]"), "");
        for too_large in
            ["f32[2147483648, 1073741824]", "f32[0, 1073741824, 2147483648]", "f32[9223372036854775807B]"]
        {
            check(&input(0, too_large), "is too large");
        }
    }

    /// What the verifier tells first of the graph with these inputs and outputs.
    fn check_roles(inputs: &[&str], outputs: &str, expected: &str) {
        let line = |(i, text): (usize, &&str)| {
            let (role, ty) = text.split_once(' ').unwrap();
            let (dtype, dims) = ty.split_once('[').unwrap();
            format!(
                "%{i} = input {{name = \"x{i}\", role = {role}, dtype = {dtype}, dims = [{dims}}} : {ty}\n"
            )
        };
        let lines: String = inputs.iter().enumerate().map(line).collect();
        match Graph::parse(&format!("graph \"g\" {{\n{lines}return {outputs}\n}}")) {
            Ok(graph) => {
                assert_eq!(expected, "", "{inputs:?} {outputs}");
                assert_eq!(Graph::parse(&graph.to_string()).unwrap(), graph);
            }
            Err(found) => {
                assert!(!expected.is_empty() && found.0[0].to_string().contains(expected), "{found}")
            }
        }
    }

    #[test]
    fn roles_ask_for_types() {
        let all = ["param f32[2]", "buffer f32[3]", "data u8[B, 4]", "target i32[B]", "weight f32[B]"];
        let all = [&all[..], &["scale f32[]", "key i64[]"]].concat();
        check_roles(&all, "\"a\" = %5 as loss, \"b\" = %5 as metric \"correct5\", \"c\" = %2", "");
        check_roles(&all, "\"a\" = %0 as gradient \"x0\", \"b\" = %1 as statistic \"x1\"", "");
        for (input, expected) in [
            ("weight f32[B, 2]", "is f32[B, 2], but a weight is a float for each sample"),
            ("weight i32[B]", "is i32[B], but a weight"),
            ("scale f32[1]", "is f32[1], but a scale is a float scalar"),
            ("key i32[]", "is i32[], but a key is i64[]"),
            ("feed f32[2]", "`feed` is no role of an input: param, buffer, data"),
        ] {
            check_roles(&[input], "", expected);
        }
        for single in ["target i32[B]", "weight f32[B]", "scale f32[]", "key i64[]"] {
            check_roles(&[single, "data f32[2]", single], "", "is a second input of the role");
        }
        for (outputs, expected) in [
            ("\"a\" = %0 as loss", "is f32[2], but a loss is a float scalar"),
            ("\"a\" = %6 as loss", "is i64[], but a loss"),
            ("\"a\" = %0 as metric \"loss\"", "is f32[2], but a metric"),
            ("\"a\" = %5 as metric \"speed\"", "`speed` is no metric: loss, weight"),
            ("\"a\" = %5 as metric", "`metric` must say of what, in quotes"),
            ("\"a\" = %5 as gain", "`gain` is not result, loss, metric"),
            ("\"a\" = %5 as loss, \"b\" = %5 as loss", "is a second output of the role `loss`"),
            ("\"a\" = %1 as gradient \"x0\"", "but there is no param `x0` of this type"),
            ("\"a\" = %1 as gradient \"x1\"", "but there is no param `x1` of this type"),
            ("\"a\" = %0 as statistic \"x0\"", "but there is no buffer `x0` of this type"),
            ("\"a\" = %0 as gradient", "`gradient` must say of what, in quotes"),
        ] {
            check_roles(&all, outputs, expected);
        }
    }

    #[test]
    fn groups_that_cannot_be_ordered_are_told() {
        let x = input(0, "f32[2, 2]");
        let node = |value: u32, op: &str, group: &str| format!("%{value} = {op} : f32[2, 2] {group}\n");
        let dot = "lhs_batch = [], rhs_batch = [], lhs_contract = [1], rhs_contract = [0]";
        // A path leaves the group through the product and comes back.
        let left = |outside: &str| {
            let z = format!("dot %1, %1 {{{dot}}}");
            x.clone()
                + &node(1, "neg %0", "group g7")
                + &node(2, &z, outside)
                + &node(3, "add %1, %2", "group g7")
        };
        check(&left(""), "%1 (neg at ``): fusion group 7 is left and entered again");
        check(&left("group g7"), "");
        // Each of two groups waits for a node of the other, though no path comes back to where it began.
        let crossed = |last: &str| {
            let (a, b) = ("group g1", "group g2");
            let first = x.clone() + &node(1, "neg %0", a) + &node(2, "exp %0", b);
            first + &node(3, "abs %1", b) + &node(4, last, a) + &node(5, "neg %4", "group g3")
        };
        check(&crossed("abs %2"), "%1 (neg at ``): fusion group 1 is left and entered again");
        check(&crossed("abs %0"), "");
    }

    #[test]
    fn no_more_is_told_than_a_person_reads() {
        let wrong: String = (1..100).map(|i| format!("%{i} = neg %0 : f32[3]\n")).collect();
        let text = format!("graph \"g\" {{\n{}{wrong}return\n}}", input(0, "f32[2]"));
        assert_eq!(Graph::parse(&text).unwrap_err().0.len(), PROBLEMS_MAX);
    }
}
