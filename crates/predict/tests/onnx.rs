//! Models of other frameworks: programs for the shapes that are given, and for what inputs hold where shapes follow from
//! that.

mod common;

use common::options;
use outgrow_onnx::proto::{
    DimensionProto, DimensionValue, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
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
