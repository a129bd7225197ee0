//! What architectures are written with: a builder that also keeps the parameters and buffers, the declared inputs, and
//! the manifest's rule for initial weights.

use crate::foreign::ForeignModel;
use crate::spec::{self, Activation, InitRule};
use crate::{
    BufferSpec, BuildOptions, Init, InputSpec, Length, LossKind, Mode, ParamSpec, TargetScale, TargetSpec,
};
use outgrow_ir::nn::BatchNormStatistics;
use outgrow_ir::ops::Window;
use outgrow_ir::ops::compare::Comparison;
use outgrow_ir::{Builder, Diagnostic, Dim, InputRole, TensorType, Value};
use outgrow_tensor::{DType, Tensor};

/// Builds one graph of a model.
pub(crate) struct Net<'a> {
    pub b: Builder,
    pub mode: Mode,
    pub target: TargetSpec,
    /// The model's inputs with their values.
    pub inputs: Vec<(InputSpec, Value)>,
    /// The target's value.
    pub target_value: Value,
    /// Weights of the samples in the loss, `[B]`; 0 for padding.
    pub sample_weight: Value,
    /// 1 for samples and 0 for padding, `[B]`: statistics do not depend on weights.
    pub mask: Value,
    pub scale: Value,
    pub params: Vec<ParamSpec>,
    pub buffers: Vec<BufferSpec>,
    /// Parameters that became buffers, for they are not trained.
    pub frozen: Vec<ParamSpec>,
    /// The names of the last layer's parameters.
    pub head: Vec<String>,
    /// In training, the statistic that goes into each buffer.
    pub statistics: Vec<(String, Value)>,
    /// The scale of each number that is predicted, where the model works on scaled ones.
    pub scales: &'a [TargetScale],
    /// The model that was brought along.
    pub foreign: Option<&'a dyn ForeignModel>,
    /// How much of each class's target is shared by all classes, in training.
    pub label_smoothing: f64,
    /// What is minimised.
    pub loss: LossKind,
    dtype: DType,
    /// The type of feeds, statistics, losses and outputs: f32 where parameters are of bf16, else theirs.
    wide: DType,
    init: spec::InitSpec,
    key: Option<Value>,
    streams: usize,
}

/// The shape of a convolution.
#[derive(Clone, Debug)]
pub(crate) struct Conv {
    pub channels: usize,
    pub kernel: [usize; 2],
    pub window: Window,
    pub groups: usize,
    pub bias: bool,
}

impl Conv {
    /// A square convolution without bias and groups.
    pub fn square(channels: usize, kernel: usize, stride: usize, padding: usize) -> Self {
        let window = Window::new(stride, padding);
        Self { channels, kernel: [kernel; 2], window, groups: 1, bias: false }
    }
}

impl<'a> Net<'a> {
    /// A net with the feeds declared: the inputs, `target`, `weight` and `scale`. Parameters are of `dtype`.
    pub fn new(
        mode: Mode,
        inputs: &[InputSpec],
        target: &TargetSpec,
        init: spec::InitSpec,
        BuildOptions { dtype, mixed, foreign, scales, label_smoothing, loss }: BuildOptions<'a>,
    ) -> Self {
        let mut b = Builder::new(match mode {
            Mode::Train => "train",
            Mode::Eval => "eval",
            Mode::Answer(_) => "answer",
        });
        let any_length = mode == Mode::Answer(Length::Any) && matches!(target, TargetSpec::Tokens { .. });
        let wide = if dtype == DType::BF16 { DType::F32 } else { dtype };
        let inputs = inputs.iter().map(|input| {
            let of = if input.dtype.is_float() { wide } else { input.dtype };
            let own = input.dims.iter().map(|n| if any_length { Dim::T } else { Dim::Fixed(*n) });
            let dims = [Dim::B].into_iter().chain(own);
            (input.clone(), b.input(&input.name, InputRole::Data, TensorType::new(of, dims)))
        });
        let inputs = inputs.collect();
        let target_ty = match (mode, mixed) {
            (Mode::Train, true) => TensorType::new(wide, [Dim::B, Dim::Fixed(target.width())]),
            _ if any_length => TensorType::new(DType::I32, [Dim::B, Dim::T]),
            _ => target.feed(wide),
        };
        let target_value = b.input("target", InputRole::Target, target_ty);
        let sample_weight = b.input("weight", InputRole::Weight, TensorType::new(wide, [Dim::B]));
        let scale = b.input("scale", InputRole::Scale, TensorType::scalar(wide));
        let zero = b.scalar(0.0, wide);
        let counts = b.compare(Comparison::Gt, sample_weight, zero);
        let mask = b.cast(counts, wide);
        Self {
            b,
            mode,
            target: target.clone(),
            inputs,
            target_value,
            sample_weight,
            mask,
            scale,
            params: Vec::new(),
            buffers: Vec::new(),
            frozen: Vec::new(),
            head: Vec::new(),
            statistics: Vec::new(),
            scales,
            foreign,
            loss: loss.unwrap_or(LossKind::usual(target)),
            label_smoothing: if mode == Mode::Train { label_smoothing } else { 0.0 },
            dtype,
            wide,
            init,
            key: None,
            streams: 0,
        }
    }

