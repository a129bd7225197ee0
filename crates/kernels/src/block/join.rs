//! Instructions joined in pairs: what the first computes and the second alone reads never leaves the processor's
//! registers. An instruction over a block is bound by the first-level cache, so that a pair takes little longer than
//! one. Each is rounded as by itself.

use super::ops::{Add, Div, Eq, Ge, Gt, Le, Lt, Max, Min, Mul, Ne, Sub, cost_ps, op_fn};
use super::simd::{LaneMode, Lanewise, OpFn, pick};
use super::{BinaryOp, CompareOp, Instr, Literal, Reg};
use crate::path::KernelPath;
use outgrow_tensor::DType;
use std::marker::PhantomData;

/// What a step over a block computes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Op {
    /// An instruction by itself.
    One(Instr),
    /// `second(first(a, b), c)` of f32, or turned, `second(c, first(a, b))`.
    Chain { first: BinaryOp, second: BinaryOp, turned: bool, operands: [Reg; 3] },
    /// `c` where `a` compares with `b` in this way, else `b`.
    Gate { compare: CompareOp, operands: [Reg; 3] },
}

impl Op {
    /// The registers that are read, and how many of the array they are.
    pub fn operands(&self) -> ([Reg; 3], usize) {
        match *self {
            Self::One(instr) => operands(&instr),
            Self::Chain { operands, .. } | Self::Gate { operands, .. } => (operands, 3),
        }
    }

    /// Its loop on a path, where the registers have these types.
    pub fn func(&self, types: &[DType], path: KernelPath) -> OpFn {
        match *self {
            Self::One(instr) => {
                let (operands, _) = operands(&instr);
                op_fn(instr, types[operands[usize::from(matches!(instr, Instr::Select(..)))]], path)
            }
            Self::Chain { first, second, turned, .. } => chain(first, second, turned, path),
            Self::Gate { compare, .. } => gate(compare, path),
        }
    }

    /// Operations on each element.
    pub fn flops(&self) -> u64 {
        if matches!(self, Self::One(_)) { 1 } else { 2 }
    }

    /// Picoseconds per element where the result has this type: as [`cost_ps`].
    pub fn cost_ps(&self, dtype: DType) -> usize {
        match *self {
            Self::One(instr) => cost_ps(&instr, dtype),
            Self::Chain { first, second, operands: [a, b, c], .. } => {
                cost_ps(&Instr::Binary(first, a, b), dtype).max(cost_ps(&Instr::Binary(second, b, c), dtype))
            }
            Self::Gate { operands: [a, b, c], .. } => cost_ps(&Instr::Select(a, b, c), dtype),
        }
    }
}

fn operands(instr: &Instr) -> ([Reg; 3], usize) {
    match *instr {
        Instr::Load(_) | Instr::Reduced(_) | Instr::Const(_) | Instr::Iota { .. } => ([0; 3], 0),
        Instr::Unary(_, a) | Instr::Cast(a, _) => ([a, 0, 0], 1),
        Instr::Binary(_, a, b) | Instr::Compare(_, a, b) => ([a, b, 0], 2),
        Instr::Select(c, a, b) => ([c, a, b], 3),
    }
}

/// What computes each register: nothing where it need not be there. `kept` are read from outside.
pub(super) fn join(code: &[Instr], types: &[DType], kept: impl Iterator<Item = Reg>) -> Vec<Option<Op>> {
    let mut uses = vec![0usize; code.len()];
    // As if read by two, so that none becomes part of another.
    kept.for_each(|reg| uses[reg] += 2);
    for (at, instr) in code.iter().enumerate().rev() {
        let (operands, count) = operands(instr);
        if uses[at] > 0 {
            operands[..count].iter().for_each(|&reg| uses[reg] += 1);
        }
    }
    let mut ops = vec![None; code.len()];
    // From the end, so that a chain of any length falls into pairs.
    for at in (0..code.len()).rev() {
        if uses[at] > 0 {
            let (op, taken) = pair(code, types, &uses, at);
            ops[at] = Some(op);
            if let Some(reg) = taken {
                uses[reg] = 0;
            }
        }
    }
    ops
}

