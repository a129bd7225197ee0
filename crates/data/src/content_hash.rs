//! A hash of what a split holds that does not depend on the order of its records, nor on how they are cut into shards:
//! two data sets with equal hashes hold the same records, whatever source they came from.

use crate::split_data::{Sink, SplitData};
use outgrow_ir::Diagnostic;
use outgrow_tensor::DType;
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// Tokens of text that are hashed at a time.
const TOKENS: u64 = 1 << 16;

/// The sum of the records' SHA-256 modulo 2²⁵⁶ (an additive multiset hash: Bellare and Micciancio, "A new paradigm for
/// collision-free hashing", Eurocrypt 1997), as 64 hexadecimal digits. It tells data sets apart; it is no protection
/// against somebody who makes records for a given sum. Text is one record: its stream of tokens.
pub(crate) fn content_hash(data: &SplitData, is_text: bool) -> Result<String, Diagnostic> {
    let mut sum = [0u64; 4];
    let mut bytes = Vec::new();
    if is_text {
        let mut hasher = Sha256::new();
        for from in (0..data.records).step_by(TOKENS as usize) {
            bytes.clear();
            field_bytes(data, 0, from, TOKENS.min(data.records - from), &mut bytes)?;
            hasher.update(&bytes);
        }
        add(&mut sum, &hasher.finalize().into());
    } else {
        for record in 0..data.records {
            bytes.clear();
            for field in 0..data.fields.len() {
                field_bytes(data, field, record, 1, &mut bytes)?;
            }
            add(&mut sum, &Sha256::digest(&bytes).into());
        }
    }
    Ok(sum.iter().rev().fold(String::with_capacity(64), |mut text, word| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{word:016x}");
        text
    }))
}

/// Adds a digest, read as a little-endian number.
fn add(sum: &mut [u64; 4], digest: &[u8; 32]) {
    let mut carry = false;
    for (word, bytes) in sum.iter_mut().zip(digest.as_chunks::<8>().0) {
        let (partial, first) = word.overflowing_add(u64::from_le_bytes(*bytes));
        let (whole, second) = partial.overflowing_add(u64::from(carry));
        (*word, carry) = (whole, first || second);
    }
}

/// Appends the little-endian bytes of consecutive records of a field.
fn field_bytes(
    data: &SplitData,
    field: usize,
    from: u64,
    count: u64,
    out: &mut Vec<u8>,
) -> Result<(), Diagnostic> {
    match (data.fields[field].dtype, data.fields[field].name.as_str()) {
        // Tokens are stored as narrow as their vocabulary allows, which is no difference in content.
        (DType::U8, "image") => data.read(field, from, count, &mut Sink::U8(out)),
        (DType::F32, _) => {
            let mut values = Vec::new();
            data.read(field, from, count, &mut Sink::F32(&mut values))?;
            out.extend(values.iter().flat_map(|v| v.to_bits().to_le_bytes()));
            Ok(())
        }
        _ => {
            let mut values = Vec::new();
            data.read(field, from, count, &mut Sink::I32(&mut values))?;
            out.extend(values.iter().flat_map(|v| v.to_le_bytes()));
            Ok(())
        }
    }
}
