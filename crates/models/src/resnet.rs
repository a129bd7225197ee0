//! `resnet18`, `resnet34`, `resnet50` (He et al. 2015), as in torchvision.

use crate::Init;
use crate::net::{Conv, Net};
use crate::spec::{Activation, ResNetDepth, Stem};
use outgrow_ir::ops::Window;
use outgrow_ir::{Diagnostics, Value};

const EPS: f64 = 1e-5;
const MOMENTUM: f64 = 0.1;
/// A bottleneck block gives four times as many channels as its inner convolutions.
const EXPANSION: usize = 4;

/// Names, shapes and initial values are torchvision's. The small stem is its `conv1` of 3×3 with stride 1 and no
/// maximum after it.
pub(crate) fn build(net: &mut Net, depth: ResNetDepth, stem: Stem) -> Result<Value, Diagnostics> {
    let (blocks, bottleneck) = match depth {
        ResNetDepth::R18 => ([2, 2, 2, 2], false),
        ResNetDepth::R34 => ([3, 4, 6, 3], false),
        ResNetDepth::R50 => ([3, 4, 6, 3], true),
    };
    stages(net, &blocks, 64, bottleneck, stem)
}

/// A ResNet with these numbers of blocks in its stages, of `width` channels in the first and twice as many in each next.
fn stages(
    net: &mut Net,
    blocks: &[usize],
    width: usize,
    bottleneck: bool,
    stem: Stem,
) -> Result<Value, Diagnostics> {
    let mut x = net.image("resnet")?;
    x = match stem {
        Stem::Imagenet => {
            x = conv_norm(net, x, "1", Conv::square(width, 7, 2, 3), true);
            net.scoped("maxpool", |net| net.b.max_pool(x, [3, 3], Window::new(2, 1)))
        }
        Stem::Small => conv_norm(net, x, "1", Conv::square(width, 3, 1, 1), true),
    };
    for (stage, count) in blocks.iter().enumerate() {
        for block in 0..*count {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            x = net.scoped(&format!("layer{}", stage + 1), |net| {
                net.scoped(&block.to_string(), |net| self::block(net, x, width << stage, stride, bottleneck))
            });
        }
    }
    x = net.scoped("avgpool", |net| net.b.global_avg_pool(x));
    let outputs = net.outputs();
    Ok(net.dense("fc", x, outputs, true))
}

/// The convolution `conv<n>` and the normalisation `bn<n>`, then ReLU if `activate`.
fn conv_norm(net: &mut Net, x: Value, n: &str, conv: Conv, activate: bool) -> Value {
    let y = named_conv_norm(net, x, [&format!("conv{n}"), &format!("bn{n}")], &conv);
    if activate { net.activation(Activation::Relu, y) } else { y }
}

fn named_conv_norm(net: &mut Net, x: Value, names: [&str; 2], conv: &Conv) -> Value {
    let fan_out = conv.channels * conv.kernel[0] * conv.kernel[1];
    let y = net.conv(names[0], x, conv, Some(Init::kaiming_normal(fan_out)));
    net.batch_norm(names[1], y, EPS, MOMENTUM)
}

/// A basic block (two 3×3 convolutions) or a bottleneck block (1×1, 3×3, 1×1) beside its shortcut, which is a 1×1
/// convolution where the shape changes.
fn block(net: &mut Net, x: Value, width: usize, stride: usize, bottleneck: bool) -> Value {
    let channels = if bottleneck { EXPANSION * width } else { width };
    let mut y = x;
    if bottleneck {
        y = conv_norm(net, y, "1", Conv::square(width, 1, 1, 0), true);
        y = conv_norm(net, y, "2", Conv::square(width, 3, stride, 1), true);
        y = conv_norm(net, y, "3", Conv::square(channels, 1, 1, 0), false);
    } else {
        y = conv_norm(net, y, "1", Conv::square(width, 3, stride, 1), true);
        y = conv_norm(net, y, "2", Conv::square(width, 3, 1, 1), false);
    }
    let shortcut = if stride != 1 || net.b.fixed_dim(x, 1) != channels {
        let conv = Conv::square(channels, 1, stride, 0);
        net.scoped("downsample", |net| named_conv_norm(net, x, ["0", "1"], &conv))
    } else {
        x
    };
    let sum = net.b.residual(y, shortcut);
    net.activation(Activation::Relu, sum)
}
