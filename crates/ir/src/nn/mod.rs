//! Composites: layers, activations, normalisations and losses built from primitives, one file each, as methods of
//! [`Builder`](crate::Builder). Each marks its nodes as one region of the file's name, so that a backend may match it
//! as a whole; what it computes is still said by the primitives alone, derivative included.
//!
//! Where a formula needs sums, bf16 values are widened to f32 for it and the result is rounded back.

mod attention;
mod avg_pool;
mod batch_norm;
mod binary_cross_entropy;
mod conv2d_bias;
mod cross_entropy;
mod dense;
mod dropout;
mod embedding;
mod gelu;
mod gelu_tanh;
mod global_avg_pool;
mod layer_norm;
mod leaky_relu;
mod log_softmax;
mod max_pool;
mod mean_squared_error;
mod relu;
mod residual;
mod rms_norm;
mod sigmoid;
mod silu;
mod soft_cross_entropy;
mod softmax;
mod softplus;
mod statistics;

pub use batch_norm::{BatchNormStatistics, BatchNormTrained};

#[cfg(test)]
mod tests;
