//! What the lowering of one node works with: its inputs and attributes, the builder, and how it refuses.

use crate::datum::{Datum, Kind, Sym};
use crate::emit::{Mode, Statistic};
use crate::proto::{AttributeProto, AttributeType, NodeProto, TensorProto};
use crate::tensors::ELEMENTS_MAX;
use crate::weights::Weights;
use crate::{Elem, elem};
use outgrow_ir::{Builder, Dim, TensorType, Value};
use outgrow_tensor::{DType, Tensor};
use std::collections::HashSet;
use std::sync::Arc;

/// Most elements of a window along one axis, where each of them takes operations of its own.
const WINDOW_MAX: usize = 1024;

/// Why a node cannot be lowered.
#[derive(Clone, Debug)]
pub(crate) enum Refusal {
    /// It is right, but not supported; what is.
    Unsupported { problem: String, expected: String },
    /// It is wrong.
    Invalid(String),
    /// The input of this number must be known when compiling.
    NotKnown(usize),
    /// An input is missing for a reason that was told already.
    Told,
}

/// The results of a node, or why there are none.
pub(crate) type Lowered = Result<Vec<Datum>, Refusal>;

pub(crate) fn unsupported<T>(problem: impl Into<String>, expected: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Unsupported { problem: problem.into(), expected: expected.into() })
}

pub(crate) fn invalid<T>(problem: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Invalid(problem.into()))
}

/// The node being lowered.
pub(crate) struct Cx<'a> {
    pub b: &'a mut Builder,
    pub node: &'a NodeProto,
    /// Version of the standard operators.
    pub opset: i64,
    pub inputs: Vec<Option<Datum>>,
    pub weights: &'a mut Weights,
    pub mode: Mode<'a>,
    pub statistics: &'a mut Vec<Statistic>,
    /// Streams of random numbers that are taken already.
    pub streams: &'a mut usize,
    /// Attributes that the lowering has looked at; any other is refused afterwards.
    pub seen: HashSet<&'static str>,
}

impl<'a> Cx<'a> {
    /// Whether input `i` is given.
    pub fn has(&self, i: usize) -> bool {
        matches!(self.inputs.get(i), Some(Some(_)))
    }

    pub fn datum(&self, i: usize) -> Result<&Datum, Refusal> {
        match self.inputs.get(i) {
            Some(Some(datum)) => Ok(datum),
            _ => invalid(format!("needs input {i}")),
        }
    }

    /// Number of inputs, trailing ones that are left out not counted.
    pub fn count(&self) -> usize {
        self.inputs.iter().rposition(Option::is_some).map_or(0, |i| i + 1)
    }

    /// ONNX's element type of input `i`.
    pub fn elem(&self, i: usize) -> Result<Elem, Refusal> {
        self.datum(i).map(|d| d.elem)
    }

    /// Input `i` as a value of the graph.
    pub fn x(&mut self, i: usize) -> Result<Value, Refusal> {
        let datum = self.datum(i)?.clone();
        self.value(&datum)
    }

    /// Any datum as a value of the graph.
    pub fn value(&mut self, datum: &Datum) -> Result<Value, Refusal> {
        Ok(match &datum.kind {
            Kind::Value(value) => *value,
            Kind::Known(tensor) => self.b.push(outgrow_ir::ops::constant::Constant(tensor.clone()), &[]),
            Kind::Param(number) => self.weights.value(self.b, *number),
            Kind::Missing => return Err(Refusal::Told),
            Kind::Sizes { .. } => {
                return unsupported(
                    "computes with the batch size as with a value",
                    "the batch size in shapes alone",
                );
            }
        })
    }

    /// Input `i` as a value, if it is given.
    pub fn opt(&mut self, i: usize) -> Result<Option<Value>, Refusal> {
        if self.has(i) { self.x(i).map(Some) } else { Ok(None) }
    }

    /// Input `i` as a value of a float type.
    pub fn float(&mut self, i: usize) -> Result<Value, Refusal> {
        let elem = self.elem(i)?;
        if !elem.is_float() {
            return unsupported(format!("input {i} is of {}", elem.name()), "a float type");
        }
        self.x(i)
    }

    /// Input `i` as a value that is not of bool.
    pub fn number(&mut self, i: usize) -> Result<Value, Refusal> {
        if self.elem(i)? == Elem::Bool {
            return unsupported(format!("input {i} is of BOOL"), "a number type");
        }
        self.x(i)
    }