/// The instruction at `at`, together with one of those that it reads where that can be; which one.
fn pair(code: &[Instr], types: &[DType], uses: &[usize], at: Reg) -> (Op, Option<Reg>) {
    let alone = (Op::One(code[at]), None);
    match code[at] {
        Instr::Binary(second, x, y) if types[at] == DType::F32 && is_second(second) => {
            let first = |reg: Reg| match code[reg] {
                Instr::Binary(op, a, b) if uses[reg] == 1 && is_first(op) => Some((op, a, b)),
                _ => None,
            };
            let chain = |(first, a, b), turned, c| Op::Chain { first, second, turned, operands: [a, b, c] };
            match (first(x), first(y)) {
                (Some(inner), _) => (chain(inner, false, y), Some(x)),
                (None, Some(inner)) => (chain(inner, true, x), Some(y)),
                (None, None) => alone,
            }
        }
        Instr::Select(condition, c, other) if is_f32_register(types[at]) => match code[condition] {
            Instr::Compare(compare, a, b)
                if uses[condition] == 1 && is_f32_register(types[a]) && is_same(code, b, other) =>
            {
                (Op::Gate { compare, operands: [a, b, c] }, Some(condition))
            }
            _ => alone,
        },
        _ => alone,
    }
}

fn is_first(op: BinaryOp) -> bool {
    matches!(op, BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div)
}

fn is_second(op: BinaryOp) -> bool {
    is_first(op) || matches!(op, BinaryOp::Max | BinaryOp::Min)
}

fn is_f32_register(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::BF16)
}

/// Whether two registers hold the same bits: they are one, or equal constants.
fn is_same(code: &[Instr], a: Reg, b: Reg) -> bool {
    match (code[a], code[b]) {
        _ if a == b => true,
        (Instr::Const(Literal::F32(a)), Instr::Const(Literal::F32(b))) => a.to_bits() == b.to_bits(),
        (Instr::Const(Literal::BF16(a)), Instr::Const(Literal::BF16(b))) => a.to_bits() == b.to_bits(),
        _ => false,
    }
}

/// `S(F(a, b), c)`.
struct Chain<F, S>(PhantomData<(F, S)>);
/// `O(b, a)`.
struct Turned<O>(PhantomData<O>);
/// `c` where `O(a, b)` is true, else `b`.
struct Gate<O>(PhantomData<O>);

/// A function of two f32.
trait OfTwo<Out>: Lanewise<A = f32, B = f32, C = (), Out = Out> {}
impl<Out, O: Lanewise<A = f32, B = f32, C = (), Out = Out>> OfTwo<Out> for O {}

impl<F: OfTwo<f32>, S: OfTwo<f32>> Lanewise for Chain<F, S> {
    type A = f32;
    type B = f32;
    type C = f32;
    type Out = f32;
    #[inline(always)]
    fn eval<M: LaneMode>(a: f32, b: f32, c: f32) -> f32 {
        S::eval::<M>(F::eval::<M>(a, b, ()), c, ())
    }
}

impl<O: OfTwo<f32>> Lanewise for Turned<O> {
    type A = f32;
    type B = f32;
    type C = ();
    type Out = f32;
    #[inline(always)]
    fn eval<M: LaneMode>(a: f32, b: f32, (): ()) -> f32 {
        O::eval::<M>(b, a, ())
    }
}

impl<O: OfTwo<u8>> Lanewise for Gate<O> {
    type A = f32;
    type B = f32;
    type C = f32;
    type Out = f32;
    #[inline(always)]
    fn eval<M: LaneMode>(a: f32, b: f32, c: f32) -> f32 {
        if O::eval::<M>(a, b, ()) != 0 { c } else { b }
    }
}

/// The loop of a chain. The code was joined here, so that there are no others.
fn chain(first: BinaryOp, second: BinaryOp, turned: bool, path: KernelPath) -> OpFn {
    match first {
        BinaryOp::Add => chain_from::<Add<f32>>(second, turned, path),
        BinaryOp::Sub => chain_from::<Sub<f32>>(second, turned, path),
        BinaryOp::Mul => chain_from::<Mul<f32>>(second, turned, path),
        _ => chain_from::<Div<f32>>(second, turned, path),
    }
}

