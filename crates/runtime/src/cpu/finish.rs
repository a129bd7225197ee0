//! Convolutions and matrix products with the group that follows them: a bias, a shortcut and bounds are done to the sums while
//! they are in registers or in the cache.

use super::location::{Location, reshape};
use super::lower::Lowering;
use super::ops::window;
use super::storage::Make;
use outgrow_ir::{Diagnostics, Op, Value};
use outgrow_kernels::{Conv2d, Finish, Kernel, KernelError, Literal, MatMul, Slot, View};
use outgrow_tensor::DType;

/// The first nodes of a group, which are done to the sums of a kernel.
struct Follower {
    nodes: Vec<Value>,
    finish: Finish,
}

/// The sums of a kernel.
pub struct Sums {
    /// Extents of the result, as the kernel sees it.
    pub dims: Vec<usize>,
    /// The dimension along which a bias goes.
    pub axis: usize,
}

/// A kernel that can finish its sums.
pub trait Finishes: Kernel + Sized + 'static {
    /// What the kernel is called.
    const NAME: &'static str;

    /// The kernel with what follows it.
    fn finished(self, finish: Finish) -> Result<Self, KernelError>;
}

macro_rules! finishes {
    ($($kernel:ident $name:literal),*) => {
        $(impl Finishes for $kernel {
            const NAME: &'static str = $name;

            fn finished(self, finish: Finish) -> Result<Self, KernelError> {
                $kernel::finished(self, finish)
            }
        })*
    };
}
finishes!(Conv2d "conv2d", MatMul "matmul");

impl Lowering<'_> {
    /// Lowers a value to a kernel with what follows it, if there is anything that it can finish its sums with.
    pub fn finished<K: Finishes>(
        &mut self,
        value: Value,
        operands: &[View; 2],
        sums: &Sums,
        make: impl FnOnce([View; 3]) -> Result<K, KernelError> + 'static,
    ) -> Result<bool, Diagnostics> {
        let Follower { mut nodes, mut finish } = self.follower(value, sums)?;
        self.without(&nodes);
        let mut last = nodes.last().copied().unwrap_or(value);
        let rounding = self.only_user(last).filter(|user| self.may_stay_wide(*user));
        if let Some(rounding) = rounding {
            // What only convolutions read as bf16 is rounded here and stays f32, which none of them has to widen.
            finish.rounded = true;
            self.without(&[rounding]);
            nodes.push(rounding);
            last = rounding;
        }
        if nodes.is_empty() {
            // What was made ready has a description of its own.
            self.describe(&[value]);
            return Ok(false);
        }
        self.describe(&[&[value], nodes.as_slice()].concat());
        let mut reads = operands.to_vec();
        reads.extend(finish.bias.iter().chain(&finish.residual).cloned());
        let out = if rounding.is_some() {
            let wide = self.fresh(DType::F32, &self.dims(last));
            self.places[last.index()] = Some(Location::View(wide.clone()));
            wide
        } else {
            self.result(last)
        };
        let out = reshape(&out, &sums.dims).expect("invariant: a fresh result is row-major");
        let make: Make = Box::new(move |reads, mut writes| {
            let mut reads = reads.into_iter();
            let mut next = || reads.next().expect("invariant: steps keep the number of their views");
            let kernel = make([next(), next(), writes.swap_remove(0)])?;
            let bias = finish.bias.is_some().then(&mut next);
            let residual = finish.residual.is_some().then(&mut next);
            Ok(Box::new(kernel.finished(Finish { bias, residual, ..finish })?))
        });
        self.emit_sums(K::NAME, reads, out, make);
        Ok(true)
    }

    /// The nodes of the group that reads a value, one after the other, as far as each is alone to read what is before
    /// it, adds or bounds in the order of [`Finish`], and reads nothing else that is not there yet.
    fn follower(&mut self, value: Value, sums: &Sums) -> Result<Follower, Diagnostics> {
        let (low, high) = (f32::NEG_INFINITY, f32::INFINITY);
        let mut finish =
            Finish { bias: None, residual: None, low, zero_is_positive: false, high, rounded: false };
        let (mut last, mut nodes) = (value, Vec::new());
        while let Some(node) = self.only_user(last) {
            let unit = self.unit_of[node.index()];
            let same_group = nodes.first().is_none_or(|first: &Value| self.unit_of[first.index()] == unit);
            let [a, b] = self.graph.node(node).inputs[..] else { break };
            let other = if a == last { b } else { a };
            if !same_group || self.graph.node(node).group.is_none() || a == b || !self.is_ready(other) {
                break;
            }
            self.make_ready(other)?;
            if !add_to(&mut finish, sums, &self.graph.node(node).op, a == last, &self.place(other)) {
                break;
            }
            nodes.push(node);
            last = node;
        }
        Ok(Follower { nodes, finish })
    }

    /// Whether a node rounds f32 to bf16 that only convolutions read, as their images, and no output is.
    pub fn may_stay_wide(&self, value: Value) -> bool {
        let node = self.graph.node(value);
        let is_image = |user: &Value| {
            let user = self.graph.node(*user);
            matches!(user.op, Op::Conv2d(_)) && user.inputs[0] == value && user.inputs[1] != value
        };
        matches!(node.op, Op::Cast(_))
            && node.ty.dtype == DType::BF16
            && self.graph.ty(node.inputs[0]).dtype == DType::F32
            && self.graph.outputs.iter().all(|output| output.value != value)
            && self.users[value.index()].iter().all(is_image)
    }

    /// Takes roundings to bf16 out of the graph whose readers round themselves: convolutions that pack their images anyway.
    pub fn round_where_read(&mut self) {
        for (value, node) in self.graph.iter() {
            let users = self.users[value.index()].clone();
            let rounds = |user: &Value| {
                let Op::Conv2d(op) = &self.graph.node(*user).op else { return false };
                let inputs = &self.graph.node(*user).inputs;
                let view = |dtype, value| View::contiguous(Slot::new(0, 0, 0), dtype, self.dims(value));
                let (x, w) = (view(DType::F32, inputs[0]), view(self.graph.ty(inputs[1]).dtype, inputs[1]));
                let conv = Conv2d::new(x, w, view(DType::F32, *user), window(&op.window), op.groups);
                conv.is_ok_and(|conv| conv.takes_bf16(self.path))
            };
            if !self.may_stay_wide(value) || users.is_empty() || !users.iter().all(rounds) {
                continue;
            }
            let from = node.inputs[0];
            self.without(&[value]);
            self.exported[from.index()] = true;
            let readers = &mut self.users[from.index()];
            readers.retain(|reader| *reader != value);
            readers.extend(users);
            readers.sort_unstable();
            readers.dedup();
            self.wide.insert(value, from);
        }
    }

    /// The only node that reads a value that is no output.
    pub fn only_user(&self, value: Value) -> Option<Value> {
        let is_output = self.graph.outputs.iter().any(|output| output.value == value);
        match self.users[value.index()][..] {
            [user] if !is_output => Some(user),
            _ => None,
        }
    }
}

