//! Measures products and convolutions by the types of their operands and their result:
//! `cargo run --release -p outgrow-runtime --example product_speed [THREADS]`. Types take turns, so that a busy machine is
//! busy for all of them; each line is the best of several runs.
#![allow(clippy::print_stdout)]

use outgrow_ir::ops::Window;
use outgrow_ir::{Builder, Graph, InputRole, TensorType};
use outgrow_runtime::{
    Argument, Backend, Buffer, CompileOptions, CpuBackend, Instance, KernelPath, ThreadPool, compile,
};
use outgrow_tensor::{DType, RngKey, Tensor};
use std::sync::Arc;
use std::time::Instant;

const ROUNDS: usize = 12;

/// A product of `[n, n]` and `[n, n]`.
fn product(n: usize, from: DType, to: DType) -> Graph {
    let mut b = Builder::new("product");
    let [x, y] = ["x", "y"].map(|name| b.input(name, InputRole::Data, TensorType::new(from, [n, n])));
    let z = b.dot_as(to, x, y, (&[], &[]), (&[1], &[0]));
    b.output("z", z);
    b.finish().expect("a valid graph")
}

/// A convolution of 3x3 of 32 images of 64 channels.
fn convolution(from: DType, to: DType) -> Graph {
    let mut b = Builder::new("convolution");
    let x = b.input("x", InputRole::Data, TensorType::new(from, [32usize, 64, 32, 32]));
    let w = b.input("w", InputRole::Data, TensorType::new(from, [64usize, 64, 3, 3]));
    let y = b.conv2d_as(to, x, w, Window::new(1, 1), 1);
    b.output("y", y);
    b.finish().expect("a valid graph")
}

struct Case {
    name: String,
    flops: u64,
    instance: Box<dyn Instance>,
    inputs: Vec<Vec<u8>>,
    output: Box<dyn Buffer>,
    best: f64,
}

impl Case {
    fn new(name: String, graph: &Graph, backend: &CpuBackend) -> Self {
        let compiled = compile(backend, graph, 1, &CompileOptions::default()).expect("a valid graph");
        let values = |ty: &TensorType| {
            let mut stream = RngKey::new(1).stream();
            Tensor::from_f64(ty.dtype, ty.static_shape().expect("static"), |_| stream.normal())
        };
        let inputs = graph.inputs.iter().map(|v| values(graph.ty(*v)).le_bytes().to_vec()).collect();
        let result = graph.ty(graph.outputs[0].value);
        let bytes = result.static_shape().expect("static").elements() * result.dtype.bytes();
        let instance = backend.instance(&compiled).expect("memory");
        let output = backend.allocate(bytes).expect("memory");
        Self { name, flops: graph.cost().flops, instance, inputs, output, best: f64::INFINITY }
    }

    fn run(&mut self) {
        let mut arguments: Vec<Argument<'_>> = self.inputs.iter().map(|x| Argument::Host(x)).collect();
        arguments.push(Argument::write(&mut *self.output));
        let start = Instant::now();
        self.instance.run(&mut arguments).expect("valid buffers");
        self.best = self.best.min(start.elapsed().as_secs_f64());
    }
}

fn main() {
    let threads = std::env::args().nth(1).map_or(1, |text| text.parse().expect("a number of threads"));
    let types = [(DType::F32, DType::F32), (DType::BF16, DType::F32), (DType::BF16, DType::BF16)];
    for path in KernelPath::supported().into_iter().filter(|path| *path != KernelPath::Portable) {
        let backend = CpuBackend { path, ..CpuBackend::new(Arc::new(ThreadPool::new(threads))) };
        let mut cases = Vec::new();
        for (from, to) in types {
            let graphs = [64, 256, 1024].map(|n| (format!("product {n}"), product(n, from, to)));
            for (name, graph) in graphs.into_iter().chain([("3x3 of 64".into(), convolution(from, to))]) {
                cases.push(Case::new(format!("{name}, {from} to {to}"), &graph, &backend));
            }
        }
        (0..ROUNDS).for_each(|_| cases.iter_mut().for_each(Case::run));
        for case in &cases {
            let speed = case.flops as f64 / case.best / 1e9;
            println!(
                "{path}, {threads} threads: {:32} {:10.3} ms {speed:8.1} GFLOP/s",
                case.name,
                case.best * 1e3
            );
        }
    }
}
