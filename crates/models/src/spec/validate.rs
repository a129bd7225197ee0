//! From the `[model]` section as written to a [`Model`] without contradictions. Everything wrong is collected.

use std::num::NonZeroU32;

use outgrow_ir::{Diagnostic, Diagnostics};

use super::{
    Architecture, ArchitectureSpec, ConvSpec, Extent, Head, Layer, LayerActivation, LayerSpec, Model,
    ModelSpec, NamedSpec, Output, PaddingRule, PaddingSpec, ResNetDepth,
};

/// Residual blocks within residual blocks: a bound on the recursion over outside input.
const MAX_NESTING: usize = 8;
/// A bound on the layers of a list, blocks included, and on hidden layers: networks that train have some hundred, and
/// each takes memory and time before anything is trained.
const MAX_LAYERS: usize = 10_000;
/// A bound on the blocks of a transformer, each of which is some twenty layers.
const MAX_BLOCKS: usize = 1_000;

pub(super) fn model(spec: &ModelSpec) -> Result<Model, Diagnostics> {
    let mut found = Diagnostics::default();
    let mut output = Output::Linear;
    let architecture = match &spec.architecture {
        ArchitectureSpec::Named(named) => self::named(named, &mut found),
        ArchitectureSpec::Layers(list) => {
            let mut reader = LayerReader { found: &mut found, seen: 0 };
            let (layers, last) = reader.top(&list.layers);
            output = last;
            Architecture::Layers(layers)
        }
    };
    if spec.weights.as_deref() == Some("") {
        found.push(
            Diagnostic::new("manifest.model.weights", "`weights` names no file")
                .item("model.weights")
                .hint("leave the key out to start from fresh weights"),
        );
    }
    let learned = spec.weights.is_some() || matches!(architecture, Architecture::Onnx(_));
    if spec.head == Head::New && !learned {
        found.push(
            Diagnostic::new(
                "manifest.model.head",
                "all layers are new: the model does not start from weights",
            )
            .item("model.head")
            .expected("`weights` in `[model]`, or a model from an ONNX file")
            .hint("leave `head` out, or name the weights to start from"),
        );
    }
    let (weights, freeze) = (spec.weights.clone(), spec.freeze.clone().unwrap_or_default());
    found.into_result(Model { architecture, output, weights, head: spec.head, freeze, init: spec.init })
}

fn named(spec: &NamedSpec, found: &mut Diagnostics) -> Architecture {
    let resnet = |depth, options: &super::ResNetSpec| Architecture::ResNet { depth, stem: options.stem };
    match spec {
        NamedSpec::Linear(_) => Architecture::Linear,
        NamedSpec::Logistic(_) => Architecture::Logistic,
        NamedSpec::Mlp(o) => Architecture::Mlp {
            hidden: hidden(&o.hidden, found),
            activation: o.activation,
            dropout: o.dropout.get(),
        },
        NamedSpec::RealMlp(o) => {
            Architecture::RealMlp { hidden: hidden(&o.hidden, found), activation: o.activation }
        }
        NamedSpec::LeNet(o) => Architecture::LeNet { activation: o.activation },
        NamedSpec::ResNet18(o) => resnet(ResNetDepth::R18, o),
        NamedSpec::ResNet34(o) => resnet(ResNetDepth::R34, o),
        NamedSpec::ResNet50(o) => resnet(ResNetDepth::R50, o),
        NamedSpec::Gpt(o) => {
            let (width, heads) = (size(o.width), size(o.heads));
            if !width.is_multiple_of(heads) {
                let mut divisors: Vec<_> =
                    (1..=width.min(256)).filter(|h| width.is_multiple_of(*h)).collect();
                divisors.sort_by_key(|h| h.abs_diff(heads));
                divisors.truncate(4);
                divisors.sort_unstable();
                found.push(
                    Diagnostic::new(
                        "manifest.model.heads",
                        format!("a width of {width} cannot be shared by {heads} heads"),
                    )
                    .item("model.heads")
                    .expected("a number of heads that divides `width`")
                    .hint(format!("with this width, {} would do", list(&divisors))),
                );
            }
            let layers = size(o.layers);
            bounded(layers, MAX_BLOCKS, "blocks", "model.layers", found);
            Architecture::Gpt { layers: layers.min(MAX_BLOCKS), heads, width, dropout: o.dropout.get() }
        }
        NamedSpec::Onnx(o) => Architecture::Onnx(o.clone()),
        NamedSpec::WideDeep(o) => Architecture::WideDeep {
            hidden: hidden(&o.hidden, found),
            embedding: size(o.embedding),
            activation: o.activation,
            dropout: o.dropout.get(),
        },
    }
}

