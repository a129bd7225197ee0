//! `MatMul` against three loops in f64, and its promise about the order of summation.

mod common;

use common::{Case, Data, Value, close, indices, kernel_case, position, run_case};
use outgrow_kernels::{BinaryOp, Finish, Instr, KernelPath, Literal, Map, MatMul, ProgramBuilder, View};
use outgrow_tensor::{DType, RngKey};

/// Runs a product and compares every element with a sum in f64 (or wrapping integers).
fn check(what: &str, data: &[Data], a: &View, b: &View, c: &View) {
    let make = || {
        let (a, b, c) = (a.clone(), b.clone(), c.clone());
        MatMul::new(a, b, c).unwrap()
    };
    let (rank, k) = (c.rank(), a.dims[a.rank() - 1]);
    let at = |view: &View, index: &[usize]| data[view.slot.buffer as usize].get(position(view, index));
    for (path, after) in kernel_case(data.to_vec(), make) {
        for index in indices(&c.dims) {
            let (mut sum, mut magnitude, mut whole) = (0f64, 1e-30f64, 0i64);
            let (mut left, mut right) = (index.clone(), index.clone());
            for p in 0..k {
                (left[rank - 1], right[rank - 2]) = (p, p);
                let (x, y) = (at(a, &left), at(b, &right));
                sum += x.float() * y.float();
                magnitude += (x.float() * y.float()).abs();
                whole = whole.wrapping_add(x.int().wrapping_mul(y.int()));
            }
            let got = after[c.slot.buffer as usize].get(position(c, &index));
            let relative = match c.dtype {
                DType::BF16 => 0.004,
                DType::F32 => 1e-7 + 6e-8 * (k as f64).sqrt() * 2.0,
                _ => 1e-14,
            };
            let equal = match got {
                Value::Int(x) => x == common::round(c.dtype, Value::Int(whole)).int(),
                Value::Float(x) => close(x, sum, 0.0, relative * magnitude),
            };
            assert!(equal, "{what} on {path}: at {index:?} is {got:?}, expected {sum}");
        }
    }
}

#[test]
fn extents() {
    let mut rng = RngKey::new(21).stream();
    let sizes = [1, 2, 3, 7, 12, 13, 16, 17, 31, 33, 50, 65, 130];
    let mut cases: Vec<[usize; 3]> = vec![
        [0, 3, 4],
        [3, 0, 4],
        [3, 4, 0],
        [1, 1, 1],
        [32, 10, 10],
        [10, 32, 784],
        [32, 10, 784],
        [5, 200, 1100],
    ];
    for _ in 0..60 {
        cases.push([0; 3].map(|_| sizes[rng.below(sizes.len() as u64) as usize]));
    }
    for [m, n, k] in cases {
        let data = [
            Data::random(DType::F32, m * k, &mut rng),
            Data::random(DType::F32, k * n, &mut rng),
            Data::random(DType::F32, m * n, &mut rng),
        ];
        let view = |buffer, rows, columns| View::whole(buffer, DType::F32, [rows, columns]);
        let (a, b, c) = (view(0, m, k), view(1, k, n), view(2, m, n));
        check(&format!("{m}x{k}x{n}"), &data, &a, &b, &c);
    }
}

#[test]
fn layouts_and_batches() {
    layouts_and_batches_of(DType::F32);
}

#[test]
fn layouts_and_batches_of_bf16() {
    layouts_and_batches_of(DType::BF16);
}

