//! Every backend against the reference, on the samples of every registered op and on whole graphs.

use outgrow_ir::{
    Builder, Dim, Graph, InputRole, Op, Output, OutputRole, Sample, Sizes, Symbol, TensorType, interpret,
};
use outgrow_passes::add_gradients;
use outgrow_runtime::{
    Argument, Backend, Bindings, CompileOptions, Compiled, CpuBackend, KernelPath, Place, ReferenceBackend,
    ThreadPool, Weights, compile, run_tensors,
};
use outgrow_tensor::{DType, RngKey, Tensor};
use std::sync::Arc;

fn cpu(threads: usize) -> CpuBackend {
    CpuBackend::new(Arc::new(ThreadPool::new(threads)))
}

/// With these pairs of an input and an output in place.
fn over(graph: &Graph, pairs: &[(usize, usize)]) -> CompileOptions {
    let bindings = Bindings::separate(graph, &Weights::default(), pairs);
    CompileOptions { bindings: Some(bindings), ..CompileOptions::default() }
}

/// Runs a graph on a backend.
fn run(backend: &dyn Backend, graph: &Graph, inputs: &[Tensor]) -> Vec<Tensor> {
    let options = CompileOptions::default();
    let compiled = compile(backend, graph, 1, &options).unwrap_or_else(|e| panic!("{graph}\n{e}"));
    run_tensors(backend, &compiled, inputs).unwrap_or_else(|e| panic!("{graph}\n{e}"))
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
    let reference = run(&ReferenceBackend, &graph, &inputs).remove(0);
    assert!(reference.same_bits(&expected), "{:?}", sample.op);
    for path in KernelPath::supported() {
        let got: Vec<_> = [1, 2, 3]
            .map(|threads| run(&CpuBackend { path, ..cpu(threads) }, &graph, &inputs).remove(0))
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
    let x = b.input("x", InputRole::Data, TensorType::new(DType::F32, [Dim::B, Dim::Fixed(5)]));
    let h = b.matmul(x, w1);
    let h = b.add(h, b1);
    let zero = b.scalar(0.0, DType::F32);
    let h = b.max(h, zero);
    let y = b.matmul(h, w2);
    let square = b.mul(y, y);
    let loss = b.sum_all(square);
    b.output_as("loss", OutputRole::Loss, loss);
    b.output("y", y);
    b.output("x again", x);
    b.output("y again", y);
    add_gradients(&b.finish().unwrap()).unwrap()
}

/// The same with weights and products of bf16, and everything between them in f32.
fn mixed_network() -> Graph {
    let mut b = Builder::new("mixed");
    let (w1, b1) = (b.param("w1", DType::BF16, &[5, 7]), b.param("b1", DType::F32, &[7]));
    let w2 = b.param("w2", DType::BF16, &[7, 3]);
    let x = b.input("x", InputRole::Data, TensorType::new(DType::F32, [Dim::B, Dim::Fixed(5)]));
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
    b.output_as("loss", OutputRole::Loss, loss);
    add_gradients(&b.finish().unwrap()).unwrap()
}

#[test]
fn a_network_with_gradients_agrees_with_the_reference() {
    agrees(&small_network().bind(9), 1e-4);
    let mixed = mixed_network();
    let types = mixed.outputs.iter().map(|output| mixed.ty(output.value).to_string());
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
        let got = run(&cpu(threads), graph, &inputs);
        for (Output { name, .. }, (g, e)) in graph.outputs.iter().zip(got.iter().zip(&expected)) {
            assert_close(g, e, tolerance, name);
        }
    }
}

#[test]
fn updates_in_place_give_the_same_as_beside() {
    // p' = p - 0.1 g, m' = p' + m; p and m are overwritten although m' reads p'.
    let mut b = Builder::new("update");
    let ty = TensorType::new(DType::F32, [1000usize]);
    let [p, m, g] = ["p", "m", "g"].map(|n| b.input(n, InputRole::Data, ty.clone()));
    let step = b.mul_scalar(g, 0.1);
    let p2 = b.sub(p, step);
    let m2 = b.add(p2, m);
    b.output("p", p2);
    b.output("m", m2);
    let graph = b.finish().unwrap();
    let backend = cpu(2);
    let compiled = compile(&backend, &graph, 1, &over(&graph, &[(0, 0), (1, 1)])).unwrap();
    assert_eq!(
        (compiled.memory.planned_bytes, compiled.steps.len()),
        (0, 1),
        "one step straight over the inputs"
    );
    let [p, m, g] = [1.0f32, 2.0, 10.0].map(|x| Tensor::vector(vec![x; 1000]));
    let out = run_tensors(&backend, &compiled, &[p, m, g]).unwrap();
    assert_eq!((out[0].get_f64(999), out[1].get_f64(999)), (0.0, 2.0));
}

