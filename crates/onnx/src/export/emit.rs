//! Collects nodes and initialisers, and keeps what each value of the graph is called.

use super::ops;
use super::tensor_proto;
use crate::proto::{AttributeProto, AttributeType, NodeProto, TensorProto};
use outgrow_ir::{Diagnostic, Dim, Graph, Symbol, Value};
use outgrow_tensor::{DType, Tensor};
use std::collections::{BTreeMap, BTreeSet};

/// A value of the model.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub name: String,
    /// Its dimensions in the model: of those of the graph's value, or 1 (or none, at the front) where it is only
    /// repeated.
    pub dims: Vec<Dim>,
}

/// Builds the model's graph.
pub(super) struct Emitter<'a> {
    pub graph: &'a Graph,
    nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
    values: BTreeMap<Value, Made>,
    /// Values in full, where a thin one was made before.
    full: BTreeMap<Value, String>,
    names: BTreeSet<String>,
    /// Small constants by their type, shape and bytes.
    constants: BTreeMap<(i32, Vec<usize>, Vec<u8>), String>,
    /// For each symbol, an input with its place and factor in the input's shape.
    pub told_by: BTreeMap<Symbol, (String, usize, usize)>,
    /// What is known of symbols, `i64 [1]` each.
    pub symbols: BTreeMap<Symbol, String>,
}

impl<'a> Emitter<'a> {
    pub fn new(graph: &'a Graph) -> Self {
        Self {
            graph,
            nodes: Vec::new(),
            initializers: Vec::new(),
            values: BTreeMap::new(),
            full: BTreeMap::new(),
            names: BTreeSet::new(),
            constants: BTreeMap::new(),
            told_by: BTreeMap::new(),
            symbols: BTreeMap::new(),
        }
    }

    /// An input of the model.
    pub fn feed(&mut self, value: Value, name: &str) {
        let dims = self.graph.ty(value).dims.clone();
        for (axis, (times, symbols)) in dims.iter().map(|dim| dim.parts()).enumerate() {
            let mut factors = symbols.factors();
            if let (Some(symbol), None) = (factors.next(), factors.next()) {
                self.told_by.entry(symbol).or_insert_with(|| (name.to_owned(), axis, times));
            }
        }
        self.names.insert(name.to_owned());
        self.values.insert(value, Made { name: name.to_owned(), dims });
    }

    /// A parameter or buffer.
    pub fn initializer(&mut self, value: Value, name: &str, tensor: &Tensor) {
        self.names.insert(name.to_owned());
        self.initializers.push(tensor_proto(name, tensor));
        let dims = self.graph.ty(value).dims.clone();
        self.values.insert(value, Made { name: name.to_owned(), dims });
    }

    /// The name of a constant.
    pub fn constant(&mut self, tensor: &Tensor) -> String {
        let key = (
            super::data_type(tensor.dtype()),
            tensor.shape().dims().to_vec(),
            tensor.le_bytes().into_owned(),
        );
        if let Some(name) = self.constants.get(&key) {
            return name.clone();
        }
        let name = self.fresh("constant");
        self.initializers.push(tensor_proto(&name, tensor));
        self.constants.insert(key, name.clone());
        name
    }

    /// The name of a list of integers.
    pub fn integers(&mut self, list: &[i64]) -> String {
        self.constant(&Tensor::from_i64(DType::I64, vec![list.len()], |i| list[i]))
    }

    /// A node with one result, whose name it gives.
    pub fn node(
        &mut self,
        op: &str,
        inputs: &[String],
        attributes: Vec<AttributeProto>,
        about: &str,
    ) -> String {
        let name = self.fresh(&format!("{about}{op}"));
        self.nodes.push(NodeProto {
            input: inputs.to_vec(),
            output: vec![name.clone()],
            name: name.clone(),
            op_type: op.to_owned(),
            attribute: attributes,
            ..NodeProto::default()
        });
        name
    }

    fn fresh(&mut self, base: &str) -> String {
        let mut name = base.to_owned();
        let mut number = 1;
        while !self.names.insert(name.clone()) {
            number += 1;
            name = format!("{base}_{number}");
        }
        name
    }

    /// A value as it is in the model, repeated or not.
    pub fn thin(&self, value: Value) -> Result<Made, Diagnostic> {
        self.values.get(&value).cloned().ok_or_else(|| {
            // The operation before could not be exported, which has been told.
            Diagnostic::new("onnx.export", "a value depends on an operation that cannot be exported")
                .hint("see what is told of that operation")
                .item(&*self.graph.node(value).origin)
        })
    }

    /// The name of a value with all its dimensions.
    pub fn full(&mut self, value: Value) -> Result<String, Diagnostic> {
        if let Some(name) = self.full.get(&value) {
            return Ok(name.clone());
        }
        let made = self.thin(value)?;
        let dims = self.graph.ty(value).dims.clone();
        if made.dims == dims {
            return Ok(made.name);
        }
        let shape = self.shape(&dims)?;
        let about = self.about(value);
        let name = self.node("Expand", &[made.name, shape], vec![], &about);
        self.full.insert(value, name.clone());
        Ok(name)
    }

    /// What the names of a value's nodes begin with.
    pub fn about(&self, value: Value) -> String {
        let origin = &self.graph.node(value).origin;
        if origin.is_empty() { String::new() } else { format!("{origin}/") }
    }

    /// Emits what makes a value, unless it is an input.
    pub fn emit(&mut self, value: Value) -> Result<(), Diagnostic> {
        if !self.values.contains_key(&value) {
            let made = ops::emit(self, value)?;
            self.values.insert(value, made);
        }
        Ok(())
    }

    /// Calls a value by the name of an output.
    pub fn output(&mut self, name: &str, value: Value) -> Result<(), Diagnostic> {
        let from = self.full(value)?;
        self.nodes.push(NodeProto {
            input: vec![from],
            output: vec![name.to_owned()],
            name: format!("{name}/Identity"),
            op_type: "Identity".into(),
            ..NodeProto::default()
        });
        Ok(())
    }

    pub fn finish(self) -> (Vec<NodeProto>, Vec<TensorProto>) {
        (self.nodes, self.initializers)
    }
}

/// An attribute that is an integer.
pub(super) fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), i, r#type: AttributeType::Int as i32, ..AttributeProto::default() }
}

/// An attribute that is a list of integers.
pub(super) fn ints(name: &str, ints: impl IntoIterator<Item = usize>) -> AttributeProto {
    let ints = ints.into_iter().map(|i| i as i64).collect();
    AttributeProto {
        name: name.into(),
        ints,
        r#type: AttributeType::Ints as i32,
        ..AttributeProto::default()
    }
}

/// An attribute that is text.
pub(super) fn text(name: &str, text: &str) -> AttributeProto {
    let s = text.as_bytes().to_vec();
    AttributeProto { name: name.into(), s, r#type: AttributeType::String as i32, ..AttributeProto::default() }
}
