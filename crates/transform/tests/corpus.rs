//! Replays what fuzzing the cleaning steps has found.

#[path = "../../../fuzz/properties/clean.rs"]
mod clean;
#[path = "../../../fuzz/properties/replay.rs"]
mod replay;

#[test]
fn the_corpus_of_clean() {
    replay::replay("clean", clean::check);
}
