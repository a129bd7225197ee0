//! Replays what fuzzing the readers of data files has found.

#[path = "../../../fuzz/properties/idx.rs"]
mod idx;
#[path = "../../../fuzz/properties/image.rs"]
mod image;
#[path = "../../../fuzz/properties/record_files.rs"]
mod record_files;
#[path = "../../../fuzz/properties/replay.rs"]
mod replay;
#[path = "../../../fuzz/properties/text_tables.rs"]
mod text_tables;
#[cfg(feature = "tokenizers")]
#[path = "../../../fuzz/properties/tokenizer.rs"]
mod tokenizer;

#[test]
fn the_corpus_of_idx() {
    replay::replay("idx", idx::check);
}

#[test]
fn the_corpus_of_csv() {
    replay::replay("csv", text_tables::csv);
}

#[test]
fn the_corpus_of_json_records() {
    replay::replay("json_records", text_tables::json_records);
}

#[test]
fn the_corpus_of_images() {
    replay::replay("image", image::check);
}

#[test]
fn the_corpus_of_npz() {
    replay::replay("npz", record_files::npz);
}

#[test]
fn the_corpus_of_arrow() {
    replay::replay("arrow", record_files::arrow);
}

#[cfg(feature = "tokenizers")]
#[test]
fn the_corpus_of_tokenizers() {
    replay::replay("tokenizer", tokenizer::check);
}