#[test]
fn one_value_is_written_over_two_inputs() {
    let mut b = Builder::new("twice");
    let ty = TensorType::new(DType::F32, [5usize]);
    let [x, y] = ["x", "y"].map(|n| b.input(n, InputRole::Data, ty.clone()));
    let sum = b.add(x, y);
    b.output("first", sum);
    b.output("second", sum);
    let graph = b.finish().unwrap();
    let compiled = compile(&cpu(1), &graph, 1, &over(&graph, &[(0, 0), (1, 1)])).unwrap();
    assert_eq!(compiled.bindings.bytes, [20, 20]);
    let given = [1.0f32, 2.0].map(|x| Tensor::vector(vec![x; 5]));
    let out = run_tensors(&cpu(1), &compiled, &given).unwrap();
    assert!(out.iter().all(|tensor| tensor.as_slice::<f32>().unwrap() == [3.0; 5]));
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
    for backend in [&cpu(2) as &dyn Backend, &ReferenceBackend] {
        let mut weights = Arc::default();
        for batch in [9, 1, 40] {
            let graph = graph.bind(batch);
            let all = values(&graph);
            let inputs: Vec<Tensor> = all.iter().map(|(_, tensor)| tensor.clone()).collect();
            let expected = run(backend, &graph, &inputs);
            let bound = all.into_iter().filter(|(name, _)| name != "x");
            if batch == 9 {
                weights = Arc::new(Weights::new(bound));
            }
            let options = CompileOptions { weights: Arc::clone(&weights), ..CompileOptions::default() };
            let compiled = compile(backend, &graph, batch, &options).unwrap();
            assert_eq!(compiled.inputs.len(), 1, "x alone");
            let got = run_tensors(backend, &compiled, &inputs[inputs.len() - 1..]).unwrap();
            assert!(got.iter().zip(&expected).all(|(g, e)| g.same_bits(e)), "batch {batch}");
        }
    }
}

#[test]
fn weights_that_do_not_fit_are_refused() {
    let graph = small_network();
    let weights = Weights::new([("w1".to_owned(), Tensor::zeros(DType::F32, [7, 5]))]);
    let options = CompileOptions { weights: Arc::new(weights), ..CompileOptions::default() };
    let found = compile(&cpu(1), &graph, 2, &options).unwrap_err();
    assert_eq!((found.0.len(), found.0[0].code), (1, "runtime.weight"));
    assert_eq!(found.0[0].expected.as_deref(), Some("f32[5, 7]"));
}

/// Many tensors in few buffers, one beside the other: as parameters, gradients and state of a model are kept.
#[test]
fn tensors_lie_side_by_side_in_buffers() {
    let graph = small_network().bind(3);
    let inputs: Vec<Tensor> = values(&graph).into_iter().map(|(_, tensor)| tensor).collect();
    for backend in [&cpu(2) as &dyn Backend, &ReferenceBackend] {
        let expected = run(backend, &graph, &inputs);
        let mut bindings = Bindings::separate(&graph, &Weights::default(), &[]);
        // The last first, so that the order in a buffer is not that of the graph; a gap of 64 bytes after each.
        for (buffer, places) in [&mut bindings.inputs, &mut bindings.outputs].into_iter().enumerate() {
            let mut end = 0;
            for place in places.iter_mut().rev() {
                let bytes = bindings.bytes[place.buffer];
                *place = Place { buffer, offset: end };
                end = (end + bytes).next_multiple_of(64) + 64;
            }
        }
        bindings.bytes = vec![1 << 14; 2];
        let options = CompileOptions { bindings: Some(bindings), ..CompileOptions::default() };
        let compiled = compile(backend, &graph, 3, &options).unwrap();
        let got = run_tensors(backend, &compiled, &inputs).unwrap();
        assert!(got.iter().zip(&expected).all(|(g, e)| g.same_bits(e)), "{}", backend.name());
    }
}

