//! The outputs that every graph promises, against sums written by hand; what two micro-shards add up to; and the starting
//! values.

mod common;

use common::{categories, features, image, inputs, model, model_with, run, tokens, values};
use outgrow_ir::{InputRole, Sizes, Symbol};
use outgrow_models::spec::ModelSpec;
use outgrow_models::{BuildOptions, Init, LossKind, TargetScale, TargetSpec};
use outgrow_tensor::{DType, RngKey, Tensor};
use std::collections::HashMap;

fn near(got: f64, expected: f64, what: &str) {
    assert!(
        (got - expected).abs() <= 1e-12 * expected.abs().max(1.0),
        "{what} is {got}, expected {expected}"
    );
}

fn floats(t: &Tensor) -> Vec<f64> {
    (0..t.elements()).map(|i| t.get_f64(i)).collect()
}

#[test]
fn inputs_come_in_the_promised_order() {
    let json = r#"{"layers": [{"dense": 3}, {"batch_norm": true}, {"dropout": 0.5}, {"dense": 2}]}"#;
    let built = model(json, &[features(4)], &TargetSpec::Class { classes: 2 }, DType::F32);
    let of = |graph| {
        inputs(graph).into_iter().map(|(name, _, role, dtype)| (name, role, dtype)).collect::<Vec<_>>()
    };
    let expected: Vec<_> = [
        ("0.weight", InputRole::Param, DType::F32),
        ("0.bias", InputRole::Param, DType::F32),
        ("1.weight", InputRole::Param, DType::F32),
        ("1.bias", InputRole::Param, DType::F32),
        ("3.weight", InputRole::Param, DType::F32),
        ("3.bias", InputRole::Param, DType::F32),
        ("1.running_mean", InputRole::Buffer, DType::F32),
        ("1.running_var", InputRole::Buffer, DType::F32),
        ("features", InputRole::Data, DType::F32),
        ("target", InputRole::Target, DType::I32),
        ("weight", InputRole::Weight, DType::F32),
        ("scale", InputRole::Scale, DType::F32),
        ("key", InputRole::Key, DType::I64),
    ]
    .into_iter()
    .map(|(name, role, dtype)| (name.to_owned(), role, dtype))
    .collect();
    assert_eq!(of(&built.train), expected);
    assert_eq!(of(&built.eval), expected[..12]);
    let names = |graph: &outgrow_ir::Graph| graph.outputs.iter().map(|o| o.name.clone()).collect::<Vec<_>>();
    let common = ["loss", "loss_sum", "weight_sum", "correct", "correct5", "output"];
    assert_eq!(names(&built.eval), common);
    let statistics = ["samples", "stat:1.running_mean", "stat:1.running_var"];
    assert_eq!(names(&built.train), [&common[..], &statistics].concat());
    let regions: Vec<_> = built.train.regions.iter().map(|r| r.kind.as_str()).collect();
    assert!(
        ["dense", "batch_norm", "dropout", "cross_entropy"].iter().all(|k| regions.contains(k)),
        "{regions:?}"
    );
    let origins: Vec<_> = built.train.nodes.iter().map(|n| &*n.origin).collect();
    assert!(["0", "1", "2", "3", "objective"].iter().all(|o| origins.contains(o)), "{origins:?}");
}

