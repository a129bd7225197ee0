//! Arrow IPC as PyArrow writes it: both formats, both compressions, every kind of column, and damaged files.

mod common;

use common::{dataset, try_prepare};
use outgrow_data::files::Finder;
use outgrow_data::source::{self, Context, Opened, Part};
use outgrow_data::{LoaderOptions, Split};
use outgrow_transform::{Record, Target, Value};
use serde_json::json;
use std::path::{Path, PathBuf};

fn arrays() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/arrays")
}

/// The names of a file's columns, and its records.
fn read(root: &Path, file: &str) -> Result<(Vec<String>, Vec<Record>), String> {
    let roots = [root.to_path_buf()];
    let finder = Finder { storage: common::storage(), roots: &roots, web: None };
    let section = common::spec(json!({ "source": "arrow", "files": file }));
    let opened = source::open(
        &section,
        &Context { finder, seed: 0, threads: 1, temporary: PathBuf::new(), kinds: Default::default() },
    )
    .map_err(|d| d.to_string())?;
    let Opened::Records(source) = opened else { panic!("no records") };
    let names = source.columns().0.iter().map(|c| c.name.clone()).collect();
    let records = source.records(Part::Train).and_then(Iterator::collect).map_err(|d| d.to_string())?;
    Ok((names, records))
}

#[test]
fn every_kind_of_column_is_read_from_both_formats() {
    for file in ["table.feather", "zstd.feather", "stream.arrow"] {
        let (names, records) = read(&arrays(), file).unwrap_or_else(|e| panic!("{file}: {e}"));
        assert_eq!(names, ["i", "f", "t", "d", "word", "label"], "{file}");
        assert_eq!(records.len(), 12);
        for (k, record) in records.iter().enumerate() {
            let n = k as f64;
            let text = |t: &str| Value::Text(t.into());
            let expect = [
                if k == 11 { Value::Missing } else { Value::Number(n) },
                if k == 3 { Value::Missing } else { Value::Number(n / 2.0) },
                Value::Number(n * 1000.0),
                Value::Number(n / 4.0),
                text(["w0", "w1"][k % 2]),
                text(["no", "yes"][k % 2]),
            ];
            assert_eq!(record.values, expect, "{file}, record {k}");
        }
    }
}

#[test]
fn images_come_in_structs_with_the_names_of_their_classes() {
    let folder = tempfile::tempdir().unwrap();
    let section = json!({ "source": "arrow", "files": "images.arrow", "normalize": "none" });
    let data = dataset(section, &arrays(), folder.path());
    let Target::Class { names } = data.schema().target else { panic!("no classes") };
    assert_eq!(names, ["cat", "dog"]);
    let batch = data.loader(Split::Train, LoaderOptions::evaluation(4)).unwrap().next().unwrap().unwrap();
    assert_eq!(batch.inputs[0].as_slice::<f32>().unwrap(), [7.0, 9.0].repeat(4));
    assert_eq!(batch.target.unwrap().as_slice::<i32>().unwrap(), [0, 1, 0, 1]);
}

#[test]
fn a_test_set_must_have_the_same_columns() {
    let folder = tempfile::tempdir().unwrap();
    let clean = json!([{ "drop_missing": "all" }, { "one_hot": { "columns": "text" } }]);
    let mut section = json!({
        "source": "arrow", "files": "table.feather", "test": { "files": "stream.arrow" }, "clean": clean,
    });
    let data = dataset(section.clone(), &arrays(), folder.path());
    assert_eq!((data.samples(Split::Train), data.samples(Split::Test)), (10, 10));
    section["test"]["files"] = json!("images.arrow");
    let found = try_prepare(section, &arrays(), folder.path()).unwrap_err();
    assert_eq!(found.0[0].code, "data.arrow.columns", "{found}");
}

/// Every byte of a file damaged in turn, and every length: either the same number of columns is read, or the file is
/// refused; nothing panics.
#[test]
fn damaged_files_are_refused_or_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.arrow");
    let mut refused = 0;
    for file in ["stream.arrow", "zstd.feather"] {
        let whole = std::fs::read(arrays().join(file)).unwrap();
        for (i, change) in (0..whole.len()).step_by(7).flat_map(|i| [(i, 0xff), (i, 0x01)]) {
            let mut damaged = whole.clone();
            damaged[i] ^= change;
            std::fs::write(&path, &damaged).unwrap();
            refused += usize::from(read(folder.path(), "x.arrow").is_err());
        }
        for length in (0..whole.len() / 2).step_by(97) {
            std::fs::write(&path, &whole[..length]).unwrap();
            let cut = read(folder.path(), "x.arrow");
            assert!(cut.is_err() || cut.is_ok_and(|(_, r)| r.len() < 12), "{file} cut at {length}");
        }
    }
    assert!(refused > 100, "{refused}");
}
