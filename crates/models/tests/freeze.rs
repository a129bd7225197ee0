//! Parameters that are not trained, in models of every kind: they are buffers of the same graphs, in the promised order.

mod common;

use common::{categories, features, image, inputs, model, tokens, try_model};
use outgrow_ir::InputRole;
use outgrow_models::{InputSpec, TargetSpec};
use outgrow_tensor::DType;

/// Freezes by `patterns`, and checks the graphs; gives the names of the last layer.
fn check(json: &str, data: &[InputSpec], target: TargetSpec, patterns: &str) -> Vec<String> {
    let frozen = format!("{}, \"freeze\": {patterns}}}", json.strip_suffix('}').unwrap());
    let (whole, built) = (model(json, data, &target, DType::F32), model(&frozen, data, &target, DType::F32));
    assert!(!built.frozen.is_empty() && !built.params.is_empty(), "{frozen}");
    assert_eq!(built.params.len() + built.frozen.len(), whole.params.len());
    assert_eq!(built.buffers.len(), whole.buffers.len() + built.frozen.len());
    for graph in [&built.train, &built.eval] {
        let of = |role| {
            let inputs = inputs(graph).into_iter();
            inputs.filter(|(_, _, own, _)| *own == role).map(|(name, ..)| name).collect::<Vec<_>>()
        };
        let params: Vec<_> = built.params.iter().map(|param| param.name.clone()).collect();
        let buffers: Vec<_> = built.buffers.iter().map(|buffer| buffer.name.clone()).collect();
        assert_eq!(of(InputRole::Param), params, "{frozen}");
        assert_eq!(of(InputRole::Buffer), buffers, "{frozen}");
    }
    for param in &built.frozen {
        assert!(whole.params.iter().any(|own| own == param), "{}", param.name);
    }
    assert_eq!(built.head, whole.head);
    built.head
}

#[test]
fn in_models_of_every_kind() {
    let class = TargetSpec::Class { classes: 7 };
    let layers = r#"{"layers": [{"flatten": true}, {"dense": 5}, {"batch_norm": true}, {"dense": 7}]}"#;
    for (json, data, target, patterns, head) in [
        (layers, vec![image([1, 4, 4])], class.clone(), r#"["1.*", "2.bias"]"#, &["3.weight", "3.bias"][..]),
        (
            r#"{"name": "logistic"}"#,
            vec![features(3)],
            class.clone(),
            r#"["*.bias"]"#,
            &["fc.weight", "fc.bias"],
        ),
        (
            r#"{"name": "mlp", "hidden": [4, 4]}"#,
            vec![features(3)],
            class.clone(),
            r#"["*.bias"]"#,
            &["5.weight", "5.bias"],
        ),
        (
            r#"{"name": "realmlp", "hidden": [4]}"#,
            vec![features(3)],
            class.clone(),
            r#"["0.scale"]"#,
            &["3.weight", "3.bias"],
        ),
        (
            r#"{"name": "resnet18"}"#,
            vec![image([3, 32, 32])],
            class,
            r#"["conv1.*", "bn1.*", "layer?.*"]"#,
            &["fc.weight", "fc.bias"],
        ),
        (
            r#"{"name": "gpt", "layers": 2, "heads": 2, "width": 8}"#,
            vec![tokens(6)],
            TargetSpec::Tokens { vocab: 11, context: 6 },
            r#"["blocks.0.*"]"#,
            &["head.weight"],
        ),
        (
            r#"{"name": "wide-deep", "hidden": [4], "embedding": 3}"#,
            vec![features(2), categories(&[3, 4])],
            TargetSpec::Binary,
            r#"["deep.*.bias"]"#,
            &["wide.fc.weight", "wide.fc.bias", "wide.categories.weight", "deep.2.weight", "deep.2.bias"],
        ),
    ] {
        let found = check(json, &data, target, patterns);
        let (mut found, mut head) = (found, head.to_vec());
        found.sort();
        head.sort();
        assert_eq!(found, head, "{json}");
    }
}

#[test]
fn patterns_must_leave_and_take_something() {
    let refused = |patterns: &str| {
        let json = format!(r#"{{"name": "mlp", "hidden": [4], "freeze": {patterns}}}"#);
        let target = TargetSpec::Class { classes: 2 };
        try_model(&json, &[features(3)], &target, DType::F32).unwrap_err().0.remove(0)
    };
    let unknown = refused(r#"["1.*", "2.weights"]"#);
    assert_eq!(unknown.problem, "no parameter of the model is called `2.weights`");
    assert_eq!(unknown.place.item.as_deref(), Some("model.freeze[1]"));
    assert!(unknown.expected.unwrap().contains("closest are `1.weight`, `3.weight`"));
    assert!(refused(r#"["*"]"#).problem.contains("nothing to train"));
}
