//! Every backend against the reference, on the samples of every registered op and on whole graphs.

use outgrow_ir::{Builder, Dim, Graph, InputKind, Op, Sample, TensorType, interpret};
use outgrow_passes::add_gradients;
use outgrow_runtime::{
    Backend, CompileOptions, CpuBackend, KernelPath, ReferenceBackend, ThreadPool, compile, run_tensors,
};
use outgrow_tensor::{DType, RngKey, Tensor};
use std::sync::Arc;

fn options(threads: usize, path: KernelPath) -> CompileOptions {
    CompileOptions { path, ..CompileOptions::new(Arc::new(ThreadPool::new(threads))) }
}

/// Runs a graph on a backend.
fn run(backend: &dyn Backend, graph: &Graph, inputs: &[Tensor], options: &CompileOptions) -> Vec<Tensor> {
    let mut compiled = compile(backend, graph, 1, options).unwrap_or_else(|e| panic!("{graph}\n{e}"));
    run_tensors(&mut compiled, inputs).unwrap_or_else(|e| panic!("{graph}\n{e}"))
}

/// Whether two tensors agree: integers exactly, floats to `tolerance` relative to the larger of 1 and the value.
fn assert_close(got: &Tensor, expected: &Tensor, tolerance: f64, what: &str) {
    assert_eq!((got.dtype(), got.shape()), (expected.dtype(), expected.shape()), "{what}");
    for i in 0..expected.elements() {
        let (g, e) = (got.get_f64(i), expected.get_f64(i));
        let close = g == e || (g.is_nan() && e.is_nan()) || (g - e).abs() <= tolerance * e.abs().max(1.0);
        assert!(close, "{what}: element {i} is {g}, expected {e}");
    }
}

fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => 1e-12,
        DType::F32 => 2e-5,
        DType::BF16 => 2e-2,
        _ => 0.0,
    }
}

fn check_sample(sample: &Sample, case: u64) {
    let Ok(graph) = sample.graph() else { return };
    let inputs = sample.values(RngKey::new(5).fold_in(case));
    let expected = interpret(&graph, &inputs).unwrap().remove(0);
    let reference = run(&ReferenceBackend, &graph, &inputs, &options(1, KernelPath::detect())).remove(0);
    assert!(reference.same_bits(&expected), "{:?}", sample.op);
    for path in KernelPath::supported() {
        let got: Vec<_> = [1, 2, 3]
            .map(|threads| run(&CpuBackend, &graph, &inputs, &options(threads, path)).remove(0))
            .into();
        let what = format!("{:?} on {path:?}", sample.op);
        assert_close(&got[0], &expected, tolerance(expected.dtype()), &what);
        assert!(got[1].same_bits(&got[0]) && got[2].same_bits(&got[0]), "{what}: bits depend on threads");
    }
}

#[test]
fn every_op_agrees_with_the_reference_on_every_path() {
    for (case, sample) in Op::all_samples().into_iter().enumerate() {
        check_sample(&sample, case as u64);
        for dtype in [DType::F64, DType::BF16] {
            // Random numbers are f32 only.
            if !matches!(sample.op, Op::RandomUniform(_)) {
                check_sample(&sample.clone().with_floats(dtype), case as u64);
            }
        }
    }
}

/// `loss = mean over the batch of sum((relu(x w1 + b1) w2)^2)` with its gradients.
fn small_network() -> Graph {
    let mut b = Builder::new("small");
    let (w1, b1, w2) = (b.param("w1", &[5, 7]), b.param("b1", &[7]), b.param("w2", &[7, 3]));
    let x = b.input("x", InputKind::Feed, TensorType::new(DType::F32, [Dim::B, Dim::Fixed(5)]));
    let h = b.matmul(x, w1);
    let h = b.add(h, b1);
    let zero = b.scalar(0.0, DType::F32);
    let h = b.max(h, zero);
    let y = b.matmul(h, w2);
    let square = b.mul(y, y);
    let loss = b.sum_all(square);
    b.output("loss", loss);
    b.output("y", y);
    b.output("x again", x);
    b.output("y again", y);
    add_gradients(&b.finish().unwrap(), "loss").unwrap()
}

#[test]
fn a_network_with_gradients_agrees_with_the_reference() {
    let graph = small_network().bind(9);
    let values = |(i, v): (usize, &outgrow_ir::Value)| {
        let mut stream = RngKey::new(i as u64).stream();
        let ty = graph.ty(*v);
        Tensor::from_f64(ty.dtype, ty.static_shape().unwrap(), |_| stream.normal())
    };
    let inputs: Vec<Tensor> = graph.inputs.iter().enumerate().map(values).collect();
    let expected = interpret(&graph, &inputs).unwrap();
    for threads in [1, 2] {
        let got = run(&CpuBackend, &graph, &inputs, &options(threads, KernelPath::detect()));
        for ((name, _), (g, e)) in graph.outputs.iter().zip(got.iter().zip(&expected)) {
            assert_close(g, e, 1e-4, name);
        }
    }
}

#[test]
fn updates_in_place_give_the_same_as_beside() {
    use outgrow_runtime::BufferRef;
    // p' = p - 0.1 g, m' = p' + m; p and m are overwritten although m' reads p'.
    let mut b = Builder::new("update");
    let ty = TensorType::new(DType::F32, [1000usize]);
    let [p, m, g] = ["p", "m", "g"].map(|n| b.input(n, InputKind::Feed, ty.clone()));
    let step = b.mul_scalar(g, 0.1);
    let p2 = b.sub(p, step);
    let m2 = b.add(p2, m);
    b.output("p", p2);
    b.output("m", m2);
    let graph = b.finish().unwrap();
    let options = CompileOptions { in_place: vec![(0, 0), (1, 1)], ..options(2, KernelPath::detect()) };
    let mut compiled = compile(&CpuBackend, &graph, 1, &options).unwrap();
    assert_eq!(
        (compiled.memory.planned_bytes, compiled.steps.len()),
        (0, 1),
        "one step straight over the inputs"
    );
    let (mut p, mut m) = (vec![1.0f32; 1000], vec![2.0f32; 1000]);
    let g = vec![10.0f32; 1000];
    let mut buffers = [BufferRef::write(&mut p), BufferRef::write(&mut m), BufferRef::read(&g)];
    compiled.executable.run(&mut buffers).unwrap();
    assert_eq!((p[999], m[999]), (0.0, 2.0));
}
