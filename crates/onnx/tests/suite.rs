//! The ONNX project's own backend tests, written out as folders with a model, inputs and expected outputs; the folder
//! is in `OUTGROW_ONNX_SUITE`. Without it the test says that it skips.
//!
//! What is not supported must say so; nothing that is not refused may give a wrong result.
#![allow(clippy::print_stdout, clippy::print_stderr)] // the table is the point

use outgrow_ir::{Diagnostics, Dim};
use outgrow_onnx::proto::TensorProto;
use outgrow_onnx::{Elem, FolderData, Given, NoExternalData, OnnxModel, OnnxTensor};
use outgrow_runtime::{CompileOptions, CpuBackend, ThreadPool, compile, run_tensors};
use outgrow_tensor::Tensor;
use prost::Message;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// How many tests pass at least: of the node tests, and of the three other kinds together.
const NODE_FLOOR: usize = 1451;
const OTHER_FLOOR: usize = 124;

/// Two units in the last place of a bf16 number: what the ONNX project's own runner (`assert_similar_outputs` in
/// `onnx.backend.test.runner`) allows outputs of that type at least.
const BF16_RTOL: f64 = 1.0 / 64.0;

#[derive(Debug)]
enum Outcome {
    Passed,
    Failed(String),
    Unsupported(String),
}

fn judged(found: &Diagnostics) -> Outcome {
    let refused = found.0.iter().find(|d| d.code.starts_with("onnx.unsupported") || d.code == "onnx.opset");
    match refused {
        Some(d) => Outcome::Unsupported(format!("{} {}", d.code, d.problem)),
        None => Outcome::Failed(found.to_string()),
    }
}

fn tensors(folder: &Path, kind: &str) -> Result<Vec<OnnxTensor>, Outcome> {
    let mut all = Vec::new();
    for i in 0.. {
        let Ok(bytes) = std::fs::read(folder.join(format!("{kind}_{i}.pb"))) else { break };
        let proto = TensorProto::decode(bytes.as_slice())
            .map_err(|e| Outcome::Unsupported(format!("{kind} {i} is no tensor: {e}")))?;
        all.push(OnnxTensor::read(&proto, &NoExternalData).map_err(|d| judged(&d.into()))?);
    }
    Ok(all)
}

/// Compiles with every input open, then with those bound that decide shapes, and runs.
fn outputs(model: &OnnxModel, inputs: &[OnnxTensor]) -> Result<Vec<(Elem, Tensor)>, Outcome> {
    let dims = |t: &Tensor| t.shape().dims().iter().map(|d| Dim::Fixed(*d)).collect();
    let mut given: Vec<Given> = inputs.iter().map(|t| Given::Dims(dims(&t.tensor))).collect();
    let (graph, imported) = loop {
        match model.graph(&given) {
            Ok(built) => break built,
            Err(refused) => {
                let open =
                    refused.bind.iter().copied().filter(|i| matches!(given.get(*i), Some(Given::Dims(_))));
                let open: Vec<usize> = open.collect();
                if open.is_empty() {
                    return Err(judged(&refused.diagnostics));
                }
                open.into_iter().for_each(|i| given[i] = Given::Tensor(inputs[i].tensor.clone()));
            }
        }
    };
    graph.verify().map_err(|d| Outcome::Failed(d.to_string()))?;
    let backend = CpuBackend::new(Arc::new(ThreadPool::new(1)));
    let compiled = compile(&backend, &graph, 1, &CompileOptions::default())
        .map_err(|d| Outcome::Failed(format!("compile: {d}")))?;
    let by_value = |value| {
        let weight = imported.weights.iter().find(|w| w.value == value).map(|w| (*w.tensor).clone());
        let input =
            || imported.inputs.iter().position(|v| *v == Some(value)).map(|i| inputs[i].tensor.clone());
        weight.or_else(input)
    };
    let feeds: Vec<Tensor> = graph.inputs.iter().filter_map(|v| by_value(*v)).collect();
    let results =
        run_tensors(&backend, &compiled, &feeds).map_err(|d| Outcome::Failed(format!("run: {d}")))?;
    Ok(imported.outputs.iter().map(|o| o.elem).zip(results).collect())
}

fn difference(got: &(Elem, Tensor), want: &OnnxTensor, rtol: f64, atol: f64) -> Option<String> {
    if got.0 != want.elem || got.1.shape() != want.tensor.shape() {
        return Some(format!(
            "{:?}{} instead of {:?}{}",
            got.0,
            got.1.shape(),
            want.elem,
            want.tensor.shape()
        ));
    }
    let rtol = if want.elem == Elem::BF16 { rtol.max(BF16_RTOL) } else { rtol };
    (0..want.tensor.elements()).find_map(|i| {
        let same = if want.elem.is_float() {
            let (x, y) = (got.1.get_f64(i), want.tensor.get_f64(i));
            x == y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= atol + rtol * y.abs()
        } else {
            got.1.get_i64(i) == want.tensor.get_i64(i)
        };
        let show = |t: &Tensor| t.get_f64(i);
        (!same).then(|| format!("element {i} is {} instead of {}", show(&got.1), show(&want.tensor)))
    })
}

