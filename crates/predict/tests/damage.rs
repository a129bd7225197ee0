//! What is no model, or no longer the one that was written, is refused with words, whatever it is.

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{LAYERS, RUN, open, options, package, people, text};
use outgrow_env::{SimStorage, StorageBackend};
use outgrow_predict::Model;
use outgrow_tensor::Tensor;

fn code(result: Result<Model, outgrow_ir::Diagnostics>) -> &'static str {
    result.expect_err("it is refused").0[0].code
}

#[test]
fn damaged_packages_are_refused() {
    for (part, expect) in [
        ("weights.safetensors", "store.package.damaged"),
        ("graph.txt", "store.package.damaged"),
        ("transform.json", "store.package.damaged"),
        ("manifest.toml", "store.package.damaged"),
    ] {
        let storage = SimStorage::new(2);
        package(LAYERS, people()).save(&storage, Path::new(RUN)).unwrap();
        let path = Path::new(RUN).join(part);
        let mut bytes = storage.read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        storage.write(&path, &bytes).unwrap();
        let storage: Arc<dyn StorageBackend> = Arc::new(storage);
        assert_eq!(code(open(&storage, 1)), expect, "{part}");
    }
    let storage = common::disk();
    assert_eq!(code(open(&storage, 1)), "predict.no-model");
    package(LAYERS, people()).save(&*storage, &PathBuf::from(RUN).join("model")).unwrap();
    assert_eq!(open(&storage, 1).unwrap().path(), Some(&*Path::new(RUN).join("model")));
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let good = package(LAYERS, people());
    let mut other = good.clone();
    let name = other.weights.keys().next().unwrap().clone();
    other.weights.insert(name, Tensor::vector(vec![1.0f32]));
    let mut fewer = good.clone();
    fewer.weights.pop_last();
    let mut none = good.clone();
    none.graph.outputs.clear();
    let mut foreign = good.clone();
    foreign.transform = text();
    let mut unnamed = good.clone();
    unnamed.manifest = "[data]\n".into();
    for (package, expect) in [
        (other, "predict.package"),
        (fewer, "predict.package"),
        (none, "predict.package"),
        (foreign, "predict.package"),
        (unnamed, "predict.package"),
    ] {
        assert_eq!(code(Model::of_package(package, options(1))), expect);
    }
    Model::of_package(good, options(1)).unwrap();
}

#[test]
fn memory_is_asked_for_only_where_there_is_some() {
    let mut options = options(1);
    options.memory = Some(1000);
    let model = Model::of_package(package(LAYERS, people()), options).unwrap();
    let array = |rows: usize| Tensor::zeros(outgrow_tensor::DType::F32, [rows, 2]);
    let refused = model.run(&[array(64)], &[0]).unwrap_err();
    assert!(["predict.memory", "runtime.memory"].contains(&refused.0[0].code), "{refused}");
    assert_eq!(model.program_count(), 0);
}

#[test]
fn files_of_other_kinds_are_no_models() {
    let storage = common::disk();
    storage.write(Path::new("m.onnx"), b"no model").unwrap();
    let refused = Model::open(&storage, Path::new("m.onnx"), options(1)).unwrap_err();
    assert_eq!(refused.0[0].place.file.as_deref(), Some(Path::new("m.onnx")));
}
