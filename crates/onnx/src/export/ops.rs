//! One operator (or a few) for each primitive.

use super::data_type;
use super::emit::{Emitter, Made, int, ints, text};
use outgrow_ir::ops::compare::Comparison;
use outgrow_ir::ops::conv2d::Conv2d;
use outgrow_ir::ops::conv2d_grad_input::Conv2dGradInput;
use outgrow_ir::ops::dot::Dot;
use outgrow_ir::ops::iota::Iota;
use outgrow_ir::ops::pad::Pad;
use outgrow_ir::ops::pool2d::{Pool2d, PoolKind};
use outgrow_ir::ops::{Window, broadcast::Broadcast};
use outgrow_ir::{Diagnostic, Dim, Op, Value};
use outgrow_tensor::{DType, Shape, Tensor};

type Emitted = Result<Made, Diagnostic>;

/// What to do about operations that ONNX does not have.
const NOT_IN_ONNX: &str = "take another layer, or serve the model as it is";

/// Emits the operation that makes `value`.
pub(super) fn emit(e: &mut Emitter<'_>, value: Value) -> Emitted {
    let node = e.graph.node(value);
    let (inputs, dims, about) = (&node.inputs, node.ty.dims.clone(), e.about(value));
    let whole = |name: String| Ok(Made { name, dims: dims.clone() });
    match &node.op {
        Op::Constant(constant) => constant_value(e, &constant.0),
        Op::Iota(iota) => counted(e, iota, &about),
        Op::StopGradient(_) => e.thin(inputs[0]),
        Op::Cast(cast) => {
            let to = vec![int("to", i64::from(data_type(cast.dtype)))];
            let from = e.thin(inputs[0])?;
            let name = e.node("Cast", &[from.name], to, &about);
            Ok(Made { name, dims: from.dims })
        }
        Op::Compare(compare) => {
            let op = match compare.is {
                Comparison::Eq | Comparison::Ne => "Equal",
                Comparison::Lt => "Less",
                Comparison::Le => "LessOrEqual",
                Comparison::Gt => "Greater",
                Comparison::Ge => "GreaterOrEqual",
            };
            let made = elementwise(e, value, op)?;
            if compare.is != Comparison::Ne {
                return Ok(made);
            }
            let name = e.node("Not", &[made.name], vec![], &about);
            Ok(Made { name, dims: made.dims })
        }
        Op::Broadcast(broadcast) => repeated(e, value, broadcast, &about),
        Op::Reshape(_) => {
            let from = e.full(inputs[0])?;
            whole(e.reshaped(from, &dims, &about)?)
        }
        Op::Transpose(op) => {
            let from = e.full(inputs[0])?;
            whole(e.node("Transpose", &[from], vec![ints("perm", op.axes.iter().copied())], &about))
        }
        Op::Slice(op) => {
            let mut operands = vec![e.full(inputs[0])?];
            for n in [op.start, op.end, op.axis, op.stride] {
                operands.push(e.integers(&[n as i64]));
            }
            whole(e.node("Slice", &operands, vec![], &about))
        }
        Op::Reverse(op) => {
            let mut operands = vec![e.full(inputs[0])?];
            for n in [-1, i64::MIN, op.axis as i64, -1] {
                operands.push(e.integers(&[n]));
            }
            whole(e.node("Slice", &operands, vec![], &about))
        }
        Op::Pad(op) => padded(e, value, op),
        Op::Concat(op) => {
            let parts = inputs.iter().map(|v| e.full(*v)).collect::<Result<Vec<_>, _>>()?;
            whole(e.node("Concat", &parts, vec![int("axis", op.axis as i64)], &about))
        }
        Op::ReduceSum(op) => {
            let from = e.full(inputs[0])?;
            let axes: Vec<i64> = op.axes.iter().map(|a| *a as i64).collect();
            if axes.is_empty() {
                // Without axes, ONNX means all of them.
                return whole(from);
            }
            let axes = e.integers(&axes);
            whole(e.node("ReduceSum", &[from, axes], vec![int("keepdims", 0)], &about))
        }
        Op::ReduceMax(op) if op.axes.is_empty() => whole(e.full(inputs[0])?),
        Op::ReduceMax(op) => {
            let from = e.full(inputs[0])?;
            let attributes = vec![ints("axes", op.axes.iter().copied()), int("keepdims", 0)];
            whole(e.node("ReduceMax", &[from], attributes, &about))
        }
        Op::ArgMax(op) => {
            let from = e.full(inputs[0])?;
            let attributes = vec![int("axis", op.axis as i64), int("keepdims", 0)];
            let index = e.node("ArgMax", &[from], attributes, &about);
            let to = vec![int("to", i64::from(data_type(node.ty.dtype)))];
            whole(e.node("Cast", &[index], to, &about))
        }
        Op::Dot(dot) => product(e, value, dot),
        Op::Conv2d(conv) => {
            let operands = factors(e, value)?;
            whole(e.node("Conv", &operands, conv_attributes(conv), &about))
        }
        Op::Conv2dGradInput(op) => transposed_convolution(e, value, op),
        Op::Pool2d(pool) => pooled(e, value, pool),
        Op::Gather(_) => {
            let operands = [e.full(inputs[0])?, e.full(inputs[1])?];
            whole(e.node("Gather", &operands, vec![int("axis", 0)], &about))
        }
        op => match plain(op) {
            Some(name) => elementwise(e, value, name),
            None => {
                Err(Diagnostic::new("onnx.export", format!("`{}` has no operator in ONNX", op.rule().name()))
                    .item(&*node.origin)
                    .hint("it belongs to training; models are exported as they are evaluated"))
            }
        },
    }
}

