//! Tables: CSV files and their cleaning, by cases and on the Adult data set.

mod common;

use common::{dataset, real_data, try_prepare};
use outgrow_data::{Dataset, LoaderOptions, Split};
use outgrow_transform::Target;
use serde_json::{Value, json};

/// Prepares a CSV text with more keys of the section.
fn csv(text: &str, more: Value) -> Result<Dataset, String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("t.csv"), text).unwrap();
    let mut section = json!({ "source": "csv", "files": "t.csv" });
    section.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let prepared = try_prepare(section, folder.path(), &folder.path().join("cache"));
    let prepared = prepared.map_err(|d| d.to_string().replace(folder.path().to_str().unwrap(), "DIR"))?;
    let data = Dataset::open(common::storage(), &prepared.folder).unwrap();
    // The folder goes away: the records must be in memory by now.
    for split in Split::ALL {
        if data.stored(split) > 0 {
            data.loader(split, LoaderOptions::evaluation(1)).unwrap();
        }
    }
    Ok(data)
}

/// All features and targets of the training split, record by record.
fn content(data: &Dataset) -> Vec<Vec<f64>> {
    let loader = data.loader(Split::Train, LoaderOptions::evaluation(1)).unwrap();
    let values = |b: outgrow_transform::Batch| {
        let target = b.target.unwrap();
        let tensors = b.inputs.iter().chain([&target]);
        tensors.flat_map(|t| (0..t.elements()).map(|i| t.get_f64(i)).collect::<Vec<_>>()).collect()
    };
    loader.map(|b| values(b.unwrap())).collect()
}

const PEOPLE: &str = "\
name, age, city, score
Ann, 31, Bern, 1
Bob, ?, Basel, 2
Cid, 50, , 3
Ann, 31, Bern, 1
Dot, 39, Bern, 5
";

#[test]
fn steps_do_what_they_say() {
    let base =
        |clean: Value| json!({ "missing": ["?"], "label": "score", "exclude": ["name"], "clean": clean });
    let one_hot = json!({ "one_hot": { "columns": "text" } });
    let cases: Vec<(Value, Vec<Vec<f64>>)> = vec![
        (
            json!([{ "drop_missing": "all" }, one_hot]),
            vec![vec![31., 1., 1.], vec![31., 1., 1.], vec![39., 1., 5.]],
        ),
        (
            json!([{ "fill": { "columns": ["age"], "with": "mean" } }, { "drop_duplicates": true }, one_hot]),
            vec![
                vec![31., 0., 1., 1.],
                vec![37.75, 1., 0., 2.],
                vec![50., 0., 0., 3.],
                vec![39., 0., 1., 5.],
            ],
        ),
        (
            json!([{ "drop_duplicates": true }, { "fill": { "columns": ["age"], "with": "median" } }, one_hot]),
            vec![vec![31., 0., 1., 1.], vec![39., 1., 0., 2.], vec![50., 0., 0., 3.], vec![39., 0., 1., 5.]],
        ),
        (
            json!([
                { "fill": { "columns": ["age"], "value": 40 } },
                { "fill": { "columns": "text", "with": "most_frequent" } },
                { "normalize": { "columns": "numeric", "with": "min_max" } },
                { "filter": "score < 3 and city = 'Bern'" },
                { "index": { "columns": ["city"] } },
            ]),
            // The index is learned from what the filter leaves.
            vec![vec![0., 1., 1.], vec![0., 1., 1.]],
        ),
        (
            json!([
                { "filter": "age is not missing" },
                { "clip": { "columns": ["age"], "max": 45 } },
                { "bucketize": { "columns": ["age"], "bounds": [35, 45] } },
                { "fill": { "columns": ["city"], "value": "none" } },
                { "hash": { "columns": ["city"], "buckets": 1 } },
            ]),
            vec![
                vec![1., 0., 0., 1., 1.],
                vec![0., 0., 1., 1., 3.],
                vec![1., 0., 0., 1., 1.],
                vec![0., 1., 0., 1., 5.],
            ],
        ),
    ];
    for (clean, expect) in cases {
        let data = csv(PEOPLE, base(clean.clone())).unwrap_or_else(|e| panic!("{clean}: {e}"));
        assert_eq!(content(&data), expect, "{clean}");
    }
}

