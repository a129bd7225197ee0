//! Two-dimensional convolution (cross-correlation, as in every framework) and its gradients.
//!
//! Images are `[batch, channels, height, width]`, weights `[out, in / groups, kernel height, kernel width]`, all of
//! f32 or all of f64, and of any strides. Or what is multiplied is bf16, with sums of f32: then one operand is bf16 at
//! least, and the other one is rounded to it if it is f32.

mod across;
mod correlate;
mod depthwise;
mod depthwise_3x3;
mod grad_weight;
mod loops;
mod padded;
mod pairs;
mod patches;
mod winograd;

use crate::error::KernelError;
use crate::finish::{Finish, Finisher};
use crate::kernel::sealed::Sealed;
use crate::kernel::{Cx, Kernel, Scratch};
use crate::path::KernelPath;
use crate::view::View;
use crate::weight::Packer;
use crate::window::{Window, four};
use correlate::Correlations;
pub(crate) use correlate::WeightLayout;
use depthwise::Depthwise;
use depthwise_3x3::Depthwise3x3;
use grad_weight::GradWeight;
use outgrow_tensor::DType;
use winograd::{Winograd, WinogradGradWeight};
pub(crate) use winograd::{WinogradLayout, value_floats};

/// What the three convolutions have in common: the operands in the roles they have in the forward direction.
#[derive(Debug)]
struct Conv {
    x: View,
    weight: View,
    y: View,
    window: Window,
    groups: usize,
    /// Whether the images always come together, so that their bits may hang on how many there are.
    together: bool,
    /// What follows element by element, forwards.
    finish: Option<Finish>,
    path: KernelPath,
}

/// The operands of a convolution, in order.
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
enum Role {
    x,
    weight,
    y,
}

impl Conv {
    fn new(
        kernel: &'static str,
        x: View,
        weight: View,
        y: View,
        window: Window,
        groups: usize,
        sums: Role,
    ) -> Result<Self, KernelError> {
        let (xd, wd, yd) = (four(kernel, &x)?, four(kernel, &weight)?, four(kernel, &y)?);
        if groups == 0
            || wd[1].checked_mul(groups) != Some(xd[1])
            || wd[0] % groups != 0
            || wd[0] != yd[1]
            || xd[0] != yd[0]
        {
            let what = format!("x {x}, weights {weight} and y {y} do not fit in {groups} groups");
            return Err(KernelError::operand(kernel, what));
        }
        window.check(kernel, &x, &y, [wd[2], wd[3]])?;
        let all = [x.dtype, weight.dtype, y.dtype];
        let same = matches!(x.dtype, DType::F32 | DType::F64) && all == [x.dtype; 3];
        let narrow =
            all.iter().all(|t| matches!(t, DType::F32 | DType::BF16)) && all[sums as usize] == DType::F32;
        if !(same || narrow) {
            return Err(KernelError::dtype(
                kernel,
                format!("{weight} or {y}"),
                x.dtype,
                "f32 or f64 for all, or bf16 with sums of f32",
            ));
        }
        Ok(Self { x, weight, y, window, groups, together: false, finish: None, path: KernelPath::Portable })
    }

    fn flops(&self) -> u64 {
        let d = &self.y.dims;
        [d[0], d[1], d[2], d[3], self.weight.dims[1], self.weight.dims[2], self.weight.dims[3]]
            .iter()
            .fold(2, |flops: u64, &n| flops.saturating_mul(n as u64))
    }
}

/// A way to run a direction fast, compiled for operands and a path.
trait Algorithm: std::fmt::Debug + Send + Sync {
    /// Takes a packed copy of the weights, if they are an operand and do not change.
    ///
    /// # Errors
    /// When there is no memory for it.
    fn take_weights(&mut self, _weight: &View, _packer: &Packer<'_>) -> Result<(), KernelError> {
        Ok(())
    }

    fn scratch(&self) -> Scratch;

    /// Computes `out` from what the direction reads, which is estimated to take so long.
    fn run(&self, cx: &Cx<'_>, reads: [&View; 2], out: &View, cost_ns: usize);

    /// Does so and finishes `out`.
    fn run_finished(&self, cx: &Cx<'_>, reads: [&View; 2], out: &View, cost_ns: usize, finisher: &Finisher) {
        self.run(cx, reads, out, cost_ns);
        finisher.over(cx, out);
    }
}

/// Makes an algorithm for a direction, if it can run that (better than those that come after it).
type Make = fn(&Conv, KernelPath) -> Option<Box<dyn Algorithm>>;

impl Conv {
    /// Whether what is multiplied is bf16.
    fn is_narrow(&self) -> bool {
        [&self.x, &self.weight, &self.y].iter().any(|view| view.dtype == DType::BF16)
    }

    /// Whether everything is f32.
    fn is_f32(&self) -> bool {
        self.x.dtype == DType::F32 && !self.is_narrow()
    }

    /// Whether products can run it: f32, or bf16 on some paths, and enough result channels per group to make tiles of.
    fn is_fast(&self) -> bool {
        let outs = self.weight.dims[0] / self.groups;
        let inner = [self.weight.dims[1], self.weight.dims[2], self.weight.dims[3]];
        self.x.dtype != DType::F64
            && outs.min(self.weight.dims[1]) > 0
            && inner.iter().product::<usize>() > 0
            && (self.groups == 1 || outs.max(self.weight.dims[1]) >= 4)
    }

