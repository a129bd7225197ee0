//! Builds graphs node by node. Types are inferred as nodes are added; the first mistake is kept with the layer it
//! happened in and reported by [`Builder::finish`], so that code that builds models reads as plain formulas.

use crate::graph::{Graph, Node, Value};
use crate::{
    Attr, Diagnostic, Diagnostics, Dim, Op, Output, OutputRole, Region, RegionId, Results, TensorType,
};
use outgrow_tensor::DType;
use std::sync::Arc;

/// Builds a [`Graph`].
#[derive(Debug, Default)]
pub struct Builder {
    graph: Graph,
    scope: Vec<String>,
    origin: Arc<str>,
    region: Option<RegionId>,
    poisoned: Vec<bool>,
    errors: Vec<Diagnostic>,
}

impl Builder {
    /// An empty graph of this name.
    pub fn new(name: &str) -> Self {
        Self { graph: Graph { name: name.into(), ..Graph::default() }, ..Self::default() }
    }

    /// Goes on building an existing graph: its values keep their numbers. Fusion groups are forgotten.
    pub fn extend(mut graph: Graph) -> Self {
        for node in &mut graph.nodes {
            node.group = None;
        }
        Self { poisoned: vec![false; graph.nodes.len()], graph, ..Self::default() }
    }

    /// The graph built so far.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Runs `build` with `name` appended to the path of the layer being built.
    pub fn scoped<T>(&mut self, name: &str, build: impl FnOnce(&mut Self) -> T) -> T {
        let outer = self.origin.clone();
        self.scope.push(name.to_owned());
        self.origin = self.scope.join(".").into();
        let result = build(self);
        self.scope.pop();
        self.origin = outer;
        result
    }

    /// The path of the layer being built, with `name` appended: the name of its parameter.
    pub fn path(&self, name: &str) -> String {
        if self.scope.is_empty() { name.to_owned() } else { format!("{}.{name}", self.scope.join(".")) }
    }

    /// Runs `build` with everything marked as coming from `origin` and not from the current layer.
    pub fn with_origin<T>(&mut self, origin: Arc<str>, build: impl FnOnce(&mut Self) -> T) -> T {
        let outer = std::mem::replace(&mut self.origin, origin);
        let result = build(self);
        self.origin = outer;
        result
    }

    /// Runs `build` with its nodes marked as one region.
    pub(crate) fn region<T: Results>(
        &mut self,
        kind: &str,
        attrs: Vec<(String, Attr)>,
        operands: &[Value],
        build: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let id = RegionId(self.graph.regions.len() as u32);
        let (kind, origin, parent) = (kind.to_owned(), self.origin.clone(), self.region);
        let (operands, results) = (operands.to_vec(), Vec::new());
        self.graph.regions.push(Region { kind, attrs, operands, results, origin, parent });
        self.region = Some(id);
        let made = build(self);
        self.region = parent;
        self.graph.regions[id.0 as usize].results = made.values();
        made
    }

    /// Adds a node. If the types do not fit, the mistake is kept and the result stands in for a value, so that
    /// building can go on.
    pub fn push(&mut self, op: impl Into<Op>, inputs: &[Value]) -> Value {
        let op = op.into();
        let poisoned = inputs.iter().any(|v| self.poisoned[v.index()]);
        let types: Vec<_> = inputs.iter().map(|v| self.graph.ty(*v)).collect();
        let inferred = if poisoned { None } else { Some(op.rule().infer(&types)) };
        let (ty, poisoned) = match inferred {
            Some(Ok(ty)) => (ty, false),
            Some(Err(problem)) => {
                let shapes = types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                self.fail(format!("{}({shapes}): {problem}", op.rule().name()));
                (TensorType::scalar(DType::F32), true)
            }
            None => (TensorType::scalar(DType::F32), true),
        };
        self.append(op, inputs, ty, poisoned)
    }

