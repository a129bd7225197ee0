//! Elementary functions in f32: our own polynomials, without branches, so that they become vector loops, and with the
//! same bits on every machine of a path.
//!
//! Coefficients are minimax fits (Lawson's iteration on Chebyshev points, in double precision) of the functions named
//! beside them; those of ratios were then moved by single bits to what is best in f32. Measured over a grid of all bit
//! patterns, `exp` and `log` are within 2 units in the last place of the exact value, `sin` and `cos` within 4, `tanh` within 5
//! and `erf` within 5.5.

use super::simd::{LaneMode, mul_add, mul_add_f64};

/// 1.5 * 2^23: adding it rounds to a whole number, which then stands in the low bits.
const ROUND: f32 = 12_582_912.0;
const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// The upper bits of the logarithm of 2, with enough zeros behind them that small multiples are exact, and the rest.
const LN_2_HIGH: f32 = 0.693_145_75;
const LN_2_LOW: f32 = 1.428_606_8e-6;

/// `c[0] + x * (c[1] + x * (...))`.
#[inline(always)]
fn polynomial<M: LaneMode, const N: usize>(x: f32, c: [f32; N]) -> f32 {
    let mut sum = c[N - 1];
    for i in (0..N - 1).rev() {
        sum = mul_add::<M>(sum, x, c[i]);
    }
    sum
}

/// [`polynomial`] in double precision.
#[inline(always)]
fn polynomial_f64<M: LaneMode, const N: usize>(x: f64, c: [f64; N]) -> f64 {
    let mut sum = c[N - 1];
    for i in (0..N - 1).rev() {
        sum = mul_add_f64::<M>(sum, x, c[i]);
    }
    sum
}

/// 2 to the whole power `n` in -126..=127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits(((n + 127) as u32) << 23)
}

/// e to the power `x`: `x = n ln 2 + r` with `|r| <= ln(2) / 2`, and a polynomial in `r`.
#[inline(always)]
pub(crate) fn exp<M: LaneMode>(x: f32) -> f32 {
    // Beyond these bounds the result is infinite or zero. NaN passes both comparisons.
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -104.0 { -104.0 } else { x };
    let shifted = mul_add::<M>(x, LOG2_E, ROUND);
    let n = shifted - ROUND;
    let whole = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let r = mul_add::<M>(n, -LN_2_LOW, mul_add::<M>(n, -LN_2_HIGH, x));
    // (e^r - 1 - r) / r^2
    let tail = polynomial::<M, 5>(r, [0.5, 1.666_652e-1, 4.166_840_4e-2, 8.368_899e-3, 1.381_422_2e-3]);
    let result = 1.0 + mul_add::<M>(r * r, tail, r);
    // In two steps, because 2^n itself may be out of range where the result is not.
    let half = whole >> 1;
    result * power_of_two(half) * power_of_two(whole.wrapping_sub(half))
}

/// Natural logarithm: `x = 2^e (1 + f)` with `1 + f` in `[sqrt(1/2), sqrt(2))`, and a polynomial in `f`.
#[inline(always)]
pub(crate) fn log<M: LaneMode>(x: f32) -> f32 {
    let subnormal = x < f32::MIN_POSITIVE;
    let scaled = if subnormal { x * 8_388_608.0 } else { x };
    let bits = (scaled.to_bits() as i32).wrapping_sub(0x3f35_04f3);
    let e = (bits >> 23).wrapping_sub(if subnormal { 23 } else { 0 }) as f32;
    let f = f32::from_bits(((bits & 0x007f_ffff) + 0x3f35_04f3) as u32) - 1.0;
    // (log(1 + f) - f + f^2 / 2) / f^3
    let tail = polynomial::<M, 9>(
        f,
        [
            3.333_331_3e-1,
            -2.500_001e-1,
            2.000_212e-1,
            -1.666_799_6e-1,
            1.421_954_6e-1,
            -1.240_557_1e-1,
            1.188_819_6e-1,
            -1.167_578_3e-1,
            6.746_724e-2,
        ],
    );
    let square = f * f;
    let small = mul_add::<M>(square * f, tail, mul_add::<M>(e, LN_2_LOW, -0.5 * square));
    let result = mul_add::<M>(e, LN_2_HIGH, f + small);
    let result = if x == f32::INFINITY { x } else { result };
    let result = if x == 0.0 { f32::NEG_INFINITY } else { result };
    if x < 0.0 || x.is_nan() { f32::NAN } else { result }
}

