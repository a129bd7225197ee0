//! The vector loops of all instructions, by element type and SIMD path.

use super::load::{narrow, widen};
use super::math;
use super::simd::{LaneMode, Lanewise, OpFn, pick, plain};
use super::{BinaryOp, CompareOp, Instr, UnaryOp};
use crate::path::{KernelPath, by_vectors};
use outgrow_tensor::{DType, to_odd};
use std::marker::PhantomData;

/// Arithmetic that every register type but `bool` has, with the meaning that the instructions document.
pub(crate) trait Number: Copy + PartialOrd {
    fn add(self, o: Self) -> Self;
    fn sub(self, o: Self) -> Self;
    fn mul(self, o: Self) -> Self;
    fn div(self, o: Self) -> Self;
    fn rem(self, o: Self) -> Self;
    fn pow<M: LaneMode>(self, o: Self) -> Self;
    fn max(self, o: Self) -> Self;
    fn min(self, o: Self) -> Self;
    fn and(self, o: Self) -> Self;
    fn or(self, o: Self) -> Self;
    fn neg(self) -> Self;
    fn abs(self) -> Self;
    fn sign(self) -> Self;
    fn is_finite(self) -> bool;
}

macro_rules! float {
    ($t:ty, $rem:path, $pow:expr) => {
        impl Number for $t {
            #[inline(always)]
            fn add(self, o: Self) -> Self {
                self + o
            }
            #[inline(always)]
            fn sub(self, o: Self) -> Self {
                self - o
            }
            #[inline(always)]
            fn mul(self, o: Self) -> Self {
                self * o
            }
            #[inline(always)]
            fn div(self, o: Self) -> Self {
                self / o
            }
            #[inline(always)]
            fn rem(self, o: Self) -> Self {
                $rem(self, o)
            }
            #[inline(always)]
            fn pow<M: LaneMode>(self, o: Self) -> Self {
                $pow(self, o)
            }
            #[inline(always)]
            fn max(self, o: Self) -> Self {
                if self > o || self.is_nan() { self } else { o }
            }
            #[inline(always)]
            fn min(self, o: Self) -> Self {
                if self < o || self.is_nan() { self } else { o }
            }
            #[inline(always)]
            fn and(self, _o: Self) -> Self {
                self
            }
            #[inline(always)]
            fn or(self, _o: Self) -> Self {
                self
            }
            #[inline(always)]
            fn neg(self) -> Self {
                -self
            }
            #[inline(always)]
            fn abs(self) -> Self {
                <$t>::abs(self)
            }
            #[inline(always)]
            fn sign(self) -> Self {
                if self > 0.0 {
                    1.0
                } else if self < 0.0 {
                    -1.0
                } else {
                    self
                }
            }
            #[inline(always)]
            fn is_finite(self) -> bool {
                <$t>::is_finite(self)
            }
        }
    };
}
float!(f32, libm::fmodf, math::pow::<M>);
float!(f64, libm::fmod, libm::pow);

