//! The CPU backend on any graph: through all passes, on every kernel path and with any number of threads it computes
//! what the interpreter computes, within what rounding explains; in place of its inputs, and in an arena that an
//! earlier run has used, to the bit the same. The bytes are a program for building a graph.

use outgrow_ir::{Graph, Node, Output, OutputRole, TensorType, evaluate_all};
use outgrow_passes::add_gradients;
use outgrow_runtime::{
    Argument, Backend, Bindings, Buffer, CompileOptions, Compiled, CpuBackend, Instance, KernelPath, Place,
    ThreadPool, Weights, compile,
};
use outgrow_tensor::{RngKey, RngStream, Tensor};
use std::collections::BTreeSet;
use std::sync::Arc;

#[path = "bounds.rs"]
mod bounds;
#[path = "program.rs"]
mod program;

use bounds::{Bounds, Fails, bounds};

/// Elements and operations up to which a graph is run.
const SMALL: u64 = 60_000;
const THREADS: [usize; 3] = [1, 2, 3];

thread_local! {
    /// Jobs of a pool take turns, so each testing thread has its own.
    static POOLS: Vec<Arc<ThreadPool>> = THREADS.iter().map(|n| Arc::new(ThreadPool::new(*n))).collect();
}

/// What was compared.
#[derive(Debug, Default)]
pub struct Compared {
    /// Graphs, each with one batch size, at least one of whose outputs was judged.
    pub graphs: u64,
    /// Those of them with an output written over an input.
    pub in_place: u64,
    /// Those of them that need an arena.
    pub with_arena: u64,
    /// Runs that had to fail, and did.
    pub failing: u64,
    /// Elements of outputs that had to be equal, that had to be close, and of which nothing could be said.
    pub equal: u64,
    pub close: u64,
    pub unknown: u64,
    /// The ops of the graphs that were judged, and those of them that gave f32 of bf16.
    pub ops: BTreeSet<&'static str>,
    pub wide: BTreeSet<&'static str>,
}

/// As a fuzz target wants it.
#[allow(dead_code)]
pub fn check(data: &[u8]) {
    compare(data, &mut Compared::default());
}

/// Compares the graph that these bytes spell, and its gradients, at two batch sizes.
pub fn compare(data: &[u8], compared: &mut Compared) {
    let graph = program::graph(data);
    let fold = |key: RngKey, byte: &u8| key.fold_in(u64::from(*byte));
    let key = data.iter().fold(RngKey::new(0), fold);
    let gradients = graph
        .output_of(&OutputRole::Loss)
        .map(|_| add_gradients(&graph).expect("a float scalar has gradients"));
    for (g, graph) in [Some(graph), gradients].into_iter().flatten().enumerate() {
        let mut stream = key.fold_in(g as u64).stream();
        for batches in [&[1, 2, 3][..], &[5, 17, 64, 300]] {
            let batch = batches[stream.below(batches.len() as u64) as usize];
            if let Some(case) = Case::new(&graph, batch, &mut stream) {
                case.check(compared);
            }
        }
    }
}

/// A graph at one batch size with two sets of inputs.
struct Case {
    graph: Graph,
    inputs: [Vec<Tensor>; 2],
    in_place: Vec<(usize, usize)>,
}

/// What a run gives: outputs, or that an index is outside its table.
type Ran = Option<Vec<Tensor>>;

impl Case {
    fn new(graph: &Graph, batch: usize, stream: &mut RngStream) -> Option<Self> {
        let graph = graph.bind(batch);
        let elements: u64 =
            graph.nodes.iter().fold(0, |n, node| n.saturating_add(node.ty.unit_elements() as u64));
        if graph.verify().is_err() || elements.saturating_add(graph.cost().flops) > SMALL {
            return None;
        }
        let inputs = [(); 2].map(|()| inputs(&graph, stream));
        let in_place = pairs(&graph, stream);
        Some(Self { graph, inputs, in_place })
    }

    fn check(&self, compared: &mut Compared) {
        let before = Reference::new(&self.graph, &self.inputs[0]);
        let mut fused: Option<Vec<Ran>> = None;
        for path in KernelPath::supported() {
            let mut first: Option<Vec<Ran>> = None;
            for (t, threads) in THREADS.iter().enumerate() {
                let pool = POOLS.with(|pools| pools[t].clone());
                let backend = CpuBackend { pool, path };
                let what = format!("on {path} with {threads} threads");
                let ran = self.again(&backend, &what);
                match &first {
                    None => first = Some(ran),
                    Some(first) => self.same(&ran, first, &format!("{what}, and with one")),
                }
            }
            let first = first.expect("there is a number of threads");
            self.judge(&before, path, &first, compared);
            if matches!(path, KernelPath::Avx2 | KernelPath::Avx512) {
                fused.get_or_insert_with(|| first.clone());
                self.same(&first, fused.as_ref().expect("just set"), "on two fused paths");
            }
        }
    }

