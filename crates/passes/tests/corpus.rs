//! Replays what fuzzing gradients and passes has found.

#[path = "../../../fuzz/properties/passes.rs"]
mod passes;
#[path = "../../../fuzz/properties/replay.rs"]
mod replay;

#[test]
fn the_corpus_of_passes() {
    replay::replay("passes", passes::check);
}