fn layouts_and_batches_of(dtype: DType) {
    let mut rng = RngKey::new(22).stream();
    for (m, n, k) in [(5, 6, 7), (40, 35, 33), (17, 1, 20), (1, 70, 20)] {
        for batch in [vec![], vec![3], vec![2, 3]] {
            let count = batch.iter().product::<usize>();
            let data = [
                Data::random(dtype, 2 * count * m * k, &mut rng),
                Data::random(dtype, 2 * count * n * k, &mut rng),
                Data::random(DType::F32, 2 * count * m * n, &mut rng),
            ];
            // Each operand plain, transposed, every second column, reversed, and (inputs only) broadcast.
            let layouts = |buffer: u32, dtype: DType, rows: usize, columns: usize| {
                let dims = |r, c| batch.iter().copied().chain([r, c]).collect::<Vec<_>>();
                let (row, column) = (batch.len(), batch.len() + 1);
                let mut order: Vec<usize> = (0..batch.len() + 2).collect();
                order.swap(row, column);
                let plain = View::whole(buffer, dtype, dims(rows, columns));
                let wide = View::whole(buffer, dtype, dims(rows, 2 * columns));
                let axes = [row, column];
                vec![
                    plain.clone(),
                    View::whole(buffer, dtype, dims(columns, rows)).permuted(&order),
                    wide.sliced(column, 1, columns, 2),
                    plain.reversed(row),
                    View::whole(buffer, dtype, [rows, columns]).broadcast(&dims(rows, columns), &axes),
                ]
            };
            let (left, right) = (layouts(0, dtype, m, k), layouts(1, dtype, k, n));
            let out = layouts(2, DType::F32, m, n);
            for (i, a) in left.iter().enumerate() {
                for (j, b) in right.iter().enumerate() {
                    let c = &out[(i + j) % 4];
                    check(&format!("{batch:?} {m}x{k}x{n}, layouts {i} {j}"), &data, a, b, c);
                }
            }
        }
    }
}

#[test]
fn element_types() {
    let mut rng = RngKey::new(23).stream();
    let same = [DType::F64, DType::I32, DType::I64, DType::U8].map(|t| (t, t));
    for (from, to) in same.into_iter().chain([(DType::BF16, DType::F32)]) {
        for (m, n, k) in [(5, 6, 7), (20, 40, 30), (33, 50, 100)] {
            let data = [
                Data::random(from, m * k, &mut rng),
                Data::random(from, k * n, &mut rng),
                Data::random(to, m * n, &mut rng),
            ];
            let (a, b) = (View::whole(0, from, [m, k]), View::whole(1, from, [k, n]));
            check(&format!("{from} to {to}"), &data, &a, &b, &View::whole(2, to, [m, n]));
        }
    }
}

/// Products of bf16 have the bits of the same products of f32, but where the processor has instructions for them.
#[test]
fn bf16_is_summed_as_f32() {
    let mut rng = RngKey::new(26).stream();
    for (m, n, k) in [(1, 40, 30), (37, 41, 700), (64, 64, 64), (130, 9, 1100)] {
        let narrow = [Data::random(DType::BF16, m * k, &mut rng), Data::random(DType::BF16, k * n, &mut rng)];
        for transposed in [false, true] {
            let run = |dtype: DType| {
                let operand = |data: &Data| Data::floats(dtype, (0..data.len).map(|i| data.get(i).float()));
                let mut data: Vec<Data> = narrow.iter().map(operand).collect();
                data.push(Data::zeros(DType::F32, m * n));
                let view = |buffer, dtype, rows, columns| match transposed {
                    false => View::whole(buffer, dtype, [rows, columns]),
                    true => View::whole(buffer, dtype, [columns, rows]).permuted(&[1, 0]),
                };
                let c = View::whole(2, DType::F32, [m, n]);
                kernel_case(data, || {
                    MatMul::new(view(0, dtype, m, k), view(1, dtype, k, n), c.clone()).unwrap()
                })
            };
            for ((path, wide), (_, narrow)) in run(DType::F32).iter().zip(&run(DType::BF16)) {
                let equal = wide[2].as_bytes() == narrow[2].as_bytes();
                let own = matches!(path, KernelPath::Avx512Bf16 | KernelPath::Amx);
                assert!(equal || own, "{m}x{k}x{n} on {path}, transposed: {transposed}");
            }
        }
    }
}

/// An element's bits depend on its row of A, its column of B and `k`: not on the other rows and columns, the batch,
/// the layout or (see `kernel_case`) the threads.
#[test]
fn the_order_of_summation_depends_on_k_alone() {
    order_of_summation(DType::F32);
}

#[test]
fn the_order_of_summation_of_bf16_depends_on_k_alone() {
    order_of_summation(DType::BF16);
}

