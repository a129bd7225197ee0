//! What does not fit is refused with the layer, what was expected, and how to mend it.

mod common;

use common::{categories, features, image, tokens, try_model};
use outgrow_models::{InputSpec, TargetSpec};
use outgrow_tensor::DType;

/// The diagnostics of a model must contain each of these.
fn check(json: &str, inputs: &[InputSpec], target: TargetSpec, expect: &[&str]) {
    let found = match try_model(json, inputs, &target, DType::F32) {
        Ok(_) => panic!("{json} is accepted"),
        Err(found) => found.to_string(),
    };
    for words in expect {
        assert!(found.contains(words), "{json}: `{words}` is missing from\n{found}");
    }
}

#[test]
fn layers_that_do_not_fit_are_named() {
    let ten = || TargetSpec::Class { classes: 10 };
    let picture = [image([3, 8, 8])];
    for (json, inputs, target, expect) in [
        (
            r#"{"layers": [{"dense": 7}]}"#,
            &picture[..],
            ten(),
            &["model.layers[0]", "f32[B, 7]", "10 classes", "[B, 10]", "{ dense = 10 }"][..],
        ),
        (
            r#"{"layers": [{"flatten": true}, {"conv": 4, "kernel": 3}]}"#,
            &picture,
            ten(),
            &["model.layers[1]", "needs images", "f32[B, 192]", "before `flatten`"],
        ),
        (r#"{"layers": [{"max_pool": 2}]}"#, &[features(9)], ten(), &["model.layers[0]", "needs images"]),
        (
            r#"{"layers": [{"conv": 4, "kernel": 3}, {"conv": 4, "kernel": 9}]}"#,
            &picture,
            ten(),
            &["model.layers[1]", "does not fit"],
        ),
        (
            r#"{"layers": [{"residual": [{"conv": 4, "kernel": 3}]}, {"global_avg_pool": true}, {"dense": 10}]}"#,
            &picture,
            ten(),
            &["model.layers[0]", "f32[B, 4, 6, 6]", "f32[B, 3, 8, 8]", "`shortcut`"],
        ),
        (
            r#"{"layers": [{"residual": [{"max_pool": 20}]}]}"#,
            &picture,
            ten(),
            &["model.layers[0].residual[0]", "does not fit"],
        ),
        (
            r#"{"layers": [{"conv": 4, "kernel": 3, "groups": 2}]}"#,
            &picture,
            ten(),
            &["model.layers[0]", "2 groups", "divide 3"],
        ),
        (
            r#"{"layers": [{"dense": 4}, {"embedding": 4}]}"#,
            &picture,
            ten(),
            &["model.layers[1]", "first layer"],
        ),
        (r#"{"layers": [{"embedding": 4}]}"#, &picture, ten(), &["model.layers[0]", "tokens or categories"]),
        (
            r#"{"layers": [{"dense": 10}]}"#,
            &[features(2), categories(&[3])],
            ten(),
            &["`features` and `categories`", "one_hot"],
        ),
        (r#"{"layers": [{"dense": 10}]}"#, &[categories(&[3])], ten(), &["holds indexes", "embedding"]),
    ] {
        check(json, inputs, target, expect);
    }
}

#[test]
fn models_that_do_not_fit_the_data_are_refused() {
    let regression = || TargetSpec::Regression { width: 1 };
    for (json, inputs, target, expect) in [
        (
            r#"{"name": "resnet18"}"#,
            features(9),
            regression(),
            &["works on images", "[channels, height, width]"][..],
        ),
        (r#"{"name": "lenet"}"#, image([1, 8, 8]), regression(), &["too deep", "12 x 12"]),
        (r#"{"name": "gpt"}"#, features(9), regression(), &["next token", "one number", "source = \"text\""]),
        (r#"{"name": "logistic"}"#, features(9), regression(), &["classes apart", "linear"]),
        (r#"{"name": "wide-deep", "hidden": [2]}"#, image([1, 8, 8]), regression(), &["columns of a table"]),
        (
            r#"{"layers": [{"dense": 1, "activation": "softmax"}]}"#,
            features(9),
            regression(),
            &["ends in softmax", "one number", "model.layers"],
        ),
        (
            r#"{"layers": [{"dense": 3, "activation": "sigmoid"}]}"#,
            features(9),
            TargetSpec::Class { classes: 3 },
            &["ends in a sigmoid", "3 classes", "softmax"],
        ),
        (
            r#"{"name": "mlp", "hidden": [4000000000, 4000000000]}"#,
            features(9),
            regression(),
            &["absurdly many parameters"],
        ),
        (r#"{"name": "linear"}"#, features(9), TargetSpec::Regression { width: 0 }, &["nothing to predict"]),
    ] {
        check(json, &[inputs], target, expect);
    }
    check(r#"{"name": "linear"}"#, &[], regression(), &["nothing to learn from"]);
    let wrong = InputSpec { cardinalities: vec![3, 3], ..categories(&[3]) };
    check(r#"{"name": "linear"}"#, &[wrong], regression(), &["how many values"]);
    let huge = categories(&[2_000_000_000, 2_000_000_000]);
    check(r#"{"name": "linear"}"#, &[huge], regression(), &["4000000000 values", "hash"]);
    check(r#"{"name": "gpt"}"#, &[tokens(3)], TargetSpec::Tokens { vocab: 5, context: 4 }, &["next token"]);
}
