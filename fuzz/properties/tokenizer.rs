//! Tokenisers: one that is accepted gives the same tokens again, all of them below its size, and decodes them.

use outgrow_transform::{TokenizerFile, Vocabulary};

const TEXTS: &[&str] =
    &["", "The model, as written.\n\n  Two blanks", "naïve 数据 🦀\u{0}\u{fffd}", "<|end|>[UNK]"];

pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let file = match TokenizerFile::parse(text) {
        Ok(file) => file,
        Err(found) => {
            assert!(!found.problem.is_empty(), "a refusal says why");
            return;
        }
    };
    let vocabulary = Vocabulary::Tokenizer(file);
    let stored = serde_json::to_string(&vocabulary).expect("a vocabulary can be stored");
    let again: Vocabulary = serde_json::from_str(&stored).expect("a stored vocabulary can be read");
    for text in TEXTS {
        let Ok(tokens) = vocabulary.encode(text) else { continue };
        assert!(tokens.iter().all(|t| (0..vocabulary.len() as i32).contains(t)), "{tokens:?}");
        assert_eq!(again.encode(text).ok(), Some(tokens.clone()));
        assert_eq!(again.decode(&tokens), vocabulary.decode(&tokens));
    }
}
