//! What is said of models that cannot be imported: everything at once, each with its node and what is supported.

use outgrow_ir::Dim;
use outgrow_onnx::proto::{
    AttributeProto, AttributeType, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    StringStringEntryProto, TensorProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use outgrow_onnx::{FolderData, Given, NoExternalData, OnnxModel, supported_operators};
use prost::Message;

fn node(op: &str, name: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let names = |list: &[&str]| list.iter().map(|n| (*n).to_owned()).collect();
    NodeProto {
        op_type: op.into(),
        name: name.into(),
        input: names(inputs),
        output: names(outputs),
        ..NodeProto::default()
    }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), i, r#type: AttributeType::Int as i32, ..AttributeProto::default() }
}

/// A model of these nodes from `x` to `y`.
fn model(nodes: Vec<NodeProto>, weights: Vec<TensorProto>) -> ModelProto {
    let tensor_type = Some(TensorTypeProto { elem_type: 1, shape: None });
    let info = |name: &str| ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { tensor_type: tensor_type.clone() }),
    };
    let graph = GraphProto {
        node: nodes,
        input: vec![info("x")],
        output: vec![info("y")],
        initializer: weights,
        ..GraphProto::default()
    };
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 20 }];
    ModelProto { graph: Some(graph), opset_import, ..ModelProto::default() }
}

/// Everything that is said of a model with an input of `[B, 4]`.
fn said(model: &ModelProto) -> String {
    match OnnxModel::parse(model.encode_to_vec().into(), &NoExternalData) {
        Err(found) => found.to_string(),
        Ok(model) => match model.graph(&[Given::Dims(vec![Dim::B, Dim::Fixed(4)])]) {
            Err(refused) => refused.diagnostics.to_string(),
            Ok(_) => "accepted".into(),
        },
    }
}

