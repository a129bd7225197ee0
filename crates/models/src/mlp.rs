//! `mlp`: fully connected layers with an activation between them.

use crate::net::Net;
use crate::spec::Activation;
use outgrow_ir::{Diagnostics, Value};

/// The names are those of `nn.Sequential(Flatten, Linear, ReLU, …, Linear)`: `1.weight`, `3.weight`, …; a dropout layer
/// after each activation takes a number too.
pub(crate) fn build(
    net: &mut Net,
    hidden: &[usize],
    activation: Activation,
    dropout: f64,
) -> Result<Value, Diagnostics> {
    let x = net.numbers("mlp")?;
    let mut x = net.flatten(x);
    let mut index = 1;
    for units in hidden {
        x = net.dense(&index.to_string(), x, *units, true);
        x = net.scoped(&(index + 1).to_string(), |net| net.activation(activation, x));
        index += 2;
        if dropout > 0.0 {
            x = net.scoped(&index.to_string(), |net| net.dropout(x, dropout));
            index += 1;
        }
    }
    let outputs = net.outputs();
    Ok(net.dense(&index.to_string(), x, outputs, true))
}
