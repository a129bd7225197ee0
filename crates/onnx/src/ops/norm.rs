//! Normalisations.

use super::reduce::{keep_axes, mean};
use super::{Rule, op};
use crate::Elem;
use crate::cx::{Cx, Lowered, Refusal, axis, check_window, fixed_dim, invalid, unsupported};
use crate::datum::{Datum, Kind};
use crate::emit::{Mode, Statistic};
use outgrow_ir::nn::BatchNormStatistics;
use outgrow_ir::{Builder, Dim, Value};

pub(super) const RULES: &[Rule] = &[
    op("BatchNormalization", batch_normalization),
    op("GroupNormalization", group_normalization),
    op("InstanceNormalization", instance_normalization),
    op("LRN", local_response),
    op("LayerNormalization", layer_normalization),
    op("LpNormalization", lp_normalization),
    op("MeanVarianceNormalization", mean_variance),
    op("RMSNormalization", rms_normalization),
];

/// The default of every epsilon here, as the file format's f32.
const EPSILON: f64 = 1e-5f32 as f64;

fn batch_normalization(cx: &mut Cx<'_>) -> Lowered {
    cx.ignore(&["spatial", "consumed_inputs", "is_test"]);
    let eps = cx.real("epsilon", EPSILON)?;
    let momentum = cx.real("momentum", f64::from(0.9f32))?;
    let asked = cx.flag("training_mode", false)?;
    let elem = cx.elem(0)?;
    let [x, scale, bias, running_mean, running_variance] =
        [cx.float(0)?, cx.float(1)?, cx.float(2)?, cx.float(3)?, cx.float(4)?];
    if let Mode::Training(training) = cx.mode {
        let trained = cx.b.batch_norm_train(x, scale, bias, training.sample_weight, eps);
        for (input, value) in [(3, trained.statistics.mean), (4, trained.statistics.variance)] {
            if let Kind::Param(number) = cx.datum(input)?.kind {
                let buffer = cx.weights.name(number).to_owned();
                cx.statistics.push(Statistic { buffer, value, momentum: 1.0 - momentum });
            }
        }
        // Files that were exported for training give the updated statistics too; nothing reads them.
        let statistics = [trained.statistics.mean, trained.statistics.variance];
        return Ok([trained.y].into_iter().chain(statistics).map(|v| Datum::value(elem, v)).collect());
    }
    if matches!(cx.mode, Mode::Evaluation) {
        let statistics = BatchNormStatistics { mean: running_mean, variance: running_variance };
        let y = cx.b.batch_norm_eval(x, scale, bias, statistics, eps);
        return Ok([y, running_mean, running_variance].into_iter().map(|v| Datum::value(elem, v)).collect());
    }
    if !asked {
        let statistics = BatchNormStatistics { mean: running_mean, variance: running_variance };
        let y = cx.b.batch_norm_eval(x, scale, bias, statistics, eps);
        return cx.wrapped(elem, y);
    }
    let b = &mut *cx.b;
    let axes: Vec<usize> = (0..b.rank(x)).filter(|a| *a != 1).collect();
    let now_mean = mean(b, x, &axes)?;
    let dims = b.dims(x);
    let spread = b.broadcast_axis(now_mean, &dims, 1);
    let deviation = b.sub(x, spread);
    let square = b.mul(deviation, deviation);
    let now_variance = mean(b, square, &axes)?;
    let statistics = BatchNormStatistics { mean: now_mean, variance: now_variance };
    let y = b.batch_norm_eval(x, scale, bias, statistics, eps);
    let mut results = vec![Datum::value(elem, y)];
    for (old, new, i) in [(running_mean, now_mean, 3), (running_variance, now_variance, 4)] {
        let kept = cx.b.mul_scalar(old, momentum);
        let added = cx.b.mul_scalar(new, 1.0 - momentum);
        let sum = cx.b.add(kept, added);
        results.push(Datum::value(cx.elem(i)?, sum));
    }
    Ok(results)
}

