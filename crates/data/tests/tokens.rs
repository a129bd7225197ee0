//! Text as bytes and as the tokens of a `tokenizer.json`; without the feature `tokenizers`, that a build says so.

mod common;

use common::{dataset, try_prepare};
use outgrow_data::{Dataset, LoaderOptions, Split};
use serde_json::json;
use std::path::{Path, PathBuf};

fn tokenizers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tokenizers")
}

/// All stored tokens of a split, but those that no whole window holds.
fn tokens(data: &Dataset, split: Split) -> Vec<i32> {
    let loader = data.loader(split, LoaderOptions::evaluation(1)).unwrap();
    loader
        .take(data.samples(split) as usize)
        .flat_map(|b| b.unwrap().inputs[0].as_slice::<i32>().unwrap().to_vec())
        .collect()
}

#[test]
fn bytes_are_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let text = "Zürich, 東京! ".repeat(20_000);
    std::fs::write(folder.path().join("a.txt"), &text).unwrap();
    let section = json!({ "source": "text", "files": "a.txt", "tokenizer": "byte", "context": 1, "split": { "test": 0.5 } });
    let data = dataset(section, folder.path(), &folder.path().join("cache"));
    let stored: u64 = Split::ALL.iter().map(|s| data.stored(*s)).sum();
    assert_eq!(stored, text.len() as u64);
    for (split, expect) in [
        (Split::Train, &text.as_bytes()[..text.len() / 2]),
        (Split::Test, &text.as_bytes()[text.len() / 2..]),
    ] {
        let found: Vec<u8> = tokens(&data, split).into_iter().map(|t| t as u8).collect();
        assert!(found == expect[..expect.len() - 1], "{split}");
    }
    assert_eq!(data.transform().assembly.text.as_ref().unwrap().vocabulary.len(), 256);
}

#[cfg(not(feature = "tokenizers"))]
#[test]
fn a_build_without_tokenisers_says_so() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.txt"), "some text").unwrap();
    let path = tokenizers().join("bpe.json");
    let section = json!({ "source": "text", "files": "a.txt", "tokenizer": path, "context": 2 });
    let found = try_prepare(section, folder.path(), &folder.path().join("cache")).unwrap_err();
    assert_eq!(found.0[0].code, "data.tokenizer");
    assert!(found.to_string().contains("--features tokenizers"), "{found}");
}

#[test]
fn a_tokenizer_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.txt"), "some text").unwrap();
    let section = json!({ "source": "text", "files": "a.txt", "tokenizer": "bpe.json", "context": 2 });
    let found = try_prepare(section, folder.path(), &folder.path().join("cache")).unwrap_err();
    assert_eq!(
        (found.0[0].code, found.0[0].place.item.as_deref()),
        ("data.not-found", Some("data.tokenizer"))
    );
}

#[cfg(feature = "tokenizers")]
mod with_tokenizers {
    use super::*;
    use crate::common::real_data;
    use outgrow_transform::{TokenizerFile, Transform, Vocabulary};
    use serde_json::Value as Json;

    fn vocabulary(name: &str) -> Vocabulary {
        let text = std::fs::read_to_string(tokenizers().join(name)).unwrap();
        Vocabulary::Tokenizer(TokenizerFile::parse(text).unwrap_or_else(|d| panic!("{name}: {d}")))
    }

    /// The files were written, and the tokens found, by the library in Python.
    #[test]
    fn tokens_and_texts_are_those_of_the_library() {
        let expected = std::fs::read_to_string(tokenizers().join("expected.json")).unwrap();
        let expected: Vec<Json> = serde_json::from_str(&expected).unwrap();
        assert_eq!(expected.len(), 12);
        for case in expected {
            let vocabulary = vocabulary(&format!("{}.json", case["tokenizer"].as_str().unwrap()));
            let ids = vocabulary.encode(case["text"].as_str().unwrap()).unwrap();
            assert_eq!(json!(ids), case["ids"], "{case}");
            assert_eq!(vocabulary.decode(&ids), case["decoded"].as_str().unwrap(), "{case}");
            let names = vocabulary.names();
            assert!(names.len() == vocabulary.len() && ids.iter().all(|id| (*id as usize) < names.len()));
        }
    }

