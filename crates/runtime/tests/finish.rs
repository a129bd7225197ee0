//! Convolutions and matrix products take the bias, the shortcut and the bounds that follow them, and only those.

use outgrow_ir::{Builder, Dim, Graph, InputRole, TensorType, Value, interpret};
use outgrow_runtime::{
    Backend, CompileOptions, CpuBackend, KernelPath, StepInfo, ThreadPool, compile, run_tensors,
};
use outgrow_tensor::{DType, RngKey, Tensor};
use std::sync::Arc;

const DIMS: [usize; 4] = [2, 8, 9, 10];

/// A convolution of the image with itself as its shortcut, and what `follows` makes of its sums.
fn graph(groups: usize, follows: impl FnOnce(&mut Builder, Value, Value) -> Value) -> Graph {
    let mut b = Builder::new("convolution");
    let x = b.input("x", InputRole::Data, TensorType::new(DType::F32, DIMS));
    let w = b.param("w", DType::F32, &[8, 8 / groups, 3, 3]);
    let window = outgrow_ir::ops::Window { padding: [1; 4], ..Default::default() };
    let sums = b.conv2d(x, w, window, groups);
    let y = follows(&mut b, x, sums);
    b.output("y", y);
    b.finish().unwrap()
}

fn biased(b: &mut Builder, sums: Value) -> Value {
    let bias = b.param("bias", DType::F32, &[8]);
    let spread = b.broadcast_axis(bias, &b.dims(sums), 1);
    b.add(sums, spread)
}

fn bounded(b: &mut Builder, x: Value, low: f64, high: f64) -> Value {
    let (low, high) = (b.scalar(low, DType::F32), b.scalar(high, DType::F32));
    let x = b.max(x, low);
    b.min(x, high)
}

/// The steps that the graph becomes, on the best path.
fn steps(graph: &Graph) -> Vec<StepInfo> {
    let backend = CpuBackend::new(Arc::new(ThreadPool::new(1)));
    compile(&backend as &dyn Backend, graph, 1, &CompileOptions::default()).unwrap().steps
}

/// Runs the graph on every path and by several threads against the reference; the program has so many steps.
fn check(graph: &Graph, steps: usize) {
    check_on(graph, |_| steps, 1e-5);
}

/// The same with as many steps as `steps` says of a path, and results that may be as far off as `tolerance`.
fn check_on(graph: &Graph, steps: impl Fn(KernelPath) -> usize, tolerance: f64) {
    let values = |(i, v): (usize, &Value)| {
        let mut stream = RngKey::new(i as u64).stream();
        let ty = graph.ty(*v);
        Tensor::from_f64(ty.dtype, ty.static_shape().unwrap(), |_| stream.normal())
    };
    let inputs: Vec<Tensor> = graph.inputs.iter().enumerate().map(values).collect();
    let expected = interpret(graph, &inputs).unwrap();
    for path in KernelPath::supported() {
        let run = |threads| {
            let backend = CpuBackend { path, ..CpuBackend::new(Arc::new(ThreadPool::new(threads))) };
            let compiled = compile(&backend as &dyn Backend, graph, 1, &CompileOptions::default()).unwrap();
            assert_eq!(compiled.steps.len(), steps(path), "{:?}\n{graph}", compiled.steps);
            run_tensors(&backend, &compiled, &inputs).unwrap()
        };
        let outputs = run(1);
        for (output, expected) in outputs.iter().zip(&expected) {
            for i in 0..expected.elements() {
                let (got, right) = (output.get_f64(i), expected.get_f64(i));
                assert!(
                    (got - right).abs() <= tolerance * right.abs().max(10.0),
                    "element {i} on {path} is {got}, expected {right}\n{graph}"
                );
            }
        }
        assert!(run(2).iter().zip(&outputs).all(|(a, b)| a.same_bits(b)), "{path}");
    }
}

#[test]
fn biases_shortcuts_and_bounds_are_one_step_with_their_convolution() {
    for groups in [1, 8] {
        check(&graph(groups, |b, _, sums| biased(b, sums)), 1);
        check(&graph(groups, |b, x, sums| b.add(x, sums)), 1);
        check(
            &graph(groups, |b, _, sums| {
                let y = biased(b, sums);
                bounded(b, y, 0.0, 1.0)
            }),
            1,
        );
        check(
            &graph(groups, |b, x, sums| {
                let y = biased(b, sums);
                let y = b.add(y, x);
                b.relu(y)
            }),
            1,
        );
    }
}

