//! `batch_norm`: each channel brought to mean 0 and variance 1.

use crate::region::composite;
use crate::{Builder, Dim, Results, Value};

/// Statistics of each channel, as a running mean and variance in evaluation.
#[derive(Clone, Copy, Debug)]
pub struct BatchNormStatistics {
    /// The mean, `[channels]`.
    pub mean: Value,
    /// The variance, `[channels]`.
    pub variance: Value,
}

/// What batch normalisation gives in training.
#[derive(Clone, Copy, Debug)]
pub struct BatchNormTrained {
    /// The normalised values, of the input's shape.
    pub y: Value,
    /// The mean and the *unbiased* variance of the samples that count, as running statistics take them.
    pub statistics: BatchNormStatistics,
}

composite! {
    /// Batch normalisation. Its operands are x, weight and bias, then in training the samples' weights, in evaluation mean and
    /// variance; its results are y, and in training the mean and the unbiased variance.
    BatchNorm = "batch_norm" {
        /// What is added to the variance.
        eps: f64,
        /// Whether the statistics are those of the batch.
        training: bool,
    }
}

impl Results for BatchNormTrained {
    fn values(&self) -> Vec<Value> {
        vec![self.y, self.statistics.mean, self.statistics.variance]
    }
}

impl Builder {
    /// Batch normalisation in training (Ioffe and Szegedy 2015): `(x - mean) / √(variance + eps) * weight + bias` with
    /// the mean and the biased variance of each channel of `x [batch, channels, ..]` over every other dimension.
    /// `weight` and `bias` are `[channels]`.
    ///
    /// `sample_weight [batch]` is 1 for samples that count and 0 for padding: `mean = Σ w x / n` and
    /// `variance = Σ w (x - mean)² / n` with `n = Σ w · places`. A batch of padding alone has mean and variance 0.
    pub fn batch_norm_train(
        &mut self,
        x: Value,
        weight: Value,
        bias: Value,
        sample_weight: Value,
        eps: f64,
    ) -> BatchNormTrained {
        let kind = BatchNorm { eps, training: true };
        self.composite_of(&kind, &[x, weight, bias, sample_weight], |b| {
            let dtype = b.dtype(x);
            let x = b.widened(x);
            let dims = b.dims(x);
            if dims.len() < 2 {
                let y = b.error("batch normalisation needs [batch, channels, ..]");
                return BatchNormTrained { y, statistics: BatchNormStatistics { mean: y, variance: y } };
            }
            let axes: Vec<usize> = (0..dims.len()).filter(|axis| *axis != 1).collect();
            let count = b.weighed_places(sample_weight, &dims, x);
            let per_value = b.reciprocal_at_least_one(count);
            let sample_weight = b.cast(sample_weight, b.dtype(x));
            let w = b.broadcast(sample_weight, &dims, &[0]);
            let weighed = b.mul(x, w);
            let sum = b.reduce_sum(weighed, &axes);
            let mean = b.mul(sum, per_value);
            // The variance does not change with the mean to first order, so its gradient need not flow through it.
            let constant = b.stop_gradient(mean);
            let constant = b.broadcast_axis(constant, &dims, 1);
            let deviation = b.sub(x, constant);
            let weighed = b.mul(deviation, w);
            let square = b.mul(weighed, deviation);
            let squares = b.reduce_sum(square, &axes);
            let variance = b.mul(squares, per_value);
            let y = b.normalise(x, BatchNormStatistics { mean, variance }, weight, bias, eps);
            let y = b.cast(y, dtype);
            let one_less = b.add_scalar(count, -1.0);
            let unbiased = b.reciprocal_at_least_one(one_less);
            let variance = b.mul(squares, unbiased);
            BatchNormTrained { y, statistics: BatchNormStatistics { mean, variance } }
        })
    }

    /// Batch normalisation in evaluation: `(x - mean) / √(variance + eps) * weight + bias` with given statistics of
    /// each channel of `x [batch, channels, ..]`.
    pub fn batch_norm_eval(
        &mut self,
        x: Value,
        weight: Value,
        bias: Value,
        statistics: BatchNormStatistics,
        eps: f64,
    ) -> Value {
        let kind = BatchNorm { eps, training: false };
        self.composite_of(&kind, &[x, weight, bias, statistics.mean, statistics.variance], |b| {
            let dtype = b.dtype(x);
            let x = b.widened(x);
            if b.rank(x) < 2 {
                return b.error("batch normalisation needs [batch, channels, ..]");
            }
            let y = b.normalise(x, statistics, weight, bias, eps);
            b.cast(y, dtype)
        })
    }

    /// `(x - mean) * (weight / √(variance + eps)) + bias` for each channel.
    fn normalise(&mut self, x: Value, s: BatchNormStatistics, weight: Value, bias: Value, eps: f64) -> Value {
        let dims = self.dims(x);
        let dtype = self.dtype(x);
        let [mean, variance, weight, bias] = [s.mean, s.variance, weight, bias].map(|v| self.cast(v, dtype));
        let inverse = self.inverse_root(variance, eps);
        let scale = self.mul(weight, inverse);
        let [mean, scale, bias] = [mean, scale, bias].map(|v| self.broadcast_axis(v, &dims, 1));
        let centred = self.sub(x, mean);
        let scaled = self.mul(centred, scale);
        self.add(scaled, bias)
    }

    /// How many values of each channel count: the sum of the sample weights times the places of each channel.
    fn weighed_places(&mut self, sample_weight: Value, dims: &[Dim], like: Value) -> Value {
        let places = dims[2..].iter().map(|d| d.fixed()).product::<Option<usize>>();
        let Some(places) = places else {
            return self.error("only the first dimension may be a symbol");
        };
        let weight = self.cast(sample_weight, self.dtype(like));
        let sum = self.sum_all(weight);
        self.mul_scalar(sum, places as f64)
    }

    /// `1 / max(x, 1)`.
    fn reciprocal_at_least_one(&mut self, x: Value) -> Value {
        let one = self.scalar(1.0, self.dtype(x));
        let bounded = self.max(x, one);
        self.div(one, bounded)
    }
}
