//! Attributes of operations in the text form: what an op prints, and how it reads itself back.

use crate::Dim;
use outgrow_tensor::{DType, Tensor};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A number inside an op. Equality and hashing go by bits, so that ops can be compared and looked up.
#[derive(Clone, Copy, Debug)]
pub struct Scalar(pub f64);

impl PartialEq for Scalar {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}
impl Eq for Scalar {}
impl Hash for Scalar {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Attr {
    /// An integer.
    Int(i64),
    /// A number with a fraction, an infinity or NaN.
    Float(f64),
    /// A bare word.
    Name(String),
    /// Quoted text.
    Text(String),
    /// A list of dimensions or integers (which are fixed dimensions).
    Dims(Vec<Dim>),
    /// A constant.
    Tensor(Arc<Tensor>),
}

impl Attr {
    /// A list of integers.
    pub fn list(items: &[usize]) -> Self {
        Self::Dims(items.iter().map(|n| Dim::Fixed(*n)).collect())
    }

    /// Whether something is so.
    pub fn flag(yes: bool) -> Self {
        Self::Name(yes.to_string())
    }

    /// A non-negative integer.
    pub fn int(n: usize) -> Self {
        Self::Int(n as i64)
    }
}

/// Hands out the attributes of an op that is read from text; every mistake is a plain sentence.
pub struct AttrReader(Vec<(String, Attr)>);

impl AttrReader {
    /// A reader of these attributes.
    pub fn new(attrs: Vec<(String, Attr)>) -> Self {
        Self(attrs)
    }

    /// Whether there is an attribute of this name that nobody took.
    pub fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(k, _)| k == key)
    }

    /// Takes an attribute out.
    pub fn take(&mut self, key: &str) -> Result<Attr, String> {
        match self.0.iter().position(|(k, _)| k == key) {
            Some(i) => Ok(self.0.swap_remove(i).1),
            None => Err(format!("attribute `{key}` is missing")),
        }
    }

    /// A non-negative integer.
    pub fn int(&mut self, key: &str) -> Result<usize, String> {
        match self.take(key)? {
            Attr::Int(n) if n >= 0 => Ok(n as usize),
            other => Err(format!("attribute `{key}` must be a non-negative integer, got {other:?}")),
        }
    }

    /// Whether something is so.
    pub fn flag(&mut self, key: &str) -> Result<bool, String> {
        let word = self.name(key)?;
        word.parse().map_err(|_| format!("attribute `{key}` must be true or false, got `{word}`"))
    }

    /// Any number.
    pub fn number(&mut self, key: &str) -> Result<f64, String> {
        match self.take(key)? {
            Attr::Int(n) => Ok(n as f64),
            Attr::Float(x) => Ok(x),
            other => Err(format!("attribute `{key}` must be a number, got {other:?}")),
        }
    }

    /// A bare word.
    pub fn name(&mut self, key: &str) -> Result<String, String> {
        match self.take(key)? {
            Attr::Name(s) => Ok(s),
            other => Err(format!("attribute `{key}` must be a word, got {other:?}")),
        }
    }

    /// Quoted text.
    pub fn text(&mut self, key: &str) -> Result<String, String> {
        match self.take(key)? {
            Attr::Text(s) => Ok(s),
            other => Err(format!("attribute `{key}` must be quoted text, got {other:?}")),
        }
    }

    /// An element type.
    pub fn dtype(&mut self, key: &str) -> Result<DType, String> {
        let name = self.name(key)?;
        name.parse().map_err(|()| format!("attribute `{key}`: `{name}` is not an element type"))
    }

    /// A list of dimensions.
    pub fn dims(&mut self, key: &str) -> Result<Vec<Dim>, String> {
        match self.take(key)? {
            Attr::Dims(dims) => Ok(dims),
            other => Err(format!("attribute `{key}` must be a list of dimensions, got {other:?}")),
        }
    }

    /// A list of integers.
    pub fn ints(&mut self, key: &str) -> Result<Vec<usize>, String> {
        let dims = self.dims(key)?;
        dims.iter()
            .map(|d| d.fixed().ok_or_else(|| format!("attribute `{key}` must hold integers only")))
            .collect()
    }

    /// A list of exactly `N` integers.
    pub fn array<const N: usize>(&mut self, key: &str) -> Result<[usize; N], String> {
        let ints = self.ints(key)?;
        ints.try_into().map_err(|_| format!("attribute `{key}` must hold {N} integers"))
    }

    /// A constant.
    pub fn tensor(&mut self, key: &str) -> Result<Arc<Tensor>, String> {
        match self.take(key)? {
            Attr::Tensor(t) => Ok(t),
            other => Err(format!("attribute `{key}` must be a constant, got {other:?}")),
        }
    }

    /// Refuses attributes that nobody took.
    pub fn finish(self) -> Result<(), String> {
        match self.0.first() {
            None => Ok(()),
            Some((key, _)) => Err(format!("unknown attribute `{key}`")),
        }
    }
}