    /// From here on, a manifest that leaves the choice of initial weights open means `rule`.
    pub fn default_rule(&mut self, rule: InitRule) {
        if self.init == spec::InitSpec::Rule(InitRule::Default) {
            self.init = spec::InitSpec::Rule(rule);
        }
    }

    /// Runs `build` with `name` appended to the path of the layer being built.
    pub fn scoped<T>(&mut self, name: &str, build: impl FnOnce(&mut Self) -> T) -> T {
        // `Builder::scoped` lends the builder to its closure, which needs the rest of the net as well: the builder
        // leaves the net for the call and comes back inside it.
        let mut b = std::mem::take(&mut self.b);
        let result = b.scoped(name, |b| {
            std::mem::swap(b, &mut self.b);
            let result = build(self);
            std::mem::swap(b, &mut self.b);
            result
        });
        self.b = b;
        result
    }

    /// The input of this name.
    pub fn input(&self, name: &str) -> Option<(&InputSpec, Value)> {
        self.inputs.iter().find(|(spec, _)| spec.name == name).map(|(spec, value)| (spec, *value))
    }

    /// The width of the model's output.
    pub fn outputs(&self) -> usize {
        self.target.width()
    }

    /// A parameter of the current layer.
    pub fn param(&mut self, name: &str, dims: &[usize], init: Init) -> Value {
        let value = self.b.param(name, self.dtype, dims);
        let name = self.b.path(name);
        self.params.push(ParamSpec { name, dtype: self.dtype, dims: dims.to_vec(), init });
        value
    }

    /// A weight: drawn as the manifest says, or else as `default`.
    pub fn weight(&mut self, name: &str, dims: &[usize], fans: [usize; 2], default: Init) -> Value {
        let [fan_in, fan_out] = fans;
        let init = match self.init {
            spec::InitSpec::Normal(init) => Init::Normal { std: init.normal.get() },
            spec::InitSpec::Uniform(init) => Init::Uniform { bound: init.uniform.get() },
            spec::InitSpec::Rule(rule) => match rule {
                InitRule::Default => default,
                InitRule::Zeros => Init::ZEROS,
                InitRule::XavierUniform => Init::xavier_uniform(fan_in, fan_out),
                InitRule::XavierNormal => Init::xavier_normal(fan_in, fan_out),
                InitRule::KaimingUniform => Init::kaiming_uniform(fan_in),
                InitRule::KaimingNormal => Init::kaiming_normal(fan_in),
            },
        };
        self.param(name, dims, init)
    }

    /// A bias: zero when the manifest has its own rule for the weights, else drawn as `default`.
    pub fn bias(&mut self, units: usize, default: Init) -> Value {
        let own_rule = self.init == spec::InitSpec::Rule(InitRule::Default);
        self.param("bias", &[units], if own_rule { default } else { Init::ZEROS })
    }

    /// A buffer of the current layer, with its value in evaluation.
    fn buffer(&mut self, name: &str, dims: &[usize], init: Init, momentum: f64) -> (String, Value) {
        let name = self.b.path(name);
        let ty = TensorType::new(self.wide, dims.iter().copied());
        let value = self.b.input(&name, InputRole::Buffer, ty);
        let (of, dtype, dims) = (name.clone(), self.wide, dims.to_vec());
        self.buffers.push(BufferSpec { name: of, dtype, dims, init, momentum });
        (name, value)
    }

