//! Input that is damaged, hostile or simply wrong: each gets a diagnostic, and none ends the process.

mod common;

use common::{dataset, try_prepare};
use outgrow_data::source::{csv, idx};
use outgrow_tensor::RngKey;
use serde_json::{Value, json};
use std::path::Path;

/// An IDX file of bytes with these dimensions.
fn idx_file(dims: &[u32], data: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, dims.len() as u8];
    dims.iter().for_each(|d| file.extend(d.to_be_bytes()));
    file.extend(data);
    file
}

#[test]
fn idx_headers_are_checked() {
    let good = idx_file(&[2, 2, 2], &[1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(idx::parse(&good).unwrap().shape().dims(), [2, 2, 2]);
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "data.idx.header"),
        (vec![0, 0, 8], "data.idx.header"),
        (vec![1, 0, 8, 1, 0, 0, 0, 0], "data.idx.header"),
        (vec![0, 0, 7, 1, 0, 0, 0, 0], "data.idx.header"),
        (vec![0, 0, 8, 0], "data.idx.header"),
        (vec![0, 0, 8, 255], "data.idx.header"),
        (good[..10].to_vec(), "data.idx.header"),
        (good[..good.len() - 1].to_vec(), "data.idx.length"),
        ([good.as_slice(), &[0]].concat(), "data.idx.length"),
        (idx_file(&[u32::MAX; 8], &[]), "data.idx.length"),
        (idx_file(&[u32::MAX, u32::MAX, 2, 2], &[]), "data.idx.length"),
    ];
    for (bytes, code) in cases {
        assert_eq!(idx::parse(&bytes).unwrap_err().code, code, "{bytes:?}");
    }
    let wide =
        [[0u8, 0, 0x0d, 1, 0, 0, 0, 2].as_slice(), &1.5f32.to_be_bytes(), &(-2f32).to_be_bytes()].concat();
    assert_eq!(idx::parse(&wide).unwrap().as_slice::<f32>().unwrap(), [1.5, -2.0]);
}

#[test]
fn idx_sets_are_checked() {
    let images = idx_file(&[4, 2, 2], &[9; 16]);
    let labels = |l: &[u8]| idx_file(&[l.len() as u32], l);
    let cases: Vec<(Vec<u8>, Vec<u8>, Value, &str)> = vec![
        (images.clone(), labels(&[0, 1, 0]), json!({}), "data.idx.count"),
        (images.clone(), labels(&[3, 3, 3, 3]), json!({}), "data.one-class"),
        (images.clone(), labels(&[0, 1, 2, 0]), json!({ "classes": ["a", "b"] }), "data.label-range"),
        (images.clone(), images.clone(), json!({}), "data.idx.shape"),
        (labels(&[1, 2]), labels(&[1, 2]), json!({}), "data.idx.shape"),
        (idx_file(&[0, 2, 2], &[]), labels(&[]), json!({}), "data.empty"),
        (idx_file(&[2, 0, 2], &[]), labels(&[0, 1]), json!({}), "data.image.absurd-size"),
        (idx_file(&[1, 1, 1 << 20], &vec![0; 1 << 20]), labels(&[0]), json!({}), "data.image.absurd-size"),
        (images[..20].to_vec(), labels(&[0, 1, 2, 0]), json!({}), "data.idx.length"),
        (images.clone(), labels(&[0, 1, 2, 0]), json!({ "size": [0, 5] }), "data.image.absurd-size"),
        (images.clone(), labels(&[0, 1, 2, 0]), json!({ "channels": 2 }), "data.image.absurd-size"),
        (images.clone(), labels(&[0, 1, 2, 0]), json!({ "normalize": { "mean": [1, 2] } }), "data.normalize"),
        (images.clone(), labels(&[0, 1, 2, 0]), json!({ "normalize": { "std": [0] } }), "data.normalize"),
        (images.clone(), labels(&[0, 1, 2, 0]), json!({ "source": "idy" }), "data.source"),
        (images.clone(), labels(&[0, 1, 2, 0]), json!({ "files": "x" }), "data.key"),
        (images.clone(), labels(&[0, 1, 2, 0]), json!({ "test": { "files": "x" } }), "data.test"),
        (images.clone(), labels(&[0, 1, 2, 0]), json!({ "split": { "validation": 1.5 } }), "data.split"),
    ];
    for (images, labels, more, code) in cases {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("images"), images).unwrap();
        std::fs::write(folder.path().join("labels"), labels).unwrap();
        let mut section = json!({ "source": "idx", "images": "images", "labels": "labels" });
        section.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let error = try_prepare(section.clone(), folder.path(), &folder.path().join("cache")).unwrap_err();
        assert_eq!(error.0[0].code, code, "{section}: {error}");
    }
}

#[test]
fn small_files_that_unpack_without_end_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(folder.path().join("images.gz")).unwrap();
    let mut packer = flate2::write::GzEncoder::new(file, flate2::Compression::default());
    std::io::Write::write_all(&mut packer, &idx_file(&[1, 2, 2], &vec![0; 30 << 20])).unwrap();
    packer.finish().unwrap();
    std::fs::write(folder.path().join("labels"), idx_file(&[1], &[1])).unwrap();
    let section = json!({ "source": "idx", "images": "images.gz", "labels": "labels" });
    let error = try_prepare(section.clone(), folder.path(), &folder.path().join("cache")).unwrap_err();
    assert_eq!(error.0[0].code, "data.idx.length");
    assert!(
        error.0[0].problem.contains("more bytes"),
        "no more is unpacked than the header promises: {error}"
    );
    let whole = std::fs::read(folder.path().join("images.gz")).unwrap();
    std::fs::write(folder.path().join("images.gz"), &whole[..15]).unwrap();
    let error = try_prepare(section, folder.path(), &folder.path().join("cache")).unwrap_err();
    assert_eq!(error.0[0].code, "data.read", "{error}");
}

