//! `outgrow infer`: runs any model on NumPy arrays: an ONNX file, a run's folder or a model's folder.

pub mod arrays;

use outgrow_ir::{Diagnostic, Diagnostics, Problem};
use outgrow_predict::{Model, Port};
use outgrow_tensor::Tensor;
use serde_json::json;

use super::table::aligned;
use crate::cli::InferArgs;
use crate::context::{Context, Failure};
use crate::session::{cpu_backend, model_options};
use arrays::{Array, named, read_arrays, write_array};

/// Reads the arrays, runs the model once, and writes what was asked for.
pub fn run(args: &InferArgs, context: &Context) -> Result<(), Failure> {
    let storage = context.world.storage.clone();
    let model = Model::open(&storage, &args.model, model_options(cpu_backend(&args.processor)?))?;
    let names = |ports: &[Port]| ports.iter().map(|port| port.name.clone()).collect::<Vec<_>>();
    let inputs = read_arrays(&storage, &args.inputs, &names(model.inputs()))?;
    let wanted = named("--output", &args.outputs, &names(model.outputs()))?;
    let problem = |(port, array): (&Port, &Array)| Some(port.check(&array.tensor).err()?.file(&array.file));
    Diagnostics(model.inputs().iter().zip(&inputs).filter_map(problem).collect()).into_result(())?;
    let tensors: Vec<Tensor> = inputs.iter().map(|array| array.tensor.clone()).collect();
    let batch = tensors.first().and_then(|tensor| tensor.shape().dims().first()).copied().unwrap_or(1);
    let results = model.run(&tensors, &wanted.iter().map(|(i, _)| *i).collect::<Vec<_>>())?;
    for ((_, file), tensor) in wanted.iter().zip(&results) {
        write_array(&storage, file, tensor)?;
    }
    let line = |name: &str, tensor: &Tensor, file: &str| {
        vec![name.to_owned(), format!("{}{}", tensor.dtype(), tensor.shape()), file.to_owned()]
    };
    let named_outputs =
        || wanted.iter().zip(&results).map(|((i, file), tensor)| (&model.outputs()[*i].name, file, tensor));
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
        "batch": batch,
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
