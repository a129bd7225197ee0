//! Replays what fuzzing the manifest has found.

#[path = "../../../fuzz/properties/manifest.rs"]
mod manifest;
#[path = "../../../fuzz/properties/replay.rs"]
mod replay;

#[test]
fn the_corpus_of_manifest() {
    replay::replay("manifest", manifest::check);
}
