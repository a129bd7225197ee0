//! `Reduce` against a slow interpreter: every pattern of kept and reduced dimensions, every operation and type.

mod common;

use common::{Data, Value, binary, close, indices, interpret, kernel_case, position, round};
use outgrow_kernels::{BinaryOp, Instr, Literal, Reduce, ReduceOp, ReduceSpec, UnaryOp, View};
use outgrow_tensor::{DType, RngKey};
use std::collections::HashMap;

fn combine(op: ReduceOp, a: Value, b: Value) -> Value {
    let op = match op {
        ReduceOp::Sum => BinaryOp::Add,
        ReduceOp::Prod => BinaryOp::Mul,
        ReduceOp::Max => BinaryOp::Max,
        ReduceOp::Min => BinaryOp::Min,
    };
    binary(op, a, b)
}

/// Runs a reduction and compares every output with sums in f64; `relative` is to the sum of magnitudes.
fn check(what: &str, data: &[Data], spec: &ReduceSpec, relative: f64) {
    let results = kernel_case(data.to_vec(), || Reduce::new(spec.clone()).unwrap());
    let kept: Vec<usize> = (0..spec.dims.len()).filter(|d| !spec.reduced.contains(d)).collect();
    let kept_dims: Vec<usize> = kept.iter().map(|&d| spec.dims[d]).collect();
    let load = |views: &[View], i: usize, index: &[usize]| {
        (views[i].dtype, data[views[i].slot.buffer as usize].get(position(&views[i], index)))
    };
    // Per kept index and reduction: the type, the result and the sum of magnitudes.
    let mut sums: HashMap<Vec<usize>, Vec<(DType, Value, f64)>> = HashMap::new();
    for index in indices(&spec.dims) {
        let key: Vec<usize> = kept.iter().map(|&d| index[d]).collect();
        let regs = interpret(&spec.code, &index, |i| load(&spec.inputs, i, &index), &[]);
        let found = spec.reductions.iter().map(|&(reg, _)| regs[reg]);
        match sums.get_mut(&key) {
            None => {
                sums.insert(key, found.map(|(t, v)| (t, v, v.float().abs())).collect());
            }
            Some(old) => {
                for ((slot, (t, v)), &(_, op)) in old.iter_mut().zip(found).zip(&spec.reductions) {
                    let combined = combine(op, slot.1, v);
                    slot.1 = if t.is_float() { combined } else { round(t, combined) };
                    slot.2 += v.float().abs();
                }
            }
        }
    }
    for (path, after) in results {
        for index in indices(&kept_dims) {
            let Some(reduced) = sums.get(&index) else { continue };
            let magnitude: f64 = reduced.iter().map(|r| r.2).sum();
            let values: Vec<(DType, Value)> = reduced.iter().map(|&(t, v, _)| (t, round(t, v))).collect();
            let regs = interpret(&spec.epilogue, &index, |i| load(&spec.epilogue_inputs, i, &index), &values);
            for (reg, view) in &spec.outputs {
                let got = after[view.slot.buffer as usize].get(position(view, &index));
                let want = regs[*reg].1;
                let equal = match (got, want) {
                    (Value::Int(a), Value::Int(b)) => a == b,
                    (a, b) => close(a.float(), b.float(), relative, relative * magnitude),
                };
                assert!(equal, "{what} on {path}: at {index:?} register {reg} is {got:?}, expected {want:?}");
            }
        }
    }
}

fn simple(input: View, reduced: &[usize], op: ReduceOp, out: u32, out_dtype: DType) -> ReduceSpec {
    let kept: Vec<usize> =
        (0..input.rank()).filter(|d| !reduced.contains(d)).map(|d| input.dims[d]).collect();
    ReduceSpec {
        dims: input.dims.clone(),
        reduced: reduced.to_vec(),
        code: vec![Instr::Load(0)],
        inputs: vec![input],
        reductions: vec![(0, op)],
        epilogue: vec![Instr::Reduced(0)],
        epilogue_inputs: vec![],
        outputs: vec![(0, View::whole(out, out_dtype, kept))],
    }
}

#[test]
fn every_pattern_of_dimensions() {
    let mut rng = RngKey::new(11).stream();
    let shapes: &[&[usize]] = &[
        &[2, 3, 4, 5, 6],
        &[7, 33],
        &[33, 7],
        &[1, 10],
        &[32, 10],
        &[600, 10],
        &[10, 600],
        &[5, 40, 16],
        &[3, 20, 1030],
        &[1, 1, 1],
        &[70_003],
        &[1100, 17],
        &[2, 40_000],
        &[0, 4],
        &[4, 0],
        &[20, 300, 2],
        &[3, 513, 3],
    ];
    for dims in shapes {
        let n: usize = dims.iter().product();
        let data = [Data::random(DType::F32, n, &mut rng), Data::zeros(DType::F32, n.max(100_000))];
        for mask in 0..1 << dims.len() {
            let reduced: Vec<usize> = (0..dims.len()).filter(|d| mask >> d & 1 == 1).collect();
            let spec = simple(View::whole(0, DType::F32, *dims), &reduced, ReduceOp::Sum, 1, DType::F32);
            check(&format!("{dims:?} over {reduced:?}"), &data, &spec, 1e-6);
        }
        // The same elements walked through a transposed view.
        if dims.len() > 1 && n < 10_000 {
            let order: Vec<usize> = (0..dims.len()).rev().collect();
            let view = View::whole(0, DType::F32, *dims).permuted(&order);
            check(
                &format!("{dims:?} reversed"),
                &data,
                &simple(view, &[0], ReduceOp::Max, 1, DType::F32),
                0.0,
            );
        }
    }
}

