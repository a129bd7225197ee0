//! The safetensors format: a file that is accepted gives a content that is written and read back unchanged.

use outgrow_store::safetensors::{SafeTensors, parse, to_bytes};

pub fn check(data: &[u8]) {
    let SafeTensors { tensors, metadata } = match parse(data.to_vec()) {
        Ok(content) => content,
        Err(found) => {
            assert!(!found.0.is_empty() && !found.to_string().is_empty(), "a refusal says why");
            return;
        }
    };
    let bytes: usize = tensors.values().map(|t| t.bytes()).sum();
    assert!(bytes <= data.len(), "every tensor has bytes of its own");
    let written = to_bytes(&tensors, &metadata).expect("what was read can be written");
    let back = parse(written).unwrap_or_else(|found| panic!("{found}"));
    assert_eq!(back.metadata, metadata);
    assert!(back.tensors.keys().eq(tensors.keys()));
    assert!(back.tensors.values().zip(tensors.values()).all(|(a, b)| a.same_bits(b)));
}
