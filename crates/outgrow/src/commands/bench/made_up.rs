//! Inputs that are made up where only the time matters that they take.

use outgrow_tensor::{DType, RngStream, Tensor};

/// Most bytes of an input that is made up.
pub const BYTES_MAX: usize = 1 << 30;

/// Random numbers: floats between 0 and 1; of whole numbers, 0 and 1, which are good for whatever is looked up by them.
/// None where they would be more than [`BYTES_MAX`].
pub fn made_up(dtype: DType, shape: &[usize], mut numbers: RngStream) -> Option<Tensor> {
    let bytes = shape.iter().try_fold(dtype.bytes(), |product, n| product.checked_mul(*n));
    if bytes.is_none_or(|bytes| bytes > BYTES_MAX) {
        return None;
    }
    Some(match dtype {
        DType::F32 | DType::F64 | DType::BF16 => Tensor::from_f64(dtype, shape, |_| numbers.uniform()),
        DType::Bool | DType::U8 | DType::I32 | DType::I64 => {
            Tensor::from_f64(dtype, shape, |_| if numbers.below(2) == 1 { 1.0 } else { 0.0 })
        }
    })
}
