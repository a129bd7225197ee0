//! Which loss fits which data and model, and what a model is then to predict.

use outgrow_models::TargetSpec;
use outgrow_models::spec::ModelSpec;
use outgrow_tensor::DType;
use outgrow_train::model_inputs;
use outgrow_train::spec::LossSpec;
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
    use LossSpec::{Auto, CrossEntropy, Logistic, Mse};
    for (loss, schema, expect) in [
        (Auto, classes(3), Some(TargetSpec::Class { classes: 3 })),
        (Auto, classes(2), Some(TargetSpec::Class { classes: 2 })),
        (CrossEntropy, classes(2), Some(TargetSpec::Class { classes: 2 })),
        (Logistic, classes(2), Some(TargetSpec::Binary)),
        (Logistic, classes(3), None),
        (Mse, classes(3), None),
        (Auto, numbers.clone(), Some(TargetSpec::Regression { width: 2 })),
        (Mse, numbers.clone(), Some(TargetSpec::Regression { width: 2 })),
        (CrossEntropy, numbers, None),
        (CrossEntropy, tokens.clone(), Some(TargetSpec::Tokens { vocab: 9, context: 6 })),
        (Logistic, tokens, None),
    ] {
        let found = loss.target(&mlp, &schema);
        assert_eq!(found.as_ref().err().map(|d| d.code), expect.is_none().then_some("train.loss"));
        assert_eq!(found.ok(), expect, "{loss:?}");
    }
    let logistic = model(r#"{"name": "logistic"}"#);
    assert_eq!(Auto.target(&logistic, &classes(2)), Ok(TargetSpec::Binary));
    assert!(CrossEntropy.target(&logistic, &classes(2)).is_err());
    let inputs = model_inputs(&classes(2));
    assert_eq!((inputs.len(), inputs[0].name.as_str(), &*inputs[0].dims), (1, "features", &[6][..]));
}
