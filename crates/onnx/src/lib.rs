//! ONNX models as graphs: the file is read and checked, and its operators are lowered to the primitives and composites
//! of `ir`, so that an imported model is trained, evaluated and run by the same code as every other.
//!
//! A file comes from outside: whatever it says gets a diagnostic, never a panic, and never an allocation that its own
//! size does not justify. This crate executes nothing but small constants.

// Diagnostics are only made when outside input is wrong, where their size does not matter.
#![allow(clippy::result_large_err)]

mod budget;
mod cx;
mod datum;
mod elem;
mod emit;
pub mod export;
mod external;
mod fold;
mod model;
mod ops;
pub mod proto;
mod sizes;
mod tensors;
mod unshare;
mod weights;

pub use elem::Elem;
pub use emit::{EmittedOutput, Given, Imported, Mode, Refused, Statistic, Training};
pub use external::{ExternalData, FolderData, NoExternalData};
pub use model::{DimInfo, OPSET_MAX, OPSET_MIN, OnnxModel, ValueInfo};
pub use ops::supported_operators;
pub use tensors::{ELEMENTS_MAX, OnnxTensor};
pub use weights::{InitialiserRole, Weight};
