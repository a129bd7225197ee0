//! `attention`: scaled dot-product attention of every head of every sample.

use crate::ops::{OpEntry, OpRule, Sample, SampleInput, Vjp};
use crate::{Attr, AttrReader, Builder, Cost, TensorType, Value};
use outgrow_tensor::{DType, Shape, Tensor};

/// `softmax(q kᵀ / √d) v` of queries, keys and values (Vaswani et al. 2017), each `[batch, tokens, heads, d]`, and so is
/// the result. Whoever computes it need not keep the `tokens` times `tokens` weights.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attention {
    /// Whether token i sees tokens up to i only.
    pub causal: bool,
}

impl Attention {
    /// How many tokens the token at place `i` of `tokens` sees: the first ones.
    pub fn seen(&self, i: usize, tokens: usize) -> usize {
        if self.causal { i + 1 } else { tokens }
    }

    /// The type of one of some operands of one type, which is that of the result.
    pub(super) fn operand(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let first = inputs[0];
        let fits = first.rank() == 4 && first.dtype.is_float() && inputs.iter().all(|ty| *ty == first);
        let known = || first.dims[2].fixed().is_some() && first.dims[3].fixed().is_some_and(|d| d > 0);
        if fits && known() {
            Ok(first.clone())
        } else {
            Err("takes floats [batch, tokens, heads, d], all of one type, of known heads and d".into())
        }
    }

    /// Multiplications and additions of `products` matrix products of every head.
    pub(super) fn cost_of(&self, products: usize, inputs: &[&TensorType], output: &TensorType) -> Cost {
        let tokens = inputs[0].dims[1].unit();
        let flops = Cost::product([2 * products, inputs[0].unit_elements(), tokens]);
        Cost::streaming(if self.causal { flops / 2 } else { flops }, inputs, output)
    }

    pub(super) fn parsed(attrs: &mut AttrReader) -> Result<Self, String> {
        Ok(Self { causal: attrs.flag("causal")? })
    }

    pub(super) fn cases() -> Vec<(Self, [usize; 4])> {
        // Several heads and samples; more tokens than a block of any kernel; one and none.
        let dims = [[2, 5, 3, 4], [1, 70, 2, 3], [2, 1, 1, 5], [1, 0, 2, 3], [0, 4, 1, 2]];
        [true, false].into_iter().flat_map(|causal| dims.map(|dims| (Self { causal }, dims))).collect()
    }
}

/// One head of one sample, as the reference computes it.
pub(super) struct Head<'a> {
    op: &'a Attention,
    shape: &'a Shape,
    batch: usize,
    head: usize,
}

impl<'a> Head<'a> {
    /// All of them.
    pub fn all(op: &'a Attention, shape: &'a Shape) -> impl Iterator<Item = Self> {
        let heads = (0..shape.dims()[0]).flat_map(|batch| (0..shape.dims()[2]).map(move |head| (batch, head)));
        heads.map(move |(batch, head)| Self { op, shape, batch, head })
    }

    pub fn tokens(&self) -> usize {
        self.shape.dims()[1]
    }

    pub fn width(&self) -> usize {
        self.shape.dims()[3]
    }

    /// Where element `j` of token `i` is.
    pub fn at(&self, i: usize, j: usize) -> usize {
        self.shape.ravel(&[self.batch, i, self.head, j])
    }

    /// The vectors of two tokens, multiplied.
    pub fn product(&self, x: &Tensor, i: usize, y: &Tensor, j: usize) -> f64 {
        (0..self.width()).map(|p| x.get_f64(self.at(i, p)) * y.get_f64(self.at(j, p))).sum()
    }

    pub fn scale(&self) -> f64 {
        1.0 / (self.width() as f64).sqrt()
    }

    /// How much token `i` takes of each that it sees.
    pub fn weights(&self, q: &Tensor, k: &Tensor, i: usize) -> Vec<f64> {
        let seen = self.op.seen(i, self.tokens());
        let scores: Vec<f64> = (0..seen).map(|j| self.product(q, i, k, j) * self.scale()).collect();
        let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let powers: Vec<f64> = scores.iter().map(|s| (s - most).exp()).collect();
        let sum: f64 = powers.iter().sum();
        powers.iter().map(|p| p / sum).collect()
    }
}

impl OpRule for Attention {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn attrs(&self) -> Vec<(&'static str, Attr)> {
        vec![("causal", Attr::flag(self.causal))]
    }
    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let [_, _, _] = inputs else { return Err("takes queries, keys and values".into()) };
        self.operand(inputs)
    }
    fn eval(&self, inputs: &[&Tensor], dtype: DType, shape: &Shape) -> Tensor {
        let (q, k, v) = (inputs[0], inputs[1], inputs[2]);
        let mut y = vec![0.0; shape.elements()];
        for head in Head::all(self, shape) {
            for i in 0..head.tokens() {
                for (j, weight) in head.weights(q, k, i).into_iter().enumerate() {
                    (0..head.width()).for_each(|p| y[head.at(i, p)] += weight * v.get_f64(head.at(j, p)));
                }
            }
        }
        Tensor::from_f64(dtype, shape.clone(), |i| y[i])
    }
    fn vjp(&self, cx: &mut Vjp<'_>) -> Vec<Option<Value>> {
        let [q, k, v] = [0, 1, 2].map(|i| cx.inputs[i]);
        let heads = cx.b.fixed_dim(q, 2);
        let all = cx.b.attention_grad(q, k, v, cx.grad, self.causal);
        [0, 1, 2].map(|i| Some(cx.b.slice(all, 2, i * heads, (i + 1) * heads))).into()
    }
    fn cost(&self, inputs: &[&TensorType], output: &TensorType) -> Cost {
        self.cost_of(2, inputs, output)
    }
}

impl OpEntry for Attention {
    const NAME: &'static str = "attention";
    fn parse(attrs: &mut AttrReader) -> Result<Self, String> {
        Self::parsed(attrs)
    }
    fn samples() -> Vec<Sample> {
        let case = |(op, dims): (Self, [usize; 4])| Sample::new(op, &[0; 3].map(|_| SampleInput::float(&dims)));
        Self::cases().into_iter().map(case).collect()
    }
}

impl Builder {
    /// `softmax(q kᵀ / √d) v` of every head; all are `[batch, tokens, heads, d]`.
    pub fn attention(&mut self, q: Value, k: Value, v: Value, causal: bool) -> Value {
        self.push(Attention { causal }, &[q, k, v])
    }
}
