//! `input`: a value that the caller gives, with its role.

use crate::ops::{OpEntry, OpRule, Sample};
use crate::{Attr, AttrReader, Builder, Cost, Dim, InputRole, TensorType, Value};
use outgrow_tensor::{DType, Shape, Tensor};

/// A value that the caller gives.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Input {
    /// The name by which a caller gives it; unique in a graph.
    pub name: String,
    /// What it is for.
    pub role: InputRole,
    /// Element type.
    pub dtype: DType,
    /// Dimensions.
    pub dims: Vec<Dim>,
}

impl OpRule for Input {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn attrs(&self) -> Vec<(&'static str, Attr)> {
        vec![
            ("name", Attr::Text(self.name.clone())),
            ("role", Attr::Name(self.role.name().into())),
            ("dtype", Attr::Name(self.dtype.name().into())),
            ("dims", Attr::Dims(self.dims.clone())),
        ]
    }
    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        if !inputs.is_empty() {
            return Err("takes no inputs".into());
        }
        Ok(TensorType { dtype: self.dtype, dims: self.dims.clone() })
    }
    fn eval(&self, _: &[&Tensor], dtype: DType, shape: &Shape) -> Tensor {
        // The interpreter puts the caller's tensor here; on its own an input is all zeros.
        Tensor::zeros(dtype, shape.clone())
    }
    fn cost(&self, _: &[&TensorType], _: &TensorType) -> Cost {
        Cost::default()
    }
    fn map_dims(&mut self, change: &mut dyn FnMut(Dim) -> Dim) {
        self.dims.iter_mut().for_each(|d| *d = change(*d));
    }
}

impl OpEntry for Input {
    const NAME: &'static str = "input";
    fn parse(attrs: &mut AttrReader) -> Result<Self, String> {
        let role = attrs.name("role")?;
        let role = InputRole::ALL.into_iter().find(|r| r.name() == role).ok_or_else(|| {
            let all = InputRole::ALL.map(InputRole::name).join(", ");
            format!("`{role}` is no role of an input: {all}")
        })?;
        Ok(Self { name: attrs.text("name")?, role, dtype: attrs.dtype("dtype")?, dims: attrs.dims("dims")? })
    }
    fn samples() -> Vec<Sample> {
        Vec::new()
    }
}

impl Builder {
    /// A new input of the graph.
    pub fn input(&mut self, name: &str, role: InputRole, ty: TensorType) -> Value {
        self.push(Input { name: name.into(), role, dtype: ty.dtype, dims: ty.dims }, &[])
    }

    /// A new trained parameter, named by the path of the current layer.
    pub fn param(&mut self, name: &str, dtype: DType, dims: &[usize]) -> Value {
        let name = self.path(name);
        self.input(&name, InputRole::Param, TensorType::new(dtype, dims.iter().copied()))
    }
}
