//! Helpers for reference evaluation. Floats are computed in f64 and rounded once at the end, integers in i64.

use outgrow_tensor::{DType, Shape, Tensor};

/// Applies `float` or `int` to each element, by the type of `x`.
pub fn map(x: &Tensor, dtype: DType, float: impl Fn(f64) -> f64, int: impl Fn(i64) -> i64) -> Tensor {
    if x.dtype().is_float() {
        Tensor::from_f64(dtype, x.shape().clone(), |i| float(x.get_f64(i)))
    } else {
        Tensor::from_i64(dtype, x.shape().clone(), |i| int(x.get_i64(i)))
    }
}

/// Applies `float` or `int` to each pair of elements, by the type of `x`.
pub fn zip(
    x: &Tensor,
    y: &Tensor,
    dtype: DType,
    float: impl Fn(f64, f64) -> f64,
    int: impl Fn(i64, i64) -> i64,
) -> Tensor {
    if x.dtype().is_float() {
        Tensor::from_f64(dtype, x.shape().clone(), |i| float(x.get_f64(i), y.get_f64(i)))
    } else {
        Tensor::from_i64(dtype, x.shape().clone(), |i| int(x.get_i64(i), y.get_i64(i)))
    }
}

/// A tensor whose element at a multi-index is the element of `x` at the flat position `source` gives, or `fill`
/// converted to its type.
pub fn pick(x: &Tensor, shape: &Shape, fill: f64, source: impl Fn(&[usize]) -> Option<usize>) -> Tensor {
    let at = |i: usize| source(&shape.unravel(i));
    if x.dtype().is_float() {
        Tensor::from_f64(x.dtype(), shape.clone(), |i| at(i).map_or(fill, |j| x.get_f64(j)))
    } else {
        let fill = Tensor::from_f64(x.dtype(), [0; 0], |_| fill).get_i64(0);
        Tensor::from_i64(x.dtype(), shape.clone(), |i| at(i).map_or(fill, |j| x.get_i64(j)))
    }
}

/// Folds over `axes` in row-major order, by the type of `x`.
pub fn reduce(
    x: &Tensor,
    shape: &Shape,
    axes: &[usize],
    start: f64,
    float: impl Fn(f64, f64) -> f64,
    start_int: i64,
    int: impl Fn(i64, i64) -> i64,
) -> Tensor {
    let kept: Vec<usize> = (0..x.shape().rank()).filter(|a| !axes.contains(a)).collect();
    let place = |i: usize| {
        let index = x.shape().unravel(i);
        shape.ravel(&kept.iter().map(|a| index[*a]).collect::<Vec<_>>())
    };
    if x.dtype().is_float() {
        let mut sums = vec![start; shape.elements()];
        (0..x.elements()).for_each(|i| sums[place(i)] = float(sums[place(i)], x.get_f64(i)));
        Tensor::from_f64(x.dtype(), shape.clone(), |i| sums[i])
    } else {
        let mut sums = vec![start_int; shape.elements()];
        (0..x.elements()).for_each(|i| sums[place(i)] = int(sums[place(i)], x.get_i64(i)));
        Tensor::from_i64(x.dtype(), shape.clone(), |i| sums[i])
    }
}
