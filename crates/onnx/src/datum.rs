//! What flows along the edges of an imported graph while it is emitted: values of the graph being built, tensors that
//! are known already, and shapes that may depend on the batch size.

use crate::Elem;
use outgrow_ir::{Dim, Value};
use outgrow_tensor::Tensor;
use std::sync::Arc;

/// An integer `fixed + batch · B` of the symbolic batch size B, which is at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sym {
    /// The part that does not depend on the batch size.
    pub fixed: i64,
    /// How often the batch size is added.
    pub batch: i64,
}

impl Sym {
    /// A number.
    pub fn number(fixed: i64) -> Self {
        Self { fixed, batch: 0 }
    }

    /// The number, when it does not depend on the batch size.
    pub fn known(self) -> Option<i64> {
        (self.batch == 0).then_some(self.fixed)
    }

    /// As a dimension, where it is one.
    pub fn dim(self) -> Option<Dim> {
        match (self.fixed, self.batch) {
            (n, 0) => usize::try_from(n).ok().map(Dim::Fixed),
            (0, k) => usize::try_from(k).ok().map(Dim::Batch),
            _ => None,
        }
    }

    /// The sum.
    pub fn plus(self, other: Self) -> Option<Self> {
        Some(Self {
            fixed: self.fixed.checked_add(other.fixed)?,
            batch: self.batch.checked_add(other.batch)?,
        })
    }

    /// The product, unless it is quadratic in the batch size.
    pub fn times(self, other: Self) -> Option<Self> {
        let (k, x) = if self.batch == 0 { (self.fixed, other) } else { (other.known()?, self) };
        Some(Self { fixed: x.fixed.checked_mul(k)?, batch: x.batch.checked_mul(k)? })
    }

    /// The quotient, where it comes out even or nothing depends on the batch size.
    pub fn over(self, other: Self) -> Option<Self> {
        if let Some(k) = other.known() {
            if self.batch == 0 {
                return Some(Self::number(self.fixed.checked_div(k)?));
            }
            let even = k != 0 && self.fixed % k == 0 && self.batch % k == 0;
            return even.then(|| Self { fixed: self.fixed / k, batch: self.batch / k });
        }
        let ratio =
            if self.fixed == 0 && other.fixed == 0 { self.batch.checked_div(other.batch) } else { None }?;
        (ratio * other.batch == self.batch).then(|| Self::number(ratio))
    }
}

impl From<Dim> for Sym {
    fn from(dim: Dim) -> Self {
        match dim {
            Dim::Fixed(n) => Self::number(n as i64),
            Dim::Batch(k) => Self { fixed: 0, batch: k as i64 },
        }
    }
}

/// The result of a node, or an input of the graph.
#[derive(Clone, Debug)]
pub struct Datum {
    /// ONNX's element type.
    pub elem: Elem,
    /// Where the elements are.
    pub kind: Kind,
}

/// Where the elements of a datum are.
#[derive(Clone, Debug)]
pub enum Kind {
    /// In a tensor known at import.
    Known(Arc<Tensor>),
    /// Integers of a shape computation: a vector, or a scalar.
    Sizes {
        /// The elements.
        items: Vec<Sym>,
        /// Whether it is a scalar.
        scalar: bool,
    },
    /// In an initialiser that becomes an input of the graph when it is used as a value.
    Param(usize),
    /// In a value of the graph.
    Value(Value),
    /// Nowhere: the node that should make it is not supported, which was said already.
    Missing,
}

impl Datum {
    /// A value of the graph.
    pub fn value(elem: Elem, value: Value) -> Self {
        Self { elem, kind: Kind::Value(value) }
    }

    /// A known tensor.
    pub fn known(elem: Elem, tensor: Tensor) -> Self {
        Self { elem, kind: Kind::Known(Arc::new(tensor)) }
    }

    /// Integers of a shape computation; a known tensor when none depends on the batch size.
    pub fn sizes(items: Vec<Sym>, scalar: bool) -> Self {
        let known = items.iter().map(|s| s.known()).collect::<Option<Vec<_>>>();
        match known {
            Some(known) if scalar && known.len() == 1 => Self::known(Elem::I64, Tensor::scalar(known[0])),
            Some(known) => Self::known(Elem::I64, Tensor::vector(known)),
            None => Self { elem: Elem::I64, kind: Kind::Sizes { items, scalar } },
        }
    }
}