    /// The layer `name`: `[.., in]` to `[.., units]`, initialised as in PyTorch.
    pub fn dense(&mut self, name: &str, x: Value, units: usize, bias: bool) -> Value {
        let fan_in = self.last_dim(x);
        let default = Init::torch_default(fan_in);
        self.dense_as(name, x, units, default, bias.then_some(default))
    }

    /// The layer `name` with its own defaults for weight and bias.
    pub fn dense_as(
        &mut self,
        name: &str,
        x: Value,
        units: usize,
        weight: Init,
        bias: Option<Init>,
    ) -> Value {
        let fan_in = self.last_dim(x);
        self.scoped(name, |net| {
            let weight = net.weight("weight", &[units, fan_in], [fan_in, units], weight);
            let bias = bias.map(|init| net.bias(units, init));
            net.b.dense(x, weight, bias)
        })
    }

    /// The layer `name`: a convolution of `[B, in, height, width]`; `weight` is the default for its weight, else
    /// PyTorch's.
    pub fn conv(&mut self, name: &str, x: Value, conv: &Conv, weight: Option<Init>) -> Value {
        let [height, width] = conv.kernel;
        let per_group = self.b.fixed_dim(x, 1) / conv.groups.max(1);
        let area = height.saturating_mul(width);
        let (fan_in, fan_out) = (per_group.saturating_mul(area), conv.channels.saturating_mul(area));
        let default = Init::torch_default(fan_in);
        self.scoped(name, |net| {
            let dims = [conv.channels, per_group, height, width];
            let weight = net.weight("weight", &dims, [fan_in, fan_out], weight.unwrap_or(default));
            if conv.bias {
                let bias = net.bias(conv.channels, default);
                net.b.conv2d_bias(x, weight, bias, conv.window.clone(), conv.groups)
            } else {
                net.b.conv2d(x, weight, conv.window.clone(), conv.groups)
            }
        })
    }

    /// The layer `name`: batch normalisation of `[B, channels, ..]`, with running statistics.
    pub fn batch_norm(&mut self, name: &str, x: Value, eps: f64, momentum: f64) -> Value {
        let channels = self.b.fixed_dim(x, 1);
        self.scoped(name, |net| {
            let weight = net.param("weight", &[channels], Init::ONES);
            let bias = net.param("bias", &[channels], Init::ZEROS);
            let (mean_name, mean) = net.buffer("running_mean", &[channels], Init::ZEROS, momentum);
            let (variance_name, variance) = net.buffer("running_var", &[channels], Init::ONES, momentum);
            if net.mode != Mode::Train {
                return net.b.batch_norm_eval(x, weight, bias, BatchNormStatistics { mean, variance }, eps);
            }
            let trained = net.b.batch_norm_train(x, weight, bias, net.mask, eps);
            net.statistics.push((mean_name, trained.statistics.mean));
            net.statistics.push((variance_name, trained.statistics.variance));
            trained.y
        })
    }

    /// The layer `name`: layer normalisation over the last dimension.
    pub fn layer_norm(&mut self, name: &str, x: Value, eps: f64) -> Value {
        let width = self.last_dim(x);
        self.scoped(name, |net| {
            let weight = net.param("weight", &[width], Init::ONES);
            let bias = net.param("bias", &[width], Init::ZEROS);
            net.b.layer_norm(x, weight, bias, eps)
        })
    }

    /// The layer `name`: a vector of length `width` for each of `indices`, from a table of `rows`.
    pub fn embedding(
        &mut self,
        name: &str,
        indices: Value,
        rows: usize,
        width: usize,
        default: Init,
    ) -> Value {
        self.scoped(name, |net| {
            let table = net.weight("weight", &[rows, width], [rows, width], default);
            net.b.embedding(table, indices)
        })
    }