    /// Estimated nanoseconds by products.
    fn cost_ns(&self) -> usize {
        usize::try_from(self.flops() / 60).unwrap_or(usize::MAX)
    }
}

/// Declares one direction of convolution: its name, documentation, parameters in order, which operands it reads and
/// writes, its algorithms, the best first, and the loops that can run everything.
macro_rules! direction {
    ($(#[$doc:meta])* $name:ident, $text:literal, ($($arg:ident),*), roles $x:ident $weight:ident $y:ident,
     reads $a:ident $b:ident, writes $out:ident, algorithms $($make:path),*; loops $loops:ident) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name {
            conv: Conv,
            /// None for loops.
            algorithm: Option<Box<dyn Algorithm>>,
        }

        impl $name {
            /// Compiles it for operands in these roles.
            ///
            /// # Errors
            /// When extents or element types do not fit.
            pub fn new($($arg: View,)* window: Window, groups: usize) -> Result<Self, KernelError> {
                Ok(Self { conv: Conv::new($text, $x, $weight, $y, window, groups, Role::$out)?, algorithm: None })
            }
        }

        impl $name {
            /// Whether a path takes operands of bf16 as they are, faster than if they had been widened.
            pub fn takes_bf16(&self, path: KernelPath) -> bool {
                let all: &[Make] = &[$(|conv, path| Some(Box::new($make(conv, path)?))),*];
                self.conv.is_narrow() && all.iter().any(|make| make(&self.conv, path).is_some())
            }
        }

        impl Sealed for $name {
            fn pack(&mut self, packer: &Packer<'_>) -> Result<(), KernelError> {
                self.algorithm.as_mut().map_or(Ok(()), |it| it.take_weights(&self.conv.weight, packer))
            }
        }

        impl Kernel for $name {
            fn name(&self) -> &'static str {
                $text
            }
            fn prepare(&mut self, path: KernelPath) {
                self.conv.path = path;
                let all: &[Make] = &[$(|conv, path| Some(Box::new($make(conv, path)?))),*];
                self.algorithm = all.iter().find_map(|make| make(&self.conv, path));
            }
            fn scratch(&self) -> Scratch {
                self.algorithm.as_ref().map_or_else(Scratch::default, |it| it.scratch())
            }
            fn reads(&self) -> Vec<&View> {
                let finish = self.conv.finish.iter().flat_map(Finish::reads);
                [&self.conv.$a, &self.conv.$b].into_iter().chain(finish).collect()
            }
            fn writes(&self) -> Vec<&View> {
                vec![&self.conv.$out]
            }
            fn flops(&self) -> u64 {
                self.conv.flops()
            }
            fn run(&self, cx: &Cx<'_>) {
                let conv = &self.conv;
                let (reads, out, cost_ns) = ([&conv.$a, &conv.$b], &conv.$out, conv.cost_ns());
                let finisher = conv.finish.as_ref().map(|finish| finish.start(cx, conv.path, out));
                match (&self.algorithm, &finisher) {
                    (Some(it), Some(finisher)) => it.run_finished(cx, reads, out, cost_ns, finisher),
                    (Some(it), None) => it.run(cx, reads, out, cost_ns),
                    (None, _) => {
                        conv.$loops(cx);
                        finisher.iter().for_each(|finisher| finisher.over(cx, out));
                    }
                }
            }
        }
    };
}

direction! {
    /// `y[b, o, h, w] = sum over c, i, j of x[b, c, h * stride + i * dilation - top, ...] * weight[o, c, i, j]`.
    Conv2d, "conv2d", (x, weight, y), roles x weight y, reads x weight, writes y,
    algorithms Depthwise3x3::forward, Depthwise::forward, Winograd::forward, Correlations::forward; loops forward_loops
}
direction! {
    /// The gradient of a convolution by its input: from the gradient `y` of its result and the weights to `x`.
    Conv2dGradInput, "conv2d_grad_input", (y, weight, x), roles x weight y, reads y weight, writes x,
    algorithms Winograd::grad_input, Correlations::grad_input; loops grad_input_loops
}
direction! {
    /// The gradient of a convolution by its weights: from its input `x` and the gradient `y` of its result.
    Conv2dGradWeight, "conv2d_grad_weight", (x, y, weight), roles x weight y, reads x y, writes weight,
    algorithms WinogradGradWeight::new, GradWeight::new; loops grad_weight_loops
}

impl Conv2d {
    /// With what follows element by element; the result is row-major and of f32.
    ///
    /// # Errors
    /// When the views do not fit the result.
    pub fn finished(mut self, finish: Finish) -> Result<Self, KernelError> {
        finish.check("conv2d", &self.conv.y, 1)?;
        self.conv.finish = Some(finish);
        Ok(self)
    }
}

/// What may look at how many images there are.
macro_rules! together {
    ($($name:ident),*) => {
        $(impl $name {
            /// For images that always come together, as in training: what is fastest for all of them may be taken,
            /// although they would have other bits in a smaller batch.
            pub fn together(mut self) -> Self {
                self.conv.together = true;
                self
            }
        })*
    };
}
// The gradient of the weights is a sum over the images.
together!(Conv2d, Conv2dGradInput);
