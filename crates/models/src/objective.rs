//! The end of every graph: the loss, the metrics and the outputs, from what the architecture predicts.

use crate::net::Net;
use crate::spec::Output;
use crate::{LossKind, Mode, TargetScale, TargetSpec};
use outgrow_ir::ops::compare::Comparison;
use outgrow_ir::{Diagnostic, Diagnostics, Dim, Metric, OutputRole, Value};
use outgrow_tensor::{Shape, Tensor};

/// Adds the outputs that [`crate::BuiltModel`] promises for the mode.
pub(crate) fn add(net: &mut Net, output: Output, prediction: Value) -> Result<(), Diagnostics> {
    check_output(net, output)?;
    net.scoped("objective", |net| {
        let prediction = answer(net, output, prediction);
        if matches!(net.mode, Mode::Answer(_)) {
            let output = in_own_units(net, prediction);
            net.b.output("output", output);
            return;
        }
        let (output, losses, metrics) = match net.target {
            TargetSpec::Class { .. } if net.b.rank(net.target_value) == 2 => shares(net, prediction),
            TargetSpec::Class { .. } | TargetSpec::Tokens { .. } => classes(net, prediction),
            TargetSpec::Binary => binary(net, prediction),
            TargetSpec::Regression { .. } => {
                let target = scaled(net, net.target_value);
                let losses = match net.loss {
                    LossKind::MeanAbsoluteError => net.b.mean_absolute_error(prediction, target),
                    LossKind::Huber { delta } => net.b.huber(prediction, target, delta),
                    _ => net.b.mean_squared_error(prediction, target),
                };
                (in_own_units(net, prediction), losses, Vec::new())
            }
        };
        let loss_sum = weighed_sum(net, losses);
        let weight_sum = net.b.sum_all(net.sample_weight);
        let loss = net.b.mul(loss_sum, net.scale);
        net.b.output_as("loss", OutputRole::Loss, loss);
        net.b.output_as("loss_sum", OutputRole::Metric(Metric::Loss), loss_sum);
        net.b.output_as("weight_sum", OutputRole::Metric(Metric::Weight), weight_sum);
        for (metric, hits) in metrics {
            let hits = net.as_wide(hits);
            let hits = weighed_sum(net, hits);
            net.b.output_as(metric.name(), OutputRole::Metric(metric), hits);
        }
        net.b.output("output", output);
        let statistics = std::mem::take(&mut net.statistics);
        if !statistics.is_empty() {
            let samples = net.b.sum_all(net.mask);
            net.b.output_as("samples", OutputRole::Metric(Metric::Samples), samples);
            for (name, statistic) in statistics {
                let statistic = net.b.mul(statistic, samples);
                net.b.output_as(&format!("stat:{name}"), OutputRole::Statistic(name), statistic);
            }
        }
    });
    Ok(())
}

/// Logits, one or one for each class, or predictions, in the type of outputs.
fn answer(net: &mut Net, output: Output, prediction: Value) -> Value {
    let prediction = net.as_wide(prediction);
    match net.target {
        TargetSpec::Regression { .. } if output == Output::Sigmoid => net.b.sigmoid(prediction),
        TargetSpec::Binary => net.b.reshape(prediction, &[Dim::B]),
        _ => prediction,
    }
}

/// Numbers `[B, width]` as the model works on them.
fn scaled(net: &mut Net, numbers: Value) -> Value {
    if net.scales.is_empty() {
        return numbers;
    }
    let mean = of_each(net, numbers, |scale| scale.mean);
    let by = of_each(net, numbers, |scale| 1.0 / scale.deviation);
    let centred = net.b.sub(numbers, mean);
    net.b.mul(centred, by)
}

/// What the model predicts, `[B, width]`, in the units of the targets.
fn in_own_units(net: &mut Net, prediction: Value) -> Value {
    if net.scales.is_empty() {
        return prediction;
    }
    let by = of_each(net, prediction, |scale| scale.deviation);
    let mean = of_each(net, prediction, |scale| scale.mean);
    let spread = net.b.mul(prediction, by);
    net.b.add(spread, mean)
}

/// A constant for each of the numbers in `like`, for all samples.
fn of_each(net: &mut Net, like: Value, constant: impl Fn(&TargetScale) -> f64) -> Value {
    let scales = net.scales;
    let each = Tensor::from_f64(net.b.dtype(like), Shape::new([scales.len()]), |i| constant(&scales[i]));
    let each = net.b.constant(each);
    let dims = net.b.dims(like);
    net.b.broadcast(each, &dims, &[1])
}

/// Whether the last activation fits what is predicted.
fn check_output(net: &Net, output: Output) -> Result<(), Diagnostic> {
    let problem = match (output, &net.target) {
        (Output::Softmax, TargetSpec::Regression { .. } | TargetSpec::Binary) => "ends in softmax",
        (Output::Sigmoid, TargetSpec::Class { .. } | TargetSpec::Tokens { .. }) => "ends in a sigmoid",
        _ => return Ok(()),
    };
    let expected = match &net.target {
        TargetSpec::Class { .. } | TargetSpec::Tokens { .. } => "softmax or no activation on the last layer",
        TargetSpec::Binary => "sigmoid or no activation on the last layer, which has one unit",
        TargetSpec::Regression { .. } => "no activation on the last layer",
    };
    let problem = format!("the model {problem}, but the data asks for {}", net.target.describe());
    Err(Diagnostic::new("model.output", problem).item("model.layers").expected(expected))
}

