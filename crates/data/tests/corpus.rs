//! Replays what fuzzing the readers of data files has found.

#[path = "../../../fuzz/properties/csv.rs"]
mod csv;
#[path = "../../../fuzz/properties/idx.rs"]
mod idx;
#[path = "../../../fuzz/properties/replay.rs"]
mod replay;

#[test]
fn the_corpus_of_idx() {
    replay::replay("idx", idx::check);
}

#[test]
fn the_corpus_of_csv() {
    replay::replay("csv", csv::check);
}
