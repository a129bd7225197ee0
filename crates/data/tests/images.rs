//! Images and Parquet files: columns of every kind, embedded JPEG files, and damaged ones.

mod common;

use common::{dataset, real_data, storage};
use outgrow_data::files::Finder;
use outgrow_data::source::{self, Context, Opened, Part};
use outgrow_data::{Dataset, LoaderOptions, Split};
use outgrow_ir::Diagnostics;
use outgrow_transform::Target;
use parquet::data_type::{BoolType, ByteArrayType, DoubleType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file with a column of each kind; one value of each optional column is missing.
fn write_table(path: &Path, codec: parquet::basic::Compression) {
    let schema = "message m {
        required double x; optional int64 n; optional binary city (UTF8); required boolean yes;
        required int64 price (DECIMAL(10, 2)); optional group list (LIST) { repeated group list { optional int64 element; } }
    }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = Arc::new(WriterProperties::builder().set_compression(codec).build());
    let file = std::fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, properties).unwrap();
    for half in 0..2 {
        let mut group = writer.next_row_group().unwrap();
        let base = f64::from(half);
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<DoubleType>().write_batch(&[base + 0.5, base + 1.5], None, None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&[7], Some(&[0, 1]), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let cities = [if half == 0 { "Bern" } else { "Basel" }.into(), "Bern".into()];
        column.typed::<ByteArrayType>().write_batch(&cities, Some(&[1, 1]), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<BoolType>().write_batch(&[true, half == 0], None, None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&[150, 275], None, None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&[], Some(&[0, 0]), Some(&[0, 0])).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
}

#[test]
fn tables_are_read_whatever_their_compression() {
    use parquet::basic::Compression;
    let codecs = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(Default::default()),
        Compression::ZSTD(Default::default()),
    ];
    for codec in codecs {
        let folder = tempfile::tempdir().unwrap();
        write_table(&folder.path().join("t.parquet"), codec);
        let section = json!({
            "source": "parquet", "files": ".", "label": "yes",
            "clean": [{ "fill": { "columns": ["n"], "value": -1 } }, { "one_hot": { "columns": ["city"] } }],
        });
        let data = dataset(section, folder.path(), &folder.path().join("cache"));
        let loader = data.loader(Split::Train, LoaderOptions::evaluation(4)).unwrap();
        let batch = loader.map(|b| b.unwrap()).next().unwrap();
        let expect = [
            [0.5f32, -1.0, 0.0, 1.0, 1.5],
            [1.5, 7.0, 0.0, 1.0, 2.75],
            [1.5, -1.0, 1.0, 0.0, 1.5],
            [2.5, 7.0, 0.0, 1.0, 2.75],
        ];
        assert_eq!(batch.inputs[0].as_slice::<f32>().unwrap(), expect.as_flattened(), "{codec:?}");
        assert_eq!(batch.target.unwrap().as_slice::<i32>().unwrap(), [1, 1, 1, 0], "{codec:?}");
    }
}

/// Reads all records of a file, without preparing them.
fn read_all(path: &Path) -> Result<usize, Diagnostics> {
    let section = common::spec(json!({ "source": "parquet", "files": path }));
    let finder = Finder { storage: storage(), roots: &[], web: None };
    let context =
        Context { finder, seed: 0, threads: 1, temporary: PathBuf::new(), kinds: Default::default() };
    let Opened::Records(source) = source::open(&section, &context)? else {
        panic!("no records");
    };
    let mut count = 0;
    for record in source.records(Part::Train)? {
        record?;
        count += 1;
    }
    Ok(count)
}

#[test]
fn damaged_parquet_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    write_table(&path, parquet::basic::Compression::SNAPPY);
    let whole = std::fs::read(&path).unwrap();
    assert_eq!(read_all(&path).unwrap(), 4);
    for cut in 0..whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let error = read_all(&path).unwrap_err();
        assert_eq!(error.0[0].code, "data.parquet.read", "cut to {cut}: {error}");
        assert_eq!(error.0[0].place.file.as_deref(), Some(path.as_path()));
    }
    for flip in (0..8 * whole.len()).step_by(7) {
        let mut damaged = whole.clone();
        damaged[flip / 8] ^= 1 << (flip % 8);
        std::fs::write(&path, &damaged).unwrap();
        // Some flips go unnoticed, which is for checksums of the format itself; none may end the process.
        let _ = read_all(&path);
    }
}

fn cifar() -> serde_json::Value {
    json!({
        "source": "parquet",
        "files": "cifar10/train-00000-of-00001.parquet",
        "test": { "files": "cifar10/test-00000-of-00001.parquet" },
        "normalize": "standard",
    })
}

#[test]
fn cifar10_loads() {
    let Some(root) = real_data("cifar10") else { return };
    let cache = tempfile::tempdir().unwrap();
    let data = dataset(cifar(), &root, cache.path());
    assert_eq!((data.samples(Split::Train), data.samples(Split::Test)), (50_000, 10_000));
    assert_eq!(data.schema().inputs[0].shape, [3, 32, 32]);
    let Target::Class { names } = data.schema().target else { panic!("no classes") };
    assert_eq!(names.len(), 10);
    assert_eq!(data.class_counts(Split::Train), [5_000; 10]);
    let norm = &data.transform().assembly.image.as_ref().unwrap().normalize;
    // What everybody uses for CIFAR-10 (from the original bitmaps; these are JPEG files of them).
    for (i, (mean, deviation)) in
        [(0.4914, 0.2470), (0.4822, 0.2435), (0.4465, 0.2616)].into_iter().enumerate()
    {
        assert!((norm.mean[i] - mean).abs() < 0.003, "{norm:?}");
        assert!((norm.deviation[i] - deviation).abs() < 0.003, "{norm:?}");
    }
    let open = Dataset::open(storage(), data.folder()).unwrap();
    open.verify().unwrap();
}