#[test]
fn standard_scores_have_mean_zero_and_deviation_one() {
    let text = "a,y\n1,0\n2,0\n3,1\n6,1\n";
    let data = csv(text, json!({ "label": "y", "normalize": "standard" })).unwrap();
    let values: Vec<f64> = content(&data).iter().map(|r| r[0]).collect();
    let deviation = 3.5f64.sqrt();
    for (value, raw) in values.iter().zip([1.0, 2.0, 3.0, 6.0]) {
        assert!((value - (raw - 3.0) / deviation).abs() < 1e-6, "{values:?}");
    }
}

#[test]
fn crosses_and_casts() {
    let clean = json!([
        { "hash": { "columns": ["city", "name"], "buckets": 100, "cross": true, "output": "index" } },
        { "cast": { "columns": ["score"], "to": "text" } },
    ]);
    let more = json!({ "missing": ["?"], "label": "score", "features": ["city", "name"], "clean": clean });
    let error = csv(PEOPLE, more).unwrap_err();
    assert!(error.contains("`name`") || error.contains("`city`"), "{error}");
    let clean = json!([
        { "hash": { "columns": ["city", "name"], "buckets": 100, "cross": true, "output": "index" } },
        { "cast": { "columns": ["score"], "to": "text" } },
        { "hash": { "columns": "text", "buckets": 7, "output": "index" } },
    ]);
    let more = json!({ "missing": ["?"], "label": "score", "features": ["city", "name"], "clean": clean });
    let data = csv(PEOPLE, more).unwrap();
    let schema = data.schema();
    assert_eq!(schema.inputs[0].name, "categories");
    assert_eq!(schema.inputs[0].cardinalities, [7, 7, 100]);
    assert_eq!(schema.target, Target::Class { names: ["1", "2", "3", "5"].map(String::from).to_vec() });
    let rows = content(&data);
    assert_eq!(rows[0], rows[3]);
    assert!(rows[0] != rows[1] && rows[0][..3] != rows[2][..3]);
}

#[test]
fn reports_say_what_became_of_rows() {
    let clean = json!([
        { "drop_missing": ["city"] },
        { "fill": { "columns": ["age"], "with": "mean" } },
        { "drop_duplicates": true },
        { "filter": "age < 39" },
        { "one_hot": { "columns": "text" } },
    ]);
    let data =
        csv(PEOPLE, json!({ "missing": ["?"], "label": "score", "exclude": ["name"], "clean": clean }))
            .unwrap();
    let report = data.report().split(Split::Train);
    assert_eq!((report.rows_in, report.rows_out), (5, 2));
    let pairs = |list: &[(&str, u64)]| list.iter().map(|(n, c)| (n.to_string(), *c)).collect::<Vec<_>>();
    assert_eq!(report.missing, pairs(&[("age", 1), ("city", 1)]));
    let dropped = pairs(&[("`city` is missing", 1), ("duplicate", 1), ("filter `age < 39`", 1)]);
    assert_eq!(report.effects.dropped, dropped);
    assert_eq!(report.effects.filled, pairs(&[("age", 1)]));
    assert_eq!(data.report().dropped().len(), 3);
}

