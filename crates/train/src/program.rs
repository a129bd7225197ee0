//! The programs of a step: gradients of one micro-shard, the update, and evaluation, each compiled from a graph and
//! fed from flat vectors and batches.

use crate::flat::{Entry, Layout};
use crate::vector::DeviceVector;
use outgrow_ir::{Diagnostic, Diagnostics, Graph, InputRole, OutputRole};
use outgrow_models::BuiltModel;
use outgrow_runtime::{
    Argument, Backend, Bindings, Buffer, CompileOptions, Compiled, Instance, Place, compile,
};
use outgrow_tensor::{DType, Tensor};
use outgrow_transform::Batch;
use smallvec::{SmallVec, smallvec};
use std::ops::Range;

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
    /// What is given anew to each run.
    feeds: Vec<InputRole>,
    /// What it gives.
    pub outputs: Outputs,
}

/// The outputs of a program side by side.
#[derive(Clone, Debug)]
pub struct Outputs {
    /// Where they lie.
    pub layout: Layout,
    /// What they are.
    roles: Vec<OutputRole>,
}

impl Outputs {
    /// Of a graph with static shapes, whose outputs are all of f32.
    pub(crate) fn new(graph: &Graph) -> Self {
        let dims = graph.outputs.iter().map(|output| {
            let dims = graph.ty(output.value).dims.iter().map(|d| d.unit()).collect::<Vec<_>>();
            (output.name.as_str(), dims)
        });
        let dims: Vec<_> = dims.collect();
        let layout = Layout::new(DType::F32, dims.iter().map(|(name, dims)| (*name, dims.as_slice())));
        Self { layout, roles: graph.outputs.iter().map(|output| output.role.clone()).collect() }
    }

    /// The number of the output of a role.
    pub fn find(&self, role: &OutputRole) -> Option<usize> {
        self.roles.iter().position(|own| own == role)
    }

    /// Where the output of a role begins.
    pub fn offset(&self, role: &OutputRole) -> Option<usize> {
        self.find(role).map(|i| self.layout.entries()[i].offset)
    }

    /// The bytes of them all.
    pub fn bytes(&self) -> usize {
        bytes(&self.layout)
    }
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
    let weights = graph.signature().filter(|(_, input)| input.role.is_model());
    let weights = weights.map(|(_, input)| (input.name.clone(), input.dtype));
    let outputs = graph.outputs.iter().map(|output| (output.name.clone(), graph.ty(output.value).dtype));
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
        wanted: impl Fn(&OutputRole) -> bool,
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

    /// Runs on some rows of a batch; the outputs come into `out`, laid out as [`ModelProgram::outputs`] says. With
    /// `nanoseconds`, adds the time of each step.
    pub fn run(
        &mut self,
        params: &DeviceVector,
        buffers: &DeviceVector,
        sample: Sample<'_>,
        out: &mut dyn Buffer,
        nanoseconds: Option<&mut [u64]>,
    ) -> Result<(), Diagnostic> {
        self.with_arguments(params, buffers, sample, out, |instance, arguments| match nanoseconds {
            Some(nanoseconds) => instance.run_profiled(arguments, nanoseconds),
            None => instance.run(arguments),
        })
    }

    /// Runs these steps only, of a run that is cut into parts, and waits for them.
    pub fn run_part(
        &mut self,
        params: &DeviceVector,
        buffers: &DeviceVector,
        sample: Sample<'_>,
        out: &mut dyn Buffer,
        steps: Range<usize>,
    ) -> Result<(), Diagnostic> {
        self.with_arguments(params, buffers, sample, out, |instance, arguments| {
            instance.submit_part(arguments, steps)?;
            instance.wait()
        })
    }

    /// After how many of the program's steps its outputs are final, with their elements in the order of
    /// [`ModelProgram::outputs`].
    pub fn finals(&self) -> Vec<(Range<usize>, usize)> {
        let entries = self.outputs.layout.entries().iter();
        entries.map(|e| e.offset..e.offset + e.elements).zip(self.compiled.finals.iter().copied()).collect()
    }

