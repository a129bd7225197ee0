//! Elementary functions in f32.

use super::simd::LaneMode;

/// e to the power `x`.
#[inline(always)]
pub(crate) fn exp<M: LaneMode>(x: f32) -> f32 {
    libm::expf(x)
}
/// Natural logarithm.
#[inline(always)]
pub(crate) fn log<M: LaneMode>(x: f32) -> f32 {
    libm::logf(x)
}
/// Hyperbolic tangent.
#[inline(always)]
pub(crate) fn tanh<M: LaneMode>(x: f32) -> f32 {
    libm::tanhf(x)
}
/// Error function.
#[inline(always)]
pub(crate) fn erf<M: LaneMode>(x: f32) -> f32 {
    libm::erff(x)
}
/// Sine.
#[inline(always)]
pub(crate) fn sin<M: LaneMode>(x: f32) -> f32 {
    libm::sinf(x)
}
/// Cosine.
#[inline(always)]
pub(crate) fn cos<M: LaneMode>(x: f32) -> f32 {
    libm::cosf(x)
}
/// `x` to the power `y`.
#[inline(always)]
pub(crate) fn pow<M: LaneMode>(x: f32, y: f32) -> f32 {
    libm::powf(x, y)
}
