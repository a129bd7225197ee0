//! Every backend against the reference, on the samples of every registered op and on whole graphs.

use outgrow_ir::{Builder, Dim, Graph, GroupId, InputKind, Op, Sample, TensorType, interpret};
use outgrow_passes::add_gradients;
use outgrow_runtime::{
    Backend, BufferRef, CompileOptions, CpuBackend, KernelPath, ReferenceBackend, ThreadPool, Weights,
    compile, run_tensors,
};
use outgrow_tensor::{DType, RngKey, Tensor};
use std::sync::Arc;

fn options(threads: usize, path: KernelPath) -> CompileOptions {
    CompileOptions { path, ..CompileOptions::new(Arc::new(ThreadPool::new(threads))) }
}

/// Runs a graph on a backend.
fn run(backend: &dyn Backend, graph: &Graph, inputs: &[Tensor], options: &CompileOptions) -> Vec<Tensor> {
    let compiled = compile(backend, graph, 1, options).unwrap_or_else(|e| panic!("{graph}\n{e}"));
    run_tensors(&compiled, inputs).unwrap_or_else(|e| panic!("{graph}\n{e}"))
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

/// Says whether the op takes the sample's types.
fn check_sample(sample: &Sample, case: u64) -> bool {
    let Ok(graph) = sample.graph() else { return false };
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
    true
}

#[test]
fn every_op_agrees_with_the_reference_on_every_path() {
    for (case, sample) in Op::all_samples().into_iter().enumerate() {
        assert!(check_sample(&sample, case as u64), "{:?} does not take its own sample", sample.op);
        for dtype in [DType::F64, DType::BF16] {
            let ran = check_sample(&sample.clone().with_floats(dtype), case as u64);
            assert!(ran, "{:?} does not take {dtype}", sample.op);
        }
    }
}

/// `loss = mean over the batch of sum((relu(x w1 + b1) w2)^2)` with its gradients.
fn small_network() -> Graph {
    let mut b = Builder::new("small");
    let (w1, b1, w2) = (
        b.param("w1", DType::F32, &[5, 7]),
        b.param("b1", DType::F32, &[7]),
        b.param("w2", DType::F32, &[7, 3]),
    );
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

/// The same with weights and products of bf16, and everything between them in f32.
fn mixed_network() -> Graph {
    let mut b = Builder::new("mixed");
    let (w1, b1) = (b.param("w1", DType::BF16, &[5, 7]), b.param("b1", DType::F32, &[7]));
    let w2 = b.param("w2", DType::BF16, &[7, 3]);
    let x = b.input("x", InputKind::Feed, TensorType::new(DType::F32, [Dim::B, Dim::Fixed(5)]));
    let product = |b: &mut Builder, x, w| {
        let x = b.cast(x, DType::BF16);
        b.dot_as(DType::F32, x, w, (&[], &[]), (&[1], &[0]))
    };
    let h = product(&mut b, x, w1);
    let h = b.add(h, b1);
    let zero = b.scalar(0.0, DType::F32);
    let h = b.max(h, zero);
    let y = product(&mut b, h, w2);
    let square = b.mul(y, y);
    let loss = b.sum_all(square);
    b.output("loss", loss);
    add_gradients(&b.finish().unwrap(), "loss").unwrap()
}

#[test]
fn a_network_with_gradients_agrees_with_the_reference() {
    agrees(&small_network().bind(9), 1e-4);
    let mixed = mixed_network();
    let types = mixed.outputs.iter().map(|(_, value)| mixed.ty(*value).to_string());
    let expected = ["f32[]", "bf16[5, 7]", "f32[7]", "bf16[7, 3]"];
    assert_eq!(types.collect::<Vec<_>>(), expected, "a gradient has the type of its parameter");
    // What is rounded to bf16 between two products may round the other way, which is a part in 256 of it.
    agrees(&mixed.bind(9), 2e-2);
}

fn agrees(graph: &Graph, tolerance: f64) {
    let values = |(i, v): (usize, &outgrow_ir::Value)| {
        let mut stream = RngKey::new(i as u64).stream();
        let ty = graph.ty(*v);
        Tensor::from_f64(ty.dtype, ty.static_shape().unwrap(), |_| stream.normal())
    };
    let inputs: Vec<Tensor> = graph.inputs.iter().enumerate().map(values).collect();
    let expected = interpret(graph, &inputs).unwrap();
    for threads in [1, 2] {
        let got = run(&CpuBackend, graph, &inputs, &options(threads, KernelPath::detect()));
        for ((name, _), (g, e)) in graph.outputs.iter().zip(got.iter().zip(&expected)) {
            assert_close(g, e, tolerance, name);
        }
    }
}

#[test]
fn updates_in_place_give_the_same_as_beside() {
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
    let compiled = compile(&CpuBackend, &graph, 1, &options).unwrap();
    assert_eq!(
        (compiled.memory.planned_bytes, compiled.steps.len()),
        (0, 1),
        "one step straight over the inputs"
    );
    let (mut p, mut m) = (vec![1.0f32; 1000], vec![2.0f32; 1000]);
    let g = vec![10.0f32; 1000];
    let mut buffers = [BufferRef::write(&mut p), BufferRef::write(&mut m), BufferRef::read(&g)];
    compiled.instance().unwrap().run(&mut buffers).unwrap();
    assert_eq!((p[999], m[999]), (0.0, 2.0));
}

#[test]
fn one_value_is_written_over_two_inputs() {
    let mut b = Builder::new("twice");
    let ty = TensorType::new(DType::F32, [5usize]);
    let [x, y] = ["x", "y"].map(|n| b.input(n, InputKind::Feed, ty.clone()));
    let sum = b.add(x, y);
    b.output("first", sum);
    b.output("second", sum);
    let graph = b.finish().unwrap();
    let options = CompileOptions { in_place: vec![(0, 0), (1, 1)], ..options(1, KernelPath::detect()) };
    let compiled = compile(&CpuBackend, &graph, 1, &options).unwrap();
    let (mut x, mut y) = ([1.0f32; 5], [2.0f32; 5]);
    compiled.instance().unwrap().run(&mut [BufferRef::write(&mut x), BufferRef::write(&mut y)]).unwrap();
    assert_eq!((x, y), ([3.0; 5], [3.0; 5]));
}

#[test]
fn an_input_or_output_in_two_pairs_is_refused() {
    let graph = small_network();
    let outputs = graph.outputs.len();
    let (x, again) = (3, graph.outputs.iter().position(|(name, _)| name == "x again").unwrap());
    for pairs in
        [vec![(x, again), (x, again)], vec![(x, again), (x, outputs - 1)], vec![(x, again), (0, again)]]
    {
        let options = CompileOptions { in_place: pairs, ..options(1, KernelPath::detect()) };
        let found = compile(&CpuBackend, &graph, 1, &options).unwrap_err();
        assert_eq!(found.0[0].code, "runtime.in-place");
    }
}

/// The values of a graph's inputs, by name.
fn values(graph: &Graph) -> Vec<(String, Tensor)> {
    let value = |(i, v): (usize, &outgrow_ir::Value)| {
        let mut stream = RngKey::new(i as u64).stream();
        let Op::Input(input) = &graph.node(*v).op else { panic!("an input is an input") };
        let shape = graph.ty(*v).static_shape().unwrap();
        (input.name.clone(), Tensor::from_f64(input.dtype, shape, |_| stream.normal()))
    };
    graph.inputs.iter().enumerate().map(value).collect()
}

#[test]
fn weights_are_inputs_that_need_not_be_given() {
    let graph = small_network();
    for backend in [&CpuBackend as &dyn Backend, &ReferenceBackend] {
        let mut weights = Arc::default();
        for batch in [9, 1, 40] {
            let graph = graph.bind(batch);
            let all = values(&graph);
            let inputs: Vec<Tensor> = all.iter().map(|(_, tensor)| tensor.clone()).collect();
            let expected = run(backend, &graph, &inputs, &options(2, KernelPath::detect()));
            let bound = all.into_iter().filter(|(name, _)| name != "x");
            if batch == 9 {
                weights = Arc::new(Weights::new(bound));
            }
            let options =
                CompileOptions { weights: Arc::clone(&weights), ..options(2, KernelPath::detect()) };
            let compiled = compile(backend, &graph, batch, &options).unwrap();
            assert_eq!(compiled.inputs.len(), 1, "x alone");
            let got = run_tensors(&compiled, &inputs[inputs.len() - 1..]).unwrap();
            assert!(got.iter().zip(&expected).all(|(g, e)| g.same_bits(e)), "batch {batch}");
        }
    }
}

#[test]
fn weights_that_do_not_fit_are_refused() {
    let graph = small_network();
    let weights = Weights::new([("w1".to_owned(), Tensor::zeros(DType::F32, [7, 5]))]);
    let options = CompileOptions { weights: Arc::new(weights), ..options(1, KernelPath::detect()) };
    let found = compile(&CpuBackend, &graph, 2, &options).unwrap_err();
    assert_eq!((found.0.len(), found.0[0].code), (1, "runtime.weight"));
    assert_eq!(found.0[0].expected.as_deref(), Some("f32[5, 7]"));
    let weights = Weights::new([("w1".to_owned(), Tensor::zeros(DType::F32, [5, 7]))]);
    let gradient = graph.outputs.iter().position(|(name, _)| name == "grad:w1").unwrap();
    let options = CompileOptions { weights: Arc::new(weights), in_place: vec![(0, gradient)], ..options };
    assert_eq!(compile(&CpuBackend, &graph, 2, &options).unwrap_err().0[0].code, "runtime.in-place");
}

/// A backend need not have every elementwise op: what it cannot put into a group is told, as any other op is.
#[test]
fn an_op_that_no_group_can_compute_is_a_diagnostic() {
    let mut graph = outgrow_passes::prepare().run(&small_network().bind(2)).unwrap();
    let product = graph.nodes.iter().position(|node| matches!(node.op, Op::Dot(_))).unwrap();
    graph.nodes[product].group = Some(GroupId(u32::MAX));
    let found = CpuBackend.compile(graph, &options(1, KernelPath::detect())).unwrap_err();
    assert_eq!(found.0[0].code, "runtime.unsupported");
    assert!(found.to_string().contains("no kernel for `dot`"), "{found}");
}
