//! Models that were trained here: the graph of a package, for any number of rows. It answers for each row by itself, so that rows are filled up to one of a few numbers for which there are programs, and many are run in parts.

use std::collections::BTreeMap;

use outgrow_ir::{Diagnostic, Diagnostics, Dim, Graph, OutputRole, Sizes, Symbol, TensorType, Value, prune};
use outgrow_runtime::Weights;
use outgrow_tensor::{DType, Tensor};
use outgrow_transform::OutputSchema;

use crate::Port;
use crate::programs::Task;

/// Most rows that run at a time. Programs are compiled for powers of two up to this.
pub const ROWS_MAX: usize = 64;

/// A graph that answers.
#[derive(Debug)]
pub(crate) struct GraphBody {
    graph: Graph,
    /// The values of the model's inputs.
    inputs: Vec<Value>,
    /// Whether the first dimension of all inputs and of the output, and no other, is that of the rows.
    by_rows: bool,
}

/// Runs one program: on inputs that have its shapes, compiled from the task if it is not there.
type RunOnce<'a> =
    &'a dyn Fn(&[Tensor], &dyn Fn() -> Result<Task, Diagnostics>) -> Result<Vec<Tensor>, Diagnostics>;

/// Runs some rows, and is told how many there are.
type RunPart<'a> = &'a dyn Fn(&[Tensor], usize) -> Result<Vec<Tensor>, Diagnostics>;

pub(crate) fn unfit(problem: impl Into<String>) -> Diagnostic {
    Diagnostic::new("predict.package", problem)
        .hint("the parts of the model do not belong together; train it again, or take it from a whole run")
}

impl GraphBody {
    /// Puts graph and weights together; the inputs are what the transform gives.
    ///
    /// # Errors
    /// When they do not fit each other.
    pub fn new(
        mut graph: Graph,
        mut tensors: BTreeMap<String, Tensor>,
        schema: &OutputSchema,
    ) -> Result<(Self, Weights), Diagnostics> {
        graph.outputs.retain(|output| output.role == OutputRole::Result);
        let [result] = graph.outputs.as_slice() else {
            let problem = format!("the graph has {} results, and not one", graph.outputs.len());
            return Err(unfit(problem).into());
        };
        if graph.ty(result.value).dtype != DType::F32 {
            return Err(unfit("the graph's result is not of f32").into());
        }
        // What only the loss takes does not reach the result.
        let graph = prune(&graph, |input| !input.role.is_model())?;
        let mut problems = Diagnostics::default();
        let (mut inputs, mut weights) = (Vec::new(), BTreeMap::new());
        for (value, input) in graph.signature() {
            let name = input.name.as_str();
            match tensors.remove(name) {
                _ if !input.role.is_model() => {
                    inputs.push(value);
                    if !schema.inputs.iter().any(|field| field.name == name) {
                        problems.push(unfit(format!("the transform does not give the input `{name}`")));
                    }
                }
                Some(tensor) => {
                    problems.0.extend(check_weight(name, graph.ty(value), &tensor).err());
                    weights.insert(name.to_owned(), tensor);
                }
                None => problems.push(unfit(format!("there is no weight `{name}`"))),
            }
        }
        let of_rows = |dim: &Dim| dim.parts().1.factors().any(|symbol| symbol == Symbol::BATCH);
        let rows = |value: Value| match graph.ty(value).dims.split_first() {
            Some((first, rest)) => of_rows(first) && !rest.iter().any(of_rows),
            None => false,
        };
        let results = graph.outputs.iter().map(|output| output.value);
        let by_rows = inputs.iter().copied().chain(results).all(rows);
        problems.into_result((Self { graph, inputs, by_rows }, Weights::new(weights)))
    }

    /// The inputs that a caller gives.
    pub fn inputs(&self) -> Vec<Port> {
        self.inputs.iter().map(|v| Port::of_graph(self.graph.input_name(*v), self.graph.ty(*v))).collect()
    }

    /// The one output.
    pub fn outputs(&self) -> Vec<Port> {
        self.graph.outputs.iter().map(|o| Port::of_graph(&o.name, self.graph.ty(o.value))).collect()
    }

    /// Whether it answers for each row by itself.
    pub fn by_rows(&self) -> bool {
        self.by_rows
    }

    /// How many rows these inputs have, which are what they should be but for them; none where they are more than rows.
    pub fn rows(&self, inputs: &[Tensor]) -> Result<Option<usize>, Diagnostics> {
        let sizes = self.sizes(inputs)?;
        Ok(self.by_rows.then(|| sizes.get(Symbol::BATCH).unwrap_or(1)))
    }