/// Each of two convolutions takes its own bias, and the second the sum with the first.
#[test]
fn two_convolutions_whose_sum_is_bounded_are_two_steps() {
    check(
        &graph(1, |b, x, sums| {
            let y = biased(b, sums);
            let w = b.param("w2", DType::F32, &[8, 8, 1, 1]);
            let other = b.conv2d(x, w, outgrow_ir::ops::Window::default(), 1);
            let bias = b.param("bias2", DType::F32, &[8]);
            let spread = b.broadcast_axis(bias, &b.dims(other), 1);
            let other = b.add(other, spread);
            let y = b.add(y, other);
            b.relu(y)
        }),
        2,
    );
}

#[test]
fn other_work_is_a_step_of_its_own() {
    // Another order, another function, a result that is read twice: what is before it is still done to the sums.
    check(
        &graph(1, |b, x, sums| {
            let y = b.relu(sums);
            b.add(y, x)
        }),
        2,
    );
    check(
        &graph(1, |b, _, sums| {
            let y = biased(b, sums);
            b.tanh(y)
        }),
        2,
    );
    check(
        &graph(1, |b, _, sums| {
            let y = biased(b, sums);
            b.output("sums", sums);
            y
        }),
        2,
    );
    check(
        &graph(1, |b, _, sums| {
            let y = b.relu(sums);
            b.mul(y, sums)
        }),
        2,
    );
    // A bound that would change the sign of zero.
    check(
        &graph(1, |b, _, sums| {
            let zero = b.scalar(-0.0, DType::F32);
            b.max(sums, zero)
        }),
        2,
    );
}

/// A scale is looked at before it is found to be nothing that a convolution can do: its step is described as what it is.
#[test]
fn convolutions_that_take_nothing_are_described_as_convolutions() {
    let graph = graph(1, |b, _, sums| {
        let scale = b.param("scale", DType::F32, &[8]);
        let spread = b.broadcast_axis(scale, &b.dims(sums), 1);
        b.mul(sums, spread)
    });
    check(&graph, 2);
    let steps = steps(&graph);
    let step = steps.iter().find(|step| step.kernel == "conv2d").unwrap();
    let flops = 2 * DIMS.iter().product::<usize>() * 8 * 9;
    assert_eq!((step.ops.as_str(), step.cost.flops), ("conv2d", flops as u64), "{steps:?}");
}

/// Operands of bf16 are multiplied as they are, or widened once, whether or not the convolution takes what follows.
#[test]
fn operands_of_bf16_are_widened_once_if_at_all() {
    let of = |follows: fn(&mut Builder, Value) -> Value| {
        let mut b = Builder::new("convolution");
        let x = b.input("x", InputRole::Data, TensorType::new(DType::BF16, DIMS));
        let w = b.param("w", DType::BF16, &[8, 8, 3, 3]);
        let sums = b.conv2d_as(DType::F32, x, w, outgrow_ir::ops::Window::default(), 1);
        let y = follows(&mut b, sums);
        b.output("y", y);
        b.finish().unwrap()
    };
    // Both operands, and the convolution; what it does not take is one step more.
    let steps = |path, more: usize| more + if path == KernelPath::Avx512Bf16 { 1 } else { 3 };
    check_on(&of(|_, sums| sums), |path| steps(path, 0), 1e-5);
    check_on(&of(|b, sums| b.relu(sums)), |path| steps(path, 0), 1e-5);
    check_on(&of(|b, sums| b.tanh(sums)), |path| steps(path, 1), 1e-5);
}

/// Convolutions of pairs round what they read themselves; for others that is done to the sums that they read, which stay
/// f32. What is read by anything else is rounded in a step of its own.
#[test]
fn images_are_rounded_where_they_are_read_or_made() {
    let of = |read_twice: bool| {
        let mut b = Builder::new("convolutions");
        let mut x = b.input("x", InputRole::Data, TensorType::new(DType::F32, DIMS));
        for (i, groups) in [1, 8, 1].into_iter().enumerate() {
            let w = b.param(&format!("w{i}"), DType::BF16, &[8, 8 / groups, 3, 3]);
            let window = outgrow_ir::ops::Window { padding: [1; 4], ..Default::default() };
            let narrow = b.cast(x, DType::BF16);
            let sums = b.conv2d_as(DType::F32, narrow, w, window, groups);
            x = b.relu(sums);
            if read_twice && i == 0 {
                b.output("narrow", narrow);
            }
        }
        b.output("y", x);
        b.finish().unwrap()
    };
    let pairs = |path| path == KernelPath::Avx512Bf16;
    // A step for each convolution, for each of the weights that are widened, and for the image that comes rounded.
    let tolerance = 2e-2;
    check_on(&of(false), |path| if pairs(path) { 3 + 1 } else { 3 + 3 + 2 }, tolerance);
    check_on(&of(true), |path| if pairs(path) { 3 + 1 + 1 } else { 3 + 3 + 2 }, tolerance);
}