struct LayerReader<'a> {
    found: &'a mut Diagnostics,
    seen: usize,
}

impl LayerReader<'_> {
    /// The whole list: the last layer's activation becomes the output's.
    fn top(&mut self, specs: &[LayerSpec]) -> (Vec<Layer>, Output) {
        let mut specs = specs.to_vec();
        let mut output = Output::Linear;
        if let Some(last) = specs.last_mut() {
            let activation = match last {
                LayerSpec::Dense(dense) => dense.activation,
                LayerSpec::Activation(layer) => Some(layer.activation),
                _ => None,
            };
            output = match activation {
                Some(LayerActivation::Softmax) => Output::Softmax,
                Some(LayerActivation::Sigmoid) => Output::Sigmoid,
                _ => Output::Linear,
            };
            if output != Output::Linear {
                match last {
                    LayerSpec::Dense(dense) => dense.activation = None,
                    _ => drop(specs.pop()),
                }
            }
        }
        (self.list("model.layers", &specs, 0), output)
    }

    fn list(&mut self, path: &str, specs: &[LayerSpec], depth: usize) -> Vec<Layer> {
        if depth > MAX_NESTING {
            self.found.push(
                Diagnostic::new("manifest.model.nesting", "residual blocks are nested too deeply")
                    .item(path)
                    .expected(format!("at most {MAX_NESTING} blocks within each other")),
            );
            return Vec::new();
        }
        self.seen += specs.len();
        if self.seen > MAX_LAYERS {
            bounded(self.seen, MAX_LAYERS, "layers", path, self.found);
            return Vec::new();
        }
        specs
            .iter()
            .enumerate()
            .filter_map(|(i, spec)| self.layer(&format!("{path}[{i}]"), spec, depth))
            .collect()
    }

    fn layer(&mut self, path: &str, spec: &LayerSpec, depth: usize) -> Option<Layer> {
        Some(match spec {
            LayerSpec::Dense(s) => Layer::Dense {
                units: size(s.dense),
                bias: s.bias,
                activation: s.activation.and_then(|a| self.elementwise(path, a)),
            },
            LayerSpec::Conv(s) => self.conv(path, s),
            LayerSpec::MaxPool(s) => {
                let (kernel, stride, padding) = self.pool(path, s.max_pool, s.stride, s.padding);
                Layer::MaxPool { kernel, stride, padding }
            }
            LayerSpec::AvgPool(s) => {
                let (kernel, stride, padding) = self.pool(path, s.avg_pool, s.stride, s.padding);
                Layer::AvgPool { kernel, stride, padding }
            }
            LayerSpec::GlobalAvgPool(_) => Layer::GlobalAvgPool,
            LayerSpec::Flatten(_) => Layer::Flatten,
            LayerSpec::Dropout(s) => Layer::Dropout { probability: s.dropout.get() },
            LayerSpec::BatchNorm(s) => Layer::BatchNorm { momentum: s.momentum.get(), eps: s.eps.get() },
            LayerSpec::LayerNorm(s) => Layer::LayerNorm { eps: s.eps.get() },
            LayerSpec::Activation(s) => Layer::Activation(self.elementwise(path, s.activation)?),
            LayerSpec::Residual(s) => {
                if s.residual.is_empty() {
                    self.found.push(
                        Diagnostic::new("manifest.model.residual", "a residual block has no layers")
                            .item(format!("{path}.residual"))
                            .expected("a list of at least one layer"),
                    );
                }
                Layer::Residual {
                    layers: self.list(&format!("{path}.residual"), &s.residual, depth + 1),
                    shortcut: self.list(&format!("{path}.shortcut"), &s.shortcut, depth + 1),
                }
            }
            LayerSpec::Embedding(s) => Layer::Embedding { width: size(s.embedding) },
        })
    }

    fn elementwise(&mut self, path: &str, activation: LayerActivation) -> Option<super::Activation> {
        let elementwise = activation.elementwise();
        if elementwise.is_none() {
            self.found.push(
                Diagnostic::new("manifest.model.softmax", "softmax stands before the end of the model")
                    .item(format!("{path}.activation"))
                    .expected("softmax only on the last layer, where it means cross-entropy from the logits")
                    .hint("use another activation here, such as \"relu\""),
            );
        }
        elementwise
    }

    fn conv(&mut self, path: &str, spec: &ConvSpec) -> Layer {
        let (channels, groups) = (size(spec.conv), size(spec.groups));
        if !channels.is_multiple_of(groups) {
            self.found.push(
                Diagnostic::new(
                    "manifest.model.groups",
                    format!("{channels} channels cannot be cut into {groups} groups"),
                )
                .item(format!("{path}.groups"))
                .expected("a number of groups that divides the number of channels"),
            );
        }
        let (kernel, dilation) = (spec.kernel.get(), spec.dilation.get());
        let padding = match spec.padding {
            PaddingSpec::Rule(PaddingRule::Valid) => [0, 0],
            PaddingSpec::Square(padding) => [padding as usize; 2],
            PaddingSpec::Each(padding) => padding.map(|p| p as usize),
            PaddingSpec::Rule(PaddingRule::Same) => {
                let reach = [0, 1].map(|i| dilation[i].saturating_mul(kernel[i] - 1));
                if reach.iter().any(|reach| reach % 2 == 1) {
                    self.found.push(
                        Diagnostic::new(
                            "manifest.model.padding",
                            "an even window has no middle to pad around",
                        )
                        .item(format!("{path}.padding"))
                        .expected("an odd `kernel` with `padding = \"same\"`")
                        .hint("give the padding as a number"),
                    );
                }
                reach.map(|reach| reach / 2)
            }
        };
        Layer::Conv {
            channels,
            kernel,
            stride: spec.stride.get(),
            padding,
            dilation,
            groups,
            bias: spec.bias,
            activation: spec.activation.and_then(|a| self.elementwise(path, a)),
        }
    }

    fn pool(
        &mut self,
        path: &str,
        kernel: Extent,
        stride: Option<Extent>,
        padding: u32,
    ) -> ([usize; 2], [usize; 2], [usize; 2]) {
        let (kernel, padding) = (kernel.get(), padding as usize);
        if kernel.iter().any(|k| padding > k / 2) {
            self.found.push(
                Diagnostic::new("manifest.model.padding", "windows would lie outside the input altogether")
                    .item(format!("{path}.padding"))
                    .expected(format!("at most half the window: {}", kernel[0].min(kernel[1]) / 2)),
            );
        }
        (kernel, stride.map_or(kernel, Extent::get), [padding; 2])
    }
}