    /// Runs on inputs that are what they should be but for their rows.
    pub fn run(
        &self,
        inputs: &[Tensor],
        outputs: &[usize],
        once: RunOnce<'_>,
    ) -> Result<Vec<Tensor>, Diagnostics> {
        let sizes = self.sizes(inputs)?;
        let rows = sizes.get(Symbol::BATCH).unwrap_or(1);
        let run = |inputs: &[Tensor], rows: usize| {
            once(inputs, &|| Ok(self.task(sizes.clone().with(Symbol::BATCH, rows), outputs)))
        };
        if !self.by_rows {
            return run(inputs, rows);
        }
        in_parts(inputs, outputs.len(), rows, ROWS_MAX, &run)
    }

    /// What the graph's symbols are for these inputs.
    fn sizes(&self, inputs: &[Tensor]) -> Result<Sizes, Diagnostics> {
        let mut sizes = Sizes::default();
        let mut problems = Diagnostics::default();
        for (value, tensor) in self.inputs.iter().zip(inputs) {
            let ty = self.graph.ty(*value);
            if !sizes.fit(&ty.dims, tensor.shape().dims()) {
                let name = self.graph.input_name(*value);
                let problem = format!("the array for `{name}` is {}{}", tensor.dtype(), tensor.shape());
                let problem = Diagnostic::new("predict.input", problem).item(format!("input `{name}`"));
                problems.push(problem.expected(format!("{ty}, a letter at least 1 and the same in all")));
            }
        }
        problems.into_result(sizes)
    }

    fn task(&self, sizes: Sizes, outputs: &[usize]) -> Task {
        let mut graph = self.graph.clone();
        graph.outputs = outputs.iter().map(|i| self.graph.outputs[*i].clone()).collect();
        let feeds = (0..self.inputs.len()).collect();
        Task { graph, sizes, feeds, known: Vec::new() }
    }
}

/// Runs at most `most` rows at a time, filled up to a power of two with zeros, and puts the outputs together.
pub(crate) fn in_parts(
    inputs: &[Tensor],
    outputs: usize,
    rows: usize,
    most: usize,
    run: RunPart<'_>,
) -> Result<Vec<Tensor>, Diagnostics> {
    if rows <= most && rows.is_power_of_two() {
        return run(inputs, rows);
    }
    let mut parts = Vec::new();
    for start in (0..rows).step_by(most) {
        let real = most.min(rows - start);
        let filled = real.next_power_of_two();
        let part = inputs.iter().map(|tensor| part(tensor, rows, start, real, filled));
        let part = part.collect::<Result<Vec<_>, _>>()?;
        parts.push((run(&part, filled)?, real, filled));
    }
    let join =
        |output| joined(parts.iter().map(|(tensors, real, filled)| (&tensors[output], *real, *filled)));
    Ok((0..outputs).map(join).collect::<Result<_, _>>()?)
}

/// Some rows of a tensor, with zeros behind them until there are `filled`.
pub(crate) fn part(
    tensor: &Tensor,
    rows: usize,
    start: usize,
    real: usize,
    filled: usize,
) -> Result<Tensor, Diagnostic> {
    let (all, mut shape) = (tensor.le_bytes(), tensor.shape().dims().to_vec());
    shape[0] = shape[0] / rows * filled;
    let row = all.len() / rows;
    let mut bytes = all[start * row..(start + real) * row].to_vec();
    bytes.resize(filled * row, 0);
    Tensor::from_le_bytes(tensor.dtype(), shape, &bytes)
        .map_err(|e| Diagnostic::fault("predict.rows", e.to_string()))
}

/// The real rows of tensors one after the other.
pub(crate) fn joined<'a>(
    parts: impl Iterator<Item = (&'a Tensor, usize, usize)>,
) -> Result<Tensor, Diagnostic> {
    let (mut bytes, mut shape, mut like) = (Vec::new(), Vec::new(), None);
    for (tensor, real, filled) in parts {
        let all = tensor.le_bytes();
        bytes.extend_from_slice(&all[..all.len() / filled * real]);
        let first = tensor.shape().dims().first().copied().unwrap_or_default() / filled * real;
        match shape.first_mut() {
            Some(there) => *there += first,
            None => {
                shape = tensor.shape().dims().to_vec();
                shape[..1].fill(first);
                like = Some(tensor.dtype());
            }
        }
    }
    let dtype = like.ok_or_else(|| Diagnostic::fault("predict.rows", "there are no rows"))?;
    Tensor::from_le_bytes(dtype, shape, &bytes).map_err(|e| Diagnostic::fault("predict.rows", e.to_string()))
}

/// Whether a weight is what the graph takes under its name.
fn check_weight(name: &str, ty: &TensorType, tensor: &Tensor) -> Result<(), Diagnostic> {
    if tensor.dtype() == ty.dtype && Some(tensor.shape()) == ty.static_shape().as_ref() {
        return Ok(());
    }
    Err(unfit(format!("`{name}` is {}{}", tensor.dtype(), tensor.shape())).expected(ty.to_string()))
}
