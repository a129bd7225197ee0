//! Replays what fuzzing ONNX files has found.

#[path = "../../../fuzz/properties/onnx.rs"]
mod onnx;
#[path = "../../../fuzz/properties/replay.rs"]
mod replay;

#[test]
fn the_corpus_of_onnx() {
    replay::replay("onnx", onnx::check);
}
