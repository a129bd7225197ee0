//! The update program: from parameters, combined gradient and optimiser state to new ones, as one graph.
//!
//! Elementwise optimisers can update all parameters laid end to end as one vector (`flat`), which is one sweep over
//! memory and can be cut anywhere; the others take each tensor by itself.

use outgrow_ir::{Builder, Diagnostic, Diagnostics, Dim, Graph, InputRole, TensorType, Value};
use outgrow_tensor::DType;

use super::{Optimizer, UpdateInputs, Updated};

/// The name of the scalar input that multiplies the gradient, when there is one; it is the last input.
pub const GRAD_SCALE: &str = "grad_scale";

/// How gradients are clipped. By value first, then by norm, so that the norm is that of what is left.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Clipping {
    /// Each element is cut to at most this, up or down.
    pub value: Option<f64>,
    /// Whether the program takes the scalar [`GRAD_SCALE`], by which the gradient is multiplied; the caller sets it
    /// to `min(1, largest norm / norm)`, from the norm of the whole combined gradient.
    pub scale: bool,
}

/// The update program of `optimizer` for parameters of these names and dimensions, in f32.
///
/// Inputs, and outputs of the same names but for gradients and scalars, in this order:
/// - `flat`: `param`, `grad` and `state:<slot>` for each slot, all of `[N]` with N the number of elements of all
///   parameters;
/// - otherwise: `param:<name>` for each parameter, `grad:<name>` for each, and for each slot `state:<slot>:<name>` for
///   each parameter;
/// - then `scalar:<name>` for each of [`Optimizer::scalar_names`], and `scalar:grad_scale` if `clipping` asks for it.
///
/// # Errors
/// When `flat` is asked for of an optimiser that is not elementwise, or the number of elements overflows.
pub fn update_graph(
    optimizer: &dyn Optimizer,
    params: &[(String, Vec<usize>)],
    flat: bool,
    clipping: Clipping,
) -> Result<Graph, Diagnostics> {
    update_graph_of(optimizer, params, flat, clipping, DType::F32)
}

/// [`update_graph`] in a float type of choice.
pub(super) fn update_graph_of(
    optimizer: &dyn Optimizer,
    params: &[(String, Vec<usize>)],
    flat: bool,
    clipping: Clipping,
    dtype: DType,
) -> Result<Graph, Diagnostics> {
    let mut b = Builder::new("update");
    let tensors = if flat { vec![flat_tensor(optimizer, params)?] } else { named_tensors(params) };
    let all = |b: &mut Builder, kind, prefix: &str| -> Vec<Value> {
        let input = |t: &Tensor| b.input(&format!("{prefix}{}", t.suffix), kind, t.ty(dtype));
        tensors.iter().map(input).collect()
    };
    let param = all(&mut b, InputRole::Param, "param");
    let grad = all(&mut b, InputRole::Data, "grad");
    let slots = optimizer.slots();
    let state: Vec<Vec<Value>> =
        slots.iter().map(|s| all(&mut b, InputRole::Buffer, &format!("state:{}", s.name))).collect();
    let mut scalar =
        |name: &str| b.input(&format!("scalar:{name}"), InputRole::Data, TensorType::scalar(dtype));
    let scalars: Vec<Value> = optimizer.scalar_names().into_iter().map(&mut scalar).collect();
    let scale = clipping.scale.then(|| scalar(GRAD_SCALE));
    let mut updated = Vec::with_capacity(tensors.len());
    for (i, tensor) in tensors.iter().enumerate() {
        let state: Vec<Value> = state.iter().map(|slot| slot[i]).collect();
        updated.push(b.scoped(&tensor.scope, |b| {
            let grad = clipped(b, grad[i], clipping.value, scale);
            let cx = UpdateInputs { param: param[i], grad, state: &state, scalars: &scalars };
            let operands =
                [param[i], grad].into_iter().chain(state.iter().copied()).chain(scalars.iter().copied());
            let operands: Vec<Value> = operands.collect();
            b.composite(optimizer.name(), &operands, |b| optimizer.update(b, &cx))
        }));
    }
    let mut output = |prefix: &str, value: &dyn Fn(&Updated) -> Value| {
        for (tensor, updated) in tensors.iter().zip(&updated) {
            b.output(&format!("{prefix}{}", tensor.suffix), value(updated));
        }
    };
    output("param", &|u| u.param);
    for (s, slot) in slots.iter().enumerate() {
        output(&format!("state:{}", slot.name), &|u| u.state[s]);
    }
    b.finish()
}

/// A tensor that is updated: what follows `param` in its input's name, the layer it is shown under, its dimensions.
struct Tensor {
    suffix: String,
    scope: String,
    dims: Vec<usize>,
}

impl Tensor {
    fn ty(&self, dtype: DType) -> TensorType {
        TensorType { dtype, dims: self.dims.iter().copied().map(Dim::Fixed).collect() }
    }
}

fn named_tensors(params: &[(String, Vec<usize>)]) -> Vec<Tensor> {
    let tensor = |(name, dims): &(String, Vec<usize>)| Tensor {
        suffix: format!(":{name}"),
        scope: format!("update/{name}"),
        dims: dims.clone(),
    };
    params.iter().map(tensor).collect()
}

