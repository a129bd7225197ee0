//! What flows along the edges of an imported graph while it is emitted: values of the graph being built, tensors that
//! are known already, and shapes that may depend on symbols.

use crate::Elem;
use outgrow_ir::{Dim, Symbols, Value};
use outgrow_tensor::Tensor;
use std::sync::Arc;

/// An integer `fixed + times · symbols`, where each symbol stands for an extent of at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sym {
    /// The part that depends on no symbol.
    pub fixed: i64,
    /// How often the product of symbols is added; 0 if and only if there are none.
    pub times: i64,
    /// The symbols.
    symbols: Symbols,
}

impl Sym {
    /// A number.
    pub fn number(fixed: i64) -> Self {
        Self { fixed, times: 0, symbols: Symbols::NONE }
    }

    fn new(fixed: i64, times: i64, symbols: Symbols) -> Self {
        let symbols = if times == 0 { Symbols::NONE } else { symbols };
        Self { fixed, times, symbols }
    }

    /// The number, when it depends on no symbol.
    pub fn known(self) -> Option<i64> {
        (self.times == 0).then_some(self.fixed)
    }

    /// As a dimension, where it is one.
    pub fn dim(self) -> Option<Dim> {
        match (self.fixed, self.times) {
            (n, 0) => usize::try_from(n).ok().map(Dim::Fixed),
            (0, k) => usize::try_from(k).ok().map(|k| Dim::multiple(k, self.symbols)),
            _ => None,
        }
    }

    /// The same with the other sign.
    pub fn negative(self) -> Option<Self> {
        Some(Self { fixed: self.fixed.checked_neg()?, times: self.times.checked_neg()?, ..self })
    }

    /// The sum, where it is of this form.
    pub fn plus(self, other: Self) -> Option<Self> {
        let symbols = match (self.times, other.times) {
            (0, _) => other.symbols,
            (_, 0) => self.symbols,
            _ if self.symbols == other.symbols => self.symbols,
            _ => return None,
        };
        let (fixed, times) = (self.fixed.checked_add(other.fixed)?, self.times.checked_add(other.times)?);
        Some(Self::new(fixed, times, symbols))
    }

    /// The product, where it is of this form.
    pub fn times(self, other: Self) -> Option<Self> {
        if self.fixed == 0 && other.fixed == 0 && self.times != 0 && other.times != 0 {
            let symbols = self.symbols.times(other.symbols)?;
            return Some(Self::new(0, self.times.checked_mul(other.times)?, symbols));
        }
        let (k, x) = if self.times == 0 { (self.fixed, other) } else { (other.known()?, self) };
        Some(Self::new(x.fixed.checked_mul(k)?, x.times.checked_mul(k)?, x.symbols))
    }

    /// The quotient, where it comes out even or nothing depends on a symbol.
    pub fn over(self, other: Self) -> Option<Self> {
        if let Some(k) = other.known() {
            if self.times == 0 {
                return Some(Self::number(self.fixed.checked_div(k)?));
            }
            let even = k != 0 && self.fixed % k == 0 && self.times % k == 0;
            return even.then(|| Self::new(self.fixed / k, self.times / k, self.symbols));
        }
        if self.fixed != 0 || other.fixed != 0 {
            return None;
        }
        let (ratio, symbols) = (self.times.checked_div(other.times)?, self.symbols.over(other.symbols)?);
        let even = ratio * other.times == self.times;
        even.then(|| if symbols.is_none() { Self::number(ratio) } else { Self::new(0, ratio, symbols) })
    }
}

impl From<Dim> for Sym {
    fn from(dim: Dim) -> Self {
        match dim.parts() {
            (n, symbols) if symbols.is_none() => Self::number(n as i64),
            (k, symbols) => Self::new(0, k as i64, symbols),
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

    /// Integers of a shape computation; a known tensor when none depends on a symbol.
    pub fn sizes(items: Vec<Sym>, scalar: bool) -> Self {
        let known = items.iter().map(|s| s.known()).collect::<Option<Vec<_>>>();
        match known {
            Some(known) if scalar && known.len() == 1 => Self::known(Elem::I64, Tensor::scalar(known[0])),
            Some(known) => Self::known(Elem::I64, Tensor::vector(known)),
            None => Self { elem: Elem::I64, kind: Kind::Sizes { items, scalar } },
        }
    }
}
