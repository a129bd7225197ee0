//! Replays what fuzzing the text form of graphs has found.

#[path = "../../../fuzz/properties/graph.rs"]
mod graph;
#[path = "../../../fuzz/properties/replay.rs"]
mod replay;

#[test]
fn the_corpus_of_graph() {
    replay::replay("graph", graph::check);
}
