//! Convolutions with the group that follows them: a bias, a shortcut and bounds are done to the sums while they are in
//! registers or in the cache.

use super::location::Location;
use super::lower::Lowering;
use super::storage::Make;
use outgrow_ir::{Diagnostics, Op, Value};
use outgrow_kernels::{Conv2d, Finish, KernelError, Literal, View};
use outgrow_tensor::DType;

/// A group that is done to the sums of a convolution.
struct Follower {
    unit: usize,
    /// What it computes.
    last: Value,
    finish: Finish,
}

impl Lowering<'_> {
    /// Lowers a convolution, with the group that follows it if there is one that it can finish its sums with.
    pub fn finished(
        &mut self,
        value: Value,
        [x, weight]: [View; 2],
        make: impl FnOnce([View; 3]) -> Result<Conv2d, KernelError> + 'static,
    ) -> Result<bool, Diagnostics> {
        let Some(Follower { unit, last, finish }) = self.follower(value)? else { return Ok(false) };
        self.is_done(unit);
        self.describe(&[&[value], self.units[unit].clone().as_slice()].concat());
        let mut reads = vec![x, weight];
        reads.extend(finish.bias.iter().chain(&finish.residual).cloned());
        let out = self.result(last);
        let make: Make = Box::new(move |reads, mut writes| {
            let mut reads = reads.into_iter();
            let mut next = || reads.next().expect("invariant: steps keep the number of their views");
            let conv = make([next(), next(), writes.swap_remove(0)])?;
            let bias = finish.bias.is_some().then(&mut next);
            let residual = finish.residual.is_some().then(&mut next);
            Ok(Box::new(conv.finished(Finish { bias, residual, ..finish })?))
        });
        self.emit("conv2d", reads, vec![out], false, make);
        Ok(true)
    }

    /// The group that alone reads a convolution, if it adds and bounds only, in the order of [`Finish`], and reads nothing
    /// else that is not there yet.
    fn follower(&mut self, value: Value) -> Result<Option<Follower>, Diagnostics> {
        let Some(unit) = self.only_user(value).map(|user| self.unit_of[user.index()]) else {
            return Ok(None);
        };
        let nodes = self.units[unit].clone();
        if self.graph.ty(value).dtype != DType::F32 || self.graph.node(nodes[0]).group.is_none() {
            return Ok(None);
        }
        // A chain of nodes, each the only one that reads what is before it, with what else they read.
        let (mut last, mut others) = (value, Vec::new());
        for node in &nodes {
            let inputs = &self.graph.node(*node).inputs;
            let other = match inputs.as_slice() {
                [a, b] if (*a == last) != (*b == last) => {
                    if *a == last {
                        *b
                    } else {
                        *a
                    }
                }
                _ => return Ok(None),
            };
            if self.only_user(last) != Some(*node) || !self.is_ready(other) {
                return Ok(None);
            }
            others.push((*node, inputs[0] == last, other));
            last = *node;
        }
        others.iter().try_for_each(|(.., other)| self.make_ready(*other))?;
        let (low, high) = (f32::NEG_INFINITY, f32::INFINITY);
        let mut finish = Finish { bias: None, residual: None, low, zero_is_positive: false, high };
        let fits = others.iter().all(|(node, first, other)| {
            self.add_to(&mut finish, &self.graph.node(*node).op, *first, &self.place(*other))
        });
        Ok(fits.then_some(Follower { unit, last, finish }))
    }

    /// Adds an op on the sums and another value to what is done to them; `first` says whether the sums are its first operand.
    /// Says whether that is possible.
    fn add_to(&self, finish: &mut Finish, op: &Op, first: bool, other: &Location) -> bool {
        let is_bounded = finish.low != f32::NEG_INFINITY || finish.high != f32::INFINITY;
        match (op, other) {
            (Op::Add(_), Location::View(view)) if !is_bounded && finish.residual.is_none() => {
                if let [0, step, 0, 0] = view.strides[..]
                    && finish.bias.is_none()
                {
                    let (dims, strides) = (vec![view.dims[1]], vec![step]);
                    finish.bias = Some(View { dims, strides, ..view.clone() });
                    return true;
                }
                finish.residual = Some(view.clone());
                view.dims.len() == 4 && view.is_row_major()
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

    /// The only node that reads a value that is no output.
    fn only_user(&self, value: Value) -> Option<Value> {
        let is_output = self.graph.outputs.iter().any(|output| output.value == value);
        match self.users[value.index()][..] {
            [user] if !is_output => Some(user),
            _ => None,
        }
    }
}
