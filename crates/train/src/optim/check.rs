//! How optimisers are tested: 20 steps of the graph, by the reference interpreter, on fixed data with a learning rate
//! that changes, against plain f64 code given by the test and against another implementation's result; and by the CPU backend, on all
//! kernel paths of this machine.

use std::collections::HashMap;
use std::sync::Arc;

use outgrow_ir::interpret;
use outgrow_runtime::{CompileOptions, CpuBackend, KernelPath, ThreadPool, compile, run_tensors};
use outgrow_tensor::{DType, Tensor};

use super::program::{Clipping, update_graph_of};
use super::{Optimizer, from_spec};
use crate::spec::OptimizerName;

/// How many steps are compared.
const STEPS: u64 = 20;

/// What PyTorch's optimisers make of the same data in f64; written by `benchmarks/optimizer_golden.py`.
pub const GOLDEN: &str = include_str!("golden.json");

/// What the papers say of the optimisers that PyTorch lacks; written by `benchmarks/paper_golden.py`.
const GOLDEN_PAPERS: &str = include_str!("golden_papers.json");

/// The two tensors of the test; the second alone is small enough to lie below thresholds.
const SHAPES: [(&str, &[usize]); 2] = [("weight", &[2, 3]), ("bias", &[2])];

/// An optimiser under test.
pub struct Case<'a> {
    /// The name of the other implementation's result: PyTorch's, where it has the optimiser.
    pub golden: &'a str,
    /// The optimiser as in a manifest.
    pub options: &'a str,
    /// The learning rate at the start.
    pub lr: f64,
    /// Weight decay.
    pub weight_decay: f64,
}

/// One step of a reference.
#[derive(Clone, Copy, Debug)]
pub struct At {
    /// Counted from 1.
    pub step: u64,
    /// The learning rate of this step.
    pub lr: f64,
}

/// Parameters and then state, slot by slot, each for both tensors.
pub type Tensors = Vec<Vec<f64>>;

/// The learning rate falls from step to step.
pub fn lr_at(lr: f64, step: u64) -> f64 {
    lr * (1.0 - (step - 1) as f64 / 40.0)
}

/// Element `index` of both tensors laid end to end, at `step` (0: the initial parameter; else the gradient): multiples of
/// 1/512 between -1 and 1, so that they are the same in every float type. The gradient of the last element is zero.
fn datum(step: u64, index: u64) -> f64 {
    if step > 0 && index == 7 {
        return 0.0;
    }
    let mixed = ((step * 31 + index + 1) * 2_654_435_761) >> 7 & 1023;
    (mixed as f64 - 511.5).trunc() / 512.0
}

pub fn tensors_at(step: u64) -> Tensors {
    let mut index = 0..;
    let element = |_| datum(step, index.next().unwrap_or(0));
    let mut element = element;
    SHAPES.iter().map(|(_, dims)| (0..dims.iter().product::<usize>()).map(&mut element).collect()).collect()
}

/// Runs the optimiser's graph for 20 steps by the reference interpreter.
pub fn run(optimizer: &dyn Optimizer, lr: f64, dtype: DType, flat: bool) -> Tensors {
    run_on(None, optimizer, lr, dtype, flat)
}

/// Runs the optimiser's graph for 20 steps, by the CPU backend on a kernel path or by the reference interpreter.
pub fn run_on(
    path: Option<KernelPath>,
    optimizer: &dyn Optimizer,
    lr: f64,
    dtype: DType,
    flat: bool,
) -> Tensors {
    let params: Vec<_> = SHAPES.iter().map(|(name, dims)| ((*name).to_owned(), dims.to_vec())).collect();
    let graph = update_graph_of(optimizer, &params, flat, Clipping::default(), dtype).unwrap();
    graph.verify().unwrap();
    let compiled = path.map(|path| {
        let backend = CpuBackend { path, ..CpuBackend::new(Arc::new(ThreadPool::new(1))) };
        (compile(&backend, &graph, 1, &CompileOptions::default()).unwrap(), backend)
    });
    let shapes: Vec<Vec<usize>> =
        if flat { vec![vec![8]] } else { SHAPES.iter().map(|(_, dims)| dims.to_vec()).collect() };
    let joined = |t: Tensors| if flat { vec![t.concat()] } else { t };
    let host = |t: &Tensors| -> Vec<Tensor> {
        let make = |(x, dims): (&Vec<f64>, &Vec<usize>)| Tensor::from_f64(dtype, dims.clone(), |i| x[i]);
        t.iter().zip(shapes.iter().cycle()).map(make).collect()
    };
    let mut carried = host(&joined(tensors_at(0)));
    for slot in optimizer.slots() {
        carried.extend(shapes.iter().map(|dims| Tensor::from_f64(dtype, dims.clone(), |_| slot.init)));
    }
    for step in 1..=STEPS {
        let scalars = optimizer.scalars(lr_at(lr, step), step);
        assert_eq!(scalars.len(), optimizer.scalar_names().len());
        let mut inputs = carried[..shapes.len()].to_vec();
        inputs.extend(host(&joined(tensors_at(step))));
        inputs.extend_from_slice(&carried[shapes.len()..]);
        inputs.extend(scalars.iter().map(|x| Tensor::from_f64(dtype, [0; 0], |_| *x)));
        carried = match &compiled {
            Some((compiled, backend)) => run_tensors(backend, compiled, &inputs).unwrap(),
            None => interpret(&graph, &inputs).unwrap(),
        };
    }
    let values = carried.iter().map(|t| (0..t.elements()).map(|i| t.get_f64(i)).collect::<Vec<_>>());
    if flat { values.flat_map(|x| [x[..6].to_vec(), x[6..].to_vec()]).collect() } else { values.collect() }
}

