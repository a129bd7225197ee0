//! NumPy arrays: tables and images, archives, every order of elements, and what is wrong with a file.

mod common;

use common::{dataset, real_data, try_prepare};
use outgrow_data::{Dataset, LoaderOptions, Split};
use outgrow_store::npy::write_npy;
use outgrow_tensor::Tensor;
use outgrow_transform::{Batch, Target};
use serde_json::{Value as Json, json};
use std::path::{Path, PathBuf};

fn arrays() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/arrays")
}

fn all(data: &Dataset, split: Split) -> Batch {
    let n = data.samples(split) as usize;
    data.loader(split, LoaderOptions::evaluation(n)).unwrap().next().unwrap().unwrap()
}

/// The table that the files of `tests/arrays` hold.
fn table() -> Vec<f32> {
    (0..12).flat_map(|n| [n as f32 / 4.0, (n % 3) as f32, -n as f32]).collect()
}

fn check_table(section: Json, root: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(section.clone(), root, folder.path());
    let batch = all(&data, Split::Train);
    assert_eq!(batch.inputs[0].as_slice::<f32>().unwrap(), table(), "{section}");
    let classes: Vec<i32> = (0..12).map(|n| n % 3).collect();
    assert_eq!(batch.target.unwrap().as_slice::<i32>().unwrap(), classes, "{section}");
}

#[test]
fn archives_give_tables_in_every_order() {
    for file in ["packed.npz", "stored.npz", "fortran.npz"] {
        check_table(json!({ "source": "npy", "files": file }), &arrays());
        check_table(json!({ "source": "npy", "files": file, "inputs": "x", "label": "y" }), &arrays());
    }
}

#[test]
fn single_files_go_with_a_file_of_labels() {
    let folder = tempfile::tempdir().unwrap();
    let x = Tensor::new([12, 3], table()).unwrap();
    let y = Tensor::vector((0..12i64).map(|n| n % 3).collect());
    std::fs::write(folder.path().join("x.npy"), write_npy(&x)).unwrap();
    std::fs::write(folder.path().join("y.npy"), write_npy(&y)).unwrap();
    check_table(json!({ "source": "npy", "files": "x.npy", "labels": "y.npy" }), folder.path());
    let section = json!({
        "source": "npy", "files": "x.npy", "labels": "y.npy", "columns": ["a", "b", "c"],
        "features": ["c", "a"], "task": "regress", "test": { "files": "x.npy", "labels": "y.npy" },
    });
    let data = dataset(section, folder.path(), &folder.path().join("cache"));
    assert_eq!(data.schema().target, Target::Regression { width: 1 });
    assert_eq!(data.transform().assembly.features.as_ref().unwrap().names, ["a", "c"]);
    assert_eq!((data.samples(Split::Train), data.samples(Split::Test)), (12, 12));
    // One of the columns as the label.
    let section = json!({ "source": "npy", "files": "x.npy", "label": "x3" });
    let data = dataset(section, folder.path(), &folder.path().join("cache"));
    let target = all(&data, Split::Train).target.unwrap();
    assert_eq!(target.as_slice::<f32>().unwrap()[..3], [0.0, -1.0, -2.0]);
}

#[test]
fn images_come_with_channels_first_or_last() {
    let folder = tempfile::tempdir().unwrap();
    let section = json!({
        "source": "npy", "files": "images.npz", "inputs": "x_train", "label": "y_train", "normalize": "none",
        "test": { "inputs": "x_test", "label": "y_test" },
    });
    let data = dataset(section, &arrays(), folder.path());
    let (train, test) = (all(&data, Split::Train), all(&data, Split::Test));
    assert_eq!(train.inputs[0].shape().dims(), [12, 3, 2, 4]);
    // Element (n, c, h, w) of an array with the channels last.
    let expect = |i: usize| {
        let [n, c, h, w] = [i / 24, i / 8 % 3, i / 4 % 2, i % 4];
        ((((n * 2 + h) * 4 + w) * 3 + c) % 251) as f32
    };
    let pixels = train.inputs[0].as_slice::<f32>().unwrap();
    assert!(pixels.iter().enumerate().all(|(i, p)| *p == expect(i)));
    assert_eq!(test.inputs[0].as_slice::<f32>().unwrap(), &pixels[..5 * 24]);
    assert_eq!(test.target.unwrap().as_slice::<i32>().unwrap(), [0, 1, 2, 0, 1]);
}

/// An array larger than a piece of reading, in both orders.
#[test]
fn large_arrays_are_read_in_pieces() {
    let folder = tempfile::tempdir().unwrap();
    let rows = 300_000;
    let x = Tensor::from_f64(outgrow_tensor::DType::F32, [rows, 3], |i| (i % 1000) as f64);
    let columns = Tensor::from_f64(outgrow_tensor::DType::F32, [3, rows], |i| {
        ((i % rows * 3 + i / rows) % 1000) as f64
    });
    let mut fortran = write_npy(&columns);
    let at = fortran.windows(5).position(|w| w == b"False").unwrap();
    fortran[at..at + 5].copy_from_slice(b"True ");
    let at = fortran.windows(11).position(|w| w == b"(3, 300000)").unwrap();
    fortran[at..at + 11].copy_from_slice(b"(300000, 3)");
    std::fs::write(folder.path().join("c.npy"), write_npy(&x)).unwrap();
    std::fs::write(folder.path().join("f.npy"), fortran).unwrap();
    let hash = |file: &str| {
        let section = json!({ "source": "npy", "files": file, "label": "x3" });
        let data = dataset(section, folder.path(), &folder.path().join("cache"));
        assert_eq!(data.samples(Split::Train), rows as u64);
        data.content_hash(Split::Train).unwrap()
    };
    assert_eq!(hash("c.npy"), hash("f.npy"));
}

