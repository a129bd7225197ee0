//! Data in several places, through the binary: damage is survived, told and mended, versions come and stay.

mod common;

use common::{Place, flip_bit};

const MANIFEST: &str = r#"
seed = 5
[data]
source = "csv"
files = "t.csv"
label = "y"
task = "classify"
split = { validation = 0.1, test = 0.1 }
storage = { places = ["a", "b", "c"], copies = 2 }
[model]
layers = [{ dense = 8, activation = "relu" }, { dense = 3 }]
[train]
steps = 40
batch = 16
"#;

fn csv(from: usize) -> String {
    let rows = (from..from + 900).map(|i| format!("{i},{},{}\n", i % 7, i % 3));
    format!("x,z,y\n{}", rows.collect::<String>())
}

fn shards(place: &Place, disk: &str) -> Vec<String> {
    let folder = format!("{disk}/m/shards");
    let Ok(entries) = std::fs::read_dir(place.path(&folder)) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|e| format!("{folder}/{}", e.unwrap().file_name().to_str().unwrap())).collect();
    names.retain(|name| name.ends_with(".safetensors"));
    names.sort();
    names
}

#[test]
fn damaged_copies_are_read_around_told_and_restored() {
    let place = Place::with(MANIFEST);
    place.write("t.csv", csv(0));
    let prepared = place.json(&["data", "prepare", "m.toml"]);
    assert_eq!(prepared["version"], 1);
    let first = place.json(&["run", "m.toml", "--out", "r1"]);
    // All that one place holds gets a flipped bit.
    let disk = ["a", "b", "c"].into_iter().find(|d| !shards(&place, d).is_empty()).unwrap();
    let damaged = shards(&place, disk);
    damaged.iter().for_each(|name| flip_bit(&place.path(name), 0.6));
    let done = place.run(&["run", "m.toml", "--out", "r2", "--json"]);
    let second = done.object();
    for key in ["train", "validation", "test", "weights_sha256"] {
        assert_eq!(first[key], second[key], "{key}");
    }
    let errors = place.refused(&["data", "verify", "m.toml"]);
    assert_eq!(errors.len(), damaged.len());
    assert!(errors.iter().all(|e| e["code"] == "data.copy.bad"), "{errors:?}");
    let repaired = place.json(&["data", "verify", "m.toml", "--repair"]);
    assert_eq!(
        (&repaired["verified"], repaired["restored"].as_u64()),
        (&true.into(), Some(damaged.len() as u64))
    );
    assert_eq!(place.json(&["data", "verify", "m.toml"])["verified"], true);
    // A whole place may go.
    std::fs::remove_dir_all(place.path(disk)).unwrap();
    std::fs::remove_dir_all(place.path("cache")).unwrap();
    let third = place.json(&["run", "m.toml", "--out", "r3"]);
    assert_eq!(first["weights_sha256"], third["weights_sha256"]);
}

#[test]
fn a_run_that_was_begun_keeps_its_version() {
    let place = Place::with(MANIFEST);
    place.write("t.csv", csv(0));
    let undisturbed = place.json(&["run", "m.toml", "--out", "whole"]);
    // The run ends half-way, and the source changes before it goes on.
    let steps = ["--set", "train.checkpoint_every_steps=5"];
    let mut child =
        place.command(&[&["run", "m.toml", "--out", "r", "--quiet"], &steps[..]].concat()).spawn().unwrap();
    while !place.path("r/run.json").exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let _ = child.kill();
    child.wait().unwrap();
    place.write("t.csv", csv(1000));
    assert_eq!(place.json(&["data", "prepare", "m.toml"])["version"], 2);
    let resumed = place.json(&[&["run", "m.toml", "--out", "r"], &steps[..]].concat());
    assert_eq!(resumed["weights_sha256"], undisturbed["weights_sha256"]);
    let fresh = place.json(&[&["run", "m.toml", "--out", "r", "--fresh"], &steps[..]].concat());
    assert_ne!(fresh["weights_sha256"], undisturbed["weights_sha256"]);
}

#[test]
fn without_its_source_the_data_is_taken_from_its_places() {
    let place = Place::with(MANIFEST);
    place.write("t.csv", csv(0));
    let first = place.json(&["run", "m.toml", "--out", "r1"]);
    std::fs::remove_file(place.path("t.csv")).unwrap();
    std::fs::remove_dir_all(place.path("cache")).unwrap();
    assert_eq!(place.json(&["run", "m.toml", "--out", "r2"])["weights_sha256"], first["weights_sha256"]);
    let errors = place.refused(&["run", "m.toml", "--out", "r3", "--set", "data.split.validation=0.3"]);
    assert_eq!(errors[0]["code"], "data.not-found");
}

#[test]
fn shards_in_the_cache_are_prepared_again() {
    let manifest = MANIFEST.replace("storage = {", "# storage = {");
    let place = Place::with(&manifest);
    place.write("t.csv", csv(0));
    let prepared = place.json(&["data", "prepare", "m.toml"]);
    let folder = prepared["data"].as_str().unwrap();
    let shard = std::path::Path::new(folder).join("train-00000.safetensors");
    let whole = std::fs::read(&shard).unwrap();
    for damage in 0..2 {
        if damage == 0 {
            flip_bit(&shard, 0.6);
        } else {
            std::fs::write(&shard, &whole[..whole.len() / 2]).unwrap();
        }
        assert_eq!(place.refused(&["data", "verify", "m.toml"])[0]["code"], "data.shard.corrupt");
        assert_eq!(place.json(&["data", "verify", "m.toml", "--repair"])["restored"], 1);
        assert_eq!(std::fs::read(&shard).unwrap(), whole);
    }
}
