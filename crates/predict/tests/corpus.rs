//! Replays what fuzzing the parts of packages has found, and tries some thousand changed ones besides.

#[path = "../../../fuzz/properties/mutate.rs"]
mod mutate;
#[path = "../../../fuzz/properties/package_parts.rs"]
mod package_parts;
#[path = "../../../fuzz/properties/replay.rs"]
mod replay;

#[test]
fn the_corpus_of_package_parts() {
    replay::replay("package_parts", package_parts::check);
}

#[test]
fn parts_of_packages_at_random() {
    mutate::mutants("package_parts", package_parts::check);
}
