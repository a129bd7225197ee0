//! How long large graphs take to be compiled, pass by pass, in nanoseconds for each node they have before it: where that
//! grows with the graph, something is not linear.
//!
//! `cargo run --release -p outgrow-runtime --example compile_speed [chain|resnet50|architectures]`
//!
//! `chain` has up to 20,000 ops, elementwise ones with a product, a transposition or a sum now and then; `resnet50` is the
//! training graph of up to a hundred copies, each with parameters of its own, of the sum of whose losses the gradients
//! are; `architectures` tells the arenas of all named models, which no change of planning may make larger.
#![allow(clippy::print_stdout)]

use outgrow_ir::{Builder, Diagnostics, Dim, Graph, InputRole, Op, Output, OutputRole, Value};
use outgrow_models::spec::ModelSpec;
use outgrow_models::{BuildOptions, InputSpec, TargetSpec, build};
use outgrow_passes::{add_gradients, prepare};
use outgrow_runtime::{CompileOptions, CpuBackend, MemoryPlan, ThreadPool, compile, plan, plan_memory};
use outgrow_tensor::DType;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Rows of the chain's values, and their width.
const SIDE: usize = 16;

fn main() -> Result<(), Diagnostics> {
    let wanted = std::env::args().nth(1);
    let wants = |name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
    if wants("chain") {
        for ops in [5_000, 10_000, 20_000] {
            show(&format!("chain of {ops}"), &chain(ops)?)?;
        }
    }
    if wants("resnet50") {
        for copies in [25, 50, 100] {
            show(&format!("resnet50 x {copies}"), &copied(&model("resnet50", 224)?, copies)?)?;
        }
    }
    if wants("architectures") {
        architectures()?;
    }
    Ok(())
}

/// Ops one after the other, of which some read what was made far before.
fn chain(ops: usize) -> Result<Graph, Diagnostics> {
    let mut b = Builder::new("chain");
    let (first, w) = (b.param("x", DType::F32, &[SIDE, SIDE]), b.param("w", DType::F32, &[SIDE, SIDE]));
    let (mut x, mut before) = (first, first);
    let mut made = 0;
    while made < ops {
        made += 1;
        x = match made % 20 {
            3 => b.matmul(x, w),
            7 => b.transpose(x, &[1, 0]),
            11 => {
                let sum = b.reduce_sum(x, &[1]);
                made += 1;
                b.broadcast(sum, &[Dim::Fixed(SIDE), Dim::Fixed(SIDE)], &[0])
            }
            15 => {
                let sum = b.add(x, before);
                before = x;
                sum
            }
            n if n % 2 == 0 => b.tanh(x),
            _ => b.mul(x, w),
        };
    }
    let loss = b.sum_all(x);
    b.output("loss", loss);
    b.finish()
}

/// The graph of a named model for training on images of this size.
fn model(name: &str, side: usize) -> Result<Graph, Diagnostics> {
    let json = match name {
        "mlp" => serde_json::json!({ "name": name, "hidden": [64, 32] }),
        _ => serde_json::json!({ "name": name }),
    };
    let spec: ModelSpec = serde_json::from_value(json).expect("a model's words");
    let (dims, dtype) = match name {
        "gpt" => (vec![64], DType::I32),
        "lenet" => (vec![1, 28, 28], DType::F32),
        "linear" | "logistic" | "mlp" | "wide-deep" => (vec![side], DType::F32),
        _ => (vec![3, side, side], DType::F32),
    };
    let target = match name {
        "gpt" => TargetSpec::Tokens { vocab: 96, context: 64 },
        "linear" => TargetSpec::Regression { width: 1 },
        "logistic" | "wide-deep" => TargetSpec::Binary,
        _ => TargetSpec::Class { classes: 10 },
    };
    let input = InputSpec { name: "input".into(), dtype, dims, cardinalities: Vec::new() };
    Ok(build(&spec.validate()?, &[input], &target, BuildOptions::default())?.train)
}

