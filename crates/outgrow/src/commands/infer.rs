//! `outgrow infer`: runs any model on NumPy arrays: an ONNX file, a run's folder or a model's folder.

mod arrays;
mod model;

use std::sync::Arc;

use outgrow_ir::{Diagnostic, Problem};
use outgrow_runtime::{compile, run_tensors};
use outgrow_tensor::Tensor;
use serde_json::json;

use super::table::aligned;
use crate::cli::InferArgs;
use crate::context::{Context, Failure};
use crate::session::{compile_options, cpu_backend, inference_memory};
use arrays::{Array, named, read_arrays, write_array};
use model::Model;

/// Reads the arrays, runs the model once, and writes what was asked for.
pub fn run(args: &InferArgs, context: &Context) -> Result<(), Failure> {
    let storage = context.world.storage.clone();
    let model = Model::open(&storage, &args.model)?;
    let inputs = read_arrays(&storage, &args.inputs, &model.input_names())?;
    let wanted = named("--output", &args.outputs, &model.output_names())?;
    let (backend, mut options) = (cpu_backend(&args.processor)?, compile_options());
    let mut program = model.program(&inputs, &wanted.iter().map(|(i, _)| *i).collect::<Vec<_>>())?;
    options.weights = Arc::new(std::mem::take(&mut program.weights));
    options.memory = inference_memory(&program.graph, program.batch, &options)?;
    let compiled = compile(&backend, &program.graph, program.batch, &options)?;
    let results = run_tensors(&backend, &compiled, &program.feeds)?;
    for ((_, file), tensor) in wanted.iter().zip(&results) {
        write_array(&storage, file, tensor)?;
    }
    let line = |name: &str, tensor: &Tensor, file: &str| {
        vec![name.to_owned(), format!("{}{}", tensor.dtype(), tensor.shape()), file.to_owned()]
    };
    let named_outputs =
        || wanted.iter().zip(&results).map(|((i, file), tensor)| (&program.outputs[*i], file, tensor));
    let rows: Vec<_> =
        named_outputs().map(|(name, file, tensor)| line(name, tensor, &file.display().to_string())).collect();
    let shown = |name: &str, tensor: &Tensor, file: &std::path::Path| {
        json!({
            "name": name,
            "dtype": tensor.dtype().name(),
            "shape": tensor.shape().dims(),
            "file": file.display().to_string(),
        })
    };
    let json = json!({
        "model": args.model.display().to_string(),
        "batch": program.batch,
        "inputs": inputs.iter().map(|Array { name, file, tensor }| shown(name, tensor, file)).collect::<Vec<_>>(),
        "outputs": named_outputs().map(|(name, file, tensor)| shown(name, tensor, file)).collect::<Vec<_>>(),
    });
    context.answer(&json, &aligned(&rows))?;
    Ok(())
}

/// A problem with what was asked for.
fn wrong(code: &'static str, problem: impl Into<String>) -> Problem {
    Diagnostic::new(code, problem)
}