/// No images: what is added has no elements, and is no bias, whatever its strides.
#[test]
fn no_images_have_no_bias() {
    let mut b = Builder::new("convolution");
    let dims = [0, 8, 9, 10].map(Dim::Fixed);
    let x = b.input("x", InputRole::Data, TensorType::new(DType::F32, dims));
    let flat = b.input("flat", InputRole::Data, TensorType::new(DType::F32, [0usize, 720]));
    let w = b.param("w", DType::F32, &[8, 8, 1, 1]);
    let sums = b.conv2d(x, w, outgrow_ir::ops::Window::default(), 1);
    let shortcut = b.reshape(flat, &dims);
    let y = b.add(sums, shortcut);
    b.output("y", y);
    check(&b.finish().unwrap(), 1);
}

/// A product of rows with a matrix, and what `follows` makes of its sums and of a residual.
fn product(dtype: DType, rows: &[usize], follows: impl FnOnce(&mut Builder, Value, Value) -> Value) -> Graph {
    let mut b = Builder::new("product");
    let dims = |last| rows.iter().copied().chain([last]).collect::<Vec<_>>();
    let x = b.input("x", InputRole::Data, TensorType::new(dtype, dims(40)));
    let residual = b.input("residual", InputRole::Data, TensorType::new(DType::F32, dims(24)));
    let w = b.param("w", dtype, &[40, 24]);
    let sums = b.dot_as(DType::F32, x, w, (&[], &[]), (&[rows.len()], &[0]));
    let y = follows(&mut b, residual, sums);
    b.output("y", y);
    b.finish().unwrap()
}

fn with_bias(b: &mut Builder, sums: Value) -> Value {
    let bias = b.param("bias", DType::F32, &[24]);
    let dims = b.dims(sums);
    let spread = b.broadcast_axis(bias, &dims, dims.len() - 1);
    b.add(sums, spread)
}

#[test]
fn biases_shortcuts_and_bounds_are_one_step_with_their_product() {
    for dtype in [DType::F32, DType::BF16] {
        for rows in [&[30][..], &[1], &[2, 9]] {
            check(&product(dtype, rows, |b, _, sums| with_bias(b, sums)), 1);
            check(&product(dtype, rows, |b, residual, sums| b.add(residual, sums)), 1);
            check(
                &product(dtype, rows, |b, residual, sums| {
                    let y = with_bias(b, sums);
                    let y = b.add(y, residual);
                    b.relu(y)
                }),
                1,
            );
            // What is there is done to the sums, and the rest is a step of its own.
            check(
                &product(dtype, rows, |b, residual, sums| {
                    let y = with_bias(b, sums);
                    let y = b.tanh(y);
                    b.mul(y, residual)
                }),
                2,
            );
        }
    }
}

/// A bias for each row is none for each column.
#[test]
fn biases_of_rows_are_a_step_of_their_own() {
    check(
        &product(DType::F32, &[30], |b, _, sums| {
            let bias = b.param("bias", DType::F32, &[30]);
            let spread = b.broadcast_axis(bias, &b.dims(sums), 0);
            b.add(sums, spread)
        }),
        2,
    );
}

/// A product whose sums are rounded to bf16 takes nothing: what follows reads what was rounded.
#[test]
fn sums_that_are_rounded_take_nothing() {
    let mut b = Builder::new("product");
    let x = b.input("x", InputRole::Data, TensorType::new(DType::BF16, [30usize, 40]));
    let w = b.param("w", DType::BF16, &[40, 24]);
    let sums = b.dot(x, w, (&[], &[]), (&[1], &[0]));
    let y = b.relu(sums);
    b.output("y", y);
    let graph = b.finish().unwrap();
    let steps = steps(&graph);
    assert!(steps.iter().any(|step| step.ops == "dot" && step.kernel == "matmul"), "{steps:?}");
}