#[test]
fn mistakes_are_named_with_their_place() {
    let label = json!({ "label": "y" });
    let clean = |step: Value| json!({ "label": "y", "clean": [step] });
    let many = |last: &str| {
        let mut text = String::from("x,y\n");
        (0..1500).for_each(|i| text.push_str(&format!("{i},1\n")));
        text + last
    };
    let cases: Vec<(String, Value, &str)> = vec![
        ("x,y\n1,2\n3\n".into(), label.clone(), "DIR/t.csv:3: the line has 1 field"),
        (many("zebra,1\n"), label.clone(), "DIR/t.csv:1502: column `x`: \"zebra\" is not a number"),
        (many("1,2,3\n"), label.clone(), "DIR/t.csv:1502: the line has 3 fields"),
        ("x,y\n1,\n2,3\n".into(), label.clone(), "DIR/t.csv:2: the label is missing"),
        ("x,y\n,1\n2,3\n".into(), label.clone(), "DIR/t.csv:2: column `x` has a missing value"),
        ("x,y\na,1\nb,3\n".into(), label.clone(), "feature column `x` holds text"),
        ("x,y\n1,a\n2,a\n".into(), label.clone(), "every training record has the same class `a`"),
        ("x,y\n".into(), label.clone(), "no record is left to train on"),
        ("".into(), label.clone(), "no record is left to train on"),
        ("x,x\n1,2\n".into(), label.clone(), "DIR/t.csv:1: data.columns: two columns are called `x`"),
        ("x,z\n1,2\n".into(), label.clone(), "data.label: there is no column `y`"),
        ("x,y\n1,2\n".into(), json!({}), "data.label: which column is to be predicted is not said"),
        (
            "x,y\n1,2\n".into(),
            clean(json!({ "filter": "x > " })),
            "data.clean[0] filter: the expression ends",
        ),
        (
            "x,y\n1,2\n".into(),
            clean(json!({ "filter": "q > 1" })),
            "data.clean[0] filter: there is no column `q`",
        ),
        ("x,y\n1,2\n".into(), clean(json!({ "fill": { "columns": ["x"] } })), "`fill` needs either"),
        (
            "x,y\n1,2\n".into(),
            clean(json!({ "normalize": { "columns": ["x", "y"] } })),
            "data.clean[0]: `normalize` would change the label `y`",
        ),
        (
            "x,y\n1,2\n".into(),
            clean(json!({ "fill": { "columns": "y", "with": "mean" } })),
            "data.clean[0]: `fill` would change the label `y`",
        ),
        ("x,y\n1,2\n".into(), clean(json!({ "filter": "x > 1" })), "no record is left to train on"),
        (
            "x,y\n1,2\n".into(),
            json!({ "label": "y", "features": ["y"] }),
            "the label `y` is among the features",
        ),
        ("x,y\n1,2\n".into(), json!({ "label": "y", "size": [1, 1] }), "source `csv` does not take `size`"),
        (
            "x,y\n1,2\n".into(),
            json!({ "label": "y", "features": ["x"], "exclude": ["x"] }),
            "`features` and `exclude` cannot stand together",
        ),
        (
            "x,y\n1,a\n2,b\n".into(),
            json!({ "label": "y", "classes": ["a", "c"] }),
            "DIR/t.csv:3: `y`: label \"b\" is not one of the 2 classes",
        ),
        (
            "x,y\n1,0\n2,2\n".into(),
            json!({ "label": "y", "classes": ["a", "c"] }),
            "DIR/t.csv:3: `y`: label 2 is not one of the 2 classes",
        ),
        (
            "x,y\n1,0\n2,2\n".into(),
            json!({ "label": "y", "task": "regress", "classes": ["a", "c"] }),
            "contradict each other",
        ),
        (
            "x,y\n1,0\n2,2\n".into(),
            json!({ "label": "y", "split": { "test": 0.5, "validation": 0.5 } }),
            "the split leaves nothing to train on",
        ),
        (
            "x,y\n1,0\n2,2\n".into(),
            json!({ "label": "y", "split": { "test": 0.5 }, "test": { "files": "t.csv" } }),
            "contradict each other",
        ),
        (
            "x,y\n1,0\n2,2\n".into(),
            json!({ "label": "y", "exclude": ["y"] }),
            "data.exclude: the label `y` is excluded",
        ),
        ("x,y\r\n1,2\r\n\r\n3\r\n".into(), label.clone(), "DIR/t.csv:4: the line has 1 field"),
        (
            "x,y\n1,0\n2,2\n".into(),
            json!({ "label": "y", "comment": "," }),
            "data.comment: \",\" is both the delimiter and the comment",
        ),
        (
            "x,y\n1,0\n2,2\n".into(),
            json!({ "label": "y", "comment": ";", "delimiter": ";" }),
            "data.comment: \";\" is both the delimiter and the comment",
        ),
        ("x,y\n1,0\n2,2\n".into(), json!({ "label": "y", "files": "u.csv" }), "there is no `u.csv`"),
        ("x,y\n1,0\n2,2\n".into(), json!({ "label": "y", "files": "mnist/u.csv" }), "outgrow data get mnist"),
        (
            String::from("x,y\n\"") + &"1,0\n".repeat(6_000_000),
            label.clone(),
            "is a quotation mark not closed?",
        ),
    ];
    for (text, more, expect) in cases {
        let start: String = text.chars().take(40).collect();
        match csv(&text, more.clone()) {
            Ok(_) => panic!("{start:?} {more} was taken"),
            Err(error) => assert!(error.contains(expect), "{start:?} {more}: {error}"),
        }
    }
}

