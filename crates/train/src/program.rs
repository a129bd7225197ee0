//! The programs of a step: gradients of one micro-shard, the update, and evaluation, each compiled from a graph and
//! fed from flat vectors and batches.

use crate::flat::{Entry, Layout};
use crate::memory::output_layout;
use crate::vector::DeviceVector;
use outgrow_ir::{Diagnostic, Diagnostics, Graph, InputKind, Op, Value};
use outgrow_models::BuiltModel;
use outgrow_runtime::{
    Argument, Backend, Bindings, Buffer, CompileOptions, Compiled, Instance, Place, compile,
};
use outgrow_tensor::{DType, Tensor};
use outgrow_transform::Batch;
use smallvec::{SmallVec, smallvec};
use std::ops::Range;

/// Where an input of a program comes from that is given anew to each run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Feed {
    /// Input of this number of the batch.
    Input(usize),
    Target,
    Weight,
    Scale,
    Key,
}

/// What a program is run on.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// The batch.
    pub batch: &'a Batch,
    /// Its rows that are to be worked on.
    pub rows: (usize, usize),
    /// One over the total weight of the whole batch.
    pub scale: f32,
    /// The random key of this micro-shard.
    pub key: i64,
}

/// A program over a model's parameters, buffers and rows of a batch.
#[derive(Debug)]
pub struct ModelProgram {
    /// The compiled program.
    pub compiled: Compiled,
    instance: Box<dyn Instance>,
    feeds: Vec<Feed>,
    /// The outputs side by side.
    pub outputs: Layout,
}

/// The arguments of a run: few, however many tensors a model has.
type Arguments<'a> = SmallVec<[Argument<'a>; 12]>;

/// The buffers of a [`ModelProgram`]: parameters, running statistics, then each feed, then the outputs.
const PARAMS: usize = 0;
const BUFFERS: usize = 1;

/// The elements of rows `rows` of a tensor, as bytes.
fn rows(tensor: &Tensor, rows: Range<usize>) -> &[u8] {
    let width = tensor.shape().dims().iter().skip(1).product::<usize>() * tensor.dtype().bytes();
    &tensor.as_bytes()[rows.start * width..rows.end * width]
}

/// The flat layouts of a model's parameters and buffers, which [`only_f32`] has found to be of f32.
pub fn layouts(model: &BuiltModel) -> (Layout, Layout) {
    let params = model.params.iter().map(|p| (p.name.as_str(), p.dims.as_slice()));
    let buffers = model.buffers.iter().map(|b| (b.name.as_str(), b.dims.as_slice()));
    (Layout::new(DType::F32, params), Layout::new(DType::F32, buffers))
}

/// Refuses a graph with weights or wanted outputs of another type than f32, which is what flat vectors are of that are
/// trained, evaluated and summed.
fn only_f32(graph: &Graph) -> Result<(), Diagnostics> {
    let weight = |value: &Value| match &graph.node(*value).op {
        Op::Input(input) if input.kind != InputKind::Feed => Some((input.name.clone(), input.dtype)),
        _ => None,
    };
    let weights = graph.inputs.iter().filter_map(weight);
    let outputs = graph.outputs.iter().map(|(name, value)| (name.clone(), graph.ty(*value).dtype));
    let others = weights.chain(outputs).filter(|(_, dtype)| *dtype != DType::F32);
    let refused = others.map(|(name, dtype)| {
        Diagnostic::new("train.type", format!("`{name}` is of {dtype}")).item("model").expected(
            "weights and outputs of f32, converted inside the model where it computes in another type",
        )
    });
    Diagnostics(refused.collect()).into_result(())
}

impl ModelProgram {
    /// Compiles the outputs of `graph` that `wanted` accepts, for `batch` rows.
    pub fn new(
        model: &BuiltModel,
        graph: &Graph,
        wanted: impl Fn(&str) -> bool,
        batch: usize,
        backend: &dyn Backend,
        options: &CompileOptions,
    ) -> Result<Self, Diagnostics> {
        let Interface { graph, feeds, bindings, outputs } = Interface::new(model, graph, wanted, batch)?;
        let options = CompileOptions { bindings: Some(bindings), ..options.clone() };
        let compiled = compile(backend, &graph, batch, &options)?;
        let instance = backend.instance(&compiled)?;
        Ok(Self { feeds, outputs, instance, compiled })
    }

    /// Runs on some rows of a batch; the outputs come into `out`, laid out as [`ModelProgram::outputs`]. With
    /// `nanoseconds`, adds the time of each step.
    pub fn run(
        &mut self,
        params: &DeviceVector,
        buffers: &DeviceVector,
        sample: Sample<'_>,
        out: &mut dyn Buffer,
        nanoseconds: Option<&mut [u64]>,
    ) -> Result<(), Diagnostic> {
        let (scale, key) = ([sample.scale], [sample.key]);
        let range = sample.rows.0..sample.rows.1;
        let mut arguments: Arguments<'_> = smallvec![params.read(), buffers.read()];
        for feed in &self.feeds {
            arguments.push(match feed {
                Feed::Input(i) => Argument::Host(rows(&sample.batch.inputs[*i], range.clone())),
                Feed::Target => match &sample.batch.target {
                    Some(target) => Argument::Host(rows(target, range.clone())),
                    None => {
                        return Err(Diagnostic::new("train.no-labels", "the data has no labels")
                            .expected("`label` in `[data]`, and a value of it for each sample"));
                    }
                },
                Feed::Weight => Argument::host(&sample.batch.weight[range.clone()]),
                Feed::Scale => Argument::host(&scale),
                Feed::Key => Argument::host(&key),
            });
        }
        arguments.push(Argument::write(out));
        match nanoseconds {
            Some(nanoseconds) => self.instance.run_profiled(&mut arguments, nanoseconds),
            None => self.instance.run(&mut arguments),
        }
    }

