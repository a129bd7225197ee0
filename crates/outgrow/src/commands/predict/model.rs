//! A trained model that is ready to answer: the evaluation graph, the weights and the transform of a package.

use std::collections::BTreeMap;
use std::sync::Arc;

use outgrow_ir::{Diagnostic, Diagnostics, Graph, InputRole, OutputRole, TensorType, prune};
use outgrow_runtime::{Argument, Backend, Buffer, CompileOptions, Compiled, Instance, Weights, compile};
use outgrow_tensor::{DType, Tensor};
use outgrow_transform::{Record, Transform};

use crate::session::Package;

/// A model that answers for raw records.
#[derive(Debug)]
pub struct Predictor {
    transform: Transform,
    graph: Graph,
    /// For each input of the graph that is no weight, the number of the transform's.
    sources: Vec<usize>,
    backend: Arc<dyn Backend>,
    options: CompileOptions,
    program: Option<Program>,
}

/// The graph, compiled.
#[derive(Debug)]
struct Program {
    compiled: Compiled,
    instance: Box<dyn Instance>,
    rows: usize,
    out: Box<dyn Buffer>,
}

fn unfit(problem: String) -> Diagnostic {
    Diagnostic::new("predict.package", problem)
        .hint("the parts of the model do not belong together; train it again, or take it from a whole run")
}

impl Predictor {
    /// Puts the parts of a package together.
    ///
    /// # Errors
    /// When they do not fit each other.
    pub fn new(
        mut package: Package,
        backend: Arc<dyn Backend>,
        mut options: CompileOptions,
    ) -> Result<Self, Diagnostics> {
        let graph = answering(&package.graph)?;
        let fields = package.transform.schema().inputs;
        let mut problems = Diagnostics::default();
        let (mut sources, mut weights) = (Vec::new(), BTreeMap::new());
        for (value, input) in graph.signature() {
            let name = input.name.as_str();
            match input.role {
                InputRole::Param | InputRole::Buffer => match package.weights.remove(name) {
                    Some(tensor) => {
                        problems.0.extend(check(name, graph.ty(value), &tensor).err());
                        weights.insert(name.to_owned(), tensor);
                    }
                    None => problems.push(unfit(format!("there is no weight `{name}`"))),
                },
                _ => match fields.iter().position(|field| field.name == name) {
                    Some(i) => sources.push(i),
                    None => problems.push(unfit(format!("the transform does not give the input `{name}`"))),
                },
            }
        }
        options.weights = Arc::new(Weights::new(weights));
        let transform = package.transform;
        problems.into_result(Self { transform, graph, sources, backend, options, program: None })
    }

    /// What turns records into the model's inputs.
    pub fn transform(&self) -> &Transform {
        &self.transform
    }

    /// The model's outputs for some records, side by side: logits or predictions, equally many for each record. The
    /// first call fixes the rows of the program to the number of its records; a later call with fewer is filled up.
    ///
    /// # Errors
    /// A diagnostic for a record that does not fit, or parts of the package that do not fit each other.
    pub fn outputs(&mut self, records: &[Record]) -> Result<Vec<f32>, Diagnostics> {
        let inputs = self.transform.apply(records)?.inputs;
        self.outputs_of(inputs, records.len())
    }

    /// The same for the inputs that `count` records have become.
    ///
    /// # Errors
    /// As [`Predictor::outputs`].
    pub fn outputs_of(&mut self, inputs: Vec<Tensor>, count: usize) -> Result<Vec<f32>, Diagnostics> {
        let Program { compiled, instance, rows, out } = match &mut self.program {
            Some(program) if program.rows >= count => program,
            program => {
                let compiled = compile(&*self.backend, &self.graph, count, &self.options)?;
                let instance = self.backend.instance(&compiled)?;
                let out = self.backend.allocate(*compiled.bindings.bytes.last().unwrap_or(&0))?;
                program.insert(Program { compiled, instance, rows: count, out })
            }
        };
        let rows = *rows;
        let padded: Vec<Tensor> =
            inputs.into_iter().map(|input| padded(input, rows)).collect::<Result<_, _>>()?;
        let mut given = Vec::with_capacity(self.sources.len());
        for (source, (name, ty)) in self.sources.iter().zip(&compiled.inputs) {
            let tensor = &padded[*source];
            check(name, ty, tensor)?;
            given.push(tensor);
        }
        let ty = compiled.outputs.first().map(|(_, ty)| ty.clone());
        let elements = ty.as_ref().and_then(TensorType::static_shape).map_or(0, |shape| shape.elements());
        if ty.is_none_or(|ty| ty.dtype != DType::F32) || elements == 0 || !elements.is_multiple_of(rows) {
            return Err(unfit("the output does not hold numbers for each row".into()).into());
        }
        let mut arguments: Vec<Argument<'_>> =
            given.iter().map(|tensor| Argument::Host(tensor.as_bytes())).collect();
        arguments.push(Argument::write(&mut **out));
        instance.run(&mut arguments)?;
        let mut numbers = vec![0.0f32; elements / rows * count];
        self.backend.download(&**out, 0, bytemuck::cast_slice_mut(&mut numbers))?;
        Ok(numbers)
    }
}

/// A model's graph with its one result, and only the inputs that this depends on besides weights.
pub fn answering(graph: &Graph) -> Result<Graph, Diagnostics> {
    let mut graph = graph.clone();
    graph.outputs.retain(|output| output.role == OutputRole::Result);
    if graph.outputs.len() != 1 {
        return Err(unfit(format!("the graph has {} results, and not one", graph.outputs.len())).into());
    }
    prune(&graph, |input| !input.role.is_model())
}

/// The tensor with zeros added until it has so many rows.
fn padded(tensor: Tensor, rows: usize) -> Result<Tensor, Diagnostic> {
    let mut shape = tensor.shape().dims().to_vec();
    match shape.first_mut() {
        Some(first) if *first < rows => *first = rows,
        _ => return Ok(tensor),
    }
    let mut bytes = tensor.le_bytes().into_owned();
    bytes.resize(shape.iter().product::<usize>() * tensor.dtype().bytes(), 0);
    Tensor::from_le_bytes(tensor.dtype(), shape, &bytes).map_err(|e| unfit(e.to_string()))
}

/// Whether a tensor is what the program takes at this place.
fn check(name: &str, ty: &TensorType, tensor: &Tensor) -> Result<(), Diagnostic> {
    if tensor.dtype() == ty.dtype && Some(tensor.shape()) == ty.static_shape().as_ref() {
        return Ok(());
    }
    Err(unfit(format!("`{name}` is {}{}", tensor.dtype(), tensor.shape())).expected(ty.to_string()))
}
