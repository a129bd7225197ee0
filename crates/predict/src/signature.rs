//! What a model takes and gives: names, types and dimensions.

use std::fmt;

use outgrow_ir::{Diagnostic, Dim, TensorType};
use outgrow_onnx::{DimInfo, ValueInfo};
use outgrow_tensor::{DType, Tensor};

/// One dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extent {
    /// A number.
    Fixed(usize),
    /// Anything, but the same wherever the name stands: `B` is the number of rows in a batch.
    Named(String),
    /// Anything.
    Any,
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(n) => write!(f, "{n}"),
            Self::Named(name) => f.write_str(name),
            Self::Any => f.write_str("?"),
        }
    }
}

/// An input or output of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its element type; none for outputs of which a file does not say it.
    pub dtype: Option<DType>,
    /// Its dimensions, where it is known how many there are.
    pub dims: Option<Vec<Extent>>,
}

impl Port {
    pub(crate) fn of_graph(name: &str, ty: &TensorType) -> Self {
        let extent = |dim: &Dim| dim.fixed().map_or_else(|| Extent::Named(dim.to_string()), Extent::Fixed);
        Self {
            name: name.to_owned(),
            dtype: Some(ty.dtype),
            dims: Some(ty.dims.iter().map(extent).collect()),
        }
    }

    pub(crate) fn of_file(info: &ValueInfo) -> Self {
        let extent = |dim: &DimInfo| match dim {
            DimInfo::Fixed(n) => Extent::Fixed(*n),
            DimInfo::Named(name) => Extent::Named(name.clone()),
            DimInfo::Unknown => Extent::Any,
        };
        Self {
            name: info.name.clone(),
            dtype: Some(info.elem.dtype()),
            dims: info.dims.as_ref().map(|dims| dims.iter().map(extent).collect()),
        }
    }

    /// Whether an array can be given for this input, as far as it is known without the others.
    ///
    /// # Errors
    /// A diagnostic that names the input, what the array is and what it should be.
    pub fn check(&self, tensor: &Tensor) -> Result<(), Diagnostic> {
        let (dtype, shape) = (tensor.dtype(), tensor.shape());
        let problem = format!("the array for `{}` is {dtype}{shape}", self.name);
        let problem = Diagnostic::new("predict.input", problem).item(format!("input `{}`", self.name));
        if let Some(expected) = self.dtype.filter(|expected| *expected != dtype) {
            return Err(problem.expected(expected.name()).hint("convert it, as NumPy's `astype` does"));
        }
        let fits = |dims: &Vec<Extent>| {
            let mut pairs = dims.iter().zip(shape.dims());
            dims.len() == shape.rank() && pairs.all(|(d, n)| !matches!(d, Extent::Fixed(m) if m != n))
        };
        if self.dims.as_ref().is_none_or(fits) { Ok(()) } else { Err(problem.expected(self.to_string())) }
    }
}

impl fmt::Display for Port {
    /// Its type, as `f32[B, 3]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.dtype.map_or("?", DType::name))?;
        match &self.dims {
            Some(dims) => {
                write!(f, "[{}]", dims.iter().map(Extent::to_string).collect::<Vec<_>>().join(", "))
            }
            None => Ok(()),
        }
    }
}