#[test]
fn bindings_that_do_not_fit_are_refused() {
    let mut b = Builder::new("two");
    let ty = TensorType::new(DType::F32, [4usize]);
    let [x, y] = ["x", "y"].map(|n| b.input(n, InputRole::Data, ty.clone()));
    let [sum, product] = [b.add(x, y), b.mul(x, y)];
    b.output("sum", sum);
    b.output("product", product);
    let graph = b.finish().unwrap();
    let at = |buffer: usize, offset: usize| Place { buffer, offset };
    let apart = [at(0, 0), at(0, 16), at(1, 0), at(1, 16)];
    let told = |places: [Place; 4]| {
        let (inputs, outputs) = (places[..2].to_vec(), places[2..].to_vec());
        let bindings = Bindings { bytes: vec![32, 32], inputs, outputs };
        let options = CompileOptions { bindings: Some(bindings), ..CompileOptions::default() };
        compile(&cpu(1), &graph, 1, &options).err().map(|found| found.to_string())
    };
    assert_eq!(told(apart), None);
    // Two inputs may be one; an output may be written over one input.
    assert_eq!(told([at(0, 4), at(0, 0), at(1, 0), at(1, 16)]), None);
    assert_eq!(told([at(0, 0), at(0, 16), at(0, 16), at(0, 0)]), None);
    for (places, expected) in [
        ([at(0, 20), at(0, 0), at(1, 0), at(1, 16)], "`x` does not lie in buffer 0"),
        ([at(0, 0), at(2, 0), at(1, 0), at(1, 16)], "`y` does not lie in buffer 2"),
        ([at(0, 0), at(0, usize::MAX - 3), at(1, 0), at(1, 16)], "`y` does not lie"),
        ([at(0, 2), at(0, 16), at(1, 0), at(1, 16)], "begins at byte 2"),
        ([at(0, 0), at(0, 16), at(1, 4), at(1, 16)], "`sum` and `product` share memory"),
        ([at(0, 0), at(0, 16), at(0, 4), at(1, 16)], "`x` and `sum` share memory"),
        ([at(0, 16), at(0, 16), at(0, 16), at(1, 16)], "`x` and `y` share memory"),
    ] {
        let text = told(places).unwrap_or_default();
        assert!(text.contains(expected), "{places:?}: {text}");
    }
    let lists = Bindings { bytes: vec![16], inputs: vec![at(0, 0)], outputs: Vec::new() };
    let options = CompileOptions { bindings: Some(lists), ..CompileOptions::default() };
    assert!(compile(&cpu(1), &graph, 1, &options).is_err());
}

/// Attention over sequences of any length, in batches of any size: what is bound when it is compiled gives the bits of
/// what was built with numbers.
#[test]
fn sizes_are_bound_when_compiling() {
    let attention = |batch: Dim, length: Dim| {
        let mut b = Builder::new("attention");
        let weight = b.param("qkv", DType::F32, &[6, 18]);
        let x = b.input("x", InputRole::Data, TensorType::new(DType::F32, [batch, length, Dim::Fixed(6)]));
        let qkv = b.matmul(x, weight);
        let [q, k, v] = [0, 1, 2].map(|i| b.slice(qkv, 2, 6 * i, 6 * (i + 1)));
        let y = b.causal_attention(q, k, v, 2);
        // All tokens of all sequences in one dimension.
        let rows = batch.times(length).unwrap();
        let rows = b.reshape(y, &[rows, Dim::Fixed(6)]);
        b.output("y", y);
        b.output("rows", rows);
        b.finish().unwrap()
    };
    let open = attention(Dim::B, Dim::T);
    assert_eq!(Graph::parse(&open.to_string()).unwrap(), open);
    assert!(open.to_string().contains("f32[BT, 6]"), "{open}");
    for (batch, length) in [(1, 1), (2, 7), (5, 33)] {
        let sizes = Sizes::from(batch).with(Symbol::LENGTH, length);
        let known = attention(Dim::Fixed(batch), Dim::Fixed(length));
        let inputs: Vec<Tensor> = values(&known).into_iter().map(|(_, tensor)| tensor).collect();
        let outputs = |graph: &Graph, sizes: Sizes| {
            let compiled = compile(&cpu(2), graph, sizes, &CompileOptions::default()).unwrap();
            run_tensors(&cpu(2), &compiled, &inputs).unwrap()
        };
        let (bound, expected) = (outputs(&open, sizes), outputs(&known, Sizes::default()));
        assert!(bound.iter().zip(&expected).all(|(x, y)| x.same_bits(y)), "{batch} of {length}");
    }
    let unbound = compile(&cpu(1), &open, 3, &CompileOptions::default()).unwrap_err().to_string();
    assert!(unbound.contains("nothing says what T of graph `attention` is"), "{unbound}");
}