fn attempt(folder: &Path) -> Result<Outcome, Outcome> {
    let bytes = std::fs::read(folder.join("model.onnx")).map_err(|e| Outcome::Failed(e.to_string()))?;
    let external = FolderData::new(folder);
    let model = OnnxModel::parse(bytes.into(), &external).map_err(|d| judged(&d))?;
    let tolerance = std::fs::read_to_string(folder.join("tolerance")).unwrap_or("1e-3 1e-7".into());
    let mut numbers = tolerance.split_whitespace().filter_map(|n| n.parse::<f64>().ok());
    let (rtol, atol) = (numbers.next().unwrap_or(1e-3), numbers.next().unwrap_or(1e-7));
    let mut sets = 0;
    for k in 0.. {
        let set = folder.join(format!("test_data_set_{k}"));
        if !set.is_dir() {
            break;
        }
        sets += 1;
        let (inputs, wanted) = (tensors(&set, "input")?, tensors(&set, "output")?);
        let got = outputs(&model, &inputs)?;
        if got.len() != wanted.len() {
            return Ok(Outcome::Failed(format!("{} outputs instead of {}", got.len(), wanted.len())));
        }
        for (got, want) in got.iter().zip(&wanted) {
            if let Some(what) = difference(got, want, rtol, atol) {
                return Ok(Outcome::Failed(what));
            }
        }
    }
    Ok(if sets == 0 { Outcome::Unsupported("has no data".into()) } else { Outcome::Passed })
}

/// The operator of a node test; tests of several nodes are counted together.
fn operator(folder: &Path) -> String {
    let bytes = std::fs::read(folder.join("model.onnx")).unwrap_or_default();
    let model = outgrow_onnx::proto::ModelProto::decode(bytes.as_slice()).unwrap_or_default();
    let nodes = model.graph.map(|g| g.node).unwrap_or_default();
    match nodes.as_slice() {
        [only] => only.op_type.clone(),
        _ => "(several nodes)".into(),
    }
}

fn run_all(folders: &[PathBuf]) -> Vec<Outcome> {
    let results = Mutex::new(Vec::new());
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some(folder) = folders.get(i) else { break };
                    let run = || attempt(folder).unwrap_or_else(|refused| refused);
                    let outcome = std::panic::catch_unwind(run)
                        .unwrap_or_else(|_| Outcome::Failed("it panicked".into()));
                    results.lock().unwrap().push((i, outcome));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap();
    results.sort_by_key(|(i, _)| *i);
    results.into_iter().map(|(_, outcome)| outcome).collect()
}

#[test]
fn the_projects_own_tests() {
    let Some(suite) = std::env::var_os("OUTGROW_ONNX_SUITE").map(PathBuf::from) else {
        eprintln!("skipped: OUTGROW_ONNX_SUITE does not say where the tests are");
        return;
    };
    let mut failures = Vec::new();
    let mut passed = BTreeMap::new();
    for kind in ["node", "simple", "pytorch-operator", "pytorch-converted"] {
        let Ok(entries) = suite.join(kind).read_dir() else { continue };
        let mut folders: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
        folders.sort();
        let mut table: BTreeMap<String, [usize; 3]> = BTreeMap::new();
        for (folder, outcome) in folders.iter().zip(run_all(&folders)) {
            let name = folder.file_name().unwrap().to_string_lossy().into_owned();
            let row = table.entry(operator(folder)).or_default();
            match outcome {
                Outcome::Passed => row[0] += 1,
                Outcome::Failed(why) => {
                    row[1] += 1;
                    failures.push(format!("{kind}/{name}: {why}"));
                }
                Outcome::Unsupported(why) => {
                    row[2] += 1;
                    println!("unsupported {kind}/{name}: {why}");
                }
            }
        }
        println!("{:<28} {:>6} {:>6} {:>11}", kind, "passed", "failed", "unsupported");
        for (operator, [p, f, u]) in &table {
            println!("{operator:<28} {p:>6} {f:>6} {u:>11}");
        }
        let sum = |i: usize| table.values().map(|row| row[i]).sum::<usize>();
        println!("{:<28} {:>6} {:>6} {:>11}\n", format!("all of {kind}"), sum(0), sum(1), sum(2));
        passed.insert(kind, sum(0));
    }
    let others: usize = passed.iter().filter(|(kind, _)| **kind != "node").map(|(_, n)| n).sum();
    assert!(failures.is_empty(), "{} fail:\n{}", failures.len(), failures.join("\n"));
    assert!(passed["node"] >= NODE_FLOOR, "{} node tests pass", passed["node"]);
    assert!(others >= OTHER_FLOOR, "{others} of the other tests pass");
}
