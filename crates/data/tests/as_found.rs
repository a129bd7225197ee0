//! Tables as they are found in the world: other separators, an index that pandas has written, classes that are rare.

mod common;

use common::{dataset, try_prepare};
use outgrow_data::{Dataset, Split};
use serde_json::{Value, json};
use std::fmt::Write as _;
use tempfile::TempDir;

/// A folder with one table.
fn table(text: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("t.csv"), text).unwrap();
    folder
}

fn prepared(folder: &TempDir, more: Value) -> Dataset {
    let mut section = json!({ "source": "csv", "files": "t.csv", "label": "y" });
    section.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    dataset(section, folder.path(), &folder.path().join("cache"))
}

/// A table with so many records of each class.
fn classes(counts: &[usize]) -> String {
    let mut text = "x,y\n".to_owned();
    for (class, count) in counts.iter().enumerate() {
        (0..*count).for_each(|i| writeln!(text, "{},class {class}", i * 7 + class).unwrap());
    }
    text
}

#[test]
fn every_split_has_its_part_of_every_class() {
    let folder = table(&classes(&[50, 50, 30, 2000]));
    let split = |more: Value| {
        let mut split = json!({ "validation": 0.1, "test": 0.2 });
        split.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        prepared(&folder, json!({ "split": split }))
    };
    let data = split(json!({}));
    let counts = |data: &Dataset| Split::ALL.map(|split| data.class_counts(split));
    let [train, validation, test] = counts(&data);
    assert!(data.report().stratified);
    assert_eq!(
        (&train[..3], &validation[..3], &test[..3]),
        (&[35, 35, 21][..], &[5, 5, 3][..], &[10, 10, 6][..])
    );
    // The large class is divided by chance, as without: only where that is asked for, it is not.
    let by_chance = split(json!({ "stratify": false }));
    assert!(!by_chance.report().stratified);
    assert_eq!(counts(&by_chance).map(|counts| counts[3]), [train[3], validation[3], test[3]]);
    assert!(test[3] != 400 && counts(&by_chance)[2][..3] != [10, 10, 6]);
    let exact = split(json!({ "stratify": true }));
    assert_eq!(counts(&exact), [vec![35, 35, 21, 1400], vec![5, 5, 3, 200], vec![10, 10, 6, 400]]);
}

/// Classes of one record stay where they can be learned from; equal records stay together; another seed divides in
/// another way, with the same proportions.
#[test]
fn rare_classes_and_seeds() {
    let mut text = classes(&[40, 40]);
    text.push_str("7,class 2\n");
    text.push_str(&"1000000,class 0\n".repeat(6));
    let folder = table(&text);
    let split = |seed: u64| prepared(&folder, json!({ "split": { "test": 0.5 }, "seed": seed }));
    let mut contents = Vec::new();
    for seed in 0..6 {
        let data = split(seed);
        assert_eq!((data.class_counts(Split::Train)[2], data.class_counts(Split::Test)[2]), (1, 0));
        assert_eq!(data.class_counts(Split::Test)[1], 20, "seed {seed}");
        contents.push(data.content_hash(Split::Test).unwrap());
    }
    contents.sort();
    contents.dedup();
    assert_eq!(contents.len(), 6);
}

#[test]
fn quantities_are_not_stratified() {
    let rows: String = (0..60).map(|i| format!("{i},{}.5\n", i * i)).collect();
    let folder = table(&format!("x,y\n{rows}"));
    assert!(!prepared(&folder, json!({ "split": { "test": 0.5 } })).report().stratified);
    let section = json!({ "source": "csv", "files": "t.csv", "label": "y", "split": { "test": 0.5, "stratify": true } });
    let refused = try_prepare(section, folder.path(), &folder.path().join("cache")).unwrap_err();
    assert_eq!(refused.0[0].code, "data.split.stratify");
}

/// The content of a table as it is prepared, and as many notes as are said of it.
fn hash(text: &str, said: &[&str]) -> String {
    let folder = table(text);
    let data = prepared(&folder, json!({}));
    let notes = &data.report().notes;
    assert!(notes.len() == said.len() && notes.iter().zip(said).all(|(n, s)| n.contains(s)), "{notes:?}");
    data.content_hash(Split::Train).unwrap()
}

#[test]
fn separators_are_guessed_and_said() {
    let plain = "x,z,y\n1,2,3.5\n4,5,6.5\n7,8,9.25\n";
    let expected = hash(plain, &[]);
    for delimiter in [";", "\t", "|"] {
        let said = format!("fields are separated by {delimiter:?}");
        assert_eq!(hash(&plain.replace(',', delimiter), &[&said]), expected, "{delimiter:?}");
    }
    // What has commas is separated by them, and one column is one column.
    let data = prepared(&table("x;z,y\n1,2\n3,4.5\n"), json!({}));
    assert_eq!(data.transform().columns.0[0].name, "x;z");
    assert!(data.report().notes.is_empty(), "{:?}", data.report().notes);
}

#[test]
fn an_index_is_left_out_and_said() {
    let plain = "x,y\n5,1.5\n6,2.5\n9,3.25\n";
    let expected = hash(plain, &[]);
    for first in [0, 1, 100] {
        let rows = plain.lines().skip(1).enumerate().map(|(i, line)| format!("{},{line}\n", i + first));
        let text = format!(",x,y\n{}", rows.collect::<String>());
        assert_eq!(hash(&text, &["counts the rows"]), expected, "from {first}");
    }
    // What does not count has to be named.
    let folder = table(",x,y\n3,5,1.5\n3,6,2.5\n");
    let section = json!({ "source": "csv", "files": "t.csv", "label": "y" });
    let refused = try_prepare(section, folder.path(), &folder.path().join("cache")).unwrap_err();
    assert!(refused.0[0].problem.contains("column 1 has no name"), "{refused}");
}

#[test]
fn remedies_name_the_column_and_its_cell() {
    let rows: String = (0..1200).map(|i| format!("{i},{}.5\n", i * 3)).collect();
    let folder = table(&format!("x,y\n{rows}n/a,1.5\n"));
    let section = json!({ "source": "csv", "files": "t.csv", "label": "y" });
    let refused = try_prepare(section, folder.path(), &folder.path().join("cache")).unwrap_err();
    let hint = refused.0[0].hint.clone().unwrap();
    assert!(hint.contains("missing = [\"n/a\"]") && hint.contains("types = { \"x\" = \"text\" }"), "{hint}");
}