    /// The output of this name in a vector laid out as [`ModelProgram::outputs`].
    pub fn output<'a>(&self, name: &str, out: &'a [f32]) -> Option<&'a [f32]> {
        let i = self.outputs.entries().iter().position(|e| e.name == name)?;
        Some(self.outputs.slice(i, out))
    }
}

/// How a graph of a model is given what it works on.
pub(crate) struct Interface {
    /// The graph, with the outputs that are wanted.
    pub graph: Graph,
    feeds: Vec<Feed>,
    /// Where its inputs and outputs lie.
    pub bindings: Bindings,
    /// The outputs side by side.
    pub outputs: Layout,
}

impl Interface {
    /// By the convention that `models` builds graphs by.
    pub fn new(
        model: &BuiltModel,
        graph: &Graph,
        wanted: impl Fn(&str) -> bool,
        batch: usize,
    ) -> Result<Self, Diagnostics> {
        let mut graph = graph.clone();
        graph.outputs.retain(|(name, _)| wanted(name));
        only_f32(&graph)?;
        let (params, buffers) = layouts(model);
        let offsets = [&params, &buffers].map(Layout::offsets);
        let mut bindings = Bindings { bytes: vec![bytes(&params), bytes(&buffers)], ..Bindings::default() };
        let (mut feeds, mut inputs) = (Vec::new(), 0);
        for value in &graph.inputs {
            let Op::Input(input) = &graph.node(*value).op else {
                return Err(fault("inputs of a graph are inputs").into());
            };
            let held = |buffer: usize| {
                let offset = offsets[buffer].get(input.name.as_str());
                let offset = *offset.ok_or_else(|| fault("a model has what its graphs take"))?;
                Ok::<_, Diagnostic>(Place { buffer, offset: 4 * offset })
            };
            let place = match input.kind {
                InputKind::Param => held(PARAMS)?,
                InputKind::Buffer => held(BUFFERS)?,
                InputKind::Feed => {
                    feeds.push(match input.name.as_str() {
                        "target" => Feed::Target,
                        "weight" => Feed::Weight,
                        "scale" => Feed::Scale,
                        "key" => Feed::Key,
                        _ => {
                            inputs += 1;
                            Feed::Input(inputs - 1)
                        }
                    });
                    let elements = input.dims.iter().map(|d| d.bind(batch)).fold(1, usize::saturating_mul);
                    bindings.buffer(elements.saturating_mul(input.dtype.bytes()))
                }
            };
            bindings.inputs.push(place);
        }
        let outputs = output_layout(&graph, batch);
        let Place { buffer, .. } = bindings.buffer(bytes(&outputs));
        let place = |entry: &Entry| Place { buffer, offset: 4 * entry.offset };
        bindings.outputs = outputs.entries().iter().map(place).collect();
        Ok(Self { graph, feeds, bindings, outputs })
    }
}

/// The length of a buffer that holds a flat vector.
pub(crate) fn bytes(layout: &Layout) -> usize {
    usize::try_from(layout.bytes()).unwrap_or(usize::MAX)
}

fn fault(invariant: &str) -> Diagnostic {
    Diagnostic::fault("train.graph", format!("invariant: {invariant}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use outgrow_ir::{Builder, TensorType};

    #[test]
    fn weights_and_outputs_of_another_type_are_refused() {
        let graph = |weight: DType, output: DType| {
            let mut b = Builder::new("m");
            let w = b.input("w", InputKind::Param, TensorType::new(weight, [2usize]));
            let _index = b.input("index", InputKind::Feed, TensorType::new(DType::I32, [2usize]));
            let y = b.cast(w, output);
            b.output("y", y);
            b.finish().unwrap()
        };
        assert!(only_f32(&graph(DType::F32, DType::F32)).is_ok());
        let told = |weight, output| only_f32(&graph(weight, output)).unwrap_err().to_string();
        assert!(told(DType::BF16, DType::F32).contains("`w` is of bf16"));
        assert!(told(DType::F32, DType::F64).contains("`y` is of f64"));
    }

    #[test]
    fn a_model_of_bf16_is_refused_by_each_of_its_weights() {
        let spec: outgrow_models::spec::ModelSpec = serde_json::from_str(r#"{"name": "linear"}"#).unwrap();
        let inputs = outgrow_models::InputSpec {
            name: "features".into(),
            dtype: DType::F32,
            dims: vec![2],
            cardinalities: vec![],
        };
        let target = outgrow_models::TargetSpec::Regression { width: 1 };
        let options = outgrow_models::BuildOptions { dtype: DType::BF16, ..Default::default() };
        let model = outgrow_models::build(&spec.validate().unwrap(), &[inputs], &target, options).unwrap();
        let found = only_f32(&model.train).unwrap_err();
        assert!(found.0.iter().all(|diagnostic| diagnostic.code == "train.type"), "{found}");
        for weight in ["fc.weight", "fc.bias"] {
            assert!(found.to_string().contains(&format!("`{weight}` is of bf16")), "{found}");
        }
    }
}
