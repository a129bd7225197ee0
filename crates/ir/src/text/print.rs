//! Prints graphs.

use crate::{Attr, Dim, Graph, Node, Output, OutputRole, Value};
use outgrow_tensor::Tensor;
use std::fmt::{self, Write};

/// Quotes text so that the lexer reads it back.
fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// A number that the lexer reads back as a float of the same bits (NaN as the one canonical NaN).
fn float(x: f64) -> String {
    if x.is_nan() {
        "nan".into()
    } else if x.is_infinite() {
        if x > 0.0 { "inf".into() } else { "-inf".into() }
    } else {
        format!("{x:?}")
    }
}

fn tensor(t: &Tensor) -> String {
    let element = |i| if t.dtype().is_float() { float(t.get_f64(i)) } else { t.get_i64(i).to_string() };
    let elements: Vec<_> = (0..t.elements()).map(element).collect();
    format!("{}{} ({})", t.dtype(), t.shape(), elements.join(", "))
}

fn attr(value: &Attr) -> String {
    match value {
        Attr::Int(n) => n.to_string(),
        Attr::Float(x) => float(*x),
        Attr::Name(name) => name.clone(),
        Attr::Text(text) => quote(text),
        Attr::Dims(dims) => format!("[{}]", dims.iter().map(Dim::to_string).collect::<Vec<_>>().join(", ")),
        Attr::Tensor(t) => tensor(t),
    }
}

/// Attributes, as ` {axis = 1}`; nothing if there are none.
fn attrs(attrs: &[(impl fmt::Display, Attr)]) -> String {
    let list: Vec<_> = attrs.iter().map(|(key, value)| format!("{key} = {}", attr(value))).collect();
    if list.is_empty() { String::new() } else { format!(" {{{}}}", list.join(", ")) }
}

fn values(values: &[Value]) -> String {
    values.iter().map(|value| format!("%{}", value.0)).collect::<Vec<_>>().join(", ")
}

/// An output, as `"grad:w" = %3 as gradient "w"`.
fn output(Output { name, role, value }: &Output) -> String {
    let of = match role {
        OutputRole::Metric(metric) => Some(metric.name()),
        _ => role.of().map(|(input, _)| input),
    };
    let of = of.map_or(String::new(), |of| format!(" {}", quote(of)));
    let role = if *role == OutputRole::Result { String::new() } else { format!(" as {}{of}", role.name()) };
    format!("{} = %{}{role}", quote(name), value.0)
}

impl Graph {
    /// The line of one node without its number, as `add %1, %2 : f32[B, 10] @"fc1"`.
    fn node_text(&self, node: &Node) -> String {
        let mut text = node.op.rule().name().to_owned();
        if !node.inputs.is_empty() {
            let _ = write!(text, " {}", values(&node.inputs));
        }
        let _ = write!(text, "{} : {}", attrs(&node.op.rule().attrs()), node.ty);
        if !node.origin.is_empty() {
            let _ = write!(text, " @{}", quote(&node.origin));
        }
        if let Some(region) = node.region {
            let _ = write!(text, " in r{}", region.0);
        }
        if let Some(group) = node.group {
            let _ = write!(text, " group g{}", group.0);
        }
        text
    }
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "graph {} {{", quote(&self.name))?;
        for (i, region) in self.regions.iter().enumerate() {
            write!(f, "  region r{i} = {}{}", quote(&region.kind), attrs(&region.attrs))?;
            write!(f, " ({}) => ({})", values(&region.operands), values(&region.results))?;
            if !region.origin.is_empty() {
                write!(f, " @{}", quote(&region.origin))?;
            }
            if let Some(parent) = region.parent {
                write!(f, " in r{}", parent.0)?;
            }
            writeln!(f)?;
        }
        for (value, node) in self.iter() {
            writeln!(f, "  %{} = {}", value.0, self.node_text(node))?;
        }
        let outputs: Vec<_> = self.outputs.iter().map(output).collect();
        writeln!(f, "  return {}", outputs.join(", "))?;
        writeln!(f, "}}")
    }
}
