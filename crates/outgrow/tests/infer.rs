//! `outgrow infer`: the same numbers for a model of another framework as by hand, for a model trained here as by
//! `predict`, and helpful words for arrays that do not fit.

mod common;

use common::Place;
use common::onnx::model;
use outgrow_store::npy::{read_npy, write_npy};
use outgrow_tensor::Tensor;
use serde_json::json;

fn place() -> Place {
    let place = Place::new();
    place.write("m.onnx", model());
    place.write("one.npy", write_npy(&Tensor::new([1, 2], vec![1.0f32, -1.0]).unwrap()));
    place
        .write("three.npy", write_npy(&Tensor::new([3, 2], vec![1.0f32, -1.0, 0.0, 1.0, 2.0, 0.0]).unwrap()));
    place.write("bias.npy", write_npy(&Tensor::vector(vec![0.5f32, 1.0])));
    place
}

fn array(place: &Place, name: &str) -> Tensor {
    read_npy(&std::fs::read(place.path(name)).unwrap()).unwrap()
}

#[test]
fn an_onnx_file_runs_with_any_batch() {
    let place = place();
    let one = ["infer", "m.onnx", "--input", "one.npy", "--input", "bias.npy", "--output", "y.npy"];
    let json = place.json(&one);
    assert_eq!(
        json["outputs"],
        json!([{ "name": "total", "dtype": "f32", "shape": [1, 2], "file": "y.npy" }])
    );
    assert_eq!(array(&place, "y.npy"), Tensor::new([1, 2], vec![-1.5f32, -1.0]).unwrap());

    // By name, in any order, and another output.
    let three =
        ["infer", "m.onnx", "--input", "bias=bias.npy", "--input", "x=three.npy", "--output", "large=z.npy"];
    assert_eq!(place.json(&three)["batch"], 3);
    let large = vec![false, false, true, true, true, true];
    assert_eq!(array(&place, "z.npy"), Tensor::new([3, 2], large).unwrap());
    let done = place.run(&[&three[..], &["--output", "total.npy"]].concat());
    assert_eq!(
        (done.code, done.stdout.as_str()),
        (0, "large  bool[3, 2]  z.npy\ntotal  f32[3, 2]   total.npy\n")
    );
}

#[test]
fn arrays_that_do_not_fit_are_explained() {
    let place = place();
    place.write("ints.npy", write_npy(&Tensor::vector(vec![1i64, 2])));
    place.write("wide.npy", write_npy(&Tensor::new([1, 3], vec![0.0f32; 3]).unwrap()));
    place.write("broken.npy", "no array");
    for (args, expect) in [
        (&["--input", "one.npy", "--output", "y.npy"][..], "there is no array for the input `bias`"),
        (
            &["--input", "wide.npy", "--input", "bias.npy", "--output", "y.npy"],
            "the array for `x` is f32[1, 3]",
        ),
        (
            &["--input", "one.npy", "--input", "ints.npy", "--output", "y.npy"],
            "the array for `bias` is i64[2]",
        ),
        (&["--input", "one.npy", "--input", "broken.npy", "--output", "y.npy"], "no NumPy array"),
        (&["--input", "one.npy", "--input", "none.npy", "--output", "y.npy"], "there is no such file"),
        (&["--input", "z=one.npy", "--input", "bias.npy", "--output", "y.npy"], "no place for `z=one.npy`"),
        (&["--input", "one.npy", "--input", "bias.npy", "--output", "q=y.npy"], "no place for `q=y.npy`"),
    ] {
        let errors = place.refused(&[&["infer", "m.onnx"], args].concat());
        assert!(
            errors.iter().any(|e| e["problem"].as_str().unwrap().contains(expect)),
            "{expect}: {errors:?}"
        );
        assert!(!place.path("y.npy").exists(), "nothing is written");
    }
}

#[test]
fn a_model_trained_here_runs_on_arrays() {
    let place = Place::with(
        "[data]\nsource = \"synthetic:glyphs\"\nsamples = 200\ntest = { samples = 20 }\n\
         [model]\nlayers = [{ flatten = true }, { dense = 10, activation = \"softmax\" }]\n\
         [train]\nepochs = 1\nbatch = 20\nlr = 0.01\n",
    );
    place.json(&["train", "m.toml", "--out", "run"]);
    let errors = place.refused(&["infer", "run", "--output", "y.npy"]);
    let help = errors[0]["help"].as_str().unwrap().to_owned();
    assert!(help.contains("--input image=FILE.npy"), "{errors:?}");
    let side = outgrow_data::source::glyphs::SIZE;
    let images = Tensor::from_f64(outgrow_tensor::DType::F32, [2, 1, side, side], |i| (i % 7) as f64 / 7.0);
    place.write("x.npy", write_npy(&images));
    let json = place.json(&["infer", "run", "--input", "image=x.npy", "--output", "y.npy"]);
    assert_eq!(json["outputs"][0]["shape"], json!([2, 10]));
    assert!((0..20).all(|i| array(&place, "y.npy").get_f64(i).is_finite()));
}
