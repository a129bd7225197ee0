//! What the tests of models share: small models from the manifest's words, and values for their graphs.

#![allow(dead_code, reason = "each test file uses a part")]

use outgrow_ir::{Graph, Input, InputRole, interpret};
use outgrow_models::spec::ModelSpec;
use outgrow_models::{BuildOptions, BuiltModel, InputSpec, TargetSpec, build};
use outgrow_tensor::{DType, RngKey, Tensor};
use std::collections::HashMap;

/// The model of a `[model]` section written as JSON.
pub fn model(json: &str, inputs: &[InputSpec], target: &TargetSpec, dtype: DType) -> BuiltModel {
    try_model(json, inputs, target, dtype).unwrap_or_else(|found| panic!("{json}: {found}"))
}

/// The same, or everything that is wrong.
pub fn try_model(
    json: &str,
    inputs: &[InputSpec],
    target: &TargetSpec,
    dtype: DType,
) -> Result<BuiltModel, outgrow_ir::Diagnostics> {
    model_with(json, inputs, target, BuildOptions { dtype, ..BuildOptions::default() })
}

/// The same with these options.
pub fn model_with(
    json: &str,
    inputs: &[InputSpec],
    target: &TargetSpec,
    options: BuildOptions<'_>,
) -> Result<BuiltModel, outgrow_ir::Diagnostics> {
    let spec: ModelSpec = serde_json::from_str(json).unwrap_or_else(|e| panic!("{json}: {e}"));
    build(&spec.validate()?, inputs, target, options)
}

/// An image input.
pub fn image(dims: [usize; 3]) -> InputSpec {
    InputSpec { name: "image".into(), dtype: DType::F32, dims: dims.to_vec(), cardinalities: vec![] }
}

/// Number features.
pub fn features(width: usize) -> InputSpec {
    InputSpec { name: "features".into(), dtype: DType::F32, dims: vec![width], cardinalities: vec![] }
}

/// Categories of these cardinalities.
pub fn categories(cardinalities: &[usize]) -> InputSpec {
    let dims = vec![cardinalities.len()];
    InputSpec { name: "categories".into(), dtype: DType::I32, dims, cardinalities: cardinalities.to_vec() }
}

/// Tokens.
pub fn tokens(context: usize) -> InputSpec {
    InputSpec { name: "tokens".into(), dtype: DType::I32, dims: vec![context], cardinalities: vec![] }
}

/// The name, dimensions, role and type of every input of a graph with its batch size bound, in order.
pub fn inputs(graph: &Graph) -> Vec<(String, Vec<usize>, InputRole, DType)> {
    let dims = |input: &Input| input.dims.iter().map(|d| d.unit()).collect();
    graph.signature().map(|(_, i)| (i.name.clone(), dims(i), i.role, i.dtype)).collect()
}

/// Values for every input of a bound graph by name: parameters drawn as the model says, moved a little so that none is
/// exactly at a kink; inputs from -1 to 1; indexes and targets below `classes`; weights 1 but for the last sample, which
/// is padding when there are more than two.
pub fn values(built: &BuiltModel, graph: &Graph, classes: usize, key: RngKey) -> HashMap<String, Tensor> {
    let mut values = HashMap::new();
    for (name, dims, role, dtype) in inputs(graph) {
        let key = key.fold_in_name(&name);
        let mut stream = key.fold_in(1).stream();
        let param = built.params.iter().find(|p| p.name == name);
        let tensor = match role {
            InputRole::Param => {
                let drawn = param.unwrap().init.tensor(key, DType::F32, &dims);
                Tensor::from_f64(dtype, dims, |i| drawn.get_f64(i) + 0.1 * stream.normal())
            }
            InputRole::Buffer => Tensor::from_f64(dtype, dims, |_| 0.5 + stream.uniform()),
            InputRole::Weight => {
                let samples = dims[0];
                Tensor::from_f64(dtype, dims, |i| if samples > 2 && i + 1 == samples { 0.0 } else { 1.0 })
            }
            InputRole::Scale => Tensor::from_f64(dtype, dims, |_| 0.25),
            InputRole::Key => Tensor::from_i64(dtype, dims, |_| 77),
            _ if dtype.is_float() => Tensor::from_f64(dtype, dims, |_| stream.uniform_in(-1.0, 1.0)),
            _ => Tensor::from_i64(dtype, dims, |_| stream.below(classes as u64) as i64),
        };
        values.insert(name, tensor);
    }
    values
}

/// The outputs of a bound graph by name.
pub fn run(graph: &Graph, values: &HashMap<String, Tensor>) -> HashMap<String, Tensor> {
    let given: Vec<_> = inputs(graph).into_iter().map(|(name, ..)| values[&name].clone()).collect();
    let outputs = interpret(graph, &given).unwrap_or_else(|e| panic!("{e}"));
    graph.outputs.iter().map(|output| output.name.clone()).zip(outputs).collect()
}
