//! Whole models against PyTorch: loss, metrics, gradients and running statistics for the same parameters and batch, in
//! f64 through the reference interpreter. `pytorch.py` beside this file made the numbers and says how values are filled.

mod common;

use common::{features, image, inputs, model_with, run, tokens};
use outgrow_ir::InputRole;
use outgrow_models::{BuildOptions, BuiltModel, InputSpec, TargetSpec};
use outgrow_passes::add_gradients;
use outgrow_tensor::{DType, Tensor};
use std::collections::HashMap;

/// What PyTorch gives.
struct Expected {
    eval: f64,
    train: f64,
    /// `correct` and `correct5`, summed over samples.
    hits: [f64; 2],
    /// Nothing where gradients are not computed.
    grads: Option<f64>,
    buffers: f64,
}

fn phase(name: &str) -> f64 {
    f64::from(name.bytes().map(u32::from).sum::<u32>())
}

/// The sum of element i times cos(0.3 i + h).
fn checksum(name: &str, t: &Tensor) -> f64 {
    (0..t.elements()).map(|i| t.get_f64(i) * libm::cos(0.3 * i as f64 + phase(name))).sum()
}

fn filled(name: &str, dims: &[usize]) -> Tensor {
    let vector = dims.len() == 1;
    let base = if vector && (name.ends_with("weight") || name.ends_with("running_var")) { 1.0 } else { 0.0 };
    let amplitude = if vector { 0.1 } else { 1.0 / (dims[1..].iter().product::<usize>() as f64).sqrt() };
    Tensor::from_f64(DType::F64, dims, |i| base + amplitude * libm::sin(0.7 * i as f64 + phase(name)))
}

/// A batch of these models: sines for images, a fixed walk for tokens and targets.
fn batch(built: &BuiltModel, samples: usize, classes: usize) -> HashMap<String, Tensor> {
    let mut values = HashMap::new();
    for (name, mut dims, role, dtype) in inputs(&built.train) {
        let tensor = match name.as_str() {
            _ if role.is_model() => filled(&name, &dims),
            "scale" => Tensor::scalar(1.0 / samples as f64),
            "weight" => Tensor::vector(vec![1.0; samples]),
            name => {
                dims[0] = samples;
                Tensor::from_f64(dtype, dims, |i| match name {
                    "tokens" => ((i * i * 7 + i * 3) % classes) as f64,
                    "target" => ((i * 5 + 2 + i / 3) % classes) as f64,
                    _ => libm::sin(0.9 * i as f64),
                })
            }
        };
        values.insert(name, tensor);
    }
    values
}

fn check(json: &str, input: InputSpec, target: TargetSpec, samples: usize, expected: &Expected) {
    check_smoothed(json, input, target, samples, 0.0, expected);
}

/// The same with smoothed labels in training.
fn check_smoothed(
    json: &str,
    input: InputSpec,
    target: TargetSpec,
    samples: usize,
    label_smoothing: f64,
    expected: &Expected,
) {
    let classes = target.width();
    let options = BuildOptions { dtype: DType::F64, label_smoothing, ..BuildOptions::default() };
    let built =
        model_with(json, &[input], &target, options).unwrap_or_else(|found| panic!("{json}: {found}"));
    let values = batch(&built, samples, classes);
    let near = |what: &str, got: f64, expected: f64| {
        let close = (got - expected).abs() <= 1e-9 * expected.abs().max(1.0);
        assert!(close, "{json}: {what} is {got}, PyTorch has {expected}");
    };
    let evaluated = run(&built.eval.bind(samples), &values);
    near("the loss in evaluation", evaluated["loss"].get_f64(0), expected.eval);
    near("correct", evaluated["correct"].get_f64(0), expected.hits[0]);
    near("correct5", evaluated["correct5"].get_f64(0), expected.hits[1]);
    let graph = match expected.grads {
        Some(_) => add_gradients(&built.train).unwrap(),
        None => built.train.clone(),
    };
    let trained = run(&graph.bind(samples), &values);
    near("the loss in training", trained["loss"].get_f64(0), expected.train);
    if let Some(expected) = expected.grads {
        let of = |name: &String| checksum(name, &trained[&format!("grad:{name}")]);
        near("the checksum of gradients", built.params.iter().map(|p| of(&p.name)).sum(), expected);
    }
    let mut buffers = 0.0;
    for buffer in &built.buffers {
        let (old, stat) = (&values[&buffer.name], &trained[&format!("stat:{}", buffer.name)]);
        let total = trained["samples"].get_f64(0);
        let new = Tensor::from_f64(DType::F64, buffer.dims.clone(), |i| {
            (1.0 - buffer.momentum) * old.get_f64(i) + buffer.momentum * stat.get_f64(i) / total
        });
        buffers += checksum(&buffer.name, &new);
    }
    near("the checksum of buffers", buffers, expected.buffers);
    assert!(built.train.inputs_of(InputRole::Key).next().is_none(), "{json}: there is no dropout");
}

