//! Characters as tokens.

use outgrow_ir::Diagnostic;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The characters of a text in the order of their code points; a character's place is its token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct CharVocabulary {
    chars: Vec<char>,
    /// Tokens of the ASCII characters, `u32::MAX` where there is none: most look-ups end here.
    ascii: Vec<u32>,
}

impl CharVocabulary {
    /// The vocabulary of a set of characters.
    pub fn new(chars: &BTreeSet<char>) -> Self {
        let chars: Vec<char> = chars.iter().copied().collect();
        let mut ascii = vec![u32::MAX; 128];
        for (token, c) in chars.iter().enumerate().filter(|(_, c)| c.is_ascii()) {
            ascii[*c as usize] = token as u32;
        }
        Self { chars, ascii }
    }

    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.chars.len()
    }

    /// Whether there is no token at all.
    pub fn is_empty(&self) -> bool {
        self.chars.is_empty()
    }

    /// The characters, in the order of their tokens.
    pub fn chars(&self) -> &[char] {
        &self.chars
    }

    /// The token of a character.
    pub fn token(&self, c: char) -> Option<u32> {
        if c.is_ascii() {
            let token = self.ascii[c as usize];
            return (token != u32::MAX).then_some(token);
        }
        self.chars.binary_search(&c).ok().map(|i| i as u32)
    }

    /// The tokens of a text.
    ///
    /// # Errors
    /// Names the first character that the vocabulary lacks, with its line and column.
    pub fn encode(&self, text: &str) -> Result<Vec<i32>, Diagnostic> {
        let mut tokens = Vec::with_capacity(text.len());
        let (mut line, mut column) = (1, 1);
        for c in text.chars() {
            let Some(token) = self.token(c) else {
                return Err(Diagnostic::new(
                    "data.text.unknown-character",
                    format!("the character {c:?} is not in the model's vocabulary"),
                )
                .line(line)
                .column(column)
                .expected(format!("one of its {} characters", self.len()))
                .hint("leave the character out; the vocabulary is fixed when the data is prepared"));
            };
            tokens.push(token as i32);
            (line, column) = if c == '\n' { (line + 1, 1) } else { (line, column + 1) };
        }
        Ok(tokens)
    }

    /// The text of some tokens; a token that does not exist becomes U+FFFD.
    pub fn decode(&self, tokens: &[i32]) -> String {
        tokens
            .iter()
            .map(|t| usize::try_from(*t).ok().and_then(|t| self.chars.get(t)).copied().unwrap_or('\u{fffd}'))
            .collect()
    }
}

impl From<CharVocabulary> for String {
    fn from(vocabulary: CharVocabulary) -> Self {
        vocabulary.chars.into_iter().collect()
    }
}

impl TryFrom<String> for CharVocabulary {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let set: BTreeSet<char> = text.chars().collect();
        if set.iter().copied().eq(text.chars()) {
            Ok(Self::new(&set))
        } else {
            Err("a vocabulary's characters must be in rising order, each once".into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_and_decodes_back() {
        let vocabulary = CharVocabulary::new(&"hello wörld\n".chars().collect());
        let tokens = vocabulary.encode("low örd").unwrap();
        assert_eq!(vocabulary.decode(&tokens), "low örd");
        assert_eq!(vocabulary.decode(&[-1, 99]), "\u{fffd}\u{fffd}");
        let error = vocabulary.encode("hell\nox").unwrap_err();
        assert_eq!((error.place.line, error.place.column), (Some(2), Some(2)));
        let json = serde_json::to_string(&vocabulary).unwrap();
        assert_eq!(serde_json::from_str::<CharVocabulary>(&json).unwrap(), vocabulary);
        assert!(serde_json::from_str::<CharVocabulary>("\"ba\"").is_err());
    }
}