fn size(number: NonZeroU32) -> usize {
    number.get() as usize
}

/// The widths of hidden layers, unless there are absurdly many.
fn hidden(numbers: &[NonZeroU32], found: &mut Diagnostics) -> Vec<usize> {
    bounded(numbers.len(), MAX_LAYERS, "hidden layers", "model.hidden", found);
    numbers.iter().take(MAX_LAYERS).map(|n| size(*n)).collect()
}

/// Notes a model of absurdly many parts: each costs memory and time before the first step.
fn bounded(count: usize, most: usize, what: &str, item: &str, found: &mut Diagnostics) {
    if count > most {
        found.push(
            Diagnostic::new("manifest.model.layers", format!("the model has {count} {what}"))
                .item(item)
                .expected(format!("at most {most} {what}"))
                .hint("networks that train well have tens or hundreds; make the layers wider instead"),
        );
    }
}

fn list(numbers: &[usize]) -> String {
    let words: Vec<_> = numbers.iter().map(usize::to_string).collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Activation, LayerListSpec};
    use super::*;

    fn check(json: &str) -> Result<Model, Vec<String>> {
        let spec: ModelSpec = serde_json::from_str(json).expect("the section reads");
        let again: ModelSpec = serde_json::from_value(serde_json::to_value(&spec).unwrap()).unwrap();
        assert_eq!(spec, again, "what is written reads back");
        spec.validate().map_err(|found| {
            found
                .0
                .iter()
                .map(|d| format!("{} {}", d.code, d.place.item.clone().unwrap_or_default()))
                .collect()
        })
    }

    #[test]
    fn layers_become_numbers() {
        let model = check(
            r#"{"layers": [{"conv": 8, "kernel": [3, 5], "padding": "same", "activation": "relu"}, {"max_pool": 2},
                {"residual": [{"batch_norm": true}]}, {"flatten": true}, {"dense": 10, "activation": "softmax"}]}"#,
        )
        .unwrap();
        assert_eq!(model.output, Output::Softmax);
        let Architecture::Layers(layers) = model.architecture else { panic!("layers expected") };
        assert_eq!(
            layers[0],
            Layer::Conv {
                channels: 8,
                kernel: [3, 5],
                stride: [1, 1],
                padding: [1, 2],
                dilation: [1, 1],
                groups: 1,
                bias: true,
                activation: Some(Activation::Relu),
            }
        );
        assert_eq!(layers[1], Layer::MaxPool { kernel: [2, 2], stride: [2, 2], padding: [0, 0] });
        assert_eq!(layers[4], Layer::Dense { units: 10, bias: true, activation: None });
    }

    #[test]
    fn a_lone_final_activation_is_taken_off() {
        let model =
            check(r#"{"layers": [{"dense": 1}, {"activation": "sigmoid"}], "init": "zeros"}"#).unwrap();
        assert_eq!(model.output, Output::Sigmoid);
        let dense = Layer::Dense { units: 1, bias: true, activation: None };
        assert_eq!(model.architecture, Architecture::Layers(vec![dense]));
    }

    #[test]
    fn named_architectures_take_their_options() {
        for (json, expect) in [
            (r#"{"name": "logistic"}"#, Architecture::Logistic),
            (
                r#"{"name": "mlp", "hidden": [512, 512]}"#,
                Architecture::Mlp { hidden: vec![512, 512], activation: Activation::Relu, dropout: 0.0 },
            ),
            (r#"{"name": "realmlp"}"#, Architecture::RealMlp { hidden: vec![256; 3], activation: None }),
            (
                r#"{"name": "resnet18", "stem": "small"}"#,
                Architecture::ResNet { depth: ResNetDepth::R18, stem: super::super::Stem::Small },
            ),
            (
                r#"{"name": "gpt", "layers": 2, "heads": 2, "width": 64, "init": {"normal": 0.02}}"#,
                Architecture::Gpt { layers: 2, heads: 2, width: 64, dropout: 0.0 },
            ),
        ] {
            assert_eq!(check(json).unwrap().architecture, expect, "{json}");
        }
    }

    #[test]
    fn contradictions_are_named() {
        for (json, expect) in [
            (r#"{"name": "gpt", "heads": 3, "width": 64}"#, "manifest.model.heads model.heads"),
            (
                r#"{"layers": [{"dense": 4, "activation": "softmax"}, {"dense": 4}]}"#,
                "manifest.model.softmax model.layers[0].activation",
            ),
            (
                r#"{"layers": [{"conv": 4, "kernel": 2, "padding": "same"}]}"#,
                "manifest.model.padding model.layers[0].padding",
            ),
            (
                r#"{"layers": [{"residual": [{"conv": 4, "kernel": 3, "groups": 3}]}]}"#,
                "manifest.model.groups model.layers[0].residual[0].groups",
            ),
            (
                r#"{"layers": [{"max_pool": 2, "padding": 2}]}"#,
                "manifest.model.padding model.layers[0].padding",
            ),
            (r#"{"layers": [{"residual": []}]}"#, "manifest.model.residual model.layers[0].residual"),
            (r#"{"name": "linear", "weights": ""}"#, "manifest.model.weights model.weights"),
        ] {
            assert_eq!(check(json).unwrap_err(), [expect], "{json}");
        }
    }

    #[test]
    fn layers_are_bounded() {
        let list = |one: &str, count: usize| vec![one; count].join(",");
        let hidden = |name: &str, count| format!(r#"{{"name": "{name}", "hidden": [{}]}}"#, list("4", count));
        let layers = |count| format!(r#"{{"layers": [{}]}}"#, list(r#"{"dense": 4}"#, count));
        let gpt = |count: usize| format!(r#"{{"name": "gpt", "layers": {count}}}"#);
        for json in [hidden("mlp", MAX_LAYERS), layers(MAX_LAYERS), gpt(MAX_BLOCKS)] {
            assert!(check(&json).is_ok());
        }
        for (json, item) in [
            (hidden("mlp", MAX_LAYERS + 1), "model.hidden"),
            (hidden("wide-deep", MAX_LAYERS + 1), "model.hidden"),
            (layers(MAX_LAYERS + 1), "model.layers"),
            (gpt(MAX_BLOCKS + 1), "model.layers"),
            (gpt(u32::MAX as usize), "model.layers"),
        ] {
            assert_eq!(check(&json).unwrap_err(), [format!("manifest.model.layers {item}")]);
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let mut layer = LayerSpec::Flatten(super::super::FlattenSpec { flatten: super::super::number::True });
        for _ in 0..20 {
            layer =
                LayerSpec::Residual(super::super::ResidualSpec { residual: vec![layer], shortcut: vec![] });
        }
        let spec = ModelSpec {
            architecture: ArchitectureSpec::Layers(LayerListSpec { layers: vec![layer] }),
            head: Head::Keep,
            freeze: None,
            weights: None,
            init: super::super::InitSpec::default(),
        };
        assert_eq!(spec.validate().unwrap_err().0[0].code, "manifest.model.nesting");
    }
}
