//! Runs that start from the weights of another: with a new last layer, and with parameters that are not trained.

mod common;

use std::collections::BTreeMap;

use common::{Place, check_same, essence};
use outgrow_env::LocalStorage;
use outgrow_store::safetensors;
use outgrow_tensor::Tensor;

/// Learns which of several bands of a number a sample is in.
fn manifest(classes: usize, model: &str) -> String {
    let rows: Vec<String> = (0..120)
        .map(|i| {
            let (a, b) = (i * 7 % 120, i * 11 % 13);
            format!("[{a}, {b}, \"c{}\"]", a * classes / 120)
        })
        .collect();
    format!(
        "seed = 6\n[data]\nsource = \"rows\"\ncolumns = [\"a\", \"b\", \"y\"]\nlabel = \"y\"\nrows = [{}]\n\
         normalize = \"standard\"\nsplit = {{ validation = 0.2 }}\n[model]\n{model}\n\
         layers = [{{ dense = 8 }}, {{ batch_norm = true }}, {{ activation = \"relu\" }}, {{ dropout = 0.1 }}, \
         {{ dense = 6, activation = \"relu\" }}, {{ dense = {classes} }}]\n\
         [train]\nepochs = 6\nbatch = 24\nmicro_shards = 4\noptimizer = \"adam\"\nlr = 0.01\n",
        rows.join(", ")
    )
}

/// A place with a run of four classes in `old`, and the manifest `m.toml` of so many that starts from its weights.
fn place(classes: usize, model: &str) -> Place {
    let place = Place::new();
    place.write("old.toml", manifest(4, ""));
    place.json(&["run", "old.toml", "--out", "old"]);
    place
        .write("m.toml", manifest(classes, &format!("weights = \"old/model/weights.safetensors\"\n{model}")));
    place
}

fn weights(place: &Place, run: &str) -> BTreeMap<String, Tensor> {
    let path = place.path(run).join("model/weights.safetensors");
    safetensors::read(&LocalStorage::new(), &path).unwrap_or_else(|e| panic!("{e}")).tensors
}

/// The names of the tensors whose bits are those of the old run.
fn kept(place: &Place, run: &str) -> Vec<String> {
    let (old, new) = (weights(place, "old"), weights(place, run));
    let same = |(name, tensor): &(&String, &Tensor)| old[*name].le_bytes() == tensor.le_bytes();
    new.iter().filter(same).map(|(name, _)| name.clone()).collect()
}

#[test]
fn frozen_parameters_keep_their_bits() {
    let place = place(4, "freeze = [\"0.*\", \"1.weight\"]");
    let done = place.run(&["run", "m.toml", "--out", "r", "--json"]);
    assert!(done.stderr.contains("freezes     3 of 8 parameters, with 32 of 122 numbers"), "{}", done.stderr);
    let result = done.object();
    assert_eq!((result["frozen_parameters"].as_u64(), result["parameters"].as_u64()), (Some(32), Some(90)));
    assert_eq!(kept(&place, "r"), ["0.bias", "0.weight", "1.weight"]);
    // By any number of workers, and when a run goes on.
    place.json(&["run", "m.toml", "--out", "w", "--workers", "3"]);
    assert_eq!(weights(&place, "w"), weights(&place, "r"));
    place.json(&["run", "m.toml", "--out", "g", "--set", "train.epochs=2"]);
    place.json(&["run", "m.toml", "--out", "g", "--set", "train.epochs=6"]);
    check_same(&essence(&place, "g"), &essence(&place, "r"), "gone on");
    // What is frozen is not left to chance.
    let mut tensors = weights(&place, "old");
    tensors.remove("0.bias");
    let bytes = safetensors::to_bytes(&tensors, &BTreeMap::new()).unwrap();
    place.write("part.safetensors", bytes);
    let errors =
        place.refused(&["run", "m.toml", "--out", "x", "--set", "model.weights=\"part.safetensors\""]);
    assert!(errors[0]["problem"].as_str().unwrap().contains("`0.bias`"), "{errors:?}");
}

/// The gradients of the others are those that they have when all are trained: parameters whose learning rate is next to
/// nothing do not move either.
#[test]
fn the_others_are_trained_as_if_none_were_frozen() {
    let place = place(4, "");
    let plain = ["--set", "train.optimizer=\"sgd\"", "--set", "train.lr=0.05"];
    let with = |out: &str, set: &str| {
        place.json(&[&["run", "m.toml", "--out", out, "--set", set][..], &plain].concat());
        weights(&place, out)
    };
    let frozen = with("r", "model.freeze=[\"0.*\", \"4.bias\"]");
    let slow = with("s", "train.param_groups=[{ params = [\"0.*\", \"4.bias\"], lr_factor = 1e-30 }]");
    assert_eq!(frozen, slow);
    assert_eq!(kept(&place, "r"), ["0.bias", "0.weight", "4.bias"]);
}

#[test]
fn a_new_head_is_drawn_and_the_rest_is_taken() {
    for classes in [3, 4] {
        let place = place(classes, "head = \"new\"\nfreeze = [\"0.*\", \"1.*\", \"4.*\"]");
        let done = place.run(&["run", "m.toml", "--out", "r", "--json"]);
        assert!(
            done.stderr.contains("draws       6.weight, 6.bias anew; 6 other parameters come"),
            "{}",
            done.stderr
        );
        done.object();
        let mut same = kept(&place, "r");
        same.retain(|name| !name.contains("running"));
        assert_eq!(same, ["0.bias", "0.weight", "1.bias", "1.weight", "4.bias", "4.weight"]);
        assert_eq!(weights(&place, "r")["6.weight"].shape().dims(), [classes, 6]);
    }
}

#[test]
fn what_does_not_fit_is_told_with_what_would() {
    let place = place(3, "");
    let errors = place.refused(&["run", "m.toml", "--out", "r"]);
    assert_eq!(errors[0]["code"], "weights.shape");
    assert!(errors[0]["help"].as_str().unwrap().contains("head = \"new\""), "{errors:?}");
    // Where more than the last layer is another, that would not help.
    let errors = place.refused(&[
        "run",
        "m.toml",
        "--out",
        "r",
        "--set",
        "model.layers[4].dense=7",
        "--set",
        "model.head=\"new\"",
    ]);
    assert!(errors.iter().all(|error| error["code"] == "weights.shape"), "{errors:?}");
    assert!(!errors[0]["help"].as_str().is_some_and(|help| help.contains("head")), "{errors:?}");
    let errors = place.refused(&["run", "old.toml", "--out", "r", "--set", "model.head=\"new\""]);
    assert_eq!(errors[0]["code"], "manifest.model.head");
    let errors = place.refused(&["run", "m.toml", "--out", "r", "--set", "model.freeze=[\"0.wieght\"]"]);
    assert_eq!(errors[0]["code"], "model.freeze");
    assert!(errors[0]["expected"].as_str().unwrap().contains("closest are `0.weight`"), "{errors:?}");
}