macro_rules! integer {
    ($t:ty, $abs:expr, $sign:expr, $is_negative:expr) => {
        impl Number for $t {
            #[inline(always)]
            fn add(self, o: Self) -> Self {
                self.wrapping_add(o)
            }
            #[inline(always)]
            fn sub(self, o: Self) -> Self {
                self.wrapping_sub(o)
            }
            #[inline(always)]
            fn mul(self, o: Self) -> Self {
                self.wrapping_mul(o)
            }
            #[inline(always)]
            fn div(self, o: Self) -> Self {
                if o == 0 { 0 } else { self.wrapping_div(o) }
            }
            #[inline(always)]
            fn rem(self, o: Self) -> Self {
                if o == 0 { 0 } else { self.wrapping_rem(o) }
            }
            #[inline(always)]
            fn pow<M: LaneMode>(self, o: Self) -> Self {
                let (mut result, mut base, mut left) = (1, self, o);
                if $is_negative(o) {
                    // 1 / a^|b| is whole only for a = 1 and a = -1; for those the sign of b does not matter.
                    if self != 1 && self.wrapping_add(1) != 0 {
                        return 0;
                    }
                    left = o & 1;
                }
                while left != 0 {
                    if left & 1 == 1 {
                        result = <$t>::wrapping_mul(result, base);
                    }
                    base = base.wrapping_mul(base);
                    left >>= 1;
                }
                result
            }
            #[inline(always)]
            fn max(self, o: Self) -> Self {
                Ord::max(self, o)
            }
            #[inline(always)]
            fn min(self, o: Self) -> Self {
                Ord::min(self, o)
            }
            #[inline(always)]
            fn and(self, o: Self) -> Self {
                self & o
            }
            #[inline(always)]
            fn or(self, o: Self) -> Self {
                self | o
            }
            #[inline(always)]
            fn neg(self) -> Self {
                self.wrapping_neg()
            }
            #[inline(always)]
            fn abs(self) -> Self {
                $abs(self)
            }
            #[inline(always)]
            fn sign(self) -> Self {
                $sign(self)
            }
            #[inline(always)]
            fn is_finite(self) -> bool {
                true
            }
        }
    };
}
integer!(u8, |x| x, |x: u8| u8::from(x != 0), |_| false);
integer!(i32, i32::wrapping_abs, i32::signum, |x: i32| x < 0);
integer!(i64, i64::wrapping_abs, i64::signum, |x: i64| x < 0);

/// Declares types that stand for one expression each, generic over the element type where `<T>` is given.
macro_rules! lanes {
    ($($name:ident<T> ($a:ident $(, $b:ident)?) -> $out:ty = $body:expr;)*) => {$(
        pub(super) struct $name<T>(PhantomData<T>);
        impl<T: Number> Lanewise for $name<T> {
            type A = T;
            type B = lanes!(@second $($b T)?);
            type C = ();
            type Out = $out;
            #[inline(always)]
            fn eval<M: LaneMode>($a: T, _second: Self::B, (): ()) -> $out {
                $(let $b = _second;)?
                $body
            }
        }
    )*};
    (@second $b:ident $t:ty) => { $t };
    (@second) => { () };
}
lanes! {
    Add<T>(a, b) -> T = a.add(b);
    Sub<T>(a, b) -> T = a.sub(b);
    Mul<T>(a, b) -> T = a.mul(b);
    Div<T>(a, b) -> T = a.div(b);
    Rem<T>(a, b) -> T = a.rem(b);
    Pow<T>(a, b) -> T = a.pow::<M>(b);
    Max<T>(a, b) -> T = a.max(b);
    Min<T>(a, b) -> T = a.min(b);
    And<T>(a, b) -> T = a.and(b);
    Or<T>(a, b) -> T = a.or(b);
    Eq<T>(a, b) -> u8 = u8::from(a == b);
    Ne<T>(a, b) -> u8 = u8::from(a != b);
    Lt<T>(a, b) -> u8 = u8::from(a < b);
    Le<T>(a, b) -> u8 = u8::from(a <= b);
    Gt<T>(a, b) -> u8 = u8::from(a > b);
    Ge<T>(a, b) -> u8 = u8::from(a >= b);
    Neg<T>(a) -> T = a.neg();
    Abs<T>(a) -> T = a.abs();
    Sign<T>(a) -> T = a.sign();
    IsFinite<T>(a) -> u8 = u8::from(a.is_finite());
}

