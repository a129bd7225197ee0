//! Losses of classes.

use super::{Rule, op};
use crate::cx::{Cx, Lowered, Refusal, fixed_dim, invalid, unsupported};
use crate::datum::Datum;
use outgrow_ir::ops::compare::Comparison;
use outgrow_ir::{Builder, Dim, Value};
use outgrow_tensor::DType;

pub(super) const RULES: &[Rule] = &[
    op("NegativeLogLikelihoodLoss", |cx| loss(cx, false)),
    op("SoftmaxCrossEntropyLoss", |cx| loss(cx, true)),
];

/// `-weight[t] · x[t]` at each place, where `x [n, classes, …]` are log-probabilities and `t [n, …]` the targets.
fn loss(cx: &mut Cx<'_>, from_logits: bool) -> Lowered {
    let (elem, x) = (cx.elem(0)?, cx.float(0)?);
    let targets = cx.number(1)?;
    let weights = cx.opt(2)?;
    let reduction = cx.text("reduction", "mean")?;
    let ignored = if cx.has_attr("ignore_index") { Some(cx.int("ignore_index", 0)?) } else { None };
    let dims = cx.b.dims(x);
    let classes = fixed_dim(&dims, 1)?;
    let b = &mut *cx.b;
    let logs = if from_logits { super::softmax::along(b, x, 1, Builder::log_softmax) } else { x };
    let targets = b.cast(targets, DType::I64);
    let places: Vec<usize> = (0..dims.len()).filter(|i| *i != 1).collect();
    if b.rank(targets) != places.len() {
        return invalid("the targets do not fit the input");
    }
    let spread = b.broadcast(targets, &dims, &places);
    let class = b.iota(DType::I64, &dims, 1);
    let hit = b.compare(Comparison::Eq, spread, class);
    let zero = b.scalar(0.0, elem.dtype());
    let chosen = b.select(hit, logs, zero);
    let chosen = b.reduce_sum(chosen, &[1]);
    let weight = weight_of(b, weights, &dims, hit, targets, ignored, classes, elem.dtype())?;
    let weighed = b.mul(chosen, weight);
    // Where an ignored target lies outside the classes nothing is hit, and 0 must not become -0.
    let losses = b.sub(zero, weighed);
    let y = match reduction.as_str() {
        "none" => losses,
        "sum" => b.sum_all(losses),
        "mean" => {
            let (sum, total) = (b.sum_all(losses), b.sum_all(weight));
            b.div(sum, total)
        }
        other => return unsupported(format!("reduction `{other}`"), "none, sum or mean"),
    };
    let y = crate::elem::wrapped(b, y, elem);
    let mut results = vec![Datum::value(elem, y)];
    if from_logits {
        results.push(Datum::value(elem, crate::elem::wrapped(b, logs, elem)));
    }
    Ok(results)
}

/// The weight of each place: that of its class, and 0 where the target is to be ignored.
#[allow(clippy::too_many_arguments)]
fn weight_of(
    b: &mut Builder,
    weights: Option<Value>,
    dims: &[Dim],
    hit: Value,
    targets: Value,
    ignored: Option<i64>,
    classes: usize,
    dtype: DType,
) -> Result<Value, Refusal> {
    let one = b.scalar(1.0, dtype);
    let zero = b.scalar(0.0, dtype);
    let mut weight = match weights {
        Some(weights) => {
            if b.dims(weights) != [Dim::Fixed(classes)] {
                return invalid("there is not one weight for each class");
            }
            let spread = b.broadcast_axis(weights, dims, 1);
            let own = b.select(hit, spread, zero);
            b.reduce_sum(own, &[1])
        }
        None => {
            let places = b.dims(targets);
            b.broadcast(one, &places, &[])
        }
    };
    if let Some(ignored) = ignored {
        let ignored = b.scalar(ignored as f64, DType::I64);
        let counts = b.compare(Comparison::Ne, targets, ignored);
        weight = b.select(counts, weight, zero);
    }
    Ok(weight)
}
