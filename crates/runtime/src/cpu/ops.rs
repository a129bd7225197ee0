//! Single ops to kernels.

use super::finish::Sums;
use super::location::{Location, merged, reshape};
use super::lower::Lowering;
use super::storage::Make;
use outgrow_ir::ops::dot::Dot;
use outgrow_ir::{Diagnostic, Diagnostics, Node, Op, OutputRole, Value};
use outgrow_kernels::{
    ArgMax, Attention, AttentionGrad, Conv2d, Conv2dGradInput, Conv2dGradWeight, Gather, Kernel, KernelError,
    Literal, MatMul, MaxPool2dGrad, Pool2d, PoolKind, RandomUniform, ScatterAdd, Slot, View, Window,
};
use outgrow_tensor::DType;

/// A `Make` for a kernel of `N` operands and one result.
fn several<const N: usize, K: Kernel + 'static>(
    make: impl FnOnce([View; N], View) -> Result<K, KernelError> + 'static,
) -> Make {
    Box::new(move |reads, writes| match (<[View; N]>::try_from(reads), <[View; 1]>::try_from(writes)) {
        (Ok(operands), Ok([result])) => Ok(Box::new(make(operands, result)?)),
        _ => unreachable!("invariant: steps keep the number of their views"),
    })
}

pub fn window(w: &outgrow_ir::ops::Window) -> Window {
    Window { strides: w.strides, padding: w.padding, dilation: w.dilation }
}

/// What is told of a node that this backend cannot compute.
pub fn unsupported(node: &Node) -> Diagnostics {
    let problem = format!("the cpu backend has no kernel for `{}`", node.op.rule().name());
    Diagnostic::new("runtime.unsupported", problem)
        .item(node.origin.to_string())
        .hint("take another layer, or the reference backend")
        .into()
}