/// Declares types that stand for one function of one float each.
macro_rules! float_lanes {
    ($($name:ident ($a:ident: $t:ty) = $body:expr;)*) => {$(
        struct $name;
        impl Lanewise for $name {
            type A = $t;
            type B = ();
            type C = ();
            type Out = $t;
            #[inline(always)]
            fn eval<M: LaneMode>($a: $t, (): (), (): ()) -> $t { $body }
        }
    )*};
}
float_lanes! {
    Exp32(a: f32) = math::exp::<M>(a);
    Log32(a: f32) = math::log::<M>(a);
    Sqrt32(a: f32) = a.sqrt();
    Rsqrt32(a: f32) = 1.0 / a.sqrt();
    Tanh32(a: f32) = math::tanh::<M>(a);
    Erf32(a: f32) = math::erf::<M>(a);
    Floor32(a: f32) = a.floor();
    Ceil32(a: f32) = a.ceil();
    Round32(a: f32) = a.round_ties_even();
    Exp64(a: f64) = libm::exp(a);
    Log64(a: f64) = libm::log(a);
    Sqrt64(a: f64) = a.sqrt();
    Rsqrt64(a: f64) = 1.0 / a.sqrt();
    Tanh64(a: f64) = libm::tanh(a);
    Erf64(a: f64) = libm::erf(a);
    Floor64(a: f64) = a.floor();
    Ceil64(a: f64) = a.ceil();
    Round64(a: f64) = a.round_ties_even();
    Sin64(a: f64) = libm::sin(a);
    Cos64(a: f64) = libm::cos(a);
}

/// Declares the two functions of angles, which large angles compute otherwise.
macro_rules! angle_lanes {
    ($($name:ident = $fast:ident, $large:ident;)*) => {$(
        struct $name;
        impl Lanewise for $name {
            type A = f32;
            type B = ();
            type C = ();
            type Out = f32;
            const HAS_RARE: bool = true;
            #[inline(always)]
            fn eval<M: LaneMode>(a: f32, (): (), (): ()) -> f32 {
                math::$fast::<M>(a)
            }
            #[inline(always)]
            fn is_rare(a: f32) -> bool {
                a.abs() >= math::LARGE_ANGLE
            }
            fn rare(a: f32, (): (), (): ()) -> f32 {
                math::$large(a)
            }
        }
    )*};
}
angle_lanes! {
    Sin32 = sin, sin_large;
    Cos32 = cos, cos_large;
}

struct Not;
impl Lanewise for Not {
    type A = u8;
    type B = ();
    type C = ();
    type Out = u8;
    #[inline(always)]
    fn eval<M: LaneMode>(a: u8, (): (), (): ()) -> u8 {
        u8::from(a == 0)
    }
}

struct Select<T>(PhantomData<T>);
impl<T: Copy> Lanewise for Select<T> {
    type A = u8;
    type B = T;
    type C = T;
    type Out = T;
    #[inline(always)]
    fn eval<M: LaneMode>(c: u8, a: T, b: T) -> T {
        if c != 0 { a } else { b }
    }
}

/// Conversions between register types, as Rust's `as`.
pub(super) struct Cast<A, R>(PhantomData<(A, R)>);
struct ToBool<A>(PhantomData<A>);
macro_rules! casts {
    ($($a:ty => $($r:ty),*;)*) => {$(
        $(impl Lanewise for Cast<$a, $r> {
            type A = $a;
            type B = ();
            type C = ();
            type Out = $r;
            #[inline(always)]
            fn eval<M: LaneMode>(a: $a, (): (), (): ()) -> $r { a as $r }
        })*
        impl Lanewise for ToBool<$a> {
            type A = $a;
            type B = ();
            type C = ();
            type Out = u8;
            #[inline(always)]
            fn eval<M: LaneMode>(a: $a, (): (), (): ()) -> u8 { u8::from(a != (0 as $a)) }
        }
    )*};
}
casts! {
    u8 => u8, i32, i64, f32, f64;
    i32 => u8, i32, i64, f32, f64;
    i64 => u8, i32, i64, f32, f64;
    f32 => u8, i32, i64, f32, f64;
    f64 => u8, i32, i64, f32, f64;
}

