//! Models of other frameworks: programs for the shapes that are given, and for what inputs hold where shapes follow from
//! that.

mod common;

use common::options;
use outgrow_onnx::proto::{
    AttributeProto, DimensionProto, DimensionValue, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use outgrow_onnx::{NoExternalData, OnnxModel};
use outgrow_predict::{Extent, Model};
use outgrow_tensor::Tensor;
use prost::Message;

/// `y = (x · w)` with the shape that the second input says.
fn model() -> Model {
    let names = |list: &[&str]| list.iter().map(|n| (*n).to_owned()).collect();
    let node = |op: &str, inputs: &[&str], output: &str| NodeProto {
        op_type: op.into(),
        input: names(inputs),
        output: names(&[output]),
        ..NodeProto::default()
    };
    let info = |name: &str, elem_type: i32, dims: Vec<DimensionValue>| {
        let dim = dims.into_iter().map(|value| DimensionProto { value: Some(value) }).collect();
        let tensor_type = Some(TensorTypeProto { elem_type, shape: Some(TensorShapeProto { dim }) });
        ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type }) }
    };
    let (rows, two) = (DimensionValue::Param("rows".into()), DimensionValue::Value(2));
    let w = TensorProto {
        name: "w".into(),
        dims: vec![2, 2],
        data_type: 1,
        float_data: vec![1.0, 2.0, 3.0, 4.0],
        ..TensorProto::default()
    };
    let graph = GraphProto {
        node: vec![node("MatMul", &["x", "w"], "product"), node("Reshape", &["product", "shape"], "y")],
        initializer: vec![w],
        input: vec![info("x", 1, vec![rows, two.clone()]), info("shape", 7, vec![two])],
        output: vec![info("y", 1, vec![])],
        ..GraphProto::default()
    };
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 17 }];
    let file = ModelProto { graph: Some(graph), opset_import, ..ModelProto::default() }.encode_to_vec();
    Model::of_onnx(OnnxModel::parse(file.into(), &NoExternalData).unwrap(), options(1))
}

/// Images through a convolution, of which so many are more than a cache holds, and then through other nodes from `c` to `y`.
fn convolution_and(nodes: Vec<NodeProto>, constants: Vec<TensorProto>) -> Model {
    let dim = |value| DimensionProto { value: Some(value) };
    let mut dims = vec![dim(DimensionValue::Param("rows".into()))];
    dims.extend([32, 64, 64].map(|extent| dim(DimensionValue::Value(extent))));
    let tensor_type = TensorTypeProto { elem_type: 1, shape: Some(TensorShapeProto { dim: dims }) };
    let info = |name: &str, tensor_type| ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { tensor_type: Some(tensor_type) }),
    };
    let w = TensorProto {
        name: "w".into(),
        dims: vec![32, 32, 1, 1],
        data_type: 1,
        float_data: (0..1024).map(|i| (i % 7) as f32 - 3.0).collect(),
        ..TensorProto::default()
    };
    let node = NodeProto {
        op_type: "Conv".into(),
        input: vec!["x".into(), "w".into()],
        output: vec![if nodes.is_empty() { "y" } else { "c" }.into()],
        ..NodeProto::default()
    };
    let graph = GraphProto {
        node: [vec![node], nodes].concat(),
        initializer: [vec![w], constants].concat(),
        input: vec![info("x", tensor_type)],
        output: vec![info("y", TensorTypeProto { elem_type: 1, shape: None })],
        ..GraphProto::default()
    };
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 17 }];
    let file = ModelProto { graph: Some(graph), opset_import, ..ModelProto::default() }.encode_to_vec();
    Model::of_onnx(OnnxModel::parse(file.into(), &NoExternalData).unwrap(), options(2))
}

fn images(first: usize, rows: usize) -> Tensor {
    let row = 32 * 64 * 64;
    let values = (first * row..(first + rows) * row).map(|i| (i % 1013) as f32 / 64.0 - 8.0);
    Tensor::new([rows, 32, 64, 64], values.collect::<Vec<_>>()).unwrap()
}