/// The operators that work element by element under another name.
fn plain(op: &Op) -> Option<&'static str> {
    Some(match op {
        Op::Neg(_) => "Neg",
        Op::Abs(_) => "Abs",
        Op::Exp(_) => "Exp",
        Op::Log(_) => "Log",
        Op::Sqrt(_) => "Sqrt",
        Op::Tanh(_) => "Tanh",
        Op::Erf(_) => "Erf",
        Op::Sin(_) => "Sin",
        Op::Cos(_) => "Cos",
        Op::Floor(_) => "Floor",
        Op::Sign(_) => "Sign",
        Op::Not(_) => "Not",
        Op::Add(_) => "Add",
        Op::Sub(_) => "Sub",
        Op::Mul(_) => "Mul",
        Op::Div(_) => "Div",
        Op::Max(_) => "Max",
        Op::Min(_) => "Min",
        Op::Pow(_) => "Pow",
        Op::And(_) => "And",
        Op::Or(_) => "Or",
        Op::Select(_) => "Where",
        _ => return None,
    })
}

fn elementwise(e: &mut Emitter<'_>, value: Value, op: &str) -> Emitted {
    let operands = e.graph.node(value).inputs.iter().map(|v| e.thin(*v)).collect::<Result<Vec<_>, _>>()?;
    let (names, dims): (Vec<String>, Vec<Vec<Dim>>) = operands.into_iter().map(|m| (m.name, m.dims)).unzip();
    let dims = e.joined(value, &dims);
    let about = e.about(value);
    Ok(Made { name: e.node(op, &names, vec![], &about), dims })
}

/// A constant; one whose elements are all the same is a scalar that is repeated.
fn constant_value(e: &mut Emitter<'_>, tensor: &Tensor) -> Emitted {
    let splat = outgrow_ir::ops::constant::Constant(std::sync::Arc::new(tensor.clone())).splat();
    if tensor.elements() > 1 && splat.is_some() {
        let one = match tensor.dtype() {
            dtype if dtype.is_float() => Tensor::from_f64(dtype, Shape::scalar(), |_| tensor.get_f64(0)),
            dtype => Tensor::from_i64(dtype, Shape::scalar(), |_| tensor.get_i64(0)),
        };
        return Ok(Made { name: e.constant(&one), dims: Vec::new() });
    }
    let dims = tensor.shape().dims().iter().map(|n| Dim::Fixed(*n)).collect();
    Ok(Made { name: e.constant(tensor), dims })
}

