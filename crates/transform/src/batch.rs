//! A batch of samples as the trainer consumes it.

use outgrow_tensor::Tensor;

/// A batch of samples. Every tensor's first dimension is the batch size, padding included.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The model's inputs in the order of [`OutputSchema::inputs`](crate::OutputSchema), each `[batch, …]`.
    pub inputs: Vec<Tensor>,
    /// What the model should answer: `i32 [batch]` for classes, `f32 [batch, width]` for regression,
    /// `i32 [batch, length]` for tokens; none when the records carry no label.
    pub target: Option<Tensor>,
    /// Weight of every sample, `[batch]`: 1, or 0 for samples that only pad the batch.
    pub weight: Vec<f32>,
    /// The epoch this batch belongs to, counted from 0.
    pub epoch: u64,
    /// Number of the batch within its epoch, counted from 0.
    pub index: u64,
    /// Number of samples that are not padding; they come first.
    pub real: usize,
}
