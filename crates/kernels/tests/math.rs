//! The elementary functions against double precision, over a grid of all f32 bit patterns and near special places.
#![allow(clippy::type_complexity)]

mod common;

use common::{Data, kernel_case};
use outgrow_kernels::{BinaryOp, Instr, KernelPath, Map, UnaryOp, View};
use outgrow_tensor::{DType, RngKey};

/// The distance in units of the last place of `want` as f32 holds it.
fn ulps(got: f32, want: f64) -> f64 {
    let rounded = want as f32;
    if (got.is_nan() && want.is_nan()) || got == rounded {
        return 0.0;
    }
    if !got.is_finite() || !rounded.is_finite() {
        return f64::INFINITY;
    }
    let exponent = rounded.abs().max(f32::MIN_POSITIVE).to_bits() >> 23;
    let unit = f64::from(f32::from_bits(exponent << 23)) / 8_388_608.0;
    (f64::from(got) - want).abs() / unit
}

fn check(what: &str, code: &[Instr], x: &[f32], y: &[f32], exact: impl Fn(f64, f64) -> f64, limit: f64) {
    let n = x.len();
    let floats = |v: &[f32]| Data::floats(DType::F32, v.iter().map(|&v| f64::from(v)));
    let data = vec![floats(x), floats(y), Data::zeros(DType::F32, n)];
    let view = |b| View::whole(b, DType::F32, [n]);
    let results = kernel_case(data, || {
        Map::new(&[n], code, vec![view(0), view(1)], vec![(code.len() - 1, view(2))]).unwrap()
    });
    let mut bits: Vec<(KernelPath, Vec<f32>)> = Vec::new();
    for (path, after) in results {
        let mut worst = (0.0, 0);
        for (i, &got) in after[2].f32s().iter().enumerate() {
            let error = ulps(got, exact(f64::from(x[i]), f64::from(y[i])));
            if error > worst.0 {
                worst = (error, i);
            }
        }
        let (error, i) = worst;
        let (got, want) = (after[2].f32s()[i], exact(f64::from(x[i]), f64::from(y[i])));
        assert!(
            error <= limit,
            "{what}({:e}, {:e}) on {path}: {got:e}, expected {want:e}: {error:.2} ulp",
            x[i],
            y[i]
        );
        bits.push((path, after[2].f32s().to_vec()));
    }
    // The paths that fuse products and sums agree bit for bit.
    let fused: Vec<_> = bits.iter().filter(|(path, _)| *path != KernelPath::Portable).collect();
    for pair in fused.windows(2) {
        let same = pair[0]
            .1
            .iter()
            .zip(&pair[1].1)
            .all(|(a, b)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()));
        assert!(same, "{what}: {} and {} differ", pair[0].0, pair[1].0);
    }
}

/// Every 2003rd bit pattern, dense runs where functions change character, and the special values.
fn grid() -> Vec<f32> {
    let mut x: Vec<f32> = (0..=u32::MAX / 2003).map(|i| f32::from_bits(i * 2003)).collect();
    for center in
        [1.0f32, 0.6, 3.93, 9.02, 88.7, -87.3, -103.9, std::f32::consts::PI, std::f32::consts::FRAC_PI_2, 1e6]
    {
        for delta in -2000i32..2000 {
            x.push(f32::from_bits(center.to_bits().wrapping_add_signed(delta)));
        }
    }
    x.extend([
        0.0,
        -0.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        f32::MAX,
        f32::MIN,
        f32::MIN_POSITIVE,
        1e-45,
    ]);
    x
}

#[test]
fn functions_of_one_value() {
    let x = grid();
    let cases: [(UnaryOp, fn(f64) -> f64, f64); 9] = [
        (UnaryOp::Exp, libm::exp, 2.0),
        (UnaryOp::Log, libm::log, 2.0),
        (UnaryOp::Tanh, libm::tanh, 5.0),
        (UnaryOp::Erf, libm::erf, 5.5),
        (UnaryOp::Sin, libm::sin, 4.0),
        (UnaryOp::Cos, libm::cos, 4.0),
        (UnaryOp::Sqrt, f64::sqrt, 0.5),
        (UnaryOp::Rsqrt, |x| 1.0 / x.sqrt(), 1.5),
        (UnaryOp::Round, f64::round_ties_even, 0.0),
    ];
    for (op, exact, limit) in cases {
        check(&format!("{op:?}"), &[Instr::Load(0), Instr::Unary(op, 0)], &x, &x, |x, _| exact(x), limit);
    }
}

/// What multiplies by one less the function, as GELU does far from zero, sees nothing but an exact one.
#[test]
fn functions_that_grow_to_one_are_one_from_where_they_round_to_it() {
    let x: Vec<f32> = grid().into_iter().filter(|x| x.abs() >= 3.93).collect();
    check("erf", &[Instr::Load(0), Instr::Unary(UnaryOp::Erf, 0)], &x, &x, |x, _| 1f64.copysign(x), 0.0);
    let x: Vec<f32> = x.into_iter().filter(|x| x.abs() >= 9.02).collect();
    check("tanh", &[Instr::Load(0), Instr::Unary(UnaryOp::Tanh, 0)], &x, &x, |x, _| 1f64.copysign(x), 0.0);
}

#[test]
fn powers() {
    let mut rng = RngKey::new(51).stream();
    let (mut x, mut y) = (Vec::new(), Vec::new());
    let special = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        2.0,
        -2.0,
        3.0,
        -3.0,
        0.5,
        -0.5,
        1e30,
        -1e30,
        1e-40,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        16_777_217.0,
        2.5,
    ];
    for a in special {
        for b in special {
            x.push(a);
            y.push(b);
        }
    }
    for _ in 0..300_000 {
        // Bases of all sizes, exponents that keep the result in range; and any pair of bit patterns.
        let base = libm::exp(rng.uniform_in(-80.0, 80.0)) as f32;
        x.push(base);
        y.push(rng.uniform_in(-80.0, 80.0) as f32 / base.ln().abs().max(1e-3));
        x.push(f32::from_bits(rng.next_u32()));
        y.push(f32::from_bits(rng.next_u32()));
        x.push(rng.uniform_in(-3.0, 3.0) as f32);
        y.push(rng.below(20) as f32 - 10.0);
    }
    let code = [Instr::Load(0), Instr::Load(1), Instr::Binary(BinaryOp::Pow, 0, 1)];
    check("pow", &code, &x, &y, libm::pow, 1.0);
}