/// 0, 1, 2, … along an axis, thin along the others.
fn counted(e: &mut Emitter<'_>, iota: &Iota, about: &str) -> Emitted {
    let dim = iota.dims[iota.axis];
    let behind = iota.dims.len() - 1 - iota.axis;
    let dims: Vec<Dim> = std::iter::once(dim).chain(vec![Dim::Fixed(1); behind]).collect();
    if let Some(n) = dim.fixed() {
        let shape = std::iter::once(n).chain(vec![1; behind]).collect::<Vec<_>>();
        let tensor = match iota.dtype {
            dtype if dtype.is_float() => Tensor::from_f64(dtype, shape, |i| i as f64),
            dtype => Tensor::from_i64(dtype, shape, |i| i as i64),
        };
        return Ok(Made { name: e.constant(&tensor), dims });
    }
    let scalar = |i| Tensor::from_i64(DType::I64, Shape::scalar(), |_| i);
    let end = e.extent(dim)?;
    let front = e.integers(&[0]);
    let end = e.node("Squeeze", &[end, front], vec![], about);
    let (zero, one) = (e.constant(&scalar(0)), e.constant(&scalar(1)));
    let mut name = e.node("Range", &[zero, end, one], vec![], about);
    name = e.node("Cast", &[name], vec![int("to", i64::from(data_type(iota.dtype)))], about);
    if behind > 0 {
        let axes: Vec<i64> = (1..=behind as i64).collect();
        let axes = e.integers(&axes);
        name = e.node("Unsqueeze", &[name, axes], vec![], about);
    }
    Ok(Made { name, dims })
}

/// A repeated value stays thin: only new dimensions of extent 1 are put between its own.
fn repeated(e: &mut Emitter<'_>, value: Value, op: &Broadcast, about: &str) -> Emitted {
    let input = e.graph.node(value).inputs[0];
    let made = e.thin(input)?;
    let (rank, from) = (op.dims.len(), op.axes.len());
    let at_the_end = op.axes.iter().enumerate().all(|(i, axis)| *axis == rank - from + i);
    if made.dims.is_empty() || at_the_end {
        return Ok(made);
    }
    let (name, dims) = if made.dims.len() == from {
        (made.name, made.dims)
    } else {
        (e.full(input)?, e.graph.ty(input).dims.clone())
    };
    let new: Vec<usize> = (0..rank).filter(|axis| !op.axes.contains(axis)).collect();
    let list: Vec<i64> = new.iter().map(|axis| *axis as i64).collect();
    let axes = e.integers(&list);
    let mut out = vec![Dim::Fixed(1); rank];
    for (dim, axis) in dims.iter().zip(&op.axes) {
        out[*axis] = *dim;
    }
    if new.is_empty() {
        return Ok(Made { name, dims: out });
    }
    Ok(Made { name: e.node("Unsqueeze", &[name, axes], vec![], about), dims: out })
}

fn padded(e: &mut Emitter<'_>, value: Value, op: &Pad) -> Emitted {
    let node = e.graph.node(value);
    if op.interior > 0 {
        let text = "a `pad` between elements has no operator in ONNX";
        return Err(Diagnostic::new("onnx.export", text).item(&*node.origin).hint(NOT_IN_ONNX));
    }
    let rank = node.ty.rank();
    let mut pads = vec![0i64; 2 * rank];
    (pads[op.axis], pads[rank + op.axis]) = (op.low as i64, op.high as i64);
    let fill = match node.ty.dtype {
        dtype if dtype.is_float() => Tensor::from_f64(dtype, Shape::scalar(), |_| op.value.0),
        dtype => Tensor::from_i64(dtype, Shape::scalar(), |_| op.value.0 as i64),
    };
    let (from, pads, fill) = (e.full(node.inputs[0])?, e.integers(&pads), e.constant(&fill));
    let about = e.about(value);
    let name = e.node("Pad", &[from, pads, fill], vec![text("mode", "constant")], &about);
    Ok(Made { name, dims: node.ty.dims.clone() })
}

