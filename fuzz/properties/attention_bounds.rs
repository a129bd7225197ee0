//! How far attention and its gradients may be from the reference: scores are sums of products, and an error of `δ` in a
//! score is a factor of up to `exp(2 δ)` in the weights.

use outgrow_ir::ops::attention::Attention;
use outgrow_tensor::Tensor;

/// Operands `[batch, tokens, heads, d]` and their errors.
pub struct Operands<'a> {
    pub op: &'a Attention,
    pub x: &'a [&'a Tensor],
    pub e: &'a [&'a [f64]],
    /// Half a unit in the last place of what is computed in.
    pub rounding: f64,
}

/// A number and how far it may be off.
#[derive(Clone, Copy, Default)]
struct Near {
    size: f64,
    error: f64,
}

impl Operands<'_> {
    fn dims(&self) -> [usize; 4] {
        self.x[0].shape().dims().try_into().expect("four dimensions")
    }

    /// Where the elements of a token of a head are.
    fn token(&self, b: usize, h: usize, i: usize) -> impl Iterator<Item = usize> + use<> {
        let [_, tokens, heads, d] = self.dims();
        let start = ((b * tokens + i) * heads + h) * d;
        start..start + d
    }

    fn near(&self, input: usize, at: usize) -> Near {
        Near { size: self.x[input].get_f64(at).abs(), error: self.e[input][at] }
    }

    /// A sum of products: the size of its terms, and its error.
    fn sum(&self, terms: impl Iterator<Item = (Near, Near)>) -> Near {
        let (mut sum, mut count) = (Near::default(), 3.0);
        for (x, y) in terms {
            sum.size += x.size * y.size;
            sum.error += x.error * (y.size + y.error) + x.size * y.error;
            count += 1.0;
        }
        sum.error += count * self.rounding * (sum.size + sum.error);
        sum
    }

    /// The product of token `i` of one input and token `j` of another: its terms' size, and its error.
    fn product(&self, (x, i): (usize, usize), (y, j): (usize, usize), b: usize, h: usize) -> Near {
        let pairs = self.token(b, h, i).zip(self.token(b, h, j));
        self.sum(pairs.map(|(at_x, at_y)| (self.near(x, at_x), self.near(y, at_y))))
    }

    /// The weights of query `i`.
    fn weights(&self, b: usize, h: usize, i: usize) -> Vec<Near> {
        let [_, tokens, _, d] = self.dims();
        let scale = 1.0 / (d as f64).sqrt();
        let seen = self.op.seen(i, tokens);
        let value = |x: usize, at: usize| self.x[x].get_f64(at);
        let score = |j: usize| {
            let pairs = self.token(b, h, i).zip(self.token(b, h, j));
            pairs.map(|(q, k)| value(0, q) * value(1, k)).sum::<f64>() * scale
        };
        let scores: Vec<f64> = (0..seen).map(score).collect();
        let off = (0..seen).map(|j| {
            let product = self.product((0, i), (1, j), b, h);
            scale * (product.error + 6.0 * self.rounding * product.size)
        });
        let off = off.fold(0.0, f64::max);
        let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scores.iter().map(|s| (s - most).exp()).sum();
        let factor = (2.0 * off).exp() * (1.0 + (seen as f64 + 20.0) * self.rounding) - 1.0;
        let weight = |s: &f64| (s - most).exp() / sum;
        // What is smaller than the smallest number of the type is zero there.
        scores.iter().map(|s| Near { size: weight(s), error: weight(s) * factor + 1e-37 }).collect()
    }

    /// Whether all numbers are finite: what a query does not see may be multiplied by zero.
    fn finite(&self) -> bool {
        let finite = |x: &&Tensor| (0..x.elements()).all(|i| x.get_f64(i).is_finite());
        self.x.iter().all(finite) && self.e.iter().all(|e| e.iter().all(|e| e.is_finite()))
    }

    /// Of the result.
    pub fn result(&self) -> Vec<f64> {
        let [batch, tokens, heads, _] = self.dims();
        let mut errors = vec![f64::INFINITY; self.x[0].elements()];
        if !self.finite() {
            return errors;
        }
        for (b, h) in (0..batch).flat_map(|b| (0..heads).map(move |h| (b, h))) {
            for i in 0..tokens {
                let weights = self.weights(b, h, i);
                for (p, at) in self.token(b, h, i).enumerate() {
                    let value = |j| self.near(2, self.token(b, h, j).nth(p).expect("below d"));
                    errors[at] = self.sum(weights.iter().enumerate().map(|(j, w)| (*w, value(j)))).error;
                }
            }
        }
        errors
    }

    /// Of the gradients, one behind the other along the heads.
    pub fn gradients(&self) -> Vec<f64> {
        let [batch, tokens, heads, d] = self.dims();
        let mut errors = vec![f64::INFINITY; 3 * self.x[0].elements()];
        if !self.finite() {
            return errors;
        }
        let scale = 1.0 / (d as f64).sqrt();
        for (b, h) in (0..batch).flat_map(|b| (0..heads).map(move |h| (b, h))) {
            let weights: Vec<Vec<Near>> = (0..tokens).map(|i| self.weights(b, h, i)).collect();
            let slopes: Vec<Vec<Near>> =
                (0..tokens).map(|i| self.slopes(b, h, i, &weights[i], scale)).collect();
            let mut put = |part: usize, i: usize, p: usize, terms: Vec<(Near, Near)>| {
                let at = ((b * tokens + i) * 3 * heads + part * heads + h) * d + p;
                errors[at] = self.sum(terms.into_iter()).error;
            };
            for i in 0..tokens {
                for p in 0..d {
                    let near =
                        |x: usize, j: usize| self.near(x, self.token(b, h, j).nth(p).expect("below d"));
                    put(0, i, p, slopes[i].iter().enumerate().map(|(j, s)| (*s, near(1, j))).collect());
                    // Of key `i`: from the queries that see it.
                    let by = |rows: &[Vec<Near>], x: usize| {
                        let all = rows.iter().enumerate();
                        all.filter_map(|(j, row)| Some((*row.get(i)?, near(x, j)))).collect()
                    };
                    put(1, i, p, by(&slopes, 0));
                    put(2, i, p, by(&weights, 3));
                }
            }
        }
        errors
    }

    /// The gradients by the scores of query `i`.
    fn slopes(&self, b: usize, h: usize, i: usize, weights: &[Near], scale: f64) -> Vec<Near> {
        let by: Vec<Near> = (0..weights.len()).map(|j| self.product((3, i), (2, j), b, h)).collect();
        let mean = self.sum(weights.iter().copied().zip(by.iter().copied()));
        let slope = |(weight, by): (&Near, &Near)| {
            let (size, error) = (by.size + mean.size, by.error + mean.error);
            let difference = Near { size, error: error + self.rounding * (size + error) };
            let product = self.sum(std::iter::once((*weight, difference)));
            Near { size: scale * product.size, error: scale * product.error * (1.0 + 4.0 * self.rounding) }
        };
        weights.iter().zip(&by).map(slope).collect()
    }
}
