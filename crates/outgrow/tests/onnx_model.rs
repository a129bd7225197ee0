//! Models from ONNX files, trained further: all of their weights, some of them, or with a new last layer.

mod common;

use std::collections::BTreeMap;

use common::Place;
use outgrow_env::LocalStorage;
use outgrow_onnx::proto::ModelProto;
use outgrow_store::safetensors;
use outgrow_tensor::Tensor;
use prost::Message;

const DATA: &str = "seed = 4\n[data]\nsource = \"synthetic:glyphs\"\nsamples = 120\nsize = [14, 14]\n";
const TRAIN: &str = "[train]\nsteps = 4\nbatch = 20\nlr = 0.01\n";

/// The weights of a run by their names.
fn weights(place: &Place, run: &str) -> BTreeMap<String, Tensor> {
    let path = place.path(run).join("model/weights.safetensors");
    safetensors::read(&LocalStorage::new(), &path).unwrap_or_else(|e| panic!("{e}")).tensors
}

/// A folder with `own.toml`, a network of two layers, its export `m.onnx`, and `m.toml`, which trains that file.
fn place() -> Place {
    let place = Place::new();
    let layers =
        "[model]\nlayers = [{ flatten = true }, { dense = 12, activation = \"relu\" }, { dense = 10 }]\n";
    place.write("own.toml", format!("{DATA}{layers}{TRAIN}"));
    place.write("m.toml", format!("{DATA}[model]\nname = \"onnx\"\nfile = \"m.onnx\"\n{TRAIN}"));
    place.json(&["export", "own.toml", "m.onnx"]);
    place
}

#[test]
fn an_imported_model_trains_as_the_original_does() {
    let place = place();
    place.json(&["run", "own.toml", "--out", "own"]);
    place.json(&["run", "m.toml", "--out", "r"]);
    let (own, imported) = (weights(&place, "own"), weights(&place, "r"));
    assert_eq!(own.keys().collect::<Vec<_>>(), imported.keys().collect::<Vec<_>>());
    for (name, tensor) in &own {
        let pairs = (0..tensor.elements()).map(|i| (tensor.get_f64(i), imported[name].get_f64(i)));
        let apart = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(apart < 1e-5, "{name} differs by {apart}");
    }
}

#[test]
fn only_chosen_weights_move() {
    let place = place();
    let chosen = "model.trainable=[\"3.*\"]";
    place.json(&["run", "m.toml", "--out", "r", "--set", chosen]);
    let file = ModelProto::decode(std::fs::read(place.path("m.onnx")).unwrap().as_slice()).unwrap();
    let before = file.graph.unwrap().initializer;
    let is_as_before = |(name, tensor): &(&String, &Tensor)| {
        let there = before.iter().find(|t| t.name == **name).unwrap_or_else(|| panic!("{name}"));
        there.raw_data.as_ref().unwrap()[..] == tensor.le_bytes()[..]
    };
    let after = weights(&place, "r");
    let moved: Vec<&String> = after.iter().filter(|pair| !is_as_before(pair)).map(|(name, _)| name).collect();
    assert_eq!(moved, ["3.bias", "3.weight"]);
    let unknown = place.refused(&["run", "m.toml", "--out", "x", "--set", "model.trainable=[\"fc.*\"]"]);
    assert_eq!(unknown[0]["code"], "model.trainable");
}

#[test]
fn a_new_head_takes_the_place_of_the_old_one() {
    let place = place();
    place.json(&["run", "m.toml", "--out", "r", "--set", "model.head=\"new\""]);
    let names: Vec<String> = weights(&place, "r").into_keys().collect();
    assert_eq!(names, ["1.bias", "1.weight", "head.bias", "head.weight"]);
    let missing = place.refused(&["run", "m.toml", "--out", "x", "--set", "model.file=\"none.onnx\""]);
    assert_eq!(missing[0]["item"].as_str().map(|i| i.starts_with("model.file")), Some(true), "{missing:?}");
}

/// What a file holds is part of what a run is, not only its name.
#[test]
fn a_run_does_not_go_on_with_another_file() {
    let place = place();
    place.json(&["run", "m.toml", "--out", "r"]);
    place.json(&["run", "m.toml", "--out", "r"]);
    place.json(&["export", "own.toml", "m.onnx", "--set", "seed=5"]);
    let errors = place.refused(&["run", "m.toml", "--out", "r"]);
    assert_eq!(errors[0]["code"], "run.changed");
}
