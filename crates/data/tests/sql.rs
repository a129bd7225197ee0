//! SQL in the manifest. With the feature `sql`: what statements give, what is refused and how, that records come out
//! the same every time, and that memory stays bounded. Without it: that the build says how to get it.

mod common;

use common::try_prepare;
use serde_json::{Value, json};

const PEOPLE: &str = "\
Name,age,home-town,score,picture
Ann,31,Bern,1,a
Bob,,Basel,2,b
Cid,50,,3,c
Dot,39,Bern,5,d
";

/// Prepares four people with more keys of the section.
fn people(more: Value) -> Result<outgrow_data::Dataset, String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("t.csv"), PEOPLE).unwrap();
    let mut section = json!({ "source": "csv", "files": "t.csv", "label": "score", "task": "regress" });
    section.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let prepared = try_prepare(section, folder.path(), &folder.path().join("cache"));
    let prepared = prepared.map_err(|d| d.to_string().replace(folder.path().to_str().unwrap(), "DIR"))?;
    let data = outgrow_data::Dataset::open(common::storage(), &prepared.folder).unwrap();
    // The folder goes away: the records must be in memory by now.
    data.loader(outgrow_data::Split::Train, outgrow_data::LoaderOptions::evaluation(1)).unwrap();
    Ok(data)
}

#[cfg(not(feature = "sql"))]
#[test]
fn a_build_without_sql_says_how_to_get_it() {
    for key in ["sql", "clean"] {
        let problem = people(json!({ key: "SELECT * FROM data" })).unwrap_err();
        assert!(
            problem.starts_with(&format!("data.{key}: this build of outgrow cannot run SQL")),
            "{problem}"
        );
        assert!(problem.contains("[data.sql.not-built]") && problem.contains("--features sql"), "{problem}");
    }
}

#[cfg(feature = "sql")]
mod with_engine {
    use super::common::{dataset, real_data, spec, storage};
    use super::*;
    use outgrow_data::source::{self, Context, Opened, Part};
    use outgrow_data::{Dataset, LoaderOptions, Split, files::Finder};
    use outgrow_transform::{ColumnKind, Value as Field};
    use std::path::{Path, PathBuf};

    /// Features and target of every record, in the order of the data.
    fn content(data: &Dataset) -> Vec<Vec<f64>> {
        let loader = data.loader(Split::Train, LoaderOptions::evaluation(1)).unwrap();
        let values = |b: outgrow_transform::Batch| {
            let target = b.target.unwrap();
            let tensors = b.inputs.iter().chain([&target]);
            tensors.flat_map(|t| (0..t.elements()).map(|i| t.get_f64(i)).collect::<Vec<_>>()).collect()
        };
        loader.map(|b| values(b.unwrap())).collect()
    }

    /// A source with its statement, opened.
    fn open(section: Value, root: &Path, temporary: &Path) -> Box<dyn source::RecordSource> {
        let roots = [root.to_path_buf()];
        let finder = Finder { storage: storage(), roots: &roots, web: None };
        let context = Context {
            finder,
            seed: 1,
            threads: 2,
            temporary: temporary.to_path_buf(),
            kinds: Default::default(),
        };
        match source::open(&spec(section), &context) {
            Ok(Opened::Records(source)) => source,
            Ok(Opened::Text(_)) => panic!("a text"),
            Err(problem) => panic!("{problem}"),
        }
    }

