//! `realmlp`: the pre-tuned multilayer perceptron for tables of Holzmüller, Grinsztajn and Steinwart ("Better by Default",
//! 2024), in the simplified variant TD-S. What it is trained with belongs to it too: see `outgrow_train::defaults`.

use crate::net::Net;
use crate::spec::Activation;
use crate::{Init, TargetSpec};
use outgrow_ir::{Diagnostics, Value};

/// A learned factor for each feature (`0.scale`), then dense layers in the NTK parametrisation (Jacot et al. 2018):
/// weights are drawn with variance 1 whatever the width, and products are divided by √inputs. The names are those of
/// `nn.Sequential(ScalingLayer, NTPLinear, activation, …, NTPLinear)`: `1.weight`, `3.weight`, …. The last layer starts
/// as zeros. Without an activation of the manifest's it is SELU for classes and Mish for numbers.
pub(crate) fn build(
    net: &mut Net,
    hidden: &[usize],
    activation: Option<Activation>,
) -> Result<Value, Diagnostics> {
    let x = net.numbers("realmlp")?;
    let x = net.flatten(x);
    let numbers = matches!(net.target, TargetSpec::Regression { .. });
    let activation = activation.unwrap_or(if numbers { Activation::Mish } else { Activation::Selu });
    let features = net.last_dim(x);
    let mut x = net.scoped("0", |net| {
        let scale = net.param("scale", &[features], Init::ONES);
        let dims = net.b.dims(x);
        let scale = net.b.broadcast(scale, &dims, &[1]);
        net.b.mul(x, scale)
    });
    let mut index = 1;
    for units in hidden {
        x = dense(net, &index.to_string(), x, *units, Init::Normal { std: 1.0 });
        x = net.scoped(&(index + 1).to_string(), |net| net.activation(activation, x));
        index += 2;
    }
    let outputs = net.outputs();
    Ok(dense(net, &index.to_string(), x, outputs, Init::ZEROS))
}

/// `x Wᵀ / √inputs + b`, weight and bias drawn by the same rule.
fn dense(net: &mut Net, name: &str, x: Value, units: usize, init: Init) -> Value {
    let inputs = net.last_dim(x);
    net.scoped(name, |net| {
        let weight = net.weight("weight", &[units, inputs], [inputs, units], init);
        let bias = net.bias(units, init);
        let product = net.b.dense(x, weight, None);
        let product = net.b.mul_scalar(product, 1.0 / (inputs.max(1) as f64).sqrt());
        let dims = net.b.dims(product);
        let bias = net.b.broadcast(bias, &dims, &[1]);
        net.b.add(product, bias)
    })
}
