//! Checkpoints: a file that is accepted gives a state that is written and read back unchanged. A random change is
//! stopped by the checksums, so each file is also read with the checksum of its header put right.

use outgrow_store::checkpoint::{Checkpoint, parse};
use outgrow_store::sha256;

const MARK: &[u8] = b"\"outgrow.header_sha256\":\"";

pub fn check(data: &[u8]) {
    read(data);
    if let Some(sealed) = sealed(data) {
        read(&sealed);
    }
}

fn read(data: &[u8]) {
    let checkpoint = match parse(data.to_vec()) {
        Ok(checkpoint) => checkpoint,
        Err(found) => {
            assert!(!found.0.is_empty() && !found.to_string().is_empty(), "a refusal says why");
            return;
        }
    };
    let written = checkpoint.to_bytes().expect("what was read can be written");
    let back = parse(written).unwrap_or_else(|found| panic!("{found}"));
    let Checkpoint { step, model, state, tensors } = &checkpoint;
    assert_eq!((back.step, &back.model, &back.state), (*step, model, state));
    assert!(back.tensors.keys().eq(tensors.keys()));
    assert!(back.tensors.values().zip(tensors.values()).all(|(a, b)| a.same_bits(b)));
}

/// The same file with the digest of its header as it should be.
fn sealed(data: &[u8]) -> Option<Vec<u8>> {
    let length = u64::from_le_bytes(*data.first_chunk()?);
    let end = usize::try_from(length).ok()?.checked_add(8).filter(|end| *end <= data.len())?;
    let at = data[..end].windows(MARK.len()).position(|window| window == MARK)? + MARK.len();
    let mut sealed = data.to_vec();
    sealed[..end].get_mut(at..at + sha256::HEX_DIGITS)?.fill(b'0');
    let digest = sha256::hex(&sealed[..end]);
    sealed[at..at + sha256::HEX_DIGITS].copy_from_slice(digest.as_bytes());
    Some(sealed)
}
