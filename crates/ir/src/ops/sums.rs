//! Sums of products: what `dot` and the convolutions have in common is the element type of their result.

use crate::{Attr, AttrReader};
use outgrow_tensor::DType;

/// The name of the attribute, which is left out where the result has the type of the operands.
const RESULT: &str = "result";

/// The element type of sums of products of `operands`: their own, or the one that is asked for.
pub(super) fn sum_type(operands: DType, result: Option<DType>) -> Result<DType, String> {
    match result {
        None => Ok(operands),
        Some(DType::F32) if operands == DType::BF16 => Ok(DType::F32),
        Some(other) => Err(format!("cannot give {other} of {operands}: only bf16 gives another type, f32")),
    }
}

/// Adds the attribute that says the type of the result, where that is not the operands' own.
pub(super) fn push_attr(attrs: &mut Vec<(&'static str, Attr)>, result: Option<DType>) {
    attrs.extend(result.map(|dtype| (RESULT, Attr::Name(dtype.name().into()))));
}

/// Reads what [`push_attr`] adds.
pub(super) fn parse_attr(attrs: &mut AttrReader) -> Result<Option<DType>, String> {
    if attrs.has(RESULT) { attrs.dtype(RESULT).map(Some) } else { Ok(None) }
}
