//! A model as its file says it, checked: opsets, inputs, outputs, weights, and nodes that read only what is made before
//! them.

use crate::budget;
use crate::external::ExternalData;
use crate::proto::{DimensionValue, FunctionProto, GraphProto, ModelProto, NodeProto, ValueInfoProto};
use crate::tensors::OnnxTensor;
use crate::unshare::unshare;
use crate::{Elem, ops};
use bytes::Bytes;
use outgrow_ir::{Diagnostic, Diagnostics};
use prost::Message;
use std::collections::{HashMap, HashSet};

/// The oldest version of the standard operators that is read.
pub const OPSET_MIN: i64 = 6;
/// The newest version of the standard operators that is read.
pub const OPSET_MAX: i64 = 28;
/// Most problems that are told of one file.
const PROBLEMS_MAX: usize = 100;
/// What to do about a graph that breaks the rules of the format.
const EXPORT_AGAIN: &str = "the file was not written by an exporter, or changed: export the model again";

/// One extent as a file declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DimInfo {
    /// A number.
    Fixed(usize),
    /// A name: equal wherever it stands.
    Named(String),
    /// Nothing.
    Unknown,
}

/// An input or output as a file declares it.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueInfo {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub elem: Elem,
    /// Its extents, where the file says how many there are.
    pub dims: Option<Vec<DimInfo>>,
}

/// A model that was read and checked.
#[derive(Clone, Debug)]
pub struct OnnxModel {
    /// The graph's name.
    pub name: String,
    /// The program that wrote it, with its version.
    pub producer: String,
    /// Version of the standard operators.
    pub opset: i64,
    /// What a caller gives, without weights.
    pub inputs: Vec<ValueInfo>,
    /// The names of what a caller gets.
    pub outputs: Vec<String>,
    /// What the file declares these to be, where it does.
    pub output_infos: Vec<Option<ValueInfo>>,
    pub(crate) nodes: Vec<NodeProto>,
    pub(crate) weights: Vec<(String, OnnxTensor)>,
    pub(crate) functions: HashMap<(String, String), FunctionProto>,
}

pub(crate) fn standard(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}

/// What a node is called in messages.
pub(crate) fn label(node: &NodeProto) -> String {
    let output = node.output.iter().find(|o| !o.is_empty()).map_or("", String::as_str);
    let name = if node.name.is_empty() { output } else { &node.name };
    let short: String = name.chars().take(200).collect();
    let op: String = node.op_type.chars().take(80).collect();
    format!("node `{short}` ({op})")
}

fn opset_of(model: &ModelProto) -> Result<i64, Diagnostic> {
    let versions = model.opset_import.iter().filter(|o| standard(&o.domain)).map(|o| o.version);
    let opset = versions.max().unwrap_or(1);
    if (OPSET_MIN..=OPSET_MAX).contains(&opset) {
        return Ok(opset);
    }
    Err(Diagnostic::new("onnx.opset", format!("the model uses version {opset} of the standard operators"))
        .expected(format!("{OPSET_MIN} to {OPSET_MAX}"))
        .hint("export it again with another `opset_version`"))
}

/// What an input or output is declared to be.
fn value_info(info: &ValueInfoProto) -> Result<ValueInfo, Diagnostic> {
    let item = || format!("input `{}`", info.name);
    let tensor = info.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
    let tensor = tensor.ok_or_else(|| {
        Diagnostic::new("onnx.unsupported-type", "is a sequence, map or optional, or has no type")
            .item(item())
            .expected("a tensor")
    })?;
    let elem = Elem::of(tensor.elem_type).ok_or_else(|| {
        let problem = format!("has element type {}, which is not supported", tensor.elem_type);
        Diagnostic::new("onnx.unsupported-type", problem).item(item()).expected(Elem::names())
    })?;
    let dims = tensor.shape.as_ref().map(|shape| {
        let dim = |value: &Option<DimensionValue>| match value {
            Some(DimensionValue::Value(n)) => usize::try_from(*n).map_or(DimInfo::Unknown, DimInfo::Fixed),
            Some(DimensionValue::Param(name)) if !name.is_empty() => DimInfo::Named(name.clone()),
            _ => DimInfo::Unknown,
        };
        shape.dim.iter().map(|d| dim(&d.value)).collect()
    });
    Ok(ValueInfo { name: info.name.clone(), elem, dims })
}