/// A batch of 19 would run as 8, 8 and 4 rows: a number that is the same for 19 and 8 rows, and another one for 4, tells that
/// rows do not answer by themselves.
#[test]
fn what_hangs_on_the_number_of_rows_runs_at_once() {
    let node = |op: &str, inputs: &[&str], output: &str| NodeProto {
        op_type: op.into(),
        input: inputs.iter().map(|n| (*n).to_owned()).collect(),
        output: vec![output.into()],
        ..NodeProto::default()
    };
    // FLOAT, as an attribute of type INT.
    let to = AttributeProto { name: "to".into(), i: 1, r#type: 2, ..AttributeProto::default() };
    let cast = NodeProto { attribute: vec![to], ..node("Cast", &["count"], "number") };
    let nodes = vec![
        node("Shape", &["x"], "shape"),
        node("Gather", &["shape", "first"], "count"),
        cast,
        node("Min", &["number", "eight"], "least"),
        node("Mul", &["c", "least"], "y"),
    ];
    let first =
        TensorProto { name: "first".into(), data_type: 7, int64_data: vec![0], ..TensorProto::default() };
    let eight =
        TensorProto { name: "eight".into(), data_type: 1, float_data: vec![8.0], ..TensorProto::default() };
    let model = convolution_and(nodes, vec![first, eight]);
    let run = |x: Tensor| model.run(&[x], &[0]).unwrap().remove(0);
    let (together, alone) = (run(images(0, 19)), run(images(18, 1)));
    let row = alone.elements();
    assert!((0..row).all(|i| together.get_f64(18 * row + i) == 8.0 * alone.get_f64(i)));
}

#[test]
fn what_does_not_stay_in_the_cache_runs_in_parts_with_the_same_bits() {
    let model = convolution_and(Vec::new(), Vec::new());
    let row = 32 * 64 * 64;
    let run = |x: Tensor| model.run(&[x], &[0]).unwrap().remove(0);
    let together = run(images(0, 19));
    assert_eq!((together.shape().dims(), model.program_count()), ([19, 32, 64, 64].as_slice(), 2));
    // Eight at a time, and the other three as four.
    run(images(0, 8));
    run(images(0, 4));
    assert_eq!(model.program_count(), 2);
    let bytes = together.le_bytes();
    for i in [0, 7, 8, 18] {
        let alone = run(images(i, 1));
        assert!(alone.le_bytes()[..] == bytes[i * row * 4..(i + 1) * row * 4], "image {i}");
    }
}

#[test]
fn shapes_may_follow_from_what_inputs_hold() {
    let model = model();
    assert_eq!(model.inputs()[0].dims, Some(vec![Extent::Named("rows".into()), Extent::Fixed(2)]));
    assert_eq!(model.inputs()[1].to_string(), "i64[2]");
    let x = Tensor::new([2, 2], vec![1.0f32, 0.0, 0.0, 1.0]).unwrap();
    let run = |x: &Tensor, shape: [i64; 2]| model.run(&[x.clone(), Tensor::vector(shape.to_vec())], &[0]);
    // The shapes of the inputs are the same: what was compiled for one must not answer for the other.
    for shape in [[4, 1], [1, 4], [2, 2], [4, 1]] {
        let expect = shape.map(|n| n as usize);
        let y = run(&x, shape).unwrap().remove(0);
        assert_eq!(y, Tensor::new(expect, vec![1.0f32, 2.0, 3.0, 4.0]).unwrap());
    }
    assert_eq!(model.program_count(), 1);
    assert!(run(&x, [3, 1]).is_err(), "as many elements as there are");
    // Programs are kept for the last few shapes only, and all share the weights.
    for rows in 1..20usize {
        let x = Tensor::new([rows, 2], vec![1.0f32; 2 * rows]).unwrap();
        let y = run(&x, [rows as i64, 2]).unwrap().remove(0);
        assert!((0..rows).all(|i| (y.get_f64(2 * i), y.get_f64(2 * i + 1)) == (4.0, 6.0)));
        assert!(model.program_count() <= 8);
    }
    assert_eq!(model.weight_bytes().0, 16);
    assert_eq!(model.interpretation().unwrap_err().code, "predict.records");
}

#[test]
fn requests_run_together_where_rows_answer_by_themselves_with_the_same_bits() {
    let model = convolution_and(Vec::new(), Vec::new());
    assert!(model.answers_by_rows());
    let requests = [images(3, 1), images(0, 2), images(11, 4)].map(|x| [x]);
    let rows = requests.each_ref().map(|inputs| model.rows(inputs).unwrap().unwrap());
    assert_eq!(rows.map(|rows| rows.rows), [1, 2, 4]);
    assert!(rows.iter().all(|other| other.group == rows[0].group));
    let each: Vec<&[Tensor]> = requests.iter().map(<[Tensor; 1]>::as_slice).collect();
    let together = model.run_together(&each, &[0]).unwrap();
    for (inputs, outputs) in each.iter().zip(together) {
        let alone = model.run(inputs, &[0]).unwrap();
        assert_eq!(alone, outputs);
    }
    // What follows from another input's numbers does not.
    let x = Tensor::new([2, 2], vec![1.0f32, 0.0, 0.0, 1.0]).unwrap();
    let (model, inputs) = (self::model(), [x, Tensor::vector(vec![4i64, 1])]);
    assert!(!model.answers_by_rows());
    assert_eq!(model.rows(&inputs).unwrap(), None);
    assert_eq!(model.run_together(&[&inputs], &[0]).unwrap(), [model.run(&inputs, &[0]).unwrap()]);
}
