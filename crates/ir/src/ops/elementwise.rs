//! What the elementwise primitives have in common: macros that turn a formula and its derivative into an op.

use crate::TensorType;
use outgrow_tensor::DType;

/// Which element types an elementwise op takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Floating point only.
    Floats,
    /// Floating point and integers.
    Numbers,
    /// Truth values only.
    Booleans,
    /// Everything.
    Anything,
}

impl Takes {
    fn check(self, dtype: DType) -> Result<(), String> {
        let (ok, wanted) = match self {
            Self::Floats => (dtype.is_float(), "a float type"),
            Self::Numbers => (dtype != DType::Bool, "a number type"),
            Self::Booleans => (dtype == DType::Bool, "bool"),
            Self::Anything => (true, "any type"),
        };
        if ok { Ok(()) } else { Err(format!("takes {wanted}, got {dtype}")) }
    }
}

/// The common type of `count` equal inputs.
pub fn same_types(inputs: &[&TensorType], count: usize, takes: Takes) -> Result<TensorType, String> {
    if inputs.len() != count {
        return Err(format!("takes {count} inputs, got {}", inputs.len()));
    }
    takes.check(inputs[0].dtype)?;
    if inputs.iter().any(|ty| *ty != inputs[0]) {
        return Err("takes inputs of one type and shape".into());
    }
    Ok(inputs[0].clone())
}

/// An elementwise op of one input: `float` and `int` are its formulas, `vjp` builds the gradient from
/// `(builder, x, y, grad)`, `input` makes the sample input for given dimensions.
macro_rules! unary {
    ($(#[$doc:meta])* $op:ident, $name:literal, $takes:ident, float: $float:expr, int: $int:expr,
     vjp: $vjp:expr, sample: $sample:expr) => {
        use crate::ops::elementwise::{Takes, same_types};
        use crate::ops::{OpEntry, OpRule, Sample, SampleInput, Vjp, reference};
        use crate::{AttrReader, Builder, TensorType, Value};
        use outgrow_tensor::{DType, Shape, Tensor};

        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub struct $op;

        impl OpRule for $op {
            fn name(&self) -> &'static str { Self::NAME }
            fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
                same_types(inputs, 1, Takes::$takes)
            }
            fn eval(&self, inputs: &[&Tensor], dtype: DType, _: &Shape) -> Tensor {
                reference::map(inputs[0], dtype, $float, $int)
            }
            fn vjp(&self, cx: &mut Vjp<'_>) -> Vec<Option<Value>> {
                let rule: fn(&mut Builder, Value, Value, Value) -> Option<Value> = $vjp;
                vec![rule(cx.b, cx.inputs[0], cx.output, cx.grad)]
            }
            fn elementwise(&self) -> bool { true }
        }

        impl OpEntry for $op {
            const NAME: &'static str = $name;
            fn parse(_: &mut AttrReader) -> Result<Self, String> { Ok(Self) }
            fn samples() -> Vec<Sample> {
                let input: fn(&[usize]) -> SampleInput = $sample;
                [&[][..], &[1], &[0, 3], &[7], &[3, 5], &[2, 3, 41]]
                    .iter()
                    .map(|dims| Sample::new(Self, &[input(dims)]))
                    .collect()
            }
        }
    };
}

/// An elementwise op of two inputs of one type; `vjp` builds both gradients from `(builder, x, y, result, grad)`.
macro_rules! binary {
    ($(#[$doc:meta])* $op:ident, $name:literal, $takes:ident, float: $float:expr, int: $int:expr,
     vjp: $vjp:expr, sample: $sample:expr) => {
        use crate::ops::elementwise::{Takes, same_types};
        use crate::ops::{OpEntry, OpRule, Sample, SampleInput, Vjp, reference};
        use crate::{AttrReader, Builder, TensorType, Value};
        use outgrow_tensor::{DType, Shape, Tensor};

        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub struct $op;

        impl OpRule for $op {
            fn name(&self) -> &'static str { Self::NAME }
            fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
                same_types(inputs, 2, Takes::$takes)
            }
            fn eval(&self, inputs: &[&Tensor], dtype: DType, _: &Shape) -> Tensor {
                reference::zip(inputs[0], inputs[1], dtype, $float, $int)
            }
            fn vjp(&self, cx: &mut Vjp<'_>) -> Vec<Option<Value>> {
                let rule: fn(&mut Builder, Value, Value, Value, Value) -> [Option<Value>; 2] = $vjp;
                rule(cx.b, cx.inputs[0], cx.inputs[1], cx.output, cx.grad).to_vec()
            }
            fn elementwise(&self) -> bool { true }
        }

        impl OpEntry for $op {
            const NAME: &'static str = $name;
            fn parse(_: &mut AttrReader) -> Result<Self, String> { Ok(Self) }
            fn samples() -> Vec<Sample> {
                let input: fn(&[usize]) -> [SampleInput; 2] = $sample;
                [&[][..], &[1], &[0, 3], &[7], &[3, 5], &[2, 3, 41]]
                    .iter()
                    .map(|dims| Sample::new(Self, &input(dims)))
                    .collect()
            }
        }
    };
}

pub(crate) use {binary, unary};