impl OnnxModel {
    /// Reads a model from the bytes of its file; `external` gives the weights that lie beside it.
    ///
    /// # Errors
    /// Everything that is wrong with the file, all unsupported operators among it.
    pub fn parse(bytes: Bytes, external: &dyn ExternalData) -> Result<Self, Diagnostics> {
        budget::check(&bytes)?;
        let model = ModelProto::decode(bytes).map_err(|e| {
            Diagnostic::new("onnx.file", format!("the file is no ONNX model: {e}"))
                .expected("a `.onnx` file, whole, as `torch.onnx.export` and others write it")
        })?;
        let opset = opset_of(&model)?;
        let producer = format!("{} {}", model.producer_name, model.producer_version).trim().to_owned();
        let graph = model.graph.ok_or_else(|| {
            Diagnostic::new("onnx.file", "the model has no graph")
                .expected("a model to run, not one of training information alone")
        })?;
        let key = |f: &FunctionProto| (f.domain.clone(), f.name.clone());
        let functions: HashMap<_, _> = model.functions.into_iter().map(|f| (key(&f), f)).collect();
        let mut found = Diagnostics::default();
        let weights = read_weights(&graph, external, &mut found);
        let is_weight: HashSet<&str> = weights.iter().map(|(name, _)| name.as_str()).collect();
        let mut inputs = Vec::new();
        for input in graph.input.iter().filter(|i| !is_weight.contains(i.name.as_str())) {
            match value_info(input) {
                Ok(info) => inputs.push(info),
                Err(problem) => found.push(problem),
            }
        }
        check_names(&graph, &mut found);
        for problem in ops::unsupported(&graph.node, &functions) {
            found.push(problem);
        }
        let outputs = graph.output.iter().map(|o| o.name.clone()).collect();
        let output_infos = graph.output.iter().map(|o| value_info(o).ok()).collect();
        found.0.truncate(PROBLEMS_MAX);
        let (name, mut nodes, mut weights) = (graph.name, graph.node, weights);
        unshare(&mut nodes, &mut weights);
        let declared =
            Self { name, producer, opset, inputs, outputs, output_infos, nodes, weights, functions };
        found.into_result(declared)
    }
}

impl OnnxModel {
    /// The initialisers with their names: what may become weights of a graph.
    pub fn initialisers(&self) -> impl Iterator<Item = (&str, &OnnxTensor)> {
        self.weights.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }
}

fn read_weights(
    graph: &GraphProto,
    external: &dyn ExternalData,
    found: &mut Diagnostics,
) -> Vec<(String, OnnxTensor)> {
    let mut weights = Vec::new();
    for tensor in &graph.initializer {
        match OnnxTensor::read(tensor, external) {
            Ok(read) => weights.push((tensor.name.clone(), read)),
            Err(problem) => found.push(problem),
        }
    }
    weights
}

/// Every name is made once, and before it is read.
fn check_names(graph: &GraphProto, found: &mut Diagnostics) {
    let mut made: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    if made.len() < graph.initializer.len() {
        found.push(Diagnostic::new("onnx.name", "two weights have one name").hint(EXPORT_AGAIN));
    }
    let mut given = HashSet::new();
    for input in &graph.input {
        // An input may bear the name of a weight, which then is its value.
        if input.name.is_empty() || !given.insert(input.name.as_str()) {
            found.push(
                Diagnostic::new(
                    "onnx.name",
                    format!("two inputs have the name `{}`, or it is empty", input.name),
                )
                .hint(EXPORT_AGAIN),
            );
        }
    }
    made.extend(given);
    let later: HashSet<&str> = graph.node.iter().flat_map(|n| &n.output).map(String::as_str).collect();
    for node in &graph.node {
        for name in node.input.iter().filter(|n| !n.is_empty() && !made.contains(n.as_str())) {
            let problem = if later.contains(name.as_str()) {
                format!("reads `{name}`, which is made after it or from it")
            } else {
                format!("reads `{name}`, which nothing makes")
            };
            let expected = "nodes in an order in which each reads only what is made before it";
            found.push(Diagnostic::new("onnx.order", problem).item(label(node)).expected(expected));
        }
        for name in node.output.iter().filter(|n| !n.is_empty()) {
            if !made.insert(name) {
                let problem = format!("makes `{name}`, which is made already");
                found.push(Diagnostic::new("onnx.name", problem).item(label(node)).hint(EXPORT_AGAIN));
            }
        }
    }
    for output in &graph.output {
        if !made.contains(output.name.as_str()) {
            let problem = format!("nothing makes the output `{}`", output.name);
            found.push(Diagnostic::new("onnx.order", problem).hint(EXPORT_AGAIN));
        }
    }
}