/// Conversions to f32 on the way to bf16, of types of which f32 does not hold every value.
struct CastOdd<A>(PhantomData<A>);
macro_rules! odd_casts {
    ($($a:ty),*) => {$(
        impl Lanewise for CastOdd<$a> {
            type A = $a;
            type B = ();
            type C = ();
            type Out = f32;
            #[inline(always)]
            fn eval<M: LaneMode>(a: $a, (): (), (): ()) -> f32 { to_odd(a as f64) }
        }
    )*};
}
odd_casts!(i32, i64, f64);

/// Rounds `n` registers of f32 to bf16 in place.
///
/// # Safety
/// There are as many.
#[inline(always)]
unsafe fn round(block: *mut u8, n: usize) {
    // SAFETY: the caller's contract.
    let block = unsafe { std::slice::from_raw_parts_mut(block.cast::<f32>(), n) };
    block.iter_mut().for_each(|x| *x = widen(narrow(*x)));
}

by_vectors! {
    /// The loop that rounds a register to bf16 in place; only the result's pointer is used.
    pub(crate) fn round_bf16 -> fn(dst: *mut u8, _a: *const u8, _b: *const u8, _c: *const u8, n: usize);
    portable round(dst, n);
    avx2 round(dst, n);
    avx512 round(dst, n);
}

/// Whether an instruction on bf16 values gives a bf16 value without rounding.
pub(crate) fn is_exact(instr: &Instr) -> bool {
    matches!(
        instr,
        Instr::Load(_)
            | Instr::Const(_)
            | Instr::Iota { .. }
            | Instr::Select(..)
            | Instr::Unary(UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Sign, _)
            | Instr::Binary(BinaryOp::Max | BinaryOp::Min, ..)
    )
}

/// Runs `$body` with `$t` standing for the register type of `$dtype`.
macro_rules! with_register {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            DType::Bool | DType::U8 => {
                type $t = u8;
                $body
            }
            DType::I32 => {
                type $t = i32;
                $body
            }
            DType::I64 => {
                type $t = i64;
                $body
            }
            DType::BF16 | DType::F32 => {
                type $t = f32;
                $body
            }
            DType::F64 => {
                type $t = f64;
                $body
            }
        }
    };
}
pub(crate) use with_register;

/// The loop of an instruction, by the type of its (last) operand. The code was checked, so that every combination
/// that can occur is meaningful.
pub(crate) fn op_fn(instr: Instr, dtype: DType, path: KernelPath) -> OpFn {
    match instr {
        Instr::Unary(op, _) => unary(op, dtype, path),
        Instr::Binary(op, ..) => with_register!(dtype, T => binary::<T>(op, dtype, path)),
        Instr::Compare(op, ..) => with_register!(dtype, T => compare::<T>(op, path)),
        Instr::Select(..) => with_register!(dtype, T => pick::<Select<T>>(path)),
        Instr::Cast(_, DType::Bool) => with_register!(dtype, A => pick::<ToBool<A>>(path)),
        Instr::Cast(_, DType::BF16) if dtype == DType::I32 => pick::<CastOdd<i32>>(path),
        Instr::Cast(_, DType::BF16) if dtype == DType::I64 => pick::<CastOdd<i64>>(path),
        Instr::Cast(_, DType::BF16) if dtype == DType::F64 => pick::<CastOdd<f64>>(path),
        Instr::Cast(_, to) => with_register!(dtype, A => with_register!(to, R => pick::<Cast<A, R>>(path))),
        Instr::Load(_) | Instr::Reduced(_) | Instr::Const(_) | Instr::Iota { .. } => plain::<Not>(),
    }
}

