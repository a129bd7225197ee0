//! What programs compute of weights alone is computed once, for all of them.

use outgrow_ir::{Builder, Dim, Graph, InputRole, TensorType, Value};
use outgrow_runtime::{
    Backend, CompileOptions, Compiled, CpuBackend, ReferenceBackend, ThreadPool, Weights, compile,
    run_tensors,
};
use outgrow_tensor::{DType, RngKey, Tensor};
use std::sync::Arc;

fn backends() -> [Box<dyn Backend>; 2] {
    [Box::new(CpuBackend::new(Arc::new(ThreadPool::new(2)))), Box::new(ReferenceBackend)]
}

/// Normalises by weights, multiplies by a weight that is rounded, turned, and repeated, and adds a row of a table. The
/// index of the row is in the graph.
fn graph(row: f64) -> Graph {
    let mut b = Builder::new("net");
    let x = b.input("x", InputRole::Data, TensorType::new(DType::F32, [Dim::B, Dim::Fixed(6)]));
    let weight = b.param("weight", DType::F32, &[5, 6]);
    let var = b.input("var", InputRole::Buffer, TensorType::new(DType::F32, [6usize]));
    let table = b.param("table", DType::F32, &[4, 5]);
    let root = b.sqrt(var);
    let one = b.scalar(1.0, DType::F32);
    let scale = b.div(one, root);
    let x = b.mul(x, scale);
    let (x, weight) = (b.cast(x, DType::BF16), b.cast(weight, DType::BF16));
    let weight = b.transpose(weight, &[1, 0]);
    let y = b.dot_as(DType::F32, x, weight, (&[], &[]), (&[1], &[0]));
    let row = b.constant(Tensor::from_f64(DType::I32, [1], |_| row));
    let row = b.gather(table, row);
    let row = b.tanh(row);
    let y = b.add(y, row);
    b.output("y", y);
    b.finish().unwrap()
}

fn tensor(seed: u64, dims: &[usize]) -> Tensor {
    let mut stream = RngKey::new(seed).stream();
    Tensor::from_f64(DType::F32, dims, |_| stream.uniform() + 0.5)
}

fn weights() -> Arc<Weights> {
    let all = [("weight", vec![5, 6]), ("var", vec![6]), ("table", vec![4, 5])];
    let all = all.iter().enumerate().map(|(i, (name, dims))| ((*name).to_owned(), tensor(i as u64, dims)));
    Arc::new(Weights::new(all))
}

fn bound(backend: &dyn Backend, graph: &Graph, batch: usize, weights: &Arc<Weights>) -> Compiled {
    let options = CompileOptions { weights: Arc::clone(weights), ..CompileOptions::default() };
    compile(backend, graph, batch, &options).unwrap()
}

fn ops(graph: &Graph) -> Vec<&'static str> {
    graph.nodes.iter().map(|node| node.op.rule().name()).collect()
}

#[test]
fn programs_share_what_is_computed_of_weights_and_its_bits_are_the_same() {
    let graph = graph(2.0);
    for backend in backends() {
        let weights = weights();
        let one = bound(&*backend, &graph, 1, &weights);
        let left = ops(&one.graph);
        assert!(!left.contains(&"sqrt") && !left.contains(&"div") && !left.contains(&"gather"), "{left:?}");
        assert_eq!(left.iter().filter(|op| **op == "cast").count(), 1, "of the data alone: {left:?}");
        assert_eq!(one.inputs.len(), 1, "weights are given by nobody");
        let made = weights.bytes();
        let three = bound(&*backend, &graph, 3, &weights);
        assert_eq!(weights.bytes(), made, "a program of another size finds what there is");
        for (program, batch) in [(&one, 1), (&three, 3)] {
            let x = tensor(7, &[batch, 6]);
            let folded = run_tensors(&*backend, program, std::slice::from_ref(&x)).unwrap();
            let given = compile(&*backend, &graph, batch, &CompileOptions::default()).unwrap();
            let input = |(name, _): &(String, TensorType)| match weights.get(name) {
                Some(weight) => weight.tensor().clone(),
                None => x.clone(),
            };
            let inputs: Vec<Tensor> = given.inputs.iter().map(input).collect();
            let expected = run_tensors(&*backend, &given, &inputs).unwrap();
            assert!(folded[0].same_bits(&expected[0]), "{}, batch {batch}", backend.name());
        }
    }
}