    /// Runs both sets of inputs in an instance each, in one in turn, and in place: always with the same bits.
    fn again(&self, backend: &CpuBackend, what: &str) -> Vec<Ran> {
        let compiled = self.compiled(backend, &[]);
        let instance = || backend.instance(&compiled).expect("a small graph has memory");
        let fresh = |inputs: &Vec<Tensor>| run(backend, &compiled, &mut *instance(), inputs);
        let alone: Vec<Ran> = self.inputs.iter().map(fresh).collect();
        let mut one = instance();
        let used = [1, 0, 1].map(|i| run(backend, &compiled, &mut *one, &self.inputs[i]));
        self.same(&used[1..], &alone, &format!("{what}, in an arena that was used"));
        if !self.in_place.is_empty() {
            let compiled = self.compiled(backend, &self.in_place);
            let mut over = backend.instance(&compiled).expect("a small graph has memory");
            let over = [0, 1].map(|i| run(backend, &compiled, &mut *over, &self.inputs[i]));
            self.same(&over, &alone, &format!("{what}, in place {:?}", self.in_place));
        }
        alone
    }

    /// The graph compiled, with these pairs of an input and an output in place.
    fn compiled(&self, backend: &CpuBackend, in_place: &[(usize, usize)]) -> Compiled {
        let bindings = Bindings::separate(&self.graph, &Weights::default(), in_place);
        let options = CompileOptions { bindings: Some(bindings), ..CompileOptions::default() };
        compile(backend, &self.graph, 1, &options).unwrap_or_else(|found| panic!("{found}\n{}", self.graph))
    }

    fn same(&self, got: &[Ran], expected: &[Ran], what: &str) {
        for (got, expected) in got.iter().zip(expected) {
            assert_eq!(got.is_some(), expected.is_some(), "{what}: only one fails\n{}", self.graph);
            let tensors = got.iter().flatten().zip(expected.iter().flatten());
            for (Output { name, .. }, (got, expected)) in self.graph.outputs.iter().zip(tensors) {
                let differs = |i: &usize| !same_number(got, expected, *i);
                if let Some(i) = (0..expected.elements()).find(differs) {
                    let (got, expected) = (got.get_f64(i), expected.get_f64(i));
                    panic!("{what}: `{name}`[{i}] is {got:e}, otherwise {expected:e}\n{}", self.graph);
                }
            }
        }
    }

    /// Compares with the interpreter, which runs the graph as it was and as the passes left it.
    fn judge(&self, before: &Reference, path: KernelPath, ran: &[Ran], compared: &mut Compared) {
        let prepared = outgrow_passes::prepare().run(&self.graph).expect("what verifies can be prepared");
        let after = Reference::new(&prepared, &self.inputs[0]);
        let context = || format!("on {path}\n{}\n{prepared}", self.graph);
        let Some(outputs) = &ran[0] else {
            assert!(after.bounds.fails > Fails::Never, "every index is inside its table {}", context());
            compared.failing += 1;
            return;
        };
        assert!(after.bounds.fails < Fails::Surely, "an index is outside its table {}", context());
        let mut judged = 0;
        for (o, Output { name, value, .. }) in prepared.outputs.iter().enumerate() {
            let errors = &after.bounds.errors[value.index()];
            let middle = &after.values[value.index()];
            let old = self.graph.outputs[o].value;
            let original = (&before.values[old.index()], &before.bounds.errors[old.index()]);
            for (i, error) in errors.iter().enumerate() {
                if *error == f64::INFINITY {
                    compared.unknown += 1;
                    continue;
                }
                let near = |a: &Tensor, b: &Tensor, error: f64| {
                    same_number(a, b, i) || (a.get_f64(i) - b.get_f64(i)).abs() <= error
                };
                let problem = |what: &str, got: f64| {
                    let expected = middle.get_f64(i);
                    panic!(
                        "{what}: `{name}`[{i}] is {got:e}, expected {expected:e} within {error:e} {}",
                        context()
                    );
                };
                if !near(&outputs[o], middle, *error) {
                    problem("backend", outputs[o].get_f64(i));
                }
                if original.1[i] < f64::INFINITY && !near(original.0, middle, error + original.1[i]) {
                    problem("before the passes", original.0.get_f64(i));
                }
                judged += 1;
                *(if *error == 0.0 { &mut compared.equal } else { &mut compared.close }) += 1;
            }
        }
        if judged > 0 && path == KernelPath::Portable {
            compared.graphs += 1;
            compared.in_place += u64::from(!self.in_place.is_empty());
            let compiled = self.compiled(&CpuBackend::new(POOLS.with(|pools| pools[0].clone())), &[]);
            compared.with_arena += u64::from(compiled.memory.planned_bytes > 0);
            let name = |node: &Node| node.op.rule().name();
            compared.ops.extend(self.graph.nodes.iter().map(name));
            let wide = |node: &&Node| node.op.rule().attrs().iter().any(|(key, _)| *key == "result");
            compared.wide.extend(self.graph.nodes.iter().filter(wide).map(name));
        }
    }
}

