//! The initialisers of a model, and what becomes of them in a graph.

use crate::tensors::OnnxTensor;
use outgrow_ir::{Builder, Dim, InputRole, TensorType, Value};
use outgrow_tensor::Tensor;
use std::sync::Arc;

/// What an initialiser becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialiserRole {
    /// An input that training may change.
    Param,
    /// An input that is state, as running statistics.
    Buffer,
    /// A constant of the graph.
    Constant,
}

/// An initialiser that became an input of the graph.
#[derive(Clone, Debug)]
pub struct Weight {
    /// Its name in the file.
    pub name: String,
    /// A parameter or a buffer.
    pub kind: InputRole,
    /// Its value in the file.
    pub tensor: Arc<Tensor>,
    /// The input of the graph.
    pub value: Value,
}

/// The initialisers while a graph is built.
#[derive(Debug)]
pub(crate) struct Weights {
    all: Vec<Initialiser>,
    /// Those that became inputs, in the order in which they did.
    pub used: Vec<Weight>,
}

#[derive(Debug)]
struct Initialiser {
    name: String,
    tensor: Arc<Tensor>,
    kind: InputRole,
    value: Option<Value>,
}

impl Weights {
    pub fn new() -> Self {
        Self { all: Vec::new(), used: Vec::new() }
    }

    /// Notes an initialiser that becomes an input once it is used; gives its number.
    pub fn add(&mut self, name: &str, read: &OnnxTensor, kind: InputRole) -> usize {
        let tensor = Arc::new(read.tensor.clone());
        self.all.push(Initialiser { name: name.to_owned(), tensor, kind, value: None });
        self.all.len() - 1
    }

    /// The tensor of an initialiser.
    pub fn tensor(&self, number: usize) -> &Arc<Tensor> {
        &self.all[number].tensor
    }

    /// The name of an initialiser.
    pub fn name(&self, number: usize) -> &str {
        &self.all[number].name
    }

    /// The type of an initialiser.
    pub fn ty(&self, number: usize) -> TensorType {
        let tensor = self.tensor(number);
        TensorType::new(tensor.dtype(), tensor.shape().dims().iter().map(|d| Dim::Fixed(*d)))
    }

    /// The initialiser as an input of the graph.
    pub fn value(&mut self, b: &mut Builder, number: usize) -> Value {
        let ty = self.ty(number);
        let weight = &mut self.all[number];
        if let Some(value) = weight.value {
            return value;
        }
        let value = b.input(&weight.name, weight.kind, ty);
        weight.value = Some(value);
        let (name, kind, tensor) = (weight.name.clone(), weight.kind, weight.tensor.clone());
        self.used.push(Weight { name, kind, tensor, value });
        value
    }
}
