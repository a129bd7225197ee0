//! From a model to nodes of a graph.

use crate::cx::{Cx, Lowered, Refusal, check_size};
use crate::datum::{Datum, Kind};
use crate::model::{OnnxModel, label};
use crate::proto::{FunctionProto, GraphProto, NodeProto};
use crate::tensors::OnnxTensor;
use crate::weights::{InitialiserRole, Weight, Weights};
use crate::{Elem, ExternalData, NoExternalData, fold, ops, sizes};
use outgrow_ir::{Builder, Diagnostic, Diagnostics, Dim, Graph, InputRole, TensorType, Value};
use outgrow_tensor::Tensor;
use std::collections::{BTreeSet, HashMap, HashSet};

/// Deepest nesting of functions and branches.
const DEPTH_MAX: usize = 16;
/// Most nodes after functions and branches are written out.
const NODES_MAX: usize = 1 << 18;
/// Most primitives that the nodes are lowered to.
const PRIMITIVES_MAX: usize = 1 << 20;
/// Most problems that are told.
const PROBLEMS_MAX: usize = 100;

/// What a caller gives for an input of the model.
#[derive(Clone, Debug)]
pub enum Given {
    /// It becomes an input of the graph, of these dimensions.
    Dims(Vec<Dim>),
    /// It is known when compiling, as shapes must be.
    Tensor(Tensor),
    /// It is a value of the graph already.
    Value(Value),
}

/// What a graph for training needs besides.
#[derive(Clone, Debug)]
pub struct Training {
    /// The weight of each sample, `[B]`: 1 where it counts and 0 for padding, as batch statistics need it.
    pub sample_weight: Value,
    /// The key of random numbers, an i64 scalar.
    pub key: Value,
}

/// What a graph is for.
#[derive(Clone, Copy, Debug)]
pub enum Mode<'a> {
    /// What the file says, to the letter: a node that asks for batch statistics gets them.
    AsWritten,
    /// Evaluation: running statistics, no dropout, whatever the file says.
    Evaluation,
    /// Training: batch statistics and dropout, whatever the file says.
    Training(&'a Training),
}

/// Running statistics that a step of training updates.
#[derive(Clone, Debug)]
pub struct Statistic {
    /// The buffer that holds it.
    pub buffer: String,
    /// What the step saw.
    pub value: Value,
    /// After each step, `new = (1 - momentum) old + momentum statistic`.
    pub momentum: f64,
}

/// An output of the model.
#[derive(Clone, Debug)]
pub struct EmittedOutput {
    /// Its name.
    pub name: String,
    /// ONNX's element type.
    pub elem: Elem,
    /// The value of the graph.
    pub value: Value,
}

/// A model in a graph.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The weights that became inputs, in the order in which they did.
    pub weights: Vec<Weight>,
    /// For each input of the model, the value of the graph; none for those that are known when compiling.
    pub inputs: Vec<Option<Value>>,
    /// The outputs.
    pub outputs: Vec<EmittedOutput>,
    /// Statistics of the batch, in training.
    pub statistics: Vec<Statistic>,
}

/// Why a model is not in a graph.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Everything that was found.
    pub diagnostics: Diagnostics,
    /// The inputs of the model from which shapes follow: with their tensors given it may work.
    pub bind: Vec<usize>,
}

/// What one emission works on.
struct Emitter<'a> {
    model: &'a OnnxModel,
    b: &'a mut Builder,
    weights: Weights,
    mode: Mode<'a>,
    statistics: Vec<Statistic>,
    streams: usize,
    found: Diagnostics,
    bind: BTreeSet<usize>,
    nodes: usize,
}

/// What names stand for in one scope.
type Names = HashMap<String, Datum>;

impl OnnxModel {
    /// What an initialiser becomes unless the caller says otherwise: floats of at least one dimension are parameters,
    /// the running statistics of batch normalisation are buffers, everything else is constant.
    pub fn role(&self, name: &str, tensor: &OnnxTensor) -> InitialiserRole {
        let is_statistic = self.nodes.iter().any(|node| {
            node.op_type == "BatchNormalization" && node.input.iter().skip(3).any(|input| input == name)
        });
        match tensor.elem {
            _ if is_statistic => InitialiserRole::Buffer,
            Elem::F32 | Elem::F64 | Elem::F16 | Elem::BF16 if tensor.tensor.shape().rank() > 0 => {
                InitialiserRole::Param
            }
            _ => InitialiserRole::Constant,
        }
    }

