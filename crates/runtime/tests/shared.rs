//! One compiled network, many who run it: the same bits as single runs, with the weights in memory once.
#![allow(clippy::print_stdout)]

use outgrow_ir::{Graph, Input, InputRole, OutputRole, TensorType};
use outgrow_models::spec::ModelSpec;
use outgrow_models::{BuildOptions, BuiltModel, InputSpec, TargetSpec, build};
use outgrow_runtime::{
    Argument, Backend, CompileOptions, Compiled, CpuBackend, HostMemory, Instance, ThreadPool, Weights,
    compile,
};
use outgrow_tensor::{DType, RngKey, Tensor};
use std::sync::Arc;
use std::time::Instant;

const THREADS: usize = 8;
const CLASSES: usize = 100;
const IMAGE: [usize; 3] = [3, 32, 32];

fn resnet18() -> BuiltModel {
    let spec: ModelSpec = serde_json::from_str(r#"{"name": "resnet18"}"#).unwrap();
    let inputs =
        InputSpec { name: "image".into(), dtype: DType::F32, dims: IMAGE.to_vec(), cardinalities: vec![] };
    let target = TargetSpec::Class { classes: CLASSES };
    let mut model = build(&spec.validate().unwrap(), &[inputs], &target, BuildOptions::default()).unwrap();
    model.eval.outputs.retain(|output| output.role == OutputRole::Result);
    model
}

fn weights(model: &BuiltModel) -> Weights {
    let weight = |(_, input): (_, &Input)| {
        let key = RngKey::new(1).fold_in_name(&input.name);
        let dims: Vec<usize> = input.dims.iter().map(|d| d.unit()).collect();
        let tensor = match input.role {
            InputRole::Param => {
                model.params.iter().find(|p| p.name == input.name)?.init.tensor(key, DType::F32, &dims)
            }
            InputRole::Buffer => {
                let (mut stream, least) = (key.stream(), f64::from(input.name.ends_with("var")));
                Tensor::from_f64(DType::F32, dims, |_| least / 10.0 + 0.2 * stream.uniform())
            }
            _ => return None,
        };
        Some((input.name.clone(), tensor))
    };
    Weights::new(model.eval.signature().filter_map(weight))
}

fn cpu(threads: usize) -> CpuBackend {
    CpuBackend::new(Arc::new(ThreadPool::new(threads)))
}

fn compiled(graph: &Graph, batch: usize, weights: &Arc<Weights>) -> Compiled {
    let options = CompileOptions { weights: weights.clone(), ..CompileOptions::default() };
    compile(&cpu(1), graph, batch, &options).unwrap()
}

/// Images, the same for the first of any batch.
fn images(batch: usize, seed: u64) -> Vec<f32> {
    let mut stream = RngKey::new(seed).stream();
    (0..batch * IMAGE.iter().product::<usize>()).map(|_| stream.normal() as f32).collect()
}

/// The logits of a batch, where weights are bound.
fn logits(compiled: &Compiled, instance: &mut dyn Instance, images: &[f32], batch: usize) -> Vec<f32> {
    logits_with(compiled, instance, &Weights::default(), images, batch)
}

/// The logits of a batch, where these weights are given to the run.
fn logits_with(
    compiled: &Compiled,
    instance: &mut dyn Instance,
    weights: &Weights,
    images: &[f32],
    batch: usize,
) -> Vec<f32> {
    let zeros = [0u64; 64];
    let mut out = HostMemory::new(4 * batch * CLASSES).unwrap();
    out.as_mut_slice().fill(0xff);
    let bytes = |ty: &TensorType| ty.static_shape().unwrap().elements() * ty.dtype.bytes();
    let input = |(name, ty): &(String, TensorType)| match (name.as_str(), weights.get(name)) {
        ("image", _) => Argument::host(images),
        (_, Some(weight)) => Argument::Host(weight.tensor().as_bytes()),
        _ => Argument::Host(&bytemuck::cast_slice(&zeros)[..bytes(ty)]),
    };
    let mut arguments: Vec<Argument<'_>> = compiled.inputs.iter().map(input).collect();
    arguments.push(Argument::write(&mut out));
    instance.run(&mut arguments).unwrap();
    bytemuck::cast_slice(out.as_slice()).to_vec()
}

/// What eight threads get that run one program at once, each the logits of an image of its own, `times` times.
fn at_once(compiled: &Compiled, backends: &[CpuBackend], times: usize) -> Vec<Vec<f32>> {
    std::thread::scope(|scope| {
        let run = |t: usize| {
            move || {
                let mut instance = backends[t % backends.len()].instance(compiled).unwrap();
                let images = images(1, t as u64);
                let first = logits(compiled, &mut *instance, &images, 1);
                for _ in 1..times {
                    assert!(logits(compiled, &mut *instance, &images, 1) == first, "thread {t}: runs differ");
                }
                first
            }
        };
        let started: Vec<_> = (0..THREADS).map(|t| scope.spawn(run(t))).collect();
        started.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn single(compiled: &Compiled) -> Vec<Vec<f32>> {
    let one = |t| logits(compiled, &mut *cpu(2).instance(compiled).unwrap(), &images(1, t as u64), 1);
    (0..THREADS).map(one).collect()
}

#[test]
fn a_network_is_run_by_many_threads_at_once() {
    let (model, backend) = (resnet18(), cpu(2));
    let weights = Arc::new(weights(&model));
    let one = compiled(&model.eval, 1, &weights);
    let (tensors, packed) = weights.bytes();
    assert!(
        packed > tensors / 10 * 9 && packed < tensors / 10 * 11,
        "{packed} of {tensors} bytes are packed"
    );
    let expected = single(&one);
    assert!(expected.iter().flatten().all(|x| x.is_finite()), "{:?}", &expected[0][..5]);
    assert!(expected[0] != expected[1], "{:?}", &expected[0][..5]);
    assert!(at_once(&one, std::slice::from_ref(&backend), 3) == expected, "on one pool");
    let own: Vec<_> = (0..THREADS).map(|_| cpu(1)).collect();
    assert!(at_once(&one, &own, 3) == expected, "on pools of their own");
    for batch in [8, 32] {
        let many = compiled(&model.eval, batch, &weights);
        let rows = logits(&many, &mut *backend.instance(&many).unwrap(), &images(batch, 0), batch);
        assert!(rows[..CLASSES] == expected[0], "a row of {batch} has the bits of a row alone");
    }
    assert_eq!(weights.bytes(), (tensors, packed), "neither threads nor batch sizes pack anything again");
    // The same with weights that are given to each run, and packed there.
    let given = compile(&backend, &model.eval, 1, &CompileOptions::default()).unwrap();
    let out = logits_with(&given, &mut *backend.instance(&given).unwrap(), &weights, &images(1, 0), 1);
    assert!(out == expected[0], "packed beforehand or in the run: the same bits");
}

/// Mebibytes that the process has in memory.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

/// What sharing costs and saves: `cargo test --release -p outgrow-runtime --test shared -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn measure() {
    let (model, backend) = (resnet18(), cpu(1));
    let weights = Arc::new(weights(&model));
    let start = resident();
    println!("tensors {:.1} MB; resident {start:.1} MiB", weights.bytes().0 as f64 / 1e6);
    let one = compiled(&model.eval, 1, &weights);
    let expected = single(&one);
    println!("packed {:.1} MB; one instance has run: {:.1} MiB", weights.bytes().1 as f64 / 1e6, resident());
    let given = compile(&backend, &model.eval, 1, &CompileOptions::default()).unwrap();
    let mut best = [f64::INFINITY; 2];
    let (mut bound_one, mut given_one) = (backend.instance(&one).unwrap(), backend.instance(&given).unwrap());
    for _ in 0..50 {
        let begin = Instant::now();
        logits(&one, &mut *bound_one, &images(1, 0), 1);
        best[0] = best[0].min(begin.elapsed().as_secs_f64());
        let begin = Instant::now();
        logits_with(&given, &mut *given_one, &weights, &images(1, 0), 1);
        best[1] = best[1].min(begin.elapsed().as_secs_f64());
    }
    println!("a run alone: {:.2} ms, packed in the run {:.2} ms", best[0] * 1e3, best[1] * 1e3);
    drop((given, bound_one, given_one));
    for (what, backends) in [
        ("pools of one thread each", (0..THREADS).map(|_| cpu(1)).collect()),
        ("one pool of two threads", vec![cpu(2)]),
    ] {
        let begin = Instant::now();
        assert!(at_once(&one, &backends, 1_000) == expected, "{what}");
        let seconds = begin.elapsed().as_secs_f64();
        println!(
            "{THREADS} threads, 1,000 runs each, {what}: {seconds:.1} s, {:.0} runs/s; resident {:.1} MiB",
            1_000.0 * THREADS as f64 / seconds,
            resident()
        );
    }
    for batch in [8, 32] {
        let many = compiled(&model.eval, batch, &weights);
        let rows = logits(&many, &mut *backend.instance(&many).unwrap(), &images(batch, 0), batch);
        assert!(rows[..CLASSES] == expected[0]);
        println!(
            "batch {batch} besides (arena {:.1} MB): packed {:.1} MB, resident {:.1} MiB",
            many.memory.planned_bytes as f64 / 1e6,
            weights.bytes().1 as f64 / 1e6,
            resident()
        );
    }
}
