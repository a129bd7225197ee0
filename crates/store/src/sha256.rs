//! SHA-256 of bytes and of weights, as lower-case hexadecimal text.

use outgrow_tensor::Tensor;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Number of hexadecimal digits of a digest.
pub const HEX_DIGITS: usize = 64;

/// The SHA-256 of the bytes.
pub fn hex(bytes: &[u8]) -> String {
    let mut hasher = Hasher::new();
    hasher.update(bytes);
    hasher.hex()
}

/// The SHA-256 over the little-endian bytes of all tensors in the order of their names. Two models are equal bit for
/// bit when these digests are.
pub fn weights_sha256(tensors: &BTreeMap<String, Tensor>) -> String {
    let mut hasher = Hasher::new();
    for tensor in tensors.values() {
        hasher.update(&tensor.le_bytes());
    }
    hasher.hex()
}

/// Computes a SHA-256 piece by piece.
#[derive(Clone, Debug)]
pub struct Hasher(Sha256);

impl Hasher {
    /// The digest of nothing so far.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self(Sha256::new())
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes added.
    pub fn hex(self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let nibbles = self.0.finalize().into_iter().flat_map(|b| [b >> 4, b & 15]);
        nibbles.map(|n| char::from(DIGITS[usize::from(n)])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-4, the examples for "abc" and for no message at all.
    #[test]
    fn known_digests() {
        assert_eq!(hex(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(hex(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    fn weights_are_hashed_in_name_order_as_little_endian_bytes() {
        let tensors = [("b", 2.0f32), ("a", 1.0)].map(|(n, v)| (n.to_owned(), Tensor::scalar(v)));
        let bytes = [1.0f32.to_le_bytes(), 2.0f32.to_le_bytes()].concat();
        assert_eq!(weights_sha256(&BTreeMap::from(tensors)), hex(&bytes));
    }
}