fn flat_tensor(optimizer: &dyn Optimizer, params: &[(String, Vec<usize>)]) -> Result<Tensor, Diagnostics> {
    if !optimizer.elementwise() {
        let problem = format!("{} cannot update all parameters as one vector", optimizer.name());
        let diagnostic = Diagnostic::new("optim.flat", problem);
        return Err(diagnostic.expected("an update of each tensor by itself").into());
    }
    let mut total = 0usize;
    for (name, dims) in params {
        let elements = dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        total = elements.and_then(|n| total.checked_add(n)).ok_or_else(|| {
            Diagnostic::new("optim.size", "the parameters have too many elements to count")
                .item(format!("parameter `{name}`"))
                .hint("take a smaller model")
        })?;
    }
    Ok(Tensor { suffix: String::new(), scope: "update".into(), dims: vec![total] })
}

fn clipped(b: &mut Builder, grad: Value, value: Option<f64>, scale: Option<Value>) -> Value {
    let mut grad = grad;
    if let Some(limit) = value {
        let (low, high) = (b.scalar(-limit, b.dtype(grad)), b.scalar(limit, b.dtype(grad)));
        grad = b.max(grad, low);
        grad = b.min(grad, high);
    }
    match scale {
        Some(scale) => b.mul(grad, scale),
        None => grad,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{check, from_spec};
    use super::*;
    use crate::spec::OptimizerName;
    use outgrow_ir::interpret;
    use outgrow_runtime::{CompileOptions, CpuBackend, ThreadPool, compile};
    use outgrow_tensor::Tensor as Host;
    use std::sync::Arc;

    fn params() -> Vec<(String, Vec<usize>)> {
        vec![("a.weight".into(), vec![2, 3]), ("a.bias".into(), vec![2])]
    }

    fn names(graph: &Graph) -> (Vec<String>, Vec<String>) {
        let inputs = graph.signature().map(|(_, input)| input.name.clone());
        (inputs.collect(), graph.outputs.iter().map(|output| output.name.clone()).collect())
    }

    #[test]
    fn inputs_and_outputs_are_in_the_promised_order() {
        let adam = from_spec(&OptimizerName::Adam.defaults(), 0.0);
        let clipping = Clipping { value: Some(1.0), scale: true };
        let (inputs, outputs) = names(&update_graph(&*adam, &params(), true, clipping).unwrap());
        let state = ["state:first_moment", "state:second_moment"];
        let scalars = ["scalar:step_size", "scalar:second_moment_scale", "scalar:grad_scale"];
        assert_eq!(inputs, [&["param", "grad"][..], &state, &scalars].concat());
        assert_eq!(outputs, [&["param"][..], &state].concat());
        let momentum = from_spec(&OptimizerName::Momentum.defaults(), 0.0);
        let (inputs, outputs) =
            names(&update_graph(&*momentum, &params(), false, Clipping::default()).unwrap());
        let (param, state) =
            (["param:a.weight", "param:a.bias"], ["state:momentum:a.weight", "state:momentum:a.bias"]);
        let grad = ["grad:a.weight", "grad:a.bias"];
        assert_eq!(inputs, [&param[..], &grad, &state, &["scalar:lr", "scalar:grad_factor"]].concat());
        assert_eq!(outputs, [param, state].concat());
    }

    #[test]
    fn clipping_cuts_by_value_and_then_scales() {
        let sgd = from_spec(&OptimizerName::Sgd.defaults(), 0.0);
        let clipping = Clipping { value: Some(2.0), scale: true };
        let graph = update_graph(&*sgd, &[("w".into(), vec![4])], true, clipping).unwrap();
        graph.verify().unwrap();
        let inputs = [
            Host::vector(vec![0.0f32; 4]),
            Host::vector(vec![-5.0f32, 1.0, 3.0, f32::NAN]),
            Host::scalar(1.0f32),
            Host::scalar(0.5f32),
        ];
        let got = interpret(&graph, &inputs).unwrap();
        let got = got[0].as_slice::<f32>().unwrap();
        assert_eq!(got[..3], [1.0, -0.5, -1.0]);
        assert!(got[3].is_nan(), "clipping must not hide a gradient that is no number");
    }

    #[test]
    fn flat_and_separate_updates_give_the_same_bits() {
        for (optimizer, _) in check::every_optimizer().into_iter().filter(|(o, _)| o.elementwise()) {
            let (flat, separate) = (
                check::run(&*optimizer, 1e-2, DType::F32, true),
                check::run(&*optimizer, 1e-2, DType::F32, false),
            );
            assert_eq!(flat, separate, "{optimizer:?}");
        }
    }

    /// An update is bound by memory: it should read and write everything once.
    #[test]
    fn a_flat_update_is_one_sweep() {
        let backend = CpuBackend::new(Arc::new(ThreadPool::new(1)));
        for (optimizer, name) in check::every_optimizer().into_iter().filter(|(o, _)| o.elementwise()) {
            let clipping = Clipping { value: Some(1.0), scale: true };
            let graph = update_graph(&*optimizer, &params(), true, clipping).unwrap();
            let steps = compile(&backend, &graph, 1, &CompileOptions::default()).unwrap().steps;
            assert_eq!(steps.len(), 1, "{name}: {steps:?}");
        }
    }

    #[test]
    fn what_cannot_be_one_vector_says_so() {
        for (optimizer, name) in check::every_optimizer().into_iter().filter(|(o, _)| !o.elementwise()) {
            let found = update_graph(&*optimizer, &params(), true, Clipping::default()).unwrap_err();
            assert_eq!(found.0[0].code, "optim.flat", "{name}");
        }
        let sgd = from_spec(&OptimizerName::Sgd.defaults(), 0.0);
        let huge = [("w".to_owned(), vec![usize::MAX, 2])];
        let found = update_graph(&*sgd, &huge, true, Clipping::default()).unwrap_err();
        assert_eq!(found.0[0].code, "optim.size");
    }
}
