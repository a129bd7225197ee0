//! A model as it is served: its name, what it says of itself, and requests brought into the form in which it runs them.

use std::time::Duration;

use bytes::Bytes;
use outgrow_env::Clock;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_predict::{Extent, Model, ROWS_MAX};
use outgrow_tensor::{DType, Tensor};

use crate::protocol::{
    ConfigTensor, Data, InferRequest, Input, Kind, ModelConfig, ModelMetadata, Output, Rejected,
    TensorMetadata,
};
use crate::raw::{self, Form};

/// How often a run is timed, as somebody else may get the processor meanwhile, and how long one takes that is timed once.
const TIMED_RUNS: usize = 3;
const TIMED_ONCE: Duration = Duration::from_millis(5);

/// What runs models.
const PLATFORM: &str = "outgrow";

/// A version of a model under the name by which clients ask for it.
#[derive(Debug)]
pub struct Served {
    name: String,
    version: u64,
    model: Model,
    inputs: Vec<TensorMetadata>,
    outputs: Vec<TensorMetadata>,
    all: Vec<usize>,
}

/// A request that fits its model.
#[derive(Debug)]
pub struct Prepared {
    /// The arrays, in the model's order.
    pub inputs: Vec<Tensor>,
    /// The outputs that are asked for, by their numbers, and whether as binary data.
    pub outputs: Vec<(usize, bool)>,
    /// Rows of the inputs.
    pub rows: usize,
    /// With which others it may run.
    pub group: Option<u64>,
}

