//! Element types as the slow, general loops see them: storage, and the arithmetic of sums of products.

use crate::block::{narrow, widen};

/// An element type's storage, with the arithmetic of its products.
pub(crate) trait Factor: Copy {
    /// The type products are summed in.
    type Sum: Copy;
    const ZERO: Self::Sum;
    fn fma(self, other: Self, sum: Self::Sum) -> Self::Sum;
    fn plus(a: Self::Sum, b: Self::Sum) -> Self::Sum;
    fn from_sum(sum: Self::Sum) -> Self;
    fn to_sum(self) -> Self::Sum;
}

/// The storage of a bf16.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Bits16(pub u16);

macro_rules! factor {
    ($t:ty, $sum:ty, $zero:expr, |$a:ident, $b:ident, $s:ident| $fma:expr, |$x:ident, $y:ident| $plus:expr,
     |$f:ident| $from:expr, |$g:ident| $to:expr) => {
        impl Factor for $t {
            type Sum = $sum;
            const ZERO: $sum = $zero;
            #[inline(always)]
            fn fma(self, $b: Self, $s: $sum) -> $sum {
                let $a = self;
                $fma
            }
            #[inline(always)]
            fn plus($x: $sum, $y: $sum) -> $sum {
                $plus
            }
            #[inline(always)]
            fn from_sum($f: $sum) -> Self {
                $from
            }
            #[inline(always)]
            fn to_sum(self) -> $sum {
                let $g = self;
                $to
            }
        }
    };
}
factor!(f32, f32, 0.0, |a, b, s| a * b + s, |x, y| x + y, |f| f, |g| g);
factor!(f64, f64, 0.0, |a, b, s| a * b + s, |x, y| x + y, |f| f, |g| g);
factor!(i32, i32, 0, |a, b, s| a.wrapping_mul(b).wrapping_add(s), |x, y| x.wrapping_add(y), |f| f, |g| g);
factor!(i64, i64, 0, |a, b, s| a.wrapping_mul(b).wrapping_add(s), |x, y| x.wrapping_add(y), |f| f, |g| g);
factor!(u8, u8, 0, |a, b, s| a.wrapping_mul(b).wrapping_add(s), |x, y| x.wrapping_add(y), |f| f, |g| g);
factor!(Bits16, f32, 0.0, |a, b, s| widen(a.0) * widen(b.0) + s, |x, y| x + y, |f| Bits16(narrow(f)), |g| {
    widen(g.0)
});