/// Sets whose files do not belong together, or cannot hold what their headers promise, are told by the headers: what
/// follows them here cannot be unpacked at all.
#[test]
fn headers_are_compared_before_elements_are_read() {
    let packed = |header: &[u8], stored: usize| {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
        std::io::Write::write_all(&mut packer, header).unwrap();
        std::io::Write::flush(&mut packer).unwrap();
        // Then a block of the kind that does not exist.
        [packer.get_ref().as_slice(), &vec![0xff; stored]].concat()
    };
    let images = idx_file(&[1500, 1000, 1000], &[0; 100_000]);
    let vast = idx_file(&[1500, 1 << 11, 1 << 11], &[0; 100_000]);
    let labels = |n: u32| idx_file(&[n], &vec![1; n as usize]);
    for (images, labels, code) in [
        (packed(&images, 1 << 21), labels(40), "data.idx.count"),
        (packed(&images, 1 << 21), packed(&idx_file(&[40], &[0; 100_000]), 100), "data.idx.count"),
        (packed(&images, 1 << 21), packed(&idx_file(&[1500, 1], &[0; 100_000]), 100), "data.idx.shape"),
        // More than gzip can pack into so few bytes, before the labels are even missed.
        (packed(&vast, 1 << 21), labels(1500), "data.idx.length"),
        // Only these are worth reading on.
        (packed(&images, 1 << 21), labels(1500), "data.read"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("images.gz"), images).unwrap();
        std::fs::write(folder.path().join("labels"), labels).unwrap();
        let section = json!({ "source": "idx", "images": "images.gz", "labels": "labels" });
        let error = try_prepare(section, folder.path(), &folder.path().join("cache")).unwrap_err();
        assert_eq!(error.0[0].code, code, "{error}");
    }
}

#[test]
fn texts_are_checked() {
    let cases: Vec<(&[u8], Value, &str)> = vec![
        (b"ab\ncd\xffef", json!({}), "data.text.utf8"),
        (b"abc\xc3", json!({}), "data.text.utf8"),
        (b"", json!({}), "data.empty"),
        (b"abcd", json!({ "context": 4 }), "data.empty"),
        (b"abcdefghij", json!({ "split": { "validation": 0.2 } }), "data.empty"),
        (b"abcd", json!({ "context": 0 }), "data.context"),
        (b"abcd", json!({ "clean": [] }), "data.key"),
    ];
    for (text, more, code) in cases {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("t.txt"), text).unwrap();
        let mut section = json!({ "source": "text", "files": "*.txt", "context": 3 });
        section.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let error = try_prepare(section.clone(), folder.path(), &folder.path().join("cache")).unwrap_err();
        assert_eq!(error.0[0].code, code, "{section}: {error}");
        if text.starts_with(b"ab\n") {
            assert_eq!(error.0[0].place.line, Some(2));
        }
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.txt"), "abcd").unwrap();
    let section = json!({ "source": "text", "files": ["a.txt", "a.txt"], "context": 3 });
    dataset(section, folder.path(), &folder.path().join("cache"));
}

/// Applies random changes to `start` and reads each result; none may panic.
fn mutate(start: &[u8], read: impl Fn(&[u8])) {
    let mut random = RngKey::new(1).stream();
    for _ in 0..20_000 {
        let mut bytes = start.to_vec();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len() as u64 + 1) as usize;
            match random.below(4) {
                0 => bytes.truncate(at.max(1)),
                1 => bytes.insert(at, random.next_u32() as u8),
                2 if at < bytes.len() => drop(bytes.remove(at)),
                _ if at < bytes.len() => bytes[at] = random.next_u32() as u8,
                _ => {}
            }
            if bytes.is_empty() {
                bytes.push(b'\n');
            }
        }
        read(&bytes);
    }
}

#[test]
fn random_changes_never_panic() {
    mutate(&idx_file(&[2, 3], &[1, 2, 3, 4, 5, 6]), |b| drop(idx::parse(b)));
    let text = "a,b,\"c\"\n1,x,\"3,\"\"4\"\n# no\n2,,\u{e9}\n";
    let format = csv::CsvFormat::default();
    mutate(text.as_bytes(), |b| drop(csv::parse(b, &format)));
}

#[test]
fn sections_name_what_they_expected() {
    let cases = [
        (json!({ "source": "csv", "files": 3 }), "a file, a folder or a pattern"),
        (json!({ "source": "csv", "fyles": "x" }), "unknown field `fyles`"),
        (json!({ "source": "csv", "clean": [{ "fil": {} }] }), "unknown variant `fil`"),
        (json!({ "source": "csv", "clean": [{ "fill": { "colums": "x" } }] }), "unknown field `colums`"),
        (json!({ "source": "csv", "clean": [{ "drop_missing": 3 }] }), "a list of columns"),
        (json!({ "source": "csv", "normalize": "minmax" }), "\"unit\", \"standard\", \"none\""),
    ];
    for (json, expect) in cases {
        let error = serde_json::from_value::<outgrow_data::DataSpec>(json.clone()).unwrap_err().to_string();
        assert!(error.contains(expect), "{json}: {error}");
    }
    let error = try_prepare(json!({ "source": "csv" }), Path::new("."), Path::new("unused")).unwrap_err();
    assert_eq!(error.0[0].code, "data.key-missing");
}
