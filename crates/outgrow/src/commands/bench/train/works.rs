//! What is timed: models that other systems are timed with, each with its batch, loss and optimiser.

use outgrow_models::{InputSpec, TargetSpec};
use outgrow_tensor::{DType, RngKey, RngStream, Tensor};
use outgrow_transform::Batch;

use crate::cli::WorkName;

/// Classes of images.
const CLASSES: usize = 10;
/// How many different tokens there are.
const VOCAB: usize = 65;
/// Tokens of a sample.
const CONTEXT: usize = 128;

/// What stands for data in a manifest that is given random samples.
const NO_DATA: &str = "data = { source = \"text\", files = [] }\n";
const MOMENTUM: &str = "steps = 1, lr = 0.01, optimizer = { name = \"momentum\", momentum = 0.9 }";
const ADAMW: &str = "steps = 1, lr = 0.001, weight_decay = 0.01, optimizer = \"adamw\"";

/// What to time.
pub enum Work {
    /// Whole epochs over the data that a manifest names.
    Epochs(&'static str),
    /// Steps of a manifest on one batch of random samples.
    Steps(String, Samples),
}

/// What random samples are.
pub enum Samples {
    /// Images of so many channels, rows and columns, of normal numbers and of classes by chance.
    Images([usize; 3]),
    /// Tokens by chance.
    Tokens,
}

/// What is behind a name.
pub fn work(name: WorkName) -> Work {
    let random = |model: &str, train: &str, batch: usize, samples| {
        let train = format!("train = {{ {train}, batch = {batch} }}\n");
        Work::Steps(format!("{NO_DATA}model = {{ {model} }}\n{train}"), samples)
    };
    let gray = Samples::Images([1, 28, 28]);
    match name {
        WorkName::Mnist => Work::Epochs(include_str!("../../../../../../examples/mnist.toml")),
        WorkName::Mlp => random("name = \"mlp\", hidden = [512, 512]", MOMENTUM, 128, gray),
        WorkName::Lenet => random("name = \"lenet\"", MOMENTUM, 128, gray),
        WorkName::Resnet18 => {
            let colour = Samples::Images([3, 32, 32]);
            random("name = \"resnet18\", stem = \"small\"", MOMENTUM, 32, colour)
        }
        WorkName::Gpt => {
            let model = "name = \"gpt\", layers = 4, heads = 4, width = 256";
            random(model, ADAMW, 16, Samples::Tokens)
        }
    }
}

impl Samples {
    /// What a model is given, and what it is to predict.
    pub fn schema(&self) -> (InputSpec, TargetSpec) {
        let input = |name: &str, dtype, dims| InputSpec {
            name: name.to_owned(),
            dtype,
            dims,
            cardinalities: Vec::new(),
        };
        match self {
            Self::Images(dims) => {
                (input("image", DType::F32, dims.to_vec()), TargetSpec::Class { classes: CLASSES })
            }
            Self::Tokens => (
                input("tokens", DType::I32, vec![CONTEXT]),
                TargetSpec::Tokens { vocab: VOCAB, context: CONTEXT },
            ),
        }
    }

    /// A batch of these samples.
    pub fn batch(&self, rows: usize) -> Batch {
        let key = RngKey::new(0);
        let mut inputs = key.fold_in_name("inputs").stream();
        let mut targets = key.fold_in_name("targets").stream();
        let token = |stream: &mut RngStream| stream.below(VOCAB as u64) as i64;
        let (input, target) = match self {
            Self::Images([channels, height, width]) => (
                Tensor::from_f64(DType::F32, [rows, *channels, *height, *width], |_| inputs.normal()),
                Tensor::from_i64(DType::I32, [rows], |_| targets.below(CLASSES as u64) as i64),
            ),
            Self::Tokens => (
                Tensor::from_i64(DType::I32, [rows, CONTEXT], |_| token(&mut inputs)),
                Tensor::from_i64(DType::I32, [rows, CONTEXT], |_| token(&mut targets)),
            ),
        };
        Batch::of_samples(vec![input], Some(target), rows)
    }
}