    #[test]
    fn a_data_set_keeps_its_tokenizer() {
        let folder = tempfile::tempdir().unwrap();
        let text = "Two lines, and a blank one.\n\nThe model of the manifest.\n".repeat(4000);
        std::fs::write(folder.path().join("a.txt"), &text).unwrap();
        let path = tokenizers().join("bpe.json");
        let section = json!({
            "source": "text", "files": "a.txt", "tokenizer": path, "context": 8, "split": { "validation": 0.1 },
        });
        let data = dataset(section.clone(), folder.path(), &folder.path().join("cache"));
        let transform = Transform::from_json(&data.transform().to_json()).unwrap();
        assert_eq!(&transform, data.transform());
        let vocabulary = transform.assembly.text.unwrap().vocabulary;
        assert_eq!(vocabulary, self::vocabulary("bpe.json"));
        // 700 tokens: two bytes each in storage.
        let bytes = std::fs::metadata(data.folder().join("train-00000.safetensors")).unwrap().len();
        assert!(bytes < 2 * data.stored(Split::Train) + 1000 && bytes > 2 * data.stored(Split::Train));
        let found = vocabulary.decode(&tokens(&data, Split::Train));
        assert!(text.starts_with(&found) && found.len() > text.len() * 9 / 10 - 100);
        // The same tokens from any number of threads, and when read shard by shard.
        let hash = |data: &Dataset| data.content_hash(Split::Train).unwrap();
        for threads in [1, 5] {
            let cache = folder.path().join(threads.to_string());
            let prepared = common::prepare_with(section.clone(), folder.path(), &cache, threads).unwrap();
            let other = Dataset::open_with(common::storage(), &prepared.folder, 0).unwrap();
            assert_eq!(hash(&other), hash(&data));
        }
    }

    /// Encoding in blocks gives the tokens of the whole text.
    #[test]
    fn tinyshakespeare_in_blocks_is_tinyshakespeare() {
        let Some(root) = real_data("tinyshakespeare") else { return };
        let folder = tempfile::tempdir().unwrap();
        let path = tokenizers().join("bpe.json");
        let section = json!({ "source": "text", "files": "tinyshakespeare/input.txt", "tokenizer": path, "context": 1 });
        let data = dataset(section, &root, folder.path());
        let text = std::fs::read_to_string(root.join("tinyshakespeare/input.txt")).unwrap();
        let whole = vocabulary("bpe.json").encode(&text).unwrap();
        assert_eq!(data.stored(Split::Train), whole.len() as u64);
        assert!(tokens(&data, Split::Train) == whole[..whole.len() - 1]);
    }

    /// More tokens than two bytes can tell apart.
    #[test]
    fn large_vocabularies_work() {
        let folder = tempfile::tempdir().unwrap();
        let vocab: serde_json::Map<String, Json> =
            (0..70_000).map(|i| (format!("w{i}"), json!(i))).chain([("?".into(), json!(70_000))]).collect();
        let file = json!({
            "version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": { "type": "WhitespaceSplit" },
            "post_processor": null, "decoder": null,
            "model": { "type": "WordLevel", "vocab": vocab, "unk_token": "?" },
        });
        std::fs::write(folder.path().join("t.json"), file.to_string()).unwrap();
        std::fs::write(folder.path().join("a.txt"), "w69999 w65536 w3 other w1 w0").unwrap();
        let section = json!({ "source": "text", "files": "a.txt", "tokenizer": "t.json", "context": 1 });
        let data = dataset(section, folder.path(), &folder.path().join("cache"));
        assert_eq!(tokens(&data, Split::Train), [69_999, 65_536, 3, 70_000, 1]);
    }

    #[test]
    fn damaged_tokenizers_are_refused() {
        let good = std::fs::read_to_string(tokenizers().join("bpe.json")).unwrap();
        let far = json!({
            "version": "1.0", "added_tokens": [],
            "model": { "type": "WordLevel", "vocab": { "?": 0, "a": u32::MAX }, "unk_token": "?" },
        });
        let far = far.to_string();
        let deep = "[".repeat(100_000);
        for bad in ["", "{}", "null", &good[..good.len() / 2], &deep, &far] {
            let found = TokenizerFile::parse(bad).unwrap_err();
            assert_eq!(found.code, "data.tokenizer");
        }
    }

    #[test]
    fn dropout_is_switched_off() {
        let good = std::fs::read_to_string(tokenizers().join("bpe.json")).unwrap();
        let random = good.replacen("\"dropout\":null", "\"dropout\":0.9", 1);
        assert_ne!(good, random);
        let random = TokenizerFile::parse(random).unwrap();
        let text = "the manifest names the model";
        assert_eq!(random.encode(text).unwrap(), vocabulary("bpe.json").encode(text).unwrap());
    }
}
