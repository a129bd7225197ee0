//! `Map` against the slow interpreter: every instruction on every type, and every kind of operand layout.

mod common;

use common::{Data, Value, close, indices, interpret, kernel_case, position};
use outgrow_kernels::{BinaryOp, CompareOp, Instr, Literal, Map, Slot, UnaryOp, View};
use outgrow_tensor::{DType, RngKey};

/// Runs a map and compares every output element with the interpreter's.
fn check(
    what: &str,
    dims: &[usize],
    code: &[Instr],
    data: Vec<Data>,
    inputs: &[View],
    outputs: &[(usize, View)],
) {
    let results =
        kernel_case(data.clone(), || Map::new(dims, code, inputs.to_vec(), outputs.to_vec()).unwrap());
    for (path, after) in results {
        for index in indices(dims) {
            let load = |i: usize| {
                let view: &View = &inputs[i];
                (view.dtype, data[view.slot.buffer as usize].get(position(view, &index)))
            };
            let regs = interpret(code, &index, load, &[]);
            for (reg, view) in outputs {
                let got = after[view.slot.buffer as usize].get(position(view, &index));
                let want = regs[*reg].1;
                let relative = match view.dtype {
                    _ if matches!(code[*reg], Instr::Cast(..)) => 0.0,
                    DType::BF16 => 0.01,
                    DType::F32 => 1e-6,
                    _ => 1e-15,
                };
                let equal = match (got, want) {
                    (Value::Int(a), Value::Int(b)) => a == b,
                    (a, b) => close(a.float(), b.float(), relative, 1e-36),
                };
                assert!(equal, "{what} on {path}: at {index:?} register {reg} is {got:?}, expected {want:?}");
            }
        }
    }
}

#[test]
fn every_instruction_on_every_type() {
    use UnaryOp as U;
    let floats =
        [U::Exp, U::Log, U::Sqrt, U::Rsqrt, U::Tanh, U::Erf, U::Floor, U::Ceil, U::Round, U::Sin, U::Cos];
    let numbers = [U::Neg, U::Abs, U::Sign, U::IsFinite];
    let arithmetic =
        [BinaryOp::Add, BinaryOp::Sub, BinaryOp::Mul, BinaryOp::Div, BinaryOp::Rem, BinaryOp::Pow];
    let order = [BinaryOp::Max, BinaryOp::Min];
    let bits = [BinaryOp::And, BinaryOp::Or];
    let compares = [CompareOp::Eq, CompareOp::Ne, CompareOp::Lt, CompareOp::Le, CompareOp::Gt, CompareOp::Ge];
    let n = 1100;
    for dtype in DType::ALL {
        let mut code = vec![Instr::Load(0), Instr::Load(1), Instr::Load(2)];
        if dtype != DType::Bool {
            code.extend(numbers.map(|op| Instr::Unary(op, 0)));
            code.extend(arithmetic.map(|op| Instr::Binary(op, 0, 1)));
        } else {
            code.push(Instr::Unary(U::Not, 0));
        }
        if dtype.is_float() {
            code.extend(floats.map(|op| Instr::Unary(op, 0)));
        } else {
            code.extend(bits.map(|op| Instr::Binary(op, 0, 1)));
        }
        code.extend(order.map(|op| Instr::Binary(op, 0, 1)));
        code.extend(compares.map(|op| Instr::Compare(op, 0, 1)));
        code.push(Instr::Select(2, 0, 1));
        code.extend(DType::ALL.map(|to| Instr::Cast(0, to)));
        // Equal neighbours, zeros, halves and the special floats must come up.
        let mut rng = RngKey::new(7).stream();
        let mut a = Data::random(dtype, n, &mut rng);
        let mut b = Data::random(dtype, n, &mut rng);
        // The last two stand just above the middle of two bf16, where f32 has only the middle.
        let beside_middle = [1.0 + 2f64.powi(-8) + 2f64.powi(-40), f64::from((1 << 30) + (1 << 22) + 1)];
        let special =
            [0.0, -0.0, 0.5, 1.5, 2.5, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 300.0, -3e9, 1e30];
        let special = [&special[..], &beside_middle].concat();
        for (i, &x) in special.iter().enumerate() {
            for (j, &y) in special.iter().enumerate() {
                a.set(600 + i * special.len() + j, Value::Float(x));
                b.set(600 + i * special.len() + j, Value::Float(y));
            }
        }
        let c = Data::random(DType::Bool, n, &mut rng);
        let mut data = vec![a, b, c];
        let inputs =
            vec![View::whole(0, dtype, [n]), View::whole(1, dtype, [n]), View::whole(2, DType::Bool, [n])];
        let mut outputs = Vec::new();
        for (reg, instr) in code.iter().enumerate().skip(3) {
            let out = match *instr {
                Instr::Compare(..) | Instr::Unary(U::IsFinite, _) => DType::Bool,
                Instr::Cast(_, to) => to,
                _ => dtype,
            };
            outputs.push((reg, View::whole(data.len() as u32, out, [n])));
            data.push(Data::zeros(out, n));
        }
        check(dtype.name(), &[n], &code, data, &inputs, &outputs);
    }
}

