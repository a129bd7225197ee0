//! What the workers of a group know and nobody else does.

use super::join_file::{hex, of_hex};
use rustls::crypto::ring::default_provider;
use std::fmt::{self, Debug};
use std::hint::black_box;
use std::io;

/// A secret of 32 bytes. It is not shown by `Debug`.
#[derive(Clone, Copy)]
pub struct Token(pub(super) [u8; 32]);

impl Token {
    /// One that nobody has guessed, from the system.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0; 32];
        default_provider()
            .secure_random
            .fill(&mut bytes)
            .map_err(|_| io::Error::other("no random numbers"))?;
        Ok(Self(bytes))
    }

    /// The one that 64 hexadecimal digits spell.
    pub fn of_hex(text: &str) -> Option<Self> {
        of_hex(text)?.try_into().ok().map(Self)
    }

    /// In hexadecimal digits, for those who are to join.
    pub fn to_hex(&self) -> String {
        hex(&self.0)
    }

    /// Whether these are its bytes, in a time that does not depend on how many of them are right.
    pub(super) fn is(&self, shown: &[u8; 32]) -> bool {
        self.0.iter().zip(shown).fold(0, |differing, (a, b)| black_box(differing | (a ^ b))) == 0
    }
}

impl Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_spelt_and_read_and_kept_to_itself() {
        let token = Token::random().unwrap();
        let text = token.to_hex();
        let again = Token::of_hex(&text).unwrap();
        assert!(again.is(&token.0) && text.len() == 64);
        assert!(!Token::random().unwrap().is(&token.0));
        for i in 0..32 {
            let mut other = token.0;
            other[i] ^= 1;
            assert!(!token.is(&other), "byte {i}");
        }
        for wrong in ["", &text[1..], &format!("{text}00"), &text.replace(|_| true, "g")] {
            assert!(Token::of_hex(wrong).is_none());
        }
        assert_eq!(format!("{token:?}"), "Token(…)");
    }
}