/// A table with a column of numbers, one of dates, one of names, and a label.
fn sales(odd: &str) -> String {
    let mut text = String::from("price,sold,buyer,city,y\n");
    for i in 0..40 {
        let price = if i == 30 { odd.to_owned() } else { (i * 3).to_string() };
        let city = ["Bern", "Basel"][i % 2];
        text.push_str(&format!("{price},2024-03-{:02},buyer {i},{city},{}.5\n", i % 31 + 1, i));
    }
    text
}

#[test]
fn a_column_that_is_nearly_numbers_is_named_with_its_odd_cells() {
    let clean =
        json!([{ "fill": { "columns": "numeric", "with": "median" } }, { "one_hot": { "columns": "text" } }]);
    let more = |key: &str, value: Value| {
        let mut more = json!({ "label": "y", "clean": clean });
        more[key] = value;
        more
    };
    let error = csv(&sales("1O"), more("exclude", json!(["city"]))).unwrap_err();
    for words in ["DIR/t.csv:32: column `price`", "but for 1 of the first 40 cells: \"1O\" in line 32"] {
        assert!(error.contains(words), "{error}");
    }
    for (key, value) in [
        ("missing", json!(["1O"])),
        ("types", json!({ "price": "text" })),
        ("exclude", json!(["price"])),
        ("features", json!(["city"])),
    ] {
        csv(&sales("1O"), more(key, value.clone())).unwrap_or_else(|e| panic!("{key} {value}: {e}"));
    }
    // Without a header where there is one.
    let names = json!(["price", "sold", "buyer", "city", "y"]);
    let error = csv(&sales("7"), more("columns", names)).unwrap_err();
    assert!(
        error.contains("DIR/t.csv:1: column `price`") && error.contains("\"price\" in line 1"),
        "{error}"
    );
}

#[test]
fn texts_that_nearly_every_record_has_of_its_own_are_left_out_of_a_group() {
    let data =
        csv(&sales("7"), json!({ "label": "y", "clean": [{ "one_hot": { "columns": "text" } }] })).unwrap();
    let names = &data.transform().assembly.features.as_ref().unwrap().names;
    assert_eq!(names, &["price", "city=Basel", "city=Bern"]);
    let notes = data.report().notes.join("\n");
    for words in [
        "`sold` is left out: it has 31 different texts in 40 training records; \
         { date = { columns = [\"sold\"] } } in `clean`, before `one_hot`, makes numbers of it if it is of use",
        "`buyer` is left out: it has 40 different texts in 40 training records; name it in a step of its own",
    ] {
        assert!(notes.contains(words), "{notes}");
    }
    // What is not seen need not be there to predict.
    let needed: Vec<&str> = data
        .transform()
        .feature_columns()
        .iter()
        .map(|i| data.transform().columns.0[*i].name.as_str())
        .collect();
    assert_eq!(needed, ["price", "city"]);
    let named = json!([{ "one_hot": { "columns": ["buyer"] } }, { "one_hot": { "columns": "text" } }]);
    let data = csv(&sales("7"), json!({ "label": "y", "clean": named })).unwrap();
    assert_eq!(data.transform().assembly.features.as_ref().unwrap().names.len(), 1 + 40 + 2);
}