#[test]
fn operand_layouts() {
    let mut rng = RngKey::new(3).stream();
    let dims = [3, 5, 7, 11];
    let n: usize = dims.iter().product();
    let add = |a, b| Instr::Binary(BinaryOp::Add, a, b);
    for dtype in [DType::F32, DType::BF16, DType::I64, DType::U8] {
        let data = vec![
            Data::random(dtype, 2 * n, &mut rng),
            Data::random(dtype, n, &mut rng),
            Data::random(dtype, 77, &mut rng),
            Data::zeros(dtype, n),
            Data::zeros(dtype, 2 * n),
        ];
        let whole = View::whole(0, dtype, dims);
        let inputs = vec![
            whole.clone(),
            View::whole(1, dtype, [11, 7, 5, 3]).permuted(&[3, 2, 1, 0]),
            View::whole(2, dtype, [7]).broadcast(&dims, &[2]),
            View::whole(2, dtype, [5, 1]).broadcast(&dims, &[1, 3]),
            View::whole(2, dtype, []).broadcast(&dims, &[]),
            whole.reversed(3).reversed(1),
            View::whole(0, dtype, [3, 5, 14, 11]).sliced(2, 1, 7, 2),
            View { slot: Slot::new(2, 16, 61 * dtype.bytes()), ..View::whole(2, dtype, [7, 1]) }
                .broadcast(&dims, &[2, 3]),
        ];
        let mut code: Vec<Instr> = (0..inputs.len()).map(Instr::Load).collect();
        for i in 0..inputs.len() {
            code.push(add(if i == 0 { 0 } else { code.len() - 1 }, i));
        }
        for dim in 0..4 {
            code.push(Instr::Iota { dim, dtype });
            code.push(add(code.len() - 2, code.len() - 1));
        }
        let last = code.len() - 1;
        let outputs = vec![
            (last, View::whole(3, dtype, dims)),
            (last - 2, View::whole(4, dtype, [11, 5, 14, 3]).sliced(2, 13, 7, -2).permuted(&[3, 1, 2, 0])),
        ];
        check(dtype.name(), &dims, &code, data, &inputs, &outputs);
    }
}

#[test]
fn edge_extents_and_long_spaces() {
    let mut rng = RngKey::new(4).stream();
    for dims in
        [vec![], vec![0], vec![1], vec![511], vec![512], vec![513], vec![3, 0, 2], vec![1, 1], vec![70_001]]
    {
        let n: usize = dims.iter().product();
        let data = vec![Data::random(DType::F32, n, &mut rng), Data::zeros(DType::F32, n)];
        let code = [
            Instr::Load(0),
            Instr::Const(Literal::F32(1.5)),
            Instr::Unary(UnaryOp::Exp, 0),
            Instr::Binary(BinaryOp::Mul, 1, 2),
        ];
        let outputs = [(3, View::whole(1, DType::F32, dims.clone()))];
        check(
            &format!("{dims:?}"),
            &dims,
            &code,
            data,
            &[View::whole(0, DType::F32, dims.clone())],
            &outputs,
        );
    }
}