/// Both operands of a sum of products, of the type of its result: products in ONNX know no other.
fn factors(e: &mut Emitter<'_>, value: Value) -> Result<[String; 2], Diagnostic> {
    let node = e.graph.node(value);
    let about = e.about(value);
    let mut factor = |from: Value| {
        let name = e.full(from)?;
        if e.graph.ty(from).dtype == node.ty.dtype {
            return Ok(name);
        }
        let to = vec![int("to", i64::from(data_type(node.ty.dtype)))];
        Ok(e.node("Cast", &[name], to, &about))
    };
    Ok([factor(node.inputs[0])?, factor(node.inputs[1])?])
}

/// A matrix product where it is one, `Einsum` where it is more.
fn product(e: &mut Emitter<'_>, value: Value, dot: &Dot) -> Emitted {
    let node = e.graph.node(value);
    let about = e.about(value);
    let [left, right] = [node.inputs[0], node.inputs[1]];
    let (lhs_rank, rhs_rank) = (e.graph.ty(left).rank(), e.graph.ty(right).rank());
    let [lhs, rhs] = factors(e, value)?;
    let name = if let Some(swap) = simple(dot, lhs_rank, rhs_rank) {
        if lhs_rank == 2 && rhs_rank == 2 && node.ty.dtype.is_float() && dot.lhs_contract == [1] && swap {
            e.node("Gemm", &[lhs, rhs], vec![int("transB", 1)], &about)
        } else {
            let swapped = |e: &mut Emitter<'_>, name: String, rank: usize| {
                let axes = (0..rank - 2).chain([rank - 1, rank - 2]);
                e.node("Transpose", &[name], vec![ints("perm", axes)], &about)
            };
            let lhs = if dot.lhs_contract == [lhs_rank - 1] { lhs } else { swapped(e, lhs, lhs_rank) };
            let rhs = if swap { swapped(e, rhs, rhs_rank) } else { rhs };
            e.node("MatMul", &[lhs, rhs], vec![], &about)
        }
    } else {
        e.node("Einsum", &[lhs, rhs], vec![text("equation", &equation(dot, lhs_rank, rhs_rank))], &about)
    };
    Ok(Made { name, dims: node.ty.dims.clone() })
}

/// Whether a product is one of matrices, and if so, whether the last two dimensions of the right one change places.
fn simple(dot: &Dot, lhs_rank: usize, rhs_rank: usize) -> Option<bool> {
    let batch = dot.lhs_batch.len();
    let leading = |axes: &[usize]| axes.iter().enumerate().all(|(i, axis)| i == *axis);
    let ([lhs], [rhs]) = (dot.lhs_contract.as_slice(), dot.rhs_contract.as_slice()) else { return None };
    if !leading(&dot.lhs_batch) || !leading(&dot.rhs_batch) || rhs_rank != batch + 2 || lhs_rank < 2 {
        return None;
    }
    // Without batch dimensions, the left one may have more rows than a matrix.
    let lhs_fits = *lhs == lhs_rank - 1 && (batch == 0 || lhs_rank == batch + 2)
        || *lhs == lhs_rank - 2 && lhs_rank == batch + 2;
    lhs_fits.then_some(*rhs == rhs_rank - 1)
}