/// What a run is given must be of the device, and as long as was compiled.
#[test]
fn arguments_that_do_not_fit_are_refused() {
    let mut b = Builder::new("twice");
    let x = b.input("x", InputRole::Data, TensorType::new(DType::F32, [4usize]));
    let y = b.add(x, x);
    b.output("y", y);
    let graph = b.finish().unwrap();
    let backend = cpu(1);
    let compiled = compile(&backend, &graph, 1, &CompileOptions::default()).unwrap();
    let mut instance = backend.instance(&compiled).unwrap();
    let mut buffer = backend.allocate(32).unwrap();
    backend.upload(bytemuck::cast_slice(&[1.0f32, 2.0, 3.0, 4.0]), &mut *buffer, 16).unwrap();
    let mut out = backend.allocate(16).unwrap();
    instance.run(&mut [Argument::Read(&*buffer, 16..32), Argument::write(&mut *out)]).unwrap();
    let mut bytes = [0; 8];
    backend.download(&*out, 8, &mut bytes).unwrap();
    assert_eq!(bytemuck::cast_slice::<u8, f32>(&bytes), [6.0, 8.0]);
    for range in [0..33, 8..16, 40..56] {
        assert!(instance.run(&mut [Argument::Read(&*buffer, range), Argument::write(&mut *out)]).is_err());
    }
    let read_only = backend.allocate(16).unwrap();
    assert!(instance.run(&mut [Argument::read(&*buffer), Argument::read(&*read_only)]).is_err());
    assert!(
        backend.upload(&[0; 17], &mut *out, 0).is_err() && backend.upload(&[0; 2], &mut *out, 15).is_err()
    );
    assert!(backend.download(&*out, usize::MAX, &mut bytes).is_err());
    assert!(backend.copy(&*buffer, &mut *out).is_err());
    // What another backend has compiled is not run.
    assert!(ReferenceBackend.instance(&compiled).is_err());
}

/// What a program plans for packed weights is what they take as f32; in pairs of bf16 they take half of it.
#[test]
fn packed_weights_are_planned() {
    for dtype in [DType::F32, DType::BF16] {
        let mut b = Builder::new("product");
        let x = b.input("x", InputRole::Data, TensorType::new(dtype, [64usize, 96]));
        let w = b.param("w", dtype, &[96, 128]);
        let y = b.dot_as(DType::F32, x, w, (&[], &[]), (&[1], &[0]));
        b.output("y", y);
        let tensor = Tensor::from_f64(dtype, [96, 128], |i| (i % 7) as f64);
        let weights = Arc::new(Weights::new([("w".to_owned(), tensor)]));
        let options = CompileOptions { weights: weights.clone(), ..CompileOptions::default() };
        let compiled = compile(&cpu(1), &b.finish().unwrap(), 1, &options).unwrap();
        let packed = weights.bytes().1;
        let pairs = dtype == DType::BF16 && KernelPath::detect() == KernelPath::Avx512Bf16;
        let wide = 4 * 96 * 128;
        assert_eq!(
            (packed, compiled.memory.packed_bytes),
            (if pairs { wide / 2 } else { wide }, wide),
            "{dtype}"
        );
    }
}

