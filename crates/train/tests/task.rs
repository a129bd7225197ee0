//! Which loss fits which data and model, and what a model is then to predict.

use outgrow_models::LossKind as L;
use outgrow_models::TargetSpec;
use outgrow_models::spec::ModelSpec;
use outgrow_tensor::DType;
use outgrow_train::spec::LossSpec;
use outgrow_train::{model_inputs, target};
use outgrow_transform::{Field, OutputSchema, Target};

fn schema(target: Target) -> OutputSchema {
    let (name, dtype) = ("features".to_owned(), DType::F32);
    OutputSchema { inputs: vec![Field { name, dtype, shape: vec![6], cardinalities: vec![] }], target }
}

#[test]
fn each_target_has_its_losses() {
    let model = |text: &str| serde_json::from_str::<ModelSpec>(text).unwrap().validate().unwrap();
    let mlp = model(r#"{"name": "mlp", "hidden": [4]}"#);
    let classes = |n: usize| schema(Target::Class { names: (0..n).map(|i| i.to_string()).collect() });
    let (numbers, tokens) = (schema(Target::Regression { width: 2 }), schema(Target::Tokens { vocab: 9 }));
    let loss = |text: &str| serde_json::from_str::<LossSpec>(text).unwrap().kind();
    let [auto, cross_entropy, logistic, mse] =
        ["auto", "cross-entropy", "logistic", "mse"].map(|name| loss(&format!("\"{name}\"")));
    let (mae, huber, focal) =
        (loss("\"mae\""), loss("\"huber\""), loss(r#"{"name": "focal", "gamma": 1.5}"#));
    assert_eq!(
        [auto, mae, huber, focal],
        [None, Some(L::MeanAbsoluteError), Some(L::Huber { delta: 1.0 }), Some(L::Focal { gamma: 1.5 })]
    );
    for wrong in [
        r#"{"name": "huber", "delta": 0}"#,
        r#"{"name": "focal", "gamma": -1}"#,
        r#"{"name": "mae", "x": 1}"#,
    ] {
        assert!(serde_json::from_str::<LossSpec>(wrong).is_err(), "{wrong}");
    }
    for (loss, schema, expect) in [
        (auto, classes(3), Some(TargetSpec::Class { classes: 3 })),
        (auto, classes(2), Some(TargetSpec::Class { classes: 2 })),
        (cross_entropy, classes(2), Some(TargetSpec::Class { classes: 2 })),
        (logistic, classes(2), Some(TargetSpec::Binary)),
        (logistic, classes(3), None),
        (mse, classes(3), None),
        (auto, numbers.clone(), Some(TargetSpec::Regression { width: 2 })),
        (mse, numbers.clone(), Some(TargetSpec::Regression { width: 2 })),
        (cross_entropy, numbers, None),
        (cross_entropy, tokens.clone(), Some(TargetSpec::Tokens { vocab: 9, context: 6 })),
        (logistic, tokens.clone(), None),
        (mae, schema(Target::Regression { width: 1 }), Some(TargetSpec::Regression { width: 1 })),
        (huber, schema(Target::Regression { width: 1 }), Some(TargetSpec::Regression { width: 1 })),
        (huber, classes(3), None),
        (mae, classes(2), None),
        (focal, classes(3), Some(TargetSpec::Class { classes: 3 })),
        (focal, classes(2), Some(TargetSpec::Class { classes: 2 })),
        (focal, schema(Target::Regression { width: 1 }), None),
        (focal, tokens, None),
    ] {
        let found = target(loss, &mlp, &schema);
        assert_eq!(found.as_ref().err().map(|d| d.code), expect.is_none().then_some("train.loss"));
        assert_eq!(found.ok(), expect, "{loss:?}");
    }
    let one_logit = model(r#"{"name": "logistic"}"#);
    assert_eq!(target(auto, &one_logit, &classes(2)), Ok(TargetSpec::Binary));
    assert_eq!(target(focal, &one_logit, &classes(2)), Ok(TargetSpec::Binary));
    assert!(target(cross_entropy, &one_logit, &classes(2)).is_err());
    let inputs = model_inputs(&classes(2));
    assert_eq!((inputs.len(), inputs[0].name.as_str(), &*inputs[0].dims), (1, "features", &[6][..]));
}
