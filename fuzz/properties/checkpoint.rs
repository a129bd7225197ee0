//! Checkpoints: bytes as a record, and as a part that a record names. What is accepted is written and read back
//! unchanged, and names no file outside its folder. A random change is stopped by the checksums, so a record is also
//! read with its checksum put right, and a part is named by the checksum that its header has.

use outgrow_env::{SimStorage, StorageBackend};
use outgrow_store::checkpoint::{Part, PartFile, Record, State, Stored};
use outgrow_store::sha256;
use std::path::Path;

pub fn check(data: &[u8]) {
    record(data);
    if let Some(sealed) = sealed(data) {
        record(&sealed);
    }
    part(data);
}

fn record(data: &[u8]) {
    let record = match Record::parse(data) {
        Ok(record) => record,
        Err(found) => {
            assert!(!found.0.is_empty() && !found.to_string().is_empty(), "a refusal says why");
            return;
        }
    };
    for part in &record.parts {
        assert!(Path::new(&part.file).components().count() == 1 && !part.file.contains(['/', '\\', ':']));
    }
    let written = record.to_bytes().expect("what was read can be written");
    assert_eq!(Record::parse(&written).unwrap_or_else(|found| panic!("{found}")), record);
}

/// The same record with its digest as it should be.
fn sealed(data: &[u8]) -> Option<Vec<u8>> {
    let mut sealed = data.to_vec();
    let end = data.len().checked_sub(3)?;
    let start = end.checked_sub(sha256::HEX_DIGITS)?;
    sealed[start..end].fill(b'0');
    let digest = sha256::hex(&sealed);
    sealed[start..end].copy_from_slice(digest.as_bytes());
    Some(sealed)
}

fn part(data: &[u8]) {
    // What the header says of itself is what the record says of it.
    let Some(length) = data.first_chunk().map(|length| u64::from_le_bytes(*length)) else { return };
    let header = usize::try_from(length).ok().and_then(|length| data.get(..length.checked_add(8)?));
    let Some(header) = header else { return };
    let text = String::from_utf8_lossy(header);
    let of = |key: &str| Some(text.split_once(&format!("\"{key}\":\""))?.1.split_once('"')?.0.to_owned());
    let (Some(step), Some(model)) = (of("outgrow.step").and_then(|s| s.parse().ok()), of("outgrow.model"))
    else {
        return;
    };
    let storage = SimStorage::new(0);
    let open = |bytes: &[u8], named: PartFile| {
        storage.write(&Path::new("/").join(&named.file), bytes).expect("the disk is sound");
        let record = Record { step, model: model.clone(), state: State::new(), parts: vec![named] };
        Stored::open(&storage, Path::new("/"), record)
    };
    let (file, sha256) = ("step-part".to_owned(), sha256::hex(header));
    let Ok(stored) = open(data, PartFile { file, bytes: data.len() as u64, sha256 }) else { return };
    if stored.verify().is_err() {
        return;
    }
    let mut whole = Part { step, model: model.clone(), ..Part::default() };
    for (name, ..) in stored.tensors() {
        let tensor = stored.tensor(name).unwrap_or_else(|found| panic!("{found}"));
        whole.tensors.insert(name.to_owned(), tensor);
    }
    let (named, bytes) = whole.to_bytes().expect("what was read can be written");
    let back = open(&bytes, named).unwrap_or_else(|found| panic!("{found}"));
    assert!(back.tensors().eq(stored.tensors()));
    assert!(whole.tensors.iter().all(|(name, tensor)| back.tensor(name).unwrap().same_bits(tensor)));
}
