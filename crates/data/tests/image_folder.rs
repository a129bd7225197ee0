//! Folders of images: classes from folders, every format, bad images by name, and the same data set as from Parquet.

mod common;

use common::{dataset, prepare_with, real_data, spec, storage, try_prepare};
use outgrow_data::files::Finder;
use outgrow_data::source::{self, Context, Opened, Part};
use outgrow_data::{LoaderOptions, Split};
use outgrow_transform::{Target, Value};
use serde_json::json;
use std::path::{Path, PathBuf};

/// A grey PNG file of one shade.
fn png(shade: u8) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 2, 3);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().unwrap().write_image_data(&[shade; 6]).unwrap();
    file
}

fn write(root: &Path, files: &[(&str, Vec<u8>)]) {
    for (name, content) in files {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
}

#[test]
fn folders_are_classes_in_the_order_of_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let files = [
        ("train/dog/b.png", png(3)),
        ("train/dog/a/z.PNG", png(2)),
        ("train/cat/1.png", png(1)),
        ("train/.hidden/1.png", png(9)),
        ("train/dog/notes.txt", b"not an image".to_vec()),
        ("train/readme.md", b"nor this".to_vec()),
        ("test/dog/1.png", png(4)),
    ];
    write(folder.path(), &files);
    let section = json!({
        "source": "image_folder", "files": "train", "test": { "files": "test" }, "normalize": "none",
    });
    let data = dataset(section, folder.path(), &folder.path().join("cache"));
    let Target::Class { names } = data.schema().target else { panic!("no classes") };
    assert_eq!(names, ["cat", "dog"]);
    let loader = data.loader(Split::Train, LoaderOptions::evaluation(3)).unwrap();
    let batch = loader.map(|b| b.unwrap()).next().unwrap();
    assert_eq!(batch.inputs[0].shape().dims(), [3, 1, 3, 2]);
    let firsts: Vec<f32> = batch.inputs[0].as_slice::<f32>().unwrap().iter().step_by(6).copied().collect();
    assert_eq!(firsts, [1.0, 2.0, 3.0]);
    assert_eq!(batch.target.unwrap().as_slice::<i32>().unwrap(), [0, 1, 1]);
    assert_eq!(data.class_counts(Split::Test), [0, 1]);
}

/// What is wrong with a folder, and the file or folder that the message names.
#[test]
fn what_is_wrong_is_named() {
    let cut = png(1)[..40].to_vec();
    type Case<'a> = (&'a [(&'a str, Vec<u8>)], &'a str, Option<&'a str>);
    let cases: [Case<'_>; 6] = [
        (
            &[("train/a/1.png", png(1)), ("train/b/bad.png", cut)],
            "data.image.broken",
            Some("train/b/bad.png"),
        ),
        (
            &[("train/a/1.png", png(1)), ("train/b/no.webp", b"RIFF\x10\0\0\0WEBPVP8 oops".to_vec())],
            "data.image.broken",
            Some("train/b/no.webp"),
        ),
        (
            &[("train/a/1.png", png(1)), ("train/b/no.jpg", b"GIF89a".to_vec())],
            "data.image.format",
            Some("train/b/no.jpg"),
        ),
        (&[("train/1.png", png(1))], "data.image-folder.class", Some("train/1.png")),
        (&[("train/a/1.txt", png(1))], "data.no-files", Some("train")),
        (&[("other/a/1.png", png(1))], "data.not-found", None),
    ];
    for (files, code, named) in cases {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), files);
        let section = json!({ "source": "image_folder", "files": "train" });
        let found = try_prepare(section, folder.path(), &folder.path().join("cache")).unwrap_err();
        assert_eq!(found.0[0].code, code, "{found}");
        assert_eq!(found.0[0].place.file, named.map(|n| folder.path().join(n)), "{found}");
    }
}

#[test]
fn classes_of_the_test_set_must_be_known() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &[("train/a/1.png", png(1)), ("train/b/1.png", png(2)), ("test/c/1.png", png(3))]);
    let section = json!({ "source": "image_folder", "files": "train", "test": { "files": "test" } });
    let found = try_prepare(section, folder.path(), &folder.path().join("cache")).unwrap_err();
    assert_eq!(found.0[0].code, "data.image-folder.class");
    assert!(found.0[0].problem.contains("`c`"), "{found}");
}

