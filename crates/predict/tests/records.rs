//! Raw records and arrays get the same answers, and bad records keep no other from its own.

mod common;

use common::{LAYERS, images, opened, package, people, text};
use outgrow_ir::Diagnostic;
use outgrow_predict::{Answer, Generation, Meaning, Model};
use outgrow_tensor::{DType, Tensor};
use outgrow_transform::Record;

fn records(model: &Model, bytes: &[u8]) -> Vec<Result<Record, Diagnostic>> {
    model.interpretation().unwrap().reader().bytes(bytes.to_vec().into()).unwrap().collect()
}

fn answers(model: &Model, bytes: &[u8]) -> Vec<Answer> {
    let records: Vec<Record> = records(model, bytes).into_iter().map(Result::unwrap).collect();
    model.answer(&records).unwrap().into_iter().map(Result::unwrap).collect()
}

#[test]
fn tables_and_arrays_get_the_same_answers() {
    let model = opened(&package(LAYERS, people()), 1);
    let array = Tensor::new([2, 2], vec![30.0f32, 1.7, 8.0, 1.2]).unwrap();
    let expect: Vec<Answer> =
        model.answer_arrays(&[array]).unwrap().into_iter().map(Result::unwrap).collect();
    assert_ne!(expect[0], expect[1]);
    for table in [
        "height,age\n1.7,30\n1.2,8\n",
        "30,1.7,?\n8,1.2,red\n",
        "{\"age\": 30, \"height\": 1.7}\n{\"age\": 8, \"height\": \"1.2\", \"colour\": 1}\n",
    ] {
        let table = table.replace('?', "");
        assert_eq!(answers(&model, table.as_bytes()), expect, "{table}");
    }
    let meaning = model.interpretation().unwrap().meaning();
    assert_eq!(meaning.names(), ["blue", "green", "red"]);
    let json = meaning.to_json(&expect[0]);
    let (class, probability) = meaning.likeliest(&expect[0], 1)[0];
    assert_eq!((json["class"].as_str(), json["probability"].as_f64()), (Some(class), Some(probability)));
    assert!((expect[0].numbers.iter().sum::<f64>() - 1.0).abs() < 1e-9);
}

#[test]
fn bad_records_keep_no_other_from_its_answer() {
    let model = opened(&package(LAYERS, people()), 1);
    let read = records(&model, b"age,height\n30,1.7\nold,1.7\n,1.7\n8,1.2\n1e39,1\n");
    let bad: Vec<bool> = read.iter().map(Result::is_err).collect();
    assert_eq!(bad, [false, true, false, false, false]);
    let field = read[1].as_ref().unwrap_err();
    assert_eq!((field.place.item.as_deref(), field.place.line), (Some("column `age`"), Some(3)));
    let good: Vec<Record> = read.into_iter().filter_map(Result::ok).collect();
    let found = model.answer(&good).unwrap();
    // One has no age, and one is too large for the model's numbers.
    assert_eq!(found.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true, false], "{found:?}");
    let missing = found[1].as_ref().unwrap_err();
    assert_eq!((missing.code, missing.place.line), ("data.missing-value", Some(4)));
    assert_eq!(found[0], Ok(answers(&model, b"age,height\n30,1.7\n")[0].clone()));
    assert_eq!(model.answer(&[]).unwrap(), []);
    let reader = model.interpretation().unwrap().reader();
    for (bytes, code) in [(&b""[..], "predict.empty"), (b"years,height\n1,2\n", "predict.columns")] {
        assert_eq!(reader.bytes(bytes.to_vec().into()).err().map(|d| d.code), Some(code));
    }
}

#[test]
fn images_come_as_bytes() {
    let layers = r#"{"layers": [{"flatten": true}, {"dense": 1}]}"#;
    let model = opened(&package(layers, images()), 1);
    let pixels: Vec<u8> = (0..72).map(|i| (i * 37 % 251) as u8).collect();
    let mut idx = vec![0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 6, 0, 0, 0, 6];
    idx.extend(&pixels);
    let array = Tensor::from_f64(DType::F32, [2, 1, 6, 6], |i| f64::from(f32::from(pixels[i]) / 255.0));
    let same = |a: &Answer, b: &Answer| (a.numbers[0] - b.numbers[0]).abs() < 1e-5;
    let (read, given) = (answers(&model, &idx), model.answer_arrays(&[array]).unwrap());
    assert_eq!(read.len(), 2);
    assert!(read.iter().zip(&given).all(|(a, b)| same(a, b.as_ref().unwrap())), "{read:?} {given:?}");
    assert_eq!(*model.interpretation().unwrap().meaning(), Meaning::Numbers(vec!["weight_kg".into()]));
    let reader = model.interpretation().unwrap().reader();
    assert_eq!(reader.bytes(b"no image".to_vec().into()).err().map(|d| d.code), Some("predict.image"));
    idx.pop();
    assert_eq!(reader.bytes(idx.into()).err().map(|d| d.code), Some("data.idx.length"));
}

#[test]
fn texts_go_on() {
    let gpt = r#"{"name": "gpt", "layers": 1, "heads": 2, "width": 8}"#;
    let model = opened(&package(gpt, text()), 1);
    let how = Generation { tokens: 20, temperature: 2.0, top_k: 0, seed: 5 };
    let answer = model.go_on("abca", 0, how).unwrap();
    let continuation = answer.continuation.clone().unwrap();
    assert!(continuation.len() == 20 && continuation.bytes().all(|b| (b'a'..=b'd').contains(&b)));
    assert!(answer.numbers.len() == 4 && (answer.numbers.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    assert_eq!(model.go_on("abca", 0, how).unwrap(), answer);
    assert_ne!(model.go_on("abca", 1, how).unwrap(), answer, "texts have streams of their own");
    for (prompt, how, code) in [
        ("", how, "predict.empty"),
        ("abz", how, "data.text.unknown-character"),
        ("ab", Generation { temperature: f64::NAN, ..how }, "predict.option"),
    ] {
        assert_eq!(model.go_on(prompt, 0, how).unwrap_err().0[0].code, code);
    }
    let people = opened(&package(LAYERS, people()), 1);
    assert_eq!(people.go_on("ab", 0, how).unwrap_err().0[0].code, "predict.input");
}
