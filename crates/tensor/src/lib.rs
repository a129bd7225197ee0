//! Element types, shapes, host tensors and counter-based random numbers: the vocabulary that every other crate
//! shares. This crate does no I/O, starts no thread and knows nothing of graphs.

mod dtype;
mod element;
mod rng;
mod shape;
mod tensor;

pub use dtype::DType;
pub use element::{Element, to_odd};
pub use half::bf16;
pub use rng::{RngKey, RngStream};
pub use shape::Shape;
pub use tensor::{Tensor, TensorError};
