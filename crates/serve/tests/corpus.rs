//! Replays what fuzzing bodies of requests has found, and tries some thousand changed ones besides.

// Each property brings the modules that it needs, as it stands alone under libFuzzer.
#![allow(clippy::duplicate_mod)]

#[cfg(feature = "grpc")]
#[path = "../../../fuzz/properties/grpc_body.rs"]
mod grpc_body;
#[path = "../../../fuzz/properties/http_body.rs"]
mod http_body;
#[path = "../../../fuzz/properties/mutate.rs"]
mod mutate;
#[path = "../../../fuzz/properties/replay.rs"]
mod replay;

#[test]
fn the_corpus_of_http_body() {
    replay::replay("http_body", http_body::check);
}

#[test]
fn bodies_of_http_at_random() {
    mutate::mutants("http_body", http_body::check);
}

#[cfg(feature = "grpc")]
#[test]
fn the_corpus_of_grpc_body() {
    replay::replay("grpc_body", grpc_body::check);
}

#[cfg(feature = "grpc")]
#[test]
fn messages_of_grpc_at_random() {
    mutate::mutants("grpc_body", grpc_body::check);
}
