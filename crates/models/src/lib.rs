//! Layer lists and named architectures as graphs. From a validated [`spec::Model`], the inputs that the data gives and
//! what is to be predicted, [`build`] makes two graphs (for training and for evaluation) with their loss and metrics,
//! and says how parameters and buffers start. Names and shapes of parameters are PyTorch's. Nothing is executed here.
//!
//! To add an architecture: one file with its layers, and one line in the list in this file.

// A diagnostic is large, but it is made once and then the program gives up: boxing it would buy nothing.
#![allow(clippy::result_large_err)]

mod build;
pub mod foreign;
mod freeze;
mod gpt;
mod init;
mod layers;
mod lenet;
mod linear;
mod logistic;
mod loss;
mod mlp;
mod net;
mod objective;
mod realmlp;
mod resnet;
pub mod spec;
mod wide_deep;

pub use build::{
    BufferSpec, BuildOptions, BuiltModel, InputSpec, Length, Mode, ParamSpec, TargetScale, TargetSpec, build,
};
pub use init::Init;
pub use loss::LossKind;

use net::Net;
use outgrow_ir::{Diagnostics, Value};
use spec::{Architecture, Model};

/// The list of architectures: the logits or predictions of each, from the inputs declared in `net`.
fn architecture(net: &mut Net, model: &Model) -> Result<Value, Diagnostics> {
    match &model.architecture {
        Architecture::Layers(layers) => layers::build(net, layers),
        Architecture::Linear => linear::build(net),
        Architecture::Logistic => logistic::build(net),
        Architecture::Mlp { hidden, activation, dropout } => mlp::build(net, hidden, *activation, *dropout),
        Architecture::LeNet { activation } => lenet::build(net, *activation),
        Architecture::ResNet { depth, stem } => resnet::build(net, *depth, *stem),
        Architecture::Gpt { layers, heads, width, dropout } => {
            gpt::build(net, &gpt::Size { layers: *layers, heads: *heads, width: *width, dropout: *dropout })
        }
        Architecture::RealMlp { hidden, activation } => realmlp::build(net, hidden, *activation),
        Architecture::Onnx(spec) => foreign::build(net, spec, model.head),
        Architecture::WideDeep { hidden, embedding, activation, dropout } => {
            wide_deep::build(net, hidden, *embedding, *activation, *dropout)
        }
    }
}
