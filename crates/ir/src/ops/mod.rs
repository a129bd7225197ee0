//! The primitives: one file each, with the op's shape rule, reference evaluation, derivative, cost, samples for the
//! table-driven test, and docs. The list below registers them; nothing else needs to know of a new op.

use crate::{Attr, AttrReader, Builder, Cost, Dim, TensorType, Value};
use outgrow_tensor::{DType, Shape, Tensor};
use std::fmt::Debug;

mod elementwise;
mod reference;
mod sample;
mod sums;
mod window;

pub use sample::{Sample, SampleInput};
pub use window::Window;

/// What every op knows of itself.
pub trait OpRule: Debug {
    /// The name in text forms.
    fn name(&self) -> &'static str;

    /// The attributes in the order in which they are printed.
    fn attrs(&self) -> Vec<(&'static str, Attr)> {
        Vec::new()
    }

    /// The type of the result, or what does not fit, as a sentence.
    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String>;

    /// The result on static shapes, computed slowly and obviously: floats in f64, rounded once at the end.
    fn eval(&self, inputs: &[&Tensor], dtype: DType, shape: &Shape) -> Tensor;

    /// For each input, the gradient that flows back into it when `cx.grad` flows into the output; `None` where
    /// none flows.
    fn vjp(&self, cx: &mut Vjp<'_>) -> Vec<Option<Value>> {
        vec![None; cx.inputs.len()]
    }

    /// Arithmetic and memory traffic on static types; by default one operation per element of the result.
    fn cost(&self, inputs: &[&TensorType], output: &TensorType) -> Cost {
        Cost::streaming(output.unit_elements() as u64, inputs, output)
    }

    /// Whether each element of the result depends only on the elements at the same place of the inputs, which all
    /// have the result's shape.
    fn elementwise(&self) -> bool {
        false
    }

    /// Changes every dimension that is written into the op itself.
    fn map_dims(&mut self, _change: &mut dyn FnMut(Dim) -> Dim) {}
}

/// How an op is read from text, and the cases it is tested on.
pub trait OpEntry: OpRule + Sized {
    /// The name in text forms.
    const NAME: &'static str;
    /// Reads the op from its attributes.
    fn parse(attrs: &mut AttrReader) -> Result<Self, String>;
    /// Cases for the table-driven tests, edge shapes included.
    fn samples() -> Vec<Sample>;
}

/// What a derivative rule may use: a builder, the op's inputs and output, and the gradient of the output.
pub struct Vjp<'a> {
    /// Where the gradient is built.
    pub b: &'a mut Builder,
    /// The inputs of the op.
    pub inputs: &'a [Value],
    /// The value of the op.
    pub output: Value,
    /// The gradient of the final scalar by the value of the op.
    pub grad: Value,
}

macro_rules! ops {
    ($($variant:ident in $module:ident,)*) => {
        $(pub mod $module;)*

        /// A primitive operation.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs)]
        pub enum Op { $($variant($module::$variant),)* }

        impl Op {
            /// The names of all primitives, in the order of the list.
            pub const NAMES: &'static [&'static str] = &[$(<$module::$variant as OpEntry>::NAME,)*];

            /// The rules of this op.
            pub fn rule(&self) -> &dyn OpRule {
                match self { $(Self::$variant(op) => op,)* }
            }

            /// Changes every dimension that is written into the op itself.
            pub fn map_dims(&mut self, change: &mut dyn FnMut(Dim) -> Dim) {
                match self { $(Self::$variant(op) => op.map_dims(change),)* }
            }

            /// Reads an op from its name and attributes.
            pub fn parse(name: &str, mut attrs: AttrReader) -> Result<Self, String> {
                let op = match name {
                    $(<$module::$variant as OpEntry>::NAME =>
                        Self::$variant(<$module::$variant as OpEntry>::parse(&mut attrs)?),)*
                    _ => return Err(format!("there is no op `{name}`")),
                };
                attrs.finish()?;
                Ok(op)
            }

            /// The samples of every op, for table-driven tests of backends.
            pub fn all_samples() -> Vec<Sample> {
                let mut all = Vec::new();
                $(all.extend(<$module::$variant as OpEntry>::samples());)*
                all
            }
        }

        $(impl From<$module::$variant> for Op {
            fn from(op: $module::$variant) -> Self { Self::$variant(op) }
        })*
    };
}

ops! {
    // Sources
    Input in input,
    Constant in constant,
    Iota in iota,
    RandomUniform in random_uniform,
    // Elementwise, one input
    Neg in neg,
    Abs in abs,
    Exp in exp,
    Log in log,
    Sqrt in sqrt,
    Tanh in tanh,
    Erf in erf,
    Sin in sin,
    Cos in cos,
    Floor in floor,
    Sign in sign,
    Not in not,
    Cast in cast,
    StopGradient in stop_gradient,
    // Elementwise, more inputs
    Add in add,
    Sub in sub,
    Mul in mul,
    Div in div,
    Max in max,
    Min in min,
    Pow in pow,
    And in and,
    Or in or,
    Compare in compare,
    Select in select,
    // Structure
    Broadcast in broadcast,
    Reshape in reshape,
    Transpose in transpose,
    Slice in slice,
    Pad in pad,
    Concat in concat,
    Reverse in reverse,
    // Reductions
    ReduceSum in reduce_sum,
    ReduceMax in reduce_max,
    ArgMax in arg_max,
    // Contractions and windows
    Dot in dot,
    Conv2d in conv2d,
    Conv2dGradInput in conv2d_grad_input,
    Conv2dGradWeight in conv2d_grad_weight,
    Pool2d in pool2d,
    MaxPool2dGrad in max_pool2d_grad,
    Attention in attention,
    AttentionGrad in attention_grad,
    // Indexing
    Gather in gather,
    ScatterAdd in scatter_add,
}

impl Op {
    /// Whether the result is only another view of the only input: its elements, in another order or more than once.
    pub fn is_view(&self) -> bool {
        match self {
            Self::Reshape(_)
            | Self::Broadcast(_)
            | Self::Transpose(_)
            | Self::Slice(_)
            | Self::Reverse(_)
            | Self::StopGradient(_) => true,
            Self::ReduceSum(sum) => sum.axes.is_empty(),
            Self::ReduceMax(max) => max.axes.is_empty(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
