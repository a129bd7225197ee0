//! Whether a run fits into this machine's memory: said before it starts, since the system would end it without a word.

use outgrow_ir::{Diagnostic, Graph};
use outgrow_models::BuiltModel;
use outgrow_train::Trainer;
use outgrow_train::spec::Train;

use super::process::memory_bytes;
use crate::report::format::bytes;

/// Refuses a model whose parameters and gradients, with the largest value of a step, do not fit. It is a lower bound
/// that is known before anything is allocated.
pub(super) fn check_before(model: &BuiltModel, train: &Train) -> Result<(), Diagnostic> {
    let elements = |dims: &[usize]| dims.iter().map(|d| *d as f64).product::<f64>();
    let parameters: f64 = model.params.iter().map(|p| elements(&p.dims)).sum();
    let step = largest(&model.train, train.batch / train.micro_shards);
    let evaluation = largest(&model.eval, train.batch);
    check(2.0 * 4.0 * parameters + step.max(evaluation))
}

/// Refuses a trainer whose planned memory, with all that is kept between steps, does not fit.
pub(super) fn check_after(trainer: &Trainer) -> Result<(), Diagnostic> {
    let state = &trainer.state;
    // The gradients, the partial sums of the micro-shards and the best weights so far are as long as the parameters.
    let vectors = state.slots.len() + 3;
    let kept = 4.0 * vectors as f64 * state.params.len() as f64;
    check(kept + trainer.program().compiled.memory.planned_bytes as f64)
}

/// Refuses a graph whose outputs, or the largest value that is computed on the way to them, do not fit.
pub fn check_inference(graph: &Graph, batch: usize) -> Result<(), Diagnostic> {
    let size = |ty: &outgrow_ir::TensorType| {
        ty.dims.iter().map(|d| d.bind(batch) as f64).product::<f64>() * ty.dtype.bytes() as f64
    };
    let outputs: f64 = graph.outputs.iter().map(|(_, v)| size(graph.ty(*v))).sum();
    // A repetition is a view and takes no memory of its own.
    let computed = graph.iter().filter(|(_, node)| !matches!(node.op, outgrow_ir::Op::Broadcast(_)));
    let largest = computed.map(|(_, node)| size(&node.ty)).fold(0.0, f64::max);
    match memory_bytes() {
        Some(there) if outputs.max(largest) > there as f64 => {
            let needed = bytes(outputs.max(largest) as u64);
            let problem = format!(
                "the model needs {needed} of memory for these arrays, and this machine has {}",
                bytes(there)
            );
            Err(Diagnostic::new("infer.memory", problem).hint("give arrays with a smaller batch"))
        }
        _ => Ok(()),
    }
}

/// Bytes of the largest value that a graph computes for `batch` samples.
fn largest(graph: &Graph, batch: usize) -> f64 {
    let size = |ty: &outgrow_ir::TensorType| {
        ty.dims.iter().map(|d| d.bind(batch) as f64).product::<f64>() * ty.dtype.bytes() as f64
    };
    graph.iter().map(|(_, node)| size(&node.ty)).fold(0.0, f64::max)
}

fn check(needed: f64) -> Result<(), Diagnostic> {
    match memory_bytes() {
        Some(there) if needed > there as f64 => {
            let problem = format!(
                "the run needs at least {} of memory, and this machine has {}",
                bytes(needed as u64),
                bytes(there)
            );
            let diagnostic = Diagnostic::new("run.memory", problem).item("model");
            Err(diagnostic.hint("take a smaller model or batch, or more `train.micro_shards`"))
        }
        _ => Ok(()),
    }
}
