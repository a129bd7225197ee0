//! Names, shapes and numbers of parameters are PyTorch's.

mod common;

use common::{categories, features, image, model, tokens};
use outgrow_models::{InputSpec, TargetSpec};
use outgrow_tensor::DType;

/// Builds a model and compares the number of parameters, the names of some of them with their shapes, and the buffers.
fn check(json: &str, inputs: &[InputSpec], target: TargetSpec, count: usize, some: &[(&str, &[usize])]) {
    for dtype in [DType::F32, DType::BF16] {
        check_as(dtype, json, inputs, &target, count, some);
    }
}

fn check_as(
    dtype: DType,
    json: &str,
    inputs: &[InputSpec],
    target: &TargetSpec,
    count: usize,
    some: &[(&str, &[usize])],
) {
    let built = model(json, inputs, target, dtype);
    let total: usize = built.params.iter().map(|p| p.dims.iter().product::<usize>()).sum();
    assert_eq!(total, count, "{json}");
    for (name, dims) in some {
        let found = built.params.iter().find(|p| p.name == *name);
        assert_eq!(found.map(|p| p.dims.as_slice()), Some(*dims), "{json}: {name}");
    }
    for graph in [&built.train, &built.eval] {
        graph.verify().unwrap();
        let given = common::inputs(graph).into_iter().map(|(name, dims, _, dtype)| (name, dims, dtype));
        let params = built.params.iter().map(|p| (p.name.clone(), p.dims.clone(), p.dtype));
        let buffers = built.buffers.iter().map(|b| (b.name.clone(), b.dims.clone(), b.dtype));
        let declared: Vec<_> = params.chain(buffers).collect();
        assert!(built.params.iter().all(|p| p.dtype == dtype), "{json}");
        assert!(built.buffers.iter().all(|b| b.dtype == DType::F32), "{json}");
        assert!(graph.outputs.iter().all(|y| graph.ty(y.value).dtype == DType::F32), "{json}");
        assert_eq!(given.take(declared.len()).collect::<Vec<_>>(), declared, "{json}");
        assert_eq!(outgrow_ir::Graph::parse(&graph.to_string()).unwrap(), *graph, "{json}");
        assert!(graph.cost().flops > 2 * count as u64 / 4, "{json}: {:?}", graph.cost());
    }
}

#[test]
fn parameters_are_those_of_pytorch() {
    let ten = TargetSpec::Class { classes: 10 };
    check(
        r#"{"name": "linear"}"#,
        &[features(2)],
        TargetSpec::Regression { width: 1 },
        3,
        &[("fc.weight", &[1, 2])],
    );
    check(
        r#"{"name": "realmlp"}"#,
        &[features(7)],
        ten.clone(),
        7 + 8 * 256 + 2 * 257 * 256 + 257 * 10,
        &[("0.scale", &[7]), ("1.weight", &[256, 7]), ("5.bias", &[256]), ("7.weight", &[10, 256])],
    );
    check(
        r#"{"name": "mlp", "hidden": [512, 512]}"#,
        &[image([1, 28, 28])],
        ten.clone(),
        669_706,
        &[("1.weight", &[512, 784]), ("3.bias", &[512]), ("5.weight", &[10, 512])],
    );
    check(
        r#"{"layers": [{"dense": 10, "activation": "relu"}, {"dense": 10, "activation": "softmax"}]}"#,
        &[image([1, 28, 28])],
        ten.clone(),
        7960,
        &[("0.weight", &[10, 784]), ("2.weight", &[10, 10]), ("2.bias", &[10])],
    );
    check(
        r#"{"name": "lenet"}"#,
        &[image([1, 28, 28])],
        ten.clone(),
        61_706,
        &[("0.weight", &[6, 1, 5, 5]), ("3.bias", &[16]), ("7.weight", &[120, 400]), ("11.bias", &[10])],
    );
    check(
        r#"{"name": "resnet18", "stem": "small"}"#,
        &[image([3, 32, 32])],
        ten,
        11_173_962,
        &[
            ("conv1.weight", &[64, 3, 3, 3]),
            ("bn1.bias", &[64]),
            ("layer2.0.downsample.0.weight", &[128, 64, 1, 1]),
            ("layer2.0.downsample.1.weight", &[128]),
            ("layer4.1.conv2.weight", &[512, 512, 3, 3]),
            ("fc.weight", &[10, 512]),
        ],
    );
    let thousand = TargetSpec::Class { classes: 1000 };
    let photo = [image([3, 224, 224])];
    check(
        r#"{"name": "resnet34"}"#,
        &photo,
        thousand.clone(),
        21_797_672,
        &[("conv1.weight", &[64, 3, 7, 7])],
    );
    check(
        r#"{"name": "resnet50"}"#,
        &photo,
        thousand,
        25_557_032,
        &[("layer1.0.conv3.weight", &[256, 64, 1, 1]), ("layer4.2.bn3.weight", &[2048])],
    );
}

#[test]
fn tokens_and_tables() {
    check(
        r#"{"name": "gpt", "width": 256}"#,
        &[tokens(128)],
        TargetSpec::Tokens { vocab: 65, context: 128 },
        3_225_600,
        &[
            ("tok.weight", &[65, 256]),
            ("pos.weight", &[128, 256]),
            ("blocks.0.l1.weight", &[256]),
            ("blocks.3.qkv.weight", &[768, 256]),
            ("blocks.3.down.weight", &[256, 1024]),
            ("norm.bias", &[256]),
            ("head.weight", &[65, 256]),
        ],
    );
    check(
        r#"{"name": "wide-deep", "hidden": [16], "embedding": 4}"#,
        &[features(3), categories(&[5, 7])],
        TargetSpec::Binary,
        (3 + 1) + 12 + 12 * 4 + (11 * 16 + 16) + (16 + 1),
        &[
            ("wide.fc.weight", &[1, 3]),
            ("wide.categories.weight", &[12, 1]),
            ("deep.embedding.weight", &[12, 4]),
        ],
    );
    check(
        r#"{"name": "logistic"}"#,
        &[categories(&[5, 7])],
        TargetSpec::Binary,
        13,
        &[("categories.weight", &[12, 1]), ("fc.bias", &[1])],
    );
}