/// `x * P(x^2) / Q(x^2)`, for an odd function that grows to 1, which it rounds to from `end` on.
#[inline(always)]
fn odd_ratio<M: LaneMode, const P: usize, const Q: usize>(x: f32, end: f32, p: [f32; P], q: [f32; Q]) -> f32 {
    // NaN passes all comparisons.
    let a = x.abs();
    let a = if a > end { end } else { a };
    let ratio = a * polynomial::<M, P>(a * a, p) / polynomial::<M, Q>(a * a, q);
    let ratio = if ratio > 1.0 || a >= end { 1.0 } else { ratio };
    ratio.copysign(x)
}

/// Hyperbolic tangent.
#[inline(always)]
pub(crate) fn tanh<M: LaneMode>(x: f32) -> f32 {
    odd_ratio::<M, 5, 5>(
        x,
        9.02,
        [1.724_881_3, 2.307_842_5e-1, 6.026_792_3e-3, 3.550_404_7e-5, 2.297_378_1e-8],
        [1.724_881_5, 8.057_443_5e-1, 4.462_452_6e-2, 5.662_942_4e-4, 1.338_854_5e-6],
    )
}

/// Error function.
#[inline(always)]
pub(crate) fn erf<M: LaneMode>(x: f32) -> f32 {
    odd_ratio::<M, 6, 6>(
        x,
        3.93,
        [1.259_114_6, 2.128_860_8e-1, 5.890_635_8e-2, 4.217_43e-3, 3.178_057_7e-4, 2.278_584e-6],
        [1.115_861_3, 5.606_184_6e-1, 1.274_946_5e-1, 1.673_487_8e-2, 1.300_195_8e-3, 4.240_751e-5],
    )
}

/// The sine of `x + quadrants * pi / 2`: `x = n pi/2 + r` in double precision, and polynomials in `r`. Good for
/// `|x| < LARGE_ANGLE`.
#[inline(always)]
fn sine<M: LaneMode>(x: f32, quadrants: i32) -> f32 {
    const ROUND: f64 = 6_755_399_441_055_744.0;
    // The first 33 bits of pi / 2, whose products with n below 2^20 are exact, and the rest.
    const HIGH: f64 = f64::from_bits(0x3ff9_21fb_5440_0000);
    const LOW: f64 = 6.077_100_506_506_192e-11;
    let wide = f64::from(x);
    let shifted = mul_add_f64::<M>(wide, std::f64::consts::FRAC_2_PI, ROUND);
    let n = shifted - ROUND;
    let quadrant = (shifted.to_bits() as i32).wrapping_add(quadrants);
    let r = ((wide - n * HIGH) - n * LOW) as f32;
    let square = r * r;
    // (sin(r) / r - 1) / r^2 and (cos(r) - 1 + r^2 / 2) / r^4
    let sin = polynomial::<M, 3>(square, [-1.666_665_5e-1, 8.332_16e-3, -1.951_52e-4]);
    let sin = mul_add::<M>(r * square, sin, r);
    let cos = polynomial::<M, 3>(square, [4.166_664_6e-2, -1.388_731_5e-3, 2.443_306e-5]);
    let cos = mul_add::<M>(square * square, cos, mul_add::<M>(square, -0.5, 1.0));
    let result = if quadrant & 1 == 0 { sin } else { cos };
    if quadrant & 2 == 0 { result } else { -result }
}

/// Angles from here on (a million) are left to [`sin_large`] and [`cos_large`].
pub(crate) const LARGE_ANGLE: f32 = 1e6;

/// Sine, for angles below [`LARGE_ANGLE`]. The sign of a zero is kept.
#[inline(always)]
pub(crate) fn sin<M: LaneMode>(x: f32) -> f32 {
    if x == 0.0 { x } else { sine::<M>(x, 0) }
}

