//! Replays what fuzzing the file formats of checkpoints, packages and logs has found.

#[path = "../../../fuzz/properties/checkpoint.rs"]
mod checkpoint;
#[path = "../../../fuzz/properties/json_lines.rs"]
mod json_lines;
#[path = "../../../fuzz/properties/npy.rs"]
mod npy;
#[path = "../../../fuzz/properties/package.rs"]
mod package;
#[path = "../../../fuzz/properties/replay.rs"]
mod replay;
#[path = "../../../fuzz/properties/safetensors.rs"]
mod safetensors;

#[test]
fn the_corpus_of_safetensors() {
    replay::replay("safetensors", safetensors::check);
}

#[test]
fn the_corpus_of_checkpoint() {
    replay::replay("checkpoint", checkpoint::check);
}

#[test]
fn the_corpus_of_package() {
    replay::replay("package", package::check);
}

#[test]
fn the_corpus_of_json_lines() {
    replay::replay("json_lines", json_lines::check);
}

#[test]
fn the_corpus_of_npy() {
    replay::replay("npy", npy::check);
}
