//! The protocol's names of element types.

use outgrow_ir::Diagnostic;
use outgrow_tensor::DType;

/// An element type under the protocol's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datatype(pub DType);

/// The names of the types that there are here.
const NAMES: [(&str, DType); 7] = [
    ("BOOL", DType::Bool),
    ("UINT8", DType::U8),
    ("INT32", DType::I32),
    ("INT64", DType::I64),
    ("BF16", DType::BF16),
    ("FP32", DType::F32),
    ("FP64", DType::F64),
];
/// Types that the protocol has besides; no model here takes them.
const OTHERS: [&str; 6] = ["UINT16", "UINT32", "UINT64", "INT8", "INT16", "FP16"];

impl Datatype {
    /// The protocol's name.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, dtype)| *dtype == self.0).map_or("", |(name, _)| name)
    }

    /// The type of this name.
    ///
    /// # Errors
    /// When there is none, or no model takes it; `field` says where it stands.
    pub fn of(name: &str, field: &str) -> Result<Self, Diagnostic> {
        if let Some((_, dtype)) = NAMES.iter().find(|(known, _)| *known == name) {
            return Ok(Self(*dtype));
        }
        let problem = match OTHERS.iter().find(|known| **known == name) {
            Some(known) => format!("no model takes tensors of {known}"),
            None => "there is no datatype of this name".to_owned(),
        };
        let expected = NAMES.map(|(name, _)| name).join(", ");
        Err(Diagnostic::new("serve.datatype", problem)
            .item(field)
            .expected(format!("what the model's metadata says, one of {expected}")))
    }
}