/// A step of plain code: parameter, gradient, state by slot, and when.
pub trait Formula: Fn(&mut [f64], &[f64], &mut [Vec<f64>], At) {}
impl<F: Fn(&mut [f64], &[f64], &mut [Vec<f64>], At)> Formula for F {}

fn run_formula(optimizer: &dyn Optimizer, lr: f64, formula: impl Formula) -> Tensors {
    let slots = optimizer.slots();
    let mut params = tensors_at(0);
    let initial = |w: &Vec<f64>| slots.iter().map(|s| vec![s.init; w.len()]).collect();
    let mut state: Vec<Tensors> = params.iter().map(initial).collect();
    for step in 1..=STEPS {
        let grads = tensors_at(step);
        for ((w, g), s) in params.iter_mut().zip(&grads).zip(&mut state) {
            formula(w, g, s, At { step, lr: lr_at(lr, step) });
        }
    }
    for slot in 0..slots.len() {
        params.extend(state.iter().map(|s| s[slot].clone()));
    }
    params
}

fn assert_close(what: &str, got: &[Vec<f64>], expected: &[Vec<f64>], tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (got, expected) in got.iter().flatten().zip(expected.iter().flatten()) {
        let close = (got - expected).abs() <= tolerance * expected.abs();
        assert!(close, "{what}: got {got}, expected {expected} within {tolerance} of it");
    }
}

/// Checks an optimiser's graph in f32 and f64 against `formula`, and against another implementation.
pub fn check(case: &Case<'_>, formula: impl Formula) {
    let optimizer = from_spec(&serde_json::from_str(case.options).unwrap(), case.weight_decay);
    let expected = run_formula(&*optimizer, case.lr, formula);
    assert!(expected[0].iter().zip(&tensors_at(0)[0]).all(|(w, start)| w != start), "the test moves nothing");
    let mut golden: HashMap<String, [Vec<f64>; 2]> = serde_json::from_str(GOLDEN).unwrap();
    golden.extend(serde_json::from_str::<HashMap<_, _>>(GOLDEN_PAPERS).unwrap());
    let paths = KernelPath::supported().into_iter().map(|path| (Some(path), DType::F32, 1e-5));
    let interpreted = [(None, DType::F32, 1e-5), (None, DType::F64, 1e-11)];
    for (path, dtype, tolerance) in interpreted.into_iter().chain(paths) {
        let got = run_on(path, &*optimizer, case.lr, dtype, optimizer.elementwise());
        let what = format!("{optimizer:?} in {dtype} by {path:?}");
        assert_close(&format!("{what} against its formula"), &got, &expected, tolerance);
        let other = format!("{what} against `{}` of another implementation", case.golden);
        assert_close(&other, &got[..2], &golden[case.golden], tolerance);
    }
}

/// Every optimiser with default options, and its name.
pub fn every_optimizer() -> Vec<(Box<dyn Optimizer>, String)> {
    let schema = serde_json::to_value(schemars::schema_for!(OptimizerName)).unwrap();
    let names = schema["oneOf"].as_array().unwrap().iter().map(|v| v["const"].clone());
    let make = |name: serde_json::Value| {
        let options = serde_json::from_value::<OptimizerName>(name.clone()).unwrap().defaults();
        let optimizer = from_spec(&options, 0.0);
        assert_eq!(optimizer.name(), name, "optimisers go by the names of the manifest");
        (optimizer, name.to_string())
    };
    names.map(make).collect()
}
