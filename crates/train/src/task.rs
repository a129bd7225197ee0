//! From what the data gives to what a model takes and is to predict, by the loss that is asked for.

use outgrow_ir::Diagnostic;
use outgrow_models::spec::Model;
use outgrow_models::{InputSpec, LossKind, TargetSpec};
use outgrow_transform::{OutputSchema, Target};

/// The inputs of a model that is fed with what a transform puts out.
pub fn model_inputs(schema: &OutputSchema) -> Vec<InputSpec> {
    let input = |field: &outgrow_transform::Field| InputSpec {
        name: field.name.clone(),
        dtype: field.dtype,
        dims: field.shape.clone(),
        cardinalities: field.cardinalities.clone(),
    };
    schema.inputs.iter().map(input).collect()
}

/// What `model` is to predict of such data so that a loss fits: two classes take one logit for the logistic loss.
///
/// # Errors
/// For a loss that fits neither data nor model.
pub fn target(
    loss: Option<LossKind>,
    model: &Model,
    schema: &OutputSchema,
) -> Result<TargetSpec, Diagnostic> {
    let target = match &schema.target {
        Target::Class { names } => match (TargetSpec::for_classes(model, names.len()), loss) {
            (TargetSpec::Class { classes: 2 }, Some(LossKind::BinaryCrossEntropy)) => TargetSpec::Binary,
            (target, _) => target,
        },
        Target::Regression { width } => TargetSpec::Regression { width: *width },
        Target::Tokens { vocab } => {
            let context = schema.inputs.first().and_then(|field| field.shape.last()).copied();
            TargetSpec::Tokens { vocab: *vocab, context: context.unwrap_or(1) }
        }
    };
    if loss.is_none_or(|loss| loss.fits(&target)) {
        return Ok(target);
    }
    let problem = format!("this loss does not fit the data and model, which give {target:?}");
    Err(Diagnostic::new("train.loss", problem)
        .item("train.loss")
        .expected(
            "mse, mae or huber for numbers; cross-entropy for classes and tokens, focal for classes; logistic for two \
             classes by one logit",
        )
        .hint("leave `train.loss` out to have the right one chosen"))
}
