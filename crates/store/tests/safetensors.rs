//! safetensors: round trips, the format's own example bytes, and everything that a hostile file can claim.

use outgrow_store::safetensors::{SafeTensors, parse, read, to_bytes, write};
use outgrow_tensor::{DType, RngKey, Tensor};
use std::collections::BTreeMap;

/// One tensor of every type and several shapes.
fn every_type() -> BTreeMap<String, Tensor> {
    let shapes: [&[usize]; 5] = [&[], &[3], &[2, 3], &[0, 4], &[2, 1, 5]];
    let mut tensors = BTreeMap::new();
    for dtype in DType::ALL {
        for shape in shapes {
            let tensor = Tensor::from_f64(dtype, shape.to_vec(), |i| i as f64 % 2.0);
            tensors.insert(format!("layer.{dtype}.{}", shape.len()), tensor);
        }
    }
    tensors
}

/// A file with this header and `data_bytes` zeros.
fn file(header: &str, data_bytes: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data_bytes, 0);
    bytes
}

#[test]
fn tensors_come_back_bit_for_bit() {
    let mut tensors = every_type();
    let odd = vec![f32::NAN, -0.0, f32::INFINITY, f32::MIN_POSITIVE / 2.0];
    tensors.insert("odd \"name\"\n".to_owned(), Tensor::vector(odd));
    let metadata = BTreeMap::from([("format".to_owned(), "ö \u{0}\"".to_owned())]);
    let bytes = to_bytes(&tensors, &metadata).unwrap();
    let back = parse(bytes).unwrap();
    assert_eq!(back.metadata, metadata);
    assert_eq!(back.tensors.keys().collect::<Vec<_>>(), tensors.keys().collect::<Vec<_>>());
    for (name, tensor) in &tensors {
        assert!(tensor.same_bits(&back.tensors[name]), "{name}");
    }
    assert_eq!(parse(to_bytes(&BTreeMap::new(), &BTreeMap::new()).unwrap()).unwrap(), SafeTensors::default());
}

#[test]
fn files_are_written_and_read_through_storage() {
    let folder = tempfile::tempdir().unwrap();
    let (storage, path) = (outgrow_env::LocalStorage::new(), folder.path().join("w.safetensors"));
    let tensors = every_type();
    write(&storage, &path, &tensors, &BTreeMap::new()).unwrap();
    assert_eq!(read(&storage, &path).unwrap().tensors, tensors);
    assert_eq!(storage_bytes(&path), to_bytes(&tensors, &BTreeMap::new()).unwrap());
    std::fs::write(&path, b"short").unwrap();
    let text = read(&storage, &path).unwrap_err().to_string();
    assert!(text.starts_with(&format!("{}: the file has only 5 bytes", path.display())), "{text}");
}