#[test]
fn what_is_wrong_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let write = |name: &str, bytes: &[u8]| std::fs::write(root.join(name), bytes).unwrap();
    let x = write_npy(&Tensor::new([12, 3], table()).unwrap());
    let packed = std::fs::read(arrays().join("packed.npz")).unwrap();
    write("x.npy", &x);
    write("cut.npy", &x[..x.len() - 1]);
    write("short.npy", &write_npy(&Tensor::vector(vec![1i32, 2])));
    write("flat.npy", &write_npy(&Tensor::new([2, 2, 2, 2], vec![0u8; 16]).unwrap()));
    write("float.npy", &write_npy(&Tensor::new([2, 2, 2], vec![0f32; 8]).unwrap()));
    write("packed.npz", &packed);
    write("cut.npz", &packed[..packed.len() - 30]);
    let mut flipped = packed.clone();
    let data = packed.windows(5).position(|w| w == b"x.npy").unwrap() + 150;
    flipped[data] ^= 0x10;
    write("flipped.npz", &flipped);
    let two = std::fs::read(arrays().join("images.npz")).unwrap();
    write("images.npz", &two);
    let cases = [
        (json!({ "files": "cut.npy", "label": "x1" }), "data.npy.length"),
        (json!({ "files": "x.npy", "labels": "short.npy" }), "data.npy.count"),
        (json!({ "files": "flat.npy", "labels": "short.npy" }), "data.npy.shape"),
        (json!({ "files": "float.npy", "labels": "short.npy" }), "data.npy.shape"),
        (json!({ "files": "x.npy" }), "data.label"),
        (json!({ "files": "x.npy", "label": "x4" }), "data.unknown-column"),
        (json!({ "files": "x.npy", "inputs": "x", "label": "x1" }), "data.npy.key"),
        (json!({ "files": "x.npy", "labels": "y.npy" }), "data.not-found"),
        (json!({ "files": "packed.npz", "labels": "x.npy" }), "data.npy.key"),
        (json!({ "files": "packed.npz", "label": "z" }), "data.npy.array"),
        (json!({ "files": "packed.npz", "inputs": "z" }), "data.npy.array"),
        (json!({ "files": "packed.npz", "columns": ["a"] }), "data.columns"),
        (json!({ "files": "packed.npz", "test": { "rows": [] } }), "data.test"),
        (json!({ "files": "packed.npz", "test": { "files": "x.npy" } }), "data.npy.columns"),
        (json!({ "files": "images.npz" }), "data.npy.count"),
        (json!({ "files": "cut.npz" }), "data.npz.read"),
        (json!({ "files": "flipped.npz" }), "data.read data.npy.damaged"),
    ];
    for (mut section, codes) in cases {
        section["source"] = json!("npy");
        let Err(found) = try_prepare(section.clone(), root, &root.join("cache")) else {
            panic!("{section} is accepted");
        };
        assert!(codes.split(' ').any(|code| code == found.0[0].code), "{section}: {found}");
    }
}

/// MNIST as Keras ships it is the same data set as MNIST in its own format.
#[test]
fn mnist_as_arrays_is_mnist() {
    let Some(root) = real_data("mnist") else { return };
    let folder = tempfile::tempdir().unwrap();
    let idx = |prefix: &str| json!({ "images": format!("mnist/{prefix}-images-idx3-ubyte.gz"), "labels": format!("mnist/{prefix}-labels-idx1-ubyte.gz") });
    let mut section = idx("train");
    (section["source"], section["test"]) = (json!("idx"), idx("t10k"));
    let original = dataset(section, &root, &folder.path().join("cache"));
    let unpack = |name: &str| {
        use std::io::Read;
        let mut bytes = Vec::new();
        let file = std::fs::File::open(root.join("mnist").join(name)).unwrap();
        flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
        write_npy(&outgrow_data::source::idx::parse(&bytes).unwrap())
    };
    for (name, from) in [
        ("x.npy", "train-images-idx3-ubyte.gz"),
        ("y.npy", "train-labels-idx1-ubyte.gz"),
        ("tx.npy", "t10k-images-idx3-ubyte.gz"),
        ("ty.npy", "t10k-labels-idx1-ubyte.gz"),
    ] {
        std::fs::write(folder.path().join(name), unpack(from)).unwrap();
    }
    let section = json!({
        "source": "npy", "files": "x.npy", "labels": "y.npy", "test": { "files": "tx.npy", "labels": "ty.npy" },
    });
    let arrays = dataset(section, folder.path(), &folder.path().join("cache"));
    for split in Split::ALL {
        assert_eq!(original.content_hash(split).unwrap(), arrays.content_hash(split).unwrap(), "{split}");
    }
}