/// Where few dates come again and again they are features like other texts, and it is said that they could be numbers;
/// not to who has named them.
#[test]
fn dates_among_a_group_are_told() {
    let rows: String =
        (0..60).map(|i| format!("{}.07.20{},{},{i}\n", 13 + i % 4, 10 + i % 3, i % 5)).collect();
    let table = format!("day,x,y\n{rows}");
    let notes = |clean: Value| {
        csv(&table, json!({ "label": "y", "clean": clean })).unwrap().report().notes.join("\n")
    };
    let of_group = notes(json!([{ "one_hot": { "columns": "text" } }]));
    assert_eq!(
        of_group,
        "column `day` holds dates, and each of 12 becomes a feature of its own; \
         { date = { columns = [\"day\"], order = \"day_month_year\" } } in `clean`, before `one_hot`, makes year, month, \
         day and weekday of them"
    );
    assert_eq!(notes(json!([{ "one_hot": { "columns": ["day"] } }])), "");
    let date = json!({ "columns": ["day"], "order": "day_month_year" });
    assert_eq!(notes(json!([{ "date": date }, { "one_hot": { "columns": "text" } }])), "");
}

#[test]
fn dates_become_numbers() {
    let clean = json!([{ "date": { "columns": ["sold"] } }, { "one_hot": { "columns": "text" } }]);
    let data = csv(&sales("7"), json!({ "label": "y", "clean": clean, "exclude": ["buyer"] })).unwrap();
    let names = &data.transform().assembly.features.as_ref().unwrap().names;
    let parts = ["sold.year", "sold.month", "sold.day", "sold.weekday"];
    assert_eq!(names[..], [&["price", "city=Basel", "city=Bern"][..], &parts].concat());
    // 1 March 2024 was a Friday.
    assert_eq!(content(&data)[0][3..7], [2024., 3., 1., 4.]);
    let error = csv(&sales("7").replace("2024-03-05", "spring"), json!({ "label": "y", "clean": clean }))
        .unwrap_err();
    assert!(error.contains("DIR/t.csv:6:") && error.contains("\"spring\" is not a date"), "{error}");
}

#[test]
fn whole_numbers_of_few_values_are_classes_unless_it_is_said_otherwise() {
    let table = |label: &dyn Fn(usize) -> String| {
        let rows: String = (0..60).map(|i| format!("{},{}\n", i * 7 % 11, label(i))).collect();
        format!("x,y\n{rows}")
    };
    let target = |text: &str, more: Value| {
        let mut section = json!({ "label": "y" });
        section.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let data = csv(text, section).unwrap();
        (data.schema().target, data.report().notes.clone())
    };
    let numbers = Target::Regression { width: 1 };
    let classes = |names: &[&str]| Target::Class { names: names.iter().map(ToString::to_string).collect() };
    let (guessed, notes) = target(&table(&|i| (i % 2).to_string()), json!({}));
    assert_eq!(guessed, classes(&["0", "1"]));
    assert!(notes[0].contains("2 whole numbers of `y`, 0 to 1, are taken for classes"), "{notes:?}");
    for (text, more, expected) in [
        (table(&|i| (i % 2).to_string()), json!({ "task": "regress" }), numbers.clone()),
        (table(&|i| (i % 2).to_string()), json!({ "task": "classify" }), classes(&["0", "1"])),
        (table(&|i| (i % 3 + 3).to_string()), json!({}), classes(&["3", "4", "5"])),
        (table(&|i| format!("{}.0", i % 2)), json!({}), classes(&["0", "1"])),
        (table(&|i| format!("{}.5", i % 2)), json!({}), numbers.clone()),
        (
            table(&|i| (i % 12).to_string()),
            json!({}),
            classes(&["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"]),
        ),
        // Too many values, or too few records for each.
        (table(&|i| (i % 13).to_string()), json!({}), numbers.clone()),
        (table(&|i| i.to_string()), json!({}), numbers.clone()),
        (table(&|_| "4".into()), json!({}), numbers),
    ] {
        let (found, notes) = target(&text, more.clone());
        assert_eq!(found, expected, "{more}");
        let guessed = matches!(found, Target::Class { .. }) && more == json!({});
        assert_eq!(notes.len(), usize::from(guessed), "{notes:?}");
    }
}