fn storage_bytes(path: &std::path::Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

#[test]
fn data_is_aligned_and_wide_types_come_first() {
    let tensors = BTreeMap::from([
        ("a".to_owned(), Tensor::vector(vec![1u8, 2, 3])),
        ("b".to_owned(), Tensor::scalar(1.0f64)),
        ("c".to_owned(), Tensor::scalar(1.0f32)),
    ]);
    let bytes = to_bytes(&tensors, &BTreeMap::new()).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    assert_eq!(header % 8, 0);
    let text = std::str::from_utf8(&bytes[8..8 + header]).unwrap().trim_end();
    assert_eq!(
        text,
        r#"{"b":{"dtype":"F64","shape":[],"data_offsets":[0,8]},"c":{"dtype":"F32","shape":[],"data_offsets":[8,12]},"a":{"dtype":"U8","shape":[3],"data_offsets":[12,15]}}"#
    );
}

/// Every hostile header is refused with its own code.
#[test]
fn hostile_headers_are_refused() {
    let one = r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
    let long = |length: u64| [&length.to_le_bytes()[..], b"{}"].concat();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("short", vec![]),
        ("short", vec![1; 7]),
        ("header", long(3)),
        ("header", long(u64::MAX)),
        ("header", long(1 << 62)),
        ("header", file("", 0)),
        ("header", file("[]", 0)),
        ("header", file("{", 0)),
        ("header", file(&"[".repeat(100_000), 0)),
        ("header", file(&format!("{{\"a\":{}", "[".repeat(100_000)), 0)),
        ("header", file("\u{feff}{}", 0)),
        ("header", file(r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#, 4)),
        ("header", file(r#"{"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}}"#, 4)),
        ("header", file(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}}"#, 4)),
        ("header", file(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}}"#, 4)),
        ("header", file(r#"{"__metadata__":{"a":1}}"#, 0)),
        ("duplicate", file(r#"{"__metadata__":{"a":"1","a":"2"}}"#, 0)),
        ("duplicate", file(r#"{"__metadata__":{"a":"1"},"__metadata__":{"a":"1"}}"#, 0)),
        ("duplicate", file(&format!(r#"{{"a":{one},"a":{one}}}"#), 4)),
        ("dtype", file(r#"{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}"#, 4)),
        ("dtype", file(r#"{"a":{"dtype":"f32","shape":[1],"data_offsets":[0,4]}}"#, 4)),
        ("bounds", file(&format!(r#"{{"a":{one}}}"#), 3)),
        ("bounds", file(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#, 4)),
        ("bounds", file(r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,18446744073709551615]}}"#, 4)),
        ("size", file(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#, 4)),
        ("size", file(r#"{"a":{"dtype":"F32","shape":[4611686018427387905],"data_offsets":[0,4]}}"#, 4)),
        ("size", file(r#"{"a":{"dtype":"U8","shape":[9223372036854775808,2,0],"data_offsets":[0,0]}}"#, 0)),
        ("layout", file(&format!(r#"{{"a":{one}}}"#), 5)),
        ("layout", file(&format!(r#"{{"a":{one},"b":{one}}}"#), 4)),
        ("layout", file(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}}"#, 5)),
        ("layout", file("{}", 1)),
    ];
    for (code, bytes) in cases {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned();
        let problems = parse(bytes).expect_err(&shown);
        assert_eq!(problems.0[0].code, format!("store.safetensors.{code}"), "{shown}: {problems}");
    }
}

#[test]
fn all_problems_are_told_but_not_endlessly() {
    let entry = r#"{"dtype":"X","shape":[],"data_offsets":[0,0]}"#;
    let header = |n: usize| (0..n).map(|i| format!("\"{i}\":{entry}")).collect::<Vec<_>>().join(",");
    let count = |n: usize| parse(file(&format!("{{{}}}", header(n)), 0)).unwrap_err().0.len();
    assert_eq!((count(3), count(1000)), (3, 20));
}

#[test]
fn a_tensor_cannot_take_the_name_of_the_metadata() {
    let tensors = BTreeMap::from([("__metadata__".to_owned(), Tensor::scalar(1.0f32))]);
    assert_eq!(to_bytes(&tensors, &BTreeMap::new()).unwrap_err().0[0].code, "store.safetensors.name");
}

/// Random bytes, and random changes of a valid file, are read or refused but never panic.
#[test]
fn random_bytes_never_panic() {
    let valid = to_bytes(&every_type(), &BTreeMap::from([("k".to_owned(), "v".to_owned())])).unwrap();
    let mut random = RngKey::new(11).stream();
    let mut refused = 0;
    for _ in 0..20_000 {
        let mut bytes = if random.below(4) == 0 {
            (0..random.below(200)).map(|_| random.next_u32() as u8).collect()
        } else {
            valid.clone()
        };
        for _ in 0..random.below(4) {
            let at = random.below(bytes.len().max(1) as u64) as usize;
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random.next_u32() as u8;
            }
        }
        if random.below(8) == 0 {
            bytes.truncate(random.below(bytes.len() as u64 + 1) as usize);
        }
        refused += usize::from(parse(bytes).is_err());
    }
    assert!(refused > 5_000, "{refused}");
}
