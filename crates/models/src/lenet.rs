//! `lenet`: LeNet-5 (LeCun et al. 1998) with maxima for pooling.

use crate::net::{Conv, Net};
use crate::spec::Activation;
use outgrow_ir::ops::Window;
use outgrow_ir::{Diagnostic, Diagnostics, Value};

/// Images smaller than this do not survive two convolutions and poolings.
const SIDE_MIN: usize = 12;

/// The names are those of `nn.Sequential(Conv2d(c, 6, 5, padding=2), ReLU, MaxPool2d(2), Conv2d(6, 16, 5), ReLU,
/// MaxPool2d(2), Flatten, Linear(.., 120), ReLU, Linear(120, 84), ReLU, Linear(84, out))`.
pub(crate) fn build(net: &mut Net, activation: Activation) -> Result<Value, Diagnostics> {
    let mut x = net.image("lenet")?;
    if [2, 3].into_iter().any(|axis| net.b.fixed_dim(x, axis) < SIDE_MIN) {
        let problem = format!("`lenet` is too deep for images of {}", net.b.ty(x));
        return Err(Diagnostic::new("model.inputs", problem)
            .item("model")
            .expected(format!("images of at least {SIDE_MIN} x {SIDE_MIN}"))
            .into());
    }
    for (index, conv) in [(0, Conv::square(6, 5, 1, 2)), (3, Conv::square(16, 5, 1, 0))] {
        x = net.conv(&index.to_string(), x, &Conv { bias: true, ..conv }, None);
        x = net.scoped(&(index + 1).to_string(), |net| net.activation(activation, x));
        x = net.scoped(&(index + 2).to_string(), |net| net.b.max_pool(x, [2, 2], Window::new(2, 0)));
    }
    x = net.flatten(x);
    for (index, units) in [(7, 120), (9, 84)] {
        x = net.dense(&index.to_string(), x, units, true);
        x = net.scoped(&(index + 1).to_string(), |net| net.activation(activation, x));
    }
    let outputs = net.outputs();
    Ok(net.dense("11", x, outputs, true))
}