/// `Σ weight · value` of values `[B]`, or of the means over tokens of values `[B, tokens]`.
fn weighed_sum(net: &mut Net, values: Value) -> Value {
    let dims = net.b.dims(values);
    let weight = net.b.broadcast(net.sample_weight, &dims, &[0]);
    let weighed = net.b.mul(values, weight);
    let sum = net.b.sum_all(weighed);
    let tokens: usize = dims.iter().skip(1).filter_map(|d: &Dim| d.fixed()).product();
    if tokens == 1 { sum } else { net.b.mul_scalar(sum, 1.0 / tokens as f64) }
}

type Parts = (Value, Value, Vec<(Metric, Value)>);

/// Of `logits [.., classes]`: the losses, and whether the target's logit is the greatest or among the five greatest.
/// Among equal logits the one of the lower class counts as greater; a NaN is beaten by every other.
fn classes(net: &mut Net, logits: Value) -> Parts {
    let target = net.target_value;
    let losses = if let LossKind::Focal { gamma } = net.loss {
        net.b.focal_loss(logits, target, gamma)
    } else if net.label_smoothing > 0.0 {
        let is_target = net.b.is_target(logits, target);
        let [rest, whole] = smoothed(net, logits);
        let shares = net.b.select(is_target, whole, rest);
        net.b.soft_cross_entropy(logits, shares)
    } else {
        net.b.cross_entropy(logits, target)
    };
    let rank = net.b.composite("rank", &[logits, target], |b| {
        let dims = b.dims(logits);
        let last = dims.len() - 1;
        let kept: Vec<usize> = (0..last).collect();
        let constant = b.stop_gradient(logits);
        let picked = b.pick(constant, target);
        let picked = b.broadcast(picked, &dims, &kept);
        let index = b.iota(b.dtype(target), &dims, last);
        let target = b.broadcast(target, &dims, &kept);
        let not_above = b.compare(Comparison::Le, constant, picked);
        let above = b.not(not_above);
        let equal = b.compare(Comparison::Eq, constant, picked);
        let before = b.compare(Comparison::Lt, index, target);
        let tied = b.and(equal, before);
        let beats = b.or(above, tied);
        let beats = b.cast(beats, b.dtype(logits));
        b.reduce_sum(beats, &[last])
    });
    let metrics = hits(net, rank);
    (logits, losses, metrics)
}

/// Of `logits [B, classes]` and the shares of the classes in each sample: the losses, and whether a class with the
/// greatest share has the greatest logit, or one of the five greatest.
fn shares(net: &mut Net, logits: Value) -> Parts {
    let shares = net.target_value;
    let mut smooth = shares;
    if net.label_smoothing > 0.0 {
        let [rest, _] = smoothed(net, logits);
        smooth = net.b.mul_scalar(shares, 1.0 - net.label_smoothing);
        smooth = net.b.add(smooth, rest);
    }
    let losses = net.b.soft_cross_entropy(logits, smooth);
    let rank = net.b.composite("rank", &[logits, shares], |b| {
        let dims = b.dims(logits);
        let constant = b.stop_gradient(logits);
        let greatest = b.reduce_max(shares, &[1]);
        let greatest = b.broadcast(greatest, &dims, &[0]);
        let is_target = b.compare(Comparison::Ge, shares, greatest);
        let lowest = b.scalar(f64::NEG_INFINITY, b.dtype(constant));
        let only = b.select(is_target, constant, lowest);
        let picked = b.reduce_max(only, &[1]);
        let picked = b.broadcast(picked, &dims, &[0]);
        let not_above = b.compare(Comparison::Le, constant, picked);
        let above = b.not(not_above);
        let above = b.cast(above, b.dtype(logits));
        b.reduce_sum(above, &[1])
    });
    let metrics = hits(net, rank);
    (logits, losses, metrics)
}

/// The shares of a class that is not the target and of the one that is, where a part of each target is shared by all
/// classes: scalars of the type of `logits [.., classes]`.
fn smoothed(net: &mut Net, logits: Value) -> [Value; 2] {
    let (classes, dtype) = (net.last_dim(logits), net.b.dtype(logits));
    let rest = net.label_smoothing / classes.max(1) as f64;
    [rest, 1.0 - net.label_smoothing + rest].map(|share| net.b.scalar(share, dtype))
}

/// Whether so few logits are above the target's.
fn hits(net: &mut Net, rank: Value) -> Vec<(Metric, Value)> {
    let mut below = |n: f64| {
        let n = net.b.scalar(n, net.b.dtype(rank));
        net.b.compare(Comparison::Lt, rank, n)
    };
    vec![(Metric::Correct, below(1.0)), (Metric::Correct5, below(5.0))]
}

/// Of `logits [B]`: the losses, and whether the sign of the logit is the target's.
fn binary(net: &mut Net, logits: Value) -> Parts {
    let target = net.as_wide(net.target_value);
    let mut smooth = target;
    if net.label_smoothing > 0.0 {
        smooth = net.b.mul_scalar(target, 1.0 - net.label_smoothing);
        smooth = net.b.add_scalar(smooth, net.label_smoothing / 2.0);
    }
    let losses = match net.loss {
        LossKind::Focal { gamma } => {
            // The other class has a logit of 0.
            let one = net.b.reshape(logits, &[Dim::B, Dim::Fixed(1)]);
            let other = net.b.full(0.0, net.b.dtype(one), &net.b.dims(one));
            let both = net.b.concat(&[other, one], 1);
            net.b.focal_loss(both, net.target_value, gamma)
        }
        _ => net.b.binary_cross_entropy(logits, smooth),
    };
    let zero = net.b.scalar(0.0, net.b.dtype(logits));
    let positive = net.b.compare(Comparison::Gt, logits, zero);
    let half = net.b.scalar(0.5, net.b.dtype(target));
    let wanted = net.b.compare(Comparison::Gt, target, half);
    let correct = net.b.compare(Comparison::Eq, positive, wanted);
    (logits, losses, vec![(Metric::Correct, correct)])
}