#[test]
fn in_place_updates_and_swaps() {
    let mut rng = RngKey::new(5).stream();
    let n = 2000;
    let data = vec![Data::random(DType::F32, n, &mut rng), Data::random(DType::F32, n, &mut rng)];
    let view = |b| View::whole(b, DType::F32, [n]);
    let code = [
        Instr::Load(0),
        Instr::Load(1),
        Instr::Binary(BinaryOp::Add, 0, 1),
        Instr::Binary(BinaryOp::Mul, 0, 1),
    ];
    check("update", &[n], &code, data.clone(), &[view(0), view(1)], &[(2, view(0)), (3, view(1))]);
    check("swap", &[n], &code, data.clone(), &[view(0), view(1)], &[(1, view(0)), (0, view(1))]);
    check("half", &[n], &code, data, &[view(0), view(1)], &[(0, view(1)), (2, view(0))]);
}

/// What one instruction reads of another and nothing else does may be computed with it: each is rounded as where both
/// results are stored.
#[test]
fn instructions_in_pairs_round_as_alone() {
    let firsts = [BinaryOp::Add, BinaryOp::Sub, BinaryOp::Mul, BinaryOp::Div];
    let seconds = [&firsts[..], &[BinaryOp::Max, BinaryOp::Min]].concat();
    let compares = [CompareOp::Eq, CompareOp::Ne, CompareOp::Lt, CompareOp::Le, CompareOp::Gt, CompareOp::Ge];
    let mut pairs = Vec::new();
    for first in firsts.map(|op| Instr::Binary(op, 0, 1)) {
        for second in &seconds {
            pairs.push([first, Instr::Binary(*second, 3, 2)]);
            pairs.push([first, Instr::Binary(*second, 2, 3)]);
        }
    }
    pairs.extend(compares.map(|op| [Instr::Compare(op, 0, 1), Instr::Select(3, 2, 1)]));
    let n = 1100;
    let mut rng = RngKey::new(11).stream();
    for dtype in [DType::F32, DType::BF16] {
        let mut operands: Vec<Data> = (0..3).map(|_| Data::random(dtype, n, &mut rng)).collect();
        let special = [0.0, -0.0, 1.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
        for i in 0..special.len().pow(3) {
            for (operand, of) in operands.iter_mut().zip([1, special.len(), special.len().pow(2)]) {
                operand.set(600 + i, Value::Float(special[i / of % special.len()]));
            }
        }
        for [first, second] in &pairs {
            let code = [Instr::Load(0), Instr::Load(1), Instr::Load(2), *first, *second];
            let between = if matches!(first, Instr::Compare(..)) { DType::Bool } else { dtype };
            let data = [&operands[..], &[Data::zeros(dtype, n), Data::zeros(between, n)]].concat();
            let view = |buffer, dtype| View::whole(buffer, dtype, [n]);
            let run = |outputs: &[(usize, View)]| {
                let inputs = || (0..3).map(|i| view(i, dtype)).collect();
                kernel_case(data.clone(), || Map::new(&[n], &code, inputs(), outputs.to_vec()).unwrap())
            };
            let together = run(&[(4, view(3, dtype))]);
            let apart = run(&[(4, view(3, dtype)), (3, view(4, between))]);
            for ((path, together), (_, apart)) in together.iter().zip(&apart) {
                let same = (0..n).all(|i| match (together[3].get(i), apart[3].get(i)) {
                    (Value::Float(a), Value::Float(b)) => {
                        a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
                    }
                    _ => false,
                });
                assert!(same, "{first:?}, then {second:?} of {dtype} on {path}");
            }
        }
    }
}