fn order_of_summation(dtype: DType) {
    let mut rng = RngKey::new(24).stream();
    for k in [1, 5, 64, 300, 1501] {
        let (m, n) = (67, 83);
        let (a, b) = (Data::random(dtype, m * k, &mut rng), Data::random(dtype, k * n, &mut rng));
        let product = |a_view: View, b_view: View| {
            let dims: Vec<usize> =
                [&a_view.dims[..a_view.rank() - 1], &b_view.dims[b_view.rank() - 1..]].concat();
            let c = Data::zeros(DType::F32, dims.iter().product());
            let make = || {
                MatMul::new(a_view.clone(), b_view.clone(), View::whole(2, DType::F32, dims.clone())).unwrap()
            };
            kernel_case(vec![a.clone(), b.clone(), c], make)
        };
        let (a_all, b_all) = (View::whole(0, dtype, [m, k]), View::whole(1, dtype, [k, n]));
        let whole = product(a_all.clone(), b_all.clone());
        let compare = |what: &str, part: Vec<(_, Vec<Data>)>, at: &dyn Fn(usize) -> usize| {
            for ((path, part), (_, whole)) in part.iter().zip(&whole) {
                for (i, x) in part[2].f32s().iter().enumerate() {
                    let y = whole[2].f32s()[at(i)];
                    assert_eq!(x.to_bits(), y.to_bits(), "{what} {i}, k {k} on {path}: {x} and {y}");
                }
            }
        };
        for (low, count) in [(0, 1), (66, 1), (3, 2), (10, 7), (20, 33)] {
            let rows = product(a_all.sliced(0, low, count, 1), b_all.clone());
            compare("rows", rows, &|i| (low + i / n) * n + i % n);
            let columns = product(a_all.clone(), b_all.sliced(1, low, count, 1));
            compare("columns", columns, &|i| i / count * n + low + i % count);
            let both = product(a_all.sliced(0, low, count, 1), b_all.sliced(1, low, count, 1));
            compare("both", both, &|i| (low + i / count) * n + low + i % count);
        }
        // Every row as a matrix of its own in a batch.
        let batched = product(
            View::whole(0, dtype, [m, 1, k]),
            View::whole(1, dtype, [k, n]).broadcast(&[m, k, n], &[1, 2]),
        );
        compare("batch", batched, &|i| i);
    }
}

#[test]
fn finished_sums_have_the_bits_of_separate_steps() {
    let mut rng = RngKey::new(27).stream();
    let sizes: [(&[usize], usize, usize, usize); 9] = [
        // One block and several, whole and ragged tiles; few columns, whose product is transposed; one row; a batch; sums of
        // nothing.
        (&[], 28, 64, 96),
        (&[], 61, 83, 1300),
        (&[], 300, 70, 40),
        (&[], 200, 3, 50),
        (&[], 1, 130, 70),
        (&[], 50, 1, 33),
        (&[2, 2], 17, 35, 48),
        (&[5], 6, 2, 7),
        (&[], 5, 20, 0),
    ];
    for (dtype, (batch, m, n, k)) in [DType::F32, DType::BF16].into_iter().flat_map(|t| sizes.map(|s| (t, s)))
    {
        let dims = |rows, columns| [batch, &[rows, columns]].concat();
        let (a, b, c) = (dims(m, k), dims(k, n), dims(m, n));
        let count = |d: &[usize]| d.iter().product::<usize>();
        for (bias, residual, low, high) in [
            (true, false, f32::NEG_INFINITY, f32::INFINITY),
            (false, true, 0.0, f32::INFINITY),
            (true, true, 0.0, 3.0),
        ] {
            let mut data =
                vec![Data::random(dtype, count(&a), &mut rng), Data::random(dtype, count(&b), &mut rng)];
            data.extend([n, count(&c)].map(|n| Data::random(DType::F32, n, &mut rng)));
            data.extend([count(&c); 3].map(|n| Data::zeros(DType::F32, n)));
            let view = |i: u32| View::whole(i, DType::F32, c.clone());
            let bias_view = View::whole(2, DType::F32, [n]);
            let build = |builder: &mut ProgramBuilder| {
                let product = |to| {
                    let (a, b) = (View::whole(0, dtype, a.clone()), View::whole(1, dtype, b.clone()));
                    MatMul::new(a, b, view(to)).unwrap()
                };
                builder.push(product(4));
                let (mut code, mut inputs) = (vec![Instr::Load(0)], vec![view(4)]);
                let biases = bias.then(|| bias_view.broadcast(&c, &[c.len() - 1]));
                for other in biases.into_iter().chain(residual.then(|| view(3))) {
                    inputs.push(other);
                    code.push(Instr::Load(inputs.len() - 1));
                    code.push(Instr::Binary(BinaryOp::Add, code.len() - 2, code.len() - 1));
                }
                code.push(Instr::Const(Literal::F32(low)));
                code.push(Instr::Binary(BinaryOp::Max, code.len() - 1, code.len() - 2));
                code.push(Instr::Const(Literal::F32(high)));
                code.push(Instr::Binary(BinaryOp::Min, code.len() - 2, code.len() - 1));
                builder.push(Map::new(&c, &code, inputs, vec![(code.len() - 1, view(5))]).unwrap());
                let (bias, residual) = (bias.then(|| bias_view.clone()), residual.then(|| view(3)));
                let finish = Finish { bias, residual, low, zero_is_positive: false, high, rounded: false };
                builder.push(product(6).finished(finish).unwrap());
            };
            for (path, after) in run_case(&Case { data: data.clone(), build: &build }).unwrap() {
                let same = after[5].as_bytes() == after[6].as_bytes();
                assert!(same, "{dtype} {batch:?} {m}x{k}x{n} {bias} {residual} on {path}");
            }
        }
    }
}

