//! Tokenisers of Hugging Face's `tokenizer.json`: byte pairs, unigrams, word pieces and words, whatever the
//! `tokenizers` crate reads. They need the feature `tokenizers`; a build without it says so.

use outgrow_ir::Diagnostic;
use std::sync::Arc;

/// A tokeniser together with the text of its file.
#[derive(Clone)]
pub struct TokenizerFile {
    text: Arc<str>,
    #[cfg(feature = "tokenizers")]
    tokenizer: Arc<tokenizers::Tokenizer>,
    size: usize,
}

impl std::fmt::Debug for TokenizerFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenizerFile({} tokens)", self.size)
    }
}

impl PartialEq for TokenizerFile {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

fn bad(problem: impl Into<String>) -> Diagnostic {
    Diagnostic::new("data.tokenizer", problem)
        .expected("a `tokenizer.json` as the `tokenizers` library of Hugging Face saves it")
}

impl TokenizerFile {
    /// Larger files are refused; those in use have some ten megabytes.
    pub const BYTES_MAX: usize = 1 << 26;

    /// The text of the file.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// One more than the greatest token's number.
    pub fn len(&self) -> usize {
        self.size
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.size == 0
    }
}

#[cfg(not(feature = "tokenizers"))]
impl TokenizerFile {
    /// Refuses the file: this build has no tokenisers.
    ///
    /// # Errors
    /// Always, and says how to build with them.
    pub fn parse(_: impl Into<String>) -> Result<Self, Diagnostic> {
        Err(bad("this build of Outgrow cannot read tokenisers")
            .expected("\"char\" or \"byte\", or a build with the feature `tokenizers`")
            .hint("build it with `cargo build --release --features tokenizers`"))
    }

    /// Has no text to turn into tokens, for there is no tokeniser.
    ///
    /// # Errors
    /// Always.
    pub fn encode(&self, _: &str) -> Result<Vec<i32>, Diagnostic> {
        Err(bad("this build of Outgrow cannot read tokenisers"))
    }

    /// Nothing, for there is no tokeniser.
    pub fn decode(&self, _: &[i32]) -> String {
        String::new()
    }

    /// The token's number.
    pub fn name(&self, token: u32) -> String {
        format!("#{token}")
    }
}

#[cfg(feature = "tokenizers")]
mod with_tokenizers {
    use super::{TokenizerFile, bad};
    use outgrow_ir::{Diagnostic, shielded};
    use std::collections::HashMap;
    use std::sync::Arc;
    use tokenizers::models::ModelWrapper;
    use tokenizers::{Model, Tokenizer};

    /// More tokens are refused: every one of them costs a row of an embedding.
    const TOKENS_MAX: usize = 1 << 22;

    /// Runs the library so that nothing in a file can end the process.
    fn guarded<T>(run: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, Diagnostic> {
        let unusable = |why: String| bad(format!("the tokeniser cannot be used: {why}"));
        shielded(run)
            .ok_or_else(|| unusable("its library gave up".into()))?
            .map_err(|e| unusable(e.to_string()))
    }

    /// Two tokens with one number, if there are any: which of them it stands for would be a matter of chance.
    fn shared_number(vocabulary: &HashMap<String, u32>) -> Option<(u32, [&str; 2])> {
        let mut tokens: Vec<(u32, &str)> =
            vocabulary.iter().map(|(token, id)| (*id, token.as_str())).collect();
        tokens.sort_unstable();
        let pair = tokens.windows(2).find(|pair| pair[0].0 == pair[1].0)?;
        Some((pair[0].0, [pair[0].1, pair[1].1]))
    }

    impl TokenizerFile {
        /// Reads the text of a `tokenizer.json`. Random parts of it (dropout of merges, sampling of unigrams) are switched off, and so are
        /// padding and truncation: the same text always has the same tokens, all of them.
        ///
        /// # Errors
        /// A diagnostic for a file that is damaged, too large, or has absurdly many tokens.
        pub fn parse(text: impl Into<String>) -> Result<Self, Diagnostic> {
            let text = text.into();
            if text.len() > Self::BYTES_MAX {
                return Err(bad(format!("the tokeniser has {} bytes", text.len()))
                    .expected(format!("at most {}", Self::BYTES_MAX)));
            }
            let mut tokenizer = guarded(|| Tokenizer::from_bytes(text.as_bytes()))?;
            guarded(|| {
                tokenizer.with_padding(None);
                tokenizer.with_truncation(None)?;
                Ok(())
            })?;
            match tokenizer.get_model().clone() {
                ModelWrapper::BPE(mut model) if model.dropout.is_some() => {
                    model.dropout = None;
                    tokenizer.with_model(model);
                }
                ModelWrapper::Unigram(mut model) if model.alpha.is_some() => {
                    model.alpha = None;
                    tokenizer.with_model(model);
                }
                _ => {}
            }
            let vocabulary = tokenizer.get_model().get_vocab();
            if let Some((number, [first, second])) = shared_number(&vocabulary) {
                return Err(bad(format!(
                    "the tokeniser gives {first:?} and {second:?} the same number, {number}"
                ))
                .expected("a number of its own for every token"));
            }
            let greatest =
                (vocabulary.into_values()).chain(tokenizer.get_added_tokens_decoder().into_keys()).max();
            let size = greatest.map_or(0, |token| token as usize + 1);
            if size == 0 || size > TOKENS_MAX {
                return Err(bad(format!("the tokeniser has {size} tokens"))
                    .expected(format!("1 to {TOKENS_MAX}, numbered from 0")));
            }
            Ok(Self { text: text.into(), tokenizer: Arc::new(tokenizer), size })
        }

        /// The tokens of a text, without those that a template would put around it.
        ///
        /// # Errors
        /// When the tokeniser cannot work on the text.
        pub fn encode(&self, text: &str) -> Result<Vec<i32>, Diagnostic> {
            let encoding = guarded(|| self.tokenizer.encode_fast(text, false))?;
            Ok(encoding.get_ids().iter().map(|id| *id as i32).collect())
        }

        /// The text of some tokens. Numbers that are no token are left out.
        pub fn decode(&self, tokens: &[i32]) -> String {
            let ids: Vec<u32> = tokens.iter().filter_map(|t| u32::try_from(*t).ok()).collect();
            guarded(|| self.tokenizer.decode(&ids, false)).unwrap_or_default()
        }

        /// The token as the file writes it, or its number where there is none.
        pub fn name(&self, token: u32) -> String {
            self.tokenizer.id_to_token(token).unwrap_or_else(|| format!("#{token}"))
        }
    }
}
