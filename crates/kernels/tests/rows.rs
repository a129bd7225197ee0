//! Kernels that move or pick elements: gather, scatter, arg max, padding, concatenation, random numbers.

mod common;

use common::{Case, Data, Value, indices, kernel_case, position, run_case};
use outgrow_kernels::{ArgMax, Gather, Literal, Map, RandomUniform, RunError, ScatterAdd, View};
use outgrow_tensor::{DType, RngKey, RngStream};

fn random_indices(dtype: DType, n: usize, rows: usize, rng: &mut RngStream) -> Data {
    Data::ints(dtype, (0..n).map(|_| rng.below(rows as u64) as i64))
}

#[test]
fn gather_and_scatter() {
    let mut rng = RngKey::new(41).stream();
    for (rows, index_dims, rest) in [
        (5, vec![4], vec![3]),
        (50, vec![7, 9], vec![130]),
        (4, vec![9], vec![]),
        (3, vec![], vec![2, 2]),
        (2, vec![0], vec![3]),
        (6, vec![5], vec![0]),
        (65, vec![2000], vec![300]),
    ] {
        for (dtype, index_type) in [
            (DType::F32, DType::I32),
            (DType::F32, DType::I64),
            (DType::BF16, DType::I64),
            (DType::I64, DType::I32),
        ] {
            for permuted in [false, true] {
                let table_dims = [&[rows][..], &rest].concat();
                let out_dims = [&index_dims[..], &rest].concat();
                let (n, k, m) = (
                    index_dims.iter().product::<usize>(),
                    table_dims.iter().product::<usize>(),
                    out_dims.iter().product::<usize>(),
                );
                let data = vec![
                    Data::random(dtype, k, &mut rng),
                    random_indices(index_type, n, rows, &mut rng),
                    Data::random(dtype, m, &mut rng),
                    Data::random(dtype, m, &mut rng),
                    Data::random(dtype, k, &mut rng),
                ];
                // Dimensions in reverse order of strides, if asked for.
                let view = |buffer: u32, dtype: DType, dims: &[usize]| {
                    if !permuted {
                        return View::whole(buffer, dtype, dims);
                    }
                    let reversed: Vec<usize> = dims.iter().rev().copied().collect();
                    View::whole(buffer, dtype, reversed).permuted(&(0..dims.len()).rev().collect::<Vec<_>>())
                };
                let table = view(0, dtype, &table_dims);
                let index = view(1, index_type, &index_dims);
                let (out, updates) = (view(2, dtype, &out_dims), view(3, dtype, &out_dims));
                let sums = view(4, dtype, &table_dims);
                let build = |b: &mut outgrow_kernels::ProgramBuilder| {
                    b.push(Gather::new(table.clone(), index.clone(), out.clone()).unwrap());
                    b.push(ScatterAdd::new(index.clone(), updates.clone(), sums.clone()).unwrap());
                };
                let mut expected = Data::zeros(dtype, k);
                for at in indices(&out_dims) {
                    let row = data[1].get(position(&index, &at[..index_dims.len()])).int() as usize;
                    let to = position(&sums, &[&[row], &at[index_dims.len()..]].concat());
                    let sum = match (expected.get(to), data[3].get(position(&updates, &at))) {
                        (Value::Int(a), Value::Int(b)) => Value::Int(a.wrapping_add(b)),
                        (a, b) => Value::Float(a.float() + b.float()),
                    };
                    expected.set(to, sum);
                }
                for (path, after) in run_case(&Case { data: data.clone(), build: &build }).unwrap() {
                    for at in indices(&out_dims) {
                        let row = data[1].get(position(&index, &at[..index_dims.len()])).int() as usize;
                        let from = position(&table, &[&[row], &at[index_dims.len()..]].concat());
                        assert_eq!(after[2].get(position(&out, &at)), data[0].get(from), "gather on {path}");
                    }
                    assert!(after[4] == expected, "scatter of {dtype} on {path}");
                }
            }
        }
    }
}

