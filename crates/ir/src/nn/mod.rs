//! Composites: layers, activations, normalisations and losses built from primitives, one file each, as methods of
//! [`Builder`](crate::Builder). Each marks its nodes as one region of the file's name, which says what it is made of, so
//! that a backend may run it as a whole; what it computes is still said by the primitives alone, derivative included.
//!
//! Where a formula needs sums, bf16 values are widened to f32 for it and the result is rounded back.

use crate::{Composite, Region};

mod attention;
mod avg_pool;
mod batch_norm;
mod binary_cross_entropy;
mod conv2d_bias;
mod cross_entropy;
mod dense;
mod dropout;
mod embedding;
mod focal_loss;
mod gelu;
mod gelu_tanh;
mod global_avg_pool;
mod huber;
mod layer_norm;
mod leaky_relu;
mod log_softmax;
mod max_pool;
mod mean_absolute_error;
mod mean_squared_error;
mod mish;
mod relu;
mod residual;
mod rms_norm;
mod selu;
mod sigmoid;
mod silu;
mod soft_cross_entropy;
mod softmax;
mod softplus;
mod statistics;

pub use attention::Attention;
pub use avg_pool::AvgPool;
pub use batch_norm::{BatchNorm, BatchNormStatistics, BatchNormTrained};
pub use conv2d_bias::Conv2dBias;
pub use dropout::Dropout;
pub use focal_loss::FocalLoss;
pub use huber::Huber;
pub use layer_norm::LayerNorm;
pub use leaky_relu::LeakyRelu;
pub use max_pool::MaxPool;
pub use rms_norm::RmsNorm;

/// What is wrong with the attributes of a region, if it is one of a kind.
type Check = fn(&Region) -> Option<Result<(), String>>;

fn check<C: Composite>(region: &Region) -> Option<Result<(), String>> {
    region.as_kind::<C>().map(|read| read.map(drop))
}

/// The kinds that have attributes.
pub(crate) const TYPED: &[Check] = &[
    check::<Attention>,
    check::<AvgPool>,
    check::<BatchNorm>,
    check::<Conv2dBias>,
    check::<Dropout>,
    check::<FocalLoss>,
    check::<Huber>,
    check::<LayerNorm>,
    check::<LeakyRelu>,
    check::<MaxPool>,
    check::<RmsNorm>,
];

#[cfg(test)]
mod tests;
