//! Exported models hold together: what a node reads was made before, names are unique, weights are those that were given,
//! and nothing but the batch is symbolic. That other programs run them is checked by `benchmarks/onnx_export.py`.

use outgrow_ir::ops::Window;
use outgrow_ir::{Builder, Dim, Graph, InputRole, TensorType};
use outgrow_models::spec::ModelSpec;
use outgrow_models::{BuildOptions, BuiltModel, InputSpec, TargetSpec, build};
use outgrow_onnx::export::{ExportOptions, export, to_files};
use outgrow_onnx::proto::{DimensionValue, ModelProto, ValueInfoProto};
use outgrow_tensor::{DType, Tensor};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};

fn input(name: &str, dtype: DType, dims: &[usize], cardinalities: &[usize]) -> InputSpec {
    InputSpec { name: name.into(), dtype, dims: dims.to_vec(), cardinalities: cardinalities.to_vec() }
}

fn weights(model: &BuiltModel) -> BTreeMap<String, Tensor> {
    let params = model.params.iter().map(|p| (p.name.clone(), p.dims.clone()));
    let buffers = model.buffers.iter().map(|b| (b.name.clone(), b.dims.clone()));
    let tensor = |dims: Vec<usize>| Tensor::from_f64(DType::F32, dims, |i| (i % 7) as f64 - 3.0);
    params.chain(buffers).map(|(name, dims)| (name, tensor(dims))).collect()
}

fn dims(info: &ValueInfoProto) -> Vec<String> {
    let shape = info.r#type.as_ref().unwrap().tensor_type.as_ref().unwrap().shape.as_ref().unwrap();
    let text = |value: &DimensionValue| match value {
        DimensionValue::Value(n) => n.to_string(),
        DimensionValue::Param(name) => name.clone(),
    };
    shape.dim.iter().map(|d| text(d.value.as_ref().unwrap())).collect()
}

/// Checks the structure, after a trip through bytes.
fn check_structure(model: ModelProto) -> ModelProto {
    let files = to_files(model, "unused.data");
    assert!(files.data.is_none());
    let model = ModelProto::decode(files.model.as_slice()).unwrap();
    let graph = model.graph.as_ref().unwrap();
    let mut known: BTreeSet<&str> = graph.input.iter().map(|i| i.name.as_str()).collect();
    for tensor in &graph.initializer {
        assert!(known.insert(&tensor.name), "{} is there twice", tensor.name);
        let elements: i64 = tensor.dims.iter().product();
        assert!(tensor.raw_data.as_ref().unwrap().len() as i64 >= elements, "{}", tensor.name);
    }
    let mut nodes = BTreeSet::new();
    for node in &graph.node {
        assert!(nodes.insert(&node.name), "two nodes are called {}", node.name);
        for input in &node.input {
            assert!(known.contains(input.as_str()), "{} reads {input} before it is made", node.name);
        }
        for output in &node.output {
            assert!(known.insert(output), "{output} is made twice");
        }
    }
    assert!(graph.output.iter().all(|o| known.contains(o.name.as_str())));
    model
}

fn check(json: &str, inputs: &[InputSpec], target: TargetSpec, names: &[&str], output: &[&str]) {
    let spec: ModelSpec = serde_json::from_str(json).unwrap();
    let built = build(&spec.validate().unwrap(), inputs, &target, BuildOptions::default()).unwrap();
    let weights = weights(&built);
    let model = export(&built.answer, &["output"], &weights, &ExportOptions::default())
        .unwrap_or_else(|d| panic!("{json}: {d}"));
    let model = check_structure(model);
    let graph = model.graph.unwrap();
    // Only what the prediction needs goes in: no target, no weights of samples.
    let given: Vec<&str> = graph.input.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(given, names, "{json}");
    assert_eq!(dims(&graph.output[0]), output, "{json}");
    for (name, tensor) in &weights {
        let there =
            graph.initializer.iter().find(|t| t.name == *name).unwrap_or_else(|| panic!("{json}: {name}"));
        assert_eq!(there.raw_data.as_ref().unwrap()[..], tensor.le_bytes()[..], "{json}: {name}");
    }
}

#[test]
fn every_architecture_holds_together() {
    let image = input("image", DType::F32, &[3, 32, 32], &[]);
    let classes = TargetSpec::Class { classes: 10 };
    let rgb = std::slice::from_ref(&image);
    for json in [
        r#"{"name": "mlp", "hidden": [5, 4], "dropout": 0.5}"#,
        r#"{"name": "lenet"}"#,
        r#"{"name": "resnet18", "stem": "small"}"#,
        r#"{"name": "resnet50"}"#,
        r#"{"layers": [{"conv": 4, "kernel": 3, "groups": 1, "padding": "same"}, {"batch_norm": true}, {"activation": "gelu"},
            {"avg_pool": 2}, {"max_pool": 2}, {"flatten": true}, {"layer_norm": true}, {"dense": 10}]}"#,
    ] {
        check(json, rgb, classes.clone(), &["image"], &["batch", "10"]);
    }
    let tokens = input("tokens", DType::I32, &[16], &[]);
    let gpt = r#"{"name": "gpt", "layers": 2, "heads": 2, "width": 16}"#;
    check(
        gpt,
        &[tokens],
        TargetSpec::Tokens { vocab: 30, context: 16 },
        &["tokens"],
        &["batch", "sequence", "30"],
    );
    let table = [input("features", DType::F32, &[4], &[]), input("categories", DType::I32, &[2], &[5, 7])];
    let wide = r#"{"name": "wide-deep", "hidden": [8], "embedding": 4}"#;
    check(wide, &table, TargetSpec::Binary, &["features", "categories"], &["batch"]);
    check(
        r#"{"name": "linear"}"#,
        &table[..1],
        TargetSpec::Regression { width: 2 },
        &["features"],
        &["batch", "2"],
    );
}

