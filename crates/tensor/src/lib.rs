//! Element types, shapes, host tensors and counter-based random numbers: the vocabulary that every other crate
//! shares. This crate does no I/O, starts no thread and knows nothing of graphs.

mod dtype;
mod rng;
mod shape;
mod tensor;

pub use bf16::bf16;
pub use dtype::DType;
pub use rng::{RngKey, RngStream};
pub use shape::Shape;
pub use tensor::{Element, Tensor, TensorData, TensorError};

/// The brain floating point type, re-exported so that users need not name its crate.
mod bf16 {
    pub use half::bf16;
}
