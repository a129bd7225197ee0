//! Bytes as tokens.

/// How many there are.
pub(super) const COUNT: usize = 256;

/// The text of some bytes; what is no UTF-8 becomes U+FFFD, and numbers that are no byte are left out.
pub(super) fn decode(tokens: &[i32]) -> String {
    let bytes: Vec<u8> = tokens.iter().filter_map(|t| u8::try_from(*t).ok()).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The character where the byte is one that can be seen, else its number.
pub(super) fn name(byte: u8) -> String {
    if byte.is_ascii_graphic() { char::from(byte).to_string() } else { format!("<0x{byte:02X}>") }
}