    /// Does something with the instance and the arguments of a run.
    fn with_arguments(
        &mut self,
        params: &DeviceVector,
        buffers: &DeviceVector,
        sample: Sample<'_>,
        out: &mut dyn Buffer,
        run: impl FnOnce(&mut dyn Instance, &mut [Argument<'_>]) -> Result<(), Diagnostic>,
    ) -> Result<(), Diagnostic> {
        let (scale, key) = ([sample.scale], [sample.key]);
        let range = sample.rows.0..sample.rows.1;
        let mut arguments: Arguments<'_> = smallvec![params.read(), buffers.read()];
        let mut inputs = sample.batch.inputs.iter();
        for feed in &self.feeds {
            arguments.push(match feed {
                InputRole::Param | InputRole::Buffer => return Err(fault("weights are no feeds")),
                InputRole::Data => match inputs.next() {
                    Some(input) => Argument::Host(rows(input, range.clone())),
                    None => return Err(fault("a batch has what its model takes")),
                },
                InputRole::Target => match &sample.batch.target {
                    Some(target) => Argument::Host(rows(target, range.clone())),
                    None => {
                        return Err(Diagnostic::new("train.no-labels", "the data has no labels")
                            .expected("`label` in `[data]`, and a value of it for each sample"));
                    }
                },
                InputRole::Weight => Argument::host(&sample.batch.weight[range.clone()]),
                InputRole::Scale => Argument::host(&scale),
                InputRole::Key => Argument::host(&key),
            });
        }
        arguments.push(Argument::write(out));
        run(&mut *self.instance, &mut arguments)
    }
}

/// How a graph of a model is given what it works on.
pub(crate) struct Interface {
    /// The graph, with the outputs that are wanted.
    pub graph: Graph,
    feeds: Vec<InputRole>,
    /// Where its inputs and outputs lie.
    pub bindings: Bindings,
    /// What it gives.
    pub outputs: Outputs,
}

impl Interface {
    /// By the roles of a graph's inputs and outputs: weights where they lie in their vectors, each feed in a buffer of
    /// its own, the wanted outputs side by side.
    pub fn new(
        model: &BuiltModel,
        graph: &Graph,
        wanted: impl Fn(&OutputRole) -> bool,
        batch: usize,
    ) -> Result<Self, Diagnostics> {
        let mut graph = graph.bind(batch);
        graph.outputs.retain(|output| wanted(&output.role));
        only_f32(&graph)?;
        let (params, buffers) = layouts(model);
        let offsets = [&params, &buffers].map(Layout::offsets);
        let mut bindings = Bindings { bytes: vec![bytes(&params), bytes(&buffers)], ..Bindings::default() };
        let mut feeds = Vec::new();
        for (value, input) in graph.signature() {
            let held = |buffer: usize| {
                let offset = offsets[buffer].get(input.name.as_str());
                let offset = *offset.ok_or_else(|| fault("a model has what its graphs take"))?;
                Ok::<_, Diagnostic>(Place { buffer, offset: 4 * offset })
            };
            let place = match input.role {
                InputRole::Param => held(PARAMS)?,
                InputRole::Buffer => held(BUFFERS)?,
                feed => {
                    feeds.push(feed);
                    bindings.buffer(graph.ty(value).unit_bytes())
                }
            };
            bindings.inputs.push(place);
        }
        let outputs = Outputs::new(&graph);
        let Place { buffer, .. } = bindings.buffer(outputs.bytes());
        let place = |entry: &Entry| Place { buffer, offset: 4 * entry.offset };
        bindings.outputs = outputs.layout.entries().iter().map(place).collect();
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
            let w = b.input("w", InputRole::Param, TensorType::new(weight, [2usize]));
            let _index = b.input("index", InputRole::Data, TensorType::new(DType::I32, [2usize]));
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