    /// Builds the model into `b`. `given` says what each input of the model is; `role` what an initialiser becomes
    /// (usually [`OnnxModel::role`]).
    ///
    /// # Errors
    /// Everything that is wrong or not supported, and which inputs must be given as tensors.
    pub fn emit(
        &self,
        b: &mut Builder,
        given: &[Given],
        mode: Mode<'_>,
        role: &dyn Fn(&str, &OnnxTensor) -> InitialiserRole,
    ) -> Result<Imported, Refused> {
        let mut e = Emitter {
            model: self,
            b,
            weights: Weights::new(),
            mode,
            statistics: Vec::new(),
            streams: 0,
            found: Diagnostics::default(),
            bind: BTreeSet::new(),
            nodes: 0,
        };
        let mut names = Names::new();
        let inputs = e.inputs(given, &mut names);
        let mut wanted: HashMap<&str, InitialiserRole> = HashMap::new();
        for (name, tensor) in &self.weights {
            wanted.insert(name, role(name, tensor));
        }
        for (name, read) in &self.weights {
            let kind = match wanted[name.as_str()] {
                InitialiserRole::Param => InputRole::Param,
                InitialiserRole::Buffer => InputRole::Buffer,
                InitialiserRole::Constant => {
                    names.insert(name.clone(), Datum::known(read.elem, read.tensor.clone()));
                    continue;
                }
            };
            let number = e.weights.add(name, read, kind);
            names.insert(name.clone(), Datum { elem: read.elem, kind: Kind::Param(number) });
        }
        e.nodes(&self.nodes, &mut names, self.opset, 0);
        let outputs = e.outputs(&names);
        e.found.0.truncate(PROBLEMS_MAX);
        if !e.found.0.is_empty() {
            return Err(Refused { diagnostics: e.found, bind: e.bind.into_iter().collect() });
        }
        Ok(Imported { weights: e.weights.used, inputs, outputs, statistics: e.statistics })
    }

    /// The whole model as a graph, as it is written, with its outputs under their names.
    ///
    /// # Errors
    /// As [`OnnxModel::emit`].
    pub fn graph(&self, given: &[Given]) -> Result<(Graph, Imported), Refused> {
        let mut b = Builder::new(if self.name.is_empty() { "onnx" } else { &self.name });
        let imported = self.emit(&mut b, given, Mode::AsWritten, &|name, tensor| self.role(name, tensor))?;
        for output in &imported.outputs {
            b.output(&output.name, output.value);
        }
        match b.finish() {
            Ok(graph) => Ok((graph, imported)),
            Err(diagnostics) => Err(Refused { diagnostics, bind: Vec::new() }),
        }
    }
}

