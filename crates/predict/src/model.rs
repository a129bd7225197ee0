//! A model that is ready to run, wherever it comes from, shared by as many threads as there are.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use outgrow_env::StorageBackend;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_onnx::{FolderData, OnnxModel};
use outgrow_passes::{FindAttention, Pass as _, narrow_products};
use outgrow_runtime::{Backend, CompileOptions, Products, StepInfo, Weights};
use outgrow_tensor::Tensor;

use crate::graph_body::{GraphBody, ROWS_MAX, in_parts};
use crate::interpretation::Interpretation;
use crate::onnx_graphs::OnnxGraphs;
use crate::programs::{Key, Program, Programs, Task};
use crate::reader::{entry, read_file};
use crate::{Package, Port};

/// What a model runs on.
#[derive(Clone, Debug)]
pub struct ModelOptions {
    /// What compiles and runs it.
    pub backend: Arc<dyn Backend>,
    /// Bytes of memory that a program may take with what it is given, where there is a limit. Larger ones are refused
    /// before any of it is asked for.
    pub memory: Option<u64>,
    /// Whether products take operands that are rounded to bf16, with sums and all else in f32.
    pub narrow: bool,
    /// How products of f32 may be computed.
    pub products: Products,
}

/// A model with its weights, which runs on arrays and, if it was trained here, answers for raw records. Programs are
/// compiled when they are first needed, and the last few kept; they share the weights, and what was packed of them.
#[derive(Debug)]
pub struct Model {
    name: String,
    path: Option<PathBuf>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    body: Body,
    interpretation: Option<Interpretation>,
    backend: Arc<dyn Backend>,
    options: CompileOptions,
    narrow: bool,
    programs: Programs,
}

/// What runs a program on inputs that it was compiled for.
type RunProgram<'a> = &'a dyn Fn(&Program, &[Tensor]) -> Result<Vec<Tensor>, Diagnostic>;

/// What is compiled.
#[derive(Debug)]
enum Body {
    /// A graph for any number of rows.
    Graph(Box<GraphBody>),
    /// A file, which becomes a graph once all shapes are known.
    Onnx(Box<OnnxGraphs>),
}

impl Model {
    /// Opens an ONNX file, the folder of a package, or the folder of a run with a package in it.
    ///
    /// # Errors
    /// When there is no model, or all that is wrong with it.
    pub fn open(
        storage: &Arc<dyn StorageBackend>,
        path: &Path,
        options: ModelOptions,
    ) -> Result<Self, Diagnostics> {
        if entry(&**storage, path)?.is_none_or(|entry| entry.is_folder) {
            let folder = Package::find(&**storage, path)?;
            let model = Self::of_package(Package::load(&**storage, &folder)?, options)?;
            return Ok(Self { path: Some(folder), ..model });
        }
        let bytes = read_file(storage, path)?;
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let model = OnnxModel::parse(bytes.into(), &FolderData::new(folder)).map_err(|mut found| {
            found.0.iter_mut().for_each(|d| d.place.file = Some(path.to_owned()));
            found
        })?;
        Ok(Self { path: Some(path.to_owned()), ..Self::of_onnx(model, options) })
    }

    /// A model that was trained here.
    ///
    /// # Errors
    /// When the parts of the package do not fit each other.
    pub fn of_package(package: Package, options: ModelOptions) -> Result<Self, Diagnostics> {
        let settings = package.settings()?;
        let (body, weights) = GraphBody::new(package.graph, package.weights, &package.transform.schema())?;
        Ok(Self {
            inputs: body.inputs(),
            outputs: body.outputs(),
            interpretation: Some(Interpretation::new(
                package.transform,
                package.decision,
                settings.has_header(),
            )),
            ..Self::with(settings.name, Body::Graph(Box::new(body)), weights, options)
        })
    }

    /// A model of another framework.
    pub fn of_onnx(model: OnnxModel, options: ModelOptions) -> Self {
        let name = model.name.clone();
        let (body, weights) = OnnxGraphs::new(model);
        Self {
            inputs: body.inputs(),
            outputs: body.outputs(),
            ..Self::with(name, Body::Onnx(Box::new(body)), weights, options)
        }
    }

