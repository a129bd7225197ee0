//! What `outgrow predict` reads and writes beside CSV: Parquet, Arrow and NumPy tables, folders of pictures, pipes; rows
//! of a file.

mod common;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use common::{Dice, Done, Place, finish};
use outgrow_data::source::glyphs::{SIZE, glyph};
use outgrow_store::npy::write_npy;
use outgrow_tensor::{DType, Tensor};
use parquet::data_type::{ByteArrayType, DoubleType, Int64Type};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::record::Field;
use parquet::schema::parser::parse_message_type;
use serde_json::Value as Json;

/// Old people of Bern buy.
const PEOPLE: &str = r#"
[data]
source = "parquet"
files = "people.parquet"
label = "buys"
split = { validation = 0, test = 0 }
clean = [{ normalize = { columns = ["age"] } }, { one_hot = { columns = ["city"] } }]
[model]
name = "logistic"
[train]
epochs = 30
batch = 8
lr = 0.1
"#;

fn age(i: usize) -> i64 {
    20 + (i as i64 * 7) % 50
}

fn city(i: usize) -> &'static str {
    ["Bern", "Rome"][i % 3 % 2]
}

/// A Parquet file of so many people, with what they did or not.
fn people(place: &Place, name: &str, count: usize, labelled: bool) {
    let label = if labelled { "required binary buys (UTF8);" } else { "" };
    // Other columns, in another order than in training.
    let fields = format!("required binary city (UTF8); required double height; required int64 age; {label}");
    let schema = Arc::new(parse_message_type(&format!("message people {{ {fields} }}")).unwrap());
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let texts =
        |text: &dyn Fn(usize) -> &'static str| -> Vec<_> { (0..count).map(|i| text(i).into()).collect() };
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<ByteArrayType>().write_batch(&texts(&city), None, None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<DoubleType>().write_batch(&vec![1.7; count], None, None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let ages: Vec<i64> = (0..count).map(age).collect();
    column.typed::<Int64Type>().write_batch(&ages, None, None).unwrap();
    column.close().unwrap();
    if labelled {
        let buys = |i: usize| if age(i) > 40 && city(i) == "Bern" { "yes" } else { "no" };
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&texts(&buys), None, None).unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    place.write(name, bytes);
}

/// A place with a model of people in `run`.
fn trained() -> Place {
    let place = Place::with(&PEOPLE.replace("label = \"buys\"", "label = \"buys\"\nexclude = [\"height\"]"));
    people(&place, "people.parquet", 96, true);
    place.json(&["train", "m.toml", "--out", "run"]);
    place
}

/// The same people as text.
fn csv(count: usize) -> String {
    let rows: String = (0..count).map(|i| format!("{},{}\n", age(i), city(i))).collect();
    format!("age,city\n{rows}")
}

fn floats<const N: usize>(values: &[f64], shape: [usize; N]) -> Tensor {
    Tensor::from_f64(DType::F64, shape, |i| values[i])
}

fn predictions(json: &Json) -> &[Json] {
    json["predictions"].as_array().unwrap()
}

/// What is said of each record, without where it is from.
fn answers(json: &Json) -> Vec<Json> {
    let mut answers = predictions(json).to_vec();
    answers.iter_mut().for_each(|answer| {
        answer.as_object_mut().unwrap().shift_remove("file");
    });
    answers
}

/// Runs a command that reads this from a pipe.
fn piped(place: &Place, args: &[&str], input: &[u8]) -> Done {
    let mut child = place
        .command(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feed = std::thread::spawn(move || {
        // Whoever refuses the input may close the pipe before all is written.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    feed.join().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Done { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

#[test]
fn parquet_is_read_as_csv_is_and_columns_are_found_by_name() {
    let place = trained();
    people(&place, "new.parquet", 1000, false);
    place.write("new.csv", csv(1000));
    let from_csv = place.json(&["predict", "run", "new.csv"]);
    assert_eq!(predictions(&from_csv).len(), 1000);
    assert_eq!(answers(&place.json(&["predict", "run", "new.parquet"])), answers(&from_csv));
    // Its label is not looked at.
    people(&place, "labelled.parquet", 1000, true);
    assert_eq!(answers(&place.json(&["predict", "run", "labelled.parquet"])), answers(&from_csv));
    // A folder stands for the tables in it.
    for name in ["people/a.csv", "people/b.parquet", "people/c.txt"] {
        place.write(
            name,
            std::fs::read(place.path(if name.ends_with("csv") { "new.csv" } else { "new.parquet" })).unwrap(),
        );
    }
    let both = place.json(&["predict", "run", "people"]);
    assert_eq!(answers(&both)[..1000], answers(&from_csv));
    assert_eq!(answers(&both)[1000..], answers(&from_csv));
    assert_eq!(predictions(&both)[1999]["file"], "people/b.parquet");

    place.write("numbers.npy", write_npy(&floats(&[1.0, 2.0], [2])));
    let mut cut = std::fs::read(place.path("new.parquet")).unwrap();
    cut.truncate(cut.len() / 2);
    place.write("cut.parquet", cut);
    place.write("empty/x.txt", "");
    let done = place.run(&["predict", "run", "numbers.npy", "cut.parquet", "empty", "new.csv", "--json"]);
    let found: Vec<_> = done.errors().iter().map(|e| (e["code"].clone(), e["file"].clone())).collect();
    let expect =
        [("predict.columns", "numbers.npy"), ("data.parquet.read", "cut.parquet"), ("predict.file", "empty")];
    assert_eq!(found, expect.map(|(code, file)| (code.into(), file.into())));
    assert!(
        done.stderr.contains("the columns city, age are missing")
            && done.stderr.contains("the columns there are: x")
    );
    let json: Json = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(answers(&json), answers(&from_csv));
}

#[test]
fn numpy_and_arrow_are_read_too() {
    let place = Place::with(
        "[data]\nsource = \"npy\"\nfiles = \"x.npy\"\nlabels = \"y.npy\"\nsplit = { validation = 0, test = 0 }\n\
         [model]\nname = \"linear\"\n[train]\nepochs = 20\nbatch = 4\nlr = 0.1\n",
    );
    let mut dice = Dice(5);
    let x: Vec<f64> = (0..40).map(|_| dice.fraction()).collect();
    let y: Vec<f64> = x.chunks(2).map(|row| row[0] - 2.0 * row[1]).collect();
    place.write("x.npy", write_npy(&floats(&x, [20, 2])));
    place.write("y.npy", write_npy(&floats(&y, [20])));
    place.json(&["train", "m.toml", "--out", "run"]);
    let rows: String = x.chunks(2).map(|row| format!("{},{}\n", row[0], row[1])).collect();
    place.write("x.csv", format!("x1,x2\n{rows}"));
    let from_csv = answers(&place.json(&["predict", "run", "x.csv"]));
    assert_eq!(answers(&place.json(&["predict", "run", "x.npy"])), from_csv);
    let wide = write_npy(&floats(&x, [10, 4]));
    place.write("wide.npy", wide);
    // Four columns have the two by name.
    assert_eq!(predictions(&place.json(&["predict", "run", "wide.npy"])).len(), 10);
    let only = write_npy(&floats(&[1.0; 3], [3]));
    place.write("only.npy", only);
    assert_eq!(place.refused(&["predict", "run", "only.npy"])[0]["code"], "predict.columns");

    // Arrow as PyArrow has written it: numbers, missing ones among them, and text.
    let arrays = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/tests/arrays");
    let place = Place::with(
        "[data]\nsource = \"arrow\"\nfiles = \"table.feather\"\nlabel = \"label\"\nexclude = [\"t\", \"d\"]\n\
         split = { validation = 0, test = 0 }\n\
         clean = [{ fill = { columns = [\"i\", \"f\"], with = \"mean\" } }, { one_hot = { columns = [\"word\"] } }]\n\
         [model]\nname = \"logistic\"\n[train]\nepochs = 5\nbatch = 4\nlr = 0.1\n",
    );
    for file in ["table.feather", "stream.arrow", "zstd.feather"] {
        place.write(file, std::fs::read(arrays.join(file)).unwrap());
    }
    place.json(&["train", "m.toml", "--out", "run"]);
    let rows = |k: usize| {
        let i = if k == 11 { String::new() } else { k.to_string() };
        let f = if k == 3 { String::new() } else { (k as f64 / 2.0).to_string() };
        format!("{i},{f},w{}\n", k % 2)
    };
    place.write("table.csv", "i,f,word\n".to_owned() + &(0..12).map(rows).collect::<String>());
    let from_csv = answers(&place.json(&["predict", "run", "table.csv"]));
    for file in ["table.feather", "stream.arrow", "zstd.feather"] {
        assert_eq!(answers(&place.json(&["predict", "run", file])), from_csv, "{file}");
    }
}

#[test]
fn what_comes_through_a_pipe_is_predicted() {
    let place = trained();
    let table = csv(200);
    place.write("new.csv", &table);
    let expect = answers(&place.json(&["predict", "run", "new.csv"]));
    let lines: String =
        (0..200).map(|i| format!("{{\"city\": \"{}\", \"age\": {}}}\n", city(i), age(i))).collect();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(table.as_bytes()).unwrap();
    for input in
        [table.as_bytes(), lines.as_bytes(), format!("\n\n{lines}").as_bytes(), &packed.finish().unwrap()]
    {
        let json = piped(&place, &["predict", "run", "-", "--json"], input).object();
        assert_eq!(answers(&json), expect);
        assert_eq!(predictions(&json)[0]["file"], "-");
    }
    // Errors name the line, and files may stand beside the pipe.
    let done = piped(&place, &["predict", "run", "new.csv", "-", "--json"], b"age,city\n41,Bern\nold,Bern\n");
    let errors = done.errors();
    assert_eq!((&errors[0]["file"], &errors[0]["line"]), (&"-".into(), &3.into()));
    assert_eq!(predictions(&serde_json::from_str(&done.stdout).unwrap()).len(), 201);

    let parquet = std::fs::read(place.path("people.parquet")).unwrap();
    let done = piped(&place, &["predict", "run", "-", "--json"], &parquet);
    assert_eq!(done.errors()[0]["code"], "predict.stream");
    assert_eq!(piped(&place, &["predict", "run", "-", "--json"], b"").errors()[0]["code"], "predict.empty");
    assert_eq!(
        piped(&place, &["predict", "run", "-", "-", "--json"], b"").errors()[0]["code"],
        "predict.stdin"
    );
}

const GLYPHS: &str = r#"
seed = 3
[data]
source = "synthetic:glyphs"
samples = 100
test = { samples = 10 }
split = { validation = 0 }
[model]
layers = [{ flatten = true }, { dense = 10, activation = "softmax" }]
[train]
epochs = 1
batch = 20
lr = 0.003
"#;

fn png(i: u64) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, SIZE as u32, SIZE as u32);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().unwrap().write_image_data(&glyph(3, i).0).unwrap();
    file
}

#[test]
fn a_folder_of_pictures_is_predicted_picture_by_picture() {
    let place = Place::with(GLYPHS);
    place.json(&["train", "m.toml", "--out", "run"]);
    let names = ["pictures/B.PNG", "pictures/a.png", "pictures/c/d/e.png", "pictures/c/f.png"];
    names.iter().zip(0..).for_each(|(name, i)| place.write(name, png(i)));
    for other in ["pictures/notes.txt", "pictures/.hidden.png", "pictures/c/.cache/g.png"] {
        place.write(other, "no picture");
    }
    let json = place.json(&["predict", "run", "pictures"]);
    let files: Vec<_> = predictions(&json).iter().map(|p| p["file"].as_str().unwrap()).collect();
    assert_eq!(files, names);
    let each = place.json(&[&["predict", "run"], &names[..]].concat());
    assert_eq!(json["predictions"], each["predictions"]);
    // One picture through a pipe.
    let one = piped(&place, &["predict", "run", "-", "--json"], &png(1)).object();
    assert_eq!(answers(&one)[0], answers(&each)[1]);
    // One that is broken keeps no other from its answer.
    place.write("pictures/c/broken.png", &png(1)[..60]);
    let done = place.run(&["predict", "run", "pictures", "--json"]);
    assert_eq!(done.errors()[0]["file"], "pictures/c/broken.png");
    assert_eq!(predictions(&serde_json::from_str(&done.stdout).unwrap()).len(), 4);
}

/// The rows of a Parquet file as objects of its columns.
fn parquet_rows(path: &Path) -> Vec<Vec<(String, Field)>> {
    let reader = SerializedFileReader::new(std::fs::File::open(path).unwrap()).unwrap();
    let rows = reader.get_row_iter(None).unwrap();
    rows.map(|row| row.unwrap().get_column_iter().map(|(n, f)| (n.clone(), f.clone())).collect()).collect()
}

/// All forms say the same, to the last bit, and a file of many rows takes no more memory than one of few.
#[test]
fn predictions_go_to_files_of_all_forms() {
    const ROWS: usize = 40_000;
    let place = trained();
    place.write("new.csv", csv(ROWS));
    let json = place.json(&["predict", "run", "new.csv"]);
    let expect = predictions(&json);
    for form in ["csv", "jsonl", "parquet"] {
        let file = format!("out.{form}");
        let mut limited = Command::new("sh");
        let binary = env!("CARGO_BIN_EXE_outgrow");
        limited.args(["-c", "ulimit -v 300000 && exec \"$@\"", "sh", binary, "predict", "run", "new.csv"]);
        limited.args(["--output", &file, "--threads", "1", "--json"]).current_dir(place.path(""));
        let told = finish(&mut limited, form).object();
        assert_eq!((&told["output"], &told["predicted"]), (&file.as_str().into(), &ROWS.into()), "{told}");
    }
    let lines = place.read("out.jsonl");
    assert_eq!(lines.lines().count(), ROWS);
    let mut table = csv::Reader::from_path(place.path("out.csv")).unwrap();
    let head = ["file", "row", "class", "probability", "probability of no", "probability of yes"];
    assert_eq!(table.headers().unwrap(), &head[..]);
    let groups = parquet_rows(&place.path("out.parquet"));
    assert_eq!(groups.len(), ROWS);
    for (((line, expect), row), group) in lines.lines().zip(expect).zip(table.records()).zip(&groups) {
        assert_eq!(&serde_json::from_str::<Json>(line).unwrap(), expect);
        let (row, number) = (row.unwrap(), |i: usize, row: &csv::StringRecord| row[i].parse::<f64>().ok());
        let (class, each) = (expect["class"].as_str().unwrap(), &expect["probabilities"]);
        assert_eq!((&row[0], row[1].parse().ok(), &row[2]), ("new.csv", expect["row"].as_u64(), class));
        let probabilities = [&expect["probability"], &each["no"], &each["yes"]].map(Json::as_f64);
        assert_eq!([3, 4, 5].map(|i| number(i, &row)), probabilities);
        let names: Vec<&str> = group.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, head);
        let doubles = [3, 4, 5].map(|i| if let Field::Double(n) = group[i].1 { Some(n) } else { None });
        assert_eq!(doubles, probabilities);
        assert_eq!(group[1].1, Field::Long(expect["row"].as_i64().unwrap()));
        assert_eq!(group[2].1, Field::Str(class.to_owned()));
    }
    // What it has written it can read: the predictions of one model are the data of another.
    place.write("next.toml", "[data]\nsource = \"parquet\"\nfiles = \"out.parquet\"\nlabel = \"class\"\nexclude = [\"file\"]\n[model]\nname = \"logistic\"\n[train]\nepochs = 1\n");
    let inspected = place.run(&["data", "prepare", "next.toml", "--json"]);
    assert_eq!(inspected.code, 0, "{}", inspected.stderr);
}

/// A file of predictions is there as a whole or not at all, and what was there before stays until then.
#[test]
fn a_file_of_predictions_is_whole_or_as_it_was() {
    let place = trained();
    place.write("out.csv", "as it was");
    place.write("bad.csv", "age,city\nold,Bern\n");
    place.write("mixed.csv", "age,city\nold,Bern\n30,Rome\n");
    for (args, code) in [
        (&["predict", "run", "bad.csv", "--output", "out.csv"][..], "data.csv.not-a-number"),
        (&["predict", "run", "none.csv", "--output", "out.csv"], "predict.file"),
        (&["predict", "run", "bad.csv", "--output", "out.xlsx"], "predict.output-format"),
        (&["predict", "run", "mixed.csv", "--output", "nowhere/out.csv"], "predict.output-file"),
    ] {
        assert_eq!(place.refused(args)[0]["code"], code, "{args:?}");
        assert_eq!(place.read("out.csv"), "as it was", "{args:?}");
    }
    // Bad rows are told, and the others written.
    let done = place.run(&["predict", "run", "mixed.csv", "--output", "out.csv", "--json"]);
    assert_eq!(done.errors()[0]["line"], 2);
    let written = place.read("out.csv");
    assert!(written.lines().count() == 2 && written.contains("\nmixed.csv,2,no,"), "{written}");
    let done = place.run(&["predict", "run", "mixed.csv", "--output", "out.jsonl", "--quiet"]);
    assert_eq!((done.code, done.stdout.as_str()), (1, "1 predictions: out.jsonl\n"));
    let names = std::fs::read_dir(place.path("")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.into_iter().all(|name| !name.to_string_lossy().starts_with(".tmp-")));
}

/// Always the likeliest token soon goes round in circles where two are nearly as likely; a text that is drawn does not.
#[test]
fn a_text_that_is_drawn_does_not_loop_unless_asked_to() {
    let place = Place::with(
        "[data]\nsource = \"text\"\nfiles = \"text.txt\"\ncontext = 8\nsplit = { validation = 0, test = 0 }\n\
         [model]\nname = \"gpt\"\nlayers = 1\nheads = 2\nwidth = 16\n[train]\nsteps = 60\nbatch = 16\nlr = 0.01\n",
    );
    let mut dice = Dice(1);
    let text: String = (0..2000).map(|_| if dice.fraction() < 0.5 { 'a' } else { 'b' }).collect();
    place.write("text.txt", &text);
    place.json(&["train", "m.toml", "--out", "run"]);
    place.write("prompt.txt", "abba");
    let go_on = |flags: &[&str]| {
        let args = ["predict", "run", "prompt.txt", "--tokens", "200"];
        let json = place.json(&[&args, flags].concat());
        predictions(&json)[0]["continuation"].as_str().unwrap().to_owned()
    };
    // The shortest period of the last hundred letters, if that is below half of them.
    let period = |text: &str| {
        let end = text.as_bytes()[text.len() - 100..].to_vec();
        (1..50).find(|p| (*p..100).all(|i| end[i] == end[i - p]))
    };
    assert!(period(&go_on(&["--temperature", "0"])).is_some());
    assert_eq!(period(&go_on(&[])), None);
    assert_eq!(go_on(&[]), go_on(&["--seed", "0", "--temperature", "0.8", "--top-k", "40"]));
    assert_ne!(go_on(&[]), go_on(&["--seed", "1"]));
    let done = piped(&place, &["predict", "run", "-", "--tokens", "200", "--json"], b"abba");
    assert_eq!(done.object()["predictions"][0]["continuation"], go_on(&[]));
    let told = place.json(&["predict", "run", "prompt.txt", "--tokens", "200", "--output", "out.jsonl"]);
    assert_eq!(told["predicted"], 1);
    let line: Json = serde_json::from_str(&place.read("out.jsonl")).unwrap();
    assert_eq!(line["continuation"], go_on(&[]));
}