/// A graph with one input `x f32 [B, 4, 6]` and the output that `make` makes of it.
fn graph(make: impl FnOnce(&mut Builder, outgrow_ir::Value) -> outgrow_ir::Value) -> Graph {
    let mut b = Builder::new("test");
    let x =
        b.input("x", InputRole::Data, TensorType::new(DType::F32, [Dim::B, Dim::Fixed(4), Dim::Fixed(6)]));
    let y = make(&mut b, x);
    b.output("y", y);
    b.finish().unwrap()
}

fn operators(graph: &Graph) -> Vec<String> {
    let model =
        export(graph, &["y"], &BTreeMap::new(), &ExportOptions::default()).unwrap_or_else(|d| panic!("{d}"));
    let model = check_structure(model);
    model.graph.unwrap().node.into_iter().map(|n| n.op_type).collect()
}

#[test]
fn repetition_is_left_to_the_operators_that_can_do_it() {
    // A bias along the middle: one constant of another shape, and no `Expand`.
    let bias = graph(|b, x| {
        let bias = b.constant(Tensor::from_f64(DType::F32, vec![4], |i| i as f64));
        let dims = b.dims(x);
        let bias = b.broadcast(bias, &dims, &[1]);
        b.add(x, bias)
    });
    assert_eq!(operators(&bias), ["Unsqueeze", "Add", "Identity"]);
    // A repeated value that is given out has to be whole.
    let whole = graph(|b, x| {
        let sum = b.reduce_sum(x, &[1, 2]);
        let dims = b.dims(x);
        b.broadcast(sum, &dims, &[0])
    });
    assert_eq!(operators(&whole), ["ReduceSum", "Unsqueeze", "Shape", "Concat", "Expand", "Identity"]);
}

/// ONNX's products give what they take, so what gives f32 of bf16 takes f32.
#[test]
fn wider_sums_are_products_of_wider_operands() {
    let wide = graph(|b, x| {
        let x = b.cast(x, DType::BF16);
        let weight = b.constant(Tensor::from_f64(DType::BF16, vec![6, 2], |i| i as f64));
        b.dot_as(DType::F32, x, weight, (&[], &[]), (&[2], &[0]))
    });
    assert_eq!(operators(&wide), ["Cast", "Cast", "Cast", "MatMul", "Identity"]);
    let image = graph(|b, x| {
        let dims = b.dims(x);
        let x = b.reshape(x, &[dims[0], Dim::Fixed(1), dims[1], dims[2]]);
        let x = b.cast(x, DType::BF16);
        let weight = b.constant(Tensor::from_f64(DType::BF16, vec![2, 1, 3, 3], |i| i as f64));
        b.conv2d_as(DType::F32, x, weight, Window::new(1, 1), 1)
    });
    assert_eq!(operators(&image), ["Reshape", "Cast", "Cast", "Cast", "Conv", "Identity"]);
}

#[test]
fn what_onnx_lacks_is_refused_all_at_once() {
    let graph = graph(|b, x| {
        let index = b.constant(Tensor::from_i64(DType::I32, vec![3], |i| i as i64));
        let update = b.constant(Tensor::from_f64(DType::F32, vec![3, 2], |i| i as f64));
        let one = b.scatter_add(index, update, Dim::Fixed(5));
        let two = b.scatter_add(index, update, Dim::Fixed(6));
        let sum = b.sum_all(one);
        let other = b.sum_all(two);
        let sum = b.add(sum, other);
        let dims = b.dims(x);
        let sum = b.broadcast(sum, &dims, &[]);
        b.add(x, sum)
    });
    let problems = export(&graph, &["y"], &BTreeMap::new(), &ExportOptions::default()).unwrap_err();
    let named = problems.0.iter().filter(|p| p.problem.contains("scatter_add")).count();
    assert_eq!(named, 2, "{problems}");
    let none = export(&graph, &["z"], &BTreeMap::new(), &ExportOptions::default()).unwrap_err();
    assert_eq!(none.0[0].code, "onnx.output");
}

#[test]
fn weights_that_do_not_fit_are_named() {
    let spec: ModelSpec = serde_json::from_str(r#"{"name": "linear"}"#).unwrap();
    let inputs = [input("features", DType::F32, &[4], &[])];
    let target = TargetSpec::Regression { width: 1 };
    let built = build(&spec.validate().unwrap(), &inputs, &target, BuildOptions::default()).unwrap();
    let mut given = weights(&built);
    let name = built.params[0].name.clone();
    given.insert(name.clone(), Tensor::from_f64(DType::F32, vec![3], |_| 0.0));
    let problems = export(&built.answer, &["output"], &given, &ExportOptions::default()).unwrap_err();
    assert!(problems.0[0].problem.contains(&name) && problems.0[0].code == "onnx.weight", "{problems}");
    given.remove(&name);
    let problems = export(&built.answer, &["output"], &given, &ExportOptions::default()).unwrap_err();
    assert!(problems.0[0].problem.contains("there is no weight"), "{problems}");
}
