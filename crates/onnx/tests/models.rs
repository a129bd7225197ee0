//! Models that `benchmarks/onnx_models.py` exported, in the folder that `OUTGROW_ONNX_MODELS` names (without it the
//! tests say that they skip): with a symbolic batch they give the very bits that they give with a fixed one, and they
//! can be differentiated with batch statistics.
#![allow(clippy::print_stdout, clippy::print_stderr)] // says what it does

use outgrow_ir::{Builder, Dim, Graph, InputRole, TensorType};
use outgrow_onnx::{DimInfo, FolderData, Given, Imported, Mode, OnnxModel, Training};
use outgrow_runtime::{CompileOptions, CpuBackend, ThreadPool, compile, run_tensors};
use outgrow_tensor::{DType, Tensor};
use std::path::PathBuf;
use std::sync::Arc;

fn models() -> Vec<(PathBuf, OnnxModel)> {
    let Some(folder) = std::env::var_os("OUTGROW_ONNX_MODELS").map(PathBuf::from) else {
        eprintln!("skipped: OUTGROW_ONNX_MODELS does not say where the models are");
        return Vec::new();
    };
    let entries = folder.read_dir().unwrap().map(|e| e.unwrap().path());
    let mut files: Vec<_> = entries.filter(|p| p.extension().is_some_and(|e| e == "onnx")).collect();
    files.sort();
    let read = |file: PathBuf| {
        let bytes = std::fs::read(&file).unwrap();
        let model = OnnxModel::parse(bytes.into(), &FolderData::new(&folder)).unwrap();
        (file, model)
    };
    files.into_iter().map(read).collect()
}

/// The declared dimensions of the inputs, every named one as `batch`.
fn dims(model: &OnnxModel, batch: Dim) -> Vec<Vec<Dim>> {
    let dim = |d: &DimInfo| match d {
        DimInfo::Fixed(n) => Dim::Fixed(*n),
        _ => batch,
    };
    model.inputs.iter().map(|i| i.dims.as_ref().unwrap().iter().map(dim).collect()).collect()
}

fn built(model: &OnnxModel, batch: Dim) -> (Graph, Imported) {
    let given: Vec<Given> = dims(model, batch).into_iter().map(Given::Dims).collect();
    let (graph, imported) = model.graph(&given).unwrap_or_else(|r| panic!("{}", r.diagnostics));
    graph.verify().unwrap();
    (graph, imported)
}

fn run(model: &OnnxModel, (graph, imported): &(Graph, Imported), batch: usize) -> Vec<Tensor> {
    let backend = CpuBackend::new(Arc::new(ThreadPool::new(2)));
    let compiled = compile(&backend, graph, batch, &CompileOptions::default()).unwrap();
    let tensor = |value: &outgrow_ir::Value| {
        let weight = imported.weights.iter().find(|w| w.value == *value).map(|w| (*w.tensor).clone());
        weight.unwrap_or_else(|| {
            let shape = graph.ty(*value).bind(&batch.into()).static_shape().unwrap();
            let input = imported.inputs.iter().position(|v| v == &Some(*value)).unwrap();
            Tensor::from_f64(model.inputs[input].elem.dtype(), shape, |i| (i % 13) as f64 * 0.3)
        })
    };
    let feeds: Vec<Tensor> = graph.inputs.iter().map(tensor).collect();
    run_tensors(&backend, &compiled, &feeds).unwrap()
}

#[test]
fn a_symbolic_batch_gives_the_same_bits() {
    for (file, model) in models() {
        let symbolic = built(&model, Dim::B);
        for batch in [1, 3] {
            let (open, fixed) =
                (run(&model, &symbolic, batch), run(&model, &built(&model, Dim::Fixed(batch)), batch));
            let same = open.iter().zip(&fixed).all(|(x, y)| x.same_bits(y));
            assert!(same, "{} with batch {batch}", file.display());
        }
        println!("{}", file.display());
    }
}

#[test]
fn imported_models_have_gradients() {
    for (file, model) in models() {
        let mut b = Builder::new("train");
        let weight = b.input("weight", InputRole::Weight, TensorType::new(DType::F32, [Dim::B]));
        let key = b.input("key", InputRole::Key, TensorType::scalar(DType::I64));
        let given: Vec<Given> = dims(&model, Dim::B).into_iter().map(Given::Dims).collect();
        let training = Training { sample_weight: weight, key };
        let role = |name: &str, tensor: &_| model.role(name, tensor);
        let imported = model
            .emit(&mut b, &given, Mode::Training(&training), &role)
            .unwrap_or_else(|r| panic!("{}", r.diagnostics));
        let loss = b.sum_all(imported.outputs[0].value);
        let params = imported.weights.iter().filter(|w| w.kind == InputRole::Param).map(|w| w.value);
        let params: Vec<_> = params.collect();
        b.output("loss", loss);
        let graph = b.finish().unwrap();
        let (with_gradients, _) = outgrow_passes::gradient(&graph, loss, &params).unwrap();
        with_gradients.verify().unwrap();
        assert!(!params.is_empty(), "{} has no parameters", file.display());
        println!("{}: {} parameters, {} statistics", file.display(), params.len(), imported.statistics.len());
    }
}
