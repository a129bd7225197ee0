//! `gpt`: a decoder-only transformer with normalisation before each block (Radford et al. 2019).

use crate::net::Net;
use crate::{Init, TargetSpec};
use outgrow_ir::{Diagnostic, Diagnostics, Value};
use outgrow_tensor::DType;

const EPS: f64 = 1e-5;
/// GPT-2's standard deviation of initial weights.
const STD: f64 = 0.02;

/// How large a transformer is.
pub(crate) struct Size {
    pub layers: usize,
    pub heads: usize,
    pub width: usize,
    pub dropout: f64,
}

/// Token and position embeddings, blocks of attention and a perceptron of four times the width, a last normalisation,
/// and a head without bias. Parameters are named `tok`, `pos`, `blocks.<i>.{l1, qkv, o, l2, up, down}`, `norm`, `head`.
///
/// Weights start as in GPT-2, which trains better than PyTorch's defaults: normal of deviation 0.02, divided by
/// √(2 · layers) for the two layers of each block that add to the residual stream; biases start at zero. Dropout is after
/// the embeddings and before each addition.
pub(crate) fn build(net: &mut Net, size: &Size) -> Result<Value, Diagnostics> {
    let (vocab, context) = match (&net.target, net.inputs.as_slice()) {
        (TargetSpec::Tokens { vocab, context }, [(input, _)])
            if input.dtype == DType::I32 && input.dims == [*context] =>
        {
            (*vocab, *context)
        }
        _ => {
            let problem =
                format!("`gpt` predicts the next token, but the data asks for {}", net.target.describe());
            return Err(Diagnostic::new("model.inputs", problem)
                .item("model.name")
                .expected("data with `source = \"text\"`")
                .into());
        }
    };
    let normal = Init::Normal { std: STD };
    let into_residual = Init::Normal { std: STD / (2.0 * size.layers as f64).sqrt() };
    let tokens = net.inputs[0].1;
    let mut x = net.embedding("tok", tokens, vocab, size.width, normal);
    let length = net.b.dim(tokens, 1);
    let positions = net.b.iota(DType::I32, &[length], 0);
    let positions = net.embedding("pos", positions, context, size.width, normal);
    x = net.b.add(x, positions);
    x = net.dropout(x, size.dropout);
    for i in 0..size.layers {
        x = net.scoped("blocks", |net| {
            net.scoped(&i.to_string(), |net| block(net, x, size, normal, into_residual))
        });
    }
    x = net.layer_norm("norm", x, EPS);
    Ok(net.dense_as("head", x, vocab, normal, None))
}

fn block(net: &mut Net, x: Value, size: &Size, normal: Init, into_residual: Init) -> Value {
    let (width, zeros) = (size.width, Some(Init::ZEROS));
    let y = net.layer_norm("l1", x, EPS);
    let qkv = net.dense_as("qkv", y, 3 * width, normal, zeros);
    let y = net.b.causal_self_attention(qkv, size.heads);
    let y = net.dense_as("o", y, width, into_residual, zeros);
    let y = net.dropout(y, size.dropout);
    let x = net.b.residual(x, y);
    let y = net.layer_norm("l2", x, EPS);
    let y = net.dense_as("up", y, 4 * width, normal, zeros);
    let y = net.b.gelu_tanh(y);
    let y = net.dense_as("down", y, width, into_residual, zeros);
    let y = net.dropout(y, size.dropout);
    net.b.residual(x, y)
}