/// Cosine, for angles below [`LARGE_ANGLE`].
#[inline(always)]
pub(crate) fn cos<M: LaneMode>(x: f32) -> f32 {
    sine::<M>(x, 1)
}

/// Sine of any angle, slowly.
pub(crate) fn sin_large(x: f32) -> f32 {
    libm::sin(f64::from(x)) as f32
}

/// Cosine of any angle, slowly.
pub(crate) fn cos_large(x: f32) -> f32 {
    libm::cos(f64::from(x)) as f32
}

/// The logarithm of `x > 0` to base 2, in double precision: to about 50 bits.
#[inline(always)]
fn log2_f64<M: LaneMode>(x: f64) -> f64 {
    let bits = (x.to_bits() as i64).wrapping_sub(0x3fe6_a09e_667f_3bcd);
    // The exponent as a double, by way of the bits of a large whole number: there is no vector instruction for it
    // on every path.
    let e =
        f64::from_bits(((bits >> 52).wrapping_add(0x4338_0000_0000_0000)) as u64) - 6_755_399_441_055_744.0;
    let m = f64::from_bits(((bits & 0x000f_ffff_ffff_ffff) + 0x3fe6_a09e_667f_3bcd) as u64);
    let s = (m - 1.0) / (m + 1.0);
    let square = s * s;
    // (atanh(s) / s - 1) / s^2
    let tail = polynomial_f64::<M, 6>(
        square,
        [
            0.333_333_333_332_936_6,
            0.200_000_000_261_139_73,
            0.142_857_085_679_036_16,
            0.111_116_856_721_959_09,
            0.090_618_254_949_457_27,
            0.084_098_737_159_739_58,
        ],
    );
    mul_add_f64::<M>(mul_add_f64::<M>(square * s, tail, s), 2.0 * std::f64::consts::LOG2_E, e)
}

/// 2 to the power `x`, in double precision: to about 40 bits. Beyond ±1000 the result is one that rounds to infinity
/// or zero in f32.
#[inline(always)]
fn exp2_f64<M: LaneMode>(x: f64) -> f64 {
    const ROUND: f64 = 6_755_399_441_055_744.0;
    let x = if x > 1000.0 { 1000.0 } else { x };
    let x = if x < -1000.0 { -1000.0 } else { x };
    let shifted = x + ROUND;
    let r = x - (shifted - ROUND);
    // (2^r - 1) / r
    let tail = polynomial_f64::<M, 8>(
        r,
        [
            0.693_147_180_548_193_9,
            0.240_226_506_981_141_23,
            0.055_504_109_353_479_79,
            0.009_618_128_615_536_398,
            0.001_333_345_477_845_509,
            0.000_154_038_256_964_331_34,
            1.530_917_864_944_727e-5,
            1.317_891_944_018_321_9e-6,
        ],
    );
    let scale = f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52);
    mul_add_f64::<M>(r, tail, 1.0) * scale
}

/// `x` to the power `y`, with the special cases of C's `pow`.
#[inline(always)]
pub(crate) fn pow<M: LaneMode>(x: f32, y: f32) -> f32 {
    let a = x.abs();
    let log = log2_f64::<M>(f64::from(a));
    let log = if a == 0.0 { f64::NEG_INFINITY } else { log };
    let log = if a == f32::INFINITY { f64::INFINITY } else { log };
    let log = if a == 1.0 { 0.0 } else { log };
    let size = exp2_f64::<M>(f64::from(y) * log) as f32;
    let whole = y.floor() == y;
    // A whole number below 2^24 is odd when its half is not whole; those above are all even.
    let odd = whole && y.abs() < 16_777_216.0 && (y * 0.5).floor() != y * 0.5;
    let signed = if odd { size.copysign(x) } else { size };
    let result = if x < 0.0 && !whole && a != f32::INFINITY { f32::NAN } else { signed };
    let result = if a == 1.0 && y.is_infinite() { 1.0 } else { result };
    let result = if x.is_nan() || y.is_nan() { f32::NAN } else { result };
    if x == 1.0 || y == 0.0 { 1.0 } else { result }
}