#[test]
fn what_does_not_fit_the_sums_is_refused() {
    let view = |d: &[usize]| View::whole(0, DType::F32, d);
    let product = |c: View| MatMul::new(view(&[4, 2]), view(&[2, 3]), c);
    let c = View::whole(1, DType::F32, [4, 3]);
    let finish =
        Finish { bias: None, residual: None, low: 0.0, zero_is_positive: true, high: 6.0, rounded: false };
    assert!(product(c.clone()).unwrap().finished(finish.clone()).is_ok());
    for (bias, residual) in [
        (Some(view(&[4])), None),
        (Some(view(&[1, 3])), None),
        (Some(view(&[6]).sliced(0, 0, 3, 2)), None),
        (None, Some(view(&[3, 4]))),
        (None, Some(view(&[3, 4]).permuted(&[1, 0]))),
    ] {
        let finish = Finish { bias, residual, ..finish.clone() };
        assert!(product(c.clone()).unwrap().finished(finish).is_err());
    }
    let columns = View::whole(1, DType::F32, [3, 4]).permuted(&[1, 0]);
    assert!(product(columns).unwrap().finished(finish).is_err());
}

/// The largest and the mean square error of a product against f64, relative to what its terms add up to in magnitude.
fn errors(a: &[f32], b: &[f32], c: &[f32], (m, n, k): (usize, usize, usize)) -> (f64, f64) {
    let (mut largest, mut squares) = (0f64, 0f64);
    for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
        let terms = (0..k).map(|p| f64::from(a[i * k + p]) * f64::from(b[p * n + j]));
        let (sum, magnitude) = terms.fold((0.0, 1e-300), |(s, m), t| (s + t, m + t.abs()));
        let error = (f64::from(c[i * n + j]) - sum).abs() / magnitude;
        largest = largest.max(error);
        squares += error * error;
    }
    (largest, (squares / (m * n) as f64).sqrt())
}