/// The values that filters of 3x3 have at Winograd's points are planned too, also where the image is too small for them.
#[test]
fn packed_filters_are_planned() {
    for (side, taken) in [(16, true), (3, false)] {
        let mut b = Builder::new("convolution");
        let x = b.input("x", InputRole::Data, TensorType::new(DType::F32, [2, 20, side, side]));
        let w = b.param("w", DType::F32, &[24, 20, 3, 3]);
        let window = outgrow_ir::ops::Window { padding: [1; 4], ..Default::default() };
        let y = b.conv2d(x, w, window, 1);
        b.output("y", y);
        let tensor = Tensor::from_f64(DType::F32, [24, 20, 3, 3], |i| (i % 7) as f64);
        let weights = Arc::new(Weights::new([("w".to_owned(), tensor)]));
        let options = CompileOptions { weights: weights.clone(), ..CompileOptions::default() };
        let compiled = compile(&cpu(1), &b.finish().unwrap(), 1, &options).unwrap();
        let packed = weights.bytes().1;
        assert_eq!(
            packed == compiled.memory.packed_bytes,
            taken,
            "{packed} {}",
            compiled.memory.packed_bytes
        );
        assert!(packed <= compiled.memory.packed_bytes);
    }
}

/// What a compiled program gives when it is run in parts that end after these numbers of steps: the outputs, as they were
/// after each part.
fn in_parts(
    backend: &dyn Backend,
    compiled: &Compiled,
    inputs: &[Tensor],
    ends: &[usize],
) -> Vec<Vec<Vec<u8>>> {
    let Bindings { bytes, inputs: places, outputs } = &compiled.bindings;
    let mut buffers: Vec<_> = bytes.iter().map(|bytes| backend.allocate(*bytes).unwrap()).collect();
    for (place, tensor) in places.iter().zip(inputs) {
        backend.upload(tensor.as_bytes(), &mut *buffers[place.buffer], place.offset).unwrap();
    }
    let mut instance = backend.instance(compiled).unwrap();
    let starts = [0].into_iter().chain(ends.iter().copied());
    let parts = starts.zip(ends).map(|(start, end)| {
        let mut arguments: Vec<_> = buffers.iter_mut().map(|buffer| Argument::write(&mut **buffer)).collect();
        instance.submit_part(&mut arguments, start..*end).unwrap();
        instance.wait().unwrap();
        let output = |(place, (_, ty)): (&Place, &(String, TensorType))| {
            let mut bytes = vec![0; ty.unit_bytes()];
            backend.download(&*buffers[place.buffer], place.offset, &mut bytes).unwrap();
            bytes
        };
        outputs.iter().zip(&compiled.outputs).map(output).collect()
    });
    parts.collect()
}

#[test]
fn parts_of_a_run_make_the_run_and_outputs_are_final_when_it_is_said() {
    let graph = small_network().bind(9);
    let values = |(i, v): (usize, &outgrow_ir::Value)| {
        let mut stream = RngKey::new(i as u64).stream();
        Tensor::from_f64(DType::F32, graph.ty(*v).static_shape().unwrap(), |_| stream.normal())
    };
    let inputs: Vec<Tensor> = graph.inputs.iter().enumerate().map(values).collect();
    // As updates are: the gradient of the first parameter over that parameter.
    let gradient = graph.outputs.iter().position(|o| o.role == OutputRole::Gradient("w1".into())).unwrap();
    let backends: [&dyn Backend; 3] = [&ReferenceBackend, &cpu(1), &cpu(2)];
    for (backend, pairs) in backends.into_iter().flat_map(|b| [(b, vec![]), (b, vec![(0, gradient)])]) {
        let compiled = compile(backend, &graph, 1, &over(&graph, &pairs)).unwrap();
        let steps = compiled.steps.len();
        let whole = in_parts(backend, &compiled, &inputs, &[steps]).remove(0);
        let one_by_one: Vec<usize> = (1..=steps).collect();
        let after = in_parts(backend, &compiled, &inputs, &one_by_one);
        assert_eq!(after[steps - 1], whole, "{}", backend.name());
        assert_eq!(compiled.finals.len(), graph.outputs.len());
        for ((final_after, output), i) in compiled.finals.iter().zip(&graph.outputs).zip(0..) {
            assert!((1..=steps).contains(final_after));
            for then in &after[final_after - 1..] {
                assert_eq!(then[i], whole[i], "`{}` on {}", output.name, backend.name());
            }
        }
        // A gradient of the last layer need not wait for those of the first.
        let of = |name: &str| {
            let role = OutputRole::Gradient(name.into());
            compiled.finals[graph.outputs.iter().position(|o| o.role == role).unwrap()]
        };
        assert!(backend.name() == "reference" || of("w2") < of("w1"), "{:?}", compiled.finals);
    }
}