#[test]
fn every_operation_on_every_type() {
    let mut rng = RngKey::new(12).stream();
    for dtype in DType::ALL {
        for op in [ReduceOp::Sum, ReduceOp::Prod, ReduceOp::Max, ReduceOp::Min] {
            if dtype == DType::Bool && matches!(op, ReduceOp::Sum | ReduceOp::Prod) {
                continue;
            }
            for (dims, reduced) in [([9, 70], 1), ([9, 70], 0), ([60, 3], 0), ([60, 3], 1)] {
                let data = [Data::random(dtype, 630, &mut rng), Data::zeros(dtype, 630)];
                let relative = if dtype == DType::BF16 { 0.01 } else { 1e-5 };
                let spec = simple(View::whole(0, dtype, dims), &[reduced], op, 1, dtype);
                check(&format!("{op:?} of {dtype} {dims:?}"), &data, &spec, relative);
            }
        }
    }
}

#[test]
fn nothing_reduced_gives_the_identity_and_nan_propagates() {
    let cases = [
        (ReduceOp::Sum, 0.0),
        (ReduceOp::Prod, 1.0),
        (ReduceOp::Max, f64::NEG_INFINITY),
        (ReduceOp::Min, f64::INFINITY),
    ];
    for (op, identity) in cases {
        let spec = || {
            Reduce::simple(View::whole(0, DType::F32, [3, 0]), vec![1], op, View::whole(1, DType::F32, [3]))
        };
        let data = vec![Data::zeros(DType::F32, 0), Data::floats(DType::F32, [7.0; 3])];
        for (path, after) in kernel_case(data, || spec().unwrap()) {
            assert!(after[1].f32s().iter().all(|&x| f64::from(x) == identity), "{op:?} on {path}");
        }
        let mut with_nan = Data::floats(DType::F32, [1.0; 100]);
        with_nan.set(37, Value::Float(f64::NAN));
        let sum =
            || Reduce::simple(View::whole(0, DType::F32, [100]), vec![0], op, View::whole(1, DType::F32, []));
        for (path, after) in kernel_case(vec![with_nan, Data::zeros(DType::F32, 1)], || sum().unwrap()) {
            assert!(after[1].f32s()[0].is_nan(), "{op:?} on {path}");
        }
    }
}

/// What normalisation needs: two sums in one pass over fused code, then an epilogue with an input of its own.
#[test]
fn several_sums_and_an_epilogue() {
    let mut rng = RngKey::new(13).stream();
    for (dims, reduced) in [(vec![6, 5, 300], vec![0, 2]), (vec![40, 64], vec![1]), (vec![700, 9], vec![0])] {
        let n: usize = dims.iter().product();
        let kept: Vec<usize> = (0..dims.len()).filter(|d| !reduced.contains(d)).map(|d| dims[d]).collect();
        let k: usize = kept.iter().product();
        let data = [
            Data::random(DType::F32, n, &mut rng),
            Data::random(DType::F32, k, &mut rng),
            Data::zeros(DType::F32, k),
            Data::zeros(DType::F32, k),
        ];
        let spec = ReduceSpec {
            dims: dims.clone(),
            reduced: reduced.clone(),
            code: vec![Instr::Load(0), Instr::Binary(BinaryOp::Mul, 0, 0), Instr::Unary(UnaryOp::Abs, 0)],
            inputs: vec![View::whole(0, DType::F32, dims.clone())],
            reductions: vec![(0, ReduceOp::Sum), (1, ReduceOp::Sum), (2, ReduceOp::Max)],
            epilogue: vec![
                Instr::Reduced(1),
                Instr::Const(Literal::F32(1.0 / (n / k) as f32)),
                Instr::Binary(BinaryOp::Mul, 0, 1),
                Instr::Load(0),
                Instr::Binary(BinaryOp::Add, 2, 3),
                Instr::Reduced(0),
                Instr::Reduced(2),
                Instr::Binary(BinaryOp::Add, 5, 6),
            ],
            epilogue_inputs: vec![View::whole(1, DType::F32, kept.clone())],
            outputs: vec![
                (4, View::whole(2, DType::F32, kept.clone())),
                (7, View::whole(3, DType::F32, kept.clone())),
            ],
        };
        check(&format!("{dims:?} over {reduced:?}"), &data, &spec, 1e-6);
    }
}

/// The order of summation of a row does not depend on how many rows there are.
#[test]
fn rows_are_reduced_alike_alone_and_together() {
    let mut rng = RngKey::new(14).stream();
    for columns in [10, 100, 700, 40_000] {
        let rows = 5;
        let all = Data::random(DType::F32, rows * columns, &mut rng);
        let run = |rows: usize, data: &Data| {
            let kernel = || {
                let view = View::whole(0, DType::F32, [rows, columns]);
                Reduce::simple(view, vec![1], ReduceOp::Sum, View::whole(1, DType::F32, [rows])).unwrap()
            };
            kernel_case(vec![data.clone(), Data::zeros(DType::F32, rows)], kernel)
        };
        let together = run(rows, &all);
        for row in 0..rows {
            let one = Data::from(DType::F32, (0..columns).map(|i| all.get(row * columns + i)));
            for ((_, alone), (_, together)) in run(1, &one).iter().zip(&together) {
                assert_eq!(
                    alone[1].f32s()[0].to_bits(),
                    together[1].f32s()[row].to_bits(),
                    "{columns} columns"
                );
            }
        }
    }
}
