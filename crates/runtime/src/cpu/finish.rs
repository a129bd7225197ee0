//! Convolutions with the group that follows them: a bias, a shortcut and bounds are done to the sums while they are in
//! registers or in the cache.

use super::location::Location;
use super::lower::Lowering;
use super::storage::Make;
use outgrow_ir::{Diagnostics, Op, Value};
use outgrow_kernels::{Conv2d, Finish, KernelError, Literal, View};

/// The first nodes of a group, which are done to the sums of a convolution.
struct Follower {
    nodes: Vec<Value>,
    finish: Finish,
}

impl Lowering<'_> {
    /// Lowers a convolution with what follows it, if there is anything that it can finish its sums with.
    pub fn finished(
        &mut self,
        value: Value,
        operands: &[View; 2],
        make: impl FnOnce([View; 3]) -> Result<Conv2d, KernelError> + 'static,
    ) -> Result<bool, Diagnostics> {
        let Follower { nodes, finish } = self.follower(value)?;
        let Some(last) = nodes.last() else {
            // What was made ready has a description of its own.
            self.describe(&[value]);
            return Ok(false);
        };
        self.without(&nodes);
        self.describe(&[&[value], nodes.as_slice()].concat());
        let mut reads = operands.to_vec();
        reads.extend(finish.bias.iter().chain(&finish.residual).cloned());
        let out = self.result(*last);
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

    /// The nodes of the group that reads a convolution, one after the other, as far as each is alone to read what is before
    /// it, adds or bounds in the order of [`Finish`], and reads nothing else that is not there yet.
    fn follower(&mut self, value: Value) -> Result<Follower, Diagnostics> {
        let (low, high) = (f32::NEG_INFINITY, f32::INFINITY);
        let mut finish = Finish { bias: None, residual: None, low, zero_is_positive: false, high };
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
            if !self.add_to(&mut finish, &self.graph.node(node).op, a == last, &self.place(other)) {
                break;
            }
            nodes.push(node);
            last = node;
        }
        Ok(Follower { nodes, finish })
    }

    /// Adds an op on the sums and another value to what is done to them; `first` says whether the sums are its first operand.
    /// Says whether that is possible.
    fn add_to(&self, finish: &mut Finish, op: &Op, first: bool, other: &Location) -> bool {
        let is_bounded = finish.low != f32::NEG_INFINITY || finish.high != f32::INFINITY;
        match (op, other) {
            (Op::Add(_), Location::View(view)) if !is_bounded && finish.residual.is_none() => {
                // What has no elements may have any strides, and no number for a channel.
                if let [0, step, 0, 0] = view.strides[..]
                    && finish.bias.is_none()
                    && view.elements() > 0
                {
                    let (dims, strides) = (vec![view.dims[1]], vec![step]);
                    finish.bias = Some(View { dims, strides, ..view.clone() });
                    return true;
                }
                let fits = view.dims.len() == 4 && view.is_row_major();
                finish.residual = fits.then(|| view.clone());
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

    /// The only node that reads a value that is no output.
    fn only_user(&self, value: Value) -> Option<Value> {
        let is_output = self.graph.outputs.iter().any(|output| output.value == value);
        match self.users[value.index()][..] {
            [user] if !is_output => Some(user),
            _ => None,
        }
    }
}