fn chain_from<F: OfTwo<f32>>(second: BinaryOp, turned: bool, path: KernelPath) -> OpFn {
    fn to<F: OfTwo<f32>, S: OfTwo<f32>>(turned: bool, path: KernelPath) -> OpFn {
        if turned { pick::<Chain<F, Turned<S>>>(path) } else { pick::<Chain<F, S>>(path) }
    }
    match second {
        BinaryOp::Add => to::<F, Add<f32>>(turned, path),
        BinaryOp::Sub => to::<F, Sub<f32>>(turned, path),
        BinaryOp::Mul => to::<F, Mul<f32>>(turned, path),
        BinaryOp::Max => to::<F, Max<f32>>(turned, path),
        BinaryOp::Min => to::<F, Min<f32>>(turned, path),
        _ => to::<F, Div<f32>>(turned, path),
    }
}

fn gate(compare: CompareOp, path: KernelPath) -> OpFn {
    match compare {
        CompareOp::Eq => pick::<Gate<Eq<f32>>>(path),
        CompareOp::Ne => pick::<Gate<Ne<f32>>>(path),
        CompareOp::Lt => pick::<Gate<Lt<f32>>>(path),
        CompareOp::Le => pick::<Gate<Le<f32>>>(path),
        CompareOp::Gt => pick::<Gate<Gt<f32>>>(path),
        CompareOp::Ge => pick::<Gate<Ge<f32>>>(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The code of Adam's update falls into eight steps.
    #[test]
    fn chains_fall_into_pairs() {
        use BinaryOp::{Add, Div, Mul, Sub};
        let binary = |op, a, b| Instr::Binary(op, a, b);
        let weight = |x| Instr::Const(Literal::F32(x));
        let code = [
            Instr::Load(0),
            Instr::Load(1),
            Instr::Load(2),
            Instr::Load(3),
            weight(0.1),
            weight(0.001),
            binary(Sub, 1, 2),
            binary(Mul, 6, 4),
            binary(Add, 2, 7),
            binary(Mul, 1, 1),
            binary(Sub, 9, 3),
            binary(Mul, 10, 5),
            binary(Add, 3, 11),
            Instr::Unary(super::super::UnaryOp::Sqrt, 12),
            binary(Mul, 13, 4),
            binary(Add, 14, 5),
            binary(Div, 8, 15),
            binary(Mul, 4, 16),
            binary(Sub, 0, 17),
        ];
        let ops = join(&code, &[DType::F32; 19], [18, 8, 12].into_iter());
        let computed: Vec<Op> = ops[6..].iter().flatten().copied().collect();
        let chain = |first, second, turned, operands| Op::Chain { first, second, turned, operands };
        let expected = [
            Op::One(binary(Sub, 1, 2)),
            chain(Mul, Add, true, [6, 4, 2]),
            chain(Mul, Sub, false, [1, 1, 3]),
            chain(Mul, Add, true, [10, 5, 3]),
            Op::One(code[13]),
            Op::One(binary(Mul, 13, 4)),
            chain(Add, Div, true, [14, 5, 8]),
            chain(Mul, Sub, true, [4, 16, 0]),
        ];
        assert_eq!(computed, expected);
    }

    #[test]
    fn what_others_read_stays() {
        let zero = Instr::Const(Literal::F32(0.0));
        let minus = Instr::Const(Literal::F32(-0.0));
        let code = [
            Instr::Load(0),
            zero,
            minus,
            Instr::Compare(CompareOp::Gt, 0, 1),
            Instr::Select(3, 0, 1),
            Instr::Binary(BinaryOp::Mul, 4, 4),
            Instr::Binary(BinaryOp::Add, 5, 0),
        ];
        let types = [DType::F32, DType::F32, DType::F32, DType::Bool, DType::F32, DType::F32, DType::F32];
        let ops = join(&code, &types, [6].into_iter());
        assert_eq!(ops[3], None);
        assert_eq!(ops[4], Some(Op::Gate { compare: CompareOp::Gt, operands: [0, 1, 0] }));
        assert_eq!(ops[5], None);
        // The product is stored; zeros of two signs are not the same.
        let mut other = code;
        other[4] = Instr::Select(3, 0, 2);
        let ops = join(&other, &types, [5, 6].into_iter());
        assert!((3..7).all(|reg| ops[reg] == Some(Op::One(other[reg]))));
    }
}