/// Sequences of many lengths may be asked for in turn, each of which takes other rows of a table.
#[test]
fn what_no_program_reads_any_more_gives_its_memory_back() {
    for backend in backends() {
        let weights = weights();
        let before = weights.bytes();
        for row in 0..4 {
            let compiled = bound(&*backend, &graph(f64::from(row)), 1, &weights);
            assert!(weights.bytes().1 > before.1, "{}", backend.name());
            drop(compiled);
            assert_eq!(weights.bytes(), before, "{}", backend.name());
        }
    }
}

/// Where there is not the memory for all of it at once, it is left to programs, which have one after the other.
#[test]
fn what_does_not_fit_is_computed_in_each_run() {
    let [cpu, _] = backends();
    let names: Vec<String> = (0..4).map(|i| format!("w{i}")).collect();
    let mut b = Builder::new("net");
    let mut x = b.input("x", InputRole::Data, TensorType::new(DType::F32, [2usize, 64]));
    for name in &names {
        let weight = b.param(name, DType::F32, &[64, 64]);
        let weight = b.tanh(weight);
        x = b.matmul(x, weight);
    }
    b.output("y", x);
    let graph = b.finish().unwrap();
    // The four take 64 KiB, and as much again while they are computed.
    for (memory, folded) in [(None, true), (Some(256 << 10), true), (Some(110 << 10), false)] {
        let all = names.iter().enumerate().map(|(i, name)| (name.clone(), tensor(i as u64, &[64, 64])));
        let options =
            CompileOptions { weights: Arc::new(Weights::new(all)), memory, ..CompileOptions::default() };
        let compiled = compile(&*cpu, &graph, 1, &options).unwrap();
        assert_eq!(!ops(&compiled.graph).contains(&"tanh"), folded, "{memory:?}");
    }
}

/// Who repeats a weight many times leaves that to programs, and who only reads it in another order computes nothing.
#[test]
fn repetition_and_order_are_left_to_programs() {
    let cases: [fn(&mut Builder, Value) -> Value; 2] = [
        |b, weight| {
            let all = b.broadcast(weight, &[2000, 5, 6].map(Dim::Fixed), &[1, 2]);
            b.exp(all)
        },
        |b, weight| b.transpose(weight, &[1, 0]),
    ];
    for case in cases {
        let mut b = Builder::new("net");
        let x = b.input("x", InputRole::Data, TensorType::new(DType::F32, [Dim::Fixed(1)]));
        let weight = b.param("weight", DType::F32, &[5, 6]);
        let y = case(&mut b, weight);
        let dims = b.dims(y);
        let x = b.broadcast(x, &dims, &[dims.len() - 1]);
        let y = b.add(x, y);
        b.output("y", y);
        let graph = b.finish().unwrap();
        for backend in backends() {
            let weights = weights();
            let before = weights.bytes();
            let compiled = bound(&*backend, &graph, 1, &weights);
            assert_eq!((weights.bytes(), compiled.inputs.len()), (before, 1));
        }
    }
}

/// A mistake in what weights alone decide is one of the run, as it would be without them.
#[test]
fn an_index_outside_its_table_is_said_by_the_run() {
    let [cpu, _] = backends();
    let compiled = bound(&*cpu, &graph(9.0), 1, &weights());
    let found = run_tensors(&*cpu, &compiled, &[tensor(7, &[1, 6])]).unwrap_err();
    assert!(found.to_string().contains("index 9"), "{found}");
}