    /// The type of input `i`.
    pub fn ty(&self, i: usize) -> Result<TensorType, Refusal> {
        let datum = self.datum(i)?;
        Ok(match &datum.kind {
            Kind::Value(value) => self.b.ty(*value).clone(),
            Kind::Known(tensor) => TensorType::new(tensor.dtype(), tensor.shape().dims().iter().copied()),
            Kind::Param(number) => self.weights.ty(*number),
            Kind::Sizes { scalar: true, .. } => TensorType::scalar(DType::I64),
            Kind::Sizes { items, .. } => TensorType::new(DType::I64, [items.len()]),
            Kind::Missing => return Err(Refusal::Told),
        })
    }

    /// The dimensions of input `i`.
    pub fn dims(&self, i: usize) -> Result<Vec<Dim>, Refusal> {
        Ok(self.ty(i)?.dims)
    }

    /// The extents of input `i`, none of which may depend on the batch size.
    pub fn fixed(&self, i: usize) -> Result<Vec<usize>, Refusal> {
        let dims = self.dims(i)?;
        fixed(&dims)
    }

    /// Input `i` as a tensor that is known when compiling.
    pub fn known(&self, i: usize) -> Result<Arc<Tensor>, Refusal> {
        match &self.datum(i)?.kind {
            Kind::Known(tensor) => Ok(tensor.clone()),
            Kind::Param(number) => Ok(self.weights.tensor(*number).clone()),
            Kind::Missing => Err(Refusal::Told),
            _ => Err(Refusal::NotKnown(i)),
        }
    }

    /// Input `i` as integers that are known when compiling.
    pub fn ints(&self, i: usize) -> Result<Vec<i64>, Refusal> {
        let tensor = self.known(i)?;
        Ok((0..tensor.elements()).map(|k| tensor.get_i64(k)).collect())
    }

    /// Input `i` as integers that are known when compiling, but for the batch size.
    pub fn syms(&self, i: usize) -> Result<Vec<Sym>, Refusal> {
        match &self.datum(i)?.kind {
            Kind::Sizes { items, .. } => Ok(items.clone()),
            _ => Ok(self.ints(i)?.into_iter().map(Sym::number).collect()),
        }
    }

    /// Input `i` as a number that is known when compiling.
    pub fn known_number(&self, i: usize) -> Result<f64, Refusal> {
        let tensor = self.known(i)?;
        if tensor.elements() == 1 {
            Ok(tensor.get_f64(0))
        } else {
            invalid(format!("input {i} is no single number"))
        }
    }

    fn attr(&mut self, name: &'static str) -> Option<&'a AttributeProto> {
        self.seen.insert(name);
        self.node.attribute.iter().find(|a| a.name == name)
    }

    fn typed(
        &mut self,
        name: &'static str,
        ty: AttributeType,
    ) -> Result<Option<&'a AttributeProto>, Refusal> {
        match self.attr(name) {
            None => Ok(None),
            // Files of the first format version do not say the type.
            Some(a) if a.r#type == ty as i32 || a.r#type == 0 => Ok(Some(a)),
            Some(_) => invalid(format!("attribute `{name}` is not of type {ty:?}")),
        }
    }

    /// Whether an attribute is given.
    pub fn has_attr(&mut self, name: &'static str) -> bool {
        self.attr(name).is_some()
    }