#[test]
fn a_test_set_of_a_header_alone_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("t.csv"), "x,y\n1,2\n2,3\n").unwrap();
    std::fs::write(folder.path().join("test.csv"), "x,y\n").unwrap();
    let section = json!({ "source": "csv", "files": "t.csv", "test": { "files": "test.csv" }, "label": "y" });
    let error = try_prepare(section, folder.path(), &folder.path().join("cache")).unwrap_err();
    let problem = &error.0[0];
    assert_eq!((problem.code, problem.place.item.as_deref()), ("data.empty", Some("data.test")), "{error}");
}

#[test]
fn text_in_another_encoding_is_named_as_such() {
    let wide = |text: &str| [0xff, 0xfe].into_iter().chain(text.bytes().flat_map(|b| [b, 0])).collect();
    let cases: [(&str, &str, Vec<u8>); 4] = [
        ("csv", "t.csv", wide("x,y\n1,2\n")),
        ("csv", "t.csv", b"\xfe\xff\0x\0,\0y\0\n".to_vec()),
        ("json_lines", "t.jsonl", wide("{\"x\": 1, \"y\": 2}\n")),
        ("csv", "t.csv", vec![0xff, 0xfe, 0, 0, b'x', 0, 0, 0]),
    ];
    for (source, file, bytes) in cases {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(file), bytes).unwrap();
        let section = json!({ "source": source, "files": file, "label": "y" });
        let error = try_prepare(section, folder.path(), &folder.path().join("cache")).unwrap_err();
        let problem = &error.0[0];
        assert_eq!(problem.code, "data.encoding", "{error}");
        assert!(problem.hint.as_ref().unwrap().contains("iconv -f UTF-"), "{error}");
    }
}

#[test]
fn adult_by_its_manifest() {
    let Some(root) = real_data("adult") else { return };
    let cache = tempfile::tempdir().unwrap();
    let section = json!({
        "source": "csv", "files": "adult/adult.data", "test": { "files": "adult/adult.test" },
        "missing": ["?"], "label": "classification", "exclude": ["fnlwgt"],
        "clean": [
            { "fill": { "columns": ["workclass", "occupation", "native-country"], "with": "most_frequent" } },
            { "normalize": { "columns": "numeric" } },
            { "one_hot": { "columns": "text" } },
        ],
    });
    let data = dataset(section, &root, cache.path());
    assert_eq!((data.samples(Split::Train), data.samples(Split::Test)), (32_561, 16_281));
    let Target::Class { names } = data.schema().target else { panic!("no classes") };
    assert_eq!(names, ["<=50K", ">50K"]);
    assert_eq!(data.class_counts(Split::Train), [24_720, 7_841]);
    assert_eq!(data.class_counts(Split::Test), [12_435, 3_846]);
    let missing = &data.report().split(Split::Train).missing;
    let expect = [("workclass", 1836), ("occupation", 1843), ("native-country", 583)];
    assert_eq!(missing, &expect.map(|(n, c)| (n.to_string(), c)));
    // 5 numeric columns, and the values of the 8 others.
    let features = data.transform().assembly.features.as_ref().unwrap();
    assert_eq!(features.names.len(), 5 + 8 + 16 + 7 + 14 + 6 + 5 + 2 + 41);
    let json = data.transform().to_json();
    assert_eq!(&outgrow_transform::Transform::from_json(&json).unwrap(), data.transform());
}