/// Adds an op on the sums and another value to what is done to them; `first` says whether the sums are its first operand.
/// Says whether that is possible.
fn add_to(finish: &mut Finish, sums: &Sums, op: &Op, first: bool, other: &Location) -> bool {
    let is_bounded = finish.low != f32::NEG_INFINITY || finish.high != f32::INFINITY;
    match (op, other) {
        (Op::Add(_), Location::View(view)) if !is_bounded && finish.residual.is_none() => {
            let Some(view) = reshape(view, &sums.dims) else { return false };
            if finish.bias.is_none()
                && let Some(bias) = bias(&view, sums)
            {
                finish.bias = Some(bias);
                return true;
            }
            let fits = view.is_row_major();
            finish.residual = fits.then_some(view);
            fits
        }
        (Op::Max(_) | Op::Min(_), Location::Splat(Literal::F32(bound))) => {
            // Of two zeros, a maximum or minimum gives the second operand.
            let bound = *bound;
            let second_zero = first && bound == 0.0;
            match op {
                _ if bound.is_nan() => false,
                Op::Max(_) if !(is_bounded || second_zero && bound.is_sign_negative()) => {
                    (finish.low, finish.zero_is_positive) = (bound, second_zero);
                    true
                }
                Op::Min(_) if finish.high == f32::INFINITY && !second_zero => {
                    finish.high = bound;
                    true
                }
                _ => false,
            }
        }
        _ => false,
    }
}

/// What is added to sums as a bias: the same number wherever the index along the axis is the same.
fn bias(view: &View, sums: &Sums) -> Option<View> {
    let (extent, step) = (view.dims[sums.axis], view.strides[sums.axis]);
    let others = view.dims.iter().zip(&view.strides).enumerate().filter(|(d, _)| *d != sums.axis);
    let repeats = others.into_iter().all(|(_, (extent, step))| *extent == 1 || *step == 0);
    let is_last = sums.axis + 1 == view.dims.len();
    // What has no elements may have any strides. Biases of neighbours are read as vectors.
    let fits = view.elements() > 0 && repeats && (!is_last || step == 1 || extent == 1);
    fits.then(|| View { dims: vec![extent], strides: vec![step], ..view.clone() })
}
