//! Replays what fuzzing compiled graphs has found.

#[path = "../../../fuzz/properties/compiled.rs"]
#[allow(dead_code)]
mod compiled;
#[path = "../../../fuzz/properties/replay.rs"]
mod replay;

#[test]
fn the_corpus_of_compiled() {
    replay::replay("compiled", compiled::check);
}