impl Emitter<'_> {
    fn inputs(&mut self, given: &[Given], names: &mut Names) -> Vec<Option<Value>> {
        if given.len() != self.model.inputs.len() {
            let problem = format!("the model takes {} inputs, got {}", self.model.inputs.len(), given.len());
            self.found.push(Diagnostic::new("onnx.inputs", problem).expected(format!(
                "its inputs: {}",
                self.model.inputs.iter().map(|i| i.name.as_str()).collect::<Vec<_>>().join(", ")
            )));
        }
        let mut values = Vec::new();
        for (info, given) in self.model.inputs.iter().zip(given) {
            let datum = match given {
                Given::Dims(dims) => {
                    if check_size(dims).is_err() {
                        let problem = format!("the input `{}` would be absurdly large", info.name);
                        self.found.push(Diagnostic::new("onnx.inputs", problem).hint("give smaller arrays"));
                        continue;
                    }
                    let ty = TensorType { dtype: info.elem.dtype(), dims: dims.clone() };
                    let value = self.b.input(&info.name, InputRole::Data, ty);
                    Datum::value(info.elem, value)
                }
                Given::Tensor(tensor) => Datum::known(info.elem, tensor.clone()),
                Given::Value(value) => Datum::value(info.elem, *value),
            };
            values.push(if let Kind::Value(value) = datum.kind { Some(value) } else { None });
            names.insert(info.name.clone(), datum);
        }
        values
    }

    fn outputs(&mut self, names: &Names) -> Vec<EmittedOutput> {
        let mut outputs = Vec::new();
        for name in &self.model.outputs {
            let Some(datum) = names.get(name) else { continue };
            let value = match &datum.kind {
                Kind::Value(value) => *value,
                Kind::Known(tensor) => self.b.constant((**tensor).clone()),
                Kind::Param(number) => self.weights.value(self.b, *number),
                Kind::Missing => continue,
                Kind::Sizes { .. } => {
                    let problem = format!("the output `{name}` is a shape that depends on the batch size");
                    self.found.push(
                        Diagnostic::new("onnx.unsupported-output", problem)
                            .hint("export the model without this output, or with a fixed batch size"),
                    );
                    continue;
                }
            };
            outputs.push(EmittedOutput { name: name.clone(), elem: datum.elem, value });
        }
        outputs
    }

    fn nodes(&mut self, nodes: &[NodeProto], names: &mut Names, opset: i64, depth: usize) {
        for node in nodes {
            self.nodes += 1;
            if self.nodes > NODES_MAX || depth > DEPTH_MAX || self.b.graph().nodes.len() > PRIMITIVES_MAX {
                let problem = format!(
                    "the model comes to more than {NODES_MAX} nodes, {PRIMITIVES_MAX} primitives or {DEPTH_MAX} levels"
                );
                self.found.push(
                    Diagnostic::new("onnx.size", problem)
                        .hint("export a smaller model, or one without unrolled loops"),
                );
                return;
            }
            let mut inputs = Vec::new();
            let mut told = false;
            for name in &node.input {
                match names.get(name) {
                    _ if name.is_empty() => inputs.push(None),
                    Some(datum) => {
                        told |= matches!(datum.kind, Kind::Missing);
                        inputs.push(Some(datum.clone()));
                    }
                    None => {
                        self.refuse(node, Refusal::Invalid(format!("reads `{name}`, which nothing makes")));
                        told = true;
                    }
                }
            }
            let results = if told { Vec::new() } else { self.node(node, inputs, names, opset, depth) };
            let mut results = results.into_iter();
            for name in &node.output {
                let datum = results.next().unwrap_or(Datum { elem: Elem::F32, kind: Kind::Missing });
                if !name.is_empty() {
                    names.insert(name.clone(), datum);
                }
            }
        }
    }

    /// The results of a node; none when it was refused.
    fn node(
        &mut self,
        node: &NodeProto,
        inputs: Vec<Option<Datum>>,
        names: &Names,
        opset: i64,
        depth: usize,
    ) -> Vec<Datum> {
        let model = self.model;
        if let Some(function) = model.functions.get(&(node.domain.clone(), node.op_type.clone())) {
            return self.function(function, node, inputs, depth);
        }
        if node.op_type == "If" {
            return self.branch(node, &inputs, names, opset, depth);
        }
        let Some(rule) = ops::rule(node) else {
            self.found.push(ops::no_rule(node));
            return Vec::new();
        };
        match self.lower(rule, node, inputs, opset) {
            Ok(data) => {
                let wanted = node.output.iter().rposition(|o| !o.is_empty()).map_or(0, |i| i + 1);
                if data.len() < wanted {
                    let refusal = Refusal::Unsupported {
                        problem: format!("output {} is used", data.len()),
                        expected: format!("use of the first {} alone", data.len()),
                    };
                    self.refuse(node, refusal);
                    return Vec::new();
                }
                data
            }
            Err(refusal) => {
                self.refuse(node, refusal);
                Vec::new()
            }
        }
    }

    fn lower(
        &mut self,
        rule: &ops::Rule,
        node: &NodeProto,
        inputs: Vec<Option<Datum>>,
        opset: i64,
    ) -> Lowered {
        let (weights, statistics, streams) = (&mut self.weights, &mut self.statistics, &mut self.streams);
        let mode = self.mode;
        let origin: String = label(node).chars().filter(|c| !c.is_control()).collect();
        self.b.with_origin(origin.into(), |b| {
            let seen = HashSet::new();
            let mut cx = Cx { b, node, opset, inputs, weights, mode, statistics, streams, seen };
            let data = if let Some(done) = sizes::applies(&cx.inputs).then(|| sizes::lower(&mut cx)).flatten()
            {
                done?
            } else if let Some(done) = fold::applies(&cx.inputs).then(|| fold::fold(rule, &mut cx)).flatten()
            {
                done?
            } else {
                (rule.lower)(&mut cx)?
            };
            let unseen = node.attribute.iter().find(|a| !cx.seen.contains(a.name.as_str()));
            if let Some(attribute) = unseen {
                let mut known: Vec<_> = cx.seen.iter().copied().collect();
                known.sort_unstable();
                return crate::cx::unsupported(
                    format!("attribute `{}` is not supported", attribute.name),
                    if known.is_empty() { "no attributes".to_owned() } else { known.join(", ") },
                );
            }
            for datum in &data {
                if let Kind::Value(value) = datum.kind {
                    if cx.b.is_poisoned(value) {
                        // The builder has kept what does not fit, and says so in the end.
                        continue;
                    }
                    check_size(&cx.b.dims(value))?;
                }
            }
            Ok(data)
        })
    }

    fn refuse(&mut self, node: &NodeProto, refusal: Refusal) {
        let diagnostic = match refusal {
            Refusal::Told => return,
            Refusal::Invalid(problem) => Diagnostic::new("onnx.node", problem)
                .hint("the file breaks the rules of ONNX here: `onnx.checker` may say more"),
            Refusal::Unsupported { problem, expected } => {
                Diagnostic::new("onnx.unsupported-node", problem).expected(expected)
            }
            Refusal::NotKnown(i) => {
                let name = node.input.get(i).map_or("", String::as_str);
                self.bind.extend(self.model.inputs_behind(name));
                let problem = format!("input {i}, `{name}`, is not known when the model is compiled");
                Diagnostic::new("onnx.unsupported-shape", problem)
                    .expected("a constant, or a value that follows from shapes")
            }
        };
        self.found.push(diagnostic.item(label(node)));
    }

    /// Writes out a function that the file defines.
    fn function(
        &mut self,
        function: &FunctionProto,
        call: &NodeProto,
        inputs: Vec<Option<Datum>>,
        depth: usize,
    ) -> Vec<Datum> {
        let mut names = Names::new();
        for (name, datum) in function.input.iter().zip(inputs) {
            if let Some(datum) = datum {
                names.insert(name.clone(), datum);
            }
        }
        let mut nodes = function.node.clone();
        for node in &mut nodes {
            node.input
                .iter_mut()
                .filter(|n| function.input.contains(n) && !names.contains_key(*n))
                .for_each(String::clear);
            for attribute in std::mem::take(&mut node.attribute) {
                if attribute.ref_attr_name.is_empty() {
                    node.attribute.push(attribute);
                    continue;
                }
                let given = call.attribute.iter().chain(&function.attribute_proto);
                let given = given.into_iter().find(|a| a.name == attribute.ref_attr_name).cloned();
                node.attribute.extend(given.map(|mut g| {
                    g.name = attribute.name.clone();
                    g
                }));
            }
        }
        let opsets = function.opset_import.iter().filter(|o| crate::model::standard(&o.domain));
        let opset = opsets.map(|o| o.version).max().unwrap_or(self.model.opset);
        self.nodes(&nodes, &mut names, opset, depth + 1);
        let missing = Datum { elem: Elem::F32, kind: Kind::Missing };
        function.output.iter().map(|o| names.get(o).cloned().unwrap_or(missing.clone())).collect()
    }

    /// The branch of an `If` whose condition is known.
    fn branch(
        &mut self,
        node: &NodeProto,
        inputs: &[Option<Datum>],
        names: &Names,
        opset: i64,
        depth: usize,
    ) -> Vec<Datum> {
        let known = match inputs.first() {
            Some(Some(Datum { kind: Kind::Known(tensor), .. })) if tensor.elements() == 1 => {
                Some(tensor.get_i64(0) != 0)
            }
            _ => None,
        };
        let Some(condition) = known else {
            self.refuse(node, Refusal::NotKnown(0));
            return Vec::new();
        };
        let wanted = if condition { "then_branch" } else { "else_branch" };
        let graph = node.attribute.iter().find(|a| a.name == wanted).and_then(|a| a.g.as_ref());
        let Some(GraphProto { node: nodes, initializer, output, .. }) = graph else {
            self.refuse(node, Refusal::Invalid(format!("has no `{wanted}`")));
            return Vec::new();
        };
        let mut names = names.clone();
        let external: &dyn ExternalData = &NoExternalData;
        for tensor in initializer {
            match OnnxTensor::read(tensor, external) {
                Ok(read) => {
                    names.insert(tensor.name.clone(), Datum::known(read.elem, read.tensor));
                }
                Err(problem) => self.found.push(problem),
            }
        }
        self.nodes(nodes, &mut names, opset, depth + 1);
        let missing = Datum { elem: Elem::F32, kind: Kind::Missing };
        output.iter().map(|o| names.get(&o.name).cloned().unwrap_or(missing.clone())).collect()
    }
}

impl OnnxModel {
    /// The inputs of the model that a name follows from.
    fn inputs_behind(&self, name: &str) -> Vec<usize> {
        let mut wanted: HashSet<&str> = HashSet::from([name]);
        for node in self.nodes.iter().rev() {
            // A shape does not follow from the elements of what it is the shape of.
            let stops = matches!(node.op_type.as_str(), "Shape" | "Size");
            if !stops && node.output.iter().any(|o| wanted.contains(o.as_str())) {
                wanted.extend(node.input.iter().map(String::as_str));
            }
        }
        let inputs = self.inputs.iter().enumerate();
        inputs.filter(|(_, i)| wanted.contains(i.name.as_str())).map(|(k, _)| k).collect()
    }
}