/// Copies of a graph side by side in one, with parameters of their own, whose loss is the sum of theirs, with its gradients.
fn copied(graph: &Graph, copies: usize) -> Result<Graph, Diagnostics> {
    let mut all = Graph { inputs: Vec::new(), outputs: Vec::new(), nodes: Vec::new(), ..graph.clone() };
    let loss = graph.output_of(&OutputRole::Loss).expect("a model has a loss");
    let mut total: Option<Value> = None;
    for copy in 0..copies {
        // What a node is in this copy: all read the same images and targets.
        let mut of: Vec<Value> = Vec::new();
        for (_, node) in graph.iter() {
            let mut node = node.clone();
            node.inputs.iter_mut().for_each(|value| *value = of[value.index()]);
            let mut is_input = false;
            if let Op::Input(input) = &mut node.op {
                is_input = true;
                if input.role == InputRole::Param {
                    input.name = format!("{}.{copy}", input.name);
                } else if let Some((value, _)) = all.signature().find(|(_, there)| there.name == input.name) {
                    of.push(value);
                    continue;
                }
            }
            of.push(Value(all.nodes.len() as u32));
            all.inputs.extend(is_input.then_some(of[of.len() - 1]));
            all.nodes.push(node);
        }
        let own = of[loss.value.index()];
        total = Some(match total {
            None => own,
            Some(sum) => {
                let mut node = all.node(own).clone();
                (node.op, node.inputs) = (Op::Add(outgrow_ir::ops::add::Add), vec![sum, own]);
                all.nodes.push(node);
                Value(all.nodes.len() as u32 - 1)
            }
        });
    }
    all.outputs = vec![Output { value: total.expect("a copy at least"), ..loss.clone() }];
    all.verify()?;
    add_gradients(&all)
}

fn show(what: &str, graph: &Graph) -> Result<(), Diagnostics> {
    let nodes = graph.nodes.len();
    println!("{what}: {nodes} nodes");
    let tell = |name: &str, took: Duration| {
        let each = took.as_nanos() as f64 / nodes as f64;
        println!("  {name:<24}{:>9.1} ms{each:>9.0} ns a node", took.as_secs_f64() * 1e3);
    };
    let graph = graph.bind(1);
    let mut started = Instant::now();
    let mut passes = Duration::ZERO;
    prepare().run_observed(&graph, |name, _| {
        let took = started.elapsed();
        passes += took;
        tell(&format!("{name}, verified"), took);
        started = Instant::now();
    })?;
    let (backend, options) = (CpuBackend::new(Arc::new(ThreadPool::new(1))), CompileOptions::default());
    let started = Instant::now();
    let memory = plan(&backend, &graph, 1, &options)?;
    let whole = started.elapsed();
    let buffers = memory.buffers.clone();
    let started = Instant::now();
    let again = plan_memory(buffers);
    let planning = started.elapsed();
    assert_eq!(again.planned_bytes, memory.planned_bytes);
    tell("lowering", whole.saturating_sub(passes).saturating_sub(planning));
    tell("memory planning", planning);
    let started = Instant::now();
    let compiled = compile(&backend, &graph, 1, &options)?;
    tell("all, with the kernels", started.elapsed());
    println!("  {} steps, {}", compiled.steps.len(), arena(&memory));
    let half = CompileOptions { fit: Some(memory.bytes() / 2), ..CompileOptions::default() };
    let started = Instant::now();
    let fitted = plan(&backend, &graph, 1, &half)?;
    tell("planning for half of it", started.elapsed());
    println!("  {}", arena(&fitted));
    Ok(())
}

fn arena(memory: &MemoryPlan) -> String {
    let MemoryPlan { buffers, planned_bytes, live_bytes, .. } = memory;
    format!("{} buffers in an arena of {planned_bytes} bytes, {live_bytes} at once", buffers.len())
}

fn architectures() -> Result<(), Diagnostics> {
    let backend = CpuBackend::new(Arc::new(ThreadPool::new(1)));
    for name in ["linear", "logistic", "mlp", "lenet", "resnet18", "resnet34", "resnet50", "gpt"] {
        let graph = add_gradients(&model(name, 32)?)?;
        for batch in [1, 8, 32] {
            let memory = plan(&backend, &graph, batch, &CompileOptions::default())?;
            println!("{name}, batch {batch}: {}", arena(&memory));
        }
    }
    Ok(())
}