    #[test]
    fn statements_do_what_they_say() {
        // The statement, and the records that come out of it; the label stands last.
        let cases: &[(&str, &[&[f64]])] = &[
            ("SELECT age, score FROM data WHERE age IS NOT NULL", &[&[31., 1.], &[50., 3.], &[39., 5.]]),
            (
                "SELECT coalesce(age, 40) AS age, score FROM data ORDER BY score DESC",
                &[&[39., 5.], &[50., 3.], &[40., 2.], &[31., 1.]],
            ),
            (
                "SELECT CASE WHEN \"home-town\" = 'Bern' THEN 1 ELSE 0 END AS bern, score FROM data",
                &[&[1., 1.], &[0., 2.], &[0., 3.], &[1., 5.]],
            ),
            (
                "SELECT regexp_like(Name, '^[AB]') AS early, length(Name) AS n, score FROM data",
                &[&[1., 3., 1.], &[1., 3., 2.], &[0., 3., 3.], &[0., 3., 5.]],
            ),
            (
                "WITH t AS (SELECT \"home-town\" AS town, avg(score) AS mean FROM data GROUP BY 1)
                 SELECT t.mean, score FROM data JOIN t ON t.town = data.\"home-town\"",
                &[&[3., 1.], &[3., 5.], &[2., 2.]],
            ),
            (
                "SELECT sum(score) OVER (ORDER BY score) AS so_far, score FROM data",
                &[&[1., 1.], &[3., 2.], &[6., 3.], &[11., 5.]],
            ),
            (
                "SELECT score * 10 AS x, score FROM data UNION ALL SELECT score AS x, score FROM data",
                &[
                    &[10., 1.],
                    &[20., 2.],
                    &[30., 3.],
                    &[50., 5.],
                    &[1., 1.],
                    &[2., 2.],
                    &[3., 3.],
                    &[5., 5.],
                ],
            ),
            (
                "SELECT DATE '1970-01-11' AS d, TIMESTAMP '1970-01-01T00:01:00.5' AS t, score FROM data LIMIT 1",
                &[&[10., 60.5, 1.]],
            ),
            (
                "SELECT count(*) AS n, max(score) AS score FROM data WHERE score > 100 HAVING count(*) = 0
                 UNION ALL SELECT a.score + b.score, 7 FROM data a, data b WHERE a.score < b.score AND b.score < 3",
                &[&[3., 7.]],
            ),
            (
                "SELECT power(score, 2) AS p, log(2, 8) AS l, exp(0.0) AS e, CAST(score AS INT) % 2 AS odd, score
                 FROM data WHERE score > 2;",
                &[&[9., 3., 1., 1., 3.], &[25., 3., 1., 1., 5.]],
            ),
        ];
        for (statement, expected) in cases {
            // A missing label is left out by the steps that follow.
            let section = json!({ "sql": statement, "clean": [{ "drop_missing": "all" }] });
            let data = people(section).unwrap_or_else(|problem| panic!("{statement}\n{problem}"));
            let expected: Vec<Vec<f64>> = expected.iter().map(|r| r.to_vec()).collect();
            assert_eq!(content(&data), expected, "{statement}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_before_anything_is_read() {
        // The statement, the code, and what the message must name.
        let cases: &[(&str, &str, &[&str])] = &[
            ("", "data.sql.statement", &["empty", "one SELECT"]),
            ("SELECT * FROM data; SELECT 1", "data.sql.statement", &["2 statements"]),
            ("SELEC * FROM data", "data.sql.syntax", &["SELEC"]),
            ("SELECT (age FROM data", "data.sql.syntax", &["cannot be read"]),
            ("DROP TABLE data", "data.sql.statement", &["DROP is not a query"]),
            ("INSERT INTO data VALUES (1)", "data.sql.statement", &["INSERT is not a query"]),
            ("DELETE FROM data", "data.sql.statement", &["DELETE"]),
            ("UPDATE data SET age = 1", "data.sql.statement", &["UPDATE"]),
            ("CREATE TABLE t AS SELECT * FROM data", "data.sql.statement", &["CREATE"]),
            ("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc'", "data.sql.statement", &["CREATE"]),
            ("COPY data TO '/tmp/x.csv'", "data.sql.statement", &["COPY"]),
            ("COPY (SELECT * FROM data) TO '/tmp/x.csv'", "data.sql.statement", &["COPY"]),
            ("EXPLAIN SELECT * FROM data", "data.sql.statement", &["EXPLAIN"]),
            ("SET datafusion.execution.target_partitions = 4", "data.sql.statement", &["SET"]),
            ("SELECT * INTO t FROM data", "data.sql.statement", &["INTO"]),
            ("SELECT * FROM 'secrets.csv'", "data.sql.table", &["secrets.csv", "`data`", "data.files"]),
            ("SELECT * FROM \"/etc/passwd\"", "data.sql.table", &["/etc/passwd"]),
            ("SELECT * FROM information_schema.tables", "data.sql.table", &["information_schema.tables"]),
            ("SELECT * FROM other", "data.sql.table", &["there is no table `other`"]),
            ("SELECT * FROM generate_series(1, 1000000000)", "data.sql.", &["generate_series"]),
            ("SELECT ages, score FROM data", "data.sql.column", &["`ages`", "one of: ", "\"home-town\""]),
            ("SELECT name, score FROM data", "data.sql.column", &["`name`", "write Name"]),
            ("SELECT home-town, score FROM data", "data.sql.column", &["`home`", "write \"home-town\""]),
            ("SELECT score FROM data WHERE no(age)", "data.sql.plan", &["no"]),
            (
                "SELECT sum(Name) AS s, score FROM data",
                "data.sql.plan",
                &["sum", "the columns are Name, age"],
            ),
            ("SELECT age, max(score) AS score FROM data", "data.sql.plan", &["age"]),
            ("SELECT random() AS r, score FROM data", "data.sql.function", &["`random`"]),
            ("SELECT score FROM data ORDER BY uuid()", "data.sql.function", &["`uuid`"]),
            (
                "SELECT now() AS t, current_date AS d, score FROM data",
                "data.sql.function",
                &["`now`", "`current_date`"],
            ),
            ("SELECT array_agg(age) AS ages, 1 AS score FROM data", "data.sql.type", &["`ages`", "List"]),
            ("SELECT NULL AS x, score FROM data", "data.sql.type", &["`x`", "Null"]),
            ("SELECT a.age, b.age, a.score FROM data a, data b", "data.sql.twice", &["`age`", "AS"]),
            (
                "SELECT age / 0 AS x, score FROM data",
                "data.sql.not-finite",
                &["`x` is inf", "record 1", "NULLIF"],
            ),
            ("SELECT ln(-score) AS x, score FROM data", "data.sql.not-finite", &["`x` is NaN"]),
            ("SELECT CAST(Name AS INT) AS x, score FROM data", "data.sql.run", &["Ann"]),
        ];
        for (statement, code, names) in cases {
            let problem = people(json!({ "sql": statement })).err();
            let problem = problem.unwrap_or_else(|| panic!("{statement} is accepted"));
            assert!(problem.contains(code) && problem.starts_with("data.sql"), "{statement}\n{problem}");
            assert!(names.iter().all(|name| problem.contains(name)), "{statement}\n{problem}");
        }
        let both = people(json!({ "sql": "SELECT 1", "clean": "SELECT 1" })).unwrap_err();
        assert!(both.contains("`sql` and `clean` both give a statement"), "{both}");
    }

    #[test]
    fn a_statement_may_be_deep_or_long_without_ending_the_program() {
        let sum = |n: usize| format!("SELECT score, {} AS x FROM data", vec!["score"; n].join(" + "));
        assert_eq!(content(&people(json!({ "sql": sum(150) })).unwrap())[0], [150., 1.]);
        for (statement, name) in [
            (sum(5000), "nested more than"),
            (sum(50_000), "longer than"),
            (format!("SELECT {}score{} FROM data", "(".repeat(20_000), ")".repeat(20_000)), "cannot be read"),
            (format!("SELECT {} score FROM data", "- ".repeat(20_000)), "data.sql."),
            (format!("SELECT {} true AS x, score FROM data", "NOT ".repeat(15_000)), "data.sql."),
            (vec!["SELECT score FROM data"; 2500].join(" UNION ALL "), "data.sql."),
        ] {
            let problem = people(json!({ "sql": statement })).unwrap_err();
            assert!(problem.contains(name), "{problem}");
        }
    }

    #[test]
    fn steps_follow_the_statement() {
        let statement = "SELECT \"home-town\" AS town, score FROM data WHERE age IS NULL OR age < 50";
        let steps = json!([{ "one_hot": { "columns": "text" } }]);
        let data = people(json!({ "sql": statement, "clean": steps })).unwrap();
        assert_eq!(content(&data), [[0., 1., 1.], [1., 0., 2.], [0., 1., 5.]]);
        // What `predict` is given are the statement's columns.
        let names: Vec<&str> = data.transform().columns.0.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["town", "score"]);
        // `clean` alone is the same statement.
        let statement = "SELECT age, score FROM data WHERE age > 0";
        let long = people(json!({ "sql": statement })).unwrap();
        let short = people(json!({ "clean": statement })).unwrap();
        assert_eq!(content(&long), content(&short));
        assert_ne!(long.fingerprint(), people(json!({})).map_or(String::new(), |d| d.fingerprint().into()));
    }

    #[test]
    fn images_pass_through_and_labels_keep_their_names() {
        let cache = tempfile::tempdir().unwrap();
        let plain = json!({ "source": "synthetic:glyphs", "samples": 60, "split": { "test": 0.2 } });
        let mut with = plain.clone();
        with["sql"] = json!("SELECT * FROM data");
        let plain = dataset(plain, cache.path(), cache.path());
        let with = dataset(with, cache.path(), cache.path());
        assert_eq!(plain.content_hash(Split::Train).unwrap(), with.content_hash(Split::Train).unwrap());
        assert_eq!(plain.schema(), with.schema());
    }

    #[test]
    fn the_census_cleaned_by_sql_is_the_census_cleaned_by_steps() {
        let Some(root) = real_data("adult") else { return };
        let cache = tempfile::tempdir().unwrap();
        let base = json!({ "source": "csv", "files": "adult/adult.data", "label": "classification",
            "test": { "files": "adult/adult.test" }, "missing": ["?"] });
        let prepared = |more: Value| {
            let mut section = base.clone();
            section.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            dataset(section, &root, cache.path())
        };
        let by_steps = prepared(json!({ "clean": [
            { "filter": "age > 20 and hours-per-week < 80" },
            { "fill": { "columns": "text", "value": "unknown" } },
            { "one_hot": { "columns": "text" } },
        ] }));
        let texts = ["workclass", "education", "marital-status", "occupation", "relationship", "race", "sex"];
        let fills: Vec<String> = [texts.as_slice(), &["native-country"]]
            .concat()
            .iter()
            .map(|name| format!("coalesce(\"{name}\", 'unknown') AS \"{name}\""))
            .collect();
        let statement = format!(
            "SELECT age, {}, fnlwgt, {}, \"education-num\", {}, \"capital-gain\", \"capital-loss\",
             \"hours-per-week\", {}, classification
             FROM data WHERE age > 20 AND \"hours-per-week\" < 80",
            fills[0],
            fills[1],
            fills[2..7].join(", "),
            fills[7]
        );
        let by_sql = prepared(json!({ "sql": statement, "clean": [{ "one_hot": { "columns": "text" } }] }));
        for split in [Split::Train, Split::Test] {
            assert_eq!(by_sql.stored(split), by_steps.stored(split), "{split:?}");
        }
        assert!(by_sql.stored(Split::Train) > 20_000);
        assert_eq!(by_sql.schema(), by_steps.schema());
        assert_eq!(by_sql.content_hash(Split::Train).unwrap(), by_steps.content_hash(Split::Train).unwrap());
    }

    #[test]
    fn the_same_records_come_in_the_same_order_every_time() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("t.csv"), rows(30_000)).unwrap();
        for statement in [
            "SELECT a, b, t FROM data UNION ALL SELECT b, a, t FROM data",
            "SELECT t, sum(b) AS b, stddev(b) AS s, count(DISTINCT a) AS n FROM data GROUP BY t",
            "SELECT x.a, y.b, x.t FROM data x JOIN data y ON x.a = y.a + 1",
            "SELECT a, b, row_number() OVER (PARTITION BY t ORDER BY a) AS r, t FROM data",
            "SELECT t, count(*) AS n FROM (SELECT t FROM data UNION ALL SELECT t FROM data WHERE a > 7) GROUP BY t",
            "SELECT a, t FROM data EXCEPT SELECT a, t FROM data WHERE b > 30",
            "SELECT a, t FROM data UNION ALL SELECT b, t FROM data LIMIT 45000",
        ] {
            let section = json!({ "source": "csv", "files": "t.csv", "label": "t", "sql": statement });
            let read = || {
                let source = open(section.clone(), folder.path(), &folder.path().join("spill"));
                let records = source.records(Part::Train).unwrap();
                records.map(|r| r.unwrap().values).collect::<Vec<_>>()
            };
            let first = read();
            assert!(!first.is_empty(), "{statement}");
            for _ in 0..3 {
                assert!(read() == first, "{statement}");
            }
        }
    }

    #[test]
    fn prepared_data_does_not_depend_on_threads() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("t.csv"), rows(5000)).unwrap();
        let section = json!({ "source": "csv", "files": "t.csv", "label": "t", "split": { "test": 0.2 },
            "sql": "SELECT a, sin(b) AS s, t FROM data UNION ALL SELECT avg(a), max(b), t FROM data GROUP BY t" });
        let prepared = [1, 2, 7].map(|threads| {
            let cache = tempfile::tempdir().unwrap();
            let made = common::prepare_with(section.clone(), folder.path(), cache.path(), threads).unwrap();
            let data = Dataset::open(storage(), &made.folder).unwrap();
            (made.fingerprint.clone(), data.content_hash(Split::Train).unwrap(), content(&data))
        });
        assert!(prepared.iter().all(|p| *p == prepared[0]));
    }

    #[test]
    fn a_source_that_cannot_be_read_says_so_through_the_statement() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("{}1,2\n", rows(3000));
        std::fs::write(folder.path().join("t.csv"), text).unwrap();
        let section = json!({ "source": "csv", "files": "t.csv", "label": "t",
            "sql": "SELECT t, sum(a) AS a FROM data GROUP BY t" });
        let problem = try_prepare(section, folder.path(), &folder.path().join("cache")).unwrap_err();
        let place = &problem.0[0].place;
        assert_eq!(problem.0[0].code, "data.csv.ragged-row", "{problem}");
        assert_eq!((place.line, place.file.is_some()), (Some(3002), true), "{problem}");
    }

    #[test]
    fn results_have_kinds() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("t.csv"), "a,t\n1, x \n").unwrap();
        let section = json!({ "source": "csv", "files": "t.csv", "label": "t",
            "sql": "SELECT a, concat(t, ' ') AS u, '' AS v, a > 0 AS w, t FROM data" });
        let source = open(section, folder.path(), folder.path());
        let kinds: Vec<&ColumnKind> = source.columns().0.iter().map(|c| &c.kind).collect();
        use ColumnKind::{Number, Text};
        assert_eq!(kinds, [&Number, &Text, &Text, &Number, &Text]);
        let values = source.records(Part::Train).unwrap().next().unwrap().unwrap().values;
        let x = || Field::Text("x".into());
        // Blanks around fields do not count, nor do empty ones: as where `predict` reads them.
        assert_eq!(values, [Field::Number(1.), x(), Field::Missing, Field::Number(1.), x()]);
        let left: Vec<PathBuf> =
            std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().path()).collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    /// Rows of numbers and texts that follow from their number.
    fn rows(n: u64) -> String {
        use std::fmt::Write;
        let mut text = String::from("a,b,t\n");
        for i in 0..n {
            let hash = i.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let (a, b) = (hash >> 50, (hash >> 20 & 0xFFFF) as f64 / 1000.0);
            writeln!(text, "{a},{b},t{}", hash >> 40 & 0x3FF).unwrap();
        }
        text
    }
}