#[test]
fn mlp() {
    check(
        r#"{"name": "mlp", "hidden": [5, 4]}"#,
        image([1, 3, 3]),
        TargetSpec::Class { classes: 3 },
        4,
        &Expected {
            eval: 1.1499630759440342,
            train: 1.1499630759440342,
            hits: [0.0, 4.0],
            grads: Some(0.023368030467850374),
            buffers: 0.0,
        },
    );
}

#[test]
fn realmlp() {
    let target = || TargetSpec::Class { classes: 3 };
    check_smoothed(
        r#"{"name": "realmlp", "hidden": [5, 4]}"#,
        features(6),
        target(),
        4,
        0.1,
        &Expected {
            eval: 1.1238383239553746,
            train: 1.121542755420287,
            hits: [1.0, 4.0],
            grads: Some(0.15623958390720202),
            buffers: 0.0,
        },
    );
    check(
        r#"{"name": "realmlp", "hidden": [5, 4], "activation": "mish"}"#,
        features(6),
        target(),
        4,
        &Expected {
            eval: 1.1169151559577135,
            train: 1.1169151559577135,
            hits: [1.0, 4.0],
            grads: Some(0.10832824388909318),
            buffers: 0.0,
        },
    );
}

#[test]
fn lenet() {
    check(
        r#"{"name": "lenet"}"#,
        image([1, 28, 28]),
        TargetSpec::Class { classes: 10 },
        2,
        &Expected {
            eval: 2.290518343167916,
            train: 2.290518343167916,
            hits: [0.0, 1.0],
            grads: Some(-0.2603515095973478),
            buffers: 0.0,
        },
    );
}

#[test]
fn gpt() {
    check(
        r#"{"name": "gpt", "width": 8, "heads": 2, "layers": 2}"#,
        tokens(5),
        TargetSpec::Tokens { vocab: 7, context: 5 },
        3,
        &Expected {
            eval: 2.249115660615501,
            train: 2.249115660615501,
            hits: [0.6, 2.6],
            grads: Some(-0.8967506410433951),
            buffers: 0.0,
        },
    );
}

#[test]
fn layers() {
    check(
        r#"{"layers": [{"conv": 4, "kernel": 3, "stride": 2, "padding": "same", "bias": false}, {"batch_norm": true},
            {"activation": "relu"}, {"avg_pool": 2, "padding": 1}, {"flatten": true}, {"layer_norm": true},
            {"dense": 6, "activation": "gelu"}, {"dense": 6, "activation": "softmax"}]}"#,
        image([2, 5, 5]),
        TargetSpec::Class { classes: 6 },
        3,
        &Expected {
            eval: 1.7010762582986316,
            train: 1.7050706708996841,
            hits: [1.0, 3.0],
            grads: Some(-0.7939866432337571),
            buffers: 3.4949751975567507,
        },
    );
}

/// Without gradients: with eleven million parameters the interpreter takes its time.
#[test]
fn resnet18() {
    check(
        r#"{"name": "resnet18", "stem": "small"}"#,
        image([3, 4, 4]),
        TargetSpec::Class { classes: 10 },
        2,
        &Expected {
            eval: 6.150722273473849,
            train: 4.009156271731237,
            hits: [0.0, 1.0],
            grads: None,
            buffers: 11.982982496906299,
        },
    );
}