impl Lowering<'_> {
    /// Lowers a node that is neither fused nor a mere view.
    pub fn node(&mut self, value: Value) -> Result<(), Diagnostics> {
        let node = self.graph.node(value);
        match &node.op {
            Op::Dot(dot) => self.dot(value, dot)?,
            Op::Concat(op) => self.concat(value, op.axis),
            Op::Pad(op) => {
                let number = Literal::from_f64(node.ty.dtype, op.value.0);
                let from = self.view(node.inputs[0]);
                let out = self.result(value);
                self.fill(number, out.clone());
                if from.elements() > 0 {
                    let inner = out.sliced(op.axis, op.low, from.dims[op.axis], op.interior as isize + 1);
                    self.copy(from, inner);
                }
            }
            Op::Conv2d(op) => {
                let (window, groups) = (window(&op.window), op.groups);
                let together = self.is_together();
                let make = move |[x, w, y]: [View; 3]| {
                    let conv = Conv2d::new(x, w, y, window, groups)?;
                    Ok(if together { conv.together() } else { conv })
                };
                let path = self.path;
                let takes_bf16 = |[x, w]: [View; 2], y| {
                    Conv2d::new(x, w, y, window, groups).is_ok_and(|conv| conv.takes_bf16(path))
                };
                let operands = self.multiplied(value, takes_bf16);
                let sums = Sums { dims: self.dims(value), axis: 1 };
                if node.ty.dtype == DType::F32 && self.finished(value, &operands, &sums, make)? {
                    return Ok(());
                }
                self.sums(value, |lowering, y| {
                    let make = several(move |[x, w], y| make([x, w, y]));
                    lowering.emit_sums("conv2d", operands.into(), y, make);
                });
            }
            Op::Conv2dGradInput(op) => {
                let (window, groups) = (window(&op.conv.window), op.conv.groups);
                let together = self.is_together();
                let path = self.path;
                let new = move |[dy, w]: [View; 2], dx| Conv2dGradInput::new(dy, w, dx, window, groups);
                let takes_bf16 = |reads, dx| new(reads, dx).is_ok_and(|conv| conv.takes_bf16(path));
                let operands = self.multiplied(value, takes_bf16);
                self.sums(value, |lowering, dx| {
                    let make = several(move |reads, dx| {
                        let conv = new(reads, dx)?;
                        Ok(if together { conv.together() } else { conv })
                    });
                    lowering.emit_sums("conv2d_grad_input", operands.into(), dx, make);
                });
            }
            Op::Conv2dGradWeight(op) => {
                let (window, groups) = (window(&op.conv.window), op.conv.groups);
                let path = self.path;
                let new = move |[x, dy]: [View; 2], dw| Conv2dGradWeight::new(x, dy, dw, window, groups);
                let takes_bf16 = |reads, dw| new(reads, dw).is_ok_and(|conv| conv.takes_bf16(path));
                let operands = self.multiplied(value, takes_bf16);
                self.sums(value, |lowering, dw| {
                    lowering.emit_sums("conv2d_grad_weight", operands.into(), dw, several(new));
                });
            }
            Op::Pool2d(op) => {
                let kind = match op.kind {
                    outgrow_ir::ops::pool2d::PoolKind::Max => PoolKind::Max,
                    outgrow_ir::ops::pool2d::PoolKind::Sum => PoolKind::Sum,
                };
                let (size, window) = (op.size, window(&op.window));
                self.unary(value, "pool2d", move |x, y| Pool2d::new(kind, x, y, size, window));
            }
            Op::MaxPool2dGrad(op) => {
                let (size, window) = (op.size, window(&op.window));
                self.binary(value, "max_pool2d_grad", move |x, dy, dx| {
                    MaxPool2dGrad::new(x, dy, dx, size, window)
                });
            }
            Op::Attention(op) => {
                let causal = op.causal;
                self.of_widened(value, "attention", move |[q, k, v], y| Attention::new(q, k, v, y, causal));
            }
            Op::AttentionGrad(op) => {
                let causal = op.of.causal;
                self.of_widened(value, "attention_grad", move |[q, k, v, dy], out| {
                    AttentionGrad::new(q, k, v, dy, out, causal)
                });
            }
            Op::Gather(_) => self.binary(value, "gather", Gather::new),
            Op::ScatterAdd(_) => self.binary(value, "scatter_add", ScatterAdd::new),
            Op::ArgMax(op) => {
                let axis = op.axis;
                if self.dims(node.inputs[0])[axis] == 0 {
                    // Of nothing, the reference says the first; a kernel would have no element to start from.
                    let out = self.result(value);
                    self.fill(Literal::from_f64(node.ty.dtype, 0.0), out);
                    return Ok(());
                }
                self.unary(value, "arg_max", move |x, y| ArgMax::new(x, axis, y));
            }
            Op::RandomUniform(op) => {
                let stream = op.stream as u64;
                self.unary(value, "random_uniform", move |key, out| RandomUniform::new(key, out, stream));
            }
            _ => return Err(unsupported(node)),
        }
        Ok(())
    }

    /// Whether rows of the batch always come together: whoever asks for gradients, which are sums over the batch, runs no
    /// part of it alone.
    fn is_together(&self) -> bool {
        self.graph.outputs.iter().any(|output| matches!(output.role, OutputRole::Gradient(_)))
    }

    /// Lowers an op of one operand to one kernel.
    fn unary<K: Kernel + 'static>(
        &mut self,
        value: Value,
        kernel: &str,
        make: impl FnOnce(View, View) -> Result<K, KernelError> + 'static,
    ) {
        let x = self.view(self.graph.node(value).inputs[0]);
        let out = self.result(value);
        self.emit(kernel, vec![x], vec![out], false, several(|[x], y| make(x, y)));
    }

    /// Lowers an op of two operands to one kernel.
    fn binary<K: Kernel + 'static>(
        &mut self,
        value: Value,
        kernel: &str,
        make: impl FnOnce(View, View, View) -> Result<K, KernelError> + 'static,
    ) {
        let (x, y) = (self.graph.node(value).inputs[0], self.graph.node(value).inputs[1]);
        let (x, y) = (self.view(x), self.view(y));
        let out = self.result(value);
        self.emit(kernel, vec![x, y], vec![out], false, several(|[x, y], z| make(x, y, z)));
    }

    /// Lowers an op of `N` operands whose kernel has operands of f32 or f64: bf16 is widened before, which changes no
    /// value.
    fn of_widened<const N: usize, K: Kernel + 'static>(
        &mut self,
        value: Value,
        kernel: &str,
        make: impl FnOnce([View; N], View) -> Result<K, KernelError> + 'static,
    ) {
        let inputs = self.graph.node(value).inputs.clone();
        let widened = |input| {
            let view = self.view(input);
            self.widened(view)
        };
        let operands: Vec<View> = inputs.into_iter().map(widened).collect();
        self.sums(value, |lowering, out| {
            lowering.emit(kernel, operands, vec![out], false, several(make));
        });
    }

    /// The operands of a convolution, whose first one is read as it is before it is rounded to bf16, if it is not rounded
    /// anywhere: they stay bf16 where `takes_bf16` says so of them and the result, and are widened else.
    fn multiplied(&mut self, value: Value, takes_bf16: impl Fn([View; 2], View) -> bool) -> [View; 2] {
        let inputs = self.graph.node(value).inputs.clone();
        let unrounded = self.wide.get(&inputs[0]).copied();
        let operands = [self.view(unrounded.unwrap_or(inputs[0])), self.view(inputs[1])];
        let sums = View::contiguous(Slot::new(0, 0, 0), DType::F32, self.dims(value));
        if takes_bf16(operands.clone(), sums) {
            return operands;
        }
        let [mut x, w] = operands;
        if unrounded.is_some() {
            let narrow = self.fresh(DType::BF16, &x.dims);
            self.convert(x, narrow.clone());
            x = narrow;
        }
        [self.widened(x), self.widened(w)]
    }

    /// A view, of f32 if it is of bf16.
    fn widened(&mut self, view: View) -> View {
        if view.dtype != DType::BF16 {
            return view;
        }
        let wide = self.fresh(DType::F32, &view.dims);
        self.convert(view, wide.clone());
        wide
    }

    /// Emits sums of products straight to the result, or, where that is bf16, as f32 that is then rounded once: no kernel
    /// sums in bf16.
    fn sums(&mut self, value: Value, emit: impl FnOnce(&mut Self, View)) {
        if self.graph.ty(value).dtype != DType::BF16 {
            let out = self.result(value);
            return emit(self, out);
        }
        let sums = self.fresh(DType::F32, &self.dims(value));
        emit(self, sums.clone());
        let out = self.result(value);
        self.convert(sums, out);
    }

    fn concat(&mut self, value: Value, axis: usize) {
        let node = self.graph.node(value);
        let out = self.result(value);
        let mut start = 0;
        for input in &node.inputs {
            let count = self.dims(*input)[axis];
            let part = out.sliced(axis, start, count, 1);
            start += count;
            match self.place(*input) {
                _ if part.elements() == 0 => {}
                Location::View(view) => self.copy(view, part),
                Location::Splat(number) => self.fill(number, part),
            }
        }
    }

    /// An operand with its dimensions as [batch…, rows, columns], copied only if strides cannot express that.
    fn matrix(&mut self, value: Value, batch: &[usize], rows: &[usize], columns: &[usize]) -> View {
        let view = self.view(value);
        let mut parts: Vec<&[usize]> = batch.iter().map(std::slice::from_ref).collect();
        parts.extend([rows, columns]);
        merged(&view, &parts).unwrap_or_else(|| {
            let copy = self.copied(&view.permuted(&parts.concat()));
            let extent = |part: &&[usize]| part.iter().map(|d| view.dims[*d]).product();
            let dims: Vec<usize> = parts.iter().map(extent).collect();
            View::contiguous(copy.slot, copy.dtype, dims)
        })
    }

    fn dot(&mut self, value: Value, dot: &Dot) -> Result<(), Diagnostics> {
        let (x, y) = (self.graph.node(value).inputs[0], self.graph.node(value).inputs[1]);
        let (x_free, y_free) = dot.free(self.dims(x).len(), self.dims(y).len());
        // Both operands must walk the contracted dimensions in one order: that of the operand with the more of them
        // in place, which is the left one's own order.
        let mut pairs: Vec<(usize, usize)> =
            dot.lhs_contract.iter().copied().zip(dot.rhs_contract.iter().copied()).collect();
        pairs.sort_unstable();
        let (x_inner, y_inner): (Vec<usize>, Vec<usize>) = pairs.into_iter().unzip();
        let a = self.matrix(x, &dot.lhs_batch, &x_free, &x_inner);
        let b = self.matrix(y, &dot.rhs_batch, &y_inner, &y_free);
        let mut dims = a.dims[..dot.lhs_batch.len()].to_vec();
        dims.extend([a.dims[dot.lhs_batch.len()], b.dims[dot.lhs_batch.len() + 1]]);
        let sums = Sums { axis: dims.len() - 1, dims };
        let make = |[a, b, c]: [View; 3]| MatMul::new(a, b, c);
        if self.graph.ty(value).dtype == DType::F32
            && self.finished(value, &[a.clone(), b.clone()], &sums, make)?
        {
            return Ok(());
        }
        self.sums(value, |lowering, out| {
            let c = reshape(&out, &sums.dims).expect("invariant: a fresh result is row-major");
            lowering.emit_sums("matmul", vec![a, b], c, several(|[a, b], c| MatMul::new(a, b, c)));
        });
        Ok(())
    }
}