/// The mean, the deviations, and one over the root of the mean square deviation, over ascending axes that stay with an
/// extent of 1.
fn standardised(b: &mut Builder, x: Value, axes: &[usize], eps: f64) -> Result<[Value; 3], Refusal> {
    let dims = b.dims(x);
    let average = mean(b, x, axes)?;
    let average = keep_axes(b, average, &dims, axes);
    let centred = b.sub(x, average);
    // The variance does not change with the mean to first order, so its gradient need not flow through it.
    let constant = b.stop_gradient(average);
    let deviation = b.sub(x, constant);
    let inverse = inverse_root_mean_square(b, deviation, axes, eps)?;
    Ok([average, centred, inverse])
}

fn inverse_root_mean_square(b: &mut Builder, x: Value, axes: &[usize], eps: f64) -> Result<Value, Refusal> {
    let dims = b.dims(x);
    let square = b.mul(x, x);
    let variance = mean(b, square, axes)?;
    let shifted = b.add_scalar(variance, eps);
    let root = b.sqrt(shifted);
    let one = b.scalar(1.0, b.dtype(x));
    let inverse = b.div(one, root);
    Ok(keep_axes(b, inverse, &dims, axes))
}

/// `x * scale + bias` for each channel.
fn scaled(b: &mut Builder, x: Value, scale: Value, bias: Value) -> Value {
    let dims = b.dims(x);
    let (scale, bias) = (b.broadcast_axis(scale, &dims, 1), b.broadcast_axis(bias, &dims, 1));
    let y = b.mul(x, scale);
    b.add(y, bias)
}

fn instance_normalization(cx: &mut Cx<'_>) -> Lowered {
    cx.ignore(&["consumed_inputs"]);
    let eps = cx.real("epsilon", EPSILON)?;
    let (elem, x, scale, bias) = (cx.elem(0)?, cx.float(0)?, cx.float(1)?, cx.float(2)?);
    let axes: Vec<usize> = (2..cx.b.rank(x)).collect();
    let [_, centred, inverse] = standardised(cx.b, x, &axes, eps)?;
    let y = cx.b.mul(centred, inverse);
    let y = scaled(cx.b, y, scale, bias);
    cx.wrapped(elem, y)
}

fn group_normalization(cx: &mut Cx<'_>) -> Lowered {
    cx.ignore(&["stash_type"]);
    let eps = cx.real("epsilon", EPSILON)?;
    let groups = usize::try_from(cx.int("num_groups", 1)?).unwrap_or(0);
    let (elem, x, dims) = (cx.elem(0)?, cx.float(0)?, cx.dims(0)?);
    let (mut scale, mut bias) = (cx.float(1)?, cx.float(2)?);
    let channels = fixed_dim(&dims, 1)?;
    if groups == 0 || channels % groups != 0 {
        return invalid(format!("{channels} channels do not divide into {groups} groups"));
    }
    let b = &mut *cx.b;
    let mut apart = vec![dims[0], Dim::Fixed(groups), Dim::Fixed(channels / groups)];
    apart.extend(&dims[2..]);
    let grouped = b.reshape(x, &apart);
    let axes: Vec<usize> = (2..apart.len()).collect();
    let [_, centred, inverse] = standardised(b, grouped, &axes, eps)?;
    let y = b.mul(centred, inverse);
    let y = b.reshape(y, &dims);
    if cx.opset < 21 && b.dim(scale, 0) == Dim::Fixed(groups) && groups != channels {
        // Before version 21 there is one number for each group.
        for v in [&mut scale, &mut bias] {
            let spread = b.broadcast(*v, &[Dim::Fixed(groups), Dim::Fixed(channels / groups)], &[0]);
            *v = b.reshape(spread, &[Dim::Fixed(channels)]);
        }
    }
    let y = scaled(b, y, scale, bias);
    cx.wrapped(elem, y)
}

fn layer_normalization(cx: &mut Cx<'_>) -> Lowered {
    cx.ignore(&["stash_type"]);
    let eps = cx.real("epsilon", EPSILON)?;
    let (elem, x, dims) = (cx.elem(0)?, cx.float(0)?, cx.dims(0)?);
    let (scale, bias) = (cx.float(1)?, cx.opt(2)?);
    let first = axis(cx.int("axis", -1)?, dims.len())?;
    let b = &mut *cx.b;
    let only_y = cx.node.output.iter().skip(1).all(String::is_empty);
    if let (true, Some(bias)) = (only_y && first + 1 == dims.len() && b.rank(scale) == 1, bias)
        && b.rank(bias) == 1
    {
        let y = b.layer_norm(x, scale, bias, eps);
        return cx.wrapped(elem, y);
    }
    let axes: Vec<usize> = (first..dims.len()).collect();
    let [average, centred, inverse] = standardised(b, x, &axes, eps)?;
    let y = b.mul(centred, inverse);
    let mut y = b.mul(y, scale);
    if let Some(bias) = bias {
        y = b.add(y, bias);
    }
    let y = crate::elem::wrapped(b, y, elem);
    Ok(vec![Datum::value(elem, y), Datum::value(Elem::F32, average), Datum::value(Elem::F32, inverse)])
}