    /// Vectors for the columns of `categories [B, columns]`: `[B, columns, width]`, from one table in which the rows of
    /// each column follow those of the column before.
    pub fn category_embedding(
        &mut self,
        name: &str,
        categories: (&InputSpec, Value),
        width: usize,
        default: impl FnOnce(usize) -> Init,
    ) -> Result<Value, Diagnostic> {
        let (spec, indices) = categories;
        let (offsets, rows) = spec.offsets()?;
        Ok(self.scoped(name, |net| {
            let dims = net.b.dims(indices);
            let offsets = net.b.constant(Tensor::from_i64(spec.dtype, [offsets.len()], |i| offsets[i]));
            let offsets = net.b.broadcast_to(offsets, &dims);
            let rows_of_columns = net.b.add(indices, offsets);
            let table = net.weight("weight", &[rows, width], [rows, width], default(rows));
            net.b.embedding(table, rows_of_columns)
        }))
    }

    /// Dropout with probability `p`: in training only, and only when p is not 0.
    pub fn dropout(&mut self, x: Value, p: f64) -> Value {
        if self.mode != Mode::Train || p == 0.0 {
            return x;
        }
        let key = self.key();
        self.streams += 1;
        self.b.dropout(x, p, key, self.streams - 1)
    }

    /// The key of random numbers.
    pub fn key(&mut self) -> Value {
        let Self { key, b, .. } = self;
        *key.get_or_insert_with(|| b.input("key", InputRole::Key, TensorType::scalar(DType::I64)))
    }

    /// An activation.
    pub fn activation(&mut self, activation: Activation, x: Value) -> Value {
        match activation {
            Activation::Relu => self.b.relu(x),
            Activation::Gelu => self.b.gelu(x),
            Activation::Silu => self.b.silu(x),
            Activation::Tanh => self.b.tanh(x),
            Activation::Sigmoid => self.b.sigmoid(x),
            Activation::Selu => self.b.selu(x),
            Activation::Mish => self.b.mish(x),
        }
    }

    /// Everything but the batch as one dimension.
    pub fn flatten(&mut self, x: Value) -> Value {
        let dims = self.b.dims(x);
        let width = dims.iter().skip(1).try_fold(1usize, |n, d| n.checked_mul(d.fixed()?));
        match width {
            Some(width) if !dims.is_empty() => self.b.reshape(x, &[dims[0], Dim::Fixed(width)]),
            _ => self.b.error("there is nothing to flatten"),
        }
    }

    /// A number input as the model's floats.
    pub fn as_float(&mut self, x: Value) -> Value {
        self.b.cast(x, self.dtype)
    }

    /// What losses and metrics are computed from, in their type.
    pub fn as_wide(&mut self, x: Value) -> Value {
        self.b.cast(x, self.wide)
    }

    /// The extent of the last dimension.
    pub fn last_dim(&mut self, x: Value) -> usize {
        let last = self.b.rank(x).saturating_sub(1);
        self.b.fixed_dim(x, last)
    }

    /// The one image or feature input that an architecture works on, as floats.
    pub fn numbers(&mut self, architecture: &str) -> Result<Value, Diagnostic> {
        let names: Vec<_> = self.inputs.iter().map(|(spec, _)| format!("`{}`", spec.name)).collect();
        let [(spec, value)] = self.inputs.as_slice() else {
            let problem =
                format!("`{architecture}` takes one input, but the data gives {}", names.join(" and "));
            return Err(Diagnostic::new("model.inputs", problem)
                .item("model")
                .expected("images, or features that are all numbers")
                .hint("encode categories with one_hot in `data.clean`, or take `name = \"wide-deep\"`"));
        };
        if matches!(spec.dtype, DType::I32 | DType::I64) {
            let problem = format!("`{architecture}` works on numbers, but `{}` holds indexes", spec.name);
            return Err(Diagnostic::new("model.inputs", problem)
                .item("model")
                .expected("images, or features that are all numbers")
                .hint("take a model with an embedding: `gpt` for text, `wide-deep` for categories"));
        }
        let value = *value;
        Ok(self.as_float(value))
    }

    /// The one input of an architecture for images: `[B, channels, height, width]`.
    pub fn image(&mut self, architecture: &str) -> Result<Value, Diagnostic> {
        let x = self.numbers(architecture)?;
        if self.b.rank(x) != 4 {
            let problem = format!("`{architecture}` works on images, but the data gives {}", self.b.ty(x));
            return Err(Diagnostic::new("model.inputs", problem)
                .item("model")
                .expected("an input of [channels, height, width]"));
        }
        Ok(x)
    }
}
