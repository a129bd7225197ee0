//! Gradients of whole models against central differences in f64, with a padded sample and with dropout.

mod common;

use common::{categories, features, image, model, run, tokens, values};
use outgrow_models::{InputSpec, TargetSpec};
use outgrow_passes::add_gradients;
use outgrow_tensor::{DType, RngKey};

const SAMPLES: usize = 3;

fn check(json: &str, inputs: &[InputSpec], target: TargetSpec) {
    let built = model(json, inputs, &target, DType::F64);
    let classes = if target == TargetSpec::Binary { 2 } else { target.width() };
    let plain = built.train.bind(SAMPLES);
    let graph = add_gradients(&built.train).unwrap().bind(SAMPLES);
    graph.verify().unwrap();
    let values = values(&built, &plain, classes, RngKey::new(3));
    let outputs = run(&graph, &values);
    let mut nonzero = 0;
    for param in &built.params {
        let grad = &outputs[&format!("grad:{}", param.name)];
        let elements = grad.elements();
        for j in (0..elements).step_by(elements.div_ceil(5)) {
            let step = 1e-5;
            let moved = |by: f64| {
                let mut moved = values.clone();
                moved.get_mut(&param.name).unwrap().as_mut_slice::<f64>().unwrap()[j] += by;
                run(&plain, &moved)["loss"].get_f64(0)
            };
            let expected = (moved(step) - moved(-step)) / (2.0 * step);
            let got = grad.get_f64(j);
            let close = (got - expected).abs() <= 1e-6 * (1.0 + expected.abs());
            assert!(close, "{json}: d/d{}[{j}] is {got}, differences give {expected}", param.name);
            nonzero += usize::from(got != 0.0);
        }
    }
    assert!(nonzero >= built.params.len() / 2, "{json}: {nonzero} of the gradients are not zero");
}

#[test]
fn tables() {
    check(r#"{"name": "linear"}"#, &[features(4)], TargetSpec::Regression { width: 2 });
    check(r#"{"name": "logistic"}"#, &[features(3), categories(&[2, 4])], TargetSpec::Binary);
    check(
        r#"{"name": "wide-deep", "hidden": [5, 3], "embedding": 2, "activation": "tanh", "dropout": 0.3}"#,
        &[features(3), categories(&[2, 2, 3])],
        TargetSpec::Binary,
    );
    check(r#"{"name": "realmlp", "hidden": [4, 3]}"#, &[features(3)], TargetSpec::Class { classes: 3 });
    check(r#"{"name": "realmlp", "hidden": [4, 3]}"#, &[features(3)], TargetSpec::Regression { width: 2 });
    check(
        r#"{"layers": [{"embedding": 2}, {"dense": 3, "activation": "silu"}, {"dense": 3}]}"#,
        &[features(2), categories(&[3, 3])],
        TargetSpec::Class { classes: 3 },
    );
    check(
        r#"{"layers": [{"dense": 3, "activation": "gelu"}, {"dense": 1, "activation": "sigmoid"}]}"#,
        &[features(4)],
        TargetSpec::Regression { width: 1 },
    );
}

#[test]
fn images() {
    check(
        r#"{"name": "mlp", "hidden": [6, 5], "dropout": 0.4}"#,
        &[image([1, 3, 3])],
        TargetSpec::Class { classes: 4 },
    );
    check(
        r#"{"layers": [
            {"conv": 4, "kernel": 3, "padding": "same", "bias": false}, {"batch_norm": true},
            {"residual": [{"conv": 6, "kernel": 3, "stride": 2, "padding": 1, "groups": 2}, {"batch_norm": true},
                          {"activation": "relu"}, {"conv": 6, "kernel": [1, 3], "padding": [0, 1]}],
             "shortcut": [{"conv": 6, "kernel": 1, "stride": 2, "bias": false}, {"batch_norm": true}]},
            {"activation": "relu"}, {"residual": [{"batch_norm": true}]}, {"dropout": 0.2},
            {"max_pool": 2, "stride": 1}, {"global_avg_pool": true}, {"dense": 3, "activation": "softmax"}]}"#,
        &[image([2, 5, 5])],
        TargetSpec::Class { classes: 3 },
    );
}

#[test]
fn sequences() {
    check(
        r#"{"name": "gpt", "width": 6, "heads": 3, "layers": 2, "dropout": 0.1}"#,
        &[tokens(4)],
        TargetSpec::Tokens { vocab: 5, context: 4 },
    );
    check(
        r#"{"layers": [{"embedding": 3}, {"residual": [{"layer_norm": true}, {"dense": 3, "activation": "relu"}]},
            {"dense": 5}]}"#,
        &[tokens(4)],
        TargetSpec::Tokens { vocab: 5, context: 4 },
    );
}
