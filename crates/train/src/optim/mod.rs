//! Optimisers. Each is one file: what it keeps per parameter, which numbers it takes at each step, and its update as a
//! piece of graph, so that the update is simplified, fused, planned and run like any other program. The list below
//! registers them; [`program::update_graph`] makes the update program of a model.

mod common;
pub mod program;

#[cfg(test)]
pub(crate) mod check;

use std::fmt::Debug;

use outgrow_ir::{Builder, Results, Value};
use smallvec::SmallVec;

use crate::spec;

pub use program::{Clipping, update_graph};

/// A state tensor that an optimiser keeps for each parameter, of the parameter's shape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slot {
    /// Its name, as `momentum`.
    pub name: &'static str,
    /// What every element is before the first step.
    pub init: f64,
}

impl Slot {
    /// A slot that starts as zeros.
    pub const fn zeros(name: &'static str) -> Self {
        Self { name, init: 0.0 }
    }
}

/// The numbers of a step: few enough to need no memory of their own.
pub type Scalars = SmallVec<[f64; 4]>;

/// What an update is computed from. All values are of one float type.
#[derive(Clone, Copy, Debug)]
pub struct UpdateInputs<'a> {
    /// The parameter.
    pub param: Value,
    /// Its gradient, of the same shape.
    pub grad: Value,
    /// Its state, one tensor of the same shape for each slot.
    pub state: &'a [Value],
    /// The numbers of this step, of rank zero, in the order of [`Optimizer::scalar_names`].
    pub scalars: &'a [Value],
}

/// What an update gives.
#[derive(Clone, Debug)]
pub struct Updated {
    /// The new parameter.
    pub param: Value,
    /// The new state, in the order of the slots.
    pub state: Vec<Value>,
}

impl Results for Updated {
    fn values(&self) -> Vec<Value> {
        [self.param].into_iter().chain(self.state.iter().copied()).collect()
    }
}

/// An optimiser.
pub trait Optimizer: Send + Sync + Debug {
    /// Its name in manifests and graphs.
    fn name(&self) -> &'static str;

    /// The state kept for each parameter.
    fn slots(&self) -> Vec<Slot>;

    /// The names of the numbers of a step.
    fn scalar_names(&self) -> Vec<&'static str>;

    /// The numbers of step `step` (the first is 1) at learning rate `lr`. They reach the graph rounded to f32, so they
    /// are such that nothing is lost by it: `lr / (1 - beta1^step)`, not `beta1^step`.
    fn scalars(&self, lr: f64, step: u64) -> Scalars;

    /// Whether the update of an element depends on that element alone, so that all parameters can be updated as one
    /// vector.
    fn elementwise(&self) -> bool {
        true
    }

    /// Builds the update of one tensor.
    fn update(&self, b: &mut Builder, cx: &UpdateInputs<'_>) -> Updated;
}

macro_rules! optimizers {
    ($($variant:ident in $module:ident,)*) => {
        $(mod $module; pub use $module::$variant;)*

        /// The optimiser that a manifest asks for, with its weight decay.
        pub fn from_spec(options: &spec::Optimizer, weight_decay: f64) -> Box<dyn Optimizer> {
            match *options {
                $(spec::Optimizer::$variant(options) => Box::new($variant { options, weight_decay }),)*
            }
        }
    };
}

optimizers! {
    Sgd in sgd,
    Momentum in momentum,
    Nesterov in nesterov,
    Adagrad in adagrad,
    Rmsprop in rmsprop,
    Adam in adam,
    Adamw in adamw,
    Ftrl in ftrl,
    Lamb in lamb,
}
