//! A small model of another framework.

use outgrow_onnx::proto::{
    DimensionProto, DimensionValue, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use prost::Message;

/// `total = x · w + bias` for any number of rows, and `large` where that is above 2.
pub fn model() -> Vec<u8> {
    model_for(DimensionValue::Param("rows".into()))
}

/// The same for these rows.
pub fn model_for(rows: DimensionValue) -> Vec<u8> {
    let names = |list: &[&str]| list.iter().map(|n| (*n).to_owned()).collect();
    let node = |op: &str, inputs: &[&str], output: &str| NodeProto {
        op_type: op.into(),
        input: names(inputs),
        output: names(&[output]),
        ..NodeProto::default()
    };
    let weight = |name: &str, dims: &[i64], data: &[f32]| TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: 1,
        float_data: data.to_vec(),
        ..TensorProto::default()
    };
    let info = |name: &str, elem_type: i32, dims: Vec<DimensionValue>| {
        let dim = dims.into_iter().map(|value| DimensionProto { value: Some(value) }).collect();
        let tensor_type = Some(TensorTypeProto { elem_type, shape: Some(TensorShapeProto { dim }) });
        ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type }) }
    };
    let graph = GraphProto {
        node: vec![
            node("MatMul", &["x", "w"], "product"),
            node("Add", &["product", "bias"], "total"),
            node("Greater", &["total", "limit"], "large"),
        ],
        initializer: vec![weight("w", &[2, 2], &[1.0, 2.0, 3.0, 4.0]), weight("limit", &[], &[2.0])],
        input: vec![
            info("x", 1, vec![rows.clone(), DimensionValue::Value(2)]),
            info("bias", 1, vec![DimensionValue::Value(2)]),
        ],
        output: vec![
            info("total", 1, vec![rows.clone(), DimensionValue::Value(2)]),
            info("large", 9, vec![rows, DimensionValue::Value(2)]),
        ],
        ..GraphProto::default()
    };
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 17 }];
    ModelProto { graph: Some(graph), opset_import, ..ModelProto::default() }.encode_to_vec()
}