/// CIFAR-10 out of its Parquet file, written as a folder of images, gives the same records in the same splits, with
/// the same normalisation; only the order of the records is that of the folders.
#[test]
fn cifar10_is_the_same_from_parquet_and_from_a_folder() {
    let Some(root) = real_data("cifar10") else { return };
    let section = json!({
        "source": "parquet", "files": "cifar10/test-00000-of-00001.parquet",
        "split": { "validation": 0.1, "test": 0.1 }, "normalize": "standard",
    });
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let parquet = dataset(section.clone(), &root, &cache);
    let Target::Class { names } = parquet.schema().target else { panic!("no classes") };
    let roots = [root.clone()];
    let finder = Finder { storage: storage(), roots: &roots, web: None };
    let context =
        Context { finder, seed: 0, threads: 1, temporary: PathBuf::new(), kinds: Default::default() };
    let Opened::Records(source) = source::open(&spec(section.clone()), &context).unwrap() else { panic!() };
    for (i, record) in source.records(Part::Train).unwrap().enumerate() {
        let values = record.unwrap().values;
        let [Value::Encoded(image), Value::Number(label)] = values.as_slice() else { panic!("{values:?}") };
        let ending = if image.starts_with(b"\x89PNG") { "png" } else { "jpg" };
        write(
            folder.path(),
            &[(&format!("images/{}/{i:05}.{ending}", names[*label as usize]), image.clone())],
        );
    }
    let mut from_folder = section;
    from_folder["source"] = json!("image_folder");
    from_folder["files"] = json!("images");
    let images = dataset(from_folder.clone(), folder.path(), &cache);
    assert_eq!(images.schema(), parquet.schema());
    let norm = |d: &outgrow_data::Dataset| d.transform().assembly.image.as_ref().unwrap().normalize.clone();
    assert_eq!(norm(&images), norm(&parquet));
    for split in Split::ALL {
        assert!(images.samples(split) > 0);
        assert_eq!(images.class_counts(split), parquet.class_counts(split));
        assert_eq!(images.content_hash(split).unwrap(), parquet.content_hash(split).unwrap(), "{split}");
    }
    assert_ne!(images.content_hash(Split::Train).unwrap(), images.content_hash(Split::Test).unwrap());
    // The number of threads that decode changes nothing, down to the bytes of the shards.
    let other = prepare_with(from_folder, folder.path(), &folder.path().join("other"), 5).unwrap();
    for entry in std::fs::read_dir(images.folder()).unwrap().map(|e| e.unwrap()) {
        let same = other.folder.join(entry.file_name());
        assert_eq!(std::fs::read(entry.path()).unwrap(), std::fs::read(same).unwrap(), "{entry:?}");
    }
}

/// Whoever names a folder of images for a source that reads files is told so, and not that there is no such folder.
#[test]
fn a_folder_without_files_for_the_source_is_told_as_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &[("train/a/1.png", png(1)), ("notes/readme.md", b"#".to_vec())]);
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    for (files, problem, hint) in [
        ("train", "the folder has a, and no file that is read", "image_folder"),
        ("notes", "the folder has readme.md, and no file that is read", "name the file itself"),
        ("empty", "the folder is empty", "name the file itself"),
    ] {
        let section = json!({ "source": "csv", "files": files, "label": "y" });
        let found = try_prepare(section, folder.path(), &folder.path().join("cache")).unwrap_err();
        assert_eq!(found.0[0].problem, problem, "{found}");
        assert!(found.0[0].hint.as_ref().is_some_and(|own| own.contains(hint)), "{found}");
        assert!(found.0[0].expected.as_ref().is_some_and(|own| own.contains(".csv")), "{found}");
    }
    let section = json!({ "source": "image_folder", "files": "notes/readme.md" });
    let found = try_prepare(section, folder.path(), &folder.path().join("cache")).unwrap_err();
    assert_eq!(found.0[0].problem, "`notes/readme.md` is a file", "{found}");
}