/// The product as Einstein's sum.
fn equation(dot: &Dot, lhs_rank: usize, rhs_rank: usize) -> String {
    let mut letters = ('a'..='z').chain('A'..='Z');
    let mut next = || letters.next().unwrap_or('?');
    let lhs: Vec<char> = (0..lhs_rank).map(|_| next()).collect();
    let mut rhs = vec![' '; rhs_rank];
    for (l, r) in
        dot.lhs_batch.iter().zip(&dot.rhs_batch).chain(dot.lhs_contract.iter().zip(&dot.rhs_contract))
    {
        rhs[*r] = lhs[*l];
    }
    rhs.iter_mut().filter(|c| **c == ' ').for_each(|c| *c = next());
    let free = |letters: &[char], batch: &[usize], contract: &[usize]| -> String {
        let is_free = |i: &usize| !batch.contains(i) && !contract.contains(i);
        (0..letters.len()).filter(is_free).map(|i| letters[i]).collect()
    };
    let batch: String = dot.lhs_batch.iter().map(|i| lhs[*i]).collect();
    let out =
        [batch, free(&lhs, &dot.lhs_batch, &dot.lhs_contract), free(&rhs, &dot.rhs_batch, &dot.rhs_contract)];
    let word = |letters: &[char]| letters.iter().collect::<String>();
    format!("{},{}->{}", word(&lhs), word(&rhs), out.concat())
}

/// Strides and padding (top, left, bottom, right).
fn window_attributes(window: &Window) -> Vec<crate::proto::AttributeProto> {
    let [top, bottom, left, right] = window.padding;
    vec![ints("strides", window.strides), ints("pads", [top, left, bottom, right])]
}

fn conv_attributes(conv: &Conv2d) -> Vec<crate::proto::AttributeProto> {
    let mut attributes = window_attributes(&conv.window);
    attributes.extend([ints("dilations", conv.window.dilation), int("group", conv.groups as i64)]);
    attributes
}

/// The gradient of a convolution by its input is the transposed convolution.
fn transposed_convolution(e: &mut Emitter<'_>, value: Value, op: &Conv2dGradInput) -> Emitted {
    let node = e.graph.node(value);
    let kernel = &e.graph.ty(node.inputs[1]).dims;
    let grad = &e.graph.ty(node.inputs[0]).dims;
    let window = &op.conv.window;
    let [top, bottom, left, right] = window.padding;
    let mut more = [0; 2];
    for (i, pads) in [top + bottom, left + right].into_iter().enumerate() {
        let (Some(kernel), Some(rows)) = (kernel[2 + i].fixed(), grad[2 + i].fixed()) else {
            let text = "a transposed convolution of an image whose size depends on the batch";
            return Err(Diagnostic::new("onnx.export", text).item(&*node.origin).hint(NOT_IN_ONNX));
        };
        let least = (rows.max(1) - 1) * window.strides[i] + window.dilation[i] * (kernel - 1) + 1;
        more[i] = (op.image[i] + pads).saturating_sub(least);
    }
    let mut attributes = conv_attributes(&op.conv);
    attributes.push(ints("output_padding", more));
    let operands = factors(e, value)?;
    let about = e.about(value);
    let name = e.node("ConvTranspose", &operands, attributes, &about);
    Ok(Made { name, dims: node.ty.dims.clone() })
}

fn pooled(e: &mut Emitter<'_>, value: Value, pool: &Pool2d) -> Emitted {
    let node = e.graph.node(value);
    let (dims, dtype) = (node.ty.dims.clone(), node.ty.dtype);
    let from = e.full(node.inputs[0])?;
    let about = e.about(value);
    let mut attributes = window_attributes(&pool.window);
    attributes.push(ints("kernel_shape", pool.size));
    let name = match pool.kind {
        PoolKind::Max => e.node("MaxPool", &[from], attributes, &about),
        PoolKind::Sum => {
            attributes.push(int("count_include_pad", 1));
            let mean = e.node("AveragePool", &[from], attributes, &about);
            let area = (pool.size[0] * pool.size[1]) as f64;
            let area = e.constant(&Tensor::from_f64(dtype, Shape::scalar(), |_| area));
            e.node("Mul", &[mean, area], vec![], &about)
        }
    };
    Ok(Made { name, dims })
}
