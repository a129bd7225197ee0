//! The types of a block program's registers, and the checks that make one valid.

use super::{BinaryOp, Instr, Reg, UnaryOp};
use crate::error::KernelError;
use outgrow_tensor::DType;

/// The element type of every register, or what is wrong. `inputs` are the types of the inputs, `reduced` those of
/// the reduced values (empty outside epilogues), `rank` that of the loop space.
pub(crate) fn check_code(
    kernel: &'static str,
    code: &[Instr],
    inputs: &[DType],
    reduced: &[DType],
    rank: usize,
) -> Result<Vec<DType>, KernelError> {
    let mut types: Vec<DType> = Vec::with_capacity(code.len());
    for (at, instr) in code.iter().enumerate() {
        let fail = |what: String| -> Result<DType, KernelError> {
            Err(KernelError::operand(kernel, format!("instruction {at} ({instr:?}): {what}")))
        };
        let of = |reg: Reg| {
            types.get(reg).map_or_else(|| fail(format!("there is no register {reg} yet")), |&t| Ok(t))
        };
        let same = |a: Reg, b: Reg| {
            let (x, y) = (of(a)?, of(b)?);
            if x == y { Ok(x) } else { fail(format!("operands are {x} and {y}")) }
        };
        let wants = |found: DType, allowed: bool, what: &str| {
            if allowed { Ok(()) } else { Err(KernelError::dtype(kernel, format!("{instr:?}"), found, what)) }
        };
        let result = match *instr {
            Instr::Load(i) => match inputs.get(i) {
                Some(&t) => t,
                None => fail(format!("there are {} inputs", inputs.len()))?,
            },
            Instr::Reduced(i) => match reduced.get(i) {
                Some(&t) => t,
                None => fail(format!("there are {} reduced values", reduced.len()))?,
            },
            Instr::Const(literal) => literal.dtype(),
            Instr::Iota { dim, dtype } => {
                if dim >= rank {
                    fail(format!("the loop space has {rank} dimensions"))?;
                }
                wants(dtype, dtype != DType::Bool, "a number")?;
                dtype
            }
            Instr::Unary(op, a) => {
                let t = of(a)?;
                match op {
                    UnaryOp::Not => wants(t, t == DType::Bool, "bool")?,
                    UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Sign | UnaryOp::IsFinite => {
                        wants(t, t != DType::Bool, "a number")?;
                    }
                    _ => wants(t, t.is_float(), "a floating point type")?,
                }
                if op == UnaryOp::IsFinite { DType::Bool } else { t }
            }
            Instr::Binary(op, a, b) => {
                let t = same(a, b)?;
                match op {
                    BinaryOp::And | BinaryOp::Or => wants(t, !t.is_float(), "bool or an integer")?,
                    BinaryOp::Max | BinaryOp::Min => {}
                    _ => wants(t, t != DType::Bool, "a number")?,
                }
                t
            }
            Instr::Compare(_, a, b) => same(a, b).map(|_| DType::Bool)?,
            Instr::Select(c, a, b) => {
                let t = of(c)?;
                wants(t, t == DType::Bool, "a bool condition")?;
                same(a, b)?
            }
            Instr::Cast(a, to) => of(a).map(|_| to)?,
        };
        types.push(result);
    }
    Ok(types)
}