fn rms_normalization(cx: &mut Cx<'_>) -> Lowered {
    cx.ignore(&["stash_type"]);
    let eps = cx.real("epsilon", EPSILON)?;
    let (elem, x, dims, scale) = (cx.elem(0)?, cx.float(0)?, cx.dims(0)?, cx.float(1)?);
    let first = axis(cx.int("axis", -1)?, dims.len())?;
    let axes: Vec<usize> = (first..dims.len()).collect();
    let b = &mut *cx.b;
    let inverse = inverse_root_mean_square(b, x, &axes, eps)?;
    let y = b.mul(x, inverse);
    let y = b.mul(y, scale);
    cx.wrapped(elem, y)
}

fn mean_variance(cx: &mut Cx<'_>) -> Lowered {
    let (elem, x) = (cx.elem(0)?, cx.float(0)?);
    let given = cx.int_list("axes")?.unwrap_or_else(|| vec![0, 2, 3]);
    let axes = crate::cx::axes(&given, cx.b.rank(x))?;
    let [_, centred, inverse] = standardised(cx.b, x, &axes, 1e-18)?;
    let y = cx.b.mul(centred, inverse);
    cx.wrapped(elem, y)
}

fn lp_normalization(cx: &mut Cx<'_>) -> Lowered {
    let (elem, x, dims) = (cx.elem(0)?, cx.float(0)?, cx.dims(0)?);
    let at = axis(cx.int("axis", -1)?, dims.len())?;
    let p = cx.int("p", 2)?;
    let b = &mut *cx.b;
    let norm = match p {
        1 => {
            let magnitude = b.abs(x);
            b.reduce_sum(magnitude, &[at])
        }
        2 => {
            let square = b.mul(x, x);
            let sum = b.reduce_sum(square, &[at]);
            b.sqrt(sum)
        }
        other => return unsupported(format!("the norm of order {other}"), "1 or 2"),
    };
    let norm = keep_axes(b, norm, &dims, &[at]);
    // What is zero everywhere stays so.
    let zero = b.scalar(0.0, b.dtype(x));
    let empty = b.compare(outgrow_ir::ops::compare::Comparison::Eq, norm, zero);
    let one = b.scalar(1.0, b.dtype(x));
    let divisor = b.select(empty, one, norm);
    let y = b.div(x, divisor);
    cx.wrapped(elem, y)
}

/// `x / (bias + alpha / size · Σ x²)^beta` over neighbouring channels.
fn local_response(cx: &mut Cx<'_>) -> Lowered {
    let (elem, x) = (cx.elem(0)?, cx.float(0)?);
    let size = usize::try_from(cx.int("size", 1)?).unwrap_or(0);
    let (alpha, beta, bias) =
        (cx.real("alpha", f64::from(0.0001f32))?, cx.real("beta", 0.75)?, cx.real("bias", 1.0)?);
    let channels = fixed_dim(&cx.b.dims(x), 1)?;
    if size == 0 || size > 4 * channels.max(1) {
        return invalid(format!("a size of {size} does not fit {channels} channels"));
    }
    check_window(size)?;
    let b = &mut *cx.b;
    let square = b.mul(x, x);
    let padded = b.pad(square, 1, (size - 1) / 2, size / 2, 0, 0.0);
    let mut sum = b.slice(padded, 1, 0, channels);
    for k in 1..size {
        let part = b.slice(padded, 1, k, k + channels);
        sum = b.add(sum, part);
    }
    let scaled = b.mul_scalar(sum, alpha / size as f64);
    let shifted = b.add_scalar(scaled, bias);
    let exponent = b.scalar(-beta, b.dtype(x));
    let factor = b.pow(shifted, exponent);
    let y = b.mul(x, factor);
    cx.wrapped(elem, y)
}
