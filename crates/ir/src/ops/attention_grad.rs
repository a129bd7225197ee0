//! `attention_grad`: the gradients of attention by queries, keys and values.

use crate::ops::attention::{Attention, Head};
use crate::ops::{OpEntry, OpRule, Sample, SampleInput};
use crate::{Attr, AttrReader, Builder, Cost, Dim, TensorType, Value};
use outgrow_tensor::{DType, Shape, Tensor};

/// From queries, keys and values and the gradient of their attention, each `[batch, tokens, heads, d]`, the gradients by
/// the three, one behind the other along the heads: `[batch, tokens, 3 heads, d]`, as layers that compute the three
/// together want it. The weights are computed once more (Dao et al. 2022, "FlashAttention"). It has no derivative of its
/// own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AttentionGrad {
    /// The attention.
    pub of: Attention,
}

impl OpRule for AttentionGrad {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn attrs(&self) -> Vec<(&'static str, Attr)> {
        self.of.attrs()
    }
    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let [_, _, _, _] = inputs else { return Err("takes queries, keys, values and a gradient".into()) };
        let mut ty = self.of.operand(inputs)?;
        let heads = ty.dims[2].fixed().and_then(|heads| heads.checked_mul(3));
        ty.dims[2] = Dim::Fixed(heads.ok_or("has more heads than can be counted")?);
        Ok(ty)
    }
    fn eval(&self, inputs: &[&Tensor], dtype: DType, shape: &Shape) -> Tensor {
        let (q, k, v, dy) = (inputs[0], inputs[1], inputs[2], inputs[3]);
        let each = q.shape();
        let mut sums = [0; 3].map(|_| vec![0.0; each.elements()]);
        for head in Head::all(&self.of, each) {
            for i in 0..head.tokens() {
                let weights = head.weights(q, k, i);
                // By the weights, and from there by the scores.
                let by: Vec<f64> = (0..weights.len()).map(|j| head.product(dy, i, v, j)).collect();
                let mean: f64 = weights.iter().zip(&by).map(|(w, g)| w * g).sum();
                for (j, (weight, by)) in weights.iter().zip(&by).enumerate() {
                    let score = weight * (by - mean) * head.scale();
                    for p in 0..head.width() {
                        let (at_i, at_j) = (head.at(i, p), head.at(j, p));
                        sums[0][at_i] += score * k.get_f64(at_j);
                        sums[1][at_j] += score * q.get_f64(at_i);
                        sums[2][at_j] += weight * dy.get_f64(at_i);
                    }
                }
            }
        }
        let heads = each.dims()[2];
        Tensor::from_f64(dtype, shape.clone(), |i| {
            let at = shape.unravel(i);
            sums[at[2] / heads][each.ravel(&[at[0], at[1], at[2] % heads, at[3]])]
        })
    }
    fn cost(&self, inputs: &[&TensorType], output: &TensorType) -> Cost {
        self.of.cost_of(5, inputs, output)
    }
}

impl OpEntry for AttentionGrad {
    const NAME: &'static str = "attention_grad";
    fn parse(attrs: &mut AttrReader) -> Result<Self, String> {
        Ok(Self { of: Attention::parsed(attrs)? })
    }
    fn samples() -> Vec<Sample> {
        let case = |(of, dims): (Attention, [usize; 4])| {
            Sample::new(Self { of }, &[0; 4].map(|_| SampleInput::float(&dims)))
        };
        Attention::cases().into_iter().map(case).collect()
    }
}

impl Builder {
    /// The gradients by queries, keys and values, one behind the other along the heads, from the gradient of their
    /// attention.
    pub fn attention_grad(&mut self, q: Value, k: Value, v: Value, grad: Value, causal: bool) -> Value {
        self.push(AttentionGrad { of: Attention { causal } }, &[q, k, v, grad])
    }
}
