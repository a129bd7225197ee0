//! Models of other frameworks: a file becomes a graph once the shapes of its inputs are known, and for some models only
//! once it is known what an input holds.

use outgrow_ir::{Diagnostics, Dim, Sizes, Value};
use outgrow_onnx::{Given, InitialiserRole, OnnxModel};
use outgrow_runtime::Weights;
use outgrow_tensor::Tensor;

use crate::Port;
use crate::programs::Task;

/// A model from a file.
#[derive(Debug)]
pub(crate) struct OnnxGraphs(OnnxModel);

impl OnnxGraphs {
    /// The model, and its weights, which all its graphs share.
    pub fn new(model: OnnxModel) -> (Self, Weights) {
        let weights =
            model.initialisers().filter(|(name, read)| model.role(name, read) != InitialiserRole::Constant);
        let weights = Weights::new(weights.map(|(name, read)| (name.to_owned(), read.tensor.clone())));
        (Self(model), weights)
    }

    /// What the file declares.
    pub fn inputs(&self) -> Vec<Port> {
        self.0.inputs.iter().map(Port::of_file).collect()
    }

    /// The outputs as the file declares them, which need not say more than their names.
    pub fn outputs(&self) -> Vec<Port> {
        let port = |(name, info): (&String, &Option<_>)| match info {
            Some(info) => Port::of_file(info),
            None => Port { name: name.clone(), dtype: None, dims: None },
        };
        self.0.outputs.iter().zip(&self.0.output_infos).map(port).collect()
    }

    /// The graph for these inputs, with the outputs of these numbers.
    pub fn task(&self, inputs: &[Tensor], outputs: &[usize]) -> Result<Task, Diagnostics> {
        let dims = |t: &Tensor| t.shape().dims().iter().map(|d| Dim::Fixed(*d)).collect();
        let mut given: Vec<Given> = inputs.iter().map(|tensor| Given::Dims(dims(tensor))).collect();
        let mut known = Vec::new();
        // Inputs that decide shapes are bound; each round binds at least one more.
        let (mut graph, imported) = loop {
            match self.0.graph(&given) {
                Ok(built) => break built,
                Err(refused) => {
                    let open = refused.bind.into_iter().filter(|i| matches!(given[*i], Given::Dims(_)));
                    let open: Vec<usize> = open.collect();
                    if open.is_empty() {
                        return Err(refused.diagnostics);
                    }
                    for i in open {
                        given[i] = Given::Tensor(inputs[i].clone());
                        known.push((i, inputs[i].clone()));
                    }
                }
            }
        };
        graph.outputs = outputs.iter().map(|i| graph.outputs[*i].clone()).collect();
        let input = |value: &Value| imported.inputs.iter().position(|v| *v == Some(*value));
        let feeds = graph.inputs.iter().filter_map(input).collect();
        Ok(Task { graph, sizes: Sizes::default(), feeds, known })
    }
}
