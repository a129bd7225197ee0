//! Block programs: straight-line code in single assignment over registers that hold one value per element of a loop
//! space. They are what `Map` and `Reduce` run. An interpreter executes each instruction over a block of some
//! hundred elements at a time, so that registers stay in the first-level cache and the cost of interpretation is
//! spread over the block, while each instruction is a vector loop compiled for the SIMD path.

mod code;
mod fold;
mod join;
mod load;
mod math;
mod ops;
mod simd;
mod space;
mod types;

pub(crate) use code::{BLOCK, BlockCode, BlockRun, BlockSource, fill, register_bytes};
pub(crate) use fold::{Fold, LANES};
pub(crate) use load::{MAX_RANK, narrow, walk, widen};
pub(crate) use math::exp;
pub(crate) use ops::round_bf16;
pub(crate) use simd::{Fused, LaneMode, OpFn, Separate, mul_add};
pub(crate) use space::collapse;
use types::check_code;

use outgrow_tensor::{DType, bf16, to_odd};

/// Number of a register: the position of the instruction that defines it.
pub type Reg = usize;

/// A constant of one element type.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Literal {
    Bool(bool),
    U8(u8),
    I32(i32),
    I64(i64),
    BF16(bf16),
    F32(f32),
    F64(f64),
}

impl Literal {
    /// Its element type.
    pub const fn dtype(self) -> DType {
        match self {
            Self::Bool(_) => DType::Bool,
            Self::U8(_) => DType::U8,
            Self::I32(_) => DType::I32,
            Self::I64(_) => DType::I64,
            Self::BF16(_) => DType::BF16,
            Self::F32(_) => DType::F32,
            Self::F64(_) => DType::F64,
        }
    }

    /// `value` as a constant of `dtype`: floats round to nearest even, integers truncate and saturate, `bool` is
    /// whether it is not zero.
    pub fn from_f64(dtype: DType, value: f64) -> Self {
        match dtype {
            DType::Bool => Self::Bool(value != 0.0),
            DType::U8 => Self::U8(value as u8),
            DType::I32 => Self::I32(value as i32),
            DType::I64 => Self::I64(value as i64),
            DType::BF16 => Self::BF16(bf16::from_f32(to_odd(value))),
            DType::F32 => Self::F32(value as f32),
            DType::F64 => Self::F64(value),
        }
    }
}

/// Functions of one value. The result has the operand's type, save for `IsFinite`, which gives `bool`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnaryOp {
    /// `-x`; integers wrap.
    Neg,
    /// `|x|`; integers wrap.
    Abs,
    /// e to the power `x`.
    Exp,
    /// Natural logarithm.
    Log,
    /// Square root, rounded correctly.
    Sqrt,
    /// `1 / sqrt(x)`: both rounded correctly, one after the other.
    Rsqrt,
    /// Hyperbolic tangent.
    Tanh,
    /// Error function.
    Erf,
    /// Largest whole number not above `x`.
    Floor,
    /// Smallest whole number not below `x`.
    Ceil,
    /// Nearest whole number; halves go to the even one.
    Round,
    /// -1, 0 or 1; a zero and NaN are kept.
    Sign,
    /// Sine of radians.
    Sin,
    /// Cosine of radians.
    Cos,
    /// Logical negation of a `bool`.
    Not,
    /// Whether the value is neither infinite nor NaN; always true for integers.
    IsFinite,
}

/// Functions of two values of the same type, which is the result's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    /// Sum; integers wrap.
    Add,
    /// Difference; integers wrap.
    Sub,
    /// Product; integers wrap.
    Mul,
    /// Quotient; integers truncate towards zero, and give 0 when the divisor is 0.
    Div,
    /// The larger; NaN when either is.
    Max,
    /// The smaller; NaN when either is.
    Min,
    /// `a` to the power `b`, as C's `pow`; for integers repeated wrapping products, where a negative exponent gives
    /// the truncated quotient `1 / a^|b|`.
    Pow,
    /// Remainder of the truncated quotient, with the sign of `a`; integers give 0 when the divisor is 0.
    Rem,
    /// Logical and of `bool`s, bitwise and of integers.
    And,
    /// Logical or of `bool`s, bitwise or of integers.
    Or,
}

/// Comparisons of two values of the same type; the result is `bool`. Every comparison with NaN is false, save `Ne`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum CompareOp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// How values are combined by a reduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReduceOp {
    /// Sum; integers wrap. 0 over nothing.
    Sum,
    /// Product; integers wrap. 1 over nothing.
    Prod,
    /// The largest, NaN when any is; any of `bool`s. The lowest value of the type over nothing.
    Max,
    /// The smallest, NaN when any is; all of `bool`s. The highest value of the type over nothing.
    Min,
}

/// One instruction; its register is its position in the code. Operands must be earlier registers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Instr {
    /// The element of input `.0`.
    Load(usize),
    /// In the epilogue of a `Reduce`: the result of reduction `.0`.
    Reduced(usize),
    /// A constant.
    Const(Literal),
    /// The element's index along dimension `dim` of the loop space.
    Iota {
        /// The dimension.
        dim: usize,
        /// Type of the result: any but `bool`; narrow types wrap or round.
        dtype: DType,
    },
    /// A function of one value.
    Unary(UnaryOp, Reg),
    /// A function of two values.
    Binary(BinaryOp, Reg, Reg),
    /// A comparison.
    Compare(CompareOp, Reg, Reg),
    /// `Select(c, a, b)`: `a` where the `bool` `c` is true, else `b`.
    Select(Reg, Reg, Reg),
    /// Conversion: floats round to nearest even, float to integer truncates and saturates (NaN gives 0), integer to
    /// narrower integer wraps, to `bool` is whether it is not zero.
    Cast(Reg, DType),
}