#[test]
fn classes() {
    // One layer without bias on unit vectors: the logits are the columns of the weight.
    let json = r#"{"layers": [{"dense": 6, "bias": false, "activation": "softmax"}]}"#;
    let built = model(json, &[features(5)], &TargetSpec::Class { classes: 6 }, DType::F64);
    assert_eq!(built.loss, LossKind::CrossEntropy);
    let nan = f64::NAN;
    let logits: [[f64; 6]; 5] = [
        [0.0, 3.0, 1.0, 1.0, 2.0, -1.0],
        [5.0, 4.0, 3.0, 2.0, 1.0, 0.0],
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        [nan, 1.0, 1.0, 1.0, 1.0, 1.0],
        [9.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    ];
    let targets = [1, 5, 3, 0, 0];
    // Of equal logits the first wins, so the third is fourth of six; a NaN is last.
    let (top, top5) = ([1.0, 0.0, 0.0, 0.0, 1.0], [1.0, 0.0, 1.0, 0.0, 1.0]);
    for counted in 0..5 {
        let graph = built.eval.bind(5);
        let mut weights = vec![0.0; 5];
        weights[counted] = 0.5;
        let values = HashMap::from([
            ("0.weight".to_owned(), Tensor::from_f64(DType::F64, [6, 5], |i| logits[i % 5][i / 5])),
            ("features".into(), Tensor::from_f64(DType::F64, [5, 5], |i| f64::from(u8::from(i % 6 == 0)))),
            ("target".into(), Tensor::vector(targets.to_vec())),
            ("weight".into(), Tensor::vector(weights)),
            ("scale".into(), Tensor::scalar(0.125)),
        ]);
        // A NaN reaches every row of a product, so the rows without it are computed without it.
        let values: HashMap<_, _> = if counted == 3 {
            values
        } else {
            let clean = |t: &Tensor| {
                if t.dtype() == DType::F64 && t.elements() == 30 {
                    Tensor::from_f64(DType::F64, [6, 5], |i| {
                        if t.get_f64(i).is_nan() { 0.0 } else { t.get_f64(i) }
                    })
                } else {
                    t.clone()
                }
            };
            values.iter().map(|(name, t)| (name.clone(), clean(t))).collect()
        };
        let outputs = run(&graph, &values);
        let number = |name: &str| outputs[name].get_f64(0);
        near(number("correct"), 0.5 * top[counted], "correct");
        near(number("correct5"), 0.5 * top5[counted], "correct5");
        near(number("weight_sum"), 0.5, "weight_sum");
        if counted != 3 {
            let row = logits[counted];
            let loss = row.iter().map(|x| x.exp()).sum::<f64>().ln() - row[targets[counted] as usize];
            near(number("loss_sum"), 0.5 * loss, "loss_sum");
            near(number("loss"), 0.125 * 0.5 * loss, "loss");
            assert_eq!(floats(&outputs["output"])[6 * counted..6 * counted + 6], row);
        }
    }
}

#[test]
fn two_classes_and_numbers() {
    let built = model(
        r#"{"name": "logistic"}"#,
        &[features(2), categories(&[2, 3])],
        &TargetSpec::Binary,
        DType::F64,
    );
    assert_eq!(built.loss, LossKind::BinaryCrossEntropy);
    let graph = built.train.bind(4);
    let values = values(&built, &graph, 2, RngKey::new(8));
    let outputs = run(&graph, &values);
    let v = |name: &str, i: usize| values[name].get_f64(i);
    let (mut loss, mut correct) = (0.0, 0.0);
    for i in 0..4 {
        let category =
            |c: usize| v("categories.weight", values["categories"].get_i64(2 * i + c) as usize + 2 * c);
        let x = |j| v("features", 2 * i + j);
        let z =
            v("fc.weight", 0) * x(0) + v("fc.weight", 1) * x(1) + v("fc.bias", 0) + category(0) + category(1);
        let y = v("target", i);
        near(outputs["output"].get_f64(i), z, "the logit");
        loss += v("weight", i) * ((1.0 + z.exp()).ln() - y * z);
        correct += v("weight", i) * f64::from(u8::from((z > 0.0) == (y > 0.5)));
    }
    near(outputs["loss_sum"].get_f64(0), loss, "loss_sum");
    near(outputs["loss"].get_f64(0), 0.25 * loss, "loss");
    near(outputs["correct"].get_f64(0), correct, "correct");
    near(outputs["weight_sum"].get_f64(0), 3.0, "weight_sum");
    assert_eq!((outputs["output"].shape().dims(), outputs.contains_key("correct5")), (&[4][..], false));

    let built =
        model(r#"{"name": "linear"}"#, &[features(2)], &TargetSpec::Regression { width: 2 }, DType::F64);
    assert_eq!(built.loss, LossKind::MeanSquaredError);
    let graph = built.eval.bind(3);
    let values = common::values(&built, &graph, 2, RngKey::new(8));
    let outputs = run(&graph, &values);
    let v = |name: &str, i: usize| values[name].get_f64(i);
    let mut loss = 0.0;
    for (i, o) in (0..3).flat_map(|i| [(i, 0), (i, 1)]) {
        let w = |j| v("fc.weight", 2 * o + j) * v("features", 2 * i + j);
        let y = w(0) + w(1) + v("fc.bias", o);
        near(outputs["output"].get_f64(2 * i + o), y, "the prediction");
        loss += v("weight", i) * (y - v("target", 2 * i + o)).powi(2) / 2.0;
    }
    near(outputs["loss_sum"].get_f64(0), loss, "loss_sum");
}

/// Losses that are asked for, in training and in evaluation: of numbers as they are and scaled, of classes with a logit
/// each and of two with one.
#[test]
fn each_loss_is_its_formula() {
    let focal = |p: f64, gamma: f64| -(1.0 - p).powf(gamma) * p.ln();
    let huber = |d: f64| if d.abs() <= 0.3 { d * d / 2.0 } else { 0.3 * (d.abs() - 0.15) };
    let scales = [TargetScale { mean: 0.5, deviation: 0.25 }, TargetScale { mean: -1.0, deviation: 3.0 }];
    let (regression, classes) = (TargetSpec::Regression { width: 2 }, TargetSpec::Class { classes: 3 });
    let (linear, logistic) = (r#"{"name": "linear"}"#, r#"{"name": "logistic"}"#);
    let (mae, by_huber) = (LossKind::MeanAbsoluteError, LossKind::Huber { delta: 0.3 });
    let by_focal = LossKind::Focal { gamma: 1.5 };
    for (json, target, loss, scales) in [
        (linear, &regression, mae, &[][..]),
        (linear, &regression, mae, &scales[..]),
        (linear, &regression, by_huber, &[]),
        (linear, &regression, by_huber, &scales),
        (linear, &classes, by_focal, &[]),
        (logistic, &TargetSpec::Binary, by_focal, &[]),
    ] {
        let options = BuildOptions { dtype: DType::F64, scales, loss: Some(loss), ..BuildOptions::default() };
        let built = model_with(json, &[features(2)], target, options).unwrap();
        assert_eq!(built.loss, loss);
        for graph in [&built.train, &built.eval] {
            let graph = graph.bind(4);
            let values = values(&built, &graph, 2, RngKey::new(8));
            let outputs = run(&graph, &values);
            let (output, goal) = (floats(&outputs["output"]), floats(&values["target"]));
            let each = |i: usize| match target {
                TargetSpec::Regression { width } => {
                    let of = |o: usize| {
                        let by = scales.get(o).map_or(1.0, |scale| scale.deviation);
                        let d = (output[width * i + o] - goal[width * i + o]) / by;
                        if loss == mae { d.abs() } else { huber(d) }
                    };
                    (0..*width).map(of).sum::<f64>() / *width as f64
                }
                TargetSpec::Binary => {
                    let p = 1.0 / (1.0 + (-output[i]).exp());
                    focal(if goal[i] > 0.5 { p } else { 1.0 - p }, 1.5)
                }
                _ => {
                    let row = &output[3 * i..3 * i + 3];
                    let all: f64 = row.iter().map(|x| x.exp()).sum();
                    focal(row[goal[i] as usize].exp() / all, 1.5)
                }
            };
            let sum = (0..4).map(|i| values["weight"].get_f64(i) * each(i)).sum();
            near(outputs["loss_sum"].get_f64(0), sum, &format!("{loss:?} of {target:?}"));
        }
    }
}

/// What a loss has nothing to do with is refused.
#[test]
fn losses_that_fit_nothing_are_refused() {
    let classes = TargetSpec::Class { classes: 3 };
    let focal = Some(LossKind::Focal { gamma: 2.0 });
    for (options, code) in [
        (BuildOptions { loss: focal, mixed: true, ..BuildOptions::default() }, "model.focal"),
        (BuildOptions { loss: focal, label_smoothing: 0.1, ..BuildOptions::default() }, "model.focal"),
        (BuildOptions { loss: Some(LossKind::MeanSquaredError), ..BuildOptions::default() }, "model.loss"),
    ] {
        let found = model_with(r#"{"name": "linear"}"#, &[features(2)], &classes, options).unwrap_err();
        assert_eq!(found.0[0].code, code, "{found}");
    }
}

/// The sums of two micro-shards are those of the whole batch, for statistics too when they are those of equal shards.
#[test]
fn micro_shards_add_up() {
    let json = r#"{"layers": [{"batch_norm": true}, {"dense": 3}]}"#;
    let built = model(json, &[features(2)], &TargetSpec::Class { classes: 3 }, DType::F64);
    let whole = values(&built, &built.train.bind(6), 3, RngKey::new(4));
    let part = |from: usize, to: usize| {
        let cut = |name: &String, t: &Tensor| {
            let feed = ["features", "target", "weight"].contains(&name.as_str());
            let width = t.elements() / t.shape().dims().first().copied().unwrap_or(1).max(1);
            let mut dims = t.shape().dims().to_vec();
            if !feed {
                return t.clone();
            }
            dims[0] = to - from;
            Tensor::from_f64(t.dtype(), dims, |i| t.get_f64(from * width + i))
        };
        let values = whole.iter().map(|(name, t)| (name.clone(), cut(name, t))).collect();
        run(&built.eval.bind(to - from), &values)
    };
    let (all, first, second) = (part(0, 6), part(0, 2), part(2, 6));
    for name in ["loss", "loss_sum", "weight_sum", "correct", "correct5"] {
        near(first[name].get_f64(0) + second[name].get_f64(0), all[name].get_f64(0), name);
    }
    let trained = run(&built.train.bind(6), &whole);
    // Statistics are of the samples, whatever these weigh in the loss.
    let counts = |i: usize| f64::from(whole["weight"].get_f64(i) > 0.0);
    let weighed = |i: usize, c: usize| counts(i) * whole["features"].get_f64(2 * i + c);
    for c in 0..2 {
        let sum: f64 = (0..6).map(|i| weighed(i, c)).sum();
        near(trained["stat:0.running_mean"].get_f64(c), sum, "the sum of means");
    }
}

#[test]
fn weights_start_as_the_manifest_says() {
    let inits = |json: &str, input, target: TargetSpec| {
        let built = model(json, &[input], &target, DType::F32);
        built.params.into_iter().map(|p| (p.name, p.init)).collect::<HashMap<_, _>>()
    };
    let ten = TargetSpec::Class { classes: 10 };
    let lenet = inits(r#"{"name": "lenet"}"#, image([1, 28, 28]), ten.clone());
    assert_eq!(lenet["3.weight"], Init::Uniform { bound: (1.0 / 150f64).sqrt() });
    assert_eq!(lenet["11.bias"], Init::Uniform { bound: (1.0 / 84f64).sqrt() });
    let resnet = inits(r#"{"name": "resnet18"}"#, image([3, 32, 32]), ten.clone());
    assert_eq!(resnet["conv1.weight"], Init::Normal { std: (2.0 / (64.0 * 49.0f64)).sqrt() });
    assert_eq!((resnet["bn1.weight"], resnet["bn1.bias"]), (Init::ONES, Init::ZEROS));
    assert_eq!(resnet["fc.weight"], Init::Uniform { bound: (1.0 / 512f64).sqrt() });
    let next = TargetSpec::Tokens { vocab: 5, context: 4 };
    let gpt = inits(r#"{"name": "gpt", "layers": 2}"#, tokens(4), next);
    assert_eq!(gpt["blocks.1.qkv.weight"], Init::Normal { std: 0.02 });
    assert_eq!(gpt["blocks.1.down.weight"], Init::Normal { std: 0.01 });
    assert_eq!(gpt["blocks.1.qkv.bias"], Init::ZEROS);
    for (rule, expected) in [
        (r#""zeros""#, Init::ZEROS),
        (r#""xavier-uniform""#, Init::Uniform { bound: (6.0 / 16f64).sqrt() }),
        (r#""xavier-normal""#, Init::Normal { std: (2.0 / 16f64).sqrt() }),
        (r#""kaiming-uniform""#, Init::Uniform { bound: 1.0 }),
        (r#""kaiming-normal""#, Init::Normal { std: (2.0 / 6f64).sqrt() }),
        (r#"{"normal": 0.5}"#, Init::Normal { std: 0.5 }),
        (r#"{"uniform": 0.5}"#, Init::Uniform { bound: 0.5 }),
    ] {
        let json = format!(r#"{{"name": "linear", "init": {rule}}}"#);
        let linear = inits(&json, features(6), ten.clone());
        assert_eq!((linear["fc.weight"], linear["fc.bias"]), (expected, Init::ZEROS), "{rule}");
    }
}

#[test]
fn two_classes_take_one_logit_where_the_model_says_so() {
    for (json, one_logit) in [
        (r#"{"name": "logistic"}"#, true),
        (r#"{"name": "linear"}"#, false),
        (r#"{"name": "mlp", "hidden": [3]}"#, false),
        (r#"{"name": "wide-deep", "hidden": [3]}"#, true),
        (r#"{"layers": [{"dense": 1}]}"#, true),
        (r#"{"layers": [{"dense": 1, "activation": "sigmoid"}]}"#, true),
        (r#"{"layers": [{"dense": 2, "activation": "softmax"}]}"#, false),
    ] {
        let spec: ModelSpec = serde_json::from_str(json).unwrap();
        let model = spec.validate().unwrap();
        let of = |classes| TargetSpec::for_classes(&model, classes);
        let expected = if one_logit { TargetSpec::Binary } else { TargetSpec::Class { classes: 2 } };
        assert_eq!(of(2), expected, "{json}");
        assert_eq!(of(3), TargetSpec::Class { classes: 3 }, "{json}");
    }
}

/// Answering is evaluating without a target, of data in sequences of any length.
#[test]
fn answers_are_those_of_evaluation() {
    let gpt = r#"{"name": "gpt", "layers": 2, "heads": 2, "width": 8, "dropout": 0.2}"#;
    let sigmoid =
        r#"{"layers": [{"dense": 3}, {"batch_norm": true}, {"dense": 2, "activation": "sigmoid"}]}"#;
    for (json, input, target) in [
        (gpt, tokens(6), TargetSpec::Tokens { vocab: 7, context: 6 }),
        (sigmoid, features(4), TargetSpec::Regression { width: 2 }),
        (r#"{"name": "logistic"}"#, features(4), TargetSpec::Binary),
        (r#"{"name": "lenet"}"#, image([1, 12, 12]), TargetSpec::Class { classes: 3 }),
    ] {
        let built = model(json, std::slice::from_ref(&input), &target, DType::F64);
        let bound = built.eval.bind(3);
        let classes = target.width().max(2);
        let mut values = values(&built, &bound, classes, RngKey::new(4));
        let expected = run(&bound, &values);
        let sizes = |length| Sizes::from(3).with(Symbol::LENGTH, length);
        let given: Vec<_> = built.answer.signature().filter(|(_, i)| !i.role.is_model()).collect();
        assert_eq!(given.iter().map(|(_, i)| i.name.as_str()).collect::<Vec<_>>(), [&input.name], "{json}");
        let answers = run(&built.answer.bind(sizes(6)), &values);
        assert!(answers["output"].same_bits(&expected["output"]), "{json}");
        assert_eq!(answers.len(), 1);
        if let TargetSpec::Tokens { vocab, context } = target {
            let tokens = &values["tokens"];
            let first = |i: usize| tokens.get_i64(i / 2 * context + i % 2);
            let start = Tensor::from_i64(DType::I32, vec![3, 2], first);
            values.insert("tokens".into(), start);
            let short = &run(&built.answer.bind(sizes(2)), &values)["output"];
            for i in 0..3 * 2 * vocab {
                let (sample, rest) = (i / (2 * vocab), i % (2 * vocab));
                near(
                    short.get_f64(i),
                    expected["output"].get_f64(sample * context * vocab + rest),
                    "a prefix",
                );
            }
        }
    }
}