    fn with(name: String, body: Body, weights: Weights, options: ModelOptions) -> Self {
        let ModelOptions { backend, memory, narrow, products } = options;
        let weights = Arc::new(weights);
        let options = CompileOptions { weights, memory, products, ..CompileOptions::default() };
        let (inputs, outputs) = (Vec::new(), Vec::new());
        let programs = Programs::default();
        Self {
            name,
            path: None,
            inputs,
            outputs,
            body,
            interpretation: None,
            backend,
            options,
            narrow,
            programs,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file, or the folder of the package, that it was opened from.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// What it takes, in order.
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// What it gives, in order.
    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// How raw records become its inputs, and what its output means.
    ///
    /// # Errors
    /// A diagnostic for a model that does not say, as those of other frameworks.
    pub fn interpretation(&self) -> Result<&Interpretation, Diagnostic> {
        self.interpretation.as_ref().ok_or_else(|| {
            Diagnostic::new("predict.records", "the model does not say how records become its inputs")
                .expected("a model that was trained here, in the folder of its run")
                .hint("give this one arrays, as `outgrow infer` does")
        })
    }

    /// Bytes of the weights, and of the copies of them that kernels have packed so far.
    pub fn weight_bytes(&self) -> (usize, usize) {
        self.options.weights.bytes()
    }

    /// Programs that are kept at the moment.
    pub fn program_count(&self) -> usize {
        self.programs.count()
    }

    /// Runs the model on an array for each of its inputs, in their order, and gives the outputs of these numbers.
    ///
    /// # Errors
    /// Everything that does not fit, with the input's name as the item; what memory does not suffice for.
    pub fn run(&self, inputs: &[Tensor], outputs: &[usize]) -> Result<Vec<Tensor>, Diagnostics> {
        self.run_by(inputs, outputs, &|program, inputs| program.run(&*self.backend, inputs))
    }

    /// Compiles what [`Model::run`] would run on these arrays, and packs its weights, so that the first run is as quick as any.
    ///
    /// # Errors
    /// As [`Model::run`].
    pub fn prepare(&self, inputs: &[Tensor], outputs: &[usize]) -> Result<(), Diagnostics> {
        self.run_by(inputs, outputs, &|program, _| Ok(program.blank())).map(drop)
    }

    /// Runs the model once as [`Model::run`], and gives the steps of its programs with the nanoseconds that each took.
    ///
    /// # Errors
    /// As [`Model::run`].
    pub fn profile(&self, inputs: &[Tensor], outputs: &[usize]) -> Result<Vec<(StepInfo, u64)>, Diagnostics> {
        let steps = RefCell::new(Vec::new());
        self.run_by(inputs, outputs, &|program, inputs| {
            program.run_profiled(&*self.backend, inputs, &mut steps.borrow_mut())
        })?;
        Ok(steps.into_inner())
    }

    /// Has every program that the arrays take part in run by `run`.
    fn run_by(
        &self,
        inputs: &[Tensor],
        outputs: &[usize],
        run: RunProgram<'_>,
    ) -> Result<Vec<Tensor>, Diagnostics> {
        if let Some(absent) = outputs.iter().find(|i| **i >= self.outputs.len()) {
            let problem = format!("there is no output number {absent}, counted from 0");
            let expected = format!("less than {}", self.outputs.len());
            return Err(Diagnostic::new("predict.output", problem).expected(expected).into());
        }
        self.check(inputs)?;
        match &self.body {
            Body::Graph(body) => {
                body.run(inputs, outputs, &|inputs, make| self.run_once(inputs, outputs, make, run))
            }
            Body::Onnx(body) => {
                let once =
                    |inputs: &[Tensor]| self.run_once(inputs, outputs, &|| body.task(inputs, outputs), run);
                match body.in_parts(&key(inputs, outputs), inputs)? {
                    Some((rows, most)) => {
                        in_parts(inputs, outputs.len(), rows, most, &|inputs, _| once(inputs))
                    }
                    None => once(inputs),
                }
            }
        }
    }

    /// Whether there is an array for each input, and what is known of each without the others fits.
    fn check(&self, inputs: &[Tensor]) -> Result<(), Diagnostics> {
        if inputs.len() != self.inputs.len() {
            let names: Vec<&str> = self.inputs.iter().map(|input| input.name.as_str()).collect();
            let problem = format!("there are {} arrays for {} inputs", inputs.len(), names.len());
            return Err(Diagnostic::new("predict.input", problem)
                .expected(format!("an array for each of: {}", names.join(", ")))
                .into());
        }
        let problems = self.inputs.iter().zip(inputs).filter_map(|(port, tensor)| port.check(tensor).err());
        Diagnostics(problems.collect()).into_result(())
    }

    /// Whether it answers for each row by itself, and rows of several callers may run together.
    pub fn answers_by_rows(&self) -> bool {
        match &self.body {
            Body::Graph(body) => body.by_rows(),
            Body::Onnx(body) => body.by_rows(),
        }
    }

    /// Whether [`Model::rows`] may take long for inputs of a shape that it has not been asked about.
    pub fn is_open(&self) -> bool {
        matches!(&self.body, Body::Onnx(body) if body.is_open())
    }

    /// How many rows these inputs have; none where the model does not answer by rows.
    pub(crate) fn rows_of(&self, inputs: &[Tensor]) -> Result<Option<usize>, Diagnostics> {
        self.check(inputs)?;
        match &self.body {
            Body::Graph(body) => body.rows(inputs),
            Body::Onnx(body) => Ok(body.rows(inputs)),
        }
    }

    /// Runs as [`Model::run`], by one of the few programs for rows where the model answers by rows.
    pub(crate) fn run_by_rows(
        &self,
        inputs: &[Tensor],
        outputs: &[usize],
    ) -> Result<Vec<Tensor>, Diagnostics> {
        match &self.body {
            Body::Graph(_) => self.run(inputs, outputs),
            Body::Onnx(_) => match self.rows_of(inputs)? {
                Some(rows) => {
                    in_parts(inputs, outputs.len(), rows, ROWS_MAX, &|part, _| self.run(part, outputs))
                }
                None => self.run(inputs, outputs),
            },
        }
    }

    /// Runs the program for inputs of these shapes, which `make` says how to compile.
    fn run_once(
        &self,
        inputs: &[Tensor],
        outputs: &[usize],
        make: &dyn Fn() -> Result<Task, Diagnostics>,
        run: RunProgram<'_>,
    ) -> Result<Vec<Tensor>, Diagnostics> {
        let key = key(inputs, outputs);
        let make = || {
            let mut task = make()?;
            if self.narrow {
                // Attention stays f32, also where it is written as products.
                task.graph = narrow_products(&FindAttention.run(&task.graph)?)?;
            }
            Program::new(&*self.backend, task, &self.options)
        };
        let program = self.programs.get(&key, inputs, make)?;
        Ok(run(&program, inputs)?)
    }
}

/// What a program for these inputs is known by.
fn key(inputs: &[Tensor], outputs: &[usize]) -> Key {
    let shapes = inputs.iter().map(|tensor| tensor.shape().dims().to_vec()).collect();
    Key { shapes, outputs: outputs.to_vec() }
}