/// What the interpreter gives.
struct Reference {
    values: Vec<Tensor>,
    bounds: Bounds,
}

impl Reference {
    fn new(graph: &Graph, inputs: &[Tensor]) -> Self {
        let values = evaluate_all(graph, inputs).expect("what verifies can be evaluated");
        let bounds = bounds(graph, &values);
        Self { values, bounds }
    }
}

/// Equal but for the sign of a zero and the bits of NaN.
fn same_number(a: &Tensor, b: &Tensor, i: usize) -> bool {
    let (x, y) = (a.get_f64(i), b.get_f64(i));
    if a.dtype().is_float() { x == y || (x.is_nan() && y.is_nan()) } else { a.get_i64(i) == b.get_i64(i) }
}

/// Inputs of one of a few kinds: whole numbers, quarters, and numbers of every size and precision.
fn inputs(graph: &Graph, stream: &mut RngStream) -> Vec<Tensor> {
    let style = stream.below(4);
    let input = |value: &outgrow_ir::Value| {
        let ty = graph.ty(*value);
        let shape = ty.static_shape().expect("the batch size is bound");
        let kind = if style == 3 { stream.below(3) } else { style };
        let mut number = || match (ty.dtype.is_float(), kind) {
            (false, 0) => stream.below(5) as f64 - 1.0,
            (false, _) => stream.below(2) as f64,
            (true, 0) => stream.below(7) as f64 - 2.0,
            (true, 1) => stream.below(33) as f64 / 4.0 - 4.0,
            (true, _) => stream.normal(),
        };
        Tensor::from_f64(ty.dtype, shape, |_| number())
    };
    graph.inputs.iter().map(input).collect()
}

/// Pairs of an input and an output of one type, each at most once.
fn pairs(graph: &Graph, stream: &mut RngStream) -> Vec<(usize, usize)> {
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    for (o, Output { value, .. }) in graph.outputs.iter().enumerate() {
        let fits = |i: &usize| graph.ty(graph.inputs[*i]) == graph.ty(*value);
        let free: Vec<usize> =
            (0..graph.inputs.len()).filter(fits).filter(|i| pairs.iter().all(|p| p.0 != *i)).collect();
        if !free.is_empty() && stream.below(4) > 0 {
            pairs.push((free[stream.below(free.len() as u64) as usize], o));
        }
    }
    pairs
}

/// A buffer that is full of garbage.
fn garbage(backend: &CpuBackend, bytes: usize) -> Box<dyn Buffer> {
    let mut buffer = backend.allocate(bytes).expect("a small graph has memory");
    let words = vec![0xa5a5_5a5a_a5a5_7fc1u64; bytes.div_ceil(8)];
    backend.upload(&bytemuck::cast_slice(&words)[..bytes], &mut *buffer, 0).expect("they lie in it");
    buffer
}

/// Runs an instance once, in memory full of garbage.
fn run(backend: &CpuBackend, compiled: &Compiled, instance: &mut dyn Instance, inputs: &[Tensor]) -> Ran {
    let bindings = &compiled.bindings;
    let mut buffers: Vec<_> = bindings.bytes.iter().map(|bytes| garbage(backend, *bytes)).collect();
    for (place, tensor) in bindings.inputs.iter().zip(inputs) {
        let filled = backend.upload(&tensor.le_bytes(), &mut *buffers[place.buffer], place.offset);
        filled.expect("an input lies in its buffer");
    }
    let written = bindings.written();
    let argument = |(buffer, written): (_, &bool)| {
        let buffer: &mut Box<dyn Buffer> = buffer;
        if *written { Argument::write(&mut **buffer) } else { Argument::read(&**buffer) }
    };
    let mut arguments: Vec<_> = buffers.iter_mut().zip(&written).map(argument).collect();
    if let Err(found) = instance.run(&mut arguments) {
        assert_eq!(found.code, "runtime.index", "{found}");
        return None;
    }
    drop(arguments);
    let output = |((_, ty), place): (&(String, TensorType), &Place)| {
        let shape = ty.static_shape().expect("shapes are static");
        let mut bytes = vec![0; shape.elements() * ty.dtype.bytes()];
        backend
            .download(&*buffers[place.buffer], place.offset, &mut bytes)
            .expect("an output lies in its buffer");
        Tensor::from_le_bytes(ty.dtype, shape, &bytes).expect("an output has its type's length")
    };
    Some(compiled.outputs.iter().zip(&bindings.outputs).map(output).collect())
}
