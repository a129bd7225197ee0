//! Graphs as ONNX models. Every primitive that a model needs to be evaluated has an operator of opset 17, or two; what
//! only training needs has none and is refused.
//!
//! Symbols stay symbolic: shapes that depend on them are computed in the model, from its inputs. A value
//! that is repeated along dimensions is left thin as long as it only meets elementwise operators, which repeat it
//! themselves.

mod emit;
mod expand;
mod ops;
mod shapes;

use crate::proto::{
    DimensionProto, DimensionValue, GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use bytes::Bytes;
use emit::Emitter;
use outgrow_ir::{Diagnostic, Diagnostics, Dim, Graph, Symbol, TensorType};
use outgrow_tensor::{DType, Tensor};
use prost::Message;
use std::collections::BTreeMap;

/// The version of ONNX's operators that is written.
pub const OPSET: i64 = 17;
/// The version of the file format that goes with it.
const IR_VERSION: i64 = 8;
/// A message of Protocol Buffers is at most 2 GiB long; beyond this, weights go into a file of their own.
const INLINE_BYTES: usize = 1 << 30;
/// Smaller tensors stay in the model.
const EXTERNAL_BYTES: usize = 1024;

/// What goes into a model besides its graph.
#[derive(Clone, Debug, Default)]
pub struct ExportOptions {
    /// The model's name.
    pub name: String,
    /// The version of the program that writes it.
    pub version: String,
    /// Keys and values that are kept with the model.
    pub metadata: Vec<(String, String)>,
}

/// A model as files.
#[derive(Clone, Debug)]
pub struct Exported {
    /// The bytes of the `.onnx` file.
    pub model: Vec<u8>,
    /// The bytes of the file with the weights, beside it, where they do not fit in.
    pub data: Option<Vec<u8>>,
}

/// The outputs of `graph` with these names as an ONNX model. Parameters and buffers become initialisers, of `weights`;
/// feeds that the outputs need become inputs.
///
/// # Errors
/// Every operation that ONNX lacks, by its place in the graph; weights that are missing or of another shape; an output
/// that the graph does not have.
pub fn export(
    graph: &Graph,
    outputs: &[&str],
    weights: &BTreeMap<String, Tensor>,
    options: &ExportOptions,
) -> Result<ModelProto, Diagnostics> {
    let graph = &*expand::expand(graph)?;
    let mut problems = Diagnostics::default();
    let mut wanted = Vec::new();
    for name in outputs {
        match graph.output(name) {
            Some(value) => wanted.push((*name, value)),
            None => {
                problems.push(Diagnostic::fault("onnx.output", format!("the graph has no output `{name}`")))
            }
        }
    }
    problems.into_result(())?;
    let needed = graph.needed(wanted.iter().map(|(_, value)| *value));
    let mut emitter = Emitter::new(graph);
    let mut inputs = Vec::new();
    let mut problems = Diagnostics::default();
    for (value, input) in graph.signature().filter(|(v, _)| needed[v.index()]) {
        if input.role.is_model() {
            match weight(&input.name, graph.ty(value), weights) {
                Ok(tensor) => emitter.initializer(value, &input.name, tensor),
                Err(problem) => problems.push(problem),
            }
        } else {
            inputs.push(value_info(&input.name, graph.ty(value)));
            emitter.feed(value, &input.name);
        }
    }
    problems.into_result(())?;
    let mut problems = Diagnostics::default();
    for (value, _) in graph.iter().filter(|(value, _)| needed[value.index()]) {
        if let Err(problem) = emitter.emit(value) {
            problems.push(problem);
        }
    }
    problems.into_result(())?;
    let mut results = Vec::new();
    for (name, value) in &wanted {
        emitter.output(name, *value)?;
        results.push(value_info(name, graph.ty(*value)));
    }
    let (node, initializer) = emitter.finish();
    let graph = GraphProto {
        node,
        name: options.name.clone(),
        initializer,
        input: inputs,
        output: results,
        value_info: Vec::new(),
    };
    let entry =
        |(key, value): &(String, String)| StringStringEntryProto { key: key.clone(), value: value.clone() };
    Ok(ModelProto {
        ir_version: IR_VERSION,
        producer_name: "outgrow".into(),
        producer_version: options.version.clone(),
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        metadata_props: options.metadata.iter().map(entry).collect(),
        functions: Vec::new(),
    })
}

/// The bytes of a model; its weights as a file of the name `data_file` where they are too large.
pub fn to_files(model: ModelProto, data_file: &str) -> Exported {
    to_files_with(model, data_file, INLINE_BYTES)
}

fn to_files_with(mut model: ModelProto, data_file: &str, inline_bytes: usize) -> Exported {
    let raw = |t: &TensorProto| t.raw_data.as_ref().map_or(0, Bytes::len);
    let tensors = model.graph.as_mut().map(|graph| &mut graph.initializer);
    let total: usize = tensors.iter().flat_map(|t| t.iter()).map(raw).sum();
    let mut data = None;
    if total > inline_bytes {
        let file = data.insert(Vec::with_capacity(total));
        for tensor in tensors.into_iter().flatten().filter(|t| raw(t) >= EXTERNAL_BYTES) {
            let bytes = tensor.raw_data.take().unwrap_or_default();
            let entry = |key: &str, value: String| StringStringEntryProto { key: key.into(), value };
            tensor.external_data = vec![
                entry("location", data_file.to_owned()),
                entry("offset", file.len().to_string()),
                entry("length", bytes.len().to_string()),
            ];
            tensor.data_location = 1;
            file.extend_from_slice(&bytes);
        }
    }
    Exported { model: model.encode_to_vec(), data }
}

/// The number of an element type in `onnx.proto`.
pub(crate) fn data_type(dtype: DType) -> i32 {
    match dtype {
        DType::F32 => 1,
        DType::U8 => 2,
        DType::I32 => 6,
        DType::I64 => 7,
        DType::Bool => 9,
        DType::F64 => 11,
        DType::BF16 => 16,
    }
}

/// A tensor with its elements.
pub(crate) fn tensor_proto(name: &str, tensor: &Tensor) -> TensorProto {
    TensorProto {
        dims: tensor.shape().dims().iter().map(|n| *n as i64).collect(),
        data_type: data_type(tensor.dtype()),
        name: name.to_owned(),
        raw_data: Some(Bytes::from(tensor.le_bytes().into_owned())),
        ..TensorProto::default()
    }
}

fn value_info(name: &str, ty: &TensorType) -> ValueInfoProto {
    let dim = |dim: &Dim| DimensionProto {
        value: Some(match dim {
            Dim::Fixed(n) => DimensionValue::Value(*n as i64),
            Dim::Symbolic(symbols, times) => {
                let factors = symbols.factors().map(|symbol| match symbol {
                    Symbol::BATCH => "batch".to_owned(),
                    Symbol::LENGTH => "sequence".to_owned(),
                    other => other.to_string(),
                });
                let times = (*times > 1).then(|| times.to_string());
                DimensionValue::Param(times.into_iter().chain(factors).collect::<Vec<_>>().join("*"))
            }
        }),
    };
    let shape = TensorShapeProto { dim: ty.dims.iter().map(dim).collect() };
    let tensor_type = TensorTypeProto { elem_type: data_type(ty.dtype), shape: Some(shape) };
    ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}

fn weight<'a>(
    name: &str,
    ty: &TensorType,
    weights: &'a BTreeMap<String, Tensor>,
) -> Result<&'a Tensor, Diagnostic> {
    let Some(tensor) = weights.get(name) else {
        return Err(Diagnostic::new("onnx.weight", format!("there is no weight `{name}`"))
            .hint("the weights are not those of this model"));
    };
    let fits = ty.static_shape().is_some_and(|shape| shape == *tensor.shape()) && ty.dtype == tensor.dtype();
    if fits {
        return Ok(tensor);
    }
    Err(Diagnostic::new(
        "onnx.weight",
        format!("the weight `{name}` is {}{:?}", tensor.dtype(), tensor.shape().dims()),
    )
    .expected(ty.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_weights_go_into_a_file_of_their_own() {
        let tensor = |name: &str, n: usize| {
            let tensor = Tensor::from_f64(DType::F32, vec![n], |i| i as f64);
            tensor_proto(name, &tensor)
        };
        let graph = GraphProto {
            initializer: vec![tensor("a", 1000), tensor("b", 3), tensor("c", 500)],
            ..GraphProto::default()
        };
        let model = ModelProto { graph: Some(graph), ..ModelProto::default() };
        let inline = to_files_with(model.clone(), "m.data", 10_000);
        assert!(inline.data.is_none() && inline.model.len() > 6_000);
        let split = to_files_with(model, "m.data", 5_000);
        let data = split.data.unwrap();
        assert_eq!((data.len(), &data[4000..4004]), (6000, &0f32.to_le_bytes()[..]));
        let read = ModelProto::decode(split.model.as_slice()).unwrap().graph.unwrap();
        let entries: Vec<_> = read.initializer[2].external_data.iter().map(|e| e.value.as_str()).collect();
        assert_eq!(entries, ["m.data", "4000", "2000"]);
        assert_eq!(read.initializer[1].data_location, 0);
    }
}