impl Served {
    /// Serves a version of a model under a name.
    ///
    /// # Errors
    /// When it does not say what its inputs and outputs are.
    pub fn new(name: impl Into<String>, version: u64, model: Model) -> Result<Self, Diagnostic> {
        let name = name.into();
        let unsaid = |what: &str| {
            let problem = format!("the model `{name}` does not say the type and shape of its {what}");
            Diagnostic::new("serve.model", problem).hint("serve a model that was trained here")
        };
        let known = |ports: &[_]| ports.iter().map(TensorMetadata::of).collect::<Option<Vec<_>>>();
        let inputs = known(model.inputs()).ok_or_else(|| unsaid("inputs"))?;
        let outputs = known(model.outputs()).ok_or_else(|| unsaid("outputs"))?;
        let all = (0..model.outputs().len()).collect();
        Ok(Self { name, version, model, inputs, outputs, all })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which version of the model it is.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The name by which clients ask for a form of it.
    pub fn label(&self, form: Form) -> String {
        match form {
            Form::Typed => self.name.clone(),
            Form::Raw => format!("{}{}", self.name, raw::SUFFIX),
        }
    }

    fn inputs(&self, form: Form) -> Vec<TensorMetadata> {
        match form {
            Form::Typed => self.inputs.clone(),
            Form::Raw => vec![raw::input()],
        }
    }

    /// What a form of it says of itself, beside these versions.
    pub fn metadata(&self, form: Form, versions: Vec<String>) -> ModelMetadata {
        ModelMetadata {
            name: self.label(form),
            versions,
            platform: PLATFORM,
            inputs: self.inputs(form),
            outputs: self.outputs.clone(),
        }
    }

    /// How a form of it is served, on so many threads.
    pub fn config(&self, form: Form, threads: usize) -> ModelConfig {
        let by_rows = self.model.answers_by_rows();
        let tensor = |tensor: &TensorMetadata| ConfigTensor::of(tensor, by_rows);
        ModelConfig::new(
            self.label(form),
            PLATFORM,
            by_rows.then_some(ROWS_MAX),
            self.inputs(form).iter().map(tensor).collect(),
            self.outputs.iter().map(tensor).collect(),
            threads,
        )
    }

    /// The one tensor of a body that is nothing else: the input's shape says all, but for one extent that follows from
    /// how many bytes there are.
    fn whole(&self, body: &Bytes) -> Result<Input, Diagnostic> {
        let [input] = self.inputs.as_slice() else {
            let problem = format!("the model `{}` has {} inputs", self.name, self.inputs.len());
            return Err(Diagnostic::new("serve.header", problem)
                .item("Inference-Header-Content-Length")
                .hint("send the tensors behind a JSON part that names them, and its length in this header"));
        };
        let open: Vec<usize> = (0..input.shape.len()).filter(|i| input.shape[*i] < 0).collect();
        let fixed = input.shape.iter().filter_map(|n| usize::try_from(*n).ok()).product::<usize>();
        let dtype = self.model.inputs()[0].dtype;
        let unit = dtype.map_or(1, DType::bytes) * fixed;
        let mut shape: Vec<usize> = input.shape.iter().map(|n| usize::try_from(*n).unwrap_or(1)).collect();
        let fits = match open.as_slice() {
            [] => body.len() == unit,
            [at] if unit > 0 && body.len().is_multiple_of(unit) => {
                shape[*at] = body.len() / unit;
                true
            }
            _ => false,
        };
        let tensor =
            dtype.filter(|_| fits).and_then(|dtype| Tensor::from_shared(dtype, shape, body.clone()).ok());
        let tensor = tensor.ok_or_else(|| {
            let problem = format!("the body's {} bytes are no tensor for `{}`", body.len(), input.name);
            let expected =
                format!("a multiple of {unit}, for {} of the shape {:?}", input.datatype, input.shape);
            Diagnostic::new("serve.body", problem).item("body").expected(expected)
        })?;
        Ok(Input { name: input.name.clone(), data: Data::Tensor(tensor) })
    }

    /// Brings a request to a form of it into the model's order.
    ///
    /// # Errors
    /// When something is missing, unknown or does not fit, by its field.
    pub fn prepare(&self, form: Form, request: &InferRequest) -> Result<Prepared, Rejected> {
        let mut problems = Diagnostics::default();
        let outputs = self.wanted(request, &mut problems);
        let inputs = match form {
            Form::Typed => self.typed(request, &mut problems)?,
            Form::Raw if problems.0.is_empty() => raw::arrays(&self.model, request)?,
            Form::Raw => Vec::new(),
        };
        problems.into_result(()).map_err(|problems| Rejected::new(Kind::Invalid, problems))?;
        let rows = self.model.rows(&inputs).map_err(|problems| Rejected::new(Kind::Invalid, problems))?;
        let (count, group) = rows.map_or((1, None), |rows| (rows.rows, Some(rows.group)));
        Ok(Prepared { inputs, outputs, rows: count, group })
    }

    /// The tensors in the model's order.
    fn typed(&self, request: &InferRequest, problems: &mut Diagnostics) -> Result<Vec<Tensor>, Rejected> {
        let ports = self.model.inputs();
        let names = || ports.iter().map(|port| port.name.as_str()).collect::<Vec<_>>().join(", ");
        let whole = request.whole.as_ref().map(|body| self.whole(body)).transpose()?;
        let given = whole.as_ref().map_or(request.inputs.as_slice(), std::slice::from_ref);
        for (i, input) in given.iter().enumerate() {
            if ports.iter().all(|port| port.name != input.name) {
                let problem = format!("the model `{}` has no input `{}`", self.name, input.name);
                let problem = Diagnostic::new("serve.input", problem).item(format!("inputs[{i}].name"));
                problems.push(problem.expected(names()));
            }
        }
        let mut inputs = Vec::with_capacity(ports.len());
        for port in ports {
            let Some(i) = given.iter().position(|input| input.name == port.name) else {
                let problem = format!("the input `{}` is missing", port.name);
                problems.push(Diagnostic::new("serve.input", problem).item("inputs").expected(names()));
                continue;
            };
            match &given[i].data {
                Data::Tensor(tensor) => {
                    problems.0.extend(port.check(tensor).err().map(|p| p.item(format!("inputs[{i}]"))));
                    inputs.push(tensor.clone());
                }
                Data::Bytes(shape, _) => {
                    let problem = format!("the array for `{}` is BYTES{shape:?}", port.name);
                    let problem =
                        Diagnostic::new("serve.input", problem).item(format!("inputs[{i}].datatype"));
                    let problem = problem.expected(port.to_string());
                    problems.push(match raw::takes(&self.model) {
                        true => problem.hint(format!("send raw records to `{}`", self.label(Form::Raw))),
                        false => problem,
                    });
                }
            }
        }
        Ok(inputs)
    }

    fn wanted(&self, request: &InferRequest, problems: &mut Diagnostics) -> Vec<(usize, bool)> {
        let ports = self.model.outputs();
        if request.outputs.is_empty() {
            return self.all.iter().map(|i| (*i, request.binary)).collect();
        }
        let mut outputs = Vec::with_capacity(request.outputs.len());
        for (i, wanted) in request.outputs.iter().enumerate() {
            match ports.iter().position(|port| port.name == wanted.name) {
                Some(number) => outputs.push((number, wanted.binary.unwrap_or(request.binary))),
                None => {
                    let names = ports.iter().map(|port| port.name.as_str()).collect::<Vec<_>>().join(", ");
                    let problem = format!("the model `{}` has no output `{}`", self.name, wanted.name);
                    let problem = Diagnostic::new("serve.output", problem).item(format!("outputs[{i}].name"));
                    problems.push(problem.expected(names));
                }
            }
        }
        outputs
    }

    /// Runs requests of one group at once, for all outputs.
    ///
    /// # Errors
    /// When the run fails, whoever of them is to blame.
    pub fn run(&self, requests: &[&[Tensor]]) -> Result<Vec<Vec<Tensor>>, Diagnostics> {
        self.model.run_together(requests, &self.all)
    }

    /// The outputs that a request asked for, of all that its run gave.
    pub fn chosen(&self, wanted: &[(usize, bool)], tensors: &[Tensor]) -> Vec<Output> {
        let output = |(i, binary): &(usize, bool)| Output {
            name: self.model.outputs()[*i].name.clone(),
            tensor: tensors[*i].clone(),
            binary: *binary,
        };
        wanted.iter().map(output).collect()
    }

    /// Compiles the program for so many rows and runs it, so that no client waits for that, and says how long a run
    /// takes. Models of which more than the rows vary are compiled when they are asked.
    ///
    /// # Errors
    /// When the model does not run.
    pub fn warm_up(&self, rows: usize, clock: &dyn Clock) -> Result<Option<Duration>, Diagnostics> {
        let Some(inputs) = self.zeros(rows) else { return Ok(None) };
        self.run(&[&inputs])?;
        let mut best = Duration::MAX;
        for _ in 0..TIMED_RUNS {
            let start_ns = clock.now_ns();
            self.run(&[&inputs])?;
            best = best.min(Duration::from_nanos(clock.now_ns() - start_ns));
            if best > TIMED_ONCE {
                break;
            }
        }
        Ok(Some(best))
    }

    /// Zeros for so many rows, where nothing but the rows varies.
    fn zeros(&self, rows: usize) -> Option<Vec<Tensor>> {
        let zeros = |port: &outgrow_predict::Port| {
            let extent = |(i, extent): (usize, &Extent)| match extent {
                Extent::Fixed(n) => Some(*n),
                Extent::Named(name) if name == "B" => Some(rows),
                Extent::Named(_) | Extent::Any => (i == 0).then_some(rows),
            };
            let dims: Option<Vec<usize>> = port.dims.as_ref()?.iter().enumerate().map(extent).collect();
            Some(Tensor::zeros(port.dtype?, dims?))
        };
        self.model.inputs().iter().map(zeros).collect()
    }
}