/// No path is less accurate than twice a plain product in f32, which adds one rounded product after the other.
#[test]
fn every_path_is_as_accurate_as_plain_f32() {
    let mut rng = RngKey::new(25).stream();
    let (m, n) = (37, 41);
    for k in [32, 100, 513, 3000] {
        let random: Vec<f64> = (0..(m + n) * k).map(|_| rng.normal()).collect();
        // Of row (or column, behind the rows) and inner position.
        let at = |i: usize, p: usize| random[i * k + p];
        let scale = |exponent: usize, half: i32| 2f64.powi(exponent as i32 % (2 * half + 1) - half);
        let full = |bits: u32, less: usize| f64::from(f32::from_bits(bits - less as u32));
        type Values<'a> = &'a dyn Fn(usize, usize) -> f64;
        // Scales differ along the inner dimension, or across it; terms cancel but for a small rest; mantissas are full of
        // ones, so that every part rounds the same way.
        let kinds: [(&str, Values<'_>, Values<'_>); 5] = [
            ("random", &|i, p| at(i, p), &|j, p| at(m + j, p)),
            ("scaled along", &|i, p| at(i, p) * scale(p * 7, 30), &|j, p| at(m + j, p) / scale(p * 11, 30)),
            ("scaled across", &|i, p| at(i, p) * scale(i * 13, 40), &|j, p| at(m + j, p) * scale(j * 17, 40)),
            ("cancelling", &|i, p| at(i, p / 2) * [1.0, -1.0][p % 2], &|j, p| {
                at(m + j, p / 2) * (1.0 + 1e-6 * (p % 3) as f64)
            }),
            ("full mantissas", &|i, p| full(0x3fff_ffff, (i + p) % 5), &|j, p| {
                full(0x3f7f_7fff, (j + p) % 7)
            }),
        ];
        for (kind, a, b) in kinds {
            let a: Vec<f32> = (0..m * k).map(|i| a(i / k, i % k) as f32).collect();
            let b: Vec<f32> = (0..k * n).map(|i| b(i % n, i / n) as f32).collect();
            let one_after_the_other: Vec<f32> = (0..m * n)
                .map(|i| (0..k).fold(0f32, |sum, p| sum + a[i / n * k + p] * b[p * n + i % n]))
                .collect();
            let (largest, mean) = errors(&a, &b, &one_after_the_other, (m, n, k));
            let floats = |v: &[f32]| Data::floats(DType::F32, v.iter().map(|x| f64::from(*x)));
            let data = vec![floats(&a), floats(&b), Data::zeros(DType::F32, m * n)];
            let view = |buffer, rows, columns| View::whole(buffer, DType::F32, [rows, columns]);
            let make = || MatMul::new(view(0, m, k), view(1, k, n), view(2, m, n)).unwrap();
            for (path, after) in kernel_case(data, make) {
                let got = errors(&a, &b, after[2].f32s(), (m, n, k));
                // Where even the plain product is nearly exact, one rounding is allowed.
                let limit = |plain: f64| 2.0 * plain.max(6e-8);
                assert!(
                    got.0 <= limit(largest) && got.1 <= limit(mean),
                    "{kind}, k {k} on {path}: {got:?} against {largest:e}, {mean:e}"
                );
            }
        }
    }
}

/// What is not finite does not pass for a number, and the largest numbers do not overflow.
#[test]
fn extreme_numbers() {
    let k = 64;
    for (value, times, expect) in [
        (f32::MAX, 0.5, Some(f64::from(f32::MAX) / 2.0)),
        (f32::MAX, 1.0, Some(f64::from(f32::MAX))),
        (-3.4e38, 0.25, Some(-3.4e38f32 as f64 / 4.0)),
        (1e-30, 1e-7, Some(1e-30f32 as f64 * 1e-7f32 as f64)),
        (f32::NAN, 1.0, None),
        (f32::from_bits(0x7f80_0001), 1.0, None),
        (f32::INFINITY, 0.3, None),
        (f32::NEG_INFINITY, 2.0, None),
    ] {
        let data = |x: f32| Data::floats(DType::F32, (0..k).map(|p| if p == 3 { f64::from(x) } else { 0.0 }));
        let make = || {
            let view = |buffer, dims: [usize; 2]| View::whole(buffer, DType::F32, dims);
            MatMul::new(view(0, [1, k]), view(1, [k, 1]), view(2, [1, 1])).unwrap()
        };
        for (path, after) in kernel_case(vec![data(value), data(times), Data::zeros(DType::F32, 1)], make) {
            let got = after[2].f32s()[0];
            match expect {
                Some(expect) => {
                    // Tiles take numbers below the normal ones for zero, products of small parts among them.
                    let below_normal = 2.0 * f64::from(f32::MIN_POSITIVE);
                    let error = (f64::from(got) - expect).abs();
                    assert!(
                        error < 3e-7 * expect.abs() + below_normal,
                        "{value} times {times} on {path} is {got}"
                    );
                }
                None => assert!(!got.is_finite(), "{value} times {times} on {path} is {got}"),
            }
        }
    }
}