    /// An attribute that changes nothing here.
    pub fn ignore(&mut self, names: &[&'static str]) {
        self.seen.extend(names);
    }

    pub fn int(&mut self, name: &'static str, default: i64) -> Result<i64, Refusal> {
        Ok(self.typed(name, AttributeType::Int)?.map_or(default, |a| a.i))
    }

    pub fn flag(&mut self, name: &'static str, default: bool) -> Result<bool, Refusal> {
        Ok(self.int(name, i64::from(default))? != 0)
    }

    /// A float attribute, as the f32 that the file holds.
    pub fn real(&mut self, name: &'static str, default: f64) -> Result<f64, Refusal> {
        Ok(self.typed(name, AttributeType::Float)?.map_or(default, |a| f64::from(a.f)))
    }

    pub fn int_list(&mut self, name: &'static str) -> Result<Option<Vec<i64>>, Refusal> {
        Ok(self.typed(name, AttributeType::Ints)?.map(|a| a.ints.clone()))
    }

    pub fn real_list(&mut self, name: &'static str) -> Result<Option<Vec<f32>>, Refusal> {
        Ok(self.typed(name, AttributeType::Floats)?.map(|a| a.floats.clone()))
    }

    pub fn text(&mut self, name: &'static str, default: &str) -> Result<String, Refusal> {
        let found = self.typed(name, AttributeType::String)?;
        Ok(found.map_or(default.to_owned(), |a| String::from_utf8_lossy(&a.s).into_owned()))
    }

    pub fn texts(&mut self, name: &'static str) -> Result<Option<Vec<String>>, Refusal> {
        let found = self.typed(name, AttributeType::Strings)?;
        Ok(found.map(|a| a.strings.iter().map(|s| String::from_utf8_lossy(s).into_owned()).collect()))
    }

    pub fn tensor(&mut self, name: &'static str) -> Result<Option<&'a TensorProto>, Refusal> {
        Ok(self.typed(name, AttributeType::Tensor)?.and_then(|a| a.t.as_ref()))
    }

    /// Integers that newer versions give as input `i` and older ones as an attribute.
    pub fn ints_or_attr(&mut self, i: usize, name: &'static str) -> Result<Option<Vec<i64>>, Refusal> {
        let attr = self.int_list(name)?;
        if self.has(i) { self.ints(i).map(Some) } else { Ok(attr) }
    }

    /// The element type of the attribute `name`.
    pub fn elem_attr(&mut self, name: &'static str, default: Elem) -> Result<Elem, Refusal> {
        let code = self.int(name, i64::from(default.code()))?;
        elem_of(code)
    }

    /// One result.
    pub fn one(&self, elem: Elem, value: Value) -> Lowered {
        Ok(vec![Datum::value(elem, value)])
    }

    /// One result of integer or f16 arithmetic, brought back into its type.
    pub fn wrapped(&mut self, elem: Elem, value: Value) -> Lowered {
        let value = elem::wrapped(self.b, value, elem);
        self.one(elem, value)
    }
}

/// The element type of this number.
pub(crate) fn elem_of(code: i64) -> Result<Elem, Refusal> {
    match i32::try_from(code).ok().and_then(Elem::of) {
        Some(elem) => Ok(elem),
        None => Err(Refusal::Unsupported {
            problem: format!("element type {code} is not supported"),
            expected: Elem::names(),
        }),
    }
}

/// An axis, counted from the end where it is negative.
pub(crate) fn axis(axis: i64, rank: usize) -> Result<usize, Refusal> {
    let found = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
    match found.and_then(|a| usize::try_from(a).ok()) {
        Some(a) if a < rank => Ok(a),
        _ => invalid(format!("there is no axis {axis} in {rank} dimensions")),
    }
}

/// Distinct axes, ascending.
pub(crate) fn axes(given: &[i64], rank: usize) -> Result<Vec<usize>, Refusal> {
    let mut found = given.iter().map(|a| axis(*a, rank)).collect::<Result<Vec<_>, _>>()?;
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Extents of which none may depend on the batch size.
pub(crate) fn fixed(dims: &[Dim]) -> Result<Vec<usize>, Refusal> {
    match dims.iter().map(|d| d.fixed()).collect() {
        Some(found) => Ok(found),
        None => {
            unsupported("an extent depends on the batch size", "an extent that does not, but for the first")
        }
    }
}

/// One extent that may not depend on the batch size.
pub(crate) fn fixed_dim(dims: &[Dim], axis: usize) -> Result<usize, Refusal> {
    match dims.get(axis) {
        Some(d) => fixed(&[*d]).map(|d| d[0]),
        None => invalid(format!("there is no axis {axis}")),
    }
}

/// Most elements of a constant that a lowering makes itself.
const CONSTANT_MAX: usize = 1 << 24;

/// Refuses constants that would be far larger than the file that asks for them.
pub(crate) fn check_constant(extents: &[usize]) -> Result<(), Refusal> {
    let elements = extents.iter().try_fold(1usize, |n, d| n.checked_mul((*d).max(1)));
    match elements {
        Some(n) if n <= CONSTANT_MAX => Ok(()),
        _ => unsupported(format!("needs a constant of more than {CONSTANT_MAX} elements"), "a smaller one"),
    }
}

/// Refuses windows whose elements are too many to be taken one by one.
pub(crate) fn check_window(elements: usize) -> Result<(), Refusal> {
    if elements <= WINDOW_MAX {
        Ok(())
    } else {
        unsupported(format!("a window of {elements} elements"), format!("at most {WINDOW_MAX}"))
    }
}

/// Refuses values of absurdly many elements.
pub(crate) fn check_size(dims: &[Dim]) -> Result<(), Refusal> {
    let elements = dims.iter().try_fold(1usize, |n, d| n.checked_mul(d.unit().max(1)));
    match elements {
        Some(n) if n <= ELEMENTS_MAX => Ok(()),
        _ => invalid(format!("a value would have more than {ELEMENTS_MAX} elements")),
    }
}
