//! Vocabularies: text to token numbers and back. One file for each kind.

mod bytes;
mod characters;
mod tokenizer;

pub use characters::CharVocabulary;
pub use tokenizer::TokenizerFile;

use outgrow_ir::Diagnostic;
use serde::{Deserialize, Serialize};

/// How a text becomes tokens. It is stored whole with a model, so that a model needs no other file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "Stored", try_from = "Stored")]
pub enum Vocabulary {
    /// Each character of the training text is a token.
    Characters(CharVocabulary),
    /// Each byte of the text in UTF-8 is a token: 256 in all.
    Bytes,
    /// The tokens of a `tokenizer.json` of Hugging Face.
    Tokenizer(TokenizerFile),
}

/// The stored form: characters are a text, anything else names itself.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Stored {
    Characters(String),
    Named(Named),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Named {
    Bytes {},
    /// The text of the file.
    Tokenizer(String),
}

impl From<Vocabulary> for Stored {
    fn from(vocabulary: Vocabulary) -> Self {
        match vocabulary {
            Vocabulary::Characters(characters) => Self::Characters(characters.into()),
            Vocabulary::Bytes => Self::Named(Named::Bytes {}),
            Vocabulary::Tokenizer(file) => Self::Named(Named::Tokenizer(file.text().to_owned())),
        }
    }
}

impl TryFrom<Stored> for Vocabulary {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Self, String> {
        Ok(match stored {
            Stored::Characters(text) => Self::Characters(CharVocabulary::try_from(text)?),
            Stored::Named(Named::Bytes {}) => Self::Bytes,
            Stored::Named(Named::Tokenizer(text)) => {
                Self::Tokenizer(TokenizerFile::parse(text).map_err(|d| d.to_string())?)
            }
        })
    }
}

impl Vocabulary {
    /// How many tokens there are: one more than the greatest token's number.
    pub fn len(&self) -> usize {
        match self {
            Self::Characters(characters) => characters.len(),
            Self::Bytes => bytes::COUNT,
            Self::Tokenizer(file) => file.len(),
        }
    }

    /// Whether there is no token at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What a token is, in the plural, for messages.
    pub fn unit(&self) -> &'static str {
        match self {
            Self::Characters(_) => "characters",
            Self::Bytes => "bytes",
            Self::Tokenizer(_) => "tokens",
        }
    }

    /// The characters, where those are the tokens.
    pub fn characters(&self) -> Option<&CharVocabulary> {
        match self {
            Self::Characters(characters) => Some(characters),
            _ => None,
        }
    }

    /// The tokens of a text.
    ///
    /// # Errors
    /// Names the first character that the vocabulary lacks, with its line and column; or what the tokeniser says.
    pub fn encode(&self, text: &str) -> Result<Vec<i32>, Diagnostic> {
        match self {
            Self::Characters(characters) => characters.encode(text),
            Self::Bytes => Ok(text.bytes().map(i32::from).collect()),
            Self::Tokenizer(file) => file.encode(text),
        }
    }

    /// The text of some tokens; what does not exist or is no text becomes U+FFFD, or nothing.
    pub fn decode(&self, tokens: &[i32]) -> String {
        match self {
            Self::Characters(characters) => characters.decode(tokens),
            Self::Bytes => bytes::decode(tokens),
            Self::Tokenizer(file) => file.decode(tokens),
        }
    }

    /// A name for each token, all of them different.
    pub fn names(&self) -> Vec<String> {
        match self {
            Self::Characters(characters) => characters.chars().iter().map(char::to_string).collect(),
            Self::Bytes => (0..bytes::COUNT).map(|b| bytes::name(b as u8)).collect(),
            Self::Tokenizer(file) => (0..file.len()).map(|token| file.name(token as u32)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_characters_are_stored_and_decoded() {
        let characters = Vocabulary::Characters(CharVocabulary::new(&"aé\n".chars().collect()));
        for (vocabulary, json, tokens) in
            [(characters, "\"\\naé\"", vec![1, 2]), (Vocabulary::Bytes, "{\"bytes\":{}}", vec![97, 195, 169])]
        {
            assert_eq!(serde_json::to_string(&vocabulary).unwrap(), json);
            assert_eq!(serde_json::from_str::<Vocabulary>(json).unwrap(), vocabulary);
            assert_eq!(vocabulary.encode("aé").unwrap(), tokens);
            assert_eq!(vocabulary.decode(&tokens), "aé");
            let names = vocabulary.names();
            assert_eq!(names.len(), vocabulary.len());
            assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), names.len());
        }
        assert_eq!(Vocabulary::Bytes.decode(&[195, 300, -1, 98]), "\u{fffd}b");
    }
}