#[test]
fn unsupported_operators_are_told_all_at_once() {
    let nodes = vec![
        node("Loop", "again", &["x"], &["a"]),
        node("FusedConv", "fused", &["a"], &["b"]),
        NodeProto { domain: "com.microsoft".into(), ..node("Gelu", "theirs", &["b"], &["y"]) },
    ];
    expect_test::expect![[r#"
        node `again` (Loop): operator `Loop` is not supported [onnx.unsupported-operator]
          expected: a graph without loops
          help: export the model with fixed lengths, so that loops are written out
        node `fused` (FusedConv): operator `FusedConv` is not supported [onnx.unsupported-operator]
          expected: for instance `Conv`
        node `theirs` (Gelu): operator `Gelu` of domain `com.microsoft` is not supported [onnx.unsupported-operator]
          expected: standard operators, or functions that the file defines"#]]
    .assert_eq(&said(&model(nodes, Vec::new())));
}

#[test]
fn unsupported_attributes_are_told_all_at_once() {
    let with = |mut node: NodeProto, attribute| {
        node.attribute.push(attribute);
        node
    };
    let nodes = vec![
        with(node("Relu", "first", &["x"], &["a"]), int("leak", 1)),
        with(node("Softmax", "second", &["x"], &["b"]), int("axis", 7)),
        with(node("Softmax", "third", &["x"], &["c"]), int("spread", 7)),
        node("Reshape", "fourth", &["x", "x"], &["d"]),
        node("Sum", "last", &["a", "b", "c", "d"], &["y"]),
    ];
    expect_test::expect![[r#"
        node `first` (Relu): attribute `leak` is not supported [onnx.unsupported-node]
          expected: consumed_inputs
        node `second` (Softmax): there is no axis 7 in 2 dimensions [onnx.node]
          help: the file breaks the rules of ONNX here: `onnx.checker` may say more
        node `third` (Softmax): attribute `spread` is not supported [onnx.unsupported-node]
          expected: axis
        node `fourth` (Reshape): input 1, `x`, is not known when the model is compiled [onnx.unsupported-shape]
          expected: a constant, or a value that follows from shapes"#]]
    .assert_eq(&said(&model(nodes, Vec::new())));
}

#[test]
fn graphs_that_are_none_are_refused() {
    let cases = [
        (
            vec![node("Add", "", &["x", "b"], &["a"]), node("Relu", "", &["a"], &["b"])],
            "made after it or from it",
        ),
        (vec![node("Relu", "", &["z"], &["y"])], "which nothing makes"),
        (vec![node("Relu", "", &["x"], &["y"]), node("Abs", "", &["x"], &["y"])], "which is made already"),
        (vec![], "nothing makes the output `y`"),
    ];
    let mut twice = model(vec![node("Relu", "", &["x"], &["y"])], Vec::new());
    let graph = twice.graph.as_mut().unwrap();
    graph.input.push(graph.input[0].clone());
    assert!(said(&twice).contains("two inputs have the name `x`"));
    for (nodes, expect) in cases {
        let said = said(&model(nodes, Vec::new()));
        assert!(said.contains(expect), "{said}");
    }
}

/// A weight of four numbers in a file.
fn outside(location: &str) -> TensorProto {
    let entry = |key: &str, value: &str| StringStringEntryProto { key: key.into(), value: value.into() };
    TensorProto {
        name: "w".into(),
        dims: vec![4],
        data_type: 1,
        data_location: 1,
        external_data: vec![entry("location", location), entry("offset", "4")],
        ..TensorProto::default()
    }
}

#[test]
fn weights_outside_the_file_stay_in_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("model");
    std::fs::create_dir(&inner).unwrap();
    let bytes: Vec<u8> = [9.0f32, 1.0, 2.0, 3.0, 4.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    std::fs::write(inner.join("weights"), &bytes).unwrap();
    std::fs::write(inner.join("short"), &bytes[..10]).unwrap();
    std::fs::write(folder.path().join("secret"), &bytes).unwrap();
    let absolute = folder.path().join("secret").display().to_string();
    let mut cases = vec![
        ("weights", None),
        ("./weights", None),
        ("../secret", Some("leaves the model's folder")),
        ("a/../../secret", Some("leaves the model's folder")),
        (absolute.as_str(), Some("leaves the model's folder")),
        ("", Some("leaves the model's folder")),
        ("missing", Some("cannot be read")),
        ("short", Some("has only 10 bytes")),
    ];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(folder.path().join("secret"), inner.join("link")).unwrap();
        cases.push(("link", Some("is a link that leaves the model's folder")));
    }
    for (location, refusal) in cases {
        let model = model(vec![node("Add", "", &["x", "w"], &["y"])], vec![outside(location)]);
        let read = OnnxModel::parse(model.encode_to_vec().into(), &FolderData::new(&inner));
        match (read, refusal) {
            (Ok(_), None) => {}
            (Err(found), Some(expect)) => assert!(found.to_string().contains(expect), "{location}: {found}"),
            (read, _) => panic!("{location}: {read:?}"),
        }
    }
}

#[test]
fn absurd_sizes_are_refused() {
    let shape = |dims: Vec<i64>| {
        let count = dims.len() as i64;
        TensorProto {
            name: "w".into(),
            dims: vec![count],
            data_type: 7,
            int64_data: dims,
            ..TensorProto::default()
        }
    };
    for dims in [vec![i64::MAX, 4], vec![1 << 40, 4], vec![-3, 4]] {
        let said = said(&model(vec![node("Expand", "", &["x", "w"], &["y"])], vec![shape(dims.clone())]));
        assert!(said.contains("more than") || said.contains("is no extent"), "{dims:?}: {said}");
    }
    let weight = TensorProto {
        name: "w".into(),
        dims: vec![1 << 33, 1 << 33],
        data_type: 1,
        ..TensorProto::default()
    };
    let said = said(&model(vec![node("Add", "", &["x", "w"], &["y"])], vec![weight]));
    assert!(said.contains("negative or too large"), "{said}");
    // Two bytes each in the file, hundreds in memory.
    let many = [vec![0x3a, 0x80, 0x80, 0x80, 0x01], [0x0a, 0x00].repeat(1 << 20)].concat();
    let found = OnnxModel::parse(many.into(), &NoExternalData).unwrap_err().to_string();
    assert!(found.contains("too many parts"), "{found}");
}

#[test]
fn the_documentation_lists_every_operator() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/onnx.md");
    let text = std::fs::read_to_string(page).unwrap();
    let section = text.split("## Operators").nth(1).and_then(|rest| rest.split("##").next()).unwrap();
    let list: Vec<&str> = section.split('`').skip(1).step_by(2).collect();
    assert_eq!(list, supported_operators());
}
