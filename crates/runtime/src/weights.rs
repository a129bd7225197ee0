//! Weights: tensors that are bound to a graph's inputs when it is compiled.

use outgrow_ir::{Diagnostic, Diagnostics, Graph, Value};
use outgrow_kernels::{Products, Weight};
use outgrow_tensor::Tensor;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Tensors that stay as they are, by the names of the inputs that they are bound to. All programs that are compiled with
/// them, for whatever batch sizes, and all their instances share them, and the copies in the layouts that kernels want:
/// each is made once. So is what graphs compute of weights alone, which is there as long as one of the programs is.
#[derive(Debug, Default)]
pub struct Weights {
    tensors: BTreeMap<String, Arc<Weight>>,
    derived: Mutex<Vec<Derived>>,
}

/// What a graph of weights alone gives, and that graph. Programs hold it: what is computed may depend on the sizes that they
/// are compiled for, of which there may be any number in turn.
#[derive(Debug)]
pub(crate) struct Derived {
    /// The graph.
    pub graph: Graph,
    /// How its products were computed.
    pub products: Products,
    /// What it gives.
    pub weight: Weak<Weight>,
}

impl Weights {
    /// Weights by the names of inputs.
    pub fn new(tensors: impl IntoIterator<Item = (String, Tensor)>) -> Self {
        Self::sharing(
            tensors.into_iter().map(|(name, tensor)| (name, Arc::new(Weight::new(tensor)))).collect(),
        )
    }

    /// Weights that others may have too.
    pub(crate) fn sharing(tensors: BTreeMap<String, Arc<Weight>>) -> Self {
        Self { tensors, derived: Mutex::default() }
    }

    /// All of them, by name.
    pub(crate) fn tensors(&self) -> &BTreeMap<String, Arc<Weight>> {
        &self.tensors
    }

    /// What was computed of them, some of which nobody may hold any more. Who else wants to compute something of them
    /// waits.
    pub(crate) fn derived(&self) -> MutexGuard<'_, Vec<Derived>> {
        self.derived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The weight that is bound to an input of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Weight>> {
        self.tensors.get(name)
    }

    /// Bytes of the tensors, and of what programs that are there have computed of them and kernels have packed so far.
    pub fn bytes(&self) -> (usize, usize) {
        let tensors = self.tensors.values().map(|w| w.tensor().bytes()).sum();
        let packed: usize = self.tensors.values().map(|w| w.packed_bytes()).sum();
        let derived: Vec<Arc<Weight>> =
            self.derived().iter().filter_map(|known| known.weight.upgrade()).collect();
        let derived: usize = derived.iter().map(|w| w.tensor().bytes() + w.packed_bytes()).sum();
        (tensors, packed + derived)
    }

    /// The weight that is bound to an input of a graph.
    pub fn bound(&self, graph: &Graph, input: Value) -> Option<&Arc<Weight>> {
        if self.tensors.is_empty() { None } else { self.get(graph.input_name(input)) }
    }

    /// Checks that the weights are of the types of the inputs that they are bound to.
    pub(crate) fn check(&self, graph: &Graph) -> Result<(), Diagnostics> {
        let problem = |input: &Value| {
            let (ty, tensor) = (graph.ty(*input), self.bound(graph, *input)?.tensor());
            let fits = tensor.dtype() == ty.dtype && Some(tensor.shape()) == ty.static_shape().as_ref();
            (!fits).then(|| {
                Diagnostic::new(
                    "runtime.weight",
                    format!("the weight is {}{}", tensor.dtype(), tensor.shape()),
                )
                .item(format!("input `{}`", graph.input_name(*input)))
                .expected(ty.to_string())
            })
        };
        Diagnostics(graph.inputs.iter().filter_map(problem).collect()).into_result(())
    }
}
