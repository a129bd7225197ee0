//! Initial values of parameters: distributions, resolved to plain numbers, and their tensors.

use outgrow_tensor::{DType, RngKey, Tensor};

/// The distribution that the elements of a parameter are drawn from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Every element the same.
    Constant(f64),
    /// Uniform in `[-bound, bound)`.
    Uniform {
        /// The bound.
        bound: f64,
    },
    /// Normal with mean 0.
    Normal {
        /// The standard deviation.
        std: f64,
    },
}

impl Init {
    /// Every element 0.
    pub const ZEROS: Self = Self::Constant(0.0);
    /// Every element 1.
    pub const ONES: Self = Self::Constant(1.0);

    /// Uniform within `±1 / √fan_in`: what PyTorch draws weights and biases of linear layers and convolutions from
    /// (its `kaiming_uniform` with `a = √5`). Zeros when nothing comes in.
    pub fn torch_default(fan_in: usize) -> Self {
        Self::Uniform { bound: ratio_root(1.0, fan_in) }
    }

    /// Normal with variance `2 / fan` (He et al. 2015).
    pub fn kaiming_normal(fan: usize) -> Self {
        Self::Normal { std: ratio_root(2.0, fan) }
    }

    /// Uniform within `±√(6 / fan)` (He et al. 2015).
    pub fn kaiming_uniform(fan: usize) -> Self {
        Self::Uniform { bound: ratio_root(6.0, fan) }
    }

    /// Normal with variance `2 / (fan_in + fan_out)` (Glorot and Bengio 2010).
    pub fn xavier_normal(fan_in: usize, fan_out: usize) -> Self {
        Self::Normal { std: ratio_root(2.0, fan_in.saturating_add(fan_out)) }
    }

    /// Uniform within `±√(6 / (fan_in + fan_out))` (Glorot and Bengio 2010).
    pub fn xavier_uniform(fan_in: usize, fan_out: usize) -> Self {
        Self::Uniform { bound: ratio_root(6.0, fan_in.saturating_add(fan_out)) }
    }

    /// Values of `dtype` and shape `dims`, drawn one after the other from the start of the key's stream: every type has
    /// the same draws, each rounded once. Give every parameter its own key, as `RngKey::new(seed).fold_in_name(name)`.
    pub fn tensor(&self, key: RngKey, dtype: DType, dims: &[usize]) -> Tensor {
        let mut stream = key.stream();
        Tensor::from_f64(dtype, dims.to_vec(), |_| match *self {
            Self::Constant(value) => value,
            Self::Uniform { bound } => stream.uniform_in(-bound, bound),
            Self::Normal { std } => std * stream.normal(),
        })
    }
}

/// `√(numerator / n)`, 0 when n is.
fn ratio_root(numerator: f64, n: usize) -> f64 {
    if n == 0 { 0.0 } else { (numerator / n as f64).sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(init: Init) -> (f64, f64, f64) {
        let t = init.tensor(RngKey::new(3).fold_in_name("w"), DType::F32, &[400, 50]);
        let values: Vec<f64> = (0..t.elements()).map(|i| t.get_f64(i)).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / values.len() as f64;
        (mean, variance.sqrt(), values.iter().fold(0.0, |m, x| x.abs().max(m)))
    }

    #[test]
    fn moments_are_the_distributions() {
        let third = 1.0 / 3f64.sqrt();
        for (init, std, bound) in [
            (Init::torch_default(16), 0.25 * third, 0.25),
            (Init::kaiming_normal(50), 0.2, f64::INFINITY),
            (Init::kaiming_uniform(600), 0.1 * third, 0.1),
            (Init::xavier_normal(30, 20), 0.2, f64::INFINITY),
            (Init::xavier_uniform(400, 200), 0.1 * third, 0.1),
            (Init::torch_default(0), 0.0, 0.0),
        ] {
            let (mean, deviation, greatest) = moments(init);
            assert!(mean.abs() <= 0.02 * std, "{init:?}: mean {mean}");
            assert!((deviation - std).abs() <= 0.02 * std, "{init:?}: deviation {deviation}, expected {std}");
            // An element just below the bound may round to it as f32.
            assert!(greatest <= bound * (1.0 + 1e-7), "{init:?}: greatest {greatest}");
        }
        assert_eq!(moments(Init::ONES), (1.0, 0.0, 1.0));
    }

    #[test]
    fn the_key_alone_says_the_values() {
        let normal = Init::Normal { std: 1.0 };
        let draw = |seed, name| normal.tensor(RngKey::new(seed).fold_in_name(name), DType::F32, &[7]);
        assert!(draw(1, "a").same_bits(&draw(1, "a")));
        assert!(!draw(1, "a").same_bits(&draw(2, "a")));
        assert!(!draw(1, "a").same_bits(&draw(1, "b")));
    }

    #[test]
    fn every_type_rounds_the_same_draws() {
        let draw = |dtype| Init::Uniform { bound: 0.3 }.tensor(RngKey::new(5), dtype, &[100]);
        let exact = draw(DType::F64);
        for dtype in [DType::F32, DType::BF16] {
            let rounded = Tensor::from_f64(dtype, [100], |i| exact.get_f64(i));
            assert!(draw(dtype).same_bits(&rounded), "{dtype}");
        }
    }
}
