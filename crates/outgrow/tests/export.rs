//! `outgrow export`: trained and untrained models as ONNX files. What other programs make of the files is checked by
//! `benchmarks/onnx_export.py`.

mod common;

use common::Place;
use outgrow_onnx::proto::ModelProto;
use outgrow_store::safetensors;
use prost::Message;

const MANIFEST: &str = "[data]\nsource = \"synthetic:glyphs\"\nsamples = 60\n[model]\nname = \"lenet\"\n\
    [train]\nsteps = 3\nbatch = 20\n";

fn read(place: &Place, file: &str) -> ModelProto {
    ModelProto::decode(std::fs::read(place.path(file)).unwrap().as_slice()).unwrap()
}

#[test]
fn a_trained_model_has_its_weights_and_classes() {
    let place = Place::with(MANIFEST);
    place.json(&["run", "m.toml", "--out", "r"]);
    let said = place.json(&["export", "r", "m.onnx"]);
    assert_eq!((&said["inputs"][0], &said["opset"]), (&"image".into(), &17.into()));
    let model = read(&place, "m.onnx");
    let classes = model.metadata_props.iter().find(|e| e.key == "classes").unwrap();
    assert!(classes.value.starts_with("[\"alpha\",\"beta\""), "{}", classes.value);
    let weights = std::fs::read(place.path("r/model/weights.safetensors")).unwrap();
    let graph = model.graph.unwrap();
    for (name, tensor) in safetensors::parse(weights).unwrap().tensors {
        let there = graph.initializer.iter().find(|t| t.name == name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(there.raw_data.as_ref().unwrap()[..], tensor.le_bytes()[..], "{name}");
    }
    assert_eq!(graph.name, "m");
    assert!(place.run(&["export", "r/model", "again.onnx"]).stdout.contains("again.onnx"));
    assert_eq!(read(&place, "again.onnx").graph.unwrap(), graph);
}

#[test]
fn a_manifest_gives_the_model_that_training_would_start_from() {
    let place = Place::with(MANIFEST);
    place.json(&["run", "m.toml", "--out", "r"]);
    place.json(&["export", "r", "trained.onnx"]);
    place.json(&["export", "m.toml", "fresh.onnx"]);
    let set = "model.weights=r/model/weights.safetensors";
    place.json(&["export", "m.toml", "loaded.onnx", "--set", set]);
    let weights = |file: &str| read(&place, file).graph.unwrap().initializer;
    assert_eq!(weights("loaded.onnx"), weights("trained.onnx"));
    // A run's folder stands for its weights, whatever their file is called.
    for folder in ["r", "r/model"] {
        place.json(&["export", "m.toml", "of-run.onnx", "--set", &format!("model.weights={folder}")]);
        assert_eq!(weights("of-run.onnx"), weights("trained.onnx"), "{folder}");
    }
    std::fs::create_dir(place.path("empty")).unwrap();
    let errors = place.refused(&["export", "m.toml", "of-run.onnx", "--set", "model.weights=empty"]);
    assert_eq!(errors[0]["item"], "model.weights", "{errors:?}");
    assert_ne!(weights("fresh.onnx"), weights("trained.onnx"));
}

#[test]
fn bad_calls_leave_what_was_there() {
    let place = Place::with(MANIFEST);
    place.write("m.onnx", "old");
    let check = |args: &[&str], code: &str| {
        assert_eq!(place.refused(&[&["export"], args].concat())[0]["code"], code, "{args:?}");
        assert_eq!(place.read("m.onnx"), "old");
    };
    check(&["nowhere", "m.onnx"], "predict.no-model");
    check(&["nowhere", "m.onnx", "--set", "seed=1"], "export.option");
    check(&["m.toml", "m.onnx", "--set", "model.weights=none.safetensors"], "model.weights");
    place.json(&["run", "m.toml", "--out", "r"]);
    check(&["r", "folder/m.onnx"], "export.file");
}