    fn append(&mut self, op: Op, inputs: &[Value], ty: TensorType, poisoned: bool) -> Value {
        let value = Value(self.graph.nodes.len() as u32);
        if matches!(op, Op::Input(_)) {
            self.graph.inputs.push(value);
        }
        self.graph.nodes.push(Node {
            op,
            inputs: inputs.to_vec(),
            ty,
            origin: self.origin.clone(),
            region: self.region,
            group: None,
        });
        self.poisoned.push(poisoned);
        value
    }

    /// Copies a node of another graph with these inputs, with its type, origin and region as they are.
    pub fn copy(&mut self, node: &Node, inputs: &[Value]) -> Value {
        let poisoned = inputs.iter().any(|v| self.poisoned[v.index()]);
        let value = self.append(node.op.clone(), inputs, node.ty.clone(), poisoned);
        let copy = &mut self.graph.nodes[value.index()];
        (copy.origin, copy.region) = (node.origin.clone(), node.region);
        value
    }

    /// Keeps a mistake in what is being built and gives a stand-in for the value that could not be made.
    pub fn error(&mut self, problem: impl Into<String>) -> Value {
        self.fail(problem.into());
        let op = crate::ops::constant::Constant::scalar(0.0, DType::F32);
        self.append(op.into(), &[], TensorType::scalar(DType::F32), true)
    }

    fn fail(&mut self, problem: String) {
        let diagnostic = Diagnostic::new("graph.build", problem)
            .hint("change the layer, or what comes before it, so that their types and shapes fit");
        let origin = if self.origin.is_empty() { &self.graph.name } else { &*self.origin };
        self.errors.push(diagnostic.item(format!("layer `{origin}`")));
    }

    /// Whether `value` stands in for one that could not be made.
    pub fn is_poisoned(&self, value: Value) -> bool {
        self.poisoned[value.index()]
    }

    /// The type of a value.
    pub fn ty(&self, value: Value) -> &TensorType {
        self.graph.ty(value)
    }

    /// The element type of a value.
    pub fn dtype(&self, value: Value) -> DType {
        self.ty(value).dtype
    }

    /// The dimensions of a value.
    pub fn dims(&self, value: Value) -> Vec<Dim> {
        self.ty(value).dims.clone()
    }

    /// Number of dimensions of a value.
    pub fn rank(&self, value: Value) -> usize {
        self.ty(value).rank()
    }

    /// Dimension `axis` of a value, or 1 where there is none (as in a stand-in).
    pub fn dim(&self, value: Value, axis: usize) -> Dim {
        self.ty(value).dims.get(axis).copied().unwrap_or(Dim::Fixed(1))
    }

    /// Dimension `axis` as a number; a symbolic one is a mistake that is kept.
    pub fn fixed_dim(&mut self, value: Value, axis: usize) -> usize {
        match self.dim(value, axis) {
            Dim::Fixed(n) => n,
            d @ Dim::Symbolic(..) => {
                self.fail(format!("dimension {axis} is {d}, but must be known"));
                1
            }
        }
    }

    /// Keeps a mistake unless `value` has this many dimensions; says whether it has.
    pub fn expect_rank(&mut self, value: Value, rank: usize, layout: &str) -> bool {
        if self.is_poisoned(value) {
            return false;
        }
        let ok = self.rank(value) == rank;
        if !ok {
            self.fail(format!("needs an input of shape {layout}, got {}", self.ty(value)));
        }
        ok
    }

    /// Names a value as the next output: a result.
    pub fn output(&mut self, name: &str, value: Value) {
        self.output_as(name, OutputRole::Result, value);
    }

    /// Names a value as the next output, of this role.
    pub fn output_as(&mut self, name: &str, role: OutputRole, value: Value) {
        self.graph.outputs.push(Output { name: name.into(), role, value });
    }

    /// The finished graph, or every mistake that was made.
    pub fn finish(self) -> Result<Graph, Diagnostics> {
        Diagnostics(self.errors).into_result(self.graph)
    }
}