#[test]
fn indices_outside_the_table_are_reported() {
    for bad in [-1, 5, i64::MAX, i64::MIN] {
        let data = vec![
            Data::floats(DType::F32, [1.0; 10]),
            Data::ints(DType::I64, [0, 4, bad, -7]),
            Data::floats(DType::F32, [0.0; 8]),
        ];
        let table = || View::whole(0, DType::F32, [5, 2]);
        let index = || View::whole(1, DType::I64, [4]);
        let rows = || View::whole(2, DType::F32, [4, 2]);
        let result = run_case(&Case {
            data: data.clone(),
            build: &|b| {
                b.push(Map::fill(Literal::F32(1.0), rows()).unwrap());
                b.push(Gather::new(table(), index(), rows()).unwrap());
            },
        });
        assert_eq!(
            result.unwrap_err(),
            RunError::IndexOutOfRange { kernel: 1, position: 2, value: bad, limit: 5 }
        );
        let result = run_case(&Case {
            data,
            build: &|b| {
                b.push(ScatterAdd::new(index(), rows(), table()).unwrap());
            },
        });
        assert_eq!(
            result.unwrap_err(),
            RunError::IndexOutOfRange { kernel: 0, position: 2, value: bad, limit: 5 }
        );
    }
}

#[test]
fn arg_max() {
    let mut rng = RngKey::new(42).stream();
    for dtype in DType::ALL {
        for (dims, axis) in [
            (vec![5], 0),
            (vec![4, 7], 1),
            (vec![40, 700], 1),
            (vec![40, 70], 0),
            (vec![2, 3, 5], 1),
            (vec![3, 1], 1),
        ] {
            let n = dims.iter().product::<usize>();
            // Few distinct values make ties.
            let mut x = Data::ints(dtype, (0..n).map(|_| rng.below(4) as i64));
            if dtype.is_float() {
                (0..n / 9).for_each(|i| {
                    x.set(i * 9, Value::Float(if i % 2 == 0 { f64::NAN } else { -f64::INFINITY }))
                });
            }
            let mut kept = dims.clone();
            kept.remove(axis);
            for out_type in [DType::I32, DType::I64] {
                let view = View::whole(0, dtype, dims.clone());
                let out = View::whole(1, out_type, kept.clone());
                let data = vec![x.clone(), Data::zeros(out_type, n / dims[axis])];
                for (path, after) in
                    kernel_case(data, || ArgMax::new(view.clone(), axis, out.clone()).unwrap())
                {
                    for index in indices(&kept) {
                        let at = |k: usize| {
                            let mut full = index.clone();
                            full.insert(axis, k);
                            x.get(position(&view, &full)).float()
                        };
                        let nan = (0..dims[axis]).find(|&k| at(k).is_nan());
                        let best = nan.unwrap_or_else(|| {
                            (0..dims[axis]).rev().max_by(|&a, &b| at(a).total_cmp(&at(b))).unwrap()
                        });
                        let got = after[1].get(position(&out, &index)).int();
                        assert_eq!(got, best as i64, "{dtype} {dims:?} along {axis} at {index:?} on {path}");
                    }
                }
            }
        }
    }
}

#[test]
fn random_numbers_are_those_of_the_key() {
    for (n, key, stream) in [(0, 1, 2), (1, 5, 0), (7, -3, 9), (100_003, i64::MAX, u64::MAX), (16, 0, 1)] {
        let data = vec![Data::ints(DType::I64, [key]), Data::zeros(DType::F32, n)];
        let make = || {
            RandomUniform::new(View::whole(0, DType::I64, []), View::whole(1, DType::F32, [n]), stream)
                .unwrap()
        };
        let expected = RngKey::new(key as u64).fold_in(stream);
        for (path, after) in kernel_case(data, make) {
            for (i, x) in after[1].f32s().iter().enumerate() {
                assert_eq!(*x, expected.uniform_at(i as u64), "number {i} on {path}");
            }
        }
    }
}
