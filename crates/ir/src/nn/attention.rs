//! `attention`: scaled dot-product attention with several heads, causal.

use crate::ops::compare::Comparison;
use crate::region::composite;
use crate::{Builder, Dim, Value};
use outgrow_tensor::DType;

/// Takes the place of scores that must not count: its exponential is 0 in every type, and it is finite in every type,
/// so that no infinity is subtracted from another.
const MASKED: f64 = -1e30;

composite! {
    /// Attention of queries, keys and values, each `[batch, tokens, heads * d]`, which are its operands.
    Attention = "attention" {
        /// How many heads share the width.
        heads: usize,
        /// Whether position i sees positions up to i only.
        causal: bool,
    }
}

impl Builder {
    /// `softmax(q kᵀ / √d) v` for each head, in which position i sees positions up to i (Vaswani et al. 2017). All of
    /// `q`, `k` and `v` are `[batch, tokens, heads * d]`, and so is the result.
    pub fn causal_attention(&mut self, q: Value, k: Value, v: Value, heads: usize) -> Value {
        self.composite_of(&Attention { heads, causal: true }, &[q, k, v], |b| {
            if !b.expect_rank(q, 3, "[batch, tokens, width]") {
                return b.error("attention needs a vector for each token");
            }
            let (batch, tokens, width) = (b.dim(q, 0), b.dim(q, 1), b.fixed_dim(q, 2));
            if heads == 0 || width % heads != 0 {
                return b.error(format!("a width of {width} cannot be shared by {heads} heads"));
            }
            let split = [batch, tokens, Dim::Fixed(heads), Dim::Fixed(width / heads)];
            let [q, k, v] = [q, k, v].map(|x| b.reshape(x, &split));
            let y = b.attention(q, k, v, true);
            b.reshape(y, &[batch, tokens, Dim::Fixed(width)])
        })
    }

    /// [`Builder::causal_attention`] of queries, keys and values that one layer computed, `[batch, tokens, 3 * heads * d]`:
    /// their gradients come as one value too, without being put in a row.
    pub fn causal_self_attention(&mut self, qkv: Value, heads: usize) -> Value {
        self.composite_of(&Attention { heads, causal: true }, &[qkv], |b| {
            if !b.expect_rank(qkv, 3, "[batch, tokens, three widths]") {
                return b.error("attention needs queries, keys and values for each token");
            }
            let (batch, tokens, width) = (b.dim(qkv, 0), b.dim(qkv, 1), b.fixed_dim(qkv, 2));
            let parts = heads.checked_mul(3).filter(|parts| *parts > 0 && width % parts == 0);
            let Some(parts) = parts else {
                return b.error(format!("a width of {width} cannot be shared by three times {heads} heads"));
            };
            let split = [batch, tokens, Dim::Fixed(parts), Dim::Fixed(width / parts)];
            let all = b.reshape(qkv, &split);
            let [q, k, v] = [0, 1, 2].map(|i| b.slice(all, 2, i * heads, (i + 1) * heads));
            let y = b.attention(q, k, v, true);
            b.reshape(y, &[batch, tokens, Dim::Fixed(width / 3)])
        })
    }

    /// What [`Builder::attention`] is, by products and a softmax: for whoever has no attention of its own.
    pub fn attention_by_products(&mut self, q: Value, k: Value, v: Value, causal: bool) -> Value {
        let d = self.fixed_dim(q, 3);
        // [batch, heads, tokens, tokens]: which query, then which key.
        let scores = self.dot(q, k, (&[0, 2], &[0, 2]), (&[3], &[3]));
        let scores = self.mul_scalar(scores, 1.0 / (d as f64).sqrt());
        let scores = if causal { self.mask_future(scores) } else { scores };
        let weights = self.softmax(scores);
        let y = self.dot(weights, v, (&[0, 1], &[0, 2]), (&[3], &[1]));
        self.transpose(y, &[0, 2, 1, 3])
    }

    /// Scores `[.., queries, keys]` with those of keys after the query replaced by a large negative number.
    fn mask_future(&mut self, scores: Value) -> Value {
        let dims = self.dims(scores);
        let Some(first) = dims.len().checked_sub(2) else {
            return self.error("scores need queries and keys");
        };
        // The same for every head of every sample.
        let places = &dims[first..];
        let query = self.iota(DType::I32, places, 0);
        let key = self.iota(DType::I32, places, 1);
        let seen = self.compare(Comparison::Le, key, query);
        let seen = self.broadcast(seen, &dims, &[first, first + 1]);
        let masked = self.scalar(MASKED, self.dtype(scores));
        self.select(seen, scores, masked)
    }
}