fn unary(op: UnaryOp, dtype: DType, path: KernelPath) -> OpFn {
    let double = dtype == DType::F64;
    match op {
        UnaryOp::Neg => with_register!(dtype, T => pick::<Neg<T>>(path)),
        UnaryOp::Abs => with_register!(dtype, T => pick::<Abs<T>>(path)),
        UnaryOp::Sign => with_register!(dtype, T => pick::<Sign<T>>(path)),
        UnaryOp::IsFinite => with_register!(dtype, T => pick::<IsFinite<T>>(path)),
        UnaryOp::Not => pick::<Not>(path),
        UnaryOp::Exp if double => plain::<Exp64>(),
        UnaryOp::Exp => pick::<Exp32>(path),
        UnaryOp::Log if double => plain::<Log64>(),
        UnaryOp::Log => pick::<Log32>(path),
        UnaryOp::Sqrt if double => pick::<Sqrt64>(path),
        UnaryOp::Sqrt => pick::<Sqrt32>(path),
        UnaryOp::Rsqrt if double => pick::<Rsqrt64>(path),
        UnaryOp::Rsqrt => pick::<Rsqrt32>(path),
        UnaryOp::Tanh if double => plain::<Tanh64>(),
        UnaryOp::Tanh => pick::<Tanh32>(path),
        UnaryOp::Erf if double => plain::<Erf64>(),
        UnaryOp::Erf => pick::<Erf32>(path),
        UnaryOp::Floor if double => pick::<Floor64>(path),
        UnaryOp::Floor => pick::<Floor32>(path),
        UnaryOp::Ceil if double => pick::<Ceil64>(path),
        UnaryOp::Ceil => pick::<Ceil32>(path),
        UnaryOp::Round if double => pick::<Round64>(path),
        UnaryOp::Round => pick::<Round32>(path),
        UnaryOp::Sin if double => plain::<Sin64>(),
        UnaryOp::Sin => pick::<Sin32>(path),
        UnaryOp::Cos if double => plain::<Cos64>(),
        UnaryOp::Cos => pick::<Cos32>(path),
    }
}

fn binary<T: Number>(op: BinaryOp, dtype: DType, path: KernelPath) -> OpFn {
    match op {
        BinaryOp::Add => pick::<Add<T>>(path),
        BinaryOp::Sub => pick::<Sub<T>>(path),
        BinaryOp::Mul => pick::<Mul<T>>(path),
        BinaryOp::Div => pick::<Div<T>>(path),
        BinaryOp::Rem => plain::<Rem<T>>(),
        BinaryOp::Pow if dtype == DType::F32 || dtype == DType::BF16 => pick::<Pow<T>>(path),
        BinaryOp::Pow => plain::<Pow<T>>(),
        BinaryOp::Max => pick::<Max<T>>(path),
        BinaryOp::Min => pick::<Min<T>>(path),
        BinaryOp::And => pick::<And<T>>(path),
        BinaryOp::Or => pick::<Or<T>>(path),
    }
}

fn compare<T: Number>(op: CompareOp, path: KernelPath) -> OpFn {
    match op {
        CompareOp::Eq => pick::<Eq<T>>(path),
        CompareOp::Ne => pick::<Ne<T>>(path),
        CompareOp::Lt => pick::<Lt<T>>(path),
        CompareOp::Le => pick::<Le<T>>(path),
        CompareOp::Gt => pick::<Gt<T>>(path),
        CompareOp::Ge => pick::<Ge<T>>(path),
    }
}

/// Picoseconds per element of an instruction whose result has type `dtype`: rough, for deciding whether threads pay.
pub(crate) fn cost_ps(instr: &Instr, dtype: DType) -> usize {
    let wide = if dtype == DType::F64 || dtype == DType::I64 { 2 } else { 1 };
    match instr {
        Instr::Unary(
            UnaryOp::Exp | UnaryOp::Log | UnaryOp::Tanh | UnaryOp::Erf | UnaryOp::Sin | UnaryOp::Cos,
            _,
        ) => 600 * wide * wide * wide,
        Instr::Unary(UnaryOp::Sqrt | UnaryOp::Rsqrt, _) => 300 * wide,
        Instr::Binary(BinaryOp::Pow, ..) => 2000 * wide * wide,
        Instr::Binary(BinaryOp::Rem, ..) => 5000,
        Instr::Binary(BinaryOp::Div, ..) => 200 * wide,
        _ => 40 * wide,
    }
}
